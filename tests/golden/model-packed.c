/* Model folders that bitsandbytes packed: logits, loss, greedy ids and the bytes of dequantized weights. */
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model-case.h"
#include "model/generate.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(model_packed, .timeout = 60);

typedef struct {
    const char *name;
    json_t *meta;
    safetensors *data;
    int32_t ids[256], positions[256], targets[256];
    int64_t n, start[2];
    model_rows in;
} packed_case;

static double tolerance(const packed_case *c, const char *key) {
    return json_number_value(json_object_get(json_object_get(c->meta, "tolerance"), key));
}

static void open_case(packed_case *c, const char *folder) {
    graft_error err = {0};
    char *path = path_join(folder, "case.json"), *data = path_join(folder, "case.safetensors");
    *c = (packed_case){.name = strrchr(folder, '/') + 1};
    cr_assert_eq(json_read_file(path, 0, &c->meta, &err), 0, "%s", err.text);
    cr_assert_eq(safetensors_open(data, &c->data, &err), 0, "%s", err.text);
    const json_t *ids = json_object_get(c->meta, "input_ids");
    c->n = c->start[1] = (int64_t)json_array_size(ids);
    cr_assert_leq(c->n, 256);
    for (int64_t i = 0; i < c->n; i++) {
        c->ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
        c->positions[i] = (int32_t)i;
        c->targets[i] = -1;
        if (i > 0) c->targets[i - 1] = c->ids[i];
    }
    c->in = (model_rows){.rows = c->n,
                         .ids = c->ids,
                         .positions = c->positions,
                         .documents = 1,
                         .start = c->start,
                         .targets = c->targets};
    free(path);
    free(data);
}

static void check_numbers(const packed_case *c, const loaded *l, int64_t vocab) {
    graft_error err = {0};
    int64_t count;
    float *reference = tensor_f32(c->data, "logits_f64", &count), *mine = mem_new((size_t)count, sizeof *mine);
    cr_assert_eq(count, c->n * vocab);
    cr_assert_eq(model_logits(l->w, &c->in, NULL, 0, mine, &err), 0, "%s", err.text);
    double most = 0, sum = 0;
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)mine[i] - (double)reference[i]));
    cr_expect_leq(most, tolerance(c, "logits"), "%s: logits by %g", c->name, most);
    cr_assert_eq(model_logprobs(l->w, &c->in, mine, &err), 0, "%s", err.text);
    for (int64_t i = 0; i + 1 < c->n; i++)
        sum -= (double)mine[i];
    cr_expect_float_eq(sum / (double)(c->n - 1), json_number_value(json_object_get(c->meta, "loss")),
                       tolerance(c, "loss"), "%s", c->name);
    free(reference);
    free(mine);
}

static void check_greedy(const packed_case *c, const loaded *l) {
    graft_error err = {0};
    const json_t *prompt = json_object_get(c->meta, "greedy_prompt"), *all = json_object_get(c->meta, "greedy_ids");
    int32_t ids[256], out[256];
    const int64_t given = (int64_t)json_array_size(prompt), most = (int64_t)json_array_size(all) - given;
    int64_t count;
    kv_cache *cache = NULL;
    for (int64_t i = 0; i < given; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(prompt, (size_t)i));
    const generate_call call = {
        .prompt = ids, .prompt_count = given, .max_new_tokens = most, .settings = sample_greedy()};
    cr_assert_eq(cache_create(l->w, given + most, &cache, &err), 0, "%s", err.text);
    cr_assert_eq(generate_run(cache, &call, out, &count, NULL, &err), 0, "%s", err.text);
    cr_expect_eq(count, most);
    for (int64_t i = 0; i < count; i++)
        cr_expect_eq(out[i], json_integer_value(json_array_get(all, (size_t)(given + i))), "%s: token %lld", c->name,
                     (long long)i);
    cache_free(cache);
}

/* Each weight in the type of its quantization state. */
static void check_weights(const packed_case *c, const loaded *l) {
    graft_error err = {0};
    const json_t *sums = json_object_get(c->meta, "dequantised_crc32"),
                 *types = json_object_get(c->meta, "dequantised_dtype");
    int32_t count, seen = 0;
    const base_tensor *t = model_tensors(l->m, &count);
    for (int32_t i = 0; i < count; i++) {
        const char *sum = json_string_value(json_object_get(sums, t[i].name));
        const char *type = json_string_value(json_object_get(types, t[i].name));
        if (!sum || t[i].tied_to >= 0) continue;
        const int64_t n = t[i].out * (t[i].in ? t[i].in : 1);
        const dtype as = strcmp(type, "bfloat16") == 0 ? BF16 : strcmp(type, "float16") == 0 ? F16 : F32;
        float *values = mem_new((size_t)n, sizeof *values);
        void *bytes = mem_new((size_t)n, 4);
        char mine[16];
        cr_assert_eq(model_read_tensor(l->m, i, values, &err), 0, "%s", err.text);
        dtype_convert(bytes, as, values, F32, n);
        snprintf(mine, sizeof mine, "%08x", digest_crc32(0, bytes, (size_t)(n * dtype_bytes(as))));
        cr_expect_str_eq(mine, sum, "%s: %s", c->name, t[i].name);
        seen++;
        free(values);
        free(bytes);
    }
    cr_expect_gt(seen, 10);
}

static void check(const char *name) {
    char *folder = mem_format("%s/golden/checkpoints/%s", SHARED_DIR, name);
    if (!file_is_folder(folder)) {
        fprintf(stderr, "skipped: the shared checkpoints are not there\n");
        cr_skip_test("the shared checkpoints are not there");
    }
    packed_case c;
    open_case(&c, folder);
    loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = c.n});
    check_numbers(&c, &l, model_descriptor(l.m)->vocab);
    check_greedy(&c, &l);
    check_weights(&c, &l);
    loaded_close(&l);
    json_decref(c.meta);
    safetensors_close(c.data);
    free(folder);
}

Test(model_packed, nf4) {
    check("nf4-f32");
}

Test(model_packed, nf4_with_double_quantization) {
    check("nf4-dq-bf16");
}

Test(model_packed, fp4) {
    check("fp4-f16");
}

Test(model_packed, int8) {
    check("int8-f16");
}
