/* Pruning in runs: zeros last through training, merging, resuming and packing, and what cannot be is refused before weights are
 * read. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS = 8,
    WEIGHTS = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 80 * 32)
}; /* of all linear layers of the kit's model */
#define PRUNE "[adapter.prune]\nplugin = prune\ntargets = all-linear\n"
#define LORA  "[adapter.lora]\nplugin = lora\nrank = 4\ntargets = all-linear\n"
#define FULL  "[adapter.full]\nplugin = full\n"
#define TRAIN "[optimizer]\nplugin = adamw\nlr = 0.01\n[train]\nsteps = 8\n"
#define CUBIC "every = 2\nratio = 0.6\n"

static graft_error err;

static void train(const char *folder, const char *name, const char *sections, const char *options) {
    char *text;
    kit_ini(folder, name, sections);
    cr_assert_eq(kit_train(folder, name, options, &text), 0, "%s", text);
    free(text);
}

static safetensors *open_model(const char *folder, const char *name) {
    char *const path = mem_format("%s/%s/model.safetensors", folder, name);
    safetensors *st = NULL;
    cr_assert_eq(safetensors_open(path, &st, &err), GRAFT_OK, "%s", err.text);
    free(path);
    return st;
}

static int is_linear(const tensor_info *t) {
    return t->rank == 2 && strstr(t->name, "_proj");
}

static float *values(const safetensors *st, const tensor_info *t) {
    float *const to = mem_new((size_t)t->count, sizeof *to);
    cr_assert_eq(safetensors_read_as(st, t, to, F32, &err), GRAFT_OK, "%s", err.text);
    return to;
}

/* Zeros of the linear layers of FOLDER/NAME, their share; `least`: at least these are zero too, those of FOLDER/least. */
static double zeros(const char *folder, const char *name, const char *least) {
    safetensors *const st = open_model(folder, name), *const other = least ? open_model(folder, least) : NULL;
    int64_t count = 0, lost = 0, all = 0;
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const tensor_info *const t = safetensors_at(st, i), *was = NULL;
        if (!is_linear(t)) continue;
        float *const w = values(st, t);
        if (other) safetensors_need(other, t->name, &was, &err);
        float *const old = was ? values(other, was) : NULL;
        for (int64_t k = 0; k < t->count; k++) {
            count += w[k] == 0;
            lost += old && old[k] == 0 && w[k] != 0;
        }
        all += t->count;
        free(w);
        free(old);
    }
    cr_expect_eq(lost, 0, "%lld zeros of %s are none in %s", (long long)lost, least ? least : "", name);
    cr_assert_eq(all, WEIGHTS);
    safetensors_close(st);
    safetensors_close(other);
    return (double)count / (double)all;
}

static json_t *read_json(const char *folder, const char *path) {
    char *const full = path_join(folder, path);
    json_t *root = NULL;
    cr_assert_eq(json_read_file(full, 0, &root, &err), GRAFT_OK, "%s", err.text);
    free(full);
    return root;
}

static void refused(const char *sections, const char *why) {
    char *const folder = kit_make(STEPS), *text;
    kit_ini(folder, "run", sections);
    cr_expect_neq(kit_train(folder, "run", "--quiet", &text), 0, "%s", sections);
    cr_expect(strstr(text, why), "%s instead of \"%s\"", text, why);
    cr_expect(!kit_has(folder, "run"), "something was written");
    free(text);
    kit_remove(folder);
}

/* ---- at once ---- */

Test(prune, every_method_leaves_the_share_it_was_asked_for) {
    static const char *const methods[] = {"magnitude\nexact = yes", "global", "wanda", "nm", "wanda_nm"};
    char *const folder = kit_make(STEPS);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        char *const sections =
            mem_format("[adapter]\nplugin = prune\ntargets = all-linear\nratio = 0.5\nmethod = %s\n", methods[m]);
        char *const name = mem_format("run%d", (int)m);
        train(folder, name, sections, "--quiet");
        cr_expect_float_eq(zeros(folder, name, NULL), 0.5, 1e-4, "%s", methods[m]);
        free(sections);
        free(name);
    }
    kit_remove(folder);
}

Test(prune, a_folder_says_what_was_pruned) {
    char *const folder = kit_make(STEPS);
    train(folder, "run", "[adapter]\nplugin = prune\nmethod = nm\ntargets = q_proj, down_proj\n", "--quiet");
    json_t *const root = read_json(folder, "run/sparsity.json"), *const tensors = json_object_get(root, "tensors");
    cr_expect_float_eq(json_number_value(json_object_get(root, "sparsity")), 0.5, 1e-9);
    cr_expect_float_eq(json_number_value(json_object_get(json_object_get(root, "layers"), "1")), 0.5, 1e-9);
    cr_expect_eq(json_object_size(tensors), 4);
    cr_expect(json_object_get(tensors, "model.layers.1.mlp.down_proj.weight"));
    json_decref(root);
    kit_remove(folder);
}

Test(prune, a_mask_takes_a_bit_a_weight) {
    char *const folder = kit_make(STEPS);
    train(folder, "run", PRUNE "method = wanda\n" LORA TRAIN, "--quiet");
    char *const path = path_join(folder, "run/checkpoints/step-000008/state.safetensors");
    safetensors *st = NULL;
    int64_t bytes = 0;
    cr_assert_eq(safetensors_open(path, &st, &err), GRAFT_OK, "%s", err.text);
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const tensor_info *const t = safetensors_at(st, i);
        const size_t length = strlen(t->name);
        if (strcmp(t->name + length - 2, ".M") == 0) bytes += t->bytes;
    }
    cr_expect_eq(bytes, WEIGHTS / 8);
    safetensors_close(st);
    free(path);
    kit_remove(folder);
}

Test(prune, zeros_stay_zero_in_few_bits) {
    static const char *const quantizers[] = {"quant-nf4", "quant-int8", "quant-affine"};
    char *const folder = kit_make(STEPS);
    for (int q = 0; q < 3; q++) {
        char *const sections = mem_format(PRUNE "method = nm\n" LORA TRAIN "[quantizer]\nplugin = %s\n", quantizers[q]);
        train(folder, quantizers[q], sections, "--quiet");
        cr_expect_geq(zeros(folder, quantizers[q], NULL), 0.5, "%s", quantizers[q]);
        free(sections);
    }
    kit_remove(folder);
}

/* ---- step by step ---- */

/* 0.6 - 0.6·(1 - t/8)³ at t = 2, 4, 6, 8 */
Test(prune, the_schedule_is_cubic_and_its_metrics_say_so) {
    char *const folder = kit_make(STEPS);
    train(folder, "run", PRUNE "exact = yes\n" CUBIC FULL TRAIN, "--quiet");
    char *const text = kit_read(folder, "run/metrics.jsonl");
    const char *at = text;
    for (int step = 1; step <= STEPS; step++) {
        at = strstr(at, "\"sparsity\": ");
        cr_assert(at, "step %d says nothing", step);
        at += strlen("\"sparsity\": ");
        cr_expect_float_eq(strtod(at, NULL), 0.6 - 0.6 * pow(1 - step / 2 * 2 / 8.0, 3), 1e-3, "step %d", step);
    }
    cr_expect_float_eq(zeros(folder, "run", NULL), 0.6, 1e-3);
    free(text);
    kit_remove(folder);
}

static void check_resume(const char *sections, int adapter) {
    char *const folder = kit_make(STEPS);
    train(folder, "whole", sections, "--quiet");
    train(folder, "parts", sections, "--quiet --stop-after 5");
    train(folder, "parts", sections, "--quiet --resume");
    cr_expect(kit_same(folder, "whole", "parts", "model.safetensors"), "%s", sections);
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"), "%s", sections);
    if (adapter) cr_expect(kit_same(folder, "whole", "parts", "lora/adapter_model.safetensors"), "%s", sections);
    kit_remove(folder);
}

Test(prune, a_frozen_base_that_is_pruned_step_by_step_resumes) {
    check_resume(PRUNE "method = wanda\n" CUBIC LORA TRAIN, 1);
}

Test(prune, a_trained_base_under_one_threshold_resumes) {
    check_resume(PRUNE "method = global\n" CUBIC FULL TRAIN, 0);
}

Test(prune, a_packed_base_pruned_by_wanda_resumes) {
    check_resume(PRUNE "method = wanda\n" LORA TRAIN "[quantizer]\nplugin = quant-nf4\n", 1);
}

/* ---- later ---- */

Test(prune, muon_moves_every_weight_and_the_zeros_stay) {
    char *const folder = kit_make(STEPS);
    train(folder, "run", PRUNE "method = nm\n" FULL "[optimizer]\nplugin = muon\nlr = 0.01\n[train]\nsteps = 8\n",
          "--quiet");
    cr_expect_float_eq(zeros(folder, "run", NULL), 0.5, 1e-4);
    kit_remove(folder);
}

Test(prune, merging_keeps_the_zeros_of_a_pruned_base) {
    char *const folder = kit_make(STEPS), *text;
    train(folder, "run", PRUNE "method = nm\n" LORA TRAIN, "--quiet");
    cr_assert_eq(kit_graft(folder, "merge run --adapter run/lora -o merged", &text), 0, "%s", text);
    cr_expect(strstr(text, "zeros of 14 pruned tensors were kept"), "%s", text);
    free(text);
    cr_assert_eq(kit_graft(folder, "merge run --adapter run/lora -o filled --fill-zeros", &text), 0, "%s", text);
    free(text);
    cr_expect_float_eq(zeros(folder, "merged", "run"), 0.5, 1e-3);
    cr_expect_lt(zeros(folder, "filled", NULL), 0.01);
    cr_expect(kit_has(folder, "merged/sparsity.json") && !kit_has(folder, "filled/sparsity.json"));
    kit_remove(folder);
}

Test(prune, a_pruned_model_is_trained_on_with_its_zeros) {
    char *const folder = kit_make(STEPS);
    train(folder, "run", "[adapter]\nplugin = prune\nmethod = wanda\nratio = 0.7\ntargets = all-linear\n", "--quiet");
    char *const options = mem_format("--quiet --set model.path=%s/run", folder);
    train(folder, "more", PRUNE "method = keep\n" FULL TRAIN, options);
    cr_expect_float_eq(zeros(folder, "more", "run"), zeros(folder, "run", NULL), 1e-4);
    free(options);
    kit_remove(folder);
}

/* ---- what cannot be ---- */

Test(prune, nonsense_is_refused_before_weights_are_read) {
    refused("[adapter]\nplugin = prune\nratio = 1\n" TRAIN, "ratio = 1 is outside its bounds");
    refused("[adapter]\nplugin = prune\nratio = -0.5\n" TRAIN, "ratio = -0.5 is outside its bounds");
    refused(PRUNE "method = nm\nn = 4\nm = 4\n" LORA TRAIN, "n = 4 must be below m = 4");
    refused(PRUNE "method = wanda_nm\nm = 5\n" LORA TRAIN, "m = 5 does not divide the 32 inputs");
    refused(PRUNE "end = 4\n" LORA TRAIN, "belong to a schedule");
    refused(PRUNE CUBIC "initial = 0.7\n" LORA TRAIN, "initial is above ratio");
    refused(PRUNE CUBIC "begin = 6\nend = 4\n" LORA TRAIN, "end must be behind begin");
    refused(PRUNE CUBIC "end = 9\n" LORA TRAIN, "the run is shorter than its schedule");
    refused(PRUNE CUBIC, "nothing is trained");
    refused("[adapter]\nplugin = prune\ntargets = lm_head\n", "which model.embed_tokens shares");
}

Test(prune, few_bits_that_cannot_hold_a_mask_are_refused) {
    refused(PRUNE LORA TRAIN "[quantizer]\nplugin = quant-affine\nrefine = 5\n", "does not hold a weight of 0 as 0");
    refused(PRUNE CUBIC LORA TRAIN "[quantizer]\nplugin = quant-nf4\n", "packed once");
}

Test(prune, a_base_packed_in_the_files_is_refused_without_a_quantizer) {
    char *const folder = kit_make(STEPS), *text;
    cr_assert_eq(kit_graft(folder, "quantize model -o packed --set quantizer.plugin=quant-nf4", &text), 0, "%s", text);
    free(text);
    char *const options = mem_format("--quiet --set model.path=%s/packed", folder);
    kit_ini(folder, "run", PRUNE LORA TRAIN);
    cr_expect_neq(kit_train(folder, "run", options, &text), 0);
    cr_expect(strstr(text, "lies packed in the files"), "%s", text);
    free(text);
    free(options);
    kit_remove(folder);
}
