<<<<<<< HEAD
/* graft eval — loss and perplexity of models and adapters side by side, on the same targets. */
#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "run/base-quantizer.h"
#include "run/data-open.h"
#include "run/evaluate.h"
#include "run/plan.h"
#include <stdio.h>
=======
/* graft eval — how good models and adapters are, side by side on the same records, and whether a difference is more than luck. */
#include "cli/eval.h"
#include "run/predictions.h"
>>>>>>> a8e1a3f (graft eval: answers that are written, choices, texts in windows, earlier predictions; intervals and paired changes)
#include <stdlib.h>
#include <string.h>

enum { DATA = 256, MAX_LENGTH, METRICS, MAX_NEW, BATCH, STOP, TEXT, CONTEXT, STRIDE, PREDICTIONS };

static int too_many(const char *option) {
    graft_error err = {0};
    fail(&err, GRAFT_USAGE, "%s: at most %d times in one call", option, EVAL_MOST);
    return cli_fail(&err);
}

static int own(void *context, int val, const char *text) {
    eval_wishes *w = context;
    switch (val) {
    case MAX_LENGTH:
        return cli_whole("--max-length", text, 2, 1 << 24, &w->max_length);
    case MAX_NEW:
        return cli_whole("--max-new", text, 1, 1 << 20, &w->max_new);
    case BATCH:
        return cli_whole("--batch", text, 1, 256, &w->batch);
    case CONTEXT:
        return cli_whole("--context", text, 2, 1 << 24, &w->context);
    case STRIDE:
        return cli_whole("--stride", text, 1, 1 << 24, &w->stride);
    case STOP:
        if (w->stop_count == EVAL_MOST) return too_many("--stop");
        w->stops[w->stop_count++] = text;
        return GRAFT_OK;
    case PREDICTIONS:
        if (w->prediction_count == EVAL_MOST) return too_many("--predictions");
        w->predictions[w->prediction_count++] = text;
        return GRAFT_OK;
    default:
        *(val == DATA ? &w->data : val == TEXT ? &w->text : &w->metrics) = text;
        return GRAFT_OK;
    }
}

/* The settings of the data: an INI's, those of the run that made the first adapter, or defaults; --data and --set win. */
static int read_settings(evaluating *e, int training_data, graft_error *err) {
    const eval_wishes *w = e->wishes;
    const cli_options *o = e->o;
    arena memory = {0};
    const char **set = arena_new(&memory, (size_t)o->set_count + 8, sizeof *set);
    int n = 0;
    char *run = o->adapter_count ? path_join(o->adapters[0], "run.ini") : NULL;
    const char *ini = o->ini ? o->ini : run && file_exists(run) && !w->data ? run : "/dev/null";
    if (!o->ini && !w->data && !(run && file_exists(run)) && !o->set_count) {
        free(run);
        arena_free(&memory);
        return fail(err, GRAFT_USAGE,
                    "nothing to evaluate on: name a file with --data or --text, or an INI with --ini");
    }
    if (w->data && training_data) {
        set[n++] = arena_format(&memory, "data.path=%s", w->data);
        set[n++] = arena_format(&memory, "data.eval_path=%s", w->data);
        set[n++] = "data.eval_split=0";
    }
    if (w->max_length) set[n++] = arena_format(&memory, "data.max_length=%lld", (long long)w->max_length);
    for (int i = 0; i < o->set_count; i++)
        set[n++] = o->set[i];
    recipe_load(e->plugins, ini, set, n, RECIPE_PLUGINS | (training_data ? RECIPE_DATA : 0), &e->settings, NULL, err);
    free(run);
    arena_free(&memory);
    return err->code;
}

<<<<<<< HEAD
typedef struct {
    json_t *rows;
    double first; /* loss of the first line, for the difference */
    int json;
} table;

static void add_row(table *t, const char *name, const char *quantizer, const evaluation *e) {
    if (!t->json) {
        if (json_array_size(t->rows) == 0) {
            printf("%-40s %10s %12s %10s %10s\n", "", "loss", "perplexity", "change", "targets");
            t->first = e->loss;
        }
        char *const shown = quantizer ? mem_format("%s (%s)", name, quantizer) : mem_copy_text(name);
        printf("%-40s %10.4f %12.4g %+10.4f %10lld\n", shown, e->loss, e->perplexity, e->loss - t->first,
               (long long)e->targets);
        fflush(stdout);
        free(shown);
    }
    json_array_append_new(t->rows, json_pack("{s:s, s:s?, s:f, s:f, s:I, s:I}", "name", name, "quantizer", quantizer,
                                             "loss", e->loss, "perplexity", e->perplexity, "targets",
                                             (json_int_t)e->targets, "tokens", (json_int_t)e->tokens));
}

/* With the adapters that are on; each brings its own rows in front of documents. */
static int eval_once(session *s, data_source *d, evaluation *e, graft_error *err) {
    const int64_t rows = slices_automatic(d->longest, d->longest * d->eval_count);
    workspace_config c;
    slice_limits limits;
    workspace *w = NULL;
    if (plan_passes(s, d, rows, &limits, &c, err) == GRAFT_OK &&
        workspace_create(s->model, s->adapters, &c, &w, err) == GRAFT_OK)
        evaluate(w, d, &limits, e, err);
    workspace_free(w);
    return err->code;
}

typedef struct {
    const recipe *settings;
    const cli_options *o;
    registry *plugins;
    table *out;
    int by_ini; /* the [quantizer] of --ini stands for all */
} evaluating;

/* One model: the base alone, then each of `folders` alone, which were all trained on the same base. */
static int eval_model(const evaluating *v, const char *folder, const char *const *folders, int32_t count,
                      graft_error *err) {
    static const char *const precisions[] = {"auto", "f32", "bf16"}; /* RECIPE_PRECISION_... */
    session s = {0};
    data_source *d = NULL;
    recipe *base = NULL;
    evaluation e;
    recipe own = *v->settings; /* of an INI that was named: its base, [quantizer] included, without its adapters */
    own.adapter_count = 0;
    if (!v->by_ini && base_quantizer_choose(v->plugins, v->o->quantizer, folders, count, &base, err)) goto done;
    const session_request q = {.model = folder,
                               .device = v->o->device,
                               .precision =
                                   v->o->precision ? v->o->precision : precisions[v->settings->model.precision],
                               .threads = v->o->threads,
                               .recipe = v->by_ini ? &own : NULL,
                               .base = base,
                               .folders = folders,
                               .folder_count = count,
                               .plugins = v->plugins};
    if (session_open(&q, &s, err) || data_open(v->settings, &s, &d, err)) goto done;
    if (!d->eval_count)
        fail(err, GRAFT_USAGE,
             "there is nothing to evaluate on: use --data FILE, or set eval_path or eval_split in the INI's [data]");
    if (err->code || session_load(&s, 0, err)) goto done;
    const char *const quantizer = s.quantized_by ? s.quantized_by->quantizer.plugin : NULL;
    for (int32_t n = -1; n < s.spec_count && !err->code; n++) {
        if (s.adapters) adapt_enable(s.adapters, -1, 0);
        if (n >= 0) adapt_enable(s.adapters, n, 1);
        if (eval_once(&s, d, &e, err) == GRAFT_OK) add_row(v->out, n < 0 ? folder : s.starts[n], quantizer, &e);
    }
done:
    if (d) d->close(d);
    session_close(&s);
    recipe_free(base);
    return err->code;
}

/* The first model with the adapters: those that were trained on the same base together, in the order of the first of each. */
static int eval_adapters(const evaluating *v, const char *folder, graft_error *err) {
    const cli_options *const o = v->o;
    const char *group[CLI_MOST];
    int done[CLI_MOST] = {0};
    if (o->adapter_count == 0) return eval_model(v, folder, NULL, 0, err);
    for (int a = 0; a < o->adapter_count && !err->code; a++) {
        int32_t count = 0;
        for (int b = a; b < o->adapter_count; b++)
            if (!done[b] && (o->quantizer || v->by_ini || base_quantizer_same(o->adapters[a], o->adapters[b]))) {
                group[count++] = o->adapters[b];
                done[b] = 1;
            }
        if (count) eval_model(v, folder, group, count, err);
    }
=======
/* What can be asked of what is given. */
static int check(const eval_wishes *w, const scores *s, int models, graft_error *err) {
    const int tokens = scores_want(s, METRIC_OF_TOKENS), texts = scores_want(s, METRIC_OF_TEXT),
              choices = scores_want(s, METRIC_OF_CHOICE);
    if (w->prediction_count && (models || tokens || choices))
        return fail(err, GRAFT_USAGE,
                    models ? "--predictions scores what was written before: no MODEL goes with it"
                           : "--predictions are texts: loss, perplexity and acc need a model");
    if (!w->prediction_count && !models) return fail(err, GRAFT_USAGE, "MODEL... is missing, or --predictions FILE");
    if (w->text && (texts || choices || w->data))
        return fail(err, GRAFT_USAGE, "--text measures loss and perplexity of one text: no --data and no other metric");
    if (!w->text && (w->stride || w->context))
        return fail(err, GRAFT_USAGE, "--context and --stride need a --text FILE");
    if (choices && (tokens || texts))
        return fail(err, GRAFT_USAGE,
                    "metrics of choices (acc, acc_norm, acc_bytes) stand alone: their records are others");
    if (choices && !w->data) return fail(err, GRAFT_USAGE, "choices are read from a file: use --data FILE");
    for (int i = 0; i < w->stop_count; i++)
        if (!*w->stops[i]) return fail(err, GRAFT_USAGE, "--stop \"\": an empty text ends nothing");
    return GRAFT_OK;
}

static metric_record predicted(void *context, int64_t i) {
    return ((const prediction_set *)context)->records[i];
}

static int score_predictions(evaluating *e, graft_error *err) {
    prediction_list p = {0};
    for (int i = 0; i < e->wishes->prediction_count && !err->code; i++)
        predictions_read(e->wishes->predictions[i], &p, err);
    for (int64_t i = 0; i < p.count && !err->code; i++) {
        model_scores *m = scores_add(e->scores, p.sets[i].model);
        if (scores_of_texts(e->scores, m, p.sets[i].count, predicted, &p.sets[i], err) == GRAFT_OK)
            eval_write_answers(e, i, p.sets[i].count, predicted, &p.sets[i], err);
    }
    predictions_free(&p);
    return err->code;
}

static int score_models(evaluating *e, char **folders, int count, graft_error *err) {
    const int training_data = !e->wishes->text && !scores_want(e->scores, METRIC_OF_CHOICE);
    if (training_data || e->o->ini) read_settings(e, training_data, err);
    for (int m = 0; m < count && !err->code; m++)
        eval_model(e, folders[m], m == 0, err);
>>>>>>> a8e1a3f (graft eval: answers that are written, choices, texts in windows, earlier predictions; intervals and paired changes)
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"data",             required_argument, NULL, DATA},
        {"max-length",              required_argument, NULL, MAX_LENGTH},
        {"metrics",                  required_argument, NULL, METRICS},
        {"max-new",required_argument, NULL, MAX_NEW},
        {"batch",        required_argument, NULL, BATCH},
        {"stop",          required_argument, NULL, STOP},
        {"text",              required_argument, NULL, TEXT},
        {"context",                  required_argument, NULL, CONTEXT},
        {"stride",              required_argument, NULL, STRIDE},
        {"predictions",           required_argument, NULL, PREDICTIONS},
        {0           }
    };
    cli_options o;
    eval_wishes w = {.max_new = 128, .batch = 8};
    scores s = {0};
    int first;
    graft_error err = {0};
<<<<<<< HEAD
    if (cli_parse(&command_eval, "aIsjdptq", more, own, &w, count, words, 1, 64, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    table out = {.rows = json_array(), .json = o.json};
    if (read_settings(plugins, &w, &o, &settings, &err) == GRAFT_OK) {
        const recipe_quantizer *const q = &settings->quantizer;
        const int by_ini = o.ini && !o.quantizer && (q->use.component || *q->state);
        const evaluating v = {settings, &o, plugins, &out, by_ini};
        eval_adapters(&v, words[first], &err);
        for (int m = first + 1; m < count && !err.code; m++)
            eval_model(&v, words[m], NULL, 0, &err);
    }
    if (o.json && !err.code) cli_print_json(json_incref(out.rows));
    json_decref(out.rows);
    recipe_free(settings);
    registry_free(plugins);
=======
    if (cli_parse(&command_eval, "aIsjdpto", more, own, &w, count, words, 0, 64, &o, &first)) return GRAFT_USAGE;
    evaluating e = {.wishes = &w, .o = &o, .plugins = registry_create(), .scores = &s};
    const char *wanted = w.metrics ? w.metrics : w.prediction_count ? "exact_match" : "loss,perplexity";
    if (metric_choose(wanted, s.metrics, &s.metric_count, &err) == GRAFT_OK &&
        check(&w, &s, count - first, &err) == GRAFT_OK &&
        (!o.output || file_create(o.output, &e.output, &err) == GRAFT_OK)) {
        if (w.prediction_count)
            score_predictions(&e, &err);
        else
            score_models(&e, words + first, count - first, &err);
        if (!err.code && e.output)
            file_commit(e.output, &err);
        else
            file_abandon(e.output);
    }
    if (!err.code) eval_print(&s, o.json);
    scores_free(&s);
    recipe_free(e.settings);
    registry_free(e.plugins);
>>>>>>> a8e1a3f (graft eval: answers that are written, choices, texts in windows, earlier predictions; intervals and paired changes)
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_eval = {
<<<<<<< HEAD
    "eval", "compare loss and perplexity of base, adapters and models",
    "usage: graft eval MODEL... [--adapter DIR]... [--data FILE | --ini run.ini] [--max-length N] [--set "
    "data.key=value]...\n"
    "                  [--quantizer FILE.ini|none] [--json]\n\n"
    "Every line is evaluated on the same targets: each MODEL, and the first one with each adapter alone. The data is "
    "FILE, or the\n"
    "validation set of the INI, or that of the run which made the first adapter (DIR/run.ini). An adapter whose "
    "training quantized\n"
    "the base is measured on that base (DIR/quantizer.ini), which has a line of its own; --quantizer, or the "
    "[quantizer] "
    "of --ini,\n"
    "says otherwise. "
    "Adapters that\n"
    "put rows in front of the text (prompt) predict its first token too.\n",
=======
    "eval", "compare base, adapters and models: loss, answers, choices",
    "usage: graft eval MODEL... [--adapter DIR]... [--data FILE | --ini run.ini] [--metrics LIST] [--max-length N]\n"
    "                  [--max-new 128] [--batch 8] [--stop TEXT]... [--output FILE] [--set data.key=value]... "
    "[--json]\n"
    "       graft eval MODEL... [--adapter DIR]... --text FILE [--context N] [--stride N]\n"
    "       graft eval --predictions FILE... [--metrics LIST]\n\n"
    "Every line is measured on the same records: each MODEL, and the first one with each adapter alone. Behind a value "
    "stands its\n"
    "95 % interval (bootstrap over records), and how far it lies from the first line's, with the interval of that "
    "change.\n\n"
    "The data is FILE, or the validation set of the INI, or that of the run which made the first adapter "
    "(DIR/run.ini).\n"
    "--metrics, separated by commas; loss,perplexity without it:\n"
    "  loss perplexity                         of the answers that stand in the data\n"
    "  exact_match gsm8k_strict gsm8k_flexible rouge1 rouge2 rougeL rougeLsum bleu bleu-intl bleu-zh bleu-char "
    "bleu-none\n"
    "  chrf chrf++                             of answers that the model writes (greedy, --batch at a time); rouge and "
    "gsm8k are\n"
    "                                          all of theirs\n"
    "  acc acc_norm acc_bytes                  of questions with choices: {\"question\", \"choices\", \"answer\"}\n"
    "--ini applies its [quantizer] section to models that are not packed already.\n"
    "--text measures the perplexity of a text in windows of --context tokens that move by --stride (half the "
    "context).\n"
    "--output writes a line of JSON for every answer; --predictions scores such a file, or any with prediction and "
    "references.\n",
>>>>>>> a8e1a3f (graft eval: answers that are written, choices, texts in windows, earlier predictions; intervals and paired changes)
    run};
