/* collect — every record of a file encoded once: how long the pieces to train on are, and what was left out and why.
 *
 * The tokens are not kept: 16 bytes a piece are. Who wants one encodes its record again. */
#ifndef GRAFT_TEXT_COLLECT_H
#define GRAFT_TEXT_COLLECT_H
#include "text/samples.h"

enum { SAMPLE_FILES = 1 << 16 };
typedef struct {
    uint64_t record : 47, file : 17; /* file: which of several, below SAMPLE_FILES */
    int32_t piece, tokens;
} sample_place;

/* {0} is empty and valid. */
typedef struct {
    sample_place *at; /* in the order of the file */
    int64_t count, capacity;
    int64_t tokens, targets;
} sample_list;
void sample_list_free(sample_list *l); /* and leaves {0} */

enum { SAMPLE_LENGTHS = 24 };
typedef struct {
    int64_t records;
    int64_t empty, too_long, untrained,
        cut_off;                     /* left out: no text; dropped; no target; no target within max_length */
    int64_t shortened, tokens, lost; /* records cut; tokens of all records; those that were cut away      */
    int64_t straddling;              /* records with a token across the end of their prompt               */
    int64_t bad;                     /* left out as on_error = skip says: damaged records                 */
    /* of the records that are used: */
    int64_t used, chats, fell_back, doubled_bos; /* see text_sample                                              */
    int64_t duplicates;  /* the same tokens and labels as a record before                          */
    int64_t ended;       /* records that learn an end token                                        */
    int64_t ended_chats; /* conversations among those,                                             */
    int64_t ended_pairs; /* and pairs of prompt and completion                                     */
    int64_t cut_chats;   /* conversations whose only end tokens are cut away,                      */
    int64_t cut_pairs;   /* and such pairs                                                         */
    int64_t pairs;       /* such pairs                                                             */
    int64_t unknown;     /* tokens for what the vocabulary lacks                                   */
    int64_t longest, lengths[SAMPLE_LENGTHS]; /* tokens of records: up to 16, 32, 64 ...: before they are cut */
    char first_bad[400]; /* the message about the first bad record, "" without one                 */
} sample_counts;

/* Numbers that tell samples apart. {0} is empty and valid. */
typedef struct {
    uint64_t *at;
    int64_t count, capacity;
} sample_hashes;
int64_t sample_hashes_equal(sample_hashes *h); /* how many are equal to one before; sorts them */
void sample_hashes_free(sample_hashes *h);     /* and leaves {0} */

/* Adds the pieces of record i to lists[which[i]] (to lists[0] when `which` is NULL) as those of file number `file`, and the
 * hashes of the records used to `hashes`, for `duplicates`, which stays 0. The error names file and line; with
 * rules->skip_bad such records are counted instead. */
int collect_samples(source *from, int32_t file, sample_encoder *encoder, const sample_rules *rules,
                    const uint8_t *which, sample_list *lists, sample_counts *counts, sample_hashes *hashes,
                    graft_error *err);
void sample_counts_add(sample_counts *all, const sample_counts *one);

/* Adds one line for people about what is not trained on as it stands in the file; nothing when there is none. */
void sample_counts_report(const sample_counts *c, const char *path, int64_t max_length, strbuf *out);

#endif
