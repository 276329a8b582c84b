/* eval-model — one model of `graft eval`, alone and with each of its adapters: all of them on the same records. */
#include "cli/eval.h"
#include "run/base-quantizer.h"
#include "run/data-open.h"
#include "run/data-windows.h"
#include "run/evaluate.h"
#include "run/plan.h"
#include <stdlib.h>
#include <string.h>

enum { PROMPT_ROWS = 256, CONTEXT_USUAL = 1024 };

typedef struct {
    evaluating *e;
    session s;
    data_source *data;
    const question_list *questions; /* of data; NULL: none */
    task_list tasks;
} job;

/* Whether the [quantizer] of --ini stands for all. */
static int chosen_by_ini(const evaluating *e) {
    return e->o->ini && !e->o->quantizer && (e->settings->quantizer.use.component || *e->settings->quantizer.state);
}

static int open_data(job *j, const char *folder, graft_error *err) {
    const evaluating *e = j->e;
    const eval_wishes *w = e->wishes;
    const int64_t room = model_descriptor(j->s.model)->context > 0 ? model_descriptor(j->s.model)->context : 1 << 20;
    if (w->text) {
        const int64_t context = w->context ? w->context : room < CONTEXT_USUAL ? room : CONTEXT_USUAL;
        const int64_t stride = w->stride ? w->stride : context / 2;
        if (stride > context)
            return fail(err, GRAFT_USAGE, "--stride %lld: must not exceed the context of %lld tokens",
                        (long long)stride, (long long)context);
        if (model_check_length(j->s.model, NULL, context, err)) return fail_within(err, "--context");
        return data_windows_open(w->text, folder, context, stride, &j->data, err);
    }
    if (scores_want(e->scores, METRIC_OF_CHOICE))
        return data_choices_open(w->data, folder, room, &j->data, &j->questions, err);
    if (data_open(e->settings, &j->s, 1, &j->data, err)) return err->code;
    if (!j->data->eval_count)
        return fail(err, GRAFT_USAGE,
                    "there is nothing to evaluate on: use --data FILE, or set eval_path or eval_split in the INI's "
                    "[data]");
    if (!scores_want(e->scores, METRIC_OF_TEXT)) return GRAFT_OK;
    if (strcmp(e->settings->data.loader, "tensors") == 0)
        return fail(err, GRAFT_USAGE, "metrics of answers need texts; loader = tensors has none");
    if (tasks_read(j->data, &j->tasks, err) == GRAFT_OK && model_check_length(j->s.model, NULL, j->tasks.longest, err))
        fail_within(err, "the longest prompt");
    return err->code;
}

/* Loss, perplexity, choices: from log-probabilities of given tokens. Each adapter brings its own rows in front of documents. */
static int measure_tokens(job *j, int64_t number, graft_error *err) {
    data_source *d = j->data;
    model_scores *m = &j->e->scores->models[number];
    workspace *space = NULL;
    workspace_config c;
    slice_limits limits;
    evaluation all;
    double *each = mem_new((size_t)d->eval_count * 2, sizeof *each);
    if (plan_passes(&j->s, d, slices_automatic(d->longest, d->longest * d->eval_count), &limits, &c, err) == GRAFT_OK &&
        workspace_create(j->s.model, j->s.adapters, &c, &space, err) == GRAFT_OK &&
        evaluate(space, d, &limits, each, &all, err) == GRAFT_OK) {
        m->targets = all.targets;
        m->tokens = all.tokens;
        if (j->questions) {
            scores_of_choices(j->e->scores, m, each, j->questions);
            eval_write_choices(j->e, number, each, j->questions, err);
        } else {
            scores_of_tokens(j->e->scores, m, each, d->eval_count);
        }
    }
    workspace_free(space);
    free(each);
    return err->code;
}

static metric_record task_record(void *context, int64_t i) {
    const task *t = &((const task_list *)context)->at[i];
    return (metric_record){t->answer, &t->reference, 1, t->prompt};
}

/* Everything that looks at what the model writes. */
static int measure_answers(job *j, int64_t number, graft_error *err) {
    const eval_wishes *w = j->e->wishes;
    const int64_t prompt = j->tasks.longest < PROMPT_ROWS ? j->tasks.longest : PROMPT_ROWS;
    const int64_t wanted = j->tasks.longest + w->max_new, most = model_longest(j->s.model, j->s.adapters);
    const workspace_config c = {.rows = prompt > w->batch ? prompt : w->batch, .documents = w->batch};
    const task_settings settings = {
        .max_new = w->max_new, .room = wanted < most ? wanted : most, .stops = w->stops, .stop_count = w->stop_count};
    model_scores *m = &j->e->scores->models[number];
    workspace *space = NULL;
    if (workspace_create(j->s.model, j->s.adapters, &c, &space, err) == GRAFT_OK &&
        tasks_answer(&j->tasks, space, w->batch, &settings, &m->written, err) == GRAFT_OK &&
        scores_of_texts(j->e->scores, m, j->tasks.count, task_record, &j->tasks, err) == GRAFT_OK)
        eval_write_answers(j->e, number, j->tasks.count, task_record, &j->tasks, err);
    workspace_free(space);
    return err->code;
}

/* "a + b" of all adapters; owned by the caller. */
static char *all_names(const session *s) {
    strbuf names = {0};
    for (int32_t n = 0; n < s->spec_count; n++)
        strbuf_printf(&names, "%s%s", n ? " + " : "", s->starts[n]);
    return names.text;
}

/* Row -1 is the base alone. */
static int measure(job *j, const char *folder, graft_error *err) {
    scores *s = j->e->scores;
    const int together = j->e->wishes->together && j->s.spec_count > 1;
    const int32_t rows = together ? 1 : j->s.spec_count;
    char *const all = together ? all_names(&j->s) : NULL;
    for (int32_t n = -1; n < rows && !err->code; n++) {
        const int64_t number = s->count;
        scores_add(s,
                   n < 0      ? folder
                   : together ? all
                              : j->s.starts[n],
                   j->s.quantized_by ? j->s.quantized_by->quantizer.plugin : NULL);
        if (j->s.adapters) adapt_enable(j->s.adapters, -1, together && n >= 0);
        if (n >= 0 && !together) adapt_enable(j->s.adapters, n, 1);
        if (scores_want(s, METRIC_OF_TOKENS) || scores_want(s, METRIC_OF_CHOICE)) measure_tokens(j, number, err);
        if (scores_want(s, METRIC_OF_TEXT) && !err->code) measure_answers(j, number, err);
    }
    free(all);
    return err->code;
}

/* One model: the base alone, then each of `folders` alone (or all), which were all trained on the same base. */
static int eval_group(evaluating *e, const char *folder, const char *const *folders, int32_t count, graft_error *err) {
    static const char *const precisions[] = {"auto", "f32", "bf16"}; /* RECIPE_PRECISION_... */
    job j = {.e = e};
    recipe *base = NULL, own = {0}; /* of an INI that was named: its base, [quantizer] included, without its adapters */
    if (e->settings) own = *e->settings;
    own.adapter_count = 0;
    const int by_ini = chosen_by_ini(e);
    if (!by_ini && base_quantizer_choose(e->plugins, e->o->quantizer, folders, count, &base, err)) goto done;
    const session_request q = {.model = folder,
                               .device = e->o->device,
                               .precision = e->o->precision ? e->o->precision : precisions[own.model.precision],
                               .threads = e->o->threads,
                               .recipe = by_ini ? &own : NULL,
                               .base = base,
                               .folders = folders,
                               .folder_count = count,
                               .plugins = e->plugins};
    if (session_open(&q, &j.s, err) == GRAFT_OK && open_data(&j, folder, err) == GRAFT_OK &&
        session_load(&j.s, 0, err) == GRAFT_OK)
        measure(&j, folder, err);
done:
    tasks_free(&j.tasks);
    if (j.data) j.data->close(j.data);
    session_close(&j.s);
    recipe_free(base);
    return err->code;
}

/* Those that were trained on the same base together, in the order of the first of each. */
int eval_model(evaluating *e, const char *folder, int adapters, graft_error *err) {
    const cli_options *const o = e->o;
    const char *group[CLI_MOST];
    int done[CLI_MOST] = {0};
    if (adapters == 0 || e->wishes->together) return eval_group(e, folder, o->adapters, adapters, err);
    for (int a = 0; a < adapters && !err->code; a++) {
        int32_t count = 0;
        for (int b = a; b < adapters; b++)
            if (!done[b] && (o->quantizer || chosen_by_ini(e) || base_quantizer_same(o->adapters[a], o->adapters[b]))) {
                group[count++] = o->adapters[b];
                done[b] = 1;
            }
        if (count) eval_group(e, folder, group, count, err);
    }
    return err->code;
}
