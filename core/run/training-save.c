/* training-save — checkpoints of a run, and going on from one. */
#include "base/log.h"
#include "run/checkpoint.h"
#include "run/output.h"
#include "run/settings.h"
#include "run/training-private.h"
#include <stdlib.h>
#include <string.h>

static run_tensors tensors_of(const training *t) {
    return (run_tensors){.device = t->session.device,
                         .adapters = t->session.adapters,
                         .optimizer = t->optimizer,
                         .specs = t->session.specs,
                         .spec_count = t->session.spec_count};
}

/* Once a run, and only where they are wanted: the data are read to the end for them. */
static int need_settings(training *t, graft_error *err) {
    if (t->state.settings) return GRAFT_OK;
    return settings_make(t->recipe, &t->session, t->data, t->plan.slice_rows, &t->state.settings, err);
}

int training_save(training *t, graft_error *err) {
    const char *const output = t->recipe->output.path;
    const run_tensors tensors = tensors_of(t);
    char *folder = NULL;
    if (t->saved_at == t->state.step) return GRAFT_OK;
    t->state.updates = optimizer_updates(t->optimizer);
    if (need_settings(t, err) == GRAFT_OK && metrics_sync(t->metrics, err) == GRAFT_OK &&
        checkpoint_begin(output, t->state.step, &folder, err) == GRAFT_OK &&
        state_write(folder, &tensors, &t->state, err) == GRAFT_OK &&
        output_write_adapters(&t->session, folder, t->base_model, err) == GRAFT_OK &&
        checkpoint_publish(output, t->state.step, folder, err) == GRAFT_OK &&
        (t->state.best_step != t->state.step || checkpoint_set_best(output, t->state.step, err) == GRAFT_OK) &&
        checkpoint_prune(output, t->recipe->train.keep, t->state.best_step, err) == GRAFT_OK)
        t->saved_at = t->state.step;
    if (err->code && folder) checkpoint_abandon(folder);
    free(folder);
    if (!err->code) return GRAFT_OK;
    return fail_within(err, "checkpoint of step %lld (--resume will go on from step %lld)", (long long)t->state.step,
                       (long long)t->saved_at);
}

/* The length of a run may change where it changes nothing that was done. */
static int check_length(const training *t, const run_state *was, graft_error *err) {
    if (was->steps == t->plan.steps && was->warmup == t->plan.warmup) return GRAFT_OK;
    schedule old = t->schedule;
    old.steps = was->steps;
    old.warmup = was->warmup;
    for (int64_t s = 0; s < was->step; s++)
        if (schedule_lr(&old, s) != schedule_lr(&t->schedule, s))
            return fail(
                err, GRAFT_USAGE,
                "%s was written by a run of %lld steps (warm-up %lld), this one has %lld (warm-up %lld): "
                "with them the learning rate of step %lld would have been another; keep them, or begin anew with "
                "--overwrite",
                t->checkpoint, (long long)was->steps, (long long)was->warmup, (long long)t->plan.steps,
                (long long)t->plan.warmup, (long long)s + 1);
    for (int32_t n = 0; n < t->session.spec_count; n++) {
        const plugin_component *const c = t->session.specs[n].component;
        if (adapt_goes_by_length(t->session.adapters, n))
            return fail(err, GRAFT_USAGE,
                        "%s was written by a run of %lld steps, this one has %lld, and adapter %s goes by the "
                        "length of the run; keep it",
                        t->checkpoint, (long long)was->steps, (long long)t->plan.steps, c->name);
    }
    return GRAFT_OK;
}

int training_check_resume(training *t, graft_error *err) {
    run_state *const was = &t->was;
    int sealed;
    if (checkpoint_verify(t->checkpoint, &sealed, err) == GRAFT_OK &&
        state_read_json(t->checkpoint, sealed, was, err) == GRAFT_OK && was->step != checkpoint_step(t->checkpoint))
        fail(err, GRAFT_FAILED, "%s/trainer.json stands at step %lld; give the folder its name back, or remove it",
             t->checkpoint, (long long)was->step);
    if (!err->code && need_settings(t, err) == GRAFT_OK && was->step > t->plan.steps)
        fail(err, GRAFT_USAGE, "%s is behind step %lld, but this run ends at %lld", t->checkpoint, (long long)was->step,
             (long long)t->plan.steps);
    if (!err->code && settings_compare(was->settings, t->state.settings, t->checkpoint, err) == GRAFT_OK)
        check_length(t, was, err);
    return err->code;
}

static int read_tensors(training *t, const char *folder, graft_error *err) {
    const run_tensors tensors = tensors_of(t);
    if (state_read_tensors(folder, &tensors, err) || adapt_masks_read(t->session.adapters, err) ||
        model_mask(t->session.model, t->session.adapters, err))
        return err->code;
    model_refresh(t->session.model);
    return adapt_prepare(t->session.adapters, err);
}

int training_load_best(training *t, graft_error *err) {
    char *const folder = checkpoint_path(t->recipe->output.path, t->state.best_step);
    int sealed;
    if (checkpoint_verify(folder, &sealed, err) == GRAFT_OK) read_tensors(t, folder, err);
    free(folder);
    return err->code;
}

int training_resume(training *t, graft_error *err) {
    json_t *const settings = t->state.settings; /* those of the checkpoint are the same and stay behind */
    if (read_tensors(t, t->checkpoint, err)) return err->code;
    optimizer_set_updates(t->optimizer, t->was.updates);
    t->state = t->was;
    t->state.settings = settings;
    t->state.steps = t->plan.steps;
    t->state.warmup = t->plan.warmup;
    t->saved_at = t->state.step;
    return GRAFT_OK;
}
