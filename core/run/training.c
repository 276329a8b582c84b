/* training — the run from end to end. */
#include "run/training.h"
#include "base/file.h"
#include "base/log.h"
#include "run/data-open.h"
#include "run/evaluate.h"
#include "run/output.h"
#include "run/sparsity.h"
#include "run/stop.h"
#include "run/training-private.h"
#include <math.h>
#include <stdlib.h>
#include <time.h>

/* ---- opening ---- */

static int create_optimizer(training *t, graft_error *err) {
    int32_t count;
    const adapt_param *const params = adapt_params(t->session.adapters, &count);
    const recipe_optimizer *const r = &t->recipe->optimizer;
    const optimizer_settings settings = {.seed = (uint64_t)t->recipe->train.seed,
                                         .state_bits = r->state == RECIPE_STATE_8BIT ? 8 : 32,
                                         .no_decay = r->decay_free,
                                         .no_decay_count = r->decay_free_count,
                                         .scaled = r->scaled,
                                         .scales = r->scales,
                                         .scaled_count = r->scaled_count};
    if (count == 0 && !adapt_replaces(t->session.adapters, -1))
        return fail(err, GRAFT_USAGE, "nothing is trained: the [adapter] sections of %s select no tensor",
                    t->recipe->file.path);
    return optimizer_create(r->use.component, r->use.config, &settings, params, count, t->session.device, &t->optimizer,
                            err);
}

/* The base says that it was pruned, its weights are trained, and nothing holds its zeros. */
static void warn_pruned(const training *t) {
    int32_t pruned = 0, count, trains = 0;
    graft_error ignored = {0};
    const adapt_param *const p = adapt_params(t->session.adapters, &count);
    for (int32_t i = 0; i < count; i++)
        trains |= p[i].base && p[i].base->linear;
    if (trains && isnan(sparsity_of(&t->session)) &&
        sparsity_read(t->recipe->model.path, NULL, &pruned, &ignored) == GRAFT_OK && pruned)
        log_warn("%s was pruned, and its zeros will be trained away; an [adapter.prune] with method = keep in front of "
                 "the others holds them",
                 t->recipe->model.path);
}

/* What changes masks in training needs a training, and one that is long enough. */
static int check_masks(const training *t, graft_error *err) {
    adapt_mask_report m;
    for (int32_t s = 0; s < t->session.spec_count && t->plan.steps == 0; s++)
        for (int32_t n = 0; adapt_masked(t->session.adapters, s, n, &m); n++)
            if (m.changes)
                return fail(err, GRAFT_USAGE,
                            "%s prunes step by step, but nothing is trained: let an [adapter.full] or [adapter.lora] "
                            "stand behind it, or prune at once (every = 0)",
                            t->session.specs[s].component->name);
    return t->plan.steps ? adapt_check_length(t->session.adapters, t->plan.steps, err) : GRAFT_OK;
}

int training_open(const recipe *r, registry *plugins, const training_options *o, training **out, graft_error *err) {
    training *const t = mem_new(1, sizeof *t);
    *t = (training){.recipe = r, .plugins = plugins, .options = *o, .base_model = path_absolute(r->model.path)};
    *out = t;
    const session_request request = {
        .recipe = r, .plugins = plugins, .device = o->device, .seed = (uint64_t)r->train.seed};
    if ((!o->plan_only && output_check(r, o->resume, o->overwrite, &t->checkpoint, err)) ||
        session_open(&request, &t->session, err) || data_open(r, &t->session, 0, &t->data, err) ||
        create_optimizer(t, err) || calibration_open(r, &t->session, t->data, &t->calibration, err) ||
        plan_make(r, &t->session, t->data, t->optimizer, t->calibration.tokens, &t->plan, err) || check_masks(t, err))
        return err->code;
    if ((r->train.patience || r->train.load_best) && t->data->eval_count == 0)
        return fail(err, GRAFT_USAGE, "[train] %s needs validations, and %s brings no rows to validate on",
                    r->train.patience ? "patience" : "load_best", r->data.path);
    warn_pruned(t);
    t->schedule = (schedule){.component = r->schedule.use.component,
                             .config = r->schedule.use.config,
                             .lr = r->optimizer.lr,
                             .warmup = t->plan.warmup,
                             .steps = t->plan.steps};
    t->limits = t->plan.limits;
    t->state = (run_state){.steps = t->plan.steps,
                           .warmup = t->plan.warmup,
                           .loss = NAN,
                           .best_loss = NAN,
                           .eval_before = NAN,
                           .eval_last = NAN};
    return t->checkpoint ? training_check_resume(t, err) : GRAFT_OK;
}

const plan *training_plan(const training *t) {
    return &t->plan;
}

void training_describe(const training *t, FILE *to) {
    adapt_describe(t->session.adapters, to);
}

void training_sparsity(const training *t, FILE *to) {
    sparsity_print(&t->session, to);
}

void training_close(training *t) {
    if (!t) return;
    workspace_free(t->workspace);
    optimizer_free(t->optimizer);
    if (t->data) t->data->close(t->data);
    calibration_free(&t->calibration);
    session_close(&t->session);
    run_state_free(&t->state);
    run_state_free(&t->was);
    free(t->checkpoint);
    free(t->base_model);
    free(t);
}

/* ---- running ---- */

static int load(training *t, graft_error *err) {
    if (t->calibration.tokens)
        log_info("calibration: %lld sequence%s, %lld tokens", (long long)t->calibration.sequences.count,
                 plural(t->calibration.sequences.count), (long long)t->calibration.tokens);
    if (calibration_give(&t->calibration, &t->session, &t->limits, &t->plan.workspace, err) ||
        session_load(&t->session, (uint64_t)t->recipe->train.seed, err) || optimizer_allocate(t->optimizer, err) ||
        workspace_create(t->session.model, t->session.adapters, &t->plan.workspace, &t->workspace, err))
        return err->code;
    calibration_free(&t->calibration);
    if (t->checkpoint && training_resume(t, err)) return err->code;
    if (t->options.resume && !t->checkpoint) log_info("there is no checkpoint yet: the run begins at its first step");
    if (output_begin(t->recipe, t->options.overwrite && !t->checkpoint, err) ||
        output_write_base(&t->session, t->recipe->output.path, &t->base_model, err))
        return err->code;
    return metrics_open(t->recipe->output.path, t->state.step, &t->metrics, err);
}

static int validate(training *t, double *loss, graft_error *err) {
    evaluation e;
    if (evaluate(t->workspace, t->data, &t->limits, NULL, &e, err)) return err->code;
    *loss = e.loss;
    if (t->state.step == 0)
        progress_note(t->progress, "before training: validation loss %.4f, perplexity %.4g", e.loss, e.perplexity);
    else
        progress_note(t->progress, "step %lld: validation loss %.4f, perplexity %.4g", (long long)t->state.step, e.loss,
                      e.perplexity);
    return GRAFT_OK;
}

static int is_due(int64_t step, int64_t every) {
    return every > 0 && step % every == 0;
}

static int is_last_wanted(const training *t) {
    return t->options.stop_after && t->state.step >= t->options.stop_after;
}

/* Behind the last validation: as many as the run waits for brought no lower loss. */
static int is_stale(const training *t) {
    const recipe_train *const r = &t->recipe->train;
    return r->patience && t->state.best_step && t->state.step % r->eval_every == 0 &&
           (t->state.step - t->state.best_step) / r->eval_every >= r->patience;
}

static int is_over(const training *t) {
    return t->state.step >= t->plan.steps || is_stale(t);
}

/* Validation, the line of metrics, and the checkpoint of a step that is done. */
static int finish_step(training *t, metrics_line *line, graft_error *err) {
    const recipe_train *const r = &t->recipe->train;
    const int last = t->state.step == t->plan.steps;
    const int keeps_best = r->save_every || r->patience || r->load_best || last;
    int save = is_due(t->state.step, r->save_every) || last;
    line->evaluated = t->data->eval_count > 0 && (is_due(t->state.step, r->eval_every) || last);
    if (line->evaluated) {
        if (validate(t, &line->eval_loss, err)) return err->code;
        t->state.eval_last = line->eval_loss;
        if (!(line->eval_loss >= t->state.best_loss) && isfinite(line->eval_loss) && keeps_best) {
            t->state.best_loss = line->eval_loss;
            t->state.best_step = t->state.step;
            save = 1;
        }
    }
    if (metrics_add(t->metrics, line, err)) return err->code;
    return save || is_over(t) || stop_requested() || is_last_wanted(t) ? training_save(t, err) : GRAFT_OK;
}

static int run_steps(training *t, training_result *out, graft_error *err) {
    const double begun = progress_now();
    t->progress = progress_begin(t->state.step, t->plan.steps, t->recipe->train.log_every, t->options.quiet);
    if (t->state.step == 0 && t->data->eval_count > 0) validate(t, &t->state.eval_before, err);
    if (t->plan.steps == 0) t->state.eval_last = t->state.eval_before;
    out->interrupted = t->state.step > 0 && !is_over(t) && is_last_wanted(t);
    while (!err->code && !is_over(t) && !out->interrupted) {
        metrics_line line;
        int64_t tokens;
        if (training_step(t, &line, &tokens, err)) break;
        t->state.loss = line.loss;
        out->tokens_computed += tokens;
        progress_step(t->progress, line.step, line.loss, line.lr, line.grad_norm, tokens);
        if (t->options.stepped) t->options.stepped(t->options.context, line.step, tokens);
        if (finish_step(t, &line, err)) break;
        out->interrupted = !is_over(t) && t->saved_at == t->state.step && (stop_requested() || is_last_wanted(t));
    }
    out->stopped_early = !err->code && t->state.step < t->plan.steps && is_stale(t);
    if (out->stopped_early)
        progress_note(t->progress, "step %lld: no validation was better than that of step %lld: the run ends here",
                      (long long)t->state.step, (long long)t->state.best_step);
    if (out->interrupted) out->signal = stop_requested();
    progress_end(t->progress);
    t->progress = NULL;
    out->seconds = progress_now() - begun;
    return err->code;
}

static void fill_result(const training *t, training_result *out) {
    out->steps = t->plan.steps;
    out->damaged = t->data->damaged;
    out->done = t->state.step;
    out->tokens = t->state.tokens;
    out->loss = t->state.loss;
    out->eval_before = t->state.eval_before;
    out->eval_after = t->state.eval_last;
    out->best_step = t->state.best_step;
    out->best_loss = t->state.best_loss;
    out->peak_memory = progress_peak_memory();
    out->sparsity = sparsity_of(&t->session);
}

static int write_result(const training *t, const training_result *r, graft_error *err) {
    char *const path = path_join(t->recipe->output.path, "result.json");
    json_t *const json = training_result_json(r);
    json_write_file(path, json, JSON_INDENT(2), err);
    json_decref(json);
    free(path);
    return err->code;
}

int training_run(training *t, training_result *out, graft_error *err) {
    const char *const folder = t->recipe->output.path;
    *out = (training_result){0};
    stop_watch();
    if (plan_check(&t->plan, err) == GRAFT_OK && plan_check_disk(&t->plan, folder, err) == GRAFT_OK &&
        load(t, err) == GRAFT_OK)
        run_steps(t, out, err);
    fill_result(t, out);
    if (!err->code && !out->interrupted && t->recipe->train.load_best && t->state.best_step &&
        t->state.best_step != t->state.step && training_load_best(t, err) == GRAFT_OK)
        out->eval_after = t->state.best_loss;
    if (!err->code && !out->interrupted && output_write(&t->session, folder, t->base_model, err) == GRAFT_OK &&
        output_verify(&t->session, t->plugins, folder, err) == GRAFT_OK)
        write_result(t, out, err);
    graft_error closing = {0};
    if (metrics_close(t->metrics, &closing) && !err->code) *err = closing;
    t->metrics = NULL;
    stop_unwatch();
    return err->code;
}

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *training_result_json(const training_result *r) {
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:b, s:b, s:I}", "steps", (json_int_t)r->steps,
                     "done", (json_int_t)r->done, "tokens", (json_int_t)r->tokens, "loss", number_or_null(r->loss),
                     "eval_before", number_or_null(r->eval_before), "eval_after", number_or_null(r->eval_after),
                     "perplexity", number_or_null(exp(r->eval_after)), "best_step", (json_int_t)r->best_step,
                     "best_loss", number_or_null(r->best_loss), "sparsity", number_or_null(r->sparsity), "interrupted",
                     r->interrupted, "stopped_early", r->stopped_early, "damaged", (json_int_t)r->damaged);
}
