/* Attention of the reference: what a query sees, and the gradients in every combination of window, softcap, grouped heads,
 * virtual rows and documents. */
#include "compare.h"
#include "gradient.h"
#include <string.h>

enum { ROWS = 9, HEADS = 4, KV = 2, DIM = 3, VIRTUAL = 2, Q = HEADS * DIM, W = KV * DIM, STRIDE = Q + 2 * W };

typedef struct {
    kernels *k;
    attention_call a;
    double qkv[ROWS * STRIDE], virtual_k[VIRTUAL * W], virtual_v[VIRTUAL * W], o[ROWS * Q], lse[ROWS * HEADS],
        c[ROWS * Q];
    double dqkv[ROWS * STRIDE], dvirtual_k[VIRTUAL * W], dvirtual_v[VIRTUAL * W];
    int32_t positions[ROWS];
} fixture;

static const attention_span spans[] = {
    {0, 4, 0, 4},
    {4, 5, 4, 5}
};

static void set_up(fixture *t, int64_t window, double softcap, int virtual_rows, int64_t kv_heads) {
    memset(t, 0, sizeof *t);
    t->k = open_device("ref64", NULL);
    fill_normal(t->qkv, ROWS * STRIDE, 1, 1);
    fill_normal(t->virtual_k, VIRTUAL * W, 2, 1);
    fill_normal(t->virtual_v, VIRTUAL * W, 3, 1);
    fill_normal(t->c, ROWS * Q, 4, 1);
    for (int i = 0; i < ROWS; i++)
        t->positions[i] = (i < 4 ? i : i - 4) + virtual_rows;
    t->a = (attention_call){.type = F64,
                            .q = t->qkv,
                            .k = t->qkv + Q,
                            .v = t->qkv + Q + W,
                            .q_stride = STRIDE,
                            .k_stride = STRIDE,
                            .v_stride = STRIDE,
                            .o_stride = Q,
                            .q_pos = t->positions,
                            .k_pos = t->positions,
                            .spans = spans,
                            .span_count = 2,
                            .rows = ROWS,
                            .heads = HEADS,
                            .kv_heads = kv_heads,
                            .head_dim = DIM,
                            .scale = 0.9,
                            .softcap = softcap,
                            .window = window,
                            .virtual_k = virtual_rows ? t->virtual_k : NULL,
                            .virtual_v = virtual_rows ? t->virtual_v : NULL,
                            .virtual_rows = virtual_rows,
                            .o = t->o,
                            .lse = t->lse,
                            .d_o = t->c,
                            .dq = t->dqkv,
                            .dk = t->dqkv + Q,
                            .dv = t->dqkv + Q + W,
                            .dvirtual_k = t->dvirtual_k,
                            .dvirtual_v = t->dvirtual_v};
}

static double loss(void *context) {
    fixture *t = context;
    t->k->attention_forward(t->k, &t->a);
    return dot_product(t->c, t->o, ROWS * Q);
}

Test(ref_attention, gradients_in_every_combination) {
    static const struct {
        int64_t window;
        double softcap;
        int virtual_rows;
    } cases[] = {
        {0, 0,   0      },
        {3, 0,   0      },
        {0, 2,   0      },
        {0, 0,   VIRTUAL},
        {3, 1.5, VIRTUAL},
        {1, 0,   0      }
    };
    fixture t;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_up(&t, cases[i].window, cases[i].softcap, cases[i].virtual_rows, KV);
        loss(&t);
        t.k->attention_backward(t.k, &t.a);
        expect_gradient("q, k and v", t.qkv, t.dqkv, ROWS * STRIDE, loss, &t);
        if (cases[i].virtual_rows) {
            expect_gradient("virtual k", t.virtual_k, t.dvirtual_k, VIRTUAL * W, loss, &t);
            expect_gradient("virtual v", t.virtual_v, t.dvirtual_v, VIRTUAL * W, loss, &t);
        }
        t.k->close(t.k);
    }
}

/* With q = 0 all visible keys weigh the same: o is the mean of their values and lse the log of their number. */
Test(ref_attention, a_query_sees_its_document_up_to_itself_inside_the_window_and_the_virtual_rows) {
    fixture t;
    for (int64_t window = 0; window <= 3; window++)
        for (int virtual_rows = 0; virtual_rows <= VIRTUAL; virtual_rows += VIRTUAL) {
            set_up(&t, window, 0, virtual_rows, KV);
            for (int i = 0; i < ROWS; i++)
                memset(t.qkv + i * STRIDE, 0, Q * sizeof(double));
            loss(&t);
            for (int i = 0; i < ROWS; i++)
                for (int h = 0; h < HEADS; h++) {
                    const int first = i < 4 ? 0 : 4, head = h / (HEADS / KV);
                    double sum = 0;
                    int seen = 0;
                    for (int j = first; j <= i; j++)
                        if (!window || i - j < window) sum += t.qkv[j * STRIDE + Q + W + head * DIM], seen++;
                    for (int j = 0; j < virtual_rows; j++)
                        if (!window || t.positions[i] - j < window) sum += t.virtual_v[j * W + head * DIM], seen++;
                    cr_assert_float_eq(t.o[i * Q + h * DIM], sum / seen, 1e-14);
                    cr_assert_float_eq(t.lse[i * HEADS + h], log(seen), 1e-14);
                }
            t.k->close(t.k);
        }
}

Test(ref_attention, grouped_heads_equal_repeated_keys) {
    fixture t, all;
    set_up(&t, 0, 0, 0, KV);
    loss(&t);
    /* the same keys and values, written out once for each query head */
    double q[ROWS * Q], keys[ROWS * Q], values[ROWS * Q];
    set_up(&all, 0, 0, 0, HEADS);
    for (int i = 0; i < ROWS; i++)
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < DIM; d++) {
                q[i * Q + h * DIM + d] = t.qkv[i * STRIDE + h * DIM + d];
                keys[i * Q + h * DIM + d] = t.qkv[i * STRIDE + Q + h / 2 * DIM + d];
                values[i * Q + h * DIM + d] = t.qkv[i * STRIDE + Q + W + h / 2 * DIM + d];
            }
    all.a.q = q, all.a.k = keys, all.a.v = values;
    all.a.q_stride = all.a.k_stride = all.a.v_stride = Q;
    loss(&all);
    cr_assert_arr_eq(all.o, t.o, sizeof t.o);
    all.k->close(all.k);
    t.k->close(t.k);
}

/* One query against a cache: the last row of a longer call. */
Test(ref_attention, one_row_against_a_cache_equals_the_row_of_the_whole) {
    fixture t;
    set_up(&t, 3, 2, VIRTUAL, KV);
    loss(&t);
    const attention_span last = {0, 1, 4, 5};
    double o[Q];
    attention_call a = t.a;
    a.q = t.qkv + 8 * STRIDE, a.q_pos = t.positions + 8, a.spans = &last, a.span_count = 1, a.rows = 1, a.o = o,
    a.lse = NULL;
    t.k->attention_forward(t.k, &a);
    cr_assert_arr_eq(o, t.o + 8 * Q, sizeof o);
    t.k->close(t.k);
}

Test(ref_attention, rows_of_no_document_become_zero) {
    fixture t;
    set_up(&t, 0, 0, 0, KV);
    t.a.span_count = 1;
    for (int i = 0; i < ROWS * Q; i++)
        t.o[i] = NAN;
    t.dqkv[5 * STRIDE] = t.dqkv[5 * STRIDE + Q] = 9;
    t.k->attention_forward(t.k, &t.a);
    t.k->attention_backward(t.k, &t.a);
    for (int i = 4 * Q; i < ROWS * Q; i++)
        cr_assert_eq(t.o[i], 0);
    cr_assert_eq(t.lse[5 * HEADS], 0);
    cr_assert_eq(t.dqkv[5 * STRIDE], 0, "dq");
    cr_assert_eq(t.dqkv[5 * STRIDE + Q], 9, "dk is left alone");
    t.k->close(t.k);
}

Test(ref_attention, a_score_that_is_not_a_number_shows_in_its_rows_and_nowhere_else) {
    fixture t;
    set_up(&t, 0, 0, 0, KV);
    t.qkv[2 * STRIDE + Q] = NAN; /* key 2 of the first document, head 0 */
    loss(&t);
    for (int i = 0; i < ROWS; i++)
        for (int h = 0; h < HEADS; h++)
            cr_assert_eq(isnan(t.o[i * Q + h * DIM]) != 0, (i == 2 || i == 3) && h < 2, "row %d head %d", i, h);
    t.k->close(t.k);
}
