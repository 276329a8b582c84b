/* The safetensors reader and writer on files that are right: what is read is what stands there, what is written is what
 * the reference library writes. Goldens: safetensors 0.8.0. */
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/quant/"

static void ok(int rc, const graft_error *err) {
    cr_assert_eq(rc, GRAFT_OK, "%s", err->text);
}

static char *scratch(const char *name) {
    return mem_format("%s/formats-safetensors.%ld.%s", BINARY_DIR, (long)getpid(), name);
}

static json_t *golden(void) {
    graft_error err = {0};
    json_t *root = NULL;
    if (!file_exists(GOLDEN "safetensors.json")) {
        fprintf(stderr, "skipped: golden/quant/safetensors.json is not there\n");
        cr_skip_test();
    }
    ok(json_read_file(GOLDEN "safetensors.json", JSON_ALLOW_NUL, &root, &err), &err);
    return root;
}

/* Writes the tensors of `st` in the order `given` and compares with the file it came from. */
static void rewrite_equals(const safetensors *st, const json_t *given, const char *original) {
    graft_error err = {0};
    const size_t count = json_array_size(given);
    tensor_out *const list = mem_new(count + 1, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        const tensor_info *const t = safetensors_find(st, json_string_value(json_array_get(given, i)));
        cr_assert_not_null(t);
        void *const data = mem_new((size_t)t->bytes + 1, 1);
        ok(safetensors_read(st, t, data, &err), &err);
        list[i] = (tensor_out){.name = t->name, .type = t->type, .rank = t->rank, .data = data};
        memcpy(list[i].shape, t->shape, sizeof t->shape);
    }
    int64_t note_count;
    const safetensors_note *const notes = safetensors_notes(st, &note_count);
    char *const path = scratch("rewrite");
    ok(safetensors_write(path, list, (int64_t)count, notes, note_count, &err), &err);
    char *want, *have;
    int64_t want_size, have_size;
    ok(file_read(original, 1 << 20, &want, &want_size, &err), &err);
    ok(file_read(path, 1 << 20, &have, &have_size, &err), &err);
    cr_expect(have_size == want_size && memcmp(have, want, (size_t)want_size) == 0, "%s: not the same bytes", original);
    unlink(path);
    for (size_t i = 0; i < count; i++)
        free((void *)(uintptr_t)list[i].data);
    free(list);
    free(path);
    free(want);
    free(have);
}

Test(formats_safetensors, every_tensor_of_the_goldens_is_read_and_rewritten_byte_for_byte) {
    json_t *const root = golden();
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(root, "files"), i, file) {
        if (!json_is_true(json_object_get(file, "valid"))) continue;
        graft_error err = {0};
        safetensors *st;
        char *const path = path_join(GOLDEN, json_string_value(json_object_get(file, "file")));
        ok(safetensors_open(path, &st, &err), &err);
        const char *name;
        json_t *want;
        json_object_foreach(json_object_get(file, "tensors"), name, want) {
            const tensor_info *const t = safetensors_find(st, name);
            cr_assert_not_null(t, "%s: %s", path, name);
            cr_expect_str_eq(t->type, json_string_value(json_object_get(want, "dtype")));
            const json_t *const shape = json_object_get(want, "shape");
            cr_assert_eq((size_t)t->rank, json_array_size(shape));
            for (int d = 0; d < t->rank; d++)
                cr_expect_eq(t->shape[d], json_integer_value(json_array_get(shape, (size_t)d)));
            char *const data = mem_new((size_t)t->bytes + 1, 1);
            ok(safetensors_read(st, t, data, &err), &err);
            char crc[9];
            snprintf(crc, sizeof crc, "%08x", digest_crc32(0, data, (size_t)t->bytes));
            cr_expect_str_eq(crc, json_string_value(json_object_get(want, "crc32")));
            free(data);
        }
        const json_t *const order = json_object_get(file, "header_order");
        for (size_t k = 0; k < json_array_size(order); k++)
            cr_expect_str_eq(safetensors_at(st, (int64_t)k)->name, json_string_value(json_array_get(order, k)));
        json_object_foreach(json_object_get(file, "metadata"), name, want) {
            cr_expect_str_eq(safetensors_note_value(st, name), json_string_value(want));
        }
        if (json_is_true(json_object_get(file, "byte_exact_for_writer")))
            rewrite_equals(st, json_object_get(file, "given_order"), path);
        safetensors_close(st);
        free(path);
    }
    json_decref(root);
}

Test(formats_safetensors, parts_and_conversions_equal_the_whole) {
    graft_error err = {0};
    enum { N = 200000 }; /* more than one chunk of the converter */
    float *const f = mem_new(N, 4);
    int64_t *const ids = mem_new(N, 8);
    for (int i = 0; i < N; i++)
        f[i] = (float)i / 7, ids[i] = i - 5;
    const tensor_out list[] = {
        {.name = "ids", .dtype = I64, .rank = 1,  .shape = {N},            .data = ids},
        {.name = "f",             .dtype = F32,               .rank = 2, .shape = {N / 2, 2}, .data = f},
        {.name = "b",    .dtype = U8,                .rank = 0,                .data = "\7"                        },
    };
    char *const path = scratch("parts");
    ok(safetensors_write(path, list, 3, NULL, 0, &err), &err);
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    cr_expect_str_eq(safetensors_at(st, 0)->name, "ids");
    float part[3];
    ok(safetensors_read_part(st, safetensors_find(st, "f"), 4 * 1000, 12, part, &err), &err);
    cr_expect_eq(memcmp(part, f + 1000, 12), 0);
    double *const d = mem_new(N, 8);
    ok(safetensors_read_as(st, safetensors_find(st, "f"), d, F64, &err), &err);
    int32_t *const narrow = mem_new(N, 4);
    ok(safetensors_read_as(st, safetensors_find(st, "ids"), narrow, I32, &err), &err);
    for (int i = 0; i < N; i++)
        cr_assert(d[i] == (double)f[i] && narrow[i] == ids[i]);
    int64_t one = 0;
    ok(safetensors_read_as(st, safetensors_find(st, "b"), &one, I64, &err), &err);
    cr_expect_eq(one, 7);
    cr_expect_eq(safetensors_read_part(st, safetensors_find(st, "f"), 4 * N - 4, 8, part, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"f\""), "%s", err.text);
    err = (graft_error){0};
    cr_expect_eq(safetensors_read_as(st, safetensors_find(st, "f"), narrow, I32, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "stored as F32 and cannot be read as I32"), "%s", err.text);
    safetensors_close(st);
    unlink(path);
    free(path), free(f), free(ids), free(d), free(narrow);
}

Test(formats_safetensors, an_integer_that_does_not_fit_is_named) {
    graft_error err = {0};
    const int64_t ids[] = {1, 2, (int64_t)1 << 31};
    const uint64_t large[] = {UINT64_MAX};
    const tensor_out list[] = {
        {.name = "ids",   .dtype = I64, .rank = 1, .shape = {3}, .data = ids  },
        {.name = "large", .dtype = U64, .rank = 1, .shape = {1}, .data = large}
    };
    char *const path = scratch("large");
    ok(safetensors_write(path, list, 2, NULL, 0, &err), &err);
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    int32_t narrow[3];
    int64_t wide;
    cr_expect_eq(safetensors_read_as(st, safetensors_find(st, "ids"), narrow, I32, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"ids\": element 2 (I64) does not fit into I32"), "%s", err.text);
    err = (graft_error){0};
    cr_expect_eq(safetensors_read_as(st, safetensors_find(st, "large"), &wide, I64, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"large\": element 0"), "%s", err.text);
    safetensors_close(st);
    unlink(path);
    free(path);
}

Test(formats_safetensors, a_writer_streams_in_its_order_and_refuses_wrong_amounts) {
    graft_error err = {0};
    const tensor_out list[] = {
        {.name = "small", .dtype = U8,  .rank = 1, .shape = {3}},
        {.name = "none",  .dtype = F32, .rank = 1, .shape = {0}},
        {.name = "wide",  .dtype = F32, .rank = 1, .shape = {2}}
    };
    char *const path = scratch("stream");
    safetensors_writer *w;
    ok(safetensors_create(path, list, 3, NULL, 0, &w, &err), &err);
    cr_expect_eq(safetensors_next(w), 2);
    ok(safetensors_put(w, "abcd", 4, &err), &err);
    cr_expect_eq(safetensors_put(w, "abcdefgh", 8, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"wide\" has room for 4"), "%s", err.text);
    err = (graft_error){0};
    ok(safetensors_put(w, "efgh", 4, &err), &err);
    cr_expect_eq(safetensors_next(w), 0);
    cr_expect_eq(safetensors_commit(w, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"small\" got 0 of its 3 bytes"), "%s", err.text);
    cr_expect_not(file_exists(path), "an incomplete file has appeared");
    free(path);
}

Test(formats_safetensors, a_writer_refuses_names_and_types_that_no_file_may_have) {
    static const struct {
        tensor_out list[2];
        const char *says;
    } cases[] = {
        {{{.name = "a", .dtype = U8, .rank = 1}, {.name = "a", .dtype = F32, .rank = 1}},
         "\"a\" would be written twice"                                                                           },
        {{{.name = "\xff", .dtype = U8, .rank = 1}, {.name = "a", .dtype = U8, .rank = 1}}, "must be UTF-8"       },
        {{{.name = "__metadata__", .dtype = U8, .rank = 1}, {.name = "a", .rank = 1}},      "not __metadata__"    },
        {{{.name = "a", .type = "Q4", .rank = 1}, {.name = "b", .rank = 1}},                "unknown dtype \"Q4\""},
        {{{.name = "a", .dtype = U8, .rank = 1, .shape = {-1}}, {.name = "b", .rank = 1}},  "has no size"         },
        {{{.name = "a", .type = "F4", .rank = 1, .shape = {3}}, {.name = "b", .rank = 1}},  "has no size"         },
    };
    char *const path = scratch("refused");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        cr_expect_eq(safetensors_write(path, cases[i].list, 2, NULL, 0, &err), GRAFT_FAILED);
        cr_expect(strstr(err.text, cases[i].says), "%s", err.text);
        cr_expect_not(file_exists(path));
    }
    free(path);
}

Test(formats_safetensors, a_missing_tensor_is_an_error_with_the_nearest_name) {
    graft_error err = {0};
    const tensor_out list[] = {
        {.name = "model.norm.weight", .dtype = U8, .rank = 1, .shape = {1}, .data = "x"}
    };
    char *const path = scratch("need");
    ok(safetensors_write(path, list, 1, NULL, 0, &err), &err);
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    const tensor_info *t;
    ok(safetensors_need(st, "model.norm.weight", &t, &err), &err);
    cr_expect_eq(safetensors_need(st, "model.norm.weigth", &t, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"model.norm.weigth\" is missing; the nearest name in it is \"model.norm.weight\""),
              "%s", err.text);
    safetensors_close(st);
    unlink(path);
    free(path);
}

Test(formats_safetensors, types_graft_does_not_compute_with_are_copied_through) {
    graft_error err = {0};
    const tensor_out list[] = {
        {.name = "f4",    .type = "F4",      .rank = 1, .shape = {4}, .data = "ab"},
        {.name = "scale", .type = "F8_E8M0", .rank = 1, .shape = {1}, .data = "c" }
    };
    char *const path = scratch("foreign");
    ok(safetensors_write(path, list, 2, NULL, 0, &err), &err);
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    char data[2];
    const tensor_info *const t = safetensors_find(st, "f4");
    cr_assert(t && t->bytes == 2 && t->dtype == DTYPE_COUNT);
    ok(safetensors_read(st, t, data, &err), &err);
    cr_expect_eq(memcmp(data, "ab", 2), 0);
    cr_expect_eq(safetensors_read_as(st, t, data, F32, &err), GRAFT_FAILED);
    safetensors_close(st);
    unlink(path);
    free(path);
}

static void check_shards(const char *folder, int shards) {
    graft_error err = {0};
    safetensors *st;
    char *const path = path_join(SHARED_DIR "/golden/models", folder);
    ok(weights_open(path, &st, &err), &err);
    cr_expect_eq(safetensors_shards(st), shards);
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const tensor_info *const t = safetensors_at(st, i);
        cr_expect_eq(safetensors_find(st, t->name), t);
        float *const data = mem_new((size_t)t->count + 1, 4);
        ok(safetensors_read_as(st, t, data, F32, &err), &err);
        free(data);
    }
    safetensors_close(st);
    free(path);
}

Test(formats_safetensors, model_folders_open_with_and_without_shards) {
    if (!file_exists(SHARED_DIR "/golden/models")) {
        fprintf(stderr, "skipped: golden/models is not there\n");
        cr_skip_test();
    }
    check_shards("llama-bf16-3shards", 3);
    check_shards("qwen2", 1);
}

/* ---- folders ---- */

/* Writes `count` bytes-wide tensors t0, t1 ... in shards of at most `limit` bytes; weights_next decides the order. */
static void write_folder(const char *folder, const tensor_out *list, int64_t count, int64_t limit) {
    graft_error err = {0};
    weights_writer *w;
    ok(weights_create(folder, list, count, NULL, 0, limit, &w, &err), &err);
    for (int64_t i; (i = weights_next(w)) >= 0;)
        ok(weights_put(w, list[i].data, list[i].shape[0], &err), &err);
    ok(weights_commit(w, &err), &err);
}

static int has(const char *folder, const char *name) {
    char *const path = path_join(folder, name);
    const int there = file_exists(path);
    free(path);
    return there;
}

Test(formats_safetensors, a_model_folder_is_cut_into_shards_and_read_as_one_set) {
    static const tensor_out list[] = {
        {.name = "d",     .dtype = U8, .rank = 1, .shape = {3}, .data = "ddd"      },
        {.name = "empty", .dtype = U8, .rank = 1, .shape = {0}, .data = ""         },
        {.name = "c",     .dtype = U8, .rank = 1, .shape = {2}, .data = "cc"       },
        {.name = "large", .dtype = U8, .rank = 1, .shape = {9}, .data = "123456789"},
        {.name = "a",     .dtype = U8, .rank = 1, .shape = {1}, .data = "a"        }
    };
    static const int shards[] = {1, 1, 1, 2, 3};
    graft_error err = {0};
    char *const folder = scratch("folder"), *text;
    ok(file_make_folders(folder, &err), &err);
    write_folder(folder, list, 5, 1000);
    cr_expect(has(folder, "model.safetensors") && !has(folder, "model.safetensors.index.json"));
    write_folder(folder, list, 4, 4);
    cr_expect(!has(folder, "model.safetensors"), "the old single file would be read instead of the shards");
    write_folder(folder, list, 5, 9);
    safetensors *st;
    ok(weights_open(folder, &st, &err), &err);
    cr_expect_eq(safetensors_count(st), 5);
    for (int i = 0; i < 5; i++) {
        char data[9];
        const tensor_info *const t = safetensors_find(st, list[i].name);
        ok(safetensors_read(st, t, data, &err), &err);
        cr_expect_eq(memcmp(data, list[i].data, (size_t)t->bytes), 0);
        char *const name = mem_format("model-%05d-of-00003.safetensors", shards[i]);
        cr_expect(strstr(safetensors_path(st, t->shard), name), "%s is in %s", t->name, safetensors_path(st, t->shard));
        free(name);
    }
    safetensors_close(st);
    char *const index = path_join(folder, "model.safetensors.index.json");
    int64_t size;
    ok(file_read(index, 1 << 20, &text, &size, &err), &err);
    cr_expect_eq(strncmp(text,
                         "{\n  \"metadata\": {\n    \"total_parameters\": 15,\n    \"total_size\": 15\n  },\n"
                         "  \"weight_map\": {\n    \"a\": \"model-00003-of-00003.safetensors\",\n    \"c\": ",
                         120),
                 0, "%s", text);
    cr_expect(size > 2 && strcmp(text + size - 2, "}\n") == 0);
    write_folder(folder, list, 5, 1000);
    cr_expect_not(has(folder, "model.safetensors.index.json"), "the old index contradicts the single file");
    ok(file_remove_tree(folder, &err), &err);
    free(text), free(index), free(folder);
}

Test(formats_safetensors, an_incomplete_folder_does_not_appear) {
    static const tensor_out list[] = {
        {.name = "a", .dtype = U8, .rank = 1, .shape = {2}},
        {.name = "b", .dtype = U8, .rank = 1, .shape = {2}}
    };
    static const tensor_out twice[] = {
        {.name = "a", .dtype = U8, .rank = 1},
        {.name = "a", .dtype = U8, .rank = 1}
    };
    graft_error err = {0};
    char *const folder = scratch("partial");
    ok(file_make_folders(folder, &err), &err);
    weights_writer *w;
    ok(weights_create(folder, list, 2, NULL, 0, 2, &w, &err), &err);
    ok(weights_put(w, "aa", 2, &err), &err);
    cr_expect_eq(weights_next(w), 1);
    cr_expect_eq(weights_commit(w, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"b\" got 0 of its 2 bytes"), "%s", err.text);
    cr_expect_not(has(folder, "model-00001-of-00002.safetensors"));
    err = (graft_error){0};
    cr_expect_eq(weights_create(folder, twice, 2, NULL, 0, 100, &w, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"a\" would be written twice"), "%s", err.text);
    err = (graft_error){0};
    cr_assert_eq(rmdir(folder), 0, "temporary files are left");
    free(folder);
}
