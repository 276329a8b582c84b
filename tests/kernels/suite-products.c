/* suite-products — table-suite.h: gemm and base weights with their low-rank terms. */
#include "kernels/codebook.h"
#include "table-suite.h"
#include <string.h>

/* c (m,n) from a and b with their own layouts; batch strides 0 broadcast. */
static void gemm_case(pair *p, int a_type, int b_type, int c_type, int64_t batch, int64_t m, int64_t n, int64_t k,
                      int turned, int accumulate, double bound) {
    const twin a = pair_random(p, a_type, batch * m * k, 1), b = pair_random(p, b_type, k * n, 1);
    const twin c = pair_random(p, c_type, accumulate == 2 ? m * n : batch * m * n, 1);
    FOR_BOTH(p, t, s) {
        const gemm_call g = {
            .batch = batch,
            .m = m,
            .n = n,
            .k = k,
            .a = {a.dev[s], a.type[s], turned ? 1 : k, turned ? m : 1, m * k, NULL},
            .b = {b.dev[s], b.type[s], turned ? 1 : n, turned ? k : 1, 0,     NULL},
            .c = c.dev[s],
            .c_type = c.type[s],
            .c_row = n,
            .c_col = 1,
            .c_batch = accumulate == 2 ? 0 : m * n,
            .alpha = 0.7,
            .accumulate = accumulate != 0,
        };
        t->gemm(t, &g);
    }
    pair_expect(p, &c, 10 * bound, "c");
}

static void gemm_onehot(pair *p, int act, int transposed, int accumulate, double bound) {
    enum { TOKENS = 19, VOCAB = 37, WIDTH = 23 };
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i == 4 ? -1 : i * i * 7 % VOCAB;
    const twin at = pair_bytes(p, I32, ids, TOKENS);
    const int64_t m = transposed ? VOCAB : TOKENS, k = transposed ? TOKENS : VOCAB;
    const twin b = pair_random(p, act, k * WIDTH, 1), c = pair_random(p, OWN, m * WIDTH, 1);
    FOR_BOTH(p, t, s) {
        const gemm_call g = {
            .batch = 1,
            .m = m,
            .n = WIDTH,
            .k = k,
            .a = {.onehot = at.dev[s]},
            .b = { b.dev[s], b.type[s], WIDTH, 1, 0, NULL},
            .onehot_transposed = transposed,
            .c = c.dev[s],
            .c_type = c.type[s],
            .c_row = 1, /* turned: both sides of a store's stride are used */
            .c_col = m,
            .alpha = -1.5,
            .accumulate = accumulate,
        };
        t->gemm(t, &g);
    }
    pair_expect(p, &c, bound, "one-hot");
}

void suite_gemm(pair *p, int act, double bound) {
    static const int64_t shapes[][3] = {
        {1,  1,   1  },
        {7,  5,   3  },
        {13, 131, 67 },
        {67, 71,  129},
        {2,  8,   300},
        {65, 16,  65 },
        {16, 65,  65 }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int turned = 0; turned < 2; turned++) {
            const int64_t *h = shapes[i];
            gemm_case(p, act, act, act, 1, h[0], h[1], h[2], turned, 0, bound);
            gemm_case(p, act, act, OWN, 1, h[0], h[1], h[2], turned, 1, bound);
            gemm_case(p, act, OWN, act, 1, h[0], h[1], h[2], turned, 0, bound);
            gemm_case(p, OWN, act, OWN, 1, h[0], h[1], h[2], turned, 1, bound);
        }
    gemm_case(p, act, act, act, 3, 5, 7, 11, 0, 0, bound); /* b serves the whole batch */
    gemm_case(p, act, act, OWN, 3, 5, 7, 11, 1, 2, bound); /* c sums over the batch */
    gemm_case(p, act, act, OWN, 1, 3, 4, 0, 0, 0, bound);  /* an empty sum is 0 */
    gemm_case(p, act, act, OWN, 1, 0, 4, 5, 0, 0, bound);
    for (int i = 0; i < 4; i++)
        gemm_onehot(p, act, i / 2, i % 2, bound);
}

/* A weight of each layout, made from the same numbers on both sides. */
typedef struct {
    weight w[2];
} weight_twin;

static weight_twin weight_plain(pair *p, int type, int64_t out, int64_t in) {
    const twin data = pair_random(p, type, out * in, 0.3);
    weight_twin t;
    FOR_BOTH(p, k, s) {
        t.w[s] = (weight){.out = out, .in = in, .layout = WEIGHT_PLAIN, .type = data.type[s], .data = data.dev[s]};
        k->weight_pack(k, &t.w[s]);
    }
    return t;
}

static weight_twin weight_codebook(pair *p, int type, int64_t out, int64_t in, int64_t block, int nested) {
    const int64_t bytes = (out * in + 1) / 2, blocks = (out * in + block - 1) / block, groups = (blocks + 255) / 256;
    uint8_t *codes = mem_new((size_t)bytes, 1), *q = mem_new((size_t)blocks, 1);
    for (int64_t i = 0; i < bytes; i++)
        codes[i] = (uint8_t)philox_bits(9, 1, (uint64_t)i);
    for (int64_t i = 0; i < blocks; i++)
        q[i] = (uint8_t)philox_bits(9, 2, (uint64_t)i);
    double steps[256];
    for (int i = 0; i < 256; i++)
        steps[i] = (i - 127) / 128.0;
    const twin data = pair_bytes(p, U8, codes, bytes), scale = pair_random(p, F32, blocks, 0.3);
    const twin nested_q = pair_bytes(p, U8, q, blocks), nested_code = pair_put(p, F32, steps, 256);
    const twin nested_scale = pair_random(p, F32, groups, 0.01);
    weight_twin t;
    FOR_BOTH(p, k, s) {
        t.w[s] = (weight){.out = out,
                          .in = in,
                          .layout = WEIGHT_CODEBOOK4,
                          .type = type == OWN ? k->real : (dtype)type,
                          .data = data.dev[s],
                          .scale = nested ? NULL : scale.dev[s],
                          .block = block};
        memcpy(t.w[s].code, codebook_nf4, sizeof t.w[s].code);
        if (nested) {
            t.w[s].nested = nested_q.dev[s];
            t.w[s].nested_scale = nested_scale.dev[s];
            t.w[s].nested_code = nested_code.dev[s];
            t.w[s].nested_block = 256;
            t.w[s].nested_offset = 0.21f;
        }
        k->weight_pack(k, &t.w[s]);
    }
    free(q);
    free(codes);
    return t;
}

static weight_twin weight_rows8(pair *p, int type, int64_t out, int64_t in) {
    const twin from = pair_random(p, OWN, out * in, 0.3), data = pair_zeros(p, I8, out * in),
               scale = pair_zeros(p, F32, out);
    weight_twin t;
    FOR_BOTH(p, k, s) {
        t.w[s] = (weight){.out = out,
                          .in = in,
                          .layout = WEIGHT_ROWS8,
                          .type = type == OWN ? k->real : (dtype)type,
                          .data = data.dev[s],
                          .scale = scale.dev[s]};
        k->weight_quantize(k, &t.w[s], from.dev[s]);
        k->weight_pack(k, &t.w[s]);
    }
    pair_expect(p, &data, 0, "8-bit codes");
    pair_expect(p, &scale, 0, "absmax of rows");
    return t;
}

/* Groups of 32; zero: a whole number, any number, or the middle. */
static weight_twin weight_affine(pair *p, int type, int64_t out, int64_t in, int bits, int zero) {
    const int64_t groups = (in + 31) / 32, bytes = out * groups * 32 * bits / 8;
    uint8_t *codes = mem_new((size_t)bytes, 1), *whole = mem_new((size_t)(out * groups), 1);
    for (int64_t i = 0; i < bytes; i++)
        codes[i] = (uint8_t)philox_bits(9, 3, (uint64_t)i);
    for (int64_t i = 0; i < out * groups; i++)
        whole[i] = (uint8_t)(philox_bits(9, 4, (uint64_t)i) % (1u << bits));
    const twin data = pair_bytes(p, U8, codes, bytes), scale = pair_random(p, F32, out * groups, 0.1);
    const twin zeros = zero == 0 ? pair_bytes(p, U8, whole, out * groups) : pair_random(p, F32, out * groups, 3);
    weight_twin t;
    FOR_BOTH(p, k, s) {
        t.w[s] = (weight){.out = out,
                          .in = in,
                          .layout = WEIGHT_AFFINE,
                          .type = type == OWN ? k->real : (dtype)type,
                          .data = data.dev[s],
                          .scale = scale.dev[s],
                          .block = 32,
                          .bits = bits,
                          .zero_type = zeros.type[s],
                          .zero = zero == 2 ? NULL : zeros.dev[s]};
        k->weight_pack(k, &t.w[s]);
    }
    free(codes);
    free(whole);
    return t;
}

/* A custom layout whose rows lie ready; five at a time. */
typedef struct {
    weight_custom base;
    const char *data;
    int64_t row;
} ready_rows;

static void read_ready(const weight_custom *c, kernels *k, int64_t first, int64_t count, void *to) {
    const ready_rows *r = (const ready_rows *)(const void *)c;
    k->copy(k, to, r->data + first * r->row, count * r->row);
}

static weight_twin weight_tiles(pair *p, int type, int64_t out, int64_t in) {
    static ready_rows rows[2];
    const twin data = pair_random(p, OWN, out * in, 0.3);
    weight_twin t;
    FOR_BOTH(p, k, s) {
        rows[s] = (ready_rows){
            {read_ready, 5},
            data.dev[s], in * dtype_bytes(k->real)
        };
        t.w[s] = (weight){.out = out,
                          .in = in,
                          .layout = WEIGHT_CUSTOM,
                          .type = type == OWN ? k->real : (dtype)type,
                          .custom = &rows[s].base};
    }
    return t;
}

/* Forward with bias and two terms (one with its own x), input gradient, row norms, reading, gathering. */
static void weight_case(pair *p, const weight_twin *w, int act, int64_t rows, int accumulate, double bound) {
    const int64_t in = w->w[0].in, out = w->w[0].out, ranks[] = {3, 8};
    const twin x = pair_random(p, act, rows * in, 1), own = pair_random(p, act, rows * in, 1),
               bias = pair_random(p, OWN, out, 1);
    const twin y = pair_random(p, act, rows * out, 1), dy = pair_random(p, act, rows * out, 1),
               dx = pair_random(p, act, rows * in, 1);
    twin a[2], b[2], h[2], da[2], db[2], dh[2];
    for (int t = 0; t < 2; t++) {
        a[t] = pair_random(p, OWN, ranks[t] * in, 0.2);
        b[t] = pair_random(p, t ? act : OWN, ranks[t] * out, 0.2);
        if (t) a[t] = pair_random(p, act, ranks[t] * in, 0.2);
        h[t] = pair_zeros(p, OWN, rows * ranks[t]);
        dh[t] = pair_zeros(p, OWN, rows * ranks[t]);
        da[t] = pair_random(p, OWN, ranks[t] * in, 1);
        db[t] = pair_random(p, OWN, ranks[t] * out, 1);
    }
    FOR_BOTH(p, k, s) {
        lowrank_term terms[2];
        for (int t = 0; t < 2; t++)
            terms[t] = (lowrank_term){.a = a[t].dev[s],
                                      .b = b[t].dev[s],
                                      .type = a[t].type[s],
                                      .rank = ranks[t],
                                      .s = 1.5 - t,
                                      .h = h[t].dev[s],
                                      .x = t ? own.dev[s] : NULL,
                                      .da = da[t].dev[s],
                                      .db = db[t].dev[s],
                                      .dh = dh[t].dev[s]};
        k->weight_forward(k, &w->w[s], accumulate ? NULL : bias.dev[s], x.dev[s], x.type[s], y.dev[s], y.type[s], rows,
                          accumulate, accumulate ? 0.5 : 1, terms, 2);
        k->weight_input_grad(k, &w->w[s], dy.dev[s], dy.type[s], dx.dev[s], dx.type[s], x.dev[s], x.type[s], rows,
                             accumulate, accumulate ? 0.5 : 1, terms, 2);
    }
    pair_expect(p, &y, 10 * bound, "y");
    pair_expect(p, &dx, 10 * bound, "dx");
    for (int t = 0; t < 2; t++) {
        pair_expect(p, &h[t], 10 * bound, "h");
        pair_expect(p, &dh[t], 10 * bound, "dh");
        pair_expect(p, &da[t], 10 * bound, "dA");
        pair_expect(p, &db[t], 10 * bound, "dB");
    }
}

static void weight_looks(pair *p, weight_twin *w, int act, double bound) {
    const int64_t in = w->w[0].in, out = w->w[0].out, rows = out < 3 ? out : 3;
    const twin norms = pair_zeros(p, OWN, out), some = pair_zeros(p, act, rows * in),
               ids = pair_indices(p, 5, (int32_t)out);
    const twin embedded = pair_zeros(p, act, 5 * in);
    FOR_BOTH(p, k, s) {
        k->weight_row_sqnorm(k, &w->w[s], norms.dev[s]);
        k->weight_read(k, &w->w[s], out - rows, rows, some.dev[s], some.type[s]);
        k->weight_gather(k, &w->w[s], ids.dev[s], 5, embedded.dev[s], embedded.type[s], 3);
        k->weight_unpack(k, &w->w[s]);
    }
    pair_expect(p, &norms, 10 * bound, "row norms");
    pair_expect(p, &some, 0, "rows of W"); /* reading is exact everywhere */
    pair_expect(p, &embedded, bound, "gathered rows");
}

void suite_weights(pair *p, int act, double bound) {
    static const int64_t shapes[][3] = {
        {1,  1,   1  },
        {5,  13,  31 },
        {67, 33,  128},
        {3,  131, 65 },
        {0,  4,   8  }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int layout = 0; layout < 11; layout++) {
            const int64_t rows = shapes[i][0], out = shapes[i][1], in = shapes[i][2];
            weight_twin w = layout == 0   ? weight_plain(p, act, out, in)
                            : layout == 1 ? weight_plain(p, BF16, out, in)
                            : layout == 2 ? weight_codebook(p, act, out, in, 64, 0)
                            : layout == 3 ? weight_codebook(p, BF16, out, in, 32, 1)
                            : layout == 4 ? weight_rows8(p, act, out, in)
                            : layout == 5 ? weight_affine(p, act, out, in, 2, 0)
                            : layout == 6 ? weight_affine(p, BF16, out, in, 3, 1)
                            : layout == 7 ? weight_affine(p, act, out, in, 4, 2)
                            : layout == 8 ? weight_affine(p, F32, out, in, 8, 0)
                            : layout == 9 ? weight_tiles(p, act, out, in)
                                          : weight_tiles(p, BF16, out, in);
            weight_case(p, &w, act, rows, layout % 2, bound);
            weight_looks(p, &w, act, bound);
            pair_release(p);
        }
}
