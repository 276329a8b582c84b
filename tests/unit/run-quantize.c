/* Packed folders: what is written is what was measured, reads back as the same numbers, says what it is, and takes merges in
 * three ways; what no file holds is refused by name. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/adapter-folder.h"
#include "run/merge.h"
#include "run/quantize-model.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL SOURCE_DIR "/tests/golden/data/models/llama-packed"

static char root[] = "/tmp/graft-quantize-XXXXXX";
static registry *plugins;
static graft_error err;

static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
    plugins = registry_create();
    log_level_set(LOG_WARN);
}
static void end(void) {
    graft_error ignored = {0};
    file_remove_tree(root, &ignored);
    registry_free(plugins);
}
TestSuite(packed_folders, .init = begin, .fini = end, .timeout = 60);

static char *in_root(const char *name) {
    return path_join(root, name);
}

/* A recipe of overrides, with its adapters. */
static recipe *settings_of(const char *const *set, int count) {
    recipe *r = NULL;
    cr_assert_eq(recipe_load(plugins, NULL, set, count, 0, &r, NULL, &err), 0, "%s", err.text);
    return r;
}

static session loaded(const char *folder, const recipe *r, const char *adapter) {
    session s;
    const session_request q = {.model = folder,
                               .device = "cpu",
                               .precision = "f32",
                               .recipe = r,
                               .folders = &adapter,
                               .folder_count = adapter != NULL,
                               .plugins = plugins};
    cr_assert(!session_open(&q, &s, &err) && !session_load(&s, 3, &err), "%s", err.text);
    return s;
}

static float *numbers(session *s, int32_t tensor, int64_t *n) {
    int32_t count;
    const base_tensor *t = &model_tensors(s->model, &count)[tensor];
    *n = t->out * (t->in ? t->in : 1);
    float *values = mem_new((size_t)*n, sizeof *values);
    cr_assert_eq(model_read_tensor(s->model, tensor, values, &err), 0, "%s", err.text);
    return values;
}

/* Both models hold the same numbers, up to `bound` of each tensor's size. */
static void check_same(session *a, session *b, double bound) {
    int32_t count;
    const base_tensor *t = model_tensors(a->model, &count);
    for (int32_t i = 0; i < count; i++) {
        int64_t n, m;
        float *const x = numbers(a, i, &n), *const y = numbers(b, i, &m);
        double apart = 0, size = 0;
        cr_assert_eq(n, m);
        for (int64_t k = 0; k < n; k++) {
            apart += pow((double)x[k] - (double)y[k], 2);
            size += pow((double)x[k], 2);
        }
        cr_expect_leq(apart, bound * bound * size, "%s: %g of %g", t[i].name, sqrt(apart), sqrt(size));
        free(x);
        free(y);
    }
}

static void pack_with(const char *source, const char *plugin, const char *const *more, int count, const char *folder) {
    char *const named = mem_format("quantizer.plugin=%s", plugin);
    const char *set[8] = {named};
    for (int i = 0; i < count; i++)
        set[1 + i] = more[i];
    recipe *r = settings_of(set, 1 + count);
    session s = loaded(source, r, NULL);
    quantize_report report = {0};
    cr_assert_eq(quantize_measure(&s, &report, &err), 0, "%s", err.text);
    cr_assert_eq(quantize_write(&s, folder, &err), 0, "%s", err.text);
    cr_expect_gt(report.count, 0);
    session again = loaded(folder, NULL, NULL);
    check_same(&s, &again, 0);
    int32_t tensors;
    const base_tensor *t = model_tensors(again.model, &tensors);
    int32_t packed = 0;
    for (int32_t i = 0; i < tensors; i++)
        packed += t[i].tied_to < 0 && t[i].w.layout != WEIGHT_PLAIN;
    cr_expect_eq(packed, report.count, "%s: %d packed, %d read back packed", plugin, (int)report.count, (int)packed);
    quantize_report_free(&report);
    session_close(&again);
    session_close(&s);
    recipe_free(r);
    free(named);
}

static void pack(const char *plugin, const char *more, const char *folder) {
    pack_with(MODEL, strchr(plugin, '=') + 1, &more, more != NULL, folder);
}

static json_t *quantization(const char *folder) {
    char *const path = path_join(folder, "config.json");
    json_t *config = NULL;
    cr_assert_eq(json_read_file(path, 0, &config, &err), 0, "%s", err.text);
    json_t *const part = json_incref(json_object_get(config, "quantization_config"));
    json_decref(config);
    free(path);
    return part;
}

Test(packed_folders, hold_the_same_numbers_and_say_what_they_are) {
    static const char *const cases[][2] = {
        {"quantizer.plugin=quant-nf4",  NULL                         },
        {"quantizer.plugin=quant-nf4",  "quantizer.double_quant=yes" },
        {"quantizer.plugin=quant-nf4",  "quantizer.type=fp4"         },
        {"quantizer.plugin=quant-nf4",  "quantizer.block_size=32"    },
        {"quantizer.plugin=quant-int8", NULL                         },
        {"quantizer.plugin=quant-nf4",  "quantizer.exclude=down_proj"}
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *const name = mem_format("packed-%zu", i), *const folder = in_root(name);
        pack(cases[i][0], cases[i][1], folder);
        json_t *const q = quantization(folder), *const skip = json_object_get(q, "llm_int8_skip_modules");
        cr_expect_str_eq(json_string_value(json_object_get(q, "quant_method")), "bitsandbytes");
        cr_expect_eq(json_is_true(json_object_get(q, "load_in_8bit")), i == 4);
        cr_expect_eq(json_is_true(json_object_get(q, "load_in_4bit")), i != 4);
        cr_expect_eq(json_is_true(json_object_get(q, "bnb_4bit_use_double_quant")), i == 1);
        cr_expect_str_eq(json_string_value(json_object_get(q, "bnb_4bit_quant_type")),
                         i == 2 || i == 4 ? "fp4" : "nf4");
        cr_expect_eq(json_is_array(skip), i == 5, "what bitsandbytes would not leave alone by itself is listed");
        json_decref(q);
        free(name);
        free(folder);
    }
}

static void refused(const char *const *set, int count, const char *words) {
    recipe *r = settings_of(set, count);
    session s = loaded(MODEL, r, NULL);
    char *const folder = in_root("refused");
    cr_expect_neq(quantize_write(&s, folder, &err), 0);
    cr_expect(strstr(err.text, words), "\"%s\" lacks \"%s\"", err.text, words);
    cr_expect(!file_exists(folder), "nothing is written");
    err = (graft_error){0};
    free(folder);
    session_close(&s);
    recipe_free(r);
}

Test(packed_folders, hold_grids_as_gptq_does) {
    static const char *const bits[] = {"quantizer.bits=2", "quantizer.bits=3", "quantizer.bits=4", "quantizer.bits=8"};
    static const char *const more[] = {"quantizer.symmetric=no", "quantizer.symmetric=yes", "quantizer.half_scales=yes",
                                       "quantizer.exclude=down_proj, model.layers.1.mlp.up_proj"};
    for (int i = 0; i < 16; i++) {
        char *const name = mem_format("grid-%d", i), *const folder = in_root(name);
        const char *const set[] = {bits[i / 4], more[i % 4], "quantizer.group_size=24"};
        pack_with(SOURCE_DIR "/examples/quickstart/model", "quant-affine", set, 3, folder);
        json_t *const q = quantization(folder);
        cr_expect_str_eq(json_string_value(json_object_get(q, "quant_method")), "gptq");
        cr_expect_eq(json_integer_value(json_object_get(q, "bits")), "2348"[i / 4] - '0');
        cr_expect_eq(json_integer_value(json_object_get(q, "group_size")), 24);
        cr_expect_eq(json_is_true(json_object_get(q, "sym")), i % 4 == 1);
        cr_expect_eq(json_object_size(json_object_get(q, "dynamic")), i % 4 == 3 ? 5 : 0, "what stays plain is listed");
        json_decref(q);
        free(name);
        free(folder);
    }
}

Test(packed_folders, what_no_file_holds_is_refused_by_name) {
    refused((const char *[]){"quantizer.plugin=quant-affine", "quantizer.refine=2"}, 2,
            "q_proj.weight has zero points that are no whole numbers");
    refused((const char *[]){"quantizer.plugin=quant-nf4", "quantizer.targets=all-linear, embed_tokens"}, 2,
            "model.embed_tokens.weight");
}

Test(packed_folders, are_not_packed_again_nor_written_over_their_model) {
    char *const folder = in_root("packed");
    pack("quantizer.plugin=quant-nf4", NULL, folder);
    session s = loaded(folder, NULL, NULL);
    cr_expect_neq(quantize_check_folder(&s, &err), 0);
    cr_expect(strstr(err.text, "packed already"), "%s", err.text);
    err = (graft_error){0};
    cr_expect_neq(quantize_write(&s, folder, &err), 0);
    cr_expect(strstr(err.text, "the model itself"), "%s", err.text);
    session_close(&s);
    free(folder);
}

static double measured(const char *const *set, int count) {
    recipe *r = settings_of(set, count);
    session s = loaded(MODEL, r, NULL);
    quantize_report report;
    cr_assert_eq(quantize_measure(&s, &report, &err), 0, "%s", err.text);
    const double relative = report.relative;
    cr_expect_geq(report.worst->relative, relative);
    for (int32_t i = 0; i < report.count; i++)
        cr_expect(report.layers[i].relative > 0 && report.layers[i].largest > 0 && report.layers[i].bytes > 0);
    quantize_report_free(&report);
    session_close(&s);
    recipe_free(r);
    return relative;
}

Test(packed_folders, each_bit_more_halves_the_error) {
    static const char *const bits[] = {"quantizer.bits=2", "quantizer.bits=3", "quantizer.bits=4", "quantizer.bits=8"};
    double error[4];
    for (int i = 0; i < 4; i++)
        error[i] = measured((const char *[]){"quantizer.plugin=quant-affine", bits[i], "quantizer.group_size=16"}, 3);
    cr_expect_lt(error[1], 0.6 * error[0]);
    cr_expect_lt(error[2], 0.6 * error[1]);
    cr_expect_lt(error[3], 0.1 * error[2]);
    cr_expect_lt(error[3], 0.01);
    const double refined = measured((const char *[]){"quantizer.plugin=quant-affine", "quantizer.refine=20"}, 2),
                 plain = measured((const char *[]){"quantizer.plugin=quant-affine"}, 1);
    cr_expect_lt(refined, plain, "a refined zero point costs %g, a plain one %g", refined, plain);
}

/* ---- merging ---- */

/* A trained-looking LoRA folder for the model. */
static char *make_adapter(double size) {
    char *const folder = in_root("adapter");
    const char *const set[] = {"adapter.plugin=lora", "adapter.rank=4", "adapter.targets=all-linear"};
    recipe *r = settings_of(set, 3);
    session s = loaded(MODEL, r, NULL);
    int32_t params;
    const adapt_param *list = adapt_params(s.adapters, &params);
    for (int32_t p = 0; p < params; p++) {
        float *const values = mem_new((size_t)list[p].count, sizeof *values);
        for (int64_t i = 0; i < list[p].count; i++)
            values[i] = (float)(size * sin(0.37 * (double)(i + 1) * (p + 1)));
        s.device->upload(s.device, list[p].data, values, list[p].count * 4);
        free(values);
    }
    cr_assert_eq(file_make_folders(folder, &err), 0);
    cr_assert_eq(adapt_save(s.adapters, 0, folder, &err), 0, "%s", err.text);
    cr_assert_eq(adapter_folder_write(&s.specs[0], s.adapters, 0, s.model, folder, MODEL, &err), 0, "%s", err.text);
    session_close(&s);
    recipe_free(r);
    return folder;
}

/* Largest difference of the logits of two models on a few tokens. */
static double logits_apart(session *a, session *b) {
    enum { ROWS = 7 };
    const int32_t ids[ROWS] = {1, 5, 9, 40, 200, 17, 3}, positions[ROWS] = {0, 1, 2, 3, 4, 5, 6};
    const int64_t start[] = {0, ROWS}, vocab = model_descriptor(a->model)->vocab;
    const model_rows rows = {.rows = ROWS, .ids = ids, .positions = positions, .documents = 1, .start = start};
    float *got[2];
    for (int i = 0; i < 2; i++) {
        session *s = i ? b : a;
        workspace *w = NULL;
        const workspace_config config = {.rows = ROWS, .documents = 1};
        got[i] = mem_new((size_t)(ROWS * vocab), sizeof **got);
        cr_assert(!workspace_create(s->model, s->adapters, &config, &w, &err) &&
                      !model_logits(w, &rows, NULL, 0, got[i], &err),
                  "%s", err.text);
        workspace_free(w);
    }
    double apart = 0;
    for (int64_t i = 0; i < ROWS * vocab; i++)
        apart = fmax(apart, fabs((double)got[0][i] - (double)got[1][i]));
    free(got[0]);
    free(got[1]);
    return apart;
}

static merge_report merged(const char *base, const char *adapter, merge_how how, const char *to) {
    session s = loaded(base, NULL, adapter);
    merge_report report;
    cr_assert_eq(merge_write(&s, to, &how, &report, &err), 0, "%s", err.text);
    session_close(&s);
    return report;
}

static void merge_three_ways(const char *plugin, const char *more, double low, double high) {
    char *const base = in_root("base"), *const adapter = make_adapter(0.3), *const to = in_root("float"),
                *const packed = in_root("packed"), *const keep = in_root("keep");
    pack(plugin, more, base);
    session both = loaded(base, NULL, adapter);
    merge_report r = merged(base, adapter, (merge_how){.type = F32}, to);
    session s = loaded(to, NULL, NULL);
    cr_expect_eq(r.count, 14);
    cr_expect_eq(r.error, 0);
    cr_expect_lt(logits_apart(&both, &s), 1e-4, "numbers hold base and adapter");
    merge_report_free(&r);
    r = merged(base, adapter, (merge_how){.type = DTYPE_COUNT, .base = MERGE_PACKED}, packed);
    session again = loaded(packed, NULL, NULL);
    cr_expect_eq(r.count, 14);
    cr_expect(r.error > low && r.error < high, "%s loses %g", more, r.error);
    cr_expect(r.lost > r.error, "and more of the change alone: %g", r.lost);
    check_same(&s, &again, 1.0001 * r.error);
    merge_report_free(&r);
    r = merged(base, adapter, (merge_how){.type = DTYPE_COUNT, .base = MERGE_KEEP}, keep);
    char *const beside = path_join(keep, "adapter");
    session kept = loaded(keep, NULL, beside);
    cr_expect_eq(logits_apart(&both, &kept), 0);
    merge_report_free(&r);
    session *const open[] = {&both, &s, &again, &kept};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        session_close(open[i]);
    char *const texts[] = {base, adapter, to, packed, keep, beside};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
}

Test(packed_folders, of_nf4_take_a_merge_as_numbers_packed_again_or_beside) {
    merge_three_ways("quantizer.plugin=quant-nf4", "quantizer.double_quant=yes", 0.02, 0.2);
}
Test(packed_folders, of_grids_take_a_merge_as_numbers_packed_again_or_beside) {
    merge_three_ways("quantizer.plugin=quant-affine", "quantizer.bits=4", 0.02, 0.2);
}
Test(packed_folders, of_symmetric_grids_take_a_merge_as_numbers_packed_again_or_beside) {
    merge_three_ways("quantizer.plugin=quant-affine", "quantizer.symmetric=yes", 0.02, 0.2);
}
Test(packed_folders, of_8_bit_rows_take_a_merge_as_numbers_packed_again_or_beside) {
    merge_three_ways("quantizer.plugin=quant-int8", "quantizer.threshold=0", 0.0005, 0.02);
}

Test(packed_folders, a_limit_on_what_merging_loses_is_kept_before_anything_is_written) {
    char *const base = in_root("base"), *const adapter = make_adapter(0.3), *const to = in_root("merged");
    pack("quantizer.plugin=quant-int8", NULL, base);
    session s = loaded(base, NULL, adapter);
    merge_report r;
    const merge_how strict = {.type = DTYPE_COUNT, .base = MERGE_PACKED, .max_error = 1e-4};
    cr_expect_neq(merge_write(&s, to, &strict, &r, &err), 0);
    cr_expect(strstr(err.text, "the limit is 0.0001"), "%s", err.text);
    cr_expect(!file_exists(to));
    merge_report_free(&r);
    session_close(&s);
    err = (graft_error){0};
    const merge_how fair = {.type = DTYPE_COUNT, .base = MERGE_PACKED, .max_error = 0.02};
    r = merged(base, adapter, fair, to);
    merge_report_free(&r);
    s = loaded(MODEL, NULL, adapter);
    cr_expect_neq(merge_write(&s, to, &fair, &r, &err), 0);
    cr_expect(strstr(err.text, "is not packed in few bits"), "%s", err.text);
    merge_report_free(&r);
    session_close(&s);
    free(base);
    free(adapter);
    free(to);
}

/* ---- memory ---- */

/* Bits a weight of a matrix of a real model, and what the format says it takes. */
Test(packed_folders, take_the_memory_that_their_format_says) {
    static const struct {
        const char *set[4];
        double bits;
    } cases[] = {
        {{"quantizer.plugin=quant-nf4"},                                                    4 + 32.0 / 64                 },
        {{"quantizer.plugin=quant-nf4", "quantizer.double_quant=yes"},                      4 + 8.0 / 64 + 32.0 / 64 / 256},
        {{"quantizer.plugin=quant-int8"},                                                   8 + 32.0 / 2048               },
        {{"quantizer.plugin=quant-affine", "quantizer.bits=2", "quantizer.group_size=32"},  2 + 40.0 / 32                 },
        {{"quantizer.plugin=quant-affine", "quantizer.bits=3"},                             3 + 40.0 / 64                 },
        {{"quantizer.plugin=quant-affine", "quantizer.bits=4", "quantizer.symmetric=yes"},  4 + 32.0 / 64                 },
        {{"quantizer.plugin=quant-affine", "quantizer.bits=4", "quantizer.refine=1"},       4 + 64.0 / 64                 },
        {{"quantizer.plugin=quant-affine", "quantizer.bits=8", "quantizer.group_size=128"}, 8 + 40.0 / 128                }
    };
    char name[] = "w";
    const base_tensor t = {.name = name, .out = 768, .in = 2048, .tied_to = -1, .stored = BF16};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int count = 0;
        while (count < 4 && cases[i].set[count])
            count++;
        recipe *r = settings_of((const char *const *)cases[i].set, count);
        const quantize_spec spec = {.component = r->quantizer.use.component, .config = r->quantizer.use.config};
        quantize *q = NULL;
        cr_assert_eq(quantize_create(&spec, &q, &err), 0, "%s", err.text);
        const double bits = 8.0 * (double)quantize_bytes(q, &t) / (double)(t.out * t.in);
        cr_expect_float_eq(bits, cases[i].bits, 0.03 * cases[i].bits, "case %zu: %g bits a weight, the format says %g",
                           i, bits, cases[i].bits);
        quantize_free(q);
        recipe_free(r);
    }
}
