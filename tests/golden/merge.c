/* merge — adapters of the goldens merged into their base: the weights are those that PEFT merges, and the folder alone gives the
 * logits that base and adapter give together. */
#include "run/merge.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "formats/safetensors.h"
#include "run/data.h"
#include "run/slices.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/adapters"

static graft_error err;

static double number(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    cr_assert(json_is_number(value), "the case has no number %s", key);
    return json_number_value(value);
}

static float *values_of(const safetensors *st, const char *name, int64_t *count) {
    const tensor_info *t = NULL;
    cr_assert_eq(safetensors_need(st, name, &t, &err), GRAFT_OK, "%s", err.text);
    float *const values = mem_new((size_t)t->count + 1, sizeof *values);
    cr_assert_eq(safetensors_read_as(st, t, values, F32, &err), GRAFT_OK, "%s", err.text);
    *count = t->count;
    return values;
}

static void check_weights(const char *name, const char *folder, const char *out) {
    char *const path = path_join(folder, "merged.safetensors");
    safetensors *want = NULL, *got = NULL;
    cr_assert(!safetensors_open(path, &want, &err) && !weights_open(out, &got, &err), "%s", err.text);
    for (int64_t t = 0; t < safetensors_count(want); t++) {
        int64_t n, m;
        const char *const tensor = safetensors_at(want, t)->name;
        float *const a = values_of(got, tensor, &n), *const b = values_of(want, tensor, &m);
        cr_assert_eq(n, m, "%s: %s has another size", name, tensor);
        for (int64_t i = 0; i < n; i++) /* a sum of rank products of f32 numbers, and one more sum */
            cr_assert_leq(fabs((double)a[i] - (double)b[i]), 2e-6 * (1 + fabs((double)b[i])),
                          "%s: %s[%lld] is %g, PEFT has %g", name, tensor, (long long)i, (double)a[i], (double)b[i]);
        free(a);
        free(b);
    }
    safetensors_close(want);
    safetensors_close(got);
    free(path);
}

/* Largest difference of the merged folder's logits to those of the case, on rows that are no padding. */
static double logits_apart(const char *merged, const char *folder) {
    session s;
    sequence_list batch = {0};
    slice_list slices = {0};
    workspace *w = NULL;
    safetensors *st = NULL;
    int64_t rows, width, count;
    char *const path = path_join(folder, "case.safetensors");
    const session_request q = {.model = merged, .device = "cpu", .precision = "f32"};
    cr_assert(!session_open(&q, &s, &err) && !session_load(&s, 0, &err) && !safetensors_open(path, &st, &err) &&
                  !data_tensors_read(st, "", &batch, &rows, &width, &err),
              "%s", err.text);
    const int64_t vocab = model_descriptor(s.model)->vocab;
    const slice_limits limits = {.vocab = vocab, .rows = rows * width};
    const workspace_config config = {.rows = rows * width, .documents = rows};
    cr_assert(!slices_cut(&batch, &limits, &slices, &err) && !workspace_create(s.model, NULL, &config, &w, &err), "%s",
              err.text);
    cr_assert_eq(slices.count, 1);
    float *const got = mem_new((size_t)(slices.rows * vocab), sizeof *got), *const want =
                                                                                values_of(st, "logits", &count);
    cr_assert_eq(model_logits(w, &slices.at[0], NULL, slices.rows, got, &err), GRAFT_OK, "%s", err.text);
    double apart = 0;
    for (int64_t r = 0; r < slices.rows; r++) {
        const int64_t row = (slices.origin[r] >> 32) * width + (slices.origin[r] & 0xffffffff);
        for (int64_t v = 0; v < vocab; v++)
            apart = fmax(apart, fabs((double)got[r * vocab + v] - (double)want[row * vocab + v]));
    }
    free(got);
    free(want);
    free(path);
    workspace_free(w);
    slices_free(&slices);
    sequence_list_free(&batch);
    safetensors_close(st);
    session_close(&s);
    return apart;
}

static void check_case(const char *name) {
    char *const folder = path_join(GOLDEN, name), *const file = path_join(folder, "case.json");
    json_t *meta = NULL;
    session s;
    merge_report report;
    if (!file_exists(file)) {
        fprintf(stderr, "skipped: %s is not there\n", file);
        cr_skip_test();
    }
    char out[] = "/tmp/graft-merge-XXXXXX";
    cr_assert(mkdtemp(out));
    cr_assert_eq(json_read_file(file, 0, &meta, &err), GRAFT_OK, "%s", err.text);
    const char *const base = json_string_value(json_object_get(meta, "base"));
    char *const base_folder = mem_format("%s/%s", base[0] == '_' ? GOLDEN : SHARED_DIR, base);
    registry *const plugins = registry_create();
    const char *const folders[] = {folder};
    const session_request q = {.model = base_folder,
                               .device = "cpu",
                               .precision = "f32",
                               .folders = folders,
                               .folder_count = 1,
                               .plugins = plugins};
    cr_assert(!session_open(&q, &s, &err) && !session_load(&s, 0, &err) &&
                  !merge_write(&s, out, &(merge_how){.type = DTYPE_COUNT}, &report, &err),
              "%s: %s", name, err.text);
    cr_expect_gt(report.count, 0);
    cr_expect_eq(report.error, 0, "%s: the bases are f32, yet merging lost %g", name, report.error);
    merge_report_free(&report);
    session_close(&s);
    registry_free(plugins);
    check_weights(name, folder, out);
    const double apart = logits_apart(out, folder), bound = number(json_object_get(meta, "tolerances"), "logits_abs");
    cr_expect_leq(apart, bound, "%s: merged logits differ by %g, allowed %g", name, apart, bound);
    cr_assert_eq(file_remove_tree(out, &err), GRAFT_OK);
    json_decref(meta);
    free(base_folder);
    free(folder);
    free(file);
}

Test(merge, lora) {
    check_case("lora-all-linear-r4");
    check_case("lora-qv-r8");
    check_case("lora-gemma3");
}
Test(merge, lora_of_some_layers_and_with_patterns) {
    check_case("lora-layers-subset");
    check_case("lora-patterns");
}
Test(merge, lora_with_trained_biases) {
    check_case("lora-bias-all");
    check_case("lora-bias-only");
}
/* The part that left the base comes back: what PEFT merges of the converted folder. */
Test(merge, pissa_and_olora_into_the_base_as_it_was) {
    check_case("pissa-r8");
    check_case("olora-r8");
}
Test(merge, rslora) {
    check_case("rslora-r16");
}
/* PEFT writes into the tied pair what belongs to one half; here the other half keeps its numbers. */
Test(merge, an_adapted_half_of_a_tied_pair_is_untied) {
    check_case("lora-embedding");
    check_case("lora-save-lm-head");
    check_case("lora-save-embed");
}
Test(merge, every_other_technique_that_a_weight_can_hold) {
    static const char *const names[] = {"dora-r8", "dora-gemma3", "ia3",      "oft-b8",
                                        "loha-r4", "lokr-r4",     "vera-r16", "adalora"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_case(names[i]);
}
