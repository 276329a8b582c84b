/* Quantized weights: bitsandbytes' files are read to the last bit, and graft's own rule gives the codes it promises. */
#include "base/digest.h"
#include "compare.h"
#include "golden.h"
#include "kernels/blocks8.h"
#include "kernels/codebook.h"
#include <string.h>

/* The linear congruential inputs of the published test vectors: x[i] = (s >> 8)·2^-23, s ← 1664525·s + 1013904223. */
static void vector_inputs(float *x, int n) {
    uint32_t s = 12345;
    for (int i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)s >> 8) * 0x1p-23f;
    }
}

Test(ref_quantize, four_bit_codes_of_the_test_vectors) {
    enum { N = 201, BLOCKS = 4 };
    kernels *k = open_device("ref", NULL);
    float x[N], absmax[BLOCKS], back[N];
    uint8_t codes[(N + 1) / 2];
    vector_inputs(x, N);
    weight w = {
        .out = 1, .in = N, .layout = WEIGHT_CODEBOOK4, .type = F32, .data = codes, .scale = absmax, .block = 64};
    memcpy(w.code, codebook_nf4, sizeof w.code);
    k->weight_quantize(k, &w, x);
    cr_assert_eq(digest_crc32(0, codes, sizeof codes), 0x256fa3cd, "NF4 codes");
    const uint32_t bits[BLOCKS] = {0x3f7ff61e, 0x3f7a4c8a, 0x3f7acafc, 0x3f5319fe};
    cr_assert_arr_eq(absmax, bits, sizeof bits, "absmax of the blocks");
    k->weight_read(k, &w, 0, 1, back, F32);
    cr_assert_eq(digest_crc32(0, back, sizeof back), 0x4ed7eb25, "NF4 values");
    memcpy(w.code, codebook_fp4, sizeof w.code);
    k->weight_quantize(k, &w, x);
    cr_assert_eq(digest_crc32(0, codes, sizeof codes), 0xafc78280, "FP4 codes");
    k->close(k);
}

/* Some lie an ulp or more beside the middle of their codes: they are the literals of the CUDA kernel, as f32. */
Test(ref_quantize, thresholds_and_codes_have_the_published_bits) {
    static const uint32_t nf4[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f,
                                     0xbdba7871, 0x00000000, 0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                                     0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
    static const uint32_t fp4[8] = {0x00000000, 0x3baaaaab, 0x3f2aaaab, 0x3f800000,
                                    0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000};
    static const uint32_t nf4_above[15] = {0xbf591cd9, 0xbf1c5270, 0xbeeb8480, 0xbeadea76, 0xbe703cec,
                                           0xbe0d38bc, 0xbd3a7871, 0x3d22faff, 0x3df64863, 0x3e5067e0,
                                           0x3e9582d4, 0x3ec753f9, 0x3f006d03, 0x3f248daf, 0x3f5c89d9};
    static const uint32_t fp4_above[7] = {0x3b2aaab9, 0x3db00000, 0x3e555555, 0x3e955555,
                                          0x3ed55556, 0x3f155550, 0x3f555555};
    cr_assert_arr_eq(codebook_nf4, nf4, sizeof nf4);
    cr_assert_arr_eq(codebook_fp4, fp4, sizeof fp4);
    cr_assert_arr_eq(codebook_nf4_above, nf4_above, sizeof nf4_above);
    cr_assert_arr_eq(codebook_fp4_above, fp4_above, sizeof fp4_above);
    const float book[16] = {-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    cr_assert_eq(codebook_of(book), CODEBOOK_OTHER);
    cr_assert_eq(codebook_encode(CODEBOOK_OTHER, book, 0.6f), 4, "any other book: the nearest code");
    cr_assert_eq(codebook_encode(CODEBOOK_OTHER, book, 0.5f), 3, "and the lower one on a tie");
}

Test(ref_quantize, eight_bit_rows_of_the_test_vector) {
    kernels *k = open_device("ref", NULL);
    float x[64], scale[4];
    int8_t q[64];
    vector_inputs(x, 64);
    weight w = {.out = 4, .in = 16, .layout = WEIGHT_ROWS8, .type = F32, .data = q, .scale = scale};
    k->weight_quantize(k, &w, x);
    cr_assert_eq(digest_crc32(0, q, sizeof q), 0x819df6f7);
    const uint32_t bits[4] = {0x3f7de000, 0x3f800000, 0x3f6ce000, 0x3f754000};
    cr_assert_arr_eq(scale, bits, sizeof bits);
    k->close(k);
}

Test(ref_quantize, eight_bit_maps_and_block_codes_of_the_test_vectors) {
    enum { N = 201 };
    float x[N], map[256], absmax;
    uint8_t codes[N];
    vector_inputs(x, N);
    blocks8_map(0, map);
    cr_assert_eq(digest_crc32(0, map, sizeof map), 0x1b137aeb, "signed map");
    blocks8_quantize(map, 0, x, N, codes, &absmax);
    cr_assert_eq(digest_crc32(0, codes, N), 0xc862fa8a, "signed codes");
    blocks8_map(1, map);
    cr_assert_eq(digest_crc32(0, map, sizeof map), 0xe871278f, "unsigned map");
    for (int i = 0; i < N; i++)
        x[i] = fabsf(x[i]);
    blocks8_quantize(map, 0, x, N, codes, &absmax);
    cr_assert_eq(digest_crc32(0, codes, N), 0xca2f3eb5, "unsigned codes");
}

/* Double quantization of 300 absmax: the mean is taken off, the rest goes into blocks of 8 bits. */
Test(ref_quantize, nested_statistics_of_the_test_vector) {
    enum { N = 19200, BLOCKS = N / 64 };
    kernels *k = open_device("ref", NULL);
    float *x = mem_new(N, sizeof *x), *back = mem_new(N, sizeof *back), absmax[BLOCKS], centred[BLOCKS], map[256],
          nested_scale[2];
    uint8_t *codes = mem_new(N / 2, 1), q[BLOCKS];
    vector_inputs(x, N);
    for (int i = 0; i < N; i++)
        x[i] = x[i] * (1 + (float)(i / 64 % 17) / 16);
    weight w = {
        .out = BLOCKS, .in = 64, .layout = WEIGHT_CODEBOOK4, .type = F32, .data = codes, .scale = absmax, .block = 64};
    memcpy(w.code, codebook_nf4, sizeof w.code);
    k->weight_quantize(k, &w, x);
    cr_assert_eq(digest_crc32(0, absmax, sizeof absmax), 0x461c1010, "absmax");
    double sum = 0;
    for (int b = 0; b < BLOCKS; b++)
        sum += absmax[b];
    const float offset = (float)(sum / BLOCKS);
    for (int b = 0; b < BLOCKS; b++)
        centred[b] = absmax[b] - offset;
    blocks8_map(0, map);
    blocks8_quantize(map, 0, centred, 256, q, &nested_scale[0]);
    blocks8_quantize(map, 0, centred + 256, BLOCKS - 256, q + 256, &nested_scale[1]);
    cr_assert_eq(digest_crc32(0, q, sizeof q), 0x4760f11f, "8-bit codes");
    /* a row read back through nested statistics is its codes times the rebuilt absmax */
    w.scale = NULL, w.nested = q, w.nested_scale = nested_scale, w.nested_code = map, w.nested_block = 256,
    w.nested_offset = offset;
    k->weight_read(k, &w, 0, BLOCKS, back, F32);
    float rebuilt[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
        const float product = map[q[b]] * nested_scale[b / 256];
        rebuilt[b] = product + offset;
        for (int i = 0; i < 64; i++) {
            const int at = b * 64 + i;
            cr_assert_eq(back[at], codebook_nf4[codes[at / 2] >> (at % 2 ? 0 : 4) & 15] * rebuilt[b]);
        }
    }
    cr_assert_eq(digest_crc32(0, rebuilt, sizeof rebuilt), 0xb994d793, "rebuilt absmax");
    free(codes);
    free(back);
    free(x);
    k->close(k);
}

static int nibble(const uint8_t *packed, int64_t i) {
    return packed[i / 2] >> (i % 2 ? 0 : 4) & 15;
}

/* A 4-bit golden: deq is exact through absmax, and through the nested statistics where it has them. */
static void four_bit_reads(kernels *k, const safetensors *st, weight *w, const char *name) {
    const char *const wanted[] = {"deq_f32", "deq"};
    const dtype stored = safetensors_find(st, "deq")->dtype;
    int64_t n;
    w->data = golden_tensor(st, "packed", U8, NULL);
    for (int nested = 0; nested <= (safetensors_find(st, "absmax_q") != NULL); nested++) {
        void *const owned[] = {golden_tensor(st, "absmax", F32, NULL),
                               nested ? golden_tensor(st, "absmax_q", U8, NULL) : NULL,
                               nested ? golden_tensor(st, "nested_absmax", F32, NULL) : NULL,
                               nested ? golden_tensor(st, "nested_quant_map", F32, NULL) : NULL,
                               nested ? golden_tensor(st, "nested_offset", F32, NULL) : NULL};
        w->scale = nested ? NULL : owned[0];
        w->nested = owned[1], w->nested_scale = owned[2], w->nested_code = owned[3], w->nested_block = 256;
        w->nested_offset = nested ? *(float *)owned[4] : 0;
        for (int rounded = 0; rounded < 2; rounded++) {
            w->type = rounded ? stored : F32;
            float *want = golden_tensor(st, wanted[rounded], F32, &n), *got = mem_new((size_t)n, sizeof *got);
            k->weight_read(k, w, 0, 1, got, F32);
            for (int64_t i = 0; i < n; i++)
                cr_assert_eq(got[i], want[i], "%s %s[%ld], nested %d: %.9g instead of %.9g", name, wanted[rounded],
                             (long)i, nested, (double)got[i], (double)want[i]);
            free(got);
            free(want);
        }
        for (int i = 0; i < 5; i++)
            free(owned[i]);
    }
    free(w->data);
}

/* Codes of the graft rule: equal, except that elements on a threshold may take either of two, and that blocks whose absmax
 * has no finite reciprocal need only be finite. */
static void four_bit_writes(kernels *k, const safetensors *st, weight *w, const char *name) {
    int64_t n, near_count;
    float *x = golden_tensor(st, "x", F32, &n);
    uint8_t *want = golden_tensor(st, "packed_graft", U8, NULL),
            *near_codes = golden_tensor(st, "near_codes", U8, NULL);
    int64_t *near = golden_tensor(st, "near", I64, &near_count);
    uint8_t *codes = mem_new((size_t)(n + 1) / 2, 1);
    float *absmax = mem_new((size_t)((n + w->block - 1) / w->block), sizeof *absmax),
          *back = mem_new((size_t)n, sizeof *back);
    *w = (weight){
        .out = 1, .in = n, .layout = WEIGHT_CODEBOOK4, .type = F32, .data = codes, .scale = absmax, .block = w->block};
    memcpy(w->code, name[0] == 'n' ? codebook_nf4 : codebook_fp4, sizeof w->code);
    k->weight_quantize(k, w, x);
    k->weight_read(k, w, 0, 1, back, F32);
    for (int64_t i = 0, next = 0; i < n; i++) {
        while (next < near_count && near[next] < i)
            next++;
        const int on_edge = next < near_count && near[next] == i, c = nibble(codes, i);
        const float most = absmax[i / w->block];
        cr_assert(isfinite(back[i]));
        if (most > 0 && most < 0x1p-126f) continue;
        if (on_edge)
            cr_assert(c == near_codes[2 * next] || c == near_codes[2 * next + 1], "%s code %ld", name, (long)i);
        else
            cr_assert_eq(c, nibble(want, i), "%s code %ld: %d instead of %d", name, (long)i, c, nibble(want, i));
    }
    if (n % 2) cr_assert_eq(codes[n / 2] & 15, want[n / 2] & 15, "%s: the half byte past the end", name);
    free(back);
    free(absmax);
    free(codes);
    free(near);
    free(near_codes);
    free(want);
    free(x);
}

Test(ref_quantize, four_bit_files_of_bitsandbytes) {
    static const char *const names[] = {"nf4-b64-f32",           "nf4-b64-dq-bf16",        "fp4-b64-f16",
                                        "nf4-b32-f32",           "nf4-b128-dq-f32",        "fp4-b256-f32",
                                        "nf4-b4096-bf16",        "fp4-b64-dq-f32",         "nf4-b64-odd-f32",
                                        "fp4-b64-odd-1d-f32",    "nf4-b64-rows172-f16",    "nf4-b64-hazards-f32",
                                        "fp4-b64-hazards-f32",   "nf4-b64-dq-hazards-f32", "nf4-b64-thresholds-f32",
                                        "fp4-b64-thresholds-f32"};
    kernels *k = open_device("ref", NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = mem_format("quant/4bit/%s.safetensors", names[i]);
        safetensors *st = golden_open(file);
        int64_t n;
        free(golden_tensor(st, "x", F32, &n));
        weight w = {.out = 1, .in = n, .layout = WEIGHT_CODEBOOK4, .block = atoi(names[i] + 5)};
        float *code = golden_tensor(st, "code", F32, NULL);
        memcpy(w.code, code, sizeof w.code);
        free(code);
        cr_assert_eq(codebook_of(w.code), names[i][0] == 'n' ? CODEBOOK_NF4 : CODEBOOK_FP4);
        four_bit_reads(k, st, &w, names[i]);
        four_bit_writes(k, st, &w, names[i]);
        safetensors_close(st);
        free(file);
    }
    k->close(k);
}

Test(ref_quantize, eight_bit_row_files_of_bitsandbytes) {
    static const char *const names[] = {"w16x64-f32", "w24x40-bf16-bias-t6", "w8x30-f16-t6", "w12x64-f32-one-row-t6"};
    kernels *k = open_device("ref", NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = mem_format("quant/int8/%s.safetensors", names[i]);
        safetensors *st = golden_open(file);
        const tensor_info *shape = safetensors_find(st, "w");
        int64_t n, near_count;
        float *w32 = golden_tensor(st, "w", F32, &n), *want = golden_tensor(st, "deq", F32, NULL),
              *got = mem_new((size_t)n, 4);
        float *scb = golden_tensor(st, "SCB", F32, NULL), *scale = mem_new((size_t)shape->shape[0], 4);
        int8_t *cb = golden_tensor(st, "CB", I8, NULL), *graft = golden_tensor(st, "CB_graft", I8, NULL),
               *q = mem_new((size_t)n, 1);
        int64_t *near = golden_tensor(st, "near", I64, &near_count);
        weight w = {.out = shape->shape[0],
                    .in = shape->shape[1],
                    .layout = WEIGHT_ROWS8,
                    .type = F32,
                    .data = cb,
                    .scale = scb};
        k->weight_read(k, &w, 0, w.out, got, F32);
        cr_assert_arr_eq(got, want, (size_t)n * 4, "%s: dequantized values", names[i]);
        w.data = q, w.scale = scale;
        k->weight_quantize(k, &w, w32);
        cr_assert_arr_eq(scale, scb, (size_t)w.out * 4, "%s: absmax of the rows", names[i]);
        for (int64_t e = 0, next = 0; e < n; e++) {
            while (next < near_count && near[next] < e)
                next++;
            cr_assert_leq(abs(q[e] - graft[e]), next < near_count && near[next] == e, "%s code %ld", names[i], (long)e);
        }
        void *const owned[] = {w32, want, got, scb, scale, cb, graft, q, near, file};
        for (size_t o = 0; o < sizeof owned / sizeof *owned; o++)
            free(owned[o]);
        safetensors_close(st);
    }
    k->close(k);
}

Test(ref_quantize, eight_bit_block_files_of_bitsandbytes) {
    static const struct {
        const char *name;
        int block;
    } cases[] = {
        {"signed-b256",        256 },
        {"unsigned-b256",      256 },
        {"signed-b4096",       4096},
        {"signed-b64-hazards", 64  },
        {"signed-ties",        256 },
        {"unsigned-ties",      256 }
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *file = mem_format("quant/blockwise8/%s.safetensors", cases[i].name);
        safetensors *st = golden_open(file);
        int64_t n;
        float *x = golden_tensor(st, "x", F32, &n), *code = golden_tensor(st, "code", F32, NULL),
              *deq = golden_tensor(st, "deq_graft", F32, NULL);
        float *absmax = golden_tensor(st, "absmax_graft", F32, NULL), map[256], most;
        uint8_t *want = golden_tensor(st, "q_graft", U8, NULL), *q = mem_new((size_t)n, 1);
        blocks8_map(cases[i].name[0] == 'u', map);
        cr_assert_arr_eq(map, code, sizeof map, "%s: the map", cases[i].name);
        for (int64_t b = 0, first = 0; first < n; b++, first += cases[i].block) {
            const int64_t count = n - first < cases[i].block ? n - first : cases[i].block;
            blocks8_quantize(map, 0, x + first, count, q + first, &most);
            cr_assert_eq(most, absmax[b], "%s: absmax %ld", cases[i].name, (long)b);
            for (int64_t e = first; e < first + count; e++) {
                if (most > 0 && most < 0x1p-126f) continue; /* its reciprocal is not usable */
                cr_assert_eq(q[e], want[e], "%s: code %ld is %d instead of %d", cases[i].name, (long)e, q[e], want[e]);
                cr_assert_eq(map[q[e]] * most, deq[e]);
            }
        }
        void *const owned[] = {x, code, deq, absmax, want, q, file};
        for (size_t o = 0; o < sizeof owned / sizeof *owned; o++)
            free(owned[o]);
        safetensors_close(st);
    }
}

/* Infinities and NaN stay in their block or row and end nothing. */
Test(ref_quantize, values_that_are_not_finite_harm_their_block_alone) {
    enum { N = 192 };
    kernels *k = open_device("ref", NULL);
    float x[N], clean[N], back[N], absmax[3];
    uint8_t codes[N / 2];
    int8_t rows[N];
    vector_inputs(clean, N);
    memcpy(x, clean, sizeof x);
    x[70] = INFINITY, x[71] = NAN, x[72] = -INFINITY;
    weight four = {
        .out = 3, .in = 64, .layout = WEIGHT_CODEBOOK4, .type = F32, .data = codes, .scale = absmax, .block = 64};
    weight eight = {.out = 3, .in = 64, .layout = WEIGHT_ROWS8, .type = F32, .data = rows, .scale = absmax};
    memcpy(four.code, codebook_nf4, sizeof four.code);
    weight *const both[] = {&four, &eight};
    for (int i = 0; i < 2; i++) {
        float want[N];
        k->weight_quantize(k, both[i], clean);
        k->weight_read(k, both[i], 0, 3, want, F32);
        k->weight_quantize(k, both[i], x);
        k->weight_read(k, both[i], 0, 3, back, F32);
        cr_assert_arr_eq(back, want, 64 * sizeof(float));
        cr_assert_arr_eq(back + 128, want + 128, 64 * sizeof(float));
    }
    k->close(k);
}
