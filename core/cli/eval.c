/* graft eval — loss and perplexity of models and adapters side by side, on the same targets. */
#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "run/data-open.h"
#include "run/evaluate.h"
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

static void add_row(table *t, const char *name, const evaluation *e) {
    if (!t->json) {
        if (json_array_size(t->rows) == 0) {
            printf("%-40s %10s %12s %10s %10s\n", "", "loss", "perplexity", "change", "targets");
            t->first = e->loss;
        }
        printf("%-40s %10.4f %12.4g %+10.4f %10lld\n", name, e->loss, e->perplexity, e->loss - t->first,
               (long long)e->targets);
        fflush(stdout);
    }
    json_array_append_new(t->rows,
                          json_pack("{s:s, s:f, s:f, s:I, s:I}", "name", name, "loss", e->loss, "perplexity",
                                    e->perplexity, "targets", (json_int_t)e->targets, "tokens", (json_int_t)e->tokens));
}

/* One model: the base alone, then each adapter alone. */
static int eval_model(const char *folder, const recipe *settings, const cli_options *o, int with_adapters,
                      registry *plugins, table *out, graft_error *err) {
    session s = {0};
    data_source *d = NULL;
    workspace *w = NULL;
    evaluation e;
    recipe base = *settings; /* of an INI that was named: its base, [quantizer] included, without its adapters */
    base.adapter_count = 0;
    const session_request q = {.model = folder,
                               .device = o->device,
                               .precision = o->precision,
                               .threads = o->threads,
                               .recipe = o->ini ? &base : NULL,
                               .folders = o->adapters,
                               .folder_count = with_adapters ? o->adapter_count : 0,
                               .plugins = plugins};
    if (session_open(&q, &s, err) || data_open(settings, &s, &d, err)) goto done;
    if (!d->eval_count) {
        fail(err, GRAFT_USAGE,
             "there is nothing to evaluate on: use --data FILE, or set eval_path or eval_split in the INI's [data]");
        goto done;
    }
    const int64_t rows = slices_automatic(d->longest, d->longest * d->eval_count);
    const workspace_config c = {.rows = rows, .documents = rows};
    const slice_limits limits = {.vocab = model_descriptor(s.model)->vocab, .rows = rows};
    if (session_load(&s, 0, err) || workspace_create(s.model, s.adapters, &c, &w, err)) goto done;
    for (int32_t n = -1; n < s.spec_count && !err->code; n++) {
        if (s.adapters) {
            adapt_enable(s.adapters, -1, 0);
            if (n >= 0) adapt_enable(s.adapters, n, 1);
        }
        if (evaluate(w, d, &limits, &e, err) == GRAFT_OK) add_row(out, n < 0 ? folder : s.starts[n], &e);
    }
done:
    workspace_free(w);
    if (d) d->close(d);
    session_close(&s);
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
    if (cli_parse(&command_eval, "aIsjdpt", more, own, &w, count, words, 1, 64, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    table out = {.rows = json_array(), .json = o.json};
    read_settings(plugins, &w, &o, &settings, &err);
    for (int m = first; m < count && !err.code; m++)
        eval_model(words[m], settings, &o, m == first, plugins, &out, &err);
    if (o.json && !err.code) cli_print_json(json_incref(out.rows));
    json_decref(out.rows);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_eval = {
    "eval", "compare loss and perplexity of base, adapters and models",
    "usage: graft eval MODEL... [--adapter DIR]... [--data FILE | --ini run.ini] [--max-length N] [--set "
    "data.key=value]... [--json]\n\n"
    "Every line is evaluated on the same targets: each MODEL, and the first one with each adapter alone. The data is "
    "FILE, or the\n"
    "validation set of the INI, or that of the run which made the first adapter (DIR/run.ini). --ini applies its "
    "[quantizer]\n"
    "section to models that are not packed already.\n",
    run};
