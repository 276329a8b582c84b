/* adapters — every adapter of the goldens that a technique here reads, through `graft probe`: logits, losses and every
 * gradient as PEFT has them, within the tolerances of the case, on the reference and on the fast kernels. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/adapters"

static float *values_of(const safetensors *st, const char *name, int64_t *count) {
    const tensor_info *t = safetensors_find(st, name);
    cr_assert(t, "%s has no %s", safetensors_name(st), name);
    float *values = mem_new((size_t)t->count + 1, sizeof *values);
    graft_error err = {0};
    cr_assert_eq(safetensors_read_as(st, t, values, F32, &err), 0, "%s", err.text);
    *count = t->count;
    return values;
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    cr_assert(json_is_number(value), "case.json has no %s", key);
    return json_number_value(value);
}

/* Rows of padding are no reference. */
static void check_logits(const char *name, const safetensors *got, const safetensors *want, double bound) {
    int64_t n, m, rows, ahead;
    float *mine = values_of(got, "logits", &n), *theirs = values_of(want, "logits", &m);
    float *mask = values_of(want, "attention_mask", &rows);
    cr_assert_eq(n, m, "%s: %lld logits, %lld in the case", name, (long long)n, (long long)m);
    const tensor_info *shape = safetensors_find(want, "logits"), *of_mask = safetensors_find(want, "attention_mask");
    ahead = shape->shape[1] - of_mask->shape[1]; /* virtual rows in front */
    const int64_t vocab = shape->shape[2];
    double worst = 0;
    for (int64_t row = 0; row < n / vocab; row++) {
        const int64_t b = row / shape->shape[1], t = row % shape->shape[1] - ahead;
        if (t >= 0 && mask[b * of_mask->shape[1] + t] == 0) continue;
        for (int64_t v = 0; v < vocab; v++)
            worst = fmax(worst, fabs((double)mine[row * vocab + v] - (double)theirs[row * vocab + v]));
    }
    cr_expect_leq(worst, bound, "%s: logits differ by %g, allowed %g", name, worst, bound);
    free(mine);
    free(theirs);
    free(mask);
}

static void check_gradients(const char *name, const safetensors *got, const safetensors *want, double bound) {
    for (int64_t g = 0; g < safetensors_count(want); g++) {
        const char *tensor = safetensors_at(want, g)->name;
        char *mine = mem_format("grad.%s", tensor);
        int64_t n, m;
        float *a = values_of(got, mine, &n), *b = values_of(want, tensor, &m);
        cr_assert_eq(n, m, "%s: %s has another size", name, tensor);
        double apart = 0, norm = 0;
        for (int64_t i = 0; i < n; i++) {
            apart += pow((double)a[i] - (double)b[i], 2);
            norm += pow((double)b[i], 2);
        }
        const double relative = sqrt(apart) / fmax(sqrt(norm), 1e-9);
        cr_expect_leq(relative, bound, "%s: gradient of %s is off by %g, allowed %g", name, tensor, relative, bound);
        free(a);
        free(b);
        free(mine);
    }
}

/* token_nll[b, t] is that of label t: one place later than where we have it, since we count what predicts. */
static void check_losses(const char *name, const safetensors *got, const safetensors *want, double bound) {
    int64_t n, m;
    float *mine = values_of(got, "token_nll", &n), *theirs = values_of(want, "token_nll", &m);
    const int64_t rows = safetensors_find(want, "token_nll")->shape[0], width = m / rows, own = n / rows;
    for (int64_t b = 0; b < rows; b++)
        for (int64_t t = own >= width ? 0 : 1; t < width; t++)
            cr_expect_leq(fabs((double)mine[b * own + own - width + t] - (double)theirs[b * width + t]), bound,
                          "%s: loss of row %lld, token %lld", name, (long long)b, (long long)t);
    free(mine);
    free(theirs);
}

/* A folder with these settings, and with the tensors of a file whose names do not contain `without`. */
static char *make_folder(const char *name, const json_t *config, const char *tensors, const char *without) {
    graft_error err = {0};
    safetensors *st = NULL;
    char *const folder = mem_format("%s/adapter-%s-%d", BINARY_DIR, name, (int)getpid());
    char *const settings = path_join(folder, "adapter_config.json");
    char *const file = path_join(folder, "adapter_model.safetensors");
    cr_assert_eq(safetensors_open(tensors, &st, &err), 0, "%s", err.text);
    tensor_out *const list = mem_new((size_t)safetensors_count(st) + 1, sizeof *list);
    int64_t count = 0, size;
    for (int64_t t = 0; t < safetensors_count(st); t++) {
        const tensor_info *const info = safetensors_at(st, t);
        if (strstr(info->name, without)) continue;
        list[count] = (tensor_out){.name = info->name, .dtype = F32, .rank = info->rank};
        memcpy(list[count].shape, info->shape, sizeof info->shape);
        list[count++].data = values_of(st, info->name, &size);
    }
    cr_assert_eq(file_make_folders(folder, &err), 0, "%s", err.text);
    cr_assert_eq(json_write_file(settings, config, 0, &err), 0, "%s", err.text);
    cr_assert_eq(safetensors_write(file, list, count, NULL, 0, &err), 0, "%s", err.text);
    for (int64_t t = 0; t < count; t++)
        free((void *)(uintptr_t)list[t].data);
    safetensors_close(st);
    free(list);
    free(settings);
    free(file);
    return folder;
}

/* adapter: another folder than the case's own, or NULL. */
static void check_case(const char *name, const char *adapter, const char *device) {
    graft_error err = {0};
    json_t *meta = NULL;
    char *folder = path_join(GOLDEN, name), *file = path_join(folder, "case.json");
    if (!file_exists(file)) {
        fprintf(stderr, "skipped: %s is not there\n", file);
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(file, 0, &meta, &err), 0, "%s", err.text);
    const char *base = json_string_value(json_object_get(meta, "base"));
    char *out = mem_format("%s/adapter-%s-%s-%d.safetensors", BINARY_DIR, name, device, (int)getpid());
    char *line =
        mem_format("'%s/bin/graft' probe '%s/%s' --adapter '%s' --input '%s/case.safetensors' --output '%s' --grads "
                   "--device %s",
                   BINARY_DIR, strncmp(base, "_models", 7) == 0 ? GOLDEN : SHARED_DIR, base, adapter ? adapter : folder,
                   folder, out, device);
    cr_assert_eq(system(line), 0, "%s", line);
    char *in = path_join(folder, "case.safetensors"), *grads = path_join(folder, "grads.safetensors");
    safetensors *got = NULL, *want = NULL, *want_grads = NULL;
    cr_assert(!safetensors_open(out, &got, &err) && !safetensors_open(in, &want, &err) &&
                  !safetensors_open(grads, &want_grads, &err),
              "%s", err.text);
    const json_t *bounds = json_object_get(meta, "tolerances");
    check_logits(name, got, want, number(bounds, "logits_abs"));
    check_losses(name, got, want, number(bounds, "token_nll_abs"));
    check_gradients(name, got, want_grads, number(bounds, "grad_rel_l2_per_tensor"));
    int64_t one;
    float *loss = values_of(got, "loss", &one);
    cr_expect_float_eq((double)*loss, number(meta, "loss"), number(bounds, "loss_abs"), "%s: loss %.9g", name,
                       (double)*loss);
    free(loss);
    safetensors_close(got);
    safetensors_close(want);
    safetensors_close(want_grads);
    unlink(out);
    json_decref(meta);
    char *const texts[] = {folder, file, out, line, in, grads};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
}

#define CASE(test, name)                                                                                               \
    Test(adapters, test) {                                                                                             \
        check_case(name, NULL, "ref");                                                                                 \
        check_case(name, NULL, "cpu");                                                                                 \
    }

CASE(lora_on_query_and_value, "lora-qv-r8")
CASE(lora_on_every_linear, "lora-all-linear-r4")
CASE(lora_of_gemma3, "lora-gemma3")
CASE(lora_on_some_layers, "lora-layers-subset")
CASE(lora_with_rank_and_alpha_patterns, "lora-patterns")
CASE(lora_with_all_biases, "lora-bias-all")
CASE(lora_with_biases_of_its_modules, "lora-bias-only")
CASE(lora_of_the_embedding, "lora-embedding")
CASE(lora_with_a_trained_embedding, "lora-save-embed")
CASE(lora_with_a_trained_head, "lora-save-lm-head")
CASE(rslora, "rslora-r16")
CASE(pissa_decomposes_the_base_again, "pissa-r8")
CASE(olora_decomposes_the_base_again, "olora-r8")
CASE(dora, "dora-r8")
CASE(dora_of_gemma3, "dora-gemma3")
CASE(ia3, "ia3")
CASE(oft, "oft-b8")
CASE(loha, "loha-r4")
CASE(lokr, "lokr-r4")
CASE(vera, "vera-r16")
CASE(adalora, "adalora")
CASE(norms, "ln-tuning")
CASE(prefix, "prefix-nv6")
CASE(prefix_in_sliding_windows, "prefix-gemma3")
CASE(prompt, "prompt-nv6")
CASE(bottleneck_behind_the_mlp, "bottleneck-seq-bn")
CASE(bottleneck_behind_both, "bottleneck-double-seq-bn")

static json_t *settings_of(const char *name) {
    graft_error err = {0};
    json_t *config = NULL;
    char *const file = mem_format(GOLDEN "/%s/adapter_config.json", name);
    if (!file_exists(file)) {
        fprintf(stderr, "skipped: %s is not there\n", file);
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(file, 0, &config, &err), 0, "%s", err.text);
    free(file);
    return config;
}

/* Checks a case through a folder made of one of its files and of other settings, which are given away. */
static void check_made(const char *name, json_t *config, const char *tensors, const char *without) {
    graft_error err = {0};
    char *const path = mem_format(GOLDEN "/%s/%s", name, tensors);
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        cr_skip_test();
    }
    char *const folder = make_folder(name, config, path, without);
    check_case(name, folder, "ref");
    check_case(name, folder, "cpu");
    cr_assert_eq(file_remove_tree(folder, &err), 0, "%s", err.text);
    json_decref(config);
    free(path);
    free(folder);
}

Test(adapters, biases) {
    check_made("bitfit-qwen2", json_pack("{s:s}", "peft_type", "BITFIT"), "biases.safetensors", "nothing");
}

/* The matrices that are drawn again are those that torch drew. */
Test(adapters, vera_whose_random_matrices_are_not_stored) {
    json_t *const settings = settings_of("vera-r16");
    json_object_set_new(settings, "save_projection", json_false());
    check_made("vera-r16", settings, "adapter_model.safetensors", "base_model.vera_");
}

/* alpha / √rank of one is alpha / rank of the other. */
static void check_rslora(const char *name) {
    json_t *const settings = settings_of(name);
    json_object_set_new(settings, "use_rslora", json_true());
    json_object_set_new(settings, "lora_alpha",
                        json_real(number(settings, "lora_alpha") / sqrt(number(settings, "r"))));
    check_made(name, settings, "adapter_model.safetensors", "nothing");
}

Test(adapters, oft_that_is_held_no_shorter_than_it_is) {
    json_t *const settings = settings_of("oft-b8");
    json_object_set_new(settings, "coft", json_true());
    json_object_set_new(settings, "eps", json_real(1000));
    check_made("oft-b8", settings, "adapter_model.safetensors", "nothing");
}

Test(adapters, dora_pissa_and_olora_know_the_scale_of_rslora) {
    check_rslora("dora-r8");
    check_rslora("pissa-r8");
    check_rslora("olora-r8");
}
