/* weights — linear layers on stored weights. Equals kernels/ref/weights.h with sums in f32.
 *
 *   forward   h = x·Aᵀ in F32 steps, then one product [x | s·h]·[W | B]ᵀ
 *   backward  dh = s·dy·B in F32 steps, then one product [dy | dh]·[W ; A];  dB and dA from rows of dy and x
 *
 * BF16 steps only where activations and weight are BF16; everything of low rank stays F32. With |·| of each factor,
 *   |error of y| <= (in + rank + 4)·2^-24·(|alpha|·Σ|x·W| + Σ|s·h·B|) + the error of h through B + the rounding of y. */
#include "kernels/cpu/product.h"
#include <string.h>

static dtype weight_step(const cpu *c, const weight *w, dtype activation) {
    return c->f->multiply.bf16 && w->type == BF16 && activation == BF16 ? BF16 : F32;
}

/* x (rows, k)·B for the weight: B = Wᵀ, or W. */
static product_term weight_term(const cpu *c, const weight *w, int transposed, const void *x, dtype x_type) {
    const int64_t k = transposed ? w->in : w->out;
    product_term t = {
        .k = k, .step = weight_step(c, w, x_type), .a = x, .a_type = x_type, .a_row = k, .a_col = 1, .a_scale = 1};
    t.w = w, t.transposed = transposed;
    if (w->layout == WEIGHT_PLAIN) {
        t.b = w->data, t.b_type = w->type;
        t.b_row = transposed ? 1 : w->in, t.b_col = transposed ? w->in : 1;
    }
    return t;
}

/* scale·a·b in F32 steps, a (rows, k) dense, b by its strides. */
static product_term plain_term(int64_t k, const void *a, dtype a_type, double scale, const void *b, dtype b_type,
                               int64_t b_row, int64_t b_col) {
    return (product_term){.k = k,
                          .step = F32,
                          .a = a,
                          .a_type = a_type,
                          .a_row = k,
                          .a_col = 1,
                          .a_scale = (float)scale,
                          .b = b,
                          .b_type = b_type,
                          .b_row = b_row,
                          .b_col = b_col};
}

/* to[i·row + j·col] [+]= alpha·term, f32, m x n. */
static void run_term(cpu *c, int64_t m, int64_t n, const product_term *t, void *to, int64_t row, int64_t col,
                     double alpha, int accumulate) {
    product p = {.batch = 1, .m = m, .n = n, .count = 1, .terms = {*t}};
    p.to = (multiply_target){
        .data = to, .type = F32, .row = row, .col = col, .alpha = (float)alpha, .accumulate = accumulate};
    product_run(c, &p);
}

/* Adds a term to a product whose sums are multiplied by to.alpha at the end; runs what is there when it is full. */
static void add_term(cpu *c, product *p, product_term t) {
    if (p->count == PRODUCT_TERMS) {
        product_run(c, p);
        p->count = 0;
        p->to.alpha = 1, p->to.bias = NULL, p->to.accumulate = 1;
    }
    t.a_scale /= p->to.alpha;
    p->terms[p->count++] = t;
}

/* The product of a layer, its first term alpha·x·B. */
static product layer_product(const cpu *c, const weight *w, int transposed, const void *x, dtype x_type, int64_t rows,
                             double alpha) {
    product p = {.batch = 1, .m = rows, .n = transposed ? w->out : w->in, .count = 1};
    p.terms[0] = weight_term(c, w, transposed, x, x_type);
    if (alpha == 0) p.terms[0].k = 0;
    p.to.row = p.n, p.to.col = 1;
    p.to.alpha = alpha == 0 ? 1 : (float)alpha;
    return p;
}

void cpu_weight_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                        dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                        int32_t count) {
    cpu *const c = k->state;
    for (int32_t i = 0; i < count; i++) {
        const lowrank_term *t = &terms[i];
        const product_term xa = plain_term(w->in, t->x ? t->x : x, x_type, 1, t->a, t->type, 1, w->in);
        run_term(c, rows, t->rank, &xa, t->h, t->rank, 1, 1, 0);
    }
    product p = layer_product(c, w, 1, x, x_type, rows, alpha);
    p.to.data = y, p.to.type = y_type, p.to.accumulate = accumulate, p.to.bias = bias;
    for (int32_t i = 0; i < count; i++) {
        const lowrank_term *t = &terms[i];
        add_term(c, &p, plain_term(t->rank, t->h, F32, t->s, t->b, t->type, 1, t->rank));
    }
    product_run(c, &p);
}

/* dh = s·dy·B;  dB += s·dyᵀ·h;  dA += dhᵀ·x. The gradients are made with their short side as rows. */
static void term_backward(cpu *c, const weight *w, const lowrank_term *t, const void *dy, dtype dy_type, const void *x,
                          dtype x_type, int64_t rows) {
    const product_term dyb = plain_term(w->out, dy, dy_type, 1, t->b, t->type, t->rank, 1);
    run_term(c, rows, t->rank, &dyb, t->dh, t->rank, 1, t->s, 0);
    product_term sum = {.k = rows, .step = F32, .a_type = F32, .a_row = 1, .a_col = t->rank, .a_scale = 1, .b_col = 1};
    if (t->db) {
        sum.a = t->h, sum.b = dy, sum.b_type = dy_type, sum.b_row = w->out;
        run_term(c, t->rank, w->out, &sum, t->db, 1, t->rank, t->s, 1);
    }
    if (t->da) {
        sum.a = t->dh, sum.b = t->x ? t->x : x, sum.b_type = x_type, sum.b_row = w->in;
        run_term(c, t->rank, w->in, &sum, t->da, w->in, 1, 1, 1);
    }
}

void cpu_weight_input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                           const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                           const lowrank_term *terms, int32_t count) {
    cpu *const c = k->state;
    for (int32_t i = 0; i < count; i++)
        term_backward(c, w, &terms[i], dy, dy_type, x, x_type, rows);
    if (!dx) return;
    product p = layer_product(c, w, 0, dy, dy_type, rows, alpha);
    p.to.data = dx, p.to.type = dx_type, p.to.accumulate = accumulate;
    for (int32_t i = 0; i < count; i++)
        if (!terms[i].x)
            add_term(c, &p, plain_term(terms[i].rank, terms[i].dh, F32, 1, terms[i].a, terms[i].type, w->in, 1));
    product_run(c, &p);
}
