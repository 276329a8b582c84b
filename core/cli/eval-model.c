/* eval-model — one model of `graft eval`, alone and with each of its adapters: all of them on the same records. */
#include "base/log.h"
#include "cli/eval.h"
#include "run/data-open.h"
#include "run/data-windows.h"
#include "run/evaluate.h"
#include <stdlib.h>
#include <string.h>

enum { PROMPT_ROWS = 256, CONTEXT_USUAL = 1024 };

typedef struct {
    evaluating *e;
    session s;
    data_source *data;
    const question_list *questions; /* of data; NULL: none */
    task_list tasks;
    int64_t first; /* row of the bare model in the scores; adapter n is first + 1 + n */
} job;

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
        return data_windows_open(w->text, folder, context, stride, &j->data, err);
    }
    if (scores_want(e->scores, METRIC_OF_CHOICE))
        return data_choices_open(w->data, folder, room, &j->data, &j->questions, err);
    if (data_open(e->settings, &j->s, &j->data, err)) return err->code;
    if (!j->data->eval_count)
        return fail(err, GRAFT_USAGE,
                    "there is nothing to evaluate on: use --data FILE, or set eval_path or eval_split in the INI's "
                    "[data]");
    if (!scores_want(e->scores, METRIC_OF_TEXT)) return GRAFT_OK;
    if (strcmp(e->settings->data.loader, "tensors") == 0)
        return fail(err, GRAFT_USAGE, "metrics of answers need texts; loader = tensors has none");
    return tasks_read(j->data, &j->tasks, err);
}

/* Runs `measure` for the bare model and for every adapter alone. */
static int for_each(job *j, workspace *space,
                    int (*measure)(job *j, workspace *space, int64_t number, graft_error *err), graft_error *err) {
    for (int32_t n = -1; n < j->s.spec_count && !err->code; n++) {
        if (j->s.adapters) {
            adapt_enable(j->s.adapters, -1, 0);
            if (n >= 0) adapt_enable(j->s.adapters, n, 1);
        }
        measure(j, space, j->first + 1 + n, err);
    }
    return err->code;
}

static slice_limits limits_of(const job *j) {
    const data_source *d = j->data;
    return (slice_limits){.vocab = model_descriptor(j->s.model)->vocab,
                          .rows = slices_automatic(d->longest, d->longest * d->eval_count)};
}

/* Loss, perplexity, choices: from log-probabilities of given tokens. */
static int measure_tokens(job *j, workspace *space, int64_t number, graft_error *err) {
    const slice_limits limits = limits_of(j);
    model_scores *m = &j->e->scores->models[number];
    double *each = mem_new((size_t)j->data->eval_count * 2, sizeof *each);
    evaluation all;
    if (evaluate(space, j->data, &limits, each, &all, err) == GRAFT_OK) {
        m->targets = all.targets;
        m->tokens = all.tokens;
        if (j->questions) {
            scores_of_choices(j->e->scores, m, each, j->questions);
            eval_write_choices(j->e, number, each, j->questions, err);
        } else {
            scores_of_tokens(j->e->scores, m, each, j->data->eval_count);
        }
    }
    free(each);
    return err->code;
}

static metric_record task_record(void *context, int64_t i) {
    const task *t = &((const task_list *)context)->at[i];
    return (metric_record){t->answer, &t->reference, 1, t->prompt};
}

/* Everything that looks at what the model writes. */
static int measure_answers(job *j, workspace *space, int64_t number, graft_error *err) {
    const eval_wishes *w = j->e->wishes;
    const task_settings settings = {
        .max_new = w->max_new, .batch = w->batch, .stops = w->stops, .stop_count = w->stop_count};
    model_scores *m = &j->e->scores->models[number];
    if (tasks_answer(&j->tasks, space, &settings, &m->written, err) ||
        scores_of_texts(j->e->scores, m, j->tasks.count, task_record, &j->tasks, err))
        return err->code;
    return eval_write_answers(j->e, number, j->tasks.count, task_record, &j->tasks, err);
}

static int measure_all(job *j, graft_error *err) {
    workspace *space = NULL;
    const scores *s = j->e->scores;
    if (scores_want(s, METRIC_OF_TOKENS) || scores_want(s, METRIC_OF_CHOICE)) {
        const int64_t rows = limits_of(j).rows;
        const workspace_config c = {.rows = rows, .documents = rows};
        if (workspace_create(j->s.model, j->s.adapters, &c, &space, err) == GRAFT_OK)
            for_each(j, space, measure_tokens, err);
        workspace_free(space);
        space = NULL;
    }
    if (!err->code && scores_want(s, METRIC_OF_TEXT)) {
        const int64_t prompt = j->tasks.longest < PROMPT_ROWS ? j->tasks.longest : PROMPT_ROWS;
        const int64_t batch = j->e->wishes->batch;
        const workspace_config c = {.rows = prompt > batch ? prompt : batch, .documents = batch};
        if (workspace_create(j->s.model, j->s.adapters, &c, &space, err) == GRAFT_OK)
            for_each(j, space, measure_answers, err);
        workspace_free(space);
    }
    return err->code;
}

int eval_model(evaluating *e, const char *folder, int with_adapters, graft_error *err) {
    job j = {.e = e, .first = e->scores->count};
    recipe base = {0}; /* of an INI that was named: its base, [quantizer] included, without its adapters */
    if (e->settings) base = *e->settings;
    base.adapter_count = 0;
    const session_request q = {.model = folder,
                               .device = e->o->device,
                               .precision = e->o->precision,
                               .threads = e->o->threads,
                               .recipe = e->o->ini ? &base : NULL,
                               .folders = e->o->adapters,
                               .folder_count = with_adapters ? e->o->adapter_count : 0,
                               .plugins = e->plugins};
    if (session_open(&q, &j.s, err) == GRAFT_OK && open_data(&j, folder, err) == GRAFT_OK) {
        scores_add(e->scores, folder);
        for (int32_t n = 0; n < j.s.spec_count; n++)
            scores_add(e->scores, j.s.starts[n]);
        if (session_load(&j.s, 0, err) == GRAFT_OK) measure_all(&j, err);
    }
    tasks_free(&j.tasks);
    if (j.data) j.data->close(j.data);
    session_close(&j.s);
    return err->code;
}
