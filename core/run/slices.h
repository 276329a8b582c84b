/* slices — the sequences of an optimizer step as the rows that a model computes, cut into slices of whole sequences.
 *
 * Padding is removed, but counts for positions: without positions of its own a token of a padded row stands where it stood.
 * The target of a row is the label of the next token of the same sequence and document, so the first token of a document is
 * never one (rows that an adapter puts in front of it may predict it: `first`). A document's token is drawn for dropout by its number in the step and its place in the document: neither
 * micro-batches nor slices nor packing change that (CONTRACT section 3). Threads: objects are not shared. */
#ifndef GRAFT_RUN_SLICES_H
#define GRAFT_RUN_SLICES_H
#include "model/model.h"
#include "run/data.h"

typedef struct {
    int64_t vocab;
    int64_t rows;      /* most rows of one slice                                          */
    int64_t documents; /* most documents of one slice, 0: as many as there are rows       */
    int32_t first;     /* 1: the first token of a document is a target too, of the virtual rows in front of it */
    const char *what;  /* "step 3", for messages; NULL: nothing                           */
} slice_limits;

typedef struct {
    model_rows *at;      /* slice by slice; arrays are owned by the list */
    int64_t *targets_of; /* (count) targets of each slice */
    int64_t count;
    int64_t rows, documents, targets; /* of all slices */
    int64_t *origin;                  /* (rows) which token of which sequence a row is: sequence << 32 | token */
    int32_t *ids, *positions, *target_ids, *first;
    int64_t *keys, *starts;
} slice_list;

/* *out is {0} or released before; freed by the caller in any case. Errors (GRAFT_FAILED) name sequence and token: an id or
 * label outside the vocabulary, positions that do not increase in a document, a sequence larger than a slice. Sequences
 * without a token are passed over. */
int slices_cut(const sequence_list *from, const slice_limits *limits, slice_list *out, graft_error *err);
void slices_free(slice_list *s); /* and leaves {0} */

/* Rows of one slice when nobody says: enough for efficient products, at least one sequence of `longest` tokens, at most what
 * a step has. A function of settings and data layout alone. */
int64_t slices_automatic(int64_t longest, int64_t step_tokens);

#endif
