/* data — where the token sequences of a run come from: the one interface behind fixed tensors and texts.
 *
 * A source is a pure function of the step: fetch(17) gives the same sequences whatever was fetched before, so a resumed
 * run needs no state of it. Sequences are whole documents, packed rows of several documents, or padded rows of a batch;
 * run/slices.h turns them into the rows that a model computes. Threads: one caller at a time. */
#ifndef GRAFT_RUN_DATA_H
#define GRAFT_RUN_DATA_H
#include "base/error.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <stdint.h>

enum { LABEL_NONE = -100 }; /* no target: as in the Hugging Face world */

/* One row of a batch. All arrays have `tokens` elements. */
typedef struct {
    int64_t tokens;
    const int32_t *ids;
    const int32_t *labels;    /* not shifted: the label of a token is what the token before it should predict         */
    const int32_t *positions; /* increasing in a document; NULL: 0, 1, 2 ... from its first token, padding included   */
    const int32_t *documents; /* where the number changes a new document begins; NULL: one document, or, with
                                 `positions`, one begins wherever they do not increase, or without `mask` not by one  */
    const uint8_t *mask;      /* 0: padding, which is not computed; NULL: none                                        */
} sequence;

/* The sequences of one optimizer step, or a part of the validation set. {0} is empty and valid. */
typedef struct {
    sequence *at;
    int64_t count, capacity;
    arena memory; /* of the arrays */
} sequence_list;

/* Adds an empty sequence, whose arrays the caller allocates from list->memory. Valid until the next add. */
sequence *sequence_list_add(sequence_list *list);
void sequence_list_free(sequence_list *list); /* and leaves {0} */

typedef struct data_source data_source;
struct data_source {
    int64_t
        steps_per_epoch; /* optimizer steps of one pass over the training set, at least 1                          */
    int64_t steps_limit; /* steps beyond this do not exist (fixed batches); 0: passes follow each other            */
    int64_t longest;     /* bound of the tokens of one sequence, training and validation                           */
    int64_t longest_document; /* bound of the tokens of one document; 0: not known before it is read */
    int64_t documents;        /* bound of the documents of one sequence; 0: not known                 */
    int64_t step_tokens; /* bound of the tokens of one step                                                        */
    int64_t damaged;     /* records of both sets that are left out because they are damaged                       */
    char date[16];       /* the day that the texts name, as in 2024-07-26; "": they depend on none                 */
    int64_t eval_count;  /* sequences of the validation set, 0: there is none                                      */
    /* The sequences of step 0, 1 ... of the run, all micro-batches together. `out` is {0}; freed by the caller in any case. */
    int (*fetch)(data_source *s, int64_t step, sequence_list *out, graft_error *err);
    /* Sequences first .. first + count - 1 of the validation set. */
    int (*fetch_eval)(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err);
    /* A digest of all that decides what fetch gives: a run may be resumed only over the same data. */
    int (*digest)(data_source *s, char hex[65], graft_error *err);
    void (*close)(data_source *s);
};

/* `loader = tensors`: fixed batches from a safetensors file, in the order of the file, one optimizer step each.
 *   input_ids [steps, B, T] or [steps, micro, B, T]; labels, attention_mask, position_ids, document_ids (each may be
 *   missing, labels default to the ids) of the same shape, or [1, T] for all rows; eval_input_ids ... [B, T].
 *   Any integer type. The error names file and tensor. *out is released with its close. */
int data_tensors_open(const char *path, data_source **out, graft_error *err);

/* Reads one batch of the same layout, [B, T] or [T], from tensors PREFIXinput_ids ...: the input of `graft probe`. `rows` and
 * `width` get B and T. */
int data_tensors_read(const safetensors *st, const char *prefix, sequence_list *out, int64_t *rows, int64_t *width,
                      graft_error *err);

#endif
