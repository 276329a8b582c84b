/* GPTQ's tensors: words as AutoGPTQ's own unpacking reads them, and what is written reads back. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/gptq.h"
#include "kernels/bits.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(gptq, .timeout = 60);

enum { OUT = 64, IN = 96, GROUP = 40, GROUPS = 3 };

static unsigned code_of(int64_t o, int64_t i, int bits) {
    return (unsigned)(o * 7 + i * 13 + (o ^ i)) & ((1u << bits) - 1);
}
static unsigned zero_of(int64_t o, int64_t g, int bits) {
    return 1 + (unsigned)(o * 5 + g * 3) % ((1u << bits) - 1);
}

/* Element i of a column of words, as qlinear_cuda.py unpacks it: shifts and masks, three words at a time for 3 bits. */
static unsigned unpack(const uint32_t *words, int64_t stride, int64_t i, int bits) {
    if (bits != 3) return words[i * bits / 32 * stride] >> (i * bits % 32) & ((1u << bits) - 1);
    const uint32_t *w = words + i / 32 * 3 * stride;
    const int64_t k = i % 32;
    if (k < 10) return w[0] >> (3 * k) & 7;
    if (k == 10) return (w[0] >> 30 & 3) | (w[stride] << 2 & 4);
    if (k < 21) return w[stride] >> (3 * (k - 11) + 1) & 7;
    if (k == 21) return (w[stride] >> 31 & 1) | (w[2 * stride] << 1 & 6);
    return w[2 * stride] >> (3 * (k - 22) + 2) & 7;
}

typedef struct {
    gptq_weight w;
    arena memory;
    tensor_out list[GPTQ_TENSORS];
    int32_t count;
    uint8_t codes[OUT * GROUP * GROUPS], zeros[OUT * GROUPS];
    float scales[OUT * GROUPS];
    uint32_t words[IN / 4 * OUT];
} made;

static made *make(int bits, int v2, float scale) {
    made *const m = mem_new(1, sizeof *m);
    graft_error err = {0};
    const gptq_config c = {.bits = bits, .group_size = GROUP, .plain_zeros = v2};
    cr_assert_eq(gptq_lay_out(&c, OUT, IN, "a.weight", &m->w, &err), 0, "%s", err.text);
    cr_assert_eq(m->w.groups, GROUPS);
    for (int64_t o = 0; o < OUT; o++) {
        for (int64_t i = 0; i < IN; i++)
            bits_put(m->codes + o * m->w.row, i, bits, code_of(o, i, bits));
        for (int64_t g = 0; g < GROUPS; g++) {
            m->zeros[o * GROUPS + g] = (uint8_t)zero_of(o, g, bits);
            m->scales[o * GROUPS + g] = (float)(o + 100 * g + 1) * scale;
        }
    }
    gptq_write_codes(&m->w, m->codes, (uint8_t *)m->words);
    m->count = gptq_tensors("a.weight", &m->w, m->words, m->scales, m->zeros, &m->memory, m->list);
    return m;
}

static void unmake(made *m) {
    arena_free(&m->memory);
    free(m);
}

static const tensor_out *named(const made *m, const char *name) {
    int32_t t = 0;
    while (t < m->count && strcmp(m->list[t].name, name) != 0)
        t++;
    cr_assert_lt(t, m->count, "%s is not written", name);
    return &m->list[t];
}

Test(gptq, words_are_what_other_tools_unpack) {
    static const int all[] = {2, 3, 4, 8};
    for (int b = 0; b < 8; b++) {
        const int bits = all[b % 4], v2 = b / 4;
        made *const m = make(bits, v2, 0.25f);
        const uint32_t *zeros = named(m, "a.qzeros")->data;
        const int32_t *order = named(m, "a.g_idx")->data;
        const uint16_t *scales = named(m, "a.scales")->data;
        cr_expect_eq(named(m, "a.scales")->dtype, F16);
        cr_expect_eq(named(m, "a.qweight")->shape[0], IN * bits / 32);
        cr_expect_eq(named(m, "a.qweight")->shape[1], OUT);
        cr_expect_eq(named(m, "a.qzeros")->shape[1], OUT * bits / 32);
        for (int64_t i = 0; i < IN; i++) {
            cr_expect_eq(order[i], i / GROUP);
            for (int64_t o = 0; o < OUT; o++)
                cr_expect_eq(unpack(m->words + o, OUT, i, bits), code_of(o, i, bits), "%d bits, (%d, %d)", bits, (int)o,
                             (int)i);
        }
        for (int64_t g = 0; g < GROUPS; g++)
            for (int64_t o = 0; o < OUT; o++) {
                const unsigned stored = unpack(zeros + g * OUT * bits / 32, 1, o, bits);
                cr_expect_eq(stored + (v2 ? 0 : 1), zero_of(o, g, bits));
                cr_expect_eq(f16_to_f32(scales[g * OUT + o]), m->scales[o * GROUPS + g]);
            }
        unmake(m);
    }
}

Test(gptq, what_is_written_reads_back) {
    static const int all[] = {2, 3, 4, 8};
    char *const path = mem_format("%s/gptq.%ld", BINARY_DIR, (long)getpid());
    for (int b = 0; b < 8; b++) {
        graft_error err = {0};
        made *const m = make(all[b % 4], b / 4, b % 2 ? 0.1f : 0.5f); /* 0.1: scales that only f32 holds */
        safetensors *st = NULL;
        gptq_weight w;
        uint8_t codes[sizeof m->codes], zeros[sizeof m->zeros];
        float scales[OUT * GROUPS];
        cr_expect_eq(named(m, "a.scales")->dtype, b % 2 ? F32 : F16);
        cr_assert_eq(safetensors_write(path, m->list, m->count, NULL, 0, &err), 0, "%s", err.text);
        cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
        cr_assert_eq(gptq_read(st, safetensors_find(st, "a.qweight"), &m->w.config, OUT, IN, &w, &err), 0, "%s",
                     err.text);
        cr_assert_eq(w.row, m->w.row);
        cr_assert(!gptq_read_codes(st, &w, codes, &err) && !gptq_read_scales(st, &w, scales, &err) &&
                      !gptq_read_zeros(st, &w, zeros, &err),
                  "%s", err.text);
        cr_expect_arr_eq(codes, m->codes, (size_t)(OUT * w.row));
        cr_expect_arr_eq(zeros, m->zeros, sizeof zeros);
        cr_expect_arr_eq(scales, m->scales, sizeof scales);
        safetensors_close(st);
        unmake(m);
    }
    unlink(path);
    free(path);
}

/* ---- what is refused ---- */

static void refused_config(const char *json, const char *says) {
    graft_error err = {0};
    json_t *q = NULL;
    gptq_config c;
    cr_assert_eq(json_read_text(json, strlen(json), "test", 0, &q, &err), 0, "%s", err.text);
    cr_expect_neq(gptq_config_read(q, "x/config.json", &c, &err), 0, "accepted: %s", json);
    cr_expect(strstr(err.text, says) && strstr(err.text, "config.json"), "\"%s\" is not in: %s", says, err.text);
    json_decref(q);
}

Test(gptq, settings_that_mean_something_else_are_refused_by_name) {
    refused_config("{\"bits\": 5, \"group_size\": 128}", "\"bits\" is 5");
    refused_config("{\"group_size\": 128}", "\"bits\" is 0");
    refused_config("{\"bits\": 4, \"group_size\": 100}", "\"group_size\" is 100");
    refused_config("{\"bits\": 4}", "\"group_size\" is 0");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"checkpoint_format\": \"marlin\"}", "\"marlin\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"checkpoint_format\": \"gptq\", \"format\": \"gptq_v2\"}",
                   "\"format\" is \"gptq_v2\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"is_marlin_format\": true}", "\"is_marlin_format\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"pack_dtype\": \"int16\"}", "\"pack_dtype\" is \"int16\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"rotation\": \"hadamard\"}", "\"rotation\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"adapter\": {\"name\": \"eora\"}}", "\"adapter\"");
    refused_config("{\"bits\": 4, \"group_size\": 128, \"dynamic\": {\"+:q_proj\": {\"bits\": 8}}}", "+:q_proj");
    refused_config("{\"bits\": 4, \"group_size\": \"128\"}", "group_size");
}

static void refused(made *m, gptq_config c, const char *says) {
    char *const path = mem_format("%s/gptq-refused.%ld", BINARY_DIR, (long)getpid());
    graft_error err = {0};
    safetensors *st = NULL;
    gptq_weight w;
    uint8_t zeros[OUT * GROUPS];
    float scales[OUT * GROUPS];
    cr_assert_eq(safetensors_write(path, m->list, m->count, NULL, 0, &err), 0, "%s", err.text);
    cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
    const int rc = gptq_read(st, safetensors_find(st, "a.qweight"), &c, OUT, IN, &w, &err) ||
                   gptq_read_scales(st, &w, scales, &err) || gptq_read_zeros(st, &w, zeros, &err);
    cr_expect_neq(rc, 0, "accepted, but should be refused: %s", says);
    cr_expect(strstr(err.text, says), "\"%s\" is not in: %s", says, err.text);
    safetensors_close(st);
    unlink(path);
    free(path);
}

Test(gptq, misleading_tensors_are_refused_by_name) {
    made *m = make(4, 0, 0.25f);
    gptq_config c = m->w.config;
    c.symmetric = 1;
    refused(m, c, "says \"sym\"");
    c = m->w.config, c.group_size = 48;
    refused(m, c, "I32 [2, 8] belongs to this weight");
    c = m->w.config, c.bits = 8;
    refused(m, c, "I32 [24, 64] belongs to this weight");
    int32_t *const order = (int32_t *)(uintptr_t)named(m, "a.g_idx")->data;
    order[5] = 2;
    refused(m, m->w.config, "input 5 belongs to group 2, not 0");
    m->count--; /* g_idx comes last */
    c = m->w.config, c.by_order = 1;
    refused(m, c, "no g_idx");
    unmake(m);
    m = make(4, 0, 0.25f);
    ((uint16_t *)(uintptr_t)named(m, "a.scales")->data)[3] = 0x7c00;
    refused(m, m->w.config, "element 3 is inf");
    m->count = 2;
    refused(m, m->w.config, "a.scales");
    unmake(m);
    m = make(8, 0, 0.25f);
    memset((void *)(uintptr_t)named(m, "a.qzeros")->data, 0xff, OUT);
    refused(m, m->w.config, "zero point 0 is 256");
    unmake(m);
}

Test(gptq, sides_that_fill_no_words_are_refused_by_name) {
    graft_error err = {0};
    gptq_weight w;
    const gptq_config c = {.bits = 3, .group_size = 32};
    cr_expect_neq(gptq_lay_out(&c, 64, 48, "a.weight", &w, &err), 0);
    cr_expect(strstr(err.text, "a.weight is [64, 48]") && strstr(err.text, "multiples of 32"), "%s", err.text);
}
