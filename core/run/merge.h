/* merge — adapters into the weights of the base: a complete model folder that needs no adapter.
 *
 *   W' = forward(identity rows) - forward(zero row)        b' = forward(zero row)
 *
 * through the adapters' own forward in f32, so no technique says how it is merged; it must say that it is affine in x
 * (GRAFT_LINEAR_IN_X), which random rows check. Source: CONTRACT section 3. */
#ifndef GRAFT_RUN_MERGE_H
#define GRAFT_RUN_MERGE_H
#include "run/session.h"

typedef struct {
    int64_t tensors;   /* that adapters changed                                                              */
    double rounding;   /* largest |stored - W'| / |W'| (L2) of one of them: what the type of the file costs  */
    const char *worst; /* its name, "" when there is none; owned by the session's model                      */
    int64_t untied;    /* heads that no longer share the embedding's numbers                                 */
} merge_report;

/* Writes the folder; the session must be loaded with f32 activations. type: DTYPE_COUNT = each tensor as the base stores it.
 * Errors name module and technique: sub-block and virtual-row techniques, one that is not affine, one that needs a bias
 * where the family has none, results that are not finite, the base's own folder. */
int merge_write(session *s, const char *folder, dtype type, merge_report *out, graft_error *err);

#endif
