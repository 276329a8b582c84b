/* Every backward of the reference is the derivative of its forward: norms, rope, gate, head, weights with low-rank terms,
 * the rows functions; attention has its own file. All on ref64, all against central differences. */
#include "compare.h"
#include "gradient.h"
#include "kernels/codebook.h"
#include <string.h>

enum { ROWS = 5, WIDTH = 7 };

/* ---- norms ---- */
typedef struct {
    kernels *k;
    norm_kind kind;
    double *x, *w, *b, *c, *y;
} norm_case;

static double norm_loss(void *context) {
    const norm_case *t = context;
    t->k->norm_forward(t->k, t->kind, t->x, t->w, t->b, 1e-3, t->y, F64, ROWS, WIDTH);
    return dot_product(t->c, t->y, ROWS * WIDTH);
}

Test(ref_gradients, norms) {
    kernels *k = open_device("ref64", NULL);
    double x[ROWS * WIDTH], w[WIDTH], b[WIDTH], c[ROWS * WIDTH], y[ROWS * WIDTH], dx[ROWS * WIDTH];
    fill_normal(x, ROWS * WIDTH, 1, 1.5);
    fill_normal(w, WIDTH, 2, 1);
    fill_normal(b, WIDTH, 3, 1);
    fill_normal(c, ROWS * WIDTH, 4, 1);
    for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
        const int layer = kind == NORM_LAYER;
        double dw[WIDTH] = {0}, db[WIDTH] = {0};
        norm_case t = {k, (norm_kind)kind, x, w, layer ? b : NULL, c, y};
        k->norm_backward(k, (norm_kind)kind, x, w, 1e-3, c, dx, dw, layer ? db : NULL, F64, ROWS, WIDTH, 0);
        expect_gradient("norm dx", x, dx, ROWS * WIDTH, norm_loss, &t);
        expect_gradient("norm dw", w, dw, WIDTH, norm_loss, &t);
        if (layer) expect_gradient("norm db", b, db, WIDTH, norm_loss, &t);
    }
    k->close(k);
}

Test(ref_gradients, norms_add_to_what_stands_when_asked) {
    kernels *k = open_device("ref64", NULL);
    double x[WIDTH], w[WIDTH], dy[WIDTH], once[WIDTH], twice[WIDTH], dw[WIDTH] = {0};
    fill_normal(x, WIDTH, 1, 1);
    fill_normal(w, WIDTH, 2, 1);
    fill_normal(dy, WIDTH, 3, 1);
    k->norm_backward(k, NORM_RMS, x, w, 1e-6, dy, once, NULL, NULL, F64, 1, WIDTH, 0);
    memcpy(twice, once, sizeof twice);
    k->norm_backward(k, NORM_RMS, x, w, 1e-6, dy, twice, dw, NULL, F64, 1, WIDTH, 1);
    k->norm_backward(k, NORM_RMS, x, w, 1e-6, dy, NULL, dw, NULL, F64, 1, WIDTH, 0);
    double single[WIDTH] = {0};
    k->norm_backward(k, NORM_RMS, x, w, 1e-6, dy, NULL, single, NULL, F64, 1, WIDTH, 0);
    for (int i = 0; i < WIDTH; i++) {
        cr_assert_float_eq(twice[i], 2 * once[i], 1e-15);
        cr_assert_float_eq(dw[i], 2 * single[i], 1e-15);
    }
    k->close(k);
}

/* ---- rope: orthogonal up to its factor, so the inverse is the transposed map ---- */
Test(ref_gradients, rope_inverse_is_its_transpose_and_undoes_it) {
    enum { HEADS = 2, DIM = 10, PAIRS = 4, N = ROWS * HEADS * DIM };
    kernels *k = open_device("ref64", NULL);
    const int32_t positions[ROWS] = {0, 1, 7, 1000, 31};
    const float inv_freq[PAIRS] = {1, 0.3f, 0.05f, 0.001f};
    double x[N], y[N], rotated[N], back[N];
    fill_normal(x, N, 1, 1);
    fill_normal(y, N, 2, 1);
    memcpy(rotated, x, sizeof x);
    k->rope(k, rotated, F64, ROWS, HEADS * DIM, HEADS, DIM, PAIRS, positions, inv_freq, 1.25, 0);
    memcpy(back, y, sizeof y);
    k->rope(k, back, F64, ROWS, HEADS * DIM, HEADS, DIM, PAIRS, positions, inv_freq, 1.25, 1);
    cr_assert_float_eq(dot_product(rotated, y, N), dot_product(x, back, N), 1e-12, "<Rx, y> = <x, R'y>");
    memcpy(back, x, sizeof x);
    for (int inverse = 0; inverse < 2; inverse++)
        k->rope(k, back, F64, ROWS, HEADS * DIM, HEADS, DIM, PAIRS, positions, inv_freq, 1, inverse);
    for (int i = 0; i < N; i++) {
        cr_assert_float_eq(back[i], x[i], 1e-14);
        if (i % DIM >= 2 * PAIRS) cr_assert_eq(rotated[i], x[i], "features past the pairs stay");
    }
    cr_assert_float_eq(rotated[0], 1.25 * x[0], 1e-15, "position 0 only scales");
    const double angle = 7 * 0.3f; /* row 2, head 1, pair 1 */
    const int at = 2 * HEADS * DIM + DIM + 1;
    cr_assert_float_eq(rotated[at], 1.25 * (x[at] * cos(angle) - x[at + PAIRS] * sin(angle)), 1e-6);
    k->close(k);
}

/* ---- gate ---- */
typedef struct {
    kernels *k;
    activation_kind act;
    double *x, *c;
    int up;
} gate_case;

static double gate_loss(void *context) {
    const gate_case *t = context;
    double h[ROWS * WIDTH];
    t->k->gate_forward(t->k, t->act, t->x, t->up ? t->x + WIDTH : NULL, 2 * WIDTH, h, F64, ROWS, WIDTH);
    return dot_product(t->c, h, ROWS * WIDTH);
}

Test(ref_gradients, gate) {
    kernels *k = open_device("ref64", NULL);
    double x[ROWS * 2 * WIDTH], c[ROWS * WIDTH];
    fill_normal(x, ROWS * 2 * WIDTH, 1, 2);
    fill_normal(c, ROWS * WIDTH, 2, 1);
    for (int act = ACT_SILU; act <= ACT_RELU; act++)
        for (int up = 0; up < 2; up++) {
            double dx[ROWS * 2 * WIDTH] = {0};
            gate_case t = {k, (activation_kind)act, x, c, up};
            k->gate_backward(k, t.act, x, up ? x + WIDTH : NULL, 2 * WIDTH, c, dx, up ? dx + WIDTH : NULL, F64, ROWS,
                             WIDTH);
            expect_gradient("gate", x, dx, ROWS * 2 * WIDTH, gate_loss, &t);
        }
    k->close(k);
}

/* ---- head ---- */
enum { VOCAB = 11 };
typedef struct {
    kernels *k;
    double *z, *c, cap;
    const int32_t *target;
} head_case;

static double head_loss(void *context) {
    const head_case *t = context;
    double logp[ROWS], lse[ROWS];
    t->k->logprob(t->k, t->z, F64, ROWS, VOCAB, t->target, t->cap, logp, lse);
    return dot_product(t->c, logp, ROWS);
}

Test(ref_gradients, logprob) {
    kernels *k = open_device("ref64", NULL);
    const int32_t target[ROWS] = {0, 10, 3, 3, 7};
    double z[ROWS * VOCAB], dz[ROWS * VOCAB], c[ROWS], logp[ROWS], lse[ROWS];
    fill_normal(c, ROWS, 2, 1);
    for (int capped = 0; capped < 2; capped++) {
        fill_normal(z, ROWS * VOCAB, 1, 3);
        head_case t = {k, z, c, capped ? 5 : 0, target};
        k->logprob(k, z, F64, ROWS, VOCAB, target, t.cap, logp, lse);
        memcpy(dz, z, sizeof z);
        k->logprob_grad(k, dz, F64, ROWS, VOCAB, target, t.cap, lse, c);
        expect_gradient("logprob", z, dz, ROWS * VOCAB, head_loss, &t);
    }
    k->close(k);
}

Test(ref_gradients, logprob_of_huge_logits_is_finite_and_capping_agrees_with_softcap) {
    kernels *k = open_device("ref", NULL);
    float z[4] = {3e4f, -3e4f, 3e4f, 0}, logp, lse;
    const int32_t target = 2;
    k->logprob(k, z, F32, 1, 4, &target, 0, &logp, &lse);
    cr_assert_float_eq(logp, -log(2), 1e-2); /* an ulp of the logits is 2e-3 */
    float y[4] = {1, -2, 30, 4}, capped[4], a, b;
    memcpy(capped, y, sizeof y);
    k->softcap(k, capped, F32, 4, 5);
    k->logprob(k, y, F32, 1, 4, &target, 5, &a, &lse);
    k->logprob(k, capped, F32, 1, 4, &target, 0, &b, &lse);
    cr_assert_float_eq(a, b, 1e-6);
    k->close(k);
}

/* ---- weights and low-rank terms ---- */
enum { OUT = 6, IN = 9, RANK = 3 };
typedef struct {
    kernels *k;
    weight w;
    double *x, *own, *a, *b, *bias, *c, *h;
} linear_case;

static lowrank_term linear_term(const linear_case *t, int i, double *da, double *db, double *dh) {
    return (lowrank_term){.a = t->a + i * RANK * IN,
                          .b = t->b + i * OUT * RANK,
                          .type = F64,
                          .rank = RANK,
                          .s = 0.7 + i,
                          .h = t->h + i * ROWS * RANK,
                          .x = i ? t->own : NULL,
                          .da = da ? da + i * RANK * IN : NULL,
                          .db = db ? db + i * OUT * RANK : NULL,
                          .dh = dh ? dh + i * ROWS * RANK : NULL};
}

static double linear_loss(void *context) {
    linear_case *t = context;
    double y[ROWS * OUT];
    const lowrank_term terms[2] = {linear_term(t, 0, NULL, NULL, NULL), linear_term(t, 1, NULL, NULL, NULL)};
    t->k->weight_forward(t->k, &t->w, t->bias, t->x, F64, y, F64, ROWS, 0, 1.3, terms, 2);
    return dot_product(t->c, y, ROWS * OUT);
}

static void linear_gradients(kernels *k, const weight *w) {
    linear_case t = {k,
                     *w,
                     new_normal(ROWS * IN, 1, 1),
                     new_normal(ROWS * IN, 2, 1),
                     new_normal(2 * RANK * IN, 3, 1),
                     new_normal(2 * OUT * RANK, 4, 1),
                     new_normal(OUT, 5, 1),
                     new_normal(ROWS * OUT, 6, 1),
                     mem_new(2 * ROWS * RANK, 8)};
    double dx[ROWS * IN], da[2 * RANK * IN] = {0}, db[2 * OUT * RANK] = {0}, dh[2 * ROWS * RANK], dbias[OUT] = {0};
    linear_loss(&t); /* writes h */
    const lowrank_term terms[2] = {linear_term(&t, 0, da, db, dh), linear_term(&t, 1, da, db, dh)};
    k->weight_input_grad(k, w, t.c, F64, dx, F64, t.x, F64, ROWS, 0, 1.3, terms, 2);
    k->column_sum(k, t.c, F64, ROWS, OUT, dbias);
    expect_gradient("dx", t.x, dx, ROWS * IN, linear_loss, &t);
    expect_gradient("dA", t.a, da, 2 * RANK * IN, linear_loss, &t);
    expect_gradient("dB", t.b, db, 2 * OUT * RANK, linear_loss, &t);
    expect_gradient("dbias", t.bias, dbias, OUT, linear_loss, &t);
    /* the gradient of a term's own x is dh·A, made by the caller */
    double d_own[ROWS * IN] = {0};
    const gemm_call g = {
        .batch = 1,
        .m = ROWS,
        .n = IN,
        .k = RANK,
        .a = {dh + ROWS * RANK, F64, RANK, 1, 0, NULL},
        .b = {t.a + RANK * IN,  F64, IN,   1, 0, NULL},
        .c = d_own,
        .c_type = F64,
        .c_row = IN,
        .c_col = 1,
        .alpha = 1
    };
    k->gemm(k, &g);
    expect_gradient("own x", t.own, d_own, ROWS * IN, linear_loss, &t);
    /* without dx only the terms' gradients are made, and they are the same */
    linear_loss(&t); /* h once more: the differences moved it */
    double da2[2 * RANK * IN] = {0}, db2[2 * OUT * RANK] = {0};
    const lowrank_term again[2] = {linear_term(&t, 0, da2, db2, dh), linear_term(&t, 1, da2, db2, dh)};
    k->weight_input_grad(k, w, t.c, F64, NULL, F64, t.x, F64, ROWS, 0, 1.3, again, 2);
    cr_assert_arr_eq(da2, da, sizeof da);
    cr_assert_arr_eq(db2, db, sizeof db);
    double *const owned[] = {t.x, t.own, t.a, t.b, t.bias, t.c, t.h};
    for (int i = 0; i < 7; i++)
        free(owned[i]);
}

Test(ref_gradients, weights_of_every_layout_with_low_rank_terms) {
    kernels *k = open_device("ref64", NULL);
    double *from = new_normal(OUT * IN, 7, 1);
    uint8_t codes[(OUT * IN + 1) / 2];
    int8_t rows[OUT * IN];
    float scale[OUT], absmax[2];
    weight plain = {.out = OUT, .in = IN, .layout = WEIGHT_PLAIN, .type = F64, .data = from};
    weight four = {
        .out = OUT, .in = IN, .layout = WEIGHT_CODEBOOK4, .type = BF16, .data = codes, .scale = absmax, .block = 32};
    weight eight = {.out = OUT, .in = IN, .layout = WEIGHT_ROWS8, .type = F64, .data = rows, .scale = scale};
    memcpy(four.code, codebook_nf4, sizeof four.code);
    k->weight_quantize(k, &four, from);
    k->weight_quantize(k, &eight, from);
    linear_gradients(k, &plain);
    linear_gradients(k, &four);
    linear_gradients(k, &eight);
    free(from);
    k->close(k);
}

/* ---- linear maps whose backward is the transposed one: <f(x), y> = <x, f'(y)> ---- */
Test(ref_gradients, rows_functions_are_transposes_of_each_other) {
    enum { TABLE = 8, N = ROWS * WIDTH };
    kernels *k = open_device("ref64", NULL);
    const int32_t ids[ROWS] = {3, 0, 3, 7, 5}, distinct[ROWS] = {6, 0, 3, 7, 5};
    const int64_t keys[ROWS] = {1, 2, 3, 4, 5};
    double *table = new_normal(TABLE * WIDTH, 1, 1), *y = new_normal(N, 2, 1), to[N], grad[TABLE * WIDTH] = {0};
    weight w = {.out = TABLE, .in = WIDTH, .layout = WEIGHT_PLAIN, .type = F64, .data = table};
    k->weight_gather(k, &w, ids, ROWS, to, F64, 2.5);
    k->scatter_rows(k, ids, y, F64, ROWS, WIDTH, 2.5, -1, grad);
    cr_assert_float_eq(dot_product(to, y, N), dot_product(table, grad, TABLE * WIDTH), 1e-12, "embedding");
    double skipped[TABLE * WIDTH] = {0};
    k->scatter_rows(k, ids, y, F64, ROWS, WIDTH, 2.5, 3, skipped);
    for (int i = 0; i < TABLE * WIDTH; i++)
        cr_assert_eq(skipped[i], i / WIDTH == 3 ? 0 : grad[i], "the row of the skipped id gets nothing");
    memset(grad, 0, sizeof grad);
    k->pick_rows(k, distinct, ROWS, WIDTH, table, to, F64);
    k->place_rows(k, distinct, ROWS, WIDTH, y, grad, F64);
    cr_assert_float_eq(dot_product(to, y, N), dot_product(table, grad, TABLE * WIDTH), 1e-12, "picked rows");
    double back[N] = {0};
    k->dropout(k, table, to, F64, ROWS, WIDTH, 0.4, 1, 2, keys, 0);
    k->dropout(k, y, back, F64, ROWS, WIDTH, 0.4, 1, 2, keys, 1);
    cr_assert_float_eq(dot_product(to, y, N), dot_product(table, back, N), 1e-12, "dropout");
    free(y);
    free(table);
    k->close(k);
}

Test(ref_gradients, dropout_keeps_a_row_by_its_key_and_drops_the_share_asked_for) {
    enum { N = 200, W = 501 };
    kernels *k = open_device("ref", NULL);
    float *x = mem_new(N * W, 4), *y = mem_new(N * W, 4), *part = mem_new(W, 4);
    int64_t keys[N];
    int dropped = 0;
    for (int i = 0; i < N * W; i++)
        x[i] = 1;
    for (int i = 0; i < N; i++)
        keys[i] = 1000 - i;
    k->dropout(k, x, y, F32, N, W, 0.25, 9, 8, keys, 0);
    for (int i = 0; i < N * W; i++) {
        dropped += y[i] == 0;
        cr_assert(y[i] == 0 || y[i] == (float)(1 / 0.75));
    }
    /* a binomial share: five standard deviations of 100200 draws */
    cr_assert_float_eq(dropped / (double)(N * W), 0.25, 5 * sqrt(0.25 * 0.75 / (N * W)));
    k->dropout(k, x, part, F32, 1, W, 0.25, 9, 8, keys + 77, 0);
    cr_assert_arr_eq(part, y + 77 * W, W * sizeof *part, "row 77 alone has the mask it has among others");
    k->dropout(k, x, y, F32, N, W, 0, 9, 8, keys, 0);
    cr_assert_arr_eq(y, x, N * W * sizeof *x, "p = 0 drops nothing");
    free(part);
    free(y);
    free(x);
    k->close(k);
}
