/* layer — norms, rotary positions, gates and the head on the team, rows as parts. Bounds and formulas: cpu/vector, kernels/ref. */
#include "kernels/cpu/split.h"
#include <string.h>

enum {
    NORM_ROWS = 32,  /* of a part that sums dw and db */
    NORM_PARTS = 64, /* partial sums, at most         */
};

typedef struct {
    norm_kind kind;
    const void *x, *w, *b, *dy;
    double eps;
    void *y;        /* or dx */
    float *dw, *db; /* partial sums (parts, width), or NULL */
    dtype type;
    int64_t width;
    int32_t accumulate;
} norm_call;

static void norm_forward_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const norm_call *a = call;
    c->f->norm_forward(a->kind, split_at(a->x, a->type, first * a->width), a->w, a->b, a->eps,
                       split_at(a->y, a->type, first * a->width), a->type, count, a->width);
}

void cpu_norm_forward(kernels *k, norm_kind kind, const void *x, const void *w, const void *b, double eps, void *y,
                      dtype type, int64_t rows, int64_t width) {
    cpu *const c = k->state;
    const norm_call a = {.kind = kind, .x = x, .w = w, .b = b, .eps = eps, .y = y, .type = type, .width = width};
    if (split_fast(type))
        split_run(c, rows, split_rows(width), norm_forward_run, &a);
    else
        c->ref->norm_forward(c->ref, kind, x, w, b, eps, y, type, rows, width);
}

static void norm_backward_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    const norm_call *a = call;
    const int64_t at = first * a->width;
    float *const dw = a->dw ? a->dw + part * a->width : NULL, *const db = a->db ? a->db + part * a->width : NULL;
    if (dw) memset(dw, 0, (size_t)a->width * sizeof *dw);
    if (db) memset(db, 0, (size_t)a->width * sizeof *db);
    c->f->norm_backward(a->kind, split_at(a->x, a->type, at), a->w, a->eps, split_at(a->dy, a->type, at),
                        a->y ? split_at(a->y, a->type, at) : NULL, dw, db, a->type, count, a->width, a->accumulate);
}

/* dw and db: every part sums its rows apart; the sums are added in the order of the parts. */
void cpu_norm_backward(kernels *k, norm_kind kind, const void *x, const void *w, double eps, const void *dy, void *dx,
                       void *dw, void *db, dtype type, int64_t rows, int64_t width, int32_t accumulate) {
    cpu *const c = k->state;
    if (!split_fast(type)) {
        c->ref->norm_backward(c->ref, kind, x, w, eps, dy, dx, dw, db, type, rows, width, accumulate);
        return;
    }
    const int64_t even = split_parts(rows, NORM_PARTS),
                  size = dw || db ? (even > NORM_ROWS ? even : NORM_ROWS) : split_rows(width);
    const int64_t parts = split_parts(rows, size);
    float *const sums = dw || db ? cpu_shared(c, 2 * (parts + 1) * width * (int64_t)sizeof(float)) : NULL;
    norm_call a = {.kind = kind, .x = x, .w = w, .dy = dy, .eps = eps, .y = dx, .type = type, .width = width};
    a.accumulate = accumulate, a.dw = dw ? sums : NULL, a.db = db ? sums + parts * width : NULL;
    split_run(c, rows, size, norm_backward_run, &a);
    for (int64_t p = 0; p < parts; p++) {
        if (dw) c->f->add(dw, a.dw + p * width, F32, width);
        if (db) c->f->add(db, a.db + p * width, F32, width);
    }
}

typedef struct {
    void *x;
    dtype type;
    int64_t stride, heads, head_dim, pairs;
    const int32_t *positions;
    const float *inv_freq;
    double factor;
    int32_t inverse;
} rope_call;

static void rope_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const rope_call *a = call;
    c->f->rope(split_at(a->x, a->type, first * a->stride), a->type, count, a->stride, a->heads, a->head_dim, a->pairs,
               a->positions + first, a->inv_freq, (float)a->factor, a->inverse);
}

void cpu_rope(kernels *k, void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
              int64_t pairs, const int32_t *positions, const float *inv_freq, double factor, int32_t inverse) {
    cpu *const c = k->state;
    const rope_call a = {x, type, stride, heads, head_dim, pairs, positions, inv_freq, factor, inverse};
    if (split_fast(type))
        split_run(c, rows, split_rows(2 * heads * pairs), rope_run, &a);
    else
        c->ref->rope(c->ref, x, type, rows, stride, heads, head_dim, pairs, positions, inv_freq, factor, inverse);
}

typedef struct {
    activation_kind act;
    const void *gate, *up, *dh;
    void *h, *dgate, *dup;
    dtype type;
    int64_t stride, width;
} gate_call;

static void gate_forward_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const gate_call *a = call;
    const int64_t at = first * a->stride;
    c->f->gate_forward(a->act, split_at(a->gate, a->type, at), a->up ? split_at(a->up, a->type, at) : NULL, a->stride,
                       split_at(a->h, a->type, first * a->width), a->type, count, a->width);
}

void cpu_gate_forward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride, void *h,
                      dtype type, int64_t rows, int64_t width) {
    cpu *const c = k->state;
    const gate_call a = {.act = act, .gate = gate, .up = up, .h = h, .type = type, .stride = stride, .width = width};
    if (split_fast(type))
        split_run(c, rows, split_rows(width), gate_forward_run, &a);
    else
        c->ref->gate_forward(c->ref, act, gate, up, stride, h, type, rows, width);
}

static void gate_backward_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const gate_call *a = call;
    const int64_t at = first * a->stride;
    c->f->gate_backward(a->act, split_at(a->gate, a->type, at), a->up ? split_at(a->up, a->type, at) : NULL, a->stride,
                        split_at(a->dh, a->type, first * a->width), split_at(a->dgate, a->type, at),
                        a->up ? split_at(a->dup, a->type, at) : NULL, a->type, count, a->width);
}

void cpu_gate_backward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride,
                       const void *dh, void *dgate, void *dup, dtype type, int64_t rows, int64_t width) {
    cpu *const c = k->state;
    const gate_call a = {.act = act,
                         .gate = gate,
                         .up = up,
                         .dh = dh,
                         .dgate = dgate,
                         .dup = dup,
                         .type = type,
                         .stride = stride,
                         .width = width};
    if (split_fast(type))
        split_run(c, rows, split_rows(width), gate_backward_run, &a);
    else
        c->ref->gate_backward(c->ref, act, gate, up, stride, dh, dgate, dup, type, rows, width);
}

typedef struct {
    void *logits;
    dtype type;
    int64_t vocab;
    const int32_t *target;
    double cap;
    float *logp, *lse;
    const float *dlogp;
} head_call;

static void logprob_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const head_call *a = call;
    for (int64_t i = first; i < first + count; i++)
        c->f->logprob(split_at(a->logits, a->type, i * a->vocab), a->type, a->vocab, a->target[i], (float)a->cap,
                      a->logp + i, a->lse + i);
}

void cpu_logprob(kernels *k, const void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                 double cap, void *logp, void *lse) {
    cpu *const c = k->state;
    const head_call a = {(void *)(uintptr_t)logits, type, vocab, target, cap, logp, lse, NULL};
    if (split_fast(type))
        split_run(c, rows, split_rows(vocab), logprob_run, &a);
    else
        c->ref->logprob(c->ref, logits, type, rows, vocab, target, cap, logp, lse);
}

static void logprob_grad_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const head_call *a = call;
    for (int64_t i = first; i < first + count; i++)
        c->f->logprob_grad(split_at(a->logits, a->type, i * a->vocab), a->type, a->vocab, a->target[i], (float)a->cap,
                           a->lse[i], a->dlogp[i]);
}

void cpu_logprob_grad(kernels *k, void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                      double cap, const void *lse, const void *dlogp) {
    cpu *const c = k->state;
    const head_call a = {logits, type, vocab, target, cap, NULL, (float *)(uintptr_t)lse, dlogp};
    if (split_fast(type))
        split_run(c, rows, split_rows(vocab), logprob_grad_run, &a);
    else
        c->ref->logprob_grad(c->ref, logits, type, rows, vocab, target, cap, lse, dlogp);
}
