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
    product_term t = {.k = k, .step = weight_step(c, w, x_type), .scale = 1};
    t.a = (product_side){.data = x, .type = x_type, .outer = k, .deep = 1};
    t.b = (product_side){.type = w->type, .outer = transposed ? w->in : 1, .deep = transposed ? 1 : w->in};
    if (w->layout == WEIGHT_PLAIN)
        t.b.data = w->data;
    else
        t.b.w = w;
    return t;
}

/* scale·a·b in F32 steps. */
static product_term plain_term(int64_t k, double scale, product_side a, product_side b) {
    return (product_term){.k = k, .step = F32, .scale = (float)scale, .a = a, .b = b};
}

/* A (rows, k) dense: its rows are the outer ones, or its columns. */
static product_side rows_of(const void *data, dtype type, int64_t k) {
    return (product_side){.data = data, .type = type, .outer = k, .deep = 1};
}
static product_side columns_of(const void *data, dtype type, int64_t columns) {
    return (product_side){.data = data, .type = type, .outer = 1, .deep = columns};
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
    t.scale /= p->to.alpha;
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
        const product_term xa =
            plain_term(w->in, 1, rows_of(t->x ? t->x : x, x_type, w->in), rows_of(t->a, t->type, w->in));
        run_term(c, rows, t->rank, &xa, t->h, t->rank, 1, 1, 0);
    }
    product p = layer_product(c, w, 1, x, x_type, rows, alpha);
    p.to.data = y, p.to.type = y_type, p.to.accumulate = accumulate, p.to.bias = bias;
    for (int32_t i = 0; i < count; i++) {
        const lowrank_term *t = &terms[i];
        add_term(c, &p, plain_term(t->rank, t->s, rows_of(t->h, F32, t->rank), rows_of(t->b, t->type, t->rank)));
    }
    product_run(c, &p);
}

/* dh = s·dy·B;  dB += s·dyᵀ·h;  dA += dhᵀ·x. The gradients are made with their short side as rows. */
static void term_backward(cpu *c, const weight *w, const lowrank_term *t, const void *dy, dtype dy_type, const void *x,
                          dtype x_type, int64_t rows) {
    const int64_t rank = t->rank;
    const product_term dyb = plain_term(w->out, 1, rows_of(dy, dy_type, w->out), columns_of(t->b, t->type, rank));
    run_term(c, rows, rank, &dyb, t->dh, rank, 1, t->s, 0);
    const product_term hdy = plain_term(rows, 1, columns_of(t->h, F32, rank), columns_of(dy, dy_type, w->out));
    if (t->db) run_term(c, rank, w->out, &hdy, t->db, 1, rank, t->s, 1);
    const product_term dhx =
        plain_term(rows, 1, columns_of(t->dh, F32, rank), columns_of(t->x ? t->x : x, x_type, w->in));
    if (t->da) run_term(c, rank, w->in, &dhx, t->da, w->in, 1, 1, 1);
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
    for (int32_t i = 0; i < count; i++) {
        const lowrank_term *t = &terms[i];
        if (!t->x)
            add_term(c, &p, plain_term(t->rank, 1, rows_of(t->dh, F32, t->rank), columns_of(t->a, t->type, w->in)));
    }
    product_run(c, &p);
}
