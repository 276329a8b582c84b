/* Damaged model folders: each gets an error that names folder, tensor and what was expected, or a warning where the numbers
 * are still clear; nothing crashes. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/philox.h"
#include "model/model-private.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(model_folders, .timeout = 120);

/* ---- folders ---- */

static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 24, \"hidden_size\": 16, \"intermediate_size\": 20, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1%s}";

static void put(const char *folder, const char *name, const char *bytes, int64_t count) {
    graft_error err = {0};
    char *path = path_join(folder, name);
    cr_assert_eq(file_write(path, bytes, count, &err), 0, "%s", err.text);
    free(path);
}

/* A sound folder with random weights. */
static char *sound(const char *more) {
    graft_error err = {0};
    char name[] = "/tmp/graft-broken-XXXXXX", *text = mem_format(config, more);
    model *m = NULL;
    kernels *k = NULL;
    cr_assert(mkdtemp(name));
    put(name, "config.json", text, (int64_t)strlen(text));
    cr_assert_eq(kernels_open("ref", NULL, &k, &err), 0, "%s", err.text);
    cr_assert_eq(model_open_config(name, &m, &err), 0, "%s", err.text);
    cr_assert_eq(model_randomize(m, k, 3, &err), 0, "%s", err.text);
    cr_assert_eq(model_save(m, name, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    model_close(m);
    k->close(k);
    free(text);
    return mem_copy_text(name);
}

static void done(char *folder) {
    graft_error err = {0};
    file_remove_tree(folder, &err);
    free(folder);
}

enum { MOST = 64 };
typedef struct {
    tensor_out list[MOST];
    int64_t count;
} tensors;

static tensor_out *find(tensors *t, const char *name) {
    for (int64_t i = 0; i < t->count; i++)
        if (strcmp(t->list[i].name, name) == 0) return &t->list[i];
    cr_assert_fail("no %s", name);
    return NULL;
}

/* Rewrites model.safetensors of the folder after `edit` had its way with the tensors. */
static void rewrite(const char *folder, void (*edit)(tensors *)) {
    graft_error err = {0};
    char *path = path_join(folder, "model.safetensors");
    safetensors *st = NULL;
    tensors t = {.count = 0};
    arena memory = {0};
    cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const tensor_info *info = safetensors_at(st, i);
        tensor_out *o = &t.list[t.count++];
        void *data = arena_new(&memory, (size_t)info->bytes, 1);
        *o = (tensor_out){
            .name = arena_copy(&memory, info->name, strlen(info->name)), .dtype = info->dtype, .rank = info->rank};
        memcpy(o->shape, info->shape, sizeof o->shape);
        cr_assert_eq(safetensors_read(st, info, data, &err), 0, "%s", err.text);
        o->data = data;
    }
    safetensors_close(st);
    edit(&t);
    cr_assert_eq(safetensors_write(path, t.list, t.count, NULL, 0, &err), 0, "%s", err.text);
    arena_free(&memory);
    free(path);
}

/* Opens and loads; the model is closed again. */
static int try_load(const char *folder, graft_error *err) {
    model *m = NULL;
    kernels *k = NULL;
    *err = (graft_error){0};
    cr_assert_eq(kernels_open("ref", NULL, &k, err), 0, "%s", err->text);
    if (model_open(folder, &m, err) == GRAFT_OK) model_load(m, k, F32, NULL, NULL, err);
    model_close(m);
    k->close(k);
    return err->code;
}

static void refused(void (*edit)(tensors *), const char *more, const char *mention) {
    graft_error err;
    char *folder = sound(more);
    rewrite(folder, edit);
    cr_expect_neq(try_load(folder, &err), 0, "loaded although %s is wrong", mention);
    cr_expect(strstr(err.text, mention), "\"%s\" does not mention %s", err.text, mention);
    cr_expect(strstr(err.text, folder), "\"%s\" does not name the folder", err.text);
    done(folder);
}

static void accepted(void (*edit)(tensors *), const char *more, void (*check)(model *)) {
    graft_error err = {0};
    char *folder = sound(more);
    model *m = NULL;
    rewrite(folder, edit);
    cr_assert_eq(try_load(folder, &err), 0, "%s", err.text);
    cr_assert_eq(model_open(folder, &m, &err), 0, "%s", err.text);
    if (check) check(m);
    model_close(m);
    done(folder);
}

/* ---- damages ---- */

static void drop(tensors *t, const char *name) {
    tensor_out *o = find(t, name);
    *o = t->list[--t->count];
}
static void no_norm(tensors *t) {
    drop(t, "model.layers.1.input_layernorm.weight");
}
static void no_matrix(tensors *t) {
    drop(t, "model.layers.0.mlp.up_proj.weight");
}
static void no_head(tensors *t) {
    drop(t, "lm_head.weight");
}
static void turned(tensors *t) {
    tensor_out *o = find(t, "model.layers.0.self_attn.k_proj.weight");
    o->shape[0] = 16;
    o->shape[1] = 8;
}
static void flat(tensors *t) {
    tensor_out *o = find(t, "model.layers.0.self_attn.q_proj.weight");
    o->rank = 1;
    o->shape[0] = 256;
}
static void norm_as_matrix(tensors *t) {
    tensor_out *o = find(t, "model.norm.weight");
    o->rank = 2;
    o->shape[1] = 1;
}
static void fp8(tensors *t) {
    tensor_out *o = find(t, "model.layers.1.mlp.down_proj.weight");
    o->dtype = F8_E4M3;
}
static void integers(tensors *t) {
    find(t, "model.layers.1.mlp.down_proj.weight")->dtype = I32;
}
static void not_finite(tensors *t, const char *name, uint32_t bits) {
    float *values = (float *)(uintptr_t)find(t, name)->data;
    memcpy(values + 5, &bits, 4);
}
static void nan_matrix(tensors *t) {
    not_finite(t, "model.layers.1.self_attn.v_proj.weight", 0x7fc00000u);
}
static void infinite_norm(tensors *t) {
    not_finite(t, "model.norm.weight", 0xff800000u);
}

Test(model_folders, what_is_missing_or_does_not_fit_is_refused_by_name) {
    refused(no_norm, "", "model.layers.1.input_layernorm.weight");
    refused(no_matrix, "", "model.layers.0.mlp.up_proj.weight");
    refused(no_head, "", "lm_head.weight");
    refused(turned, "", "[16, 8]");
    refused(turned, "", "[8, 16]");
    refused(flat, "", "model.layers.0.self_attn.q_proj.weight");
    refused(norm_as_matrix, "", "model.norm.weight");
    refused(fp8, "", "F8_E4M3");
    refused(integers, "", "I32");
    refused(nan_matrix, "", "model.layers.1.self_attn.v_proj.weight");
    refused(infinite_norm, "", "model.norm.weight");
}

static void same(tensors *t) {
    (void)t;
}

Test(model_folders, a_config_of_other_sizes_is_refused) {
    graft_error err;
    char *folder = sound(""), *text = mem_format(config, ", \"intermediate_size\": 20, \"vocab_size\": 25");
    put(folder, "config.json", text, (int64_t)strlen(text)); /* vocab_size twice */
    cr_expect_neq(try_load(folder, &err), 0);
    cr_expect(strstr(err.text, "config.json"), "%s", err.text);
    free(text);
    text = mem_format(config, ", \"head_dim\": 4");
    put(folder, "config.json", text, (int64_t)strlen(text));
    cr_expect_neq(try_load(folder, &err), 0);
    cr_expect(strstr(err.text, "[8, 16]"), "%s", err.text);
    free(text);
    done(folder);
}

/* ---- what is odd but clear ---- */

static void extra(tensors *t) {
    static const float zero[4] = {0};
    t->list[t->count++] =
        (tensor_out){.name = "model.layers.0.surprise", .dtype = F32, .rank = 1, .shape = {4}, .data = zero};
    t->list[t->count++] =
        (tensor_out){.name = "model.rotary_emb.inv_freq", .dtype = F32, .rank = 1, .shape = {4}, .data = zero};
}
static void rename_all(tensors *t, const char *prefix) {
    static char names[MOST][96];
    for (int64_t i = 0; i < t->count; i++)
        if (strncmp(t->list[i].name, "model.", 6) == 0) {
            snprintf(names[i], sizeof names[i], "%s%s", prefix, t->list[i].name + 6);
            t->list[i].name = names[i];
        }
}
static void no_prefix(tensors *t) {
    rename_all(t, "");
}
static void wrapped(tensors *t) {
    rename_all(t, "model.language_model.");
}
static void wrapped_old(tensors *t) {
    rename_all(t, "language_model.model.");
    find(t, "lm_head.weight")->name = "language_model.lm_head.weight";
}
static void only_head(tensors *t) {
    find(t, "model.embed_tokens.weight")->name = "lm_head.weight";
}
static float other_head[24 * 16];
static void both_equal(tensors *t) {
    const tensor_out *embed = find(t, "model.embed_tokens.weight");
    t->list[t->count] = *embed;
    t->list[t->count++].name = "lm_head.weight";
}
static void both_differ(tensors *t) {
    both_equal(t);
    memcpy(other_head, find(t, "model.embed_tokens.weight")->data, sizeof other_head);
    other_head[100] += 1;
    find(t, "lm_head.weight")->data = other_head;
}
static double wide_head[24 * 16];
static void both_equal_in_two_types(tensors *t) {
    both_equal(t);
    dtype_convert(wide_head, F64, find(t, "model.embed_tokens.weight")->data, F32, 24 * 16);
    find(t, "lm_head.weight")->data = wide_head;
    find(t, "lm_head.weight")->dtype = F64;
}
static void is_tied(model *m) {
    cr_expect_geq(m->tensors[m->outside.weight[ROLE_HEAD]].tied_to, 0);
}
static void is_untied(model *m) {
    cr_expect_lt(m->tensors[m->outside.weight[ROLE_HEAD]].tied_to, 0);
}

Test(model_folders, spellings_and_extras_of_real_folders_are_read) {
    accepted(extra, "", NULL);
    accepted(no_prefix, "", NULL);
    accepted(wrapped, "", NULL);
    accepted(wrapped_old, "", NULL);
    accepted(same, "", is_untied);
}

Test(model_folders, tied_halves_are_one_table_only_when_they_are_equal) {
    const char *tied = ", \"tie_word_embeddings\": true";
    accepted(same, tied, is_tied);
    accepted(only_head, tied, is_tied);
    accepted(both_equal, tied, is_tied);
    accepted(both_equal_in_two_types, tied, is_tied);
    accepted(both_differ, tied, is_untied);
}

/* ---- the shared damages ---- */

static void check_mentions(const char *folder, const json_t *list, int all, const char *text) {
    size_t found = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        found += strstr(text, json_string_value(json_array_get(list, i))) != NULL;
    if (json_array_size(list)) cr_expect_geq(found, all ? json_array_size(list) : 1, "%s: \"%s\"", folder, text);
}

Test(model_folders, the_shared_damages_are_refused_as_expected) {
    graft_error err = {0};
    const char *root = SHARED_DIR "/golden/broken-models";
    char *path = path_join(root, "EXPECTED.json");
    json_t *expected = NULL;
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: the shared damaged models are not there\n");
        cr_skip_test("the shared damaged models are not there");
    }
    cr_assert_eq(json_read_file(path, 0, &expected, &err), 0, "%s", err.text);
    const char *name;
    json_t *entry;
    json_object_foreach(expected, name, entry) {
        char *folder = path_join(root, name);
        try_load(folder, &err);
        if (strcmp(json_string_value(json_object_get(entry, "verdict")), "refuse") == 0)
            cr_expect_neq(err.code, 0, "%s was loaded", name);
        if (err.code) check_mentions(name, json_object_get(entry, "message_mentions_all"), 1, err.text);
        if (err.code) check_mentions(name, json_object_get(entry, "message_mentions_any"), 0, err.text);
        free(folder);
    }
    json_decref(expected);
    free(path);
}

Test(model_folders, absent_folders_and_files_are_named) {
    graft_error err;
    char *folder = sound(""), *weights = path_join(folder, "model.safetensors"),
         *path = path_join(folder, "config.json");
    cr_expect_neq(try_load("/tmp/graft-no-such-folder", &err), 0);
    cr_expect(strstr(err.text, "/tmp/graft-no-such-folder"), "%s", err.text);
    unlink(weights);
    cr_expect_neq(try_load(folder, &err), 0);
    cr_expect(strstr(err.text, folder), "%s", err.text);
    unlink(path);
    cr_expect_neq(try_load(folder, &err), 0);
    cr_expect(strstr(err.text, "config.json"), "%s", err.text);
    free(weights);
    free(path);
    done(folder);
}

/* ---- random damage: an error or a model, never a crash ---- */

static void mutate(const char *folder, const char *name, int rounds) {
    graft_error err = {0};
    char *path = path_join(folder, name), *bytes = NULL;
    int64_t size;
    cr_assert_eq(file_read(path, 1 << 24, &bytes, &size, &err), 0, "%s", err.text);
    char *damaged = mem_new((size_t)size, 1);
    const int64_t reach = size < 4000 ? size : 4000; /* of weights: the header */
    for (int r = 0; r < rounds; r++) {
        memcpy(damaged, bytes, (size_t)size);
        const int edits = 1 + (int)(philox_bits(9, (uint64_t)r, 0) % 4);
        for (int e = 0; e < edits; e++) {
            const uint64_t bits = philox_bits(9, (uint64_t)r, (uint64_t)(e + 1));
            static const char likely[] = "0123456789-.eE\"{}[],: ntf";
            damaged[bits % (uint64_t)reach] = likely[bits >> 40 & 15];
        }
        const int64_t length = philox_bits(9, (uint64_t)r, 99) % 8 == 0
                                   ? (int64_t)(philox_bits(9, (uint64_t)r, 98) % (uint64_t)size)
                                   : size;
        put(folder, name, damaged, length);
        if (try_load(folder, &err)) cr_expect_gt(strlen(err.text), 0, "round %d", r);
    }
    put(folder, name, bytes, size);
    free(damaged);
    free(bytes);
    free(path);
}

Test(model_folders, random_damage_gives_an_error_or_a_model) {
    char *folder =
        sound(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
              "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}, \"eos_token_id\": [2, 3], "
              "\"sliding_window\": 4, \"tie_word_embeddings\": true");
    mutate(folder, "config.json", 1500);
    mutate(folder, "model.safetensors", 600);
    done(folder);
}

/* ---- rows from outside ---- */

static void rows_refused(workspace *w, model_rows r, const char *mention) {
    graft_error err = {0};
    float logits[24];
    const int32_t last = 0;
    cr_expect_neq(model_logits(w, &r, &last, 1, logits, &err), 0, "rows with a wrong %s were taken", mention);
    cr_expect(strstr(err.text, mention), "\"%s\" does not mention %s", err.text, mention);
}

Test(model_folders, rows_that_do_not_fit_are_refused) {
    graft_error err = {0};
    char *folder = sound("");
    kernels *k = NULL;
    model *m = NULL;
    workspace *w = NULL;
    cr_assert_eq(kernels_open("ref", NULL, &k, &err), 0);
    cr_assert_eq(model_open(folder, &m, &err), 0, "%s", err.text);
    cr_assert_eq(model_load(m, k, F32, NULL, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(workspace_create(m, NULL, &(workspace_config){.rows = 4, .documents = 2}, &w, &err), 0, "%s",
                 err.text);
    const int32_t ids[] = {1, 2, 3, 4, 5}, beyond[] = {1, 24, 3, 4}, negative[] = {1, -2, 3, 4};
    const int32_t positions[] = {0, 1, 2, 3, 4}, back[] = {0, 2, 1, 3}, below[] = {-1, 0, 1, 2};
    const int64_t one[] = {0, 4}, five[] = {0, 5}, gap[] = {0, 3}, crossed[] = {0, 3, 4}, three[] = {0, 1, 2, 4};
    const model_rows good = {.rows = 4, .ids = ids, .positions = positions, .documents = 1, .start = one};
    model_rows r = good;
    r.rows = 5;
    r.start = five;
    rows_refused(w, r, "5");
    r = good;
    r.ids = beyond;
    rows_refused(w, r, "24");
    r.ids = negative;
    rows_refused(w, r, "-2");
    r = good;
    r.positions = back;
    rows_refused(w, r, "position");
    r.positions = below;
    rows_refused(w, r, "position");
    r = good;
    r.start = gap;
    rows_refused(w, r, "documents");
    r = good;
    r.documents = 3;
    r.start = three;
    rows_refused(w, r, "documents");
    r = good;
    r.documents = 2;
    r.start = crossed;
    float logits[24 * 4];
    cr_expect_eq(model_logits(w, &r, NULL, 0, logits, &err), 0, "a document may begin anywhere: %s", err.text);
    const int32_t list[] = {4};
    err = (graft_error){0};
    cr_expect_neq(model_logits(w, &good, list, 1, logits, &err), 0);
    workspace_free(w);
    model_close(m);
    k->close(k);
    done(folder);
}
