/* adapter-stack — two adapters at one place: each wraps all before it, in the order given, as PEFT adds active adapters up.
 *
 * A DoRA whose lengths are twice the rows' and whose update is zero doubles what comes before it, but for the bias. So
 * LoRA and then DoRA is DoRA and then a LoRA of twice the scale. */
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

#define LORA SHARED_DIR "/golden/adapters/lora-qv-r8"
#define BASE SHARED_DIR "/models/stories260k"

TestSuite(adapter_stack, .timeout = 60);

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        call;                                                                                                          \
        cr_assert_eq(err.code, GRAFT_OK, "%s: %s", #call, err.text);                                                   \
    } while (0)

static float *values_of(const safetensors *st, const char *name, int64_t *count, arena *memory) {
    const tensor_info *const t = safetensors_find(st, name);
    cr_assert(t, "%s is not there", name);
    float *const values = arena_new(memory, (size_t)t->count + 1, sizeof *values);
    MUST(safetensors_read_as(st, t, values, F32, &err));
    *count = t->count;
    return values;
}

static void write_config(const char *folder, json_t *config) {
    char *const path = path_join(folder, "adapter_config.json");
    MUST(file_make_folders(folder, &err));
    MUST(json_write_file(path, config, 0, &err));
    json_decref(config);
    free(path);
}

static json_t *lora_config(void) {
    json_t *config = NULL;
    MUST(json_read_file(LORA "/adapter_config.json", 0, &config, &err));
    return config;
}

/* The same LoRA at twice the scale. */
static void write_twice(const char *folder) {
    json_t *const config = lora_config();
    char *const path = path_join(folder, "adapter_model.safetensors");
    const json_t *const alpha = json_object_get(config, "lora_alpha");
    char *bytes;
    int64_t size;
    json_object_set_new(config, "lora_alpha", json_real(2 * json_number_value(alpha)));
    write_config(folder, config);
    MUST(file_read(LORA "/adapter_model.safetensors", 1 << 26, &bytes, &size, &err));
    FILE *const file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, (size_t)size, file) == (size_t)size && fclose(file) == 0);
    free(bytes);
    free(path);
}

/* The length of each row of the base, doubled, under the name that a DoRA has for it. */
static tensor_out lengths_of(const safetensors *base, const char *module, int64_t rows, arena *memory) {
    int64_t count;
    const float *const w = values_of(base, arena_format(memory, "%s.weight", module), &count, memory);
    float *const lengths = arena_new(memory, (size_t)rows, sizeof *lengths);
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < count / rows; i++)
            sum += pow((double)w[r * (count / rows) + i], 2);
        lengths[r] = (float)(2 * sqrt(sum));
    }
    return (tensor_out){.name = arena_format(memory, "base_model.model.%s.lora_magnitude_vector", module),
                        .dtype = F32,
                        .rank = 1,
                        .shape = {rows},
                        .data = lengths};
}

static void write_dora(const char *folder) {
    json_t *const config = lora_config();
    safetensors *lora = NULL, *base = NULL;
    arena memory = {0};
    char *const path = path_join(folder, "adapter_model.safetensors");
    json_object_set_new(config, "use_dora", json_true());
    write_config(folder, config);
    MUST(safetensors_open(LORA "/adapter_model.safetensors", &lora, &err));
    MUST(safetensors_open(BASE "/model.safetensors", &base, &err));
    tensor_out *const list = arena_new(&memory, 2 * (size_t)safetensors_count(lora), sizeof *list);
    int64_t count = 0, size;
    for (int64_t t = 0; t < safetensors_count(lora); t++) {
        const tensor_info *const info = safetensors_at(lora, t);
        const char *const update = strstr(info->name, ".lora_B.weight");
        float *const values = values_of(lora, info->name, &size, &memory);
        if (update) memset(values, 0, (size_t)size * sizeof *values);
        list[count] = (tensor_out){.name = info->name, .dtype = F32, .rank = info->rank, .data = values};
        memcpy(list[count++].shape, info->shape, sizeof info->shape);
        if (!update) continue;
        const char *const module = info->name + strlen("base_model.model.");
        list[count++] =
            lengths_of(base, arena_format(&memory, "%.*s", (int)(update - module), module), info->shape[0], &memory);
    }
    MUST(safetensors_write(path, list, count, NULL, 0, &err));
    safetensors_close(lora);
    safetensors_close(base);
    arena_free(&memory);
    free(path);
}

static float *logits_of(const char *first, const char *second, const char *out, int64_t *count, arena *memory) {
    safetensors *st = NULL;
    char *const line = mem_format("'%s/bin/graft' probe '" BASE "' --adapter '%s' --adapter '%s' --input '" LORA
                                  "/case.safetensors' --output '%s'",
                                  BINARY_DIR, first, second, out);
    cr_assert_eq(system(line), 0, "%s", line);
    MUST(safetensors_open(out, &st, &err));
    float *const logits = values_of(st, "logits", count, memory);
    safetensors_close(st);
    free(line);
    return logits;
}

Test(adapter_stack, dora_measures_and_scales_all_before_it) {
    if (!file_exists(LORA "/case.safetensors")) {
        fprintf(stderr, "skipped: %s is not there\n", LORA);
        cr_skip_test();
    }
    arena memory = {0};
    int64_t n, m;
    char *const place = arena_format(&memory, "%s/stack-%d", BINARY_DIR, (int)getpid());
    char *const dora = arena_format(&memory, "%s/dora", place), *const twice = arena_format(&memory, "%s/twice", place);
    char *const out = arena_format(&memory, "%s/out.safetensors", place);
    write_dora(dora);
    write_twice(twice);
    const float *const behind = logits_of(LORA, dora, out, &n, &memory);
    const float *const before = logits_of(dora, twice, out, &m, &memory);
    const float *const other = logits_of(dora, LORA, out, &m, &memory);
    double apart = 0, moved = 0;
    cr_assert_eq(n, m);
    for (int64_t i = 0; i < n; i++) {
        apart = fmax(apart, fabs((double)behind[i] - (double)before[i]));
        moved = fmax(moved, fabs((double)behind[i] - (double)other[i]));
    }
    cr_expect_lt(apart, 1e-4, "apart by %g", apart);
    cr_expect_gt(moved, 1e-2, "the order must matter here: %g", moved);
    MUST(file_remove_tree(place, &err));
    arena_free(&memory);
}
