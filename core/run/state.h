/* state — what a checkpoint folder holds: state.safetensors (all trained tensors, buffers, optimizer state, bit for bit) and
 * trainer.json (where the run stands, and the settings it ran with). */
#ifndef GRAFT_RUN_STATE_H
#define GRAFT_RUN_STATE_H
#include "base/json.h"
#include "kernels/kernels.h"
#include "model/adapt.h"
#include "run/optimizer.h"

/* Where a run stands behind `step`. */
typedef struct {
    int64_t step, updates;                    /* optimizer steps done; those that updated (the others were skipped) */
    int64_t skipped;                          /* skipped in a row at the end                                        */
    int64_t steps, warmup;                    /* of the whole run                                                   */
    int64_t best_step;                        /* 0: none                                                            */
    double loss;                              /* of the last step                                                   */
    double best_loss, eval_before, eval_last; /* NaN: not evaluated                              */
    int64_t tokens;                           /* targets of all steps                                               */
    json_t *settings;                         /* see settings.h; owned                                              */
} run_state;
void run_state_free(run_state *s);

/* What state.safetensors is made of; borrowed. `adapter_names` (by spec) tell equal names of several adapters apart. */
typedef struct {
    kernels *device;
    const adapt *adapters;
    const optimizer *optimizer;
    const adapt_spec *specs;
    int32_t spec_count;
} run_tensors;

int state_write(const char *folder, const run_tensors *t, const run_state *s, graft_error *err);
/* `sealed`: checksums were compared. Numbers that no run could have written together are an error. Released with run_state_free. */
int state_read_json(const char *folder, int sealed, run_state *out, graft_error *err);
/* Reads every tensor over the device's; a tensor that is missing, too many, or of another shape or type is an error. */
int state_read_tensors(const char *folder, const run_tensors *t, graft_error *err);

#endif
