/* adapter-lies — folders that PEFT loads in silence, or that contradict themselves: refused, with what is wrong. Each is a
 * golden with one thing changed. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/adapters"

TestSuite(adapter_lies, .timeout = 60);

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        call;                                                                                                          \
        cr_assert_eq(err.code, GRAFT_OK, "%s: %s", #call, err.text);                                                   \
    } while (0)

/* What is changed. */
typedef struct {
    const char *key, *value; /* of the configuration, as JSON; NULL: nothing                       */
    const char *without;     /* tensors with this in their names are left out                      */
    const char *shifted;     /* 1 is added to the first number of tensors with this in their names */
    dtype type;              /* in which tensors are written                                       */
} change;

static void write_tensors(const char *from, const char *to, const change *c) {
    safetensors *st = NULL;
    arena memory = {0};
    MUST(safetensors_open(from, &st, &err));
    tensor_out *const list = arena_new(&memory, (size_t)safetensors_count(st) + 1, sizeof *list);
    int64_t count = 0;
    for (int64_t t = 0; t < safetensors_count(st); t++) {
        const tensor_info *const info = safetensors_at(st, t);
        if (c->without && strstr(info->name, c->without)) continue;
        float *const values = arena_new(&memory, (size_t)info->count + 1, sizeof *values);
        MUST(safetensors_read_as(st, info, values, F32, &err));
        if (c->shifted && strstr(info->name, c->shifted)) values[0] += 1;
        void *const written = arena_new(&memory, (size_t)info->count + 1, sizeof *values);
        dtype_convert(written, c->type, values, F32, info->count);
        list[count] = (tensor_out){.name = info->name, .dtype = c->type, .rank = info->rank, .data = written};
        memcpy(list[count++].shape, info->shape, sizeof info->shape);
    }
    MUST(safetensors_write(to, list, count, NULL, 0, &err));
    safetensors_close(st);
    arena_free(&memory);
}

/* The exit code of `graft probe` on the changed folder; *said: what it wrote, owned by the caller. */
static int probe(const char *name, const change *c, char **said) {
    char *const golden = path_join(GOLDEN, name), *const folder = mem_format("%s/lie-%d", BINARY_DIR, (int)getpid());
    char *const log = path_join(folder, "log"), *const meta_path = path_join(golden, "case.json");
    if (!file_exists(meta_path)) {
        fprintf(stderr, "skipped: %s is not there\n", meta_path);
        cr_skip_test();
    }
    char *const config_path = path_join(golden, "adapter_config.json"), *const new_config =
                                                                            path_join(folder, "adapter_config.json");
    char *const tensors = path_join(golden, "adapter_model.safetensors"), *const new_tensors = path_join(
                                                                              folder, "adapter_model.safetensors");
    json_t *meta = NULL, *config = NULL, *value = NULL;
    MUST(json_read_file(meta_path, 0, &meta, &err));
    MUST(json_read_file(config_path, 0, &config, &err));
    if (c->key) MUST(json_read_text(c->value, strlen(c->value), "value", JSON_DECODE_ANY, &value, &err));
    if (c->key) json_object_set_new(config, c->key, value);
    MUST(file_make_folders(folder, &err));
    MUST(json_write_file(new_config, config, 0, &err));
    write_tensors(tensors, new_tensors, c);
    const char *const base = json_string_value(json_object_get(meta, "base"));
    char *const line = mem_format(
        "'%s/bin/graft' probe '%s/%s' --adapter '%s' --input '%s/case.safetensors' --output '%s/out' 2>'%s'",
        BINARY_DIR, strncmp(base, "_models", 7) == 0 ? GOLDEN : SHARED_DIR, base, folder, golden, folder, log);
    const int status = system(line);
    int64_t size;
    MUST(file_read(log, 1 << 20, said, &size, &err));
    MUST(file_remove_tree(folder, &err));
    json_decref(meta);
    json_decref(config);
    char *const texts[] = {golden, folder, log, meta_path, config_path, new_config, tensors, new_tensors, line};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    return status;
}

static void refused(const char *name, change c, const char *because) {
    char *said;
    cr_expect_neq(probe(name, &c, &said), 0, "%s", name);
    cr_expect(strstr(said, because), "%s: %s", name, said);
    free(said);
}

static void loaded(const char *name, change c, const char *warning) {
    char *said;
    cr_expect_eq(probe(name, &c, &said), 0, "%s: %s", name, said);
    cr_expect(strstr(said, warning), "%s: %s", name, said);
    free(said);
}

Test(adapter_lies, a_frozen_table_of_another_base_is_refused_and_a_rounded_one_is_told) {
    refused("lora-embedding", (change){.shifted = "base_layer", .type = F32}, "the adapter belongs to another base");
    loaded("lora-embedding", (change){.type = BF16}, "rounded to BF16");
    loaded("lora-embedding", (change){.without = "base_layer", .type = F32}, "");
}

Test(adapter_lies, a_number_of_layers_that_is_not_the_models_is_refused) {
    refused("prefix-nv6", (change){.key = "num_layers", .value = "2", .type = F32},
            "\"num_layers\" is 2, this model has 5");
}

Test(adapter_lies, random_matrices_that_should_be_stored_must_be_there) {
    refused("vera-r16", (change){.without = "vera_A", .type = F32}, "vera_A\" [16, 172] is missing");
    refused("vera-r16", (change){.key = "save_projection", .value = "null", .without = "base_model.vera_", .type = F32},
            "is missing");
}

Test(adapter_lies, null_is_no_number) {
    refused("lora-qv-r8", (change){.key = "lora_alpha", .value = "null", .type = F32}, "\"lora_alpha\" is null");
}

Test(adapter_lies, names_that_this_model_lacks_do_no_harm_where_all_tensors_find_their_place) {
    loaded("lora-qv-r8",
           (change){.key = "target_modules", .value = "[\"q_proj\", \"v_proj\", \"query_key_value\"]", .type = F32},
           "");
    refused("lora-qv-r8", (change){.key = "target_modules", .value = "[\"q_proj\", \"query_key_value\"]", .type = F32},
            "belongs to no part");
}
