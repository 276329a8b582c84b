/* safetensors files that are wrong: each is refused with a text that names file, tensor and numbers; nothing crashes,
 * and no byte outside a tensor is read, however a file is damaged. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EDGE   SHARED_DIR "/safetensors-edge"
#define GOLDEN SHARED_DIR "/golden/quant/"

static void skip_without(const char *path, const char *what) {
    if (file_exists(path)) return;
    fprintf(stderr, "skipped: %s is not there\n", what);
    cr_skip_test();
}

static char *scratch(const char *name) {
    return mem_format("%s/hostile-safetensors.%ld.%s", BINARY_DIR, (long)getpid(), name);
}

/* Opens and reads every tensor whole; whatever the file says must fit into the bytes that it has. */
static int read_all(const char *path, graft_error *err) {
    safetensors *st;
    int rc = safetensors_open(path, &st, err);
    if (rc != GRAFT_OK) return rc;
    for (int64_t i = 0; i < safetensors_count(st) && rc == GRAFT_OK; i++) {
        const tensor_info *const t = safetensors_at(st, i);
        void *const data = mem_new((size_t)t->bytes + 1, 1);
        rc = safetensors_read(st, t, data, err);
        free(data);
    }
    safetensors_close(st);
    return rc;
}

static void check_verdict(const char *path, int accept) {
    graft_error err = {0};
    const int rc = read_all(path, &err);
    if (accept)
        cr_expect_eq(rc, GRAFT_OK, "%s", err.text);
    else {
        cr_expect_eq(rc, GRAFT_FAILED, "%s is accepted", path);
        cr_expect(strstr(err.text, path), "the file is not named: %s", err.text);
    }
}

Test(hostile_safetensors, the_reference_librarys_own_edge_cases_get_its_verdict) {
    skip_without(EDGE "/EXPECTED.json", "safetensors-edge");
    graft_error err = {0};
    json_t *expected;
    cr_assert_eq(json_read_file(EDGE "/EXPECTED.json", 0, &expected, &err), GRAFT_OK, "%s", err.text);
    const char *name;
    json_t *verdict;
    json_object_foreach(expected, name, verdict) {
        char *const path = path_join(EDGE, name);
        check_verdict(path, strcmp(json_string_value(verdict), "accept") == 0);
        free(path);
    }
    json_decref(expected);
}

Test(hostile_safetensors, the_goldens_get_their_verdict) {
    skip_without(GOLDEN "safetensors.json", "golden/quant/safetensors.json");
    graft_error err = {0};
    json_t *root, *file;
    size_t i;
    cr_assert_eq(json_read_file(GOLDEN "safetensors.json", 0, &root, &err), GRAFT_OK, "%s", err.text);
    json_array_foreach(json_object_get(root, "files"), i, file) {
        char *const path = path_join(GOLDEN, json_string_value(json_object_get(file, "file")));
        check_verdict(path, json_is_true(json_object_get(file, "valid")));
        free(path);
    }
    json_decref(root);
}

/* A file made of a header text and `data` bytes. */
static char *make_file(const char *name, const char *header, int64_t data) {
    graft_error err = {0};
    strbuf text = {0};
    const uint64_t length = strlen(header);
    strbuf_add(&text, (const char *)&length, 8);
    strbuf_puts(&text, header);
    for (int64_t i = 0; i < data; i++)
        strbuf_puts(&text, "d");
    char *const path = scratch(name);
    cr_assert_eq(file_write(path, text.text, (int64_t)text.length, &err), GRAFT_OK, "%s", err.text);
    strbuf_free(&text);
    return path;
}

Test(hostile_safetensors, the_text_names_the_tensor_and_its_numbers) {
    static const struct {
        const char *header;
        int64_t data;
        const char *says;
    } cases[] = {
        {"[]",                                                                                                     0, "its header is not a JSON object"                                             },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}",                                        4, "not valid JSON"                                                              },
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",                                2, "duplicate object key"                                                        },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",                                       7,
         "tensor \"a\": lies at data bytes 0 to 8, but the file has 7 bytes of data: it is cut short"                                                                                               },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",                                       9, "1 stand behind them"                                                         },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",                                       8,
         "tensor \"a\": F32 [3] needs 12 bytes, but data_offsets give 0 to 8 (8 bytes)"                                                                                                             },
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",                                3, "tensor \"b\" begins at data byte 2, but the data before it ends at 1: a hole"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",                                3, "two tensors overlap"                                                         },
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,2]}}",                                        4, "lies at data bytes 4 to 2"                                                   },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4611686018427387904],\"data_offsets\":[0,4]}}", 4,
         "has no size"                                                                                                                                                                              },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],\"data_offsets\":[0,0]}}",                 0, "has no size"                                                                 },
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}",                                        1, "not whole bytes"                                                             },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",                                      4, "number 1 of shape"                                                           },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}",                                     4, "number 1 of shape"                                                           },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}",                       4, "shape has 9 numbers"                                                         },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}",                                        4, "shape is not a list"                                                         },
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}",                                                     4, "shape is missing"                                                            },
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}",                                     4, "data_offsets has 3 numbers"                                                  },
        {"{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}",                                            4, "dtype is missing or not a text"                                              },
        {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}",                                       4, "unknown dtype \"f32\""                                                       },
        {"{\"a\":[1]}",                                                                                            0, "tensor \"a\": its entry is not an object"                                    },
        {"{\"__metadata__\":[]}",                                                                                  0, "__metadata__ is not an object"                                               },
        {"{\"__metadata__\":{\"a\":null}}",                                                                        0, "__metadata__ entry \"a\" is not a text"                                      },
        {"{\"__metadata__\":{\"a\":\"x\\u0000y\"}}",                                                               0, "__metadata__ entry \"a\" is not a text"                                      },
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",                                0, "not valid JSON"                                                              },
        {"{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",                                  0, "not valid JSON"                                                              },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        char *const path = make_file("text", cases[i].header, cases[i].data);
        cr_expect_eq(read_all(path, &err), GRAFT_FAILED, "accepted: %s", cases[i].header);
        cr_expect(strstr(err.text, cases[i].says), "%s\nis said of\n%s", err.text, cases[i].header);
        cr_expect(strstr(err.text, path), "%s", err.text);
        unlink(path);
        free(path);
    }
}

Test(hostile_safetensors, what_is_no_regular_file_is_refused_at_once) {
    graft_error err = {0};
    check_verdict("/", 0);
    check_verdict("/dev/zero", 0);
    check_verdict("/nowhere/at/all.safetensors", 0);
    char *const path = scratch("pipe");
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(read_all(path, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "a device or a pipe"), "%s", err.text);
    unlink(path);
    free(path);
}

Test(hostile_safetensors, a_file_cut_while_open_is_an_error) {
    graft_error err = {0};
    char *const path = make_file("cut", "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8);
    safetensors *st;
    cr_assert_eq(safetensors_open(path, &st, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(truncate(path, 60), 0);
    char data[8];
    cr_expect_eq(safetensors_read(st, safetensors_find(st, "a"), data, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "cut while open"), "%s", err.text);
    safetensors_close(st);
    unlink(path);
    free(path);
}

static uint32_t next_random(uint32_t *state) {
    return *state = *state * 1664525u + 1013904223u;
}

/* One to four bytes changed, or a piece cut out or doubled. */
static void mutate(char *bytes, int64_t *size, uint32_t *state) {
    const uint32_t kind = next_random(state) >> 28;
    for (uint32_t i = 0; i <= kind % 4; i++)
        bytes[(next_random(state) >> 8) % (uint64_t)*size] = (char)(next_random(state) >> 24);
    const int64_t at = (int64_t)((next_random(state) >> 8) % (uint64_t)*size), left = *size - at;
    if (kind == 13) *size = at;
    if (kind == 14) memmove(bytes + at, bytes + at + left / 2, (size_t)(left - left / 2)), *size -= left / 2;
    if (kind == 15) memmove(bytes + at + left / 2, bytes + at, (size_t)(left - left / 2));
}

Test(hostile_safetensors, twenty_thousand_damaged_files_are_read_or_refused_without_a_crash, .timeout = 120) {
    static const float f[6] = {1, 2, 3, 4, 5, 6};
    static const tensor_out list[] = {
        {.name = "model.weight", .dtype = F32, .rank = 2,       .shape = {2, 3}, .data = f},
        {.name = "scalar",       .dtype = I64, .rank = 0,       .data = f      },
        {.name = "none",         .dtype = BF16,    .rank = 2, .shape = {0, 4}               },
        {.name = "bytes",             .dtype = U8,             .rank = 1,       .shape = {5},                .data = f         }
    };
    static const safetensors_note notes[] = {
        {"format", "pt"}
    };
    graft_error err = {0};
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char *const path = mem_format("/proc/self/fd/%d", fd), *const first = scratch("fuzz"), *original;
    int64_t size;
    cr_assert_eq(safetensors_write(first, list, 4, notes, 1, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(file_read(first, 1 << 20, &original, &size, &err), GRAFT_OK, "%s", err.text);
    char *const damaged = mem_new((size_t)size, 1);
    uint32_t state = 1;
    int accepted = 0, refused = 0;
    for (int i = 0; i < 20000; i++) {
        int64_t length = size;
        memcpy(damaged, original, (size_t)size);
        mutate(damaged, &length, &state);
        cr_assert(ftruncate(fd, length) == 0 && pwrite(fd, damaged, (size_t)length, 0) == length);
        err = (graft_error){0};
        const int rc = read_all(path, &err);
        if (rc == GRAFT_OK)
            accepted++;
        else
            refused++;
        cr_assert(rc == GRAFT_OK || *err.text, "mutation %d: no text", i);
    }
    cr_expect(accepted > 0 && refused > 0, "%d accepted, %d refused: the mutations do not reach both", accepted,
              refused);
    unlink(first);
    close(fd);
    free(path), free(first), free(original), free(damaged);
}

/* ---- folders ---- */

static const char whole_a[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
static const char whole_b[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";

/* A folder with shards s1 and s2 and an index; returns the text of the error that opening it gives. */
static graft_error open_folder(const char *first, const char *second, const char *index) {
    graft_error err = {0};
    char *const folder = scratch("folder");
    cr_assert_eq(file_make_folders(folder, &err), GRAFT_OK);
    const char *const headers[] = {first, second};
    for (int i = 0; i < 2; i++) {
        if (!headers[i]) continue;
        char *const made = make_file("shard", headers[i], 1);
        char *const to = mem_format("%s/s%d", folder, i + 1);
        cr_assert_eq(rename(made, to), 0);
        free(made);
        free(to);
    }
    char *const path = path_join(folder, "model.safetensors.index.json");
    if (index) cr_assert_eq(file_write(path, index, (int64_t)strlen(index), &err), GRAFT_OK);
    safetensors *st = NULL;
    weights_open(folder, &st, &err);
    safetensors_close(st);
    file_remove_tree(folder, &err);
    free(path);
    free(folder);
    return err;
}

Test(hostile_safetensors, index_and_shards_must_agree_and_the_text_names_both) {
    static const struct {
        const char *first, *second, *index, *says[2];
    } cases[] = {
        {whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s3\"}}",          {"s3 is missing", "holds tensor \"b\""}                          },
        {whole_a,
         whole_b,          "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
         {"tensor \"b\" should be in s1", "no shard has it"}                                                                                         },
        {whole_a,
         whole_b,          "{\"weight_map\":{\"a\":\"s2\",\"b\":\"s1\"}}",
         {"tensor \"a\" should be in s2, but is in", "s1"}                                                                                           },
        {whole_a, whole_a, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}",          {"tensor \"a\" is in two files", "s2"}                           },
        {whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"c\":\"s2\"}}",          {"\"c\"", "s2"}                                                  },
        {whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"../s2\"}}",       {"\"../s2\"", "plain name of a file"}                            },
        {whole_a,
         whole_b,          "{\"weight_map\":{\"a\":\"s1\",\"b\":\"/etc/passwd\"}}",
         {"tensor \"b\"", "plain name of a file"}                                                                                                    },
        {whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"..\"}}",          {"\"..\"", "plain name of a file"}                               },
        {whole_a,
         whole_b,          "{\"weight_map\":{\"a\":\"s1\",\"b\":7}}",
         {"tensor \"b\" is no text", "plain name of a file"}                                                                                         },
        {whole_a,
         whole_b,          "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\\u0000x\"}}",
         {"tensor \"b\"", "plain name of a file"}                                                                                                    },
        {whole_a, whole_b, "{\"weight_map\":{}}",                                   {"weight_map", "index.json"}                                     },
        {whole_a, whole_b, "{\"weight_map\":[]}",                                   {"weight_map", "index.json"}                                     },
        {whole_a, whole_b, "{}",                                                    {"weight_map", "index.json"}                                     },
        {whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"a\":\"s2\"}}",          {"duplicate object key", "index.json"}                           },
        {whole_a, whole_b, "{",                                                     {"not valid JSON", "index.json"}                                 },
        {whole_a, whole_b, NULL,                                                    {"neither model.safetensors nor", "model.safetensors.index.json"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const graft_error err = open_folder(cases[i].first, cases[i].second, cases[i].index);
        cr_expect_eq(err.code, GRAFT_FAILED, "case %zu is accepted", i);
        for (int k = 0; k < 2; k++)
            cr_expect(strstr(err.text, cases[i].says[k]), "case %zu: %s", i, err.text);
    }
    const graft_error fine = open_folder(whole_a, whole_b, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}");
    cr_expect_eq(fine.code, GRAFT_OK, "%s", fine.text);
}

Test(hostile_safetensors, a_shard_tensor_that_the_index_lacks_is_named) {
    static const char both[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                               "\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}";
    const graft_error err = open_folder(whole_a, both, "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}");
    cr_expect(strstr(err.text, "tensor \"c\" of ") && strstr(err.text, "is not in the index"), "%s", err.text);
}

Test(hostile_safetensors, broken_model_folders_name_what_is_wrong) {
    skip_without(SHARED_DIR "/golden/broken-models", "golden/broken-models");
    graft_error err = {0};
    safetensors *st;
    cr_expect_eq(weights_open(SHARED_DIR "/golden/broken-models/absent-shard", &st, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "model-00001-of-00002.safetensors"), "%s", err.text);
    err = (graft_error){0};
    cr_expect_eq(weights_open(SHARED_DIR "/golden/broken-models/truncated-file", &st, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "model.safetensors"), "%s", err.text);
}
