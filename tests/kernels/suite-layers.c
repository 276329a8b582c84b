/* suite-layers — table-suite.h: norms, rope, attention, gate, head, rows, memory, and the list of all parts. Sizes are primes,
 * one, zero and one past 64, so that tails, tiles and broadcasts show. */
#include "table-suite.h"

void suite_norms(pair *p, int act, double bound) {
    static const int64_t shapes[][2] = {
        {1,  3  },
        {7,  131},
        {33, 64 },
        {0,  8  }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                const int64_t rows = shapes[i][0], width = shapes[i][1], n = rows * width;
                const twin x = pair_random(p, act, n, 2), w = pair_random(p, OWN, width, 1),
                           b = pair_random(p, OWN, width, 1);
                const twin y = pair_zeros(p, act, n), dy = pair_random(p, act, n, 1), dx = pair_random(p, act, n, 1);
                const twin dw = pair_random(p, OWN, width, 1), db = pair_random(p, OWN, width, 1);
                const int layer = kind == NORM_LAYER;
                FOR_BOTH(p, k, s) {
                    k->norm_forward(k, (norm_kind)kind, x.dev[s], w.dev[s], layer ? b.dev[s] : NULL, 1e-6, y.dev[s],
                                    y.type[s], rows, width);
                    k->norm_backward(k, (norm_kind)kind, x.dev[s], w.dev[s], 1e-6, dy.dev[s], dx.dev[s], dw.dev[s],
                                     layer ? db.dev[s] : NULL, x.type[s], rows, width, accumulate);
                }
                pair_expect(p, &y, 2 * bound, "y");
                pair_expect(p, &dx, 10 * bound, "dx");
                pair_expect(p, &dw, 10 * bound, "dw");
                pair_expect(p, &db, 10 * bound, "db");
            }
    pair_release(p);
}

void suite_rope(pair *p, int act, double bound) {
    enum { ROWS = 13, HEADS = 3, DIM = 38, STRIDE = HEADS * DIM + 5 };
    int32_t positions[ROWS];
    double frequency[DIM / 2];
    for (int i = 0; i < ROWS; i++)
        positions[i] = i * i * 19;
    for (int i = 0; i < DIM / 2; i++)
        frequency[i] = pow(10000, -2.0 * i / DIM);
    const twin at = pair_bytes(p, I32, positions, ROWS), inv_freq = pair_put(p, F32, frequency, DIM / 2);
    for (int i = 0; i < 4; i++) {
        const twin x = pair_random(p, act, ROWS * STRIDE, 1);
        FOR_BOTH(p, k, s)
        k->rope(k, x.dev[s], x.type[s], ROWS, STRIDE, HEADS, DIM, i < 2 ? DIM / 2 : 8, at.dev[s], inv_freq.dev[s],
                i < 2 ? 1 : 1.1, i % 2);
        pair_expect(p, &x, 2 * bound, "rotated");
    }
}

typedef struct {
    int64_t window, virtual_rows;
    double softcap;
    int64_t heads, kv_heads, head_dim;
} attention_shape;

static void attention_case(pair *p, int act, const attention_shape *h, double bound) {
    enum { ROWS = 90, SPANS = 3 };
    static const attention_span spans[SPANS] = {
        {0,  1,  0,  1 },
        {1,  70, 1,  70},
        {72, 18, 72, 18}
    }; /* row 71 is in no document */
    const int64_t q_width = h->heads * h->head_dim, k_width = h->kv_heads * h->head_dim, stride = q_width + 2 * k_width;
    int32_t positions[ROWS];
    for (int i = 0, span = 0; i < ROWS; i++) {
        while (span + 1 < SPANS && i >= spans[span + 1].q0)
            span++;
        positions[i] = (int32_t)(i - spans[span].q0 + h->virtual_rows);
    }
    const twin at = pair_bytes(p, I32, positions, ROWS), qkv = pair_random(p, act, ROWS * stride, 1),
               dqkv = pair_zeros(p, act, ROWS * stride);
    const twin vk = pair_random(p, act, h->virtual_rows * k_width, 1),
               vv = pair_random(p, act, h->virtual_rows * k_width, 1);
    const twin dvk = pair_random(p, OWN, h->virtual_rows * k_width, 1),
               dvv = pair_random(p, OWN, h->virtual_rows * k_width, 1);
    const twin o = pair_random(p, act, ROWS * q_width, 1), d_o = pair_random(p, act, ROWS * q_width, 1),
               lse = pair_random(p, OWN, ROWS * h->heads, 1);
    FOR_BOTH(p, k, s) {
        const int64_t bytes = dtype_bytes(qkv.type[s]);
        char *const in = qkv.dev[s], *const to = dqkv.dev[s];
        const attention_call a = {.type = qkv.type[s],
                                  .q = in,
                                  .k = in + q_width * bytes,
                                  .v = in + (q_width + k_width) * bytes,
                                  .q_stride = stride,
                                  .k_stride = stride,
                                  .v_stride = stride,
                                  .o_stride = q_width,
                                  .q_pos = at.dev[s],
                                  .k_pos = at.dev[s],
                                  .spans = spans,
                                  .span_count = SPANS,
                                  .rows = ROWS,
                                  .heads = h->heads,
                                  .kv_heads = h->kv_heads,
                                  .head_dim = h->head_dim,
                                  .scale = 0.3,
                                  .softcap = h->softcap,
                                  .window = h->window,
                                  .virtual_k = h->virtual_rows ? vk.dev[s] : NULL,
                                  .virtual_v = h->virtual_rows ? vv.dev[s] : NULL,
                                  .virtual_rows = h->virtual_rows,
                                  .o = o.dev[s],
                                  .lse = lse.dev[s],
                                  .d_o = d_o.dev[s],
                                  .dq = to,
                                  .dk = to + q_width * bytes,
                                  .dv = to + (q_width + k_width) * bytes,
                                  .dvirtual_k = dvk.dev[s],
                                  .dvirtual_v = dvv.dev[s]};
        k->attention_forward(k, &a);
        k->attention_backward(k, &a);
    }
    pair_expect(p, &o, 10 * bound, "o");
    pair_expect(p, &lse, 10 * bound, "lse");
    pair_expect(p, &dqkv, 20 * bound, "dqkv");
    pair_expect(p, &dvk, 20 * bound, "d virtual k");
    pair_expect(p, &dvv, 20 * bound, "d virtual v");
    pair_release(p);
}

void suite_attention(pair *p, int act, double bound) {
    static const attention_shape shapes[] = {
        {0,  0,  0, 4, 4, 16},
        {0,  0,  0, 6, 2, 20},
        {17, 0,  0, 4, 1, 33},
        {0,  5,  0, 2, 2, 64},
        {20, 5,  0, 2, 1, 32},
        {0,  0,  5, 3, 3, 24},
        {1,  3,  2, 2, 1, 7 },
        {16, 40, 3, 2, 1, 1 }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        attention_case(p, act, &shapes[i], bound);
}

void suite_gate(pair *p, int act, double bound) {
    enum { ROWS = 7, WIDTH = 133 };
    for (int kind = ACT_SILU; kind <= ACT_RELU; kind++)
        for (int fused = 0; fused < 2; fused++) {
            const int64_t stride = fused ? 2 * WIDTH : WIDTH;
            const twin x = pair_random(p, act, ROWS * stride, 3), h = pair_zeros(p, act, ROWS * WIDTH);
            const twin dh = pair_random(p, act, ROWS * WIDTH, 1), dx = pair_zeros(p, act, ROWS * stride);
            FOR_BOTH(p, k, s) {
                const int64_t up = WIDTH * dtype_bytes(x.type[s]);
                char *const in = x.dev[s], *const to = dx.dev[s];
                k->gate_forward(k, (activation_kind)kind, in, fused ? in + up : NULL, stride, h.dev[s], h.type[s], ROWS,
                                WIDTH);
                k->gate_backward(k, (activation_kind)kind, in, fused ? in + up : NULL, stride, dh.dev[s], to,
                                 fused ? to + up : NULL, h.type[s], ROWS, WIDTH);
            }
            pair_expect(p, &h, 4 * bound, "h");
            pair_expect(p, &dx, 4 * bound, "dgate, dup");
        }
}

void suite_head(pair *p, int act, double bound) {
    static const int64_t shapes[][2] = {
        {1, 1   },
        {5, 1031},
        {0, 7   }
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int capped = 0; capped < 2; capped++) {
            const int64_t rows = shapes[i][0], vocab = shapes[i][1];
            const double cap = capped ? 4 : 0;
            const twin z = pair_random(p, act, rows * vocab, 5), target = pair_indices(p, rows, (int32_t)vocab);
            const twin logp = pair_zeros(p, OWN, rows), lse = pair_zeros(p, OWN, rows),
                       dlogp = pair_random(p, OWN, rows, 1);
            const twin y = pair_random(p, act, rows * vocab, 5);
            FOR_BOTH(p, k, s) {
                k->logprob(k, z.dev[s], z.type[s], rows, vocab, target.dev[s], cap, logp.dev[s], lse.dev[s]);
                k->logprob_grad(k, z.dev[s], z.type[s], rows, vocab, target.dev[s], cap, lse.dev[s], dlogp.dev[s]);
                k->softcap(k, y.dev[s], y.type[s], rows * vocab, 3);
            }
            pair_expect(p, &logp, 10 * bound, "logp");
            pair_expect(p, &lse, 10 * bound, "lse");
            pair_expect(p, &z, 10 * bound, "dlogits");
            pair_expect(p, &y, 2 * bound, "capped");
        }
}

void suite_rows(pair *p, int act, double bound) {
    enum { ROWS = 11, WIDTH = 67, TABLE = 29 };
    int32_t distinct[ROWS], ids[ROWS];
    int64_t keys[ROWS];
    for (int i = 0; i < ROWS; i++) {
        distinct[i] = (i * 5 + 3) % TABLE;
        ids[i] = i % 4 ? i : 3;
        keys[i] = (int64_t)i << 33 | i;
    }
    const twin at = pair_bytes(p, I32, distinct, ROWS), repeated = pair_bytes(p, I32, ids, ROWS),
               key = pair_bytes(p, I64, keys, ROWS);
    const twin x = pair_random(p, act, ROWS * WIDTH, 1), y = pair_random(p, act, ROWS * WIDTH, 1),
               table = pair_random(p, act, TABLE * WIDTH, 1);
    const twin grads = pair_random(p, OWN, TABLE * WIDTH, 1), sums = pair_random(p, OWN, WIDTH, 1),
               picked = pair_zeros(p, act, ROWS * WIDTH);
    const twin masked = pair_random(p, act, ROWS * WIDTH, 1);
    double norms[2];
    FOR_BOTH(p, k, s) {
        k->add(k, y.dev[s], x.dev[s], x.type[s], ROWS * WIDTH);
        k->scale(k, y.dev[s], y.type[s], ROWS * WIDTH, 0.3);
        k->column_sum(k, x.dev[s], x.type[s], ROWS, WIDTH, sums.dev[s]);
        k->scatter_rows(k, repeated.dev[s], x.dev[s], x.type[s], ROWS, WIDTH, 1.5, 5, grads.dev[s]);
        k->pick_rows(k, at.dev[s], ROWS, WIDTH, table.dev[s], picked.dev[s], table.type[s]);
        k->place_rows(k, at.dev[s], ROWS, WIDTH, x.dev[s], table.dev[s], table.type[s]);
        k->dropout(k, x.dev[s], masked.dev[s], x.type[s], ROWS, WIDTH, 0.3, 5, 1ull << 50, key.dev[s], 1);
        k->dropout(k, masked.dev[s], masked.dev[s], x.type[s], ROWS, WIDTH, 0.1, 6, 7, key.dev[s], 0); /* in place */
        norms[s] = k->sqnorm(k, x.dev[s], x.type[s], ROWS * WIDTH);
    }
    pair_expect(p, &y, 2 * bound, "added and scaled");
    pair_expect(p, &sums, 10 * bound, "column sums");
    pair_expect(p, &grads, 4 * bound, "scattered");
    pair_expect(p, &picked, 0, "picked");
    pair_expect(p, &table, bound, "placed");
    pair_expect(p, &masked, 4 * bound, "dropout");
    cr_assert_leq(fabs(norms[0] - norms[1]), 10 * bound * norms[1], "square norm");
}

void suite_memory(pair *p, int act, double bound) {
    (void)bound;
    const twin a = pair_random(p, act, 1001, 1), b = pair_zeros(p, act, 1001), c = pair_zeros(p, BF16, 1001),
               d = pair_zeros(p, OWN, 1001);
    FOR_BOTH(p, k, s) {
        k->copy(k, b.dev[s], a.dev[s], 1000 * dtype_bytes(a.type[s]));
        k->convert(k, c.dev[s], BF16, a.dev[s], a.type[s], 1001);
        k->convert(k, d.dev[s], d.type[s], c.dev[s], BF16, 1001);
        k->zero(k, a.dev[s], dtype_bytes(a.type[s]) * 500);
        k->copy(k, b.dev[s], a.dev[s], 0);
        k->release(k, NULL);
    }
    pair_expect(p, &a, 0, "half zero");
    pair_expect(p, &b, 0, "copied");
    pair_expect(p, &c, 0, "narrowed");
    pair_expect(p, &d, 0, "widened");
}

const suite_part suite_parts[] = {
    {"gemm",      suite_gemm     },
    {"map",       suite_map      },
    {"weights",   suite_weights  },
    {"norms",     suite_norms    },
    {"rope",      suite_rope     },
    {"gate",      suite_gate     },
    {"attention", suite_attention},
    {"head",      suite_head     },
    {"rows",      suite_rows     },
    {"memory",    suite_memory   },
};
const int suite_part_count = sizeof suite_parts / sizeof *suite_parts;
