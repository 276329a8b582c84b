/* combine — one LoRA made of several, or out of a fine-tuned model: a PEFT folder of scale 1 (alpha = rank).
 *
 *   linear    A = Σ √(w·s)·A_i          B = Σ √(w·s)·B_i            all of one rank; products of unlike pairs come along
 *   ties      the same of what is left of A_i and B_i: the `density` largest entries, only where they have the sign of their
 *             sum, averaged over those     Yadav et al., 2023, arXiv:2306.01708
 *   dare      the same of A_i and B_i whose entries are kept with probability `density`, divided by it
 *             Yu et al., 2023, arXiv:2311.03099
 *   svd       the `rank` largest directions of Σ w·s·B_i·A_i
 *
 * as PEFT's add_weighted_adapter has them (linear, ties, dare_linear, svd; tuners/lora/model.py, utils/merge_utils.py). What it
 * takes the same from a model that was fine-tuned whole: the largest directions of W_tuned - W_base, matrix by matrix. */
#ifndef GRAFT_RUN_COMBINE_H
#define GRAFT_RUN_COMBINE_H
#include "run/session.h"

typedef enum { COMBINE_LINEAR, COMBINE_TIES, COMBINE_DARE, COMBINE_SVD } combine_rule;

typedef struct {
    combine_rule rule;
    const double *weights; /* one for each adapter of the session                    */
    double density;        /* ties, dare: share of entries that is kept, above 0     */
    int64_t rank;          /* svd: of the result; 0 = the largest of the adapters    */
    uint64_t seed;         /* dare                                                   */
} combine_how;

typedef struct {
    int64_t sites, rank;
    double kept;     /* share of the squared change that the rank holds; 1 where nothing is cut off    */
    int64_t ignored; /* extract: tensors that changed and are no linear layers of the decoder          */
} combine_report;

/* The session is loaded, with the adapters' folders. Errors: an adapter that is no plain low-rank update, trains base tensors
 * beside, or belongs to a base of its own; ranks that differ (but for svd); negative weights (but for svd). */
int combine_write(session *s, registry *plugins, const combine_how *how, const char *folder, combine_report *out,
                  graft_error *err);

/* Both are loaded, without adapters. Errors: models whose linear layers differ in name or shape, or not at all. */
int combine_extract(session *base, session *tuned, registry *plugins, int64_t rank, const char *folder,
                    combine_report *out, graft_error *err);

#endif
