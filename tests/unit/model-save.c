/* Model folders as they are written: read again they are the same, in one file, in shards, in another type. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/model-private.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(model_save, .timeout = 60);

static const char config[] =
    "{\"model_type\": \"%s\", \"vocab_size\": 50, \"hidden_size\": 16, \"intermediate_size\": 24, \"n_embd\": 16, "
    "\"n_inner\": 24, \"n_layer\": 2, \"n_head\": 2, \"n_positions\": 32, \"num_hidden_layers\": 2, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 8, \"pad_token_id\": null, "
    "\"initializer_range\": 0.5%s}";

static char *folder_new(void) {
    char name[] = "/tmp/graft-save-XXXXXX";
    cr_assert(mkdtemp(name));
    return mem_copy_text(name);
}

static void folder_remove(char *folder) {
    graft_error err = {0};
    cr_expect_eq(file_remove_tree(folder, &err), 0, "%s", err.text);
    free(folder);
}

static void put(const char *folder, const char *name, const char *text) {
    graft_error err = {0};
    char *path = path_join(folder, name);
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
    free(path);
}

static int there(const char *folder, const char *name) {
    char *path = path_join(folder, name);
    const int found = file_exists(path);
    free(path);
    return found;
}

static kernels *ref(void) {
    graft_error err = {0};
    kernels *k = NULL;
    cr_assert_eq(kernels_open("ref", NULL, &k, &err), 0, "%s", err.text);
    return k;
}

/* A model with random weights of a config. */
static model *randomized(const char *family, const char *more, kernels *k, uint64_t seed, char **folder) {
    graft_error err = {0};
    model *m = NULL;
    char *text = mem_format(config, family, more);
    *folder = folder_new();
    put(*folder, "config.json", text);
    free(text);
    cr_assert_eq(model_open_config(*folder, &m, &err), 0, "%s", err.text);
    cr_assert_eq(model_randomize(m, k, seed, &err), 0, "%s", err.text);
    return m;
}

static model *loaded_from(const char *folder, kernels *k) {
    graft_error err = {0};
    model *m = NULL;
    cr_assert_eq(model_open(folder, &m, &err), 0, "%s", err.text);
    cr_assert_eq(model_load(m, k, F32, NULL, NULL, &err), 0, "%s", err.text);
    return m;
}

static float *values_of(model *m, int32_t tensor) {
    graft_error err = {0};
    int32_t count;
    const base_tensor *t = tensor_at(m, tensor);
    (void)model_tensors(m, &count);
    float *out = mem_new((size_t)tensor_count_of(t), sizeof *out);
    cr_assert_eq(model_read_tensor(m, tensor, out, &err), 0, "%s", err.text);
    return out;
}

/* Largest relative difference over all tensors. */
static double difference(model *a, model *b) {
    int32_t count, other;
    const base_tensor *t = model_tensors(a, &count);
    (void)model_tensors(b, &other);
    cr_assert_eq(count, other);
    double most = 0;
    for (int32_t i = 0; i < count; i++) {
        float *x = values_of(a, i), *y = values_of(b, i);
        for (int64_t n = 0; n < tensor_count_of(&t[i]); n++)
            most = fmax(most, fabs((double)x[n] - (double)y[n]) / fmax(fabs((double)x[n]), 1e-30));
        free(x);
        free(y);
    }
    return most;
}

static const char *const all[] = {"llama",  "mistral",     "qwen2", "qwen3", "gemma",
                                  "gemma2", "gemma3_text", "gpt2",  "phi3",  "smollm3"};

Test(model_save, a_saved_folder_reads_as_the_same_numbers) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int64_t shard = 0; shard <= 4000; shard += 2000) {
            graft_error err = {0};
            kernels *k = ref();
            char *from, *to = folder_new();
            model *m = randomized(all[i], "", k, 3, &from);
            cr_assert_eq(model_save(m, to, DTYPE_COUNT, shard, &err), 0, "%s", err.text);
            cr_expect_eq(there(to, "model.safetensors"), shard == 0, "%s", all[i]);
            cr_expect_eq(there(to, "model.safetensors.index.json"), shard > 0, "%s", all[i]);
            model *again = loaded_from(to, k);
            cr_expect_eq(difference(m, again), 0, "%s", all[i]);
            model_close(again);
            model_close(m);
            k->close(k);
            folder_remove(from);
            folder_remove(to);
        }
}

/* bf16 has 8 bits: rounding is off by at most 2^-8. */
Test(model_save, another_type_rounds_once_and_stands_in_the_config) {
    graft_error err = {0};
    kernels *k = ref();
    char *from, *to = folder_new();
    model *m = randomized("qwen3", "", k, 5, &from);
    cr_assert_eq(model_save(m, to, BF16, 0, &err), 0, "%s", err.text);
    model *again = loaded_from(to, k);
    cr_expect_eq(model_descriptor(again)->stored, BF16);
    const double apart = difference(m, again);
    cr_expect(apart > 0 && apart <= 0x1p-8, "%g", apart);
    model_close(again);
    model_close(m);
    k->close(k);
    folder_remove(from);
    folder_remove(to);
}

Test(model_save, a_number_that_the_type_cannot_hold_is_refused_by_name) {
    graft_error err = {0};
    kernels *k = ref();
    char *from, *to = folder_new();
    model *m = randomized("llama", "", k, 5, &from);
    const base_tensor *t = tensor_at(m, m->blocks[1].weight[ROLE_UP]);
    k->scale(k, t->w.data, F32, tensor_count_of(t), 1e6);
    cr_expect_neq(model_save(m, to, F16, 0, &err), 0);
    cr_expect(strstr(err.text, t->name) && strstr(err.text, "F16"), "%s", err.text);
    cr_expect(!there(to, "model.safetensors") && !there(to, "config.json"));
    model_close(m);
    k->close(k);
    folder_remove(from);
    folder_remove(to);
}

Test(model_save, a_head_that_was_trained_alone_is_untied) {
    graft_error err = {0};
    kernels *k = ref();
    char *from, *to = folder_new(), *last = folder_new();
    model *m = randomized("llama", ", \"tie_word_embeddings\": true", k, 5, &from), *half = NULL;
    cr_assert_eq(model_save(m, to, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    cr_assert_eq(model_open(to, &half, &err), 0, "%s", err.text);
    const int32_t head = half->outside.weight[ROLE_HEAD];
    int32_t count;
    base_tensor *t = &model_tensors(half, &count)[head];
    cr_assert_geq(t->tied_to, 0);
    t->tied_to = -1;
    t->trained = 1;
    cr_assert_eq(model_load(half, k, F32, NULL, NULL, &err), 0, "%s", err.text);
    cr_expect_eq(difference(m, half), 0, "its own copy of the same numbers");
    k->scale(k, t->master, F32, tensor_count_of(t), 2);
    model_refresh(half);
    cr_assert_eq(model_save(half, last, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    model *again = loaded_from(last, k);
    cr_expect_eq(model_descriptor(again)->tied, 0);
    cr_expect_eq(difference(half, again), 0);
    model_close(again);
    model_close(half);
    model_close(m);
    k->close(k);
    folder_remove(from);
    folder_remove(to);
    folder_remove(last);
}

Test(model_save, the_files_of_the_tokenizer_come_along_and_stale_shards_lose) {
    graft_error err = {0};
    kernels *k = ref();
    char *from, *to = folder_new();
    model *m = randomized("llama", ", \"a_key_of_mine\": 1.25", k, 5, &from);
    put(from, "tokenizer.json", "{}");
    put(from, "generation_config.json", "{\"top_k\": 3}");
    put(from, "notes.txt", "not mine to copy");
    cr_assert_eq(model_save(m, to, DTYPE_COUNT, 2000, &err), 0, "%s", err.text);
    cr_assert_eq(model_save(m, to, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    cr_expect(there(to, "tokenizer.json") && there(to, "generation_config.json") && !there(to, "notes.txt"));
    cr_expect(!there(to, "model.safetensors.index.json"));
    char *path = path_join(to, "config.json");
    json_t *saved = NULL;
    cr_assert_eq(json_read_file(path, 0, &saved, &err), 0, "%s", err.text);
    cr_expect_eq(json_number_value(json_object_get(saved, "a_key_of_mine")), 1.25);
    model *again = loaded_from(to, k);
    cr_expect_eq(difference(m, again), 0);
    json_decref(saved);
    model_close(again);
    model_close(m);
    k->close(k);
    free(path);
    folder_remove(from);
    folder_remove(to);
}

/* Mean and deviation of 800 draws of deviation 0.5: within five standard errors. */
Test(model_save, random_weights_depend_on_seed_and_name_alone) {
    kernels *k = ref(), *k2 = ref();
    char *a_folder, *b_folder, *c_folder;
    model *a = randomized("gemma3_text", "", k, 7, &a_folder), *b = randomized("gemma3_text", "", k2, 7, &b_folder);
    model *c = randomized("gemma3_text", "", k2, 8, &c_folder);
    cr_expect_eq(difference(a, b), 0);
    cr_expect_gt(difference(a, c), 0);
    int32_t count;
    const base_tensor *t = model_tensors(a, &count);
    for (int32_t i = 0; i < count; i++) {
        float *x = values_of(a, i);
        double sum = 0, square = 0;
        const double n = (double)tensor_count_of(&t[i]);
        for (int64_t j = 0; j < tensor_count_of(&t[i]); j++) {
            sum += (double)x[j];
            square += (double)x[j] * (double)x[j];
        }
        if (!t[i].in) cr_expect_eq(square, 0, "%s: 1 + w is neutral at w = 0", t[i].name);
        if (t[i].in) cr_expect_leq(fabs(sum / n), 5 * 0.5 / sqrt(n), "%s", t[i].name);
        if (t[i].in) cr_expect_leq(fabs(square / n / 0.25 - 1), 5 * sqrt(2 / n), "%s", t[i].name);
        free(x);
    }
    model_close(a);
    model_close(b);
    model_close(c);
    k->close(k);
    k2->close(k2);
    folder_remove(a_folder);
    folder_remove(b_folder);
    folder_remove(c_folder);
}
