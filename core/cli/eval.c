/* graft eval — loss and perplexity of models and adapters side by side, on the same targets. */
#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "run/base-quantizer.h"
#include "run/data-open.h"
#include "run/evaluate.h"
#include "run/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DATA = 256, MAX_LENGTH };
typedef struct {
    const char *data;
    int64_t max_length;
} wishes;

static int own(void *context, int val, const char *text) {
    wishes *w = context;
    if (val == MAX_LENGTH) return cli_whole("--max-length", text, 2, 1 << 24, &w->max_length);
    w->data = text;
    return GRAFT_OK;
}

/* The settings of the data: an INI's, those of the run that made the first adapter, or defaults; --data and --set win. */
static int read_settings(registry *plugins, const wishes *w, const cli_options *o, recipe **out, graft_error *err) {
    arena memory = {0};
    const char **set = arena_new(&memory, (size_t)o->set_count + 8, sizeof *set);
    int n = 0;
    char *run = o->adapter_count ? path_join(o->adapters[0], "run.ini") : NULL;
    const char *ini = o->ini ? o->ini : run && file_exists(run) && !w->data ? run : "/dev/null";
    if (!o->ini && !w->data && !(run && file_exists(run)) && !o->set_count) {
        free(run);
        arena_free(&memory);
        return fail(err, GRAFT_USAGE, "nothing to evaluate on: name a file with --data, or an INI with --ini");
    }
    if (w->data) {
        set[n++] = arena_format(&memory, "data.path=%s", w->data);
        set[n++] = arena_format(&memory, "data.eval_path=%s", w->data);
        set[n++] = "data.eval_split=0";
    }
    if (w->max_length) set[n++] = arena_format(&memory, "data.max_length=%lld", (long long)w->max_length);
    for (int i = 0; i < o->set_count; i++)
        set[n++] = o->set[i];
    recipe_load(plugins, ini, set, n, RECIPE_PLUGINS | RECIPE_DATA, out, NULL, err);
    free(run);
    arena_free(&memory);
    return err->code;
}

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
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"data", required_argument, NULL, DATA},
        {"max-length",  required_argument, NULL, MAX_LENGTH},
        {0     }
    };
    cli_options o;
    wishes w = {0};
    int first;
    graft_error err = {0};
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
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_eval = {
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
    run};
