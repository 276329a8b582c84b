/* Techniques that rewrite base weights: what they write is right without the run that made it, and they resume. */
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

#define TRAIN "[optimizer]\nplugin = adamw\nlr = 0.01\n[train]\nsteps = 8\n"

static graft_error err;

static void train(const char *folder, const char *name, const char *sections) {
    char *text;
    kit_ini(folder, name, sections);
    cr_assert_eq(kit_train(folder, name, "--quiet", &text), 0, "%s", text);
    free(text);
}

static json_t *read_json(const char *folder, const char *path) {
    char *const full = path_join(folder, path);
    json_t *root = NULL;
    cr_assert_eq(json_read_file(full, 0, &root, &err), GRAFT_OK, "%s", err.text);
    free(full);
    return root;
}

static double result(const char *folder, const char *name, const char *key) {
    char *const path = mem_format("%s/result.json", name);
    json_t *const root = read_json(folder, path);
    const double value = json_is_null(json_object_get(root, key)) ? NAN : json_number_value(json_object_get(root, key));
    json_decref(root);
    free(path);
    return value;
}

/* ---- PiSSA and OLoRA ---- */

/* The folder, a plain LoRA on the base as it was, must give the loss that the run ended with: a run that begins from it and
 * learns nothing measures that. */
static void check_folder_is_plain_lora(const char *sections, const char *rank) {
    char *const folder = kit_make(8);
    train(folder, "split", sections);
    json_t *const config = read_json(folder, "split/adapter_config.json");
    char *const r = json_dumps(json_object_get(config, "r"), JSON_ENCODE_ANY);
    cr_expect(json_is_true(json_object_get(config, "init_lora_weights")));
    cr_expect_str_eq(r, rank);
    free(r);
    json_decref(config);
    char *const again = mem_format("[adapter]\nplugin = lora\nstart = %s/split\n[optimizer]\nplugin = sgd\nlr = 0\n"
                                   "[train]\nsteps = 1\n",
                                   folder);
    train(folder, "again", again);
    cr_expect_lt(result(folder, "split", "eval_after"), result(folder, "split", "eval_before"));
    cr_expect_float_eq(result(folder, "again", "eval_before"), result(folder, "split", "eval_after"), 1e-4);
    free(again);
    kit_remove(folder);
}

Test(rewrite, what_pissa_writes_is_a_plain_lora_of_the_base) {
    check_folder_is_plain_lora("[adapter]\nplugin = pissa\nrank = 4\nalpha = 8\ntargets = all-linear\n" TRAIN, "8");
}

Test(rewrite, what_olora_writes_is_a_plain_lora_of_the_base) {
    check_folder_is_plain_lora("[adapter]\nplugin = olora\nrank = 4\nalpha = 4\ntargets = all-linear\n" TRAIN, "8");
}

Test(rewrite, ranks_of_patterns_are_doubled_too) {
    check_folder_is_plain_lora("[adapter]\nplugin = pissa\nrank = 4\nalpha = 8\ntargets = all-linear\n"
                               "rank_pattern = q_proj:2, down_proj:6\nalpha_pattern = v_proj:3\n" TRAIN,
                               "8");
}

Test(rewrite, pissa_changes_nothing_before_training) {
    char *const folder = kit_make(8);
    train(folder, "lora", "[adapter]\nplugin = lora\nrank = 4\ntargets = all-linear\n" TRAIN);
    train(folder, "pissa", "[adapter]\nplugin = pissa\nrank = 4\ntargets = all-linear\n" TRAIN);
    cr_expect_float_eq(result(folder, "lora", "eval_before"), result(folder, "pissa", "eval_before"), 1e-5);
    kit_remove(folder);
}

Test(rewrite, a_weight_that_another_module_shares_is_not_rewritten) {
    char *const folder = kit_make(8), *text;
    kit_ini(folder, "tied", "[adapter]\nplugin = pissa\nrank = 4\ntargets = lm_head, q_proj\n" TRAIN);
    cr_expect_neq(kit_train(folder, "tied", "--quiet", &text), 0);
    cr_expect(strstr(text, "pissa at lm_head") && strstr(text, "embed_tokens"), "%s", text);
    free(text);
    kit_remove(folder);
}

static void check_resume(const char *sections, const char *file) {
    char *const folder = kit_make(8), *text;
    train(folder, "whole", sections);
    kit_ini(folder, "parts", sections);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --stop-after 3", &text), 0, "%s", text);
    free(text);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --resume", &text), 0, "%s", text);
    free(text);
    cr_expect(kit_same(folder, "whole", "parts", file), "%s differs", file);
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"), "metrics differ");
    kit_remove(folder);
}

Test(rewrite, pissa_resumes_on_the_base_it_began_with) {
    check_resume("[adapter]\nplugin = pissa\nrank = 4\ntargets = all-linear\n" TRAIN, "adapter_model.safetensors");
}

Test(rewrite, pissa_resumes_on_a_quantized_base) {
    check_resume("[adapter]\nplugin = pissa\nrank = 4\ntargets = all-linear\n[quantizer]\nplugin = quant-nf4\n" TRAIN,
                 "adapter_model.safetensors");
}

/* ---- LoftQ ---- */

#define LOFTQ   "[adapter]\nplugin = loftq\nrank = 4\nalpha = 4\ntargets = all-linear\n"
#define MEASURE "[optimizer]\nplugin = sgd\nlr = 0\n[train]\nsteps = 1\n"

/* A run that begins from the adapter of `from` on the model MODEL and learns nothing: its exit code, messages in *text. */
static int measure(const char *folder, const char *name, const char *model, const char *from, const char *more,
                   char **text) {
    char *const sections = mem_format("[adapter]\nplugin = lora\nstart = %s/%s\n" MEASURE "%s", folder, from, more);
    char *const options = mem_format("--quiet --set model.path=%s/%s", folder, model);
    kit_ini(folder, name, sections);
    const int status = kit_train(folder, name, options, text);
    free(sections);
    free(options);
    return status;
}

Test(rewrite, loftq_of_one_round_stands_alone_on_the_quantized_base) {
    char *const folder = kit_make(8), *text;
    train(folder, "one", LOFTQ "[quantizer]\nplugin = quant-affine\nbits = 2\n" TRAIN);
    json_t *const config = read_json(folder, "one/adapter_config.json");
    cr_expect(json_is_true(json_object_get(config, "init_lora_weights")), "PEFT would begin anew");
    json_decref(config);
    cr_expect(!kit_has(folder, "one/base"));
    cr_assert_eq(measure(folder, "again", "model", "one", "[quantizer]\nplugin = quant-affine\nbits = 2\n", &text), 0,
                 "%s", text);
    cr_expect_float_eq(result(folder, "again", "eval_before"), result(folder, "one", "eval_after"), 1e-6);
    free(text);
    kit_remove(folder);
}

static void check_loftq_base(const char *quantizer) {
    char *const folder = kit_make(8), *text;
    char *const sections = mem_format(LOFTQ "iterations = 3\n[quantizer]\nplugin = %s\n" TRAIN, quantizer);
    train(folder, "three", sections);
    json_t *const config = read_json(folder, "three/adapter_config.json");
    char *const base = mem_format("%s/three/base", folder);
    cr_expect_str_eq(json_string_value(json_object_get(config, "base_model_name_or_path")), base);
    cr_expect(kit_has(folder, "three/base/config.json"));
    json_decref(config);
    cr_assert_eq(measure(folder, "again", "three/base", "three", "", &text), 0, "%s", text);
    cr_expect_float_eq(result(folder, "again", "eval_before"), result(folder, "three", "eval_after"), 1e-6);
    free(text);
    cr_expect_neq(measure(folder, "wrong", "model", "three", "[quantizer]\nplugin = quant-nf4\n", &text), 0);
    cr_expect(strstr(text, "belongs to another base"), "%s", text);
    free(text);
    free(base);
    free(sections);
    kit_remove(folder);
}

Test(rewrite, loftq_of_several_rounds_writes_the_base_it_belongs_to) {
    check_loftq_base("quant-nf4\ndouble_quant = yes");
    check_loftq_base("quant-affine\nbits = 4");
}

Test(rewrite, loftq_of_several_rounds_resumes) {
    check_resume(LOFTQ "iterations = 2\n[quantizer]\nplugin = quant-nf4\n" TRAIN, "adapter_model.safetensors");
}

Test(rewrite, a_base_that_no_file_holds_is_refused_before_training) {
    char *const folder = kit_make(8), *text;
    kit_ini(folder, "two", LOFTQ "iterations = 2\n[quantizer]\nplugin = quant-affine\nrefine = 2\n" TRAIN);
    cr_expect_neq(kit_train(folder, "two", "--quiet", &text), 0);
    cr_expect(strstr(text, "zero points that are no whole numbers") && strstr(text, "two/base"), "%s", text);
    cr_expect(!kit_has(folder, "two/metrics.jsonl"));
    free(text);
    kit_remove(folder);
}

Test(rewrite, a_converted_pissa_is_refused_on_another_base) {
    char *const folder = kit_make(8), *text;
    train(folder, "pissa", "[adapter]\nplugin = pissa\nrank = 4\ntargets = all-linear\n" TRAIN);
    train(folder, "other", "[adapter]\nplugin = full\n" TRAIN);
    cr_expect_neq(measure(folder, "wrong", "other", "pissa", "", &text), 0);
    cr_expect(strstr(text, "belongs to another base"), "%s", text);
    free(text);
    kit_remove(folder);
}

/* ---- pruning ---- */

#define PRUNE "[adapter.prune]\nplugin = prune\ntargets = all-linear\n"

/* Zeros of the first query matrix of the model that the run wrote: their share. */
static double zeros_of(const char *folder, const char *name, int neighbours) {
    int64_t count, zeros = 0;
    char *const file = mem_format("%s/model.safetensors", name);
    float *const w = kit_tensor(folder, file, "model.layers.0.self_attn.q_proj.weight", &count);
    for (int64_t i = 0; i < count; i += 4) {
        int here = 0;
        for (int64_t k = i; k < i + 4; k++)
            here += w[k] == 0;
        if (neighbours) cr_expect_eq(here, 2, "%d zeros among four neighbours", here);
        zeros += here;
    }
    free(w);
    free(file);
    return (double)zeros / (double)count;
}

Test(rewrite, pruning_alone_writes_the_pruned_model) {
    char *const folder = kit_make(8);
    train(folder, "pruned", "[adapter]\nplugin = prune\nmethod = nm\ntargets = all-linear\n" TRAIN);
    cr_expect_float_eq(zeros_of(folder, "pruned", 1), 0.5, 1e-9);
    cr_expect_float_eq(result(folder, "pruned", "sparsity"), 0.5, 1e-9);
    cr_expect_eq(result(folder, "pruned", "steps"), 0);
    kit_remove(folder);
}

Test(rewrite, full_fine_tuning_keeps_the_zeros) {
    char *const folder = kit_make(8);
    train(folder, "full", PRUNE "ratio = 0.4\n[adapter.full]\nplugin = full\n" TRAIN);
    cr_expect_float_eq(zeros_of(folder, "full", 0), 0.4, 2e-3); /* one entry of 1024 at the threshold */
    cr_expect_lt(result(folder, "full", "eval_after"), result(folder, "full", "eval_before"));
    kit_remove(folder);
}

Test(rewrite, pruning_under_full_fine_tuning_resumes) {
    check_resume(PRUNE "[adapter.full]\nplugin = full\n" TRAIN, "model.safetensors");
}

Test(rewrite, a_lora_learns_beside_a_pruned_base) {
    char *const folder = kit_make(8);
    train(folder, "both", PRUNE "method = nm\n[adapter.lora]\nplugin = lora\nrank = 4\ntargets = all-linear\n" TRAIN);
    cr_expect_float_eq(zeros_of(folder, "both", 1), 0.5, 1e-9);
    cr_expect(kit_has(folder, "both/lora/adapter_model.safetensors"));
    json_t *const config = read_json(folder, "both/lora/adapter_config.json");
    const char *const base = json_string_value(json_object_get(config, "base_model_name_or_path"));
    cr_expect(base && strlen(base) > 5 && strcmp(base + strlen(base) - 5, "/both") == 0, "the base of the LoRA is %s",
              base);
    json_decref(config);
    kit_remove(folder);
}

Test(rewrite, two_techniques_do_not_rewrite_one_weight_that_a_mask_holds) {
    char *const folder = kit_make(8), *text;
    kit_ini(folder, "both", PRUNE "[adapter.pissa]\nplugin = pissa\nrank = 4\ntargets = q_proj\n" TRAIN);
    cr_expect_neq(kit_train(folder, "both", "--quiet", &text), 0);
    cr_expect(strstr(text, "of which another technique holds a part at zero"), "%s", text);
    free(text);
    kit_remove(folder);
}
