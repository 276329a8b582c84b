/* graft quantize — a model packed by a quantizer: what it costs each layer, and the folder. */
#include "base/json.h"
#include "cli/cli.h"
#include "run/progress.h"
#include "run/quantize-model.h"
#include <stdio.h>

enum { PLUGIN = 256 };

static int own(void *context, int val, const char *text) {
    (void)val;
    *(const char **)context = text;
    return GRAFT_OK;
}

/* The INI's [quantizer], or the plugin's, with every --set on top. */
static int read_recipe(const cli_options *o, const char *plugin, registry *plugins, recipe **out, graft_error *err) {
    arena memory = {0};
    const char **set = arena_new(&memory, (size_t)o->set_count + 1, sizeof *set);
    int count = 0;
    if (plugin) set[count++] = arena_format(&memory, "quantizer.plugin=%s", plugin);
    for (int i = 0; i < o->set_count; i++)
        set[count++] = o->set[i];
    recipe_load(plugins, o->ini, set, count, 0, out, NULL, err);
    arena_free(&memory);
    if (err->code) return err->code;
    (*out)->adapter_count = 0; /* the weights are packed as they are, without what an adapter would make of them */
    if (!(*out)->quantizer.use.component)
        return fail(err, GRAFT_USAGE, "no quantizer is named: --plugin NAME, or a [quantizer] section in --ini FILE");
    return GRAFT_OK;
}

static json_t *as_json(const quantize_report *r, const char *folder) {
    json_t *const layers = json_array();
    for (int32_t i = 0; i < r->count; i++) {
        const quantize_layer *l = &r->layers[i];
        json_array_append_new(layers, json_pack("{s:s, s:[I,I], s:I, s:f, s:f}", "name", l->name, "shape",
                                                (json_int_t)l->out, (json_int_t)l->in, "bytes", (json_int_t)l->bytes,
                                                "relative", l->relative, "largest", l->largest));
    }
    json_t *const root =
        json_pack("{s:o, s:I, s:I, s:I, s:f, s:s, s:f}", "layers", layers, "values", (json_int_t)r->values, "bytes",
                  (json_int_t)r->bytes, "bytes_before", (json_int_t)r->stored, "relative", r->relative, "worst",
                  r->worst->name, "worst_relative", r->worst->relative);
    json_object_set_new(root, "path", folder ? json_string(folder) : json_null());
    return root;
}

static void print(const quantize_report *r) {
    char before[32], after[32];
    printf("%-48s %14s %10s %10s\n", "layer", "out x in", "error", "largest");
    for (int32_t i = 0; i < r->count; i++) {
        const quantize_layer *l = &r->layers[i];
        printf("%-48s %7lld x %4lld %9.3f%% %10.3g\n", l->name, (long long)l->out, (long long)l->in, 100 * l->relative,
               l->largest);
    }
    progress_bytes(r->stored, before);
    progress_bytes(r->bytes, after);
    printf("%d matrices, %s before, %s packed: %.3g bits a weight\n", (int)r->count, before, after,
           8.0 * (double)r->bytes / (double)r->values);
    printf("error %.3f%% over all, at most %.3f%% (%s)\n", 100 * r->relative, 100 * r->worst->relative, r->worst->name);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"plugin", required_argument, NULL, PLUGIN},
        {0   }
    };
    cli_options o;
    const char *plugin = NULL;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_quantize, "ojtswId", more, own, &plugin, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (o.output && cli_free_folder(o.output, &o, &err)) return cli_fail(&err);
    registry *plugins = registry_create();
    recipe *settings = NULL;
    session s = {0};
    quantize_report report = {0};
    if (read_recipe(&o, plugin, plugins, &settings, &err) == GRAFT_OK) {
        session_request q = cli_request(&o, words[first], plugins);
        q.precision = "f32";
        q.recipe = settings;
        if (session_open(&q, &s, &err) == GRAFT_OK && quantize_check_folder(&s, &err) == GRAFT_OK &&
            session_load(&s, 0, &err) == GRAFT_OK && quantize_measure(&s, &report, &err) == GRAFT_OK && o.output)
            quantize_write(&s, o.output, &err);
    }
    if (!err.code && o.json) cli_print_json(as_json(&report, o.output));
    if (!err.code && !o.json) print(&report);
    if (!err.code && !o.json && o.output) printf("written to %s\n", o.output);
    quantize_report_free(&report);
    session_close(&s);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_quantize = {
    "quantize", "pack a model's weights in few bits; the error of each layer",
    "usage: graft quantize MODEL [-o FOLDER] (--plugin NAME | --ini run.ini) [--set quantizer.KEY=VALUE]...\n"
    "                      [--overwrite] [--json]\n\n"
    "Packs the weights that the quantizer's targets select (every linear layer but the head) and prints the error of\n"
    "each: |W - W'| / |W|, and the largest difference. With -o the packed model is written as bitsandbytes does "
    "(nf4,\n"
    "fp4, 8-bit rows) or in GPTQ's tensors (2, 3, 4 or 8 bits on grids); every command reads it, and so does "
    "transformers.\n"
    "Without -o nothing is written.\n",
    run};
