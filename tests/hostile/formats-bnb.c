/* Damaged states of bitsandbytes: what bitsandbytes itself would load without a word is refused by name. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/bnb.h"
#include "kernels/codebook.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A nested NF4 weight of 8 rows of 40 (10 blocks of 32), and an 8-bit one: the tensors, to be spoilt by the tests. */
enum { CODES, ABSMAX, MAP, STATE, NESTED_ABSMAX, NESTED_MAP, TENSORS };
static const uint8_t codes[160], scales[10];
static float nested[1] = {1};

static int32_t make_4bit(arena *memory, tensor_out list[BNB_TENSORS]) {
    bnb_weight w = {
        .kind = BNB_4BIT,
        .rank = 2,
        .shape = {8, 40},
        .type = BF16,
        .block = 32,
        .nested = 1,
        .nested_block = 256,
        .nested_offset = 0.5f
    };
    memcpy(w.code, codebook_nf4, sizeof w.code);
    for (int i = 0; i < 256; i++)
        w.nested_code[i] = (float)i / 255;
    return bnb_tensors("a.weight", &w, codes, scales, nested, memory, list);
}

static char *scratch(void) {
    return mem_format("%s/hostile-bnb.%ld", BINARY_DIR, (long)getpid());
}

/* Reads the weight and its data, as whoever loads a model does. */
static int read_weight(const char *path, graft_error *err) {
    safetensors *st;
    bnb_weight w;
    int rc = safetensors_open(path, &st, err);
    if (rc != GRAFT_OK) return rc;
    rc = bnb_read(st, "a.weight", &w, err);
    if (rc == GRAFT_OK) {
        void *const data = mem_new((size_t)w.codes->bytes + 1, 1);
        float *const absmax = mem_new((size_t)w.scales + 1, sizeof *absmax);
        rc = bnb_read_codes(st, &w, data, err);
        if (rc == GRAFT_OK) rc = bnb_read_scales(st, &w, absmax, err);
        free(absmax);
        free(data);
    }
    safetensors_close(st);
    return rc;
}

static graft_error read_list(const tensor_out *list, int32_t count) {
    graft_error err = {0};
    char *const path = scratch();
    cr_assert_eq(safetensors_write(path, list, count, NULL, 0, &err), GRAFT_OK, "%s", err.text);
    read_weight(path, &err);
    unlink(path);
    free(path);
    return err;
}

static void set_state(tensor_out *list, const char *json) {
    list[STATE].data = json;
    list[STATE].shape[0] = (int64_t)strlen(json);
}

static void refused_list(const tensor_out *list, int32_t count, const char *says) {
    const graft_error err = read_list(list, count);
    cr_expect_eq(err.code, GRAFT_FAILED, "accepted, but should be refused: %s", says);
    cr_expect(strstr(err.text, says), "\"%s\" is not in: %s", says, err.text);
    cr_expect(strstr(err.text, "a.") && strstr(err.text, "hostile-bnb"), "%s", err.text);
}

#define STATE_OF(type, block, dtype, shape, more)                                                                      \
    "{\"quant_type\": \"" type "\", \"blocksize\": " block ", \"dtype\": \"" dtype "\", \"shape\": " shape more "}"
#define NESTED(block, dtype, offset)                                                                                   \
    ", \"nested_blocksize\": " block ", \"nested_dtype\": \"" dtype "\", \"nested_offset\": " offset

Test(hostile_bnb, an_undamaged_weight_is_read) {
    arena memory = {0};
    tensor_out list[BNB_TENSORS];
    const graft_error err = read_list(list, make_4bit(&memory, list));
    cr_expect_eq(err.code, GRAFT_OK, "%s", err.text);
    arena_free(&memory);
}

Test(hostile_bnb, a_state_that_contradicts_its_tensors_is_refused) {
    static const char *const cases[][2] = {
        {STATE_OF("fp4", "32",                   "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")), "the tensor's name says nf4"},
        {STATE_OF("nf4",     "64",               "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")),
         "U8 [5] belongs to this weight"},
        {STATE_OF("nf4",       "33", "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")), "\"blocksize\" is 33"},
        {STATE_OF("nf4", "0",               "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")), "\"blocksize\" is 0"},
        {STATE_OF("nf4",     "-32",               "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")), "\"blocksize\" is -32"},
        {STATE_OF("nf4",       "\"32\"",        "bfloat16", "[8, 40]", NESTED("256", "float32", "0.5")), "\"blocksize\" is a text"},
        {STATE_OF("nf4", "32",             "float64", "[8, 40]", NESTED("256", "float32", "0.5")), "\"dtype\" is \"float64\""},
        {STATE_OF("nf4",     "32",               "bfloat16", "[8, 41]", NESTED("256", "float32", "0.5")),
         "its state needs 164 bytes (328 elements)"},
        {STATE_OF("nf4",       "32",        "bfloat16", "[]", NESTED("256", "float32", "0.5")), "\"shape\" is not a list"},
        {STATE_OF("nf4", "32",                    "bfloat16", "[8, 0]", NESTED("256", "float32", "0.5")), "\"shape\" is not a list"},
        {STATE_OF("nf4",     "32",               "bfloat16", "[8, -40]", NESTED("256", "float32", "0.5")), "\"shape\" is not a list"},
        {STATE_OF("nf4",       "32",         "bfloat16", "[4611686018427387904, 4611686018427387904]",
         NESTED("256", "float32", "0.5")),
         "\"shape\" is not a list"},
        {STATE_OF("nf4", "32",              "bfloat16", "{}", NESTED("256", "float32", "0.5")), "\"shape\" is not a list"},
        {STATE_OF("nf4",     "32",               "bfloat16", "[8, 40]", NESTED("31", "float32", "0.5")), "\"nested_blocksize\" is 31"},
        {STATE_OF("nf4",       "32",       "bfloat16", "[8, 40]", NESTED("256", "float16", "0.5")),
         "\"nested_dtype\" is \"float16\""},
        {STATE_OF("nf4", "32",         "bfloat16", "[8, 40]", NESTED("256", "float32", "null")),
         "\"nested_offset\" must be a number"},
        {STATE_OF("nf4",     "32",               "bfloat16", "[8, 40]", NESTED("256", "float32", "1e300")),
         "\"nested_offset\" must be a number"},
        {STATE_OF("nf4",       "32",    "bfloat16", "[8, 40]", ""), "\"nested_blocksize\" is 0"},
        {STATE_OF("nf4", "32",                   "bfloat16", "[8, 40]", ", \"zero_point\": 1"), "key \"zero_point\" has no place"},
        {"[]",     "is not a JSON object"              },
        {"{\"quant_type\": ",       "not valid JSON"  },
        {"{}", "\"quant_type\" is \"\""              },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arena memory = {0};
        tensor_out list[BNB_TENSORS];
        const int32_t count = make_4bit(&memory, list);
        set_state(list, cases[i][0]);
        refused_list(list, count, cases[i][1]);
        arena_free(&memory);
    }
}

Test(hostile_bnb, tensors_that_contradict_the_state_are_refused) {
    static const float zeros[256], infinite[1] = {INFINITY}, negative[1] = {-1};
    static const struct {
        int tensor, drop;
        dtype type;
        int64_t count;
        const void *data;
        const char *says;
    } cases[] = {
        {ABSMAX,        1, U8,   0,   NULL,     "\"a.weight.absmax\" is missing"            },
        {MAP,           1, U8,   0,   NULL,     "\"a.weight.quant_map\" is missing"         },
        {STATE,         1, U8,   0,   NULL,     "has no state of bitsandbytes"              },
        {NESTED_ABSMAX, 1, U8,   0,   NULL,     "\"a.weight.nested_absmax\" is missing"     },
        {NESTED_MAP,    1, U8,   0,   NULL,     "\"a.weight.nested_quant_map\" is missing"  },
        {CODES,         1, U8,   0,   NULL,     "\"a.weight\" is missing"                   },
        {ABSMAX,        0, U8,   9,   codes,    "U8 [9]; U8 [10] belongs to this weight"    },
        {ABSMAX,        0, BF16, 10,  codes,    "BF16 [10]; U8 [10] belongs to this weight" },
        {MAP,           0, F32,  15,  zeros,    "F32 [15]; F32 [16] belongs to this weight" },
        {MAP,           0, F32,  16,  zeros,    "code 0 is 0; in nf4 it is -1"              },
        {NESTED_ABSMAX, 0, F32,  2,   zeros,    "F32 [2]; F32 [1] belongs to this weight"   },
        {NESTED_ABSMAX, 0, F32,  1,   infinite, "element 0 is inf"                          },
        {NESTED_ABSMAX, 0, F32,  1,   negative, "element 0 is -1; a scale is a number"      },
        {NESTED_MAP,    0, F32,  256, zeros,    "must rise from -1 or more to 1"            },
        {NESTED_MAP,    0, F32,  16,  zeros,    "F32 [16]; F32 [256] belongs to this weight"},
        {STATE,         0, I8,   10,  codes,    "a short JSON text as U8 belongs there"     },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arena memory = {0};
        tensor_out list[BNB_TENSORS];
        int32_t count = make_4bit(&memory, list);
        if (cases[i].drop) {
            list[cases[i].tensor] = list[--count];
        } else {
            list[cases[i].tensor].dtype = cases[i].type;
            list[cases[i].tensor].shape[0] = cases[i].count;
            list[cases[i].tensor].data = cases[i].data;
        }
        refused_list(list, count, cases[i].says);
        arena_free(&memory);
    }
}

Test(hostile_bnb, foreign_and_double_states_are_refused) {
    arena memory = {0};
    tensor_out list[BNB_TENSORS + 1];
    const int32_t count = make_4bit(&memory, list);
    list[count] = (tensor_out){.name = "a.weight.zero_point", .dtype = U8, .rank = 1, .shape = {1}, .data = codes};
    refused_list(list, count + 1, "\"a.weight.zero_point\" is no part of a bitsandbytes weight");
    list[count].name = "a.weight.quant_state.bitsandbytes__fp4";
    refused_list(list, count + 1, "has two states, nf4 and fp4");
    arena_free(&memory);
}

Test(hostile_bnb, rows_of_8_bits_are_checked_too) {
    static const float scb[8] = {1, 1, 1, 1, 1, 1, 1, NAN};
    const bnb_weight w = {
        .kind = BNB_8BIT, .rank = 2, .shape = {8, 20}
    };
    arena memory = {0};
    tensor_out list[BNB_TENSORS];
    cr_assert_eq(bnb_tensors("a.weight", &w, codes, scb, NULL, &memory, list), 3);
    refused_list(list, 3, "\"a.SCB\": element 7 is nan");
    list[1].shape[0] = 7;
    refused_list(list, 3, "F32 [7]; F32 [8] belongs to this weight");
    list[1].shape[0] = 8;
    static const uint8_t columns = 2;
    list[2].data = &columns;
    refused_list(list, 3, "\"a.weight_format\" is 2");
    list[2].dtype = F32, list[2].data = scb;
    refused_list(list, 3, "one U8 belongs there");
    list[0].dtype = U8;
    refused_list(list, 2, "a bitsandbytes weight is I8 [out, in]");
    list[0] = list[1];
    refused_list(list, 1, "\"a.weight\" is missing");
    arena_free(&memory);
}

static uint32_t next_random(uint32_t *state) {
    return *state = *state * 1664525u + 1013904223u;
}

Test(hostile_bnb, ten_thousand_damaged_weights_are_read_or_refused_without_a_crash, .timeout = 120) {
    arena memory = {0};
    tensor_out list[BNB_TENSORS];
    graft_error err = {0};
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char *const path = mem_format("/proc/self/fd/%d", fd), *const first = scratch(), *original;
    int64_t size;
    cr_assert_eq(safetensors_write(first, list, make_4bit(&memory, list), NULL, 0, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(file_read(first, 1 << 20, &original, &size, &err), GRAFT_OK);
    char *const damaged = mem_new((size_t)size, 1);
    uint32_t state = 7;
    int refused = 0;
    for (int i = 0; i < 10000; i++) {
        memcpy(damaged, original, (size_t)size);
        for (uint32_t k = 0; k <= i % 3u; k++)
            damaged[(next_random(&state) >> 8) % (uint64_t)size] = (char)(next_random(&state) >> 24);
        cr_assert(pwrite(fd, damaged, (size_t)size, 0) == size);
        err = (graft_error){0};
        const int rc = read_weight(path, &err);
        refused += rc != GRAFT_OK;
        cr_assert(rc == GRAFT_OK || *err.text, "mutation %d: no text", i);
    }
    cr_expect(refused > 1000 && refused < 10000, "%d of 10000 refused", refused);
    unlink(first);
    close(fd);
    free(path), free(first), free(original), free(damaged);
    arena_free(&memory);
}
