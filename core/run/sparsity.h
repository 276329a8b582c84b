/* sparsity — what masks hold at zero: counted, shown, and written beside a pruned model as FOLDER/sparsity.json, by which
 * `graft merge` knows that its zeros are to stay.
 *
 *   {"sparsity": 0.5, "layers": {"0": 0.5, "1": 0.5}, "tensors": {"model.layers.0.self_attn.q_proj.weight": 0.5}} */
#ifndef GRAFT_RUN_SPARSITY_H
#define GRAFT_RUN_SPARSITY_H
#include "run/session.h"
#include <stdio.h>

double sparsity_of(const session *s);            /* of all weights that masks hold; NaN without masks */
void sparsity_print(const session *s, FILE *to); /* one line for every block, nothing without masks   */
int sparsity_write(const session *s, const char *folder, graft_error *err); /* nothing without masks      */
int sparsity_copy(const char *from, const char *folder, graft_error *err);  /* where there is one */
/* Whether FOLDER/sparsity.json names `tensor` (NULL: is there). A missing file names none; a damaged one is an error. */
int sparsity_read(const char *folder, const char *tensor, int32_t *named, graft_error *err);

#endif
