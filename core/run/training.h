/* training — one run of `graft train`: opened and planned on headers, then loaded, stepped, validated, saved.
 *
 *   training_open    headers, formulas on shapes, data, plan: nothing of a weight is read, nothing is written
 *   training_run     weights, steps (CONTRACT section 4), checkpoints, the adapter, and the proof that it can be read back
 *   training_close
 *
 * A run of N steps equals k steps, a stop and a resumed rest, byte for byte, in metrics.jsonl and in what is written at the
 * end. Threads: one run at a time. */
#ifndef GRAFT_RUN_TRAINING_H
#define GRAFT_RUN_TRAINING_H
#include "run/plan.h"
#include "run/recipe.h"

typedef struct {
    int32_t resume, overwrite;
    int32_t quiet;      /* 1: no progress                                                        */
    int32_t plan_only;  /* 1: the output folder is not looked at                                 */
    int64_t stop_after; /* ends behind this step as Ctrl-C would; 0: never                       */
    const char *device; /* as session_request; NULL: the recipe's                                */
    void (*stepped)(void *context, int64_t step, int64_t tokens); /* after each step, tokens computed; NULL allowed */
    void *context;
} training_options;

typedef struct {
    int64_t steps, done;            /* of the whole run                                                      */
    int64_t tokens;                 /* targets of all steps                                                  */
    double loss;                    /* of the last step, NaN when there was none                             */
    double eval_before, eval_after; /* validation loss; NaN without a validation set                 */
    int64_t best_step;              /* with the lowest validation loss among the checkpoints; 0: none        */
    double best_loss;
    double sparsity;         /* zeros among the weights that masks hold; NaN without masks                 */
    double seconds;          /* of the steps of this process                                          */
    int64_t tokens_computed; /* by this process                                                       */
    int64_t damaged;         /* records that [data] on_error = skip left out                          */
    int64_t peak_memory;     /* bytes                                                                 */
    int32_t interrupted;     /* 1: ended early, a checkpoint holds the state                          */
    int32_t stopped_early;   /* 1: the validation loss fell no longer ([train] patience)              */
    int32_t signal;          /* that asked for it; 0: none                                            */
} training_result;

typedef struct training training;

/* *out is released with training_close, after an error too. */
int training_open(const recipe *r, registry *plugins, const training_options *o, training **out, graft_error *err);
const plan *training_plan(const training *t);
void training_describe(const training *t, FILE *to); /* what was bound, and what was left out and why */
int training_run(training *t, training_result *out, graft_error *err);
void training_sparsity(const training *t, FILE *to);    /* behind the run: zeros of each block; nothing without masks */
json_t *training_result_json(const training_result *r); /* without what depends on the clock; owned by the caller */
void training_close(training *t);

#endif
