/* adapter-folders — what PEFT and AdapterHub wrote, read and written again: the same settings and the same tensors. */
#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "run/adapter-folder.h"
#include "run/session.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/adapters"

TestSuite(adapter_folders, .timeout = 60);

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        call;                                                                                                          \
        cr_assert_eq(err.code, GRAFT_OK, "%s: %s", #call, err.text);                                                   \
    } while (0)

static json_t *read_json(const char *folder, const char *name) {
    json_t *value = NULL;
    char *const path = path_join(folder, name);
    MUST(json_read_file(path, 0, &value, &err));
    free(path);
    return value;
}

/* Lists of names are sets. */
static int holds(const json_t *list, const json_t *value) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)list, i, entry) {
        if (json_equal(entry, value)) return 1;
    }
    return 0;
}

static int same_value(const json_t *a, const json_t *b) {
    if (!json_is_array(a) || !json_is_array(b))
        return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
    int same = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; i < json_array_size(a) && same; i++)
        same = holds(b, json_array_get(a, i));
    return same;
}

static void check_settings(const char *name, const char *theirs, const char *ours) {
    json_t *const want = read_json(theirs, "adapter_config.json"), *const got = read_json(ours, "adapter_config.json");
    const char *key;
    json_t *value;
    json_object_foreach(want, key, value) {
        const json_t *const mine = json_object_get(got, key);
        char *const text = json_dumps(mine ? mine : json_null(), JSON_ENCODE_ANY);
        cr_expect(mine && same_value(value, mine), "%s: \"%s\" became %s", name, key, mine ? text : "missing");
        free(text);
    }
    json_object_foreach(got, key, value) {
        cr_expect(json_object_get(want, key), "%s: \"%s\" is new", name, key);
    }
    json_decref(want);
    json_decref(got);
}

static safetensors *open_tensors(const char *folder) {
    safetensors *st = NULL;
    char *hub = path_join(folder, "adapter.safetensors"), *peft = path_join(folder, "adapter_model.safetensors");
    MUST(safetensors_open(file_exists(hub) ? hub : peft, &st, &err));
    free(hub);
    free(peft);
    return st;
}

static void check_tensors(const char *name, const char *theirs, const char *ours) {
    safetensors *const want = open_tensors(theirs), *const got = open_tensors(ours);
    for (int64_t t = 0; t < safetensors_count(want); t++) {
        const tensor_info *const a = safetensors_at(want, t), *const b = safetensors_find(got, a->name);
        if (strstr(a->name, "embed_tokens.base_layer")) continue; /* the base's own numbers */
        cr_assert(b, "%s: %s is not written", name, a->name);
        cr_assert(a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->rank) == 0,
                  "%s: %s has another shape", name, a->name);
        char *const x = mem_new((size_t)a->bytes + 1, 1), *const y = mem_new((size_t)b->bytes + 1, 1);
        MUST(safetensors_read(want, a, x, &err));
        MUST(safetensors_read(got, b, y, &err));
        cr_expect(a->bytes == b->bytes && memcmp(x, y, (size_t)a->bytes) == 0, "%s: %s has other numbers", name,
                  a->name);
        free(x);
        free(y);
    }
    for (int64_t t = 0; t < safetensors_count(got); t++)
        cr_expect(safetensors_find(want, safetensors_at(got, t)->name), "%s: %s is new", name,
                  safetensors_at(got, t)->name);
    safetensors_close(want);
    safetensors_close(got);
}

static void check_case(const char *name) {
    char *const folder = path_join(GOLDEN, name);
    char out[] = "/tmp/graft-folder-XXXXXX";
    session s;
    registry *const plugins = registry_create();
    if (!file_is_folder(folder)) {
        fprintf(stderr, "skipped: %s is not there\n", folder);
        cr_skip_test();
    }
    cr_assert(mkdtemp(out));
    json_t *const meta = read_json(folder, "case.json"), *const config = read_json(folder, "adapter_config.json");
    const char *const base = json_string_value(json_object_get(meta, "base"));
    char *const model_path = path_join(strncmp(base, "models", 6) == 0 ? SHARED_DIR : GOLDEN, base);
    const char *const base_name = json_string_value(json_object_get(config, "base_model_name_or_path"));
    const char *const hub_name = json_string_value(json_object_get(config, "model_name"));
    const char *const folders[] = {folder};
    const session_request q = {.model = model_path,
                               .device = "ref",
                               .precision = "f32",
                               .folders = folders,
                               .folder_count = 1,
                               .plugins = plugins};
    MUST(session_open(&q, &s, &err));
    MUST(session_load(&s, 0, &err));
    MUST(adapt_save(s.adapters, 0, out, &err));
    MUST(adapter_folder_write(&s.specs[0], s.adapters, 0, s.model, out, base_name ? base_name : hub_name, &err));
    check_settings(name, folder, out);
    check_tensors(name, folder, out);
    MUST(file_remove_tree(out, &err));
    session_close(&s);
    registry_free(plugins);
    json_decref(meta);
    json_decref(config);
    free(model_path);
    free(folder);
}

#define CASE(test, name)                                                                                               \
    Test(adapter_folders, test) {                                                                                      \
        check_case(name);                                                                                              \
    }

CASE(lora, "lora-all-linear-r4")
CASE(lora_with_patterns, "lora-patterns")
CASE(lora_with_biases, "lora-bias-all")
CASE(lora_with_a_trained_head, "lora-save-lm-head")
CASE(lora_of_the_embedding, "lora-embedding")
CASE(rslora, "rslora-r16")
CASE(dora, "dora-r8")
CASE(ia3, "ia3")
CASE(oft, "oft-b8")
CASE(loha, "loha-r4")
CASE(lokr, "lokr-r4")
CASE(vera, "vera-r16")
CASE(adalora, "adalora")
CASE(norms, "ln-tuning")
CASE(prefix, "prefix-nv6")
CASE(prefix_of_gemma3, "prefix-gemma3")
CASE(prompt, "prompt-nv6")
CASE(bottleneck_behind_the_mlp, "bottleneck-seq-bn")
CASE(bottleneck_behind_both, "bottleneck-double-seq-bn")

/* GPT-2's c_proj of the MLP is scaled where it reads, that of attention where it writes: PEFT goes by the names alone. */
Test(adapter_folders, ia3_names_what_it_reads_apart_from_what_it_writes) {
    static const char *const all[] = {"all-linear"}, *const model_path = SHARED_DIR "/golden/models/gpt2";
    static const char *const feedforward = "down_proj, mlp.c_proj"; /* the options struct is this text alone */
    char out[] = "/tmp/graft-folder-XXXXXX";
    registry *const plugins = registry_create();
    model *m = NULL;
    adapt *a = NULL;
    adapt_spec spec = {.name = "", .config = &feedforward, .targets = all, .target_count = 1};
    int32_t points;
    if (!file_is_folder(model_path)) {
        fprintf(stderr, "skipped: %s is not there\n", model_path);
        cr_skip_test();
    }
    cr_assert(mkdtemp(out));
    MUST(registry_find(plugins, PLUGIN_ADAPTER, "ia3", NULL, &spec.component, &err));
    MUST(model_open(model_path, &m, &err));
    const adapt_point *const at = model_points(m, &points);
    MUST(adapt_bind(&spec, 1, at, points, 0, &a, &err));
    MUST(adapter_folder_write(&spec, a, 0, m, out, "gpt2", &err));
    json_t *const config = read_json(out, "adapter_config.json");
    json_t *const read = json_pack("[s]", "mlp.c_proj");
    json_t *const names = json_pack("[s, s, s, s]", "attn.c_proj", "c_attn", "c_fc", "mlp.c_proj");
    cr_expect(json_equal(json_object_get(config, "feedforward_modules"), read));
    cr_expect(json_equal(json_object_get(config, "target_modules"), names));
    json_decref(config);
    json_decref(read);
    json_decref(names);
    MUST(file_remove_tree(out, &err));
    adapt_free(a);
    model_close(m);
    registry_free(plugins);
}
