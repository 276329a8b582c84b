/* Products of the fast table on shapes that reach every way through it: several parts, passes and slices of k, strips and
 * panels with remainders, all types, strides and batches; low-rank terms fused and by the textbook; quantized weights. */
#include "compare.h"
#include "cpu-sets.h"
#include "kernels/codebook.h"
#include <string.h>

/* Positions of element (i, j): row-major, turned, or with gaps in both directions. */
typedef struct {
    int64_t row, col, size;
} order;

static order order_of(int kind, int64_t rows, int64_t columns) {
    return kind == 0   ? (order){columns, 1, rows * columns}
           : kind == 1 ? (order){1, rows, rows * columns}
                       : (order){3 * columns + 1, 2, rows * (3 * columns + 1) + 2 * columns};
}

typedef struct {
    int64_t batch, m, n, k;
    int a, b, c; /* types */
    int a_order, b_order, c_order;
    int accumulate;
} product_case;

static gemm_call call_of(const product_case *p, const twin *a, const twin *b, const twin *c, int s) {
    const order oa = order_of(p->a_order, p->m, p->k), ob = order_of(p->b_order, p->k, p->n),
                oc = order_of(p->c_order, p->m, p->n);
    return (gemm_call){
        .batch = p->batch,
        .m = p->m,
        .n = p->n,
        .k = p->k,
        .a = {a->dev[s], a->type[s], oa.row, oa.col, oa.size, NULL},
        .b = {b->dev[s], b->type[s], ob.row, ob.col, ob.size, NULL},
        .c = c->dev[s],
        .c_type = c->type[s],
        .c_row = oc.row,
        .c_col = oc.col,
        .c_batch = oc.size,
        .alpha = -1.25,
        .accumulate = p->accumulate
    };
}

static twin magnitudes(pair *p, const twin *t, int type) {
    double *v = pair_get(p, t, 1);
    for (int64_t i = 0; i < t->n; i++)
        v[i] = fabs(v[i]);
    const twin to = pair_put(p, type, v, t->n);
    free(v);
    return to;
}

/* A unit of rounding of a stored type. */
static double unit_of(int type) {
    return type == BF16 ? 0x1p-8 : type == F16 ? 0x1p-11 : 0x1p-24;
}

/* |tested - exact| <= (k + 4)·2^-24·|alpha|·Σ|a||b| + 2 units of the stored value; where an F32 operand may be rounded to
 * BF16 beside a BF16 one, 2^-8·Σ|a||b| more. */
static void expect_product(pair *p, const product_case *q, const twin *a, const twin *b, const twin *c,
                           const twin *bound) {
    const twin ma = magnitudes(p, a, q->a), mb = magnitudes(p, b, q->b);
    product_case sums = *q;
    sums.accumulate = 0;
    gemm_call g = call_of(&sums, &ma, &mb, bound, 1);
    g.alpha = 1.25;
    p->k[1]->gemm(p->k[1], &g);
    double *got = pair_get(p, c, 0), *want = pair_get(p, c, 1), *sum = pair_get(p, bound, 1);
    const int rounded = (q->a == BF16 && q->b == OWN) || (q->b == BF16 && q->a == OWN);
    for (int64_t i = 0; i < c->n; i++) {
        const double slack = ((double)q->k + 4) * 0x1p-24 + (rounded ? 0x1p-8 : 0);
        const double most = slack * sum[i] + 2 * unit_of(q->c) * fabs(want[i]) + 1e-30;
        cr_assert(fabs(got[i] - want[i]) <= most,
                  "%ldx%ldx%ld types %d %d %d orders %d %d %d: c[%ld] %.9g, exact %.9g (bound %g)", (long)q->m,
                  (long)q->n, (long)q->k, q->a, q->b, q->c, q->a_order, q->b_order, q->c_order, (long)i, got[i],
                  want[i], most);
    }
    free(got);
    free(want);
    free(sum);
}

static void run_product(pair *p, const product_case *q) {
    const twin a = pair_random(p, q->a, q->batch * order_of(q->a_order, q->m, q->k).size, 1);
    const twin b = pair_random(p, q->b, q->batch * order_of(q->b_order, q->k, q->n).size, 1);
    const int64_t size = q->batch * order_of(q->c_order, q->m, q->n).size;
    const twin c = pair_random(p, q->c, size, 1), bound = pair_zeros(p, OWN, size);
    FOR_BOTH(p, t, s) {
        const gemm_call g = call_of(q, &a, &b, &c, s);
        t->gemm(t, &g);
    }
    expect_product(p, q, &a, &b, &c, &bound);
    pair_release(p);
}

static void products(const char *set) {
    static const int64_t shapes[][3] = {
        {1,   1,   1   },
        {3,   2,   5   },
        {8,   48,  64  },
        {9,   49,  65  },
        {17,  193, 31  },
        {131, 7,   33  },
        {1,   301, 129 },
        {300, 1,   257 },
        {67,  67,  1301},
        {300, 211, 70  },
        {20,  30,  9001},
        {2,   3,   0   }
    };
    static const int types[][3] = {
        {OWN,  OWN,  OWN },
        {BF16, BF16, BF16},
        {BF16, BF16, OWN },
        {BF16, OWN,  OWN },
        {OWN,  BF16, BF16},
        {F16,  BF16, OWN },
        {F16,  F16,  F16 }
    };
    setenv("GRAFT_CPU", set, 1);
    pair p;
    pair_open(&p, "cpu", "ref64");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            const int spin = (int)(i + t);
            const product_case q = {.batch = 1,
                                    .m = shapes[i][0],
                                    .n = shapes[i][1],
                                    .k = shapes[i][2],
                                    .a = types[t][0],
                                    .b = types[t][1],
                                    .c = types[t][2],
                                    .a_order = spin % 3,
                                    .b_order = spin / 3 % 3,
                                    .c_order = spin % 2 ? spin % 3 : 0,
                                    .accumulate = spin % 2};
            run_product(&p, &q);
        }
    for (int o = 0; o < 27; o++) {
        const product_case q = {.batch = 3,
                                .m = 21,
                                .n = 70,
                                .k = 69,
                                .a = BF16,
                                .b = BF16,
                                .c = OWN,
                                .a_order = o % 3,
                                .b_order = o / 3 % 3,
                                .c_order = o / 9,
                                .accumulate = o % 2};
        run_product(&p, &q);
    }
    pair_close(&p);
}
FOR_SETS(cpu_products, stay_within_the_bound_of_f32_sums, products)

/* ---- weights ---- */

enum { OUT = 200, IN = 330, ROWS = 77 };

/* A quantized weight on the tested side, and the plain one of its values. */
static weight quantized(pair *p, weight_layout layout, dtype type, int64_t out, int64_t in) {
    const twin from = pair_random(p, F32, out * in, 0.3), codes = pair_zeros(p, I8, out * in),
               scale = pair_zeros(p, F32, out * in / 32 + out);
    weight w = {
        .out = out, .in = in, .layout = layout, .type = type, .data = codes.dev[0], .scale = scale.dev[0], .block = 64};
    memcpy(w.code, codebook_nf4, sizeof w.code);
    p->k[0]->weight_quantize(p->k[0], &w, from.dev[0]);
    return w;
}

static weight plain_of(pair *p, const weight *w) {
    const twin values = pair_zeros(p, (int)w->type, w->out * w->in);
    p->k[0]->weight_read(p->k[0], w, 0, w->out, values.dev[0], w->type);
    return (weight){.out = w->out, .in = w->in, .layout = WEIGHT_PLAIN, .type = w->type, .data = values.dev[0]};
}

static void expect_same(const pair *p, const twin *a, const twin *b, const char *what) {
    double *x = pair_get(p, a, 0), *y = pair_get(p, b, 0);
    for (int64_t i = 0; i < a->n; i++)
        cr_assert(x[i] == y[i], "%s[%ld]: %.9g and %.9g", what, (long)i, x[i], y[i]);
    free(x);
    free(y);
}

/* Tiles are decoded to exactly the values weight_read gives, and then multiplied as a plain weight of its type is. */
static void decoding(const char *set) {
    static const dtype weights[] = {BF16, F16, F32}, acts[] = {F32, BF16};
    setenv("GRAFT_CPU", set, 1);
    pair p;
    pair_open(&p, "cpu", "ref");
    kernels *const k = p.k[0];
    for (int layout = WEIGHT_CODEBOOK4; layout <= WEIGHT_ROWS8; layout++)
        for (int t = 0; t < 3; t++)
            for (int c = 0; c < 2; c++)
                for (int odd = 0; odd < 2; odd++) { /* odd: blocks and bytes run across rows */
                    const int64_t out = OUT + odd, in = IN + odd;
                    const weight w = quantized(&p, (weight_layout)layout, weights[t], out, in), v = plain_of(&p, &w);
                    const dtype act = acts[c];
                    const twin x = pair_random(&p, (int)act, ROWS * in, 1),
                               dy = pair_random(&p, (int)act, ROWS * out, 1);
                    const twin y = pair_zeros(&p, (int)act, ROWS * out), y2 = pair_zeros(&p, (int)act, ROWS * out);
                    const twin dx = pair_zeros(&p, (int)act, ROWS * in), dx2 = pair_zeros(&p, (int)act, ROWS * in);
                    k->weight_forward(k, &w, NULL, x.dev[0], act, y.dev[0], act, ROWS, 0, 1, NULL, 0);
                    k->weight_forward(k, &v, NULL, x.dev[0], act, y2.dev[0], act, ROWS, 0, 1, NULL, 0);
                    k->weight_input_grad(k, &w, dy.dev[0], act, dx.dev[0], act, NULL, act, ROWS, 0, 1, NULL, 0);
                    k->weight_input_grad(k, &v, dy.dev[0], act, dx2.dev[0], act, NULL, act, ROWS, 0, 1, NULL, 0);
                    expect_same(&p, &y, &y2, "y");
                    expect_same(&p, &dx, &dx2, "dx");
                    pair_release(&p);
                }
    pair_close(&p);
}
FOR_SETS(cpu_weights, of_few_bits_multiply_as_the_values_they_stand_for, decoding)

enum { TERMS = 11 };

/* Eleven terms of ranks 1 to 200 at once, more than one pass takes, against the formulas in f64. */
static void fused_terms(const char *set) {
    static const int64_t ranks[TERMS] = {16, 1, 3, 130, 64, 8, 2, 200, 5, 16, 128};
    setenv("GRAFT_CPU", set, 1);
    for (int variant = 0; variant < 6; variant++) {
        const int act = variant % 2 ? BF16 : OWN;
        const double alpha = variant / 2 == 1 ? 0 : variant / 2 == 2 ? -2 : 1;
        pair p;
        pair_open(&p, "cpu", "ref64");
        const twin data = pair_random(&p, act, OUT * IN, 0.1), x = pair_random(&p, act, ROWS * IN, 1),
                   dy = pair_random(&p, act, ROWS * OUT, 1), bias = pair_random(&p, OWN, OUT, 1);
        const twin y = pair_random(&p, act, ROWS * OUT, 1), dx = pair_random(&p, act, ROWS * IN, 1);
        twin a[TERMS], b[TERMS], h[TERMS], dh[TERMS], da[TERMS], db[TERMS];
        for (int t = 0; t < TERMS; t++) {
            a[t] = pair_random(&p, OWN, ranks[t] * IN, 0.1), b[t] = pair_random(&p, OWN, ranks[t] * OUT, 0.1);
            h[t] = pair_zeros(&p, OWN, ranks[t] * ROWS), dh[t] = pair_zeros(&p, OWN, ranks[t] * ROWS);
            da[t] = pair_random(&p, OWN, ranks[t] * IN, 1), db[t] = pair_random(&p, OWN, ranks[t] * OUT, 1);
        }
        FOR_BOTH(&p, k, s) {
            const weight w = {.out = OUT, .in = IN, .layout = WEIGHT_PLAIN, .type = data.type[s], .data = data.dev[s]};
            lowrank_term terms[TERMS];
            for (int t = 0; t < TERMS; t++)
                terms[t] = (lowrank_term){.a = a[t].dev[s],
                                          .b = b[t].dev[s],
                                          .type = a[t].type[s],
                                          .rank = ranks[t],
                                          .s = 0.5 + t,
                                          .h = h[t].dev[s],
                                          .dh = dh[t].dev[s],
                                          .da = da[t].dev[s],
                                          .db = db[t].dev[s]};
            k->weight_forward(k, &w, bias.dev[s], x.dev[s], x.type[s], y.dev[s], y.type[s], ROWS, variant / 2 == 2,
                              alpha, terms, TERMS);
            k->weight_input_grad(k, &w, dy.dev[s], dy.type[s], dx.dev[s], dx.type[s], x.dev[s], x.type[s], ROWS,
                                 variant / 2 == 2, alpha, terms, TERMS);
        }
        const double rounding = act == BF16 ? 0x1p-7 : 0; /* of two f32 values a little apart: one unit */
        pair_expect(&p, &y, rounding + 2e-5, "y");        /* sums of 1000 terms in f32 */
        pair_expect(&p, &dx, rounding + 2e-5, "dx");
        for (int t = 0; t < TERMS; t++) { /* all of low rank is f32 */
            pair_expect(&p, &h[t], 2e-6, "h");
            pair_expect(&p, &dh[t], 2e-6, "dh");
            pair_expect(&p, &da[t], 5e-6, "dA");
            pair_expect(&p, &db[t], 5e-6, "dB");
        }
        pair_close(&p);
    }
}
FOR_SETS(cpu_weights, fused_terms_are_the_textbook, fused_terms)

Test(cpu_isa, an_unknown_set_is_refused_with_those_there_are) {
    graft_error err = {0};
    kernels *k = NULL;
    setenv("GRAFT_CPU", "avx1024", 1);
    cr_assert_eq(kernels_open("cpu", NULL, &k, &err), GRAFT_USAGE);
    cr_assert_not_null(strstr(err.text, "avx1024"));
    cr_assert_not_null(strstr(err.text, "this machine has"));
}

Test(cpu_isa, big_and_small_memory_is_zero_and_aligned) {
    setenv("GRAFT_CPU", "", 1);
    kernels *k = open_device("cpu", NULL);
    static const int64_t sizes[] = {0, 1, 63, 4096, 1 << 20, (5 << 20) + 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *const dev = k->alloc(k, sizes[i]);
        cr_assert_not_null(dev);
        cr_assert_eq((uintptr_t)dev % 64, 0);
        for (int64_t b = 0; b < sizes[i]; b++)
            cr_assert_eq(dev[b], 0);
        memset(dev, 1, (size_t)sizes[i]);
        k->release(k, dev);
    }
    cr_assert_null(k->alloc(k, INT64_MAX));
    k->close(k);
}
