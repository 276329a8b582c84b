/* graft merge — adapters added into the weights they adapt: a complete model folder. */
#include "run/merge.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

enum { DTYPE = 256, BASE, MAX_ERROR, KEEP_ZEROS, FILL_ZEROS };

static int own(void *context, int val, const char *text) {
    static const char *const words[] = {"float", "packed", "keep"};
    merge_how *const how = context;
    if (val == DTYPE) return cli_float_type(&command_merge, text, &how->type);
    if (val == MAX_ERROR) return cli_real("--max-error", text, 0, 1e6, &how->max_error);
    if (val == KEEP_ZEROS || val == FILL_ZEROS) {
        how->zeros = val == KEEP_ZEROS ? MERGE_ALL_ZEROS : MERGE_NO_ZEROS;
        return GRAFT_OK;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(text, words[i]) == 0) {
            how->base = (merge_base)i;
            return GRAFT_OK;
        }
    return cli_usage(&command_merge, "--base %s: must be float, packed or keep", text);
}

/* The [quantizer] of an INI; its adapters are not meant here. */
static int read_quantizer(const cli_options *o, registry *plugins, recipe **out, graft_error *err) {
    if (!o->ini) return GRAFT_OK;
    if (recipe_load(plugins, o->ini, o->set, o->set_count, 0, out, NULL, err) == GRAFT_OK) (*out)->adapter_count = 0;
    return err->code;
}

static json_t *as_json(const merge_report *r, const char *folder) {
    json_t *const layers = json_array();
    for (int32_t i = 0; i < r->count; i++)
        json_array_append_new(layers, json_pack("{s:s, s:f, s:f}", "name", r->layers[i].name, "error",
                                                r->layers[i].error, "lost", r->layers[i].lost));
    return json_pack("{s:s, s:I, s:f, s:f, s:s, s:I, s:I, s:o}", "path", folder, "tensors", (json_int_t)r->count,
                     "error", r->error, "lost", r->lost, "worst", r->worst, "untied", (json_int_t)r->untied, "kept",
                     (json_int_t)r->kept, "layers", layers);
}

static void print(const merge_report *r, merge_base base) {
    if (base == MERGE_KEEP) {
        printf("the base stays packed, the adapter lies beside it\n");
        return;
    }
    if (base == MERGE_PACKED) printf("%-48s %16s %16s\n", "layer", "of the weight", "of the change");
    for (int32_t i = 0; base == MERGE_PACKED && i < r->count; i++)
        printf("%-48s %15.3f%% %15.1f%%\n", r->layers[i].name, 100 * r->layers[i].error, 100 * r->layers[i].lost);
    printf("%d tensor%s changed; writing them costs at most %.2g of one (%s)\n", (int)r->count, plural(r->count),
           r->error, r->worst);
    if (r->kept)
        printf("the zeros of %lld pruned tensors were kept: there the adapter's part is gone (--fill-zeros adds it)\n",
               (long long)r->kept);
    if (r->untied) printf("the head no longer shares the embedding's numbers\n");
}

/* Said last, where it is read: a table of all layers may stand above. */
static void warn_of_loss(const merge_report *r, merge_base base) {
    if (base != MERGE_PACKED || r->lost <= 0.5) return;
    fflush(stdout);
    log_warn("packing again moved a layer's weights by up to %.0f%% of the adapter's own change, so that much of the "
             "training may be lost: the steps between codes are wider than the change. --base float or --base keep "
             "lose nothing of it",
             100 * r->lost);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"dtype",            required_argument, NULL, DTYPE},
        {"base",              required_argument, NULL, BASE},
        {"max-error",                  required_argument, NULL, MAX_ERROR},
        {"keep-zeros",no_argument, NULL, KEEP_ZEROS},
        {"fill-zeros",              no_argument, NULL, FILL_ZEROS},
        {0       }
    };
    cli_options o;
    merge_how how = {.type = DTYPE_COUNT};
    int first;
    graft_error err = {0};
    for (int w = 1; w < count; w++)
        if (strncmp(words[w], "--combine", 9) == 0) return cli_combine(count, words);
    if (cli_parse(&command_merge, "aojtswIq", more, own, &how, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (!o.output || !o.adapter_count)
        return cli_usage(&command_merge, "%s is missing", o.output ? "--adapter DIR" : "-o FOLDER");
    if (cli_free_folder(o.output, &o, &err)) return cli_fail(&err);
    registry *plugins = registry_create();
    session s = {0};
    merge_report report = {0};
    recipe *settings = NULL, *base = NULL;
    read_quantizer(&o, plugins, &settings, &err);
    cli_base(&o, plugins, &base, &err);
    session_request q = cli_request(&o, words[first], plugins);
    q.precision = "f32";
    q.recipe = settings;
    q.base = base;
    if (!err.code && session_open(&q, &s, &err) == GRAFT_OK && session_load(&s, 0, &err) == GRAFT_OK)
        merge_write(&s, o.output, &how, &report, &err);
    if (!err.code && o.json) cli_print_json(as_json(&report, o.output));
    if (!err.code && !o.json) print(&report, how.base);
    if (!err.code && !o.json) printf("written to %s\n", o.output);
    if (!err.code) warn_of_loss(&report, how.base);
    merge_report_free(&report);
    session_close(&s);
    recipe_free(settings);
    recipe_free(base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_merge = {
    "merge", "add adapters into a model's weights, or into one another",
    "usage: graft merge MODEL --adapter DIR... -o FOLDER [--dtype f32|bf16|f16] [--base float|packed|keep]\n"
    "                   [--max-error E] [--keep-zeros | --fill-zeros] [--ini run.ini | --quantizer FILE.ini|none]\n"
    "                   [--overwrite] [--json]\n"
    "       graft merge MODEL --adapter DIR --adapter DIR... --combine linear|ties|dare|svd -o FOLDER\n"
    "                   [--weights 0.7,0.3] [--density 0.5] [--rank R] [--seed N] [--json]\n\n"
    "Writes a complete model folder that needs no adapter. Without --dtype every tensor "
    "keeps the type the base stores it in;\n"
    "the largest error of that rounding is reported. Techniques that cannot be added into "
    "weights are refused by name.\n"
    "An adapter whose training quantized the base (DIR/quantizer.ini) is merged into the weights it was trained on:\n"
    "those that the quantizer leaves; --quantizer none merges into the weights as they are stored.\n"
    "--base says what becomes of a base in few bits (a bitsandbytes folder, or MODEL packed by the "
    "[quantizer] of --ini):\n"
    "  float    its weights are written as numbers (default)\n"
    "  packed   merged weights are packed again as they were; prints what each loses, of the weight and\n"
    "           of the change; a short training may vanish between two codes\n"
    "  keep     it stays as it is, with the adapter beside it in FOLDER/adapter\n"
    "--max-error E makes it an error, before anything is written, when a tensor loses more: "
    "|written - W'| / |W'|.\n"
    "Zeros of a base that was pruned (its sparsity.json says where) stay zero, which is not quite what the adapter "
    "computed:\n"
    "--fill-zeros merges exactly instead, --keep-zeros keeps the zeros of any base.\n\n"
    "--combine writes one LoRA instead, out of several of the same base: linear adds their A and B (PEFT's rule), "
    "ties\n"
    "and dare keep the share --density of the entries first, svd adds the updates themselves and cuts the sum to "
    "--rank.\n",
    run};
