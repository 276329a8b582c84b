/* merge — adapters into the weights of the base: a complete model folder that needs no adapter.
 *
 *   W' = forward(identity rows) - forward(zero row)        b' = forward(zero row)
 *
 * through the adapters' own forward in f32, so no technique says how it is merged; it must say that it is affine in x
 * (GRAFT_LINEAR_IN_X), which random rows check. Source: CONTRACT section 3. */
#ifndef GRAFT_RUN_MERGE_H
#define GRAFT_RUN_MERGE_H
#include "run/session.h"

/* What becomes of a base whose weights are packed in few bits. */
typedef enum {
    MERGE_FLOAT,  /* every weight is written as numbers: W' is exact but for their type               */
    MERGE_PACKED, /* W' is packed again as W was, which changes other weights of a block too          */
    MERGE_KEEP    /* the base stays as it is, copies of the adapters lie beside it in FOLDER/adapter  */
} merge_base;

/* What is 0 in the base and stays 0, which is not quite what the adapter computed. */
typedef enum {
    MERGE_PRUNED_ZEROS, /* where the base was pruned, as its sparsity.json says (run/sparsity.h) */
    MERGE_ALL_ZEROS,    /* all                                                                   */
    MERGE_NO_ZEROS      /* none: W' is exact                                                     */
} merge_zeros;

typedef struct {
    dtype type; /* of numbers; DTYPE_COUNT: each tensor as the base stores it */
    merge_base base;
    merge_zeros zeros;
    double max_error; /* a layer that loses more is an error, before anything is written; 0: no limit */
} merge_how;

/* What writing cost a merged tensor: error = |stored - W'| / |W'| and, what of the training it costs, lost =
 * |stored - W'| / |W' - W| (L2); lost is 0 for biases. Packing again easily loses all of a small change. */
typedef struct {
    const char *name; /* owned by the session's model */
    double error, lost;
} merge_layer;

typedef struct {
    merge_layer *layers; /* of the tensors that adapters changed; owned by the report */
    int32_t count, capacity;
    double error;      /* the largest                                              */
    double lost;       /* the largest of those                                     */
    const char *worst; /* its name, "" when there is none                          */
    int64_t untied;    /* heads that no longer share the embedding's numbers       */
    int64_t kept;      /* tensors whose zeros were kept                            */
} merge_report;

/* Writes the folder; the session must be loaded with f32 activations. MERGE_PACKED leaves the session's model merged.
 * Errors name module and technique: sub-block and virtual-row techniques, one that is not affine, one that needs a bias
 * where the family has none, results that are not finite, the base's own folder; a base that is not packed but should be. */
int merge_write(session *s, const char *folder, const merge_how *how, merge_report *out, graft_error *err);
void merge_report_free(merge_report *r);

#endif
