/* added — the added tokens of tokenizer.json: strings that are found in the text before the model sees it.
 *
 * Those with normalized = false are looked for in the text as given, the others, in their normalized form, in what the
 * normalizer made of it. Matches are leftmost, then longest, and do not overlap. */
#ifndef GRAFT_TEXT_ADDED_H
#define GRAFT_TEXT_ADDED_H
#include "text/normalize.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

typedef struct added added; /* read-only once loaded */

/* Ids: a content that the vocabulary has keeps its id; the others are numbered from the count of the vocabulary on, in
 * the order of the file. What the file says in "id" does not count, as in the reference. */
int added_load(json_t *list, const vocab *words, const normalizer *n, added **out, graft_error *err);
void added_free(added *a);
int64_t added_count(const added *a);
const tokenizer_added *added_at(const added *a, int64_t index);
const tokenizer_added *added_find(const added *a, const char *content, int64_t length); /* NULL: none */
const tokenizer_added *added_of_id(const added *a, int32_t id);                         /* NULL: none */

/* What decoding shows of an id, NULL when it is no added token: the content, or its normalized form for a token that is
 * looked for in normalized text. */
const char *added_shown(const added *a, int32_t id, int64_t *length);
int64_t added_ids(const added *a); /* one more than the largest id, 0 without any */

/* A part of a text: an added token with the white space it swallowed, or (token NULL) what lies between. */
typedef struct {
    int64_t begin, end;
    const tokenizer_added *token;
} added_part;
typedef struct {
    added_part *items;
    int64_t count, capacity;
} added_parts;

/* Replaces `out` by the parts of the text. `normalized`: which of the two kinds is looked for. A part may begin before the
 * end of the one before it: a token inside white space that an earlier one swallowed is given all the same. */
int added_split(const added *a, int normalized, const char *text, int64_t length, pattern_scratch *s, added_parts *out,
                graft_error *err);

#endif
