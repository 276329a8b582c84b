/* training-step — one optimizer step, as CONTRACT section 4 orders it. */
#include "base/log.h"
#include "run/gradient.h"
#include "run/sparsity.h"
#include "run/training-private.h"
#include <math.h>

enum { SKIPS_MOST = 10 };

/* Forward and backward of all slices; *loss is the step's mean loss. */
static int accumulate(training *t, const slice_list *slices, double *loss, graft_error *err) {
    const recipe *const r = t->recipe;
    const int64_t step = t->state.step + 1;
    const model_objective objective = {.functions = &r->objective.use.component->objective,
                                       .self = r->objective.use.config,
                                       .total = (double)slices->targets,
                                       .step = step,
                                       .steps = t->plan.steps,
                                       .training = 1};
    *loss = 0;
    model_zero_gradients(t->workspace);
    for (int64_t s = 0; s < slices->count; s++) {
        double share = 0;
        if (slices->targets_of[s] == 0) continue; /* it has no gradient */
        if (model_train_slice(t->workspace, &slices->at[s], &objective, &share, err)) return err->code;
        *loss += share;
    }
    return adapt_regularize(t->session.adapters, step, t->plan.steps, loss, err) ||
                   adapt_mask_gradients(t->session.adapters, err)
               ? err->code
               : GRAFT_OK;
}

/* The first thing of a step that is not finite; NULL: all is well. */
static const char *find_bad(double loss, double norm, const char *tensor) {
    return tensor ? tensor : !isfinite(loss) ? "loss" : !isfinite(norm) ? "norm of all gradients" : NULL;
}

static int skip(training *t, const char *bad, graft_error *err) {
    const long long step = (long long)t->state.step + 1;
    progress_clear(t->progress);
    log_warn("step %lld is skipped: the gradient of %s is not finite", step, bad);
    if (++t->state.skipped < SKIPS_MOST) return GRAFT_OK;
    return fail(err, GRAFT_FAILED,
                "step %lld: %d steps in a row had gradients that are not finite, the last in %s; lower "
                "[optimizer] lr, or look at the data of these steps",
                step, SKIPS_MOST, bad);
}

static int update(training *t, const adapt_param *params, int32_t count, double lr, double norm, graft_error *err) {
    session *const s = &t->session;
    const int64_t step = t->state.step + 1;
    t->state.skipped = 0;
    gradient_clip(params, count, s->device, norm, t->recipe->train.clip_norm);
    if (optimizer_step(t->optimizer, params, lr, err) || adapt_after_step(s->adapters, step, t->plan.steps, err))
        return err->code;
    if (model_mask(s->model, s->adapters, err)) return err->code;
    model_refresh(s->model);
    return adapt_prepare(s->adapters, err);
}

static int learn(training *t, const slice_list *slices, metrics_line *line, graft_error *err) {
    int32_t count;
    const char *bad;
    const adapt_param *const params = adapt_params(t->session.adapters, &count);
    if (accumulate(t, slices, &line->loss, err)) return err->code;
    line->grad_norm = gradient_norm(params, count, t->session.device, &bad);
    bad = find_bad(line->loss, line->grad_norm, bad);
    line->skipped = bad != NULL;
    return bad ? skip(t, bad, err) : update(t, params, count, line->lr, line->grad_norm, err);
}

int training_step(training *t, metrics_line *line, int64_t *tokens, graft_error *err) {
    sequence_list sequences = {0};
    slice_list slices = {0};
    char what[64];
    snprintf(what, sizeof what, "step %lld", (long long)t->state.step + 1);
    t->limits.what = what;
    *line = (metrics_line){.step = t->state.step + 1, .lr = schedule_lr(&t->schedule, t->state.step)};
    *tokens = 0;
    if (t->data->fetch(t->data, t->state.step, &sequences, err) == GRAFT_OK &&
        slices_cut(&sequences, &t->limits, &slices, err) == GRAFT_OK) {
        line->tokens = slices.targets;
        *tokens = slices.rows;
        if (slices.targets > 0) {
            learn(t, &slices, line, err);
        } else {
            line->skipped = 1;
            progress_clear(t->progress);
            log_warn("step %lld is skipped: none of its tokens is to be learned", (long long)line->step);
        }
    }
    line->sparsity = sparsity_of(&t->session);
    line->masked = !isnan(line->sparsity);
    if (!err->code) {
        t->state.step++;
        t->state.tokens += line->tokens;
    }
    t->limits.what = NULL;
    slices_free(&slices);
    sequence_list_free(&sequences);
    return err->code;
}
