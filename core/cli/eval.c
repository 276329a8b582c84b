/* graft eval — how good models and adapters are, side by side on the same records, and whether a difference is more than luck. */
#include "cli/eval.h"
#include "run/predictions.h"
#include <stdlib.h>
#include <string.h>

enum { DATA = 256, MAX_LENGTH, METRICS, MAX_NEW, BATCH, STOP, TEXT, CONTEXT, STRIDE, PREDICTIONS, TOGETHER };

static int too_many(const char *option) {
    return cli_usage(&command_eval, "%s: at most %d times in one call", option, EVAL_MOST);
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
    case TOGETHER:
        w->together = 1;
        return GRAFT_OK;
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

/* What can be asked of what is given. */
static int check(const eval_wishes *w, const cli_options *o, const scores *s, int models, graft_error *err) {
    const int tokens = scores_want(s, METRIC_OF_TOKENS), texts = scores_want(s, METRIC_OF_TEXT),
              choices = scores_want(s, METRIC_OF_CHOICE);
    models += o->adapter_count;
    if (w->prediction_count && (models || tokens || choices))
        return fail(
            err, GRAFT_USAGE,
            models ? "--predictions scores a file that was written before: no model or adapter goes with it (--output "
                     "writes the answers of a model)"
                   : "--predictions are texts: loss, perplexity and acc need a model");
    if (!w->prediction_count && models == o->adapter_count)
        return fail(err, GRAFT_USAGE, "MODEL... is missing, or --predictions FILE");
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
        model_scores *m = scores_add(e->scores, p.sets[i].model, NULL);
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
        eval_model(e, folders[m], m == 0 ? e->o->adapter_count : 0, err);
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
        {"together",            no_argument, NULL, TOGETHER},
        {0             }
    };
    cli_options o;
    eval_wishes w = {.max_new = 128, .batch = 8};
    scores s = {0};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_eval, "aIsjdptoq", more, own, &w, count, words, 0, 64, &o, &first)) return GRAFT_USAGE;
    evaluating e = {.wishes = &w, .o = &o, .plugins = registry_create(), .scores = &s};
    const char *wanted = w.metrics ? w.metrics : w.prediction_count ? "exact_match" : "loss,perplexity";
    if (metric_choose(wanted, s.metrics, &s.metric_count, &err) == GRAFT_OK &&
        check(&w, &o, &s, count - first, &err) == GRAFT_OK &&
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
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_eval = {
    "eval", "compare base, adapters and models: loss, answers, choices",
    "usage: graft eval MODEL... [--adapter DIR]... [--data FILE | --ini run.ini] [--metrics LIST] [--max-length N]\n"
    "                  [--max-new 128] [--batch 8] [--stop TEXT]... [--output FILE] [--set data.key=value]...\n"
    "                  [--together] [--quantizer FILE.ini|none] [--json]\n"
    "       graft eval MODEL... [--adapter DIR]... --text FILE [--context N] [--stride N]\n"
    "       graft eval --predictions FILE... [--metrics LIST] [--output FILE] [--json]\n\n"
    "Every line is measured on the same records: each MODEL, and the first one with each adapter alone, or with all "
    "of\n"
    "them (--together). Behind a value stands its 95 % interval (bootstrap over records), and how far it lies from "
    "the\n"
    "first line's, with the interval of that change.\n\n"
    "The data is FILE, or the validation set of the INI, or that of the run which made the first adapter "
    "(DIR/run.ini).\n"
    "--metrics, separated by commas; loss,perplexity without it:\n"
    "  loss perplexity              of the answers that stand in the data\n"
    "  exact_match gsm8k_strict gsm8k_flexible rouge1 rouge2 rougeL rougeLsum bleu bleu-intl bleu-zh bleu-char "
    "bleu-none\n"
    "  chrf chrf++                  of answers that the model writes (greedy, --batch at a time, up to --max-new "
    "tokens or\n"
    "                               the first --stop TEXT); rouge and gsm8k stand for all of theirs\n"
    "  acc acc_norm acc_bytes       of questions with choices: {\"question\", \"choices\", \"answer\"}\n"
    "--text measures the perplexity of a text in windows of --context tokens that move by --stride (half the "
    "context).\n"
    "--output writes a line of JSON for every answer; --predictions scores such a file, or any with prediction and\n"
    "references.\n\n"
    "An adapter whose training quantized the base is measured on that base (DIR/quantizer.ini), which has a line of\n"
    "its own; --quantizer, or the [quantizer] of --ini, says otherwise. Adapters that put rows in front of the text \n"
    "(prompt) predict its first token too.\n",
    run};
