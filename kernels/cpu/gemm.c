/* gemm — the table's general product. Equals kernels/ref/gemm.h with sums in f32: |error| <= (k + 2)·2^-24·|alpha|·Σ|a·b|,
 * plus the rounding of c. BF16 steps where both operands are BF16, or one is and the other is rounded to it (kernels.h). */
#include "kernels/cpu/product.h"
#include <assert.h>
#include <string.h>

enum { NARROW = 64, CHUNK = 512 /* columns of a scatter's part */ };

static int fast_type(dtype t) {
    return t == F32 || t == BF16 || t == F16;
}

static int is_narrow(int64_t rows, int64_t columns) {
    return rows <= NARROW || columns <= NARROW;
}

/* BF16 when both operands may be multiplied as such. */
static dtype step_of(const cpu *c, const gemm_call *g) {
    if (!c->f->multiply.bf16) return F32;
    const int a = g->a.type == BF16, b = g->b.type == BF16;
    if (a && b) return BF16;
    if (a && g->b.type == F32 && !is_narrow(g->k, g->n)) return BF16;
    if (b && g->a.type == F32 && !is_narrow(g->m, g->k)) return BF16;
    return F32;
}

static product_side side_of(const matrix *m, int64_t outer, int64_t deep) {
    return (product_side){.data = m->data, .type = m->type, .outer = outer, .deep = deep, .batch = m->batch};
}

static void dense(cpu *c, const gemm_call *g) {
    product p = {.batch = g->batch, .m = g->m, .n = g->n, .count = 1, .to_batch = g->c_batch};
    p.terms[0] = (product_term){.k = g->k,
                                .step = step_of(c, g),
                                .scale = 1,
                                .a = side_of(&g->a, g->a.row, g->a.col),
                                .b = side_of(&g->b, g->b.col, g->b.row)};
    p.to = (multiply_target){.data = g->c,
                             .type = g->c_type,
                             .row = g->c_row,
                             .col = g->c_col,
                             .alpha = (float)g->alpha,
                             .accumulate = g->accumulate};
    if (g->batch <= 1 || g->c_batch) {
        product_run(c, &p);
        return;
    }
    p.batch = 1;
    for (int64_t batch = 0; batch < g->batch; batch++) { /* all of the batch into one c, in order */
        p.terms[0].a.data = (const char *)g->a.data + batch * g->a.batch * dtype_bytes(g->a.type);
        p.terms[0].b.data = (const char *)g->b.data + batch * g->b.batch * dtype_bytes(g->b.type);
        p.to.accumulate = g->accumulate || batch > 0;
        product_run(c, &p);
    }
}

typedef struct {
    cpu *c;
    const gemm_call *g;
    multiply_target to;
} onehot_run;

/* c[i, j0..] [+]= alpha·(row p of b, or 0 where p < 0) */
static void put_row(const onehot_run *r, int64_t batch, int64_t i, int64_t p, int64_t j0, int64_t n, int accumulate) {
    const matrix *b = &r->g->b;
    float row[CHUNK];
    multiply_target to = r->to;
    to.data = (char *)to.data + batch * r->g->c_batch * dtype_bytes(to.type);
    to.accumulate = accumulate;
    if (p < 0)
        memset(row, 0, (size_t)n * sizeof *row);
    else
        r->c->f->convert(row, F32, (const char *)b->data + (batch * b->batch + p * b->row + j0) * dtype_bytes(b->type),
                         b->type, n, 1);
    r->c->f->multiply.finish(row, CHUNK, 1, n, &to, i, j0);
}

/* Part: some columns of one matrix of the batch. */
static void scatter_part(void *context, int part, int member) {
    (void)member;
    const onehot_run *r = context;
    const gemm_call *g = r->g;
    const int64_t chunks = (g->n + CHUNK - 1) / CHUNK, batch = part / chunks, j0 = part % chunks * CHUNK;
    const int64_t n = g->n - j0 < CHUNK ? g->n - j0 : CHUNK;
    for (int64_t i = 0; i < g->m && !g->accumulate; i++)
        put_row(r, batch, i, -1, j0, n, 0);
    for (int64_t p = 0; p < g->k; p++)
        if (g->a.onehot[p] >= 0) put_row(r, batch, g->a.onehot[p], p, j0, n, 1);
}

/* Part: one row of one matrix of the batch. */
static void gather_part(void *context, int part, int member) {
    (void)member;
    const onehot_run *r = context;
    const gemm_call *g = r->g;
    const int64_t batch = part / g->m, i = part % g->m;
    for (int64_t j = 0; j < g->n; j += CHUNK)
        put_row(r, batch, i, g->a.onehot[i], j, g->n - j < CHUNK ? g->n - j : CHUNK, g->accumulate);
}

static void onehot(cpu *c, const gemm_call *g) {
    onehot_run r = {.c = c, .g = g};
    r.to =
        (multiply_target){.data = g->c, .type = g->c_type, .row = g->c_row, .col = g->c_col, .alpha = (float)g->alpha};
    if (g->n <= 0 || g->m <= 0) return;
    if (g->onehot_transposed)
        team_run(c->threads, (int)(g->batch * ((g->n + CHUNK - 1) / CHUNK)), scatter_part, &r);
    else
        team_run(c->threads, (int)(g->batch * g->m), gather_part, &r);
}

void cpu_gemm(kernels *k, const gemm_call *g) {
    cpu *const c = k->state;
    assert(!g->b.onehot);
    const int types = fast_type(g->b.type) && fast_type(g->c_type) && (g->a.onehot || fast_type(g->a.type));
    if (!types || (g->a.onehot && (g->b.col != 1 || (g->batch > 1 && g->c_batch == 0))))
        c->ref->gemm(c->ref, g);
    else if (g->a.onehot)
        onehot(c, g);
    else
        dense(c, g);
}
