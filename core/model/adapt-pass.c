/* adapt-pass — a linear layer with the adapters around it, forward and backward.
 *
 * With adapters 1..n at a point:   INPUTs n..1:  x_n = x, x_{i-1} = INPUT_i(x_i)      the base reads x_0
 *                                  base:         y = x_0·Wᵀ + b
 *                                  LINEARs 1..n: y = LINEAR_i(x_i, y)                 each wraps all before it
 * Backward is the mirror. Dropout belongs to the core: a LINEAR whose option `dropout` is p > 0 gets x with features dropped
 * and its dx masked by the same draw (Philox keyed by seed, site, step, row), so nothing is stored. */
#include "model/adapt-private.h"
#include <string.h>

enum { ADAPT_AT_POINT = 16 }; /* most adapters at one point */

typedef struct {
    adapt *a;
    const adapt_pass *p;
    const adapt_point *at;
    instance *list[ADAPT_AT_POINT];
    const void
        *stage[ADAPT_AT_POINT + 1]; /* stage[n] = x, stage[i] = input of adapter i, stage[0] what the base reads */
    int32_t count;
    char *scratch;
} chain;

static adapt_pass pass_at(const chain *c, char *scratch) {
    adapt_pass p = *c->p;
    p.scratch = scratch;
    return p;
}

static chain chain_make(adapt *a, int32_t point, const adapt_pass *p, const void *x) {
    chain c = {.a = a, .p = p, .scratch = p->scratch};
    c.at = a ? &a->points[point] : NULL;
    for (instance **i = a && a->at[point] ? a->at[point] : NULL; i && *i && c.count < ADAPT_AT_POINT; i++)
        if (a->techniques[(*i)->spec].enabled && a->techniques[(*i)->spec].functions->forward)
            c.list[c.count++] = *i; /* one without a forward works on W alone */
    for (int32_t s = 0; s <= c.count; s++)
        c.stage[s] = x;
    return c;
}

static char *take(chain *c, int64_t bytes) {
    char *at = c->scratch;
    c->scratch += round_up(bytes);
    return at;
}

/* Runs the INPUT adapters last to first; every stage keeps its own buffer, so backward can read them again. */
static void run_inputs(chain *c, graft_error *err) {
    const int64_t bytes = c->p->rows * (c->at ? c->at->in : 0) * dtype_bytes(c->p->activation);
    for (int32_t n = c->count - 1; n >= 0; n--) {
        c->stage[n] = c->stage[n + 1];
        if (c->list[n]->site.kind != GRAFT_INPUT) continue;
        char *written = take(c, bytes);
        const adapt_pass p = pass_at(c, c->scratch);
        const call_tensors t = {.x = c->stage[n + 1], .y = written};
        adapt_call(c->a, c->list[n], HOOK_FORWARD, &p, &t, c->p->step, c->p->steps, NULL, err);
        c->stage[n] = written;
    }
}

static double dropout_of(const chain *c, const instance *i) {
    const technique *t = &c->a->techniques[i->spec];
    return c->p->training && t->dropout >= 0 && !i->site.onehot && i->site.kind == GRAFT_LINEAR ? i->numbers[t->dropout]
                                                                                                : 0;
}

static void drop(const chain *c, const instance *i, double rate, const void *from, void *to, int32_t accumulate) {
    kernels *k = c->p->device;
    const uint64_t stream = ((uint64_t)i->point << 20 | (uint64_t)i->spec << 8) ^ (uint64_t)c->p->step << 40;
    k->dropout(k, from, to, c->p->activation, c->p->rows, i->site.in, rate, c->a->seed, stream, c->p->row_key,
               accumulate);
}

/* What a LINEAR reads: the x of its stage, dropped when asked. */
static const void *linear_input(chain *c, int32_t n, double rate) {
    if (rate == 0) return c->stage[n + 1];
    char *dropped = take(c, c->p->rows * c->at->in * dtype_bytes(c->p->activation));
    drop(c, c->list[n], rate, c->stage[n + 1], dropped, 0);
    return dropped;
}

/* Whether every adapter here is a plain low-rank update of a plain linear: then one fused call does them all. */
static int fusable(const chain *c) {
    if (!c->count || !c->a || c->a->textbook || c->at->onehot) return 0;
    for (int32_t n = 0; n < c->count; n++)
        if (!adapt_is_lowrank(c->a, c->list[n]) || c->list[n]->site.kind != GRAFT_LINEAR) return 0;
    return 1;
}

static lowrank_term term_of(chain *c, int32_t n, const void *x) {
    const technique *t = &c->a->techniques[c->list[n]->spec];
    const instance *i = c->list[n];
    const slot_state *A = &i->slots[t->lowrank[0]], *B = &i->slots[t->lowrank[1]];
    lowrank_term term = {.a = A->data,
                         .b = B->data,
                         .type = c->p->device->real,
                         .rank = A->shape[0],
                         .s = i->numbers[t->lowrank[2]],
                         .x = x == c->stage[n + 1] && x == c->stage[0] ? NULL : x};
    term.h = c->p->kept ? adapt_kept(i, t->lowrank[3], c->p)
                        : (void *)take(c, c->p->rows * term.rank * dtype_bytes(c->p->device->real));
    return term;
}

void adapt_linear(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const base_tensor *bias,
                  const void *x, const int32_t *onehot, void *y) {
    graft_error err = {0}; /* formulas were checked on shapes: nothing can fail here */
    kernels *k = p->device;
    if (p->observing == OBSERVE_X) adapt_observe(a, point, p, w, x, onehot, NULL);
    chain c = chain_make(a, point, p, x);
    run_inputs(&c, &err);
    const void *b = bias ? bias->vector : NULL;
    lowrank_term terms[ADAPT_AT_POINT];
    const int32_t fused = fusable(&c);
    for (int32_t n = 0; fused && n < c.count; n++)
        terms[n] = term_of(&c, n, linear_input(&c, n, dropout_of(&c, c.list[n])));
    if (onehot)
        k->weight_gather(k, &w->w, onehot, p->rows, y, p->activation, 1.0);
    else
        k->weight_forward(k, &w->w, b, c.stage[0], p->activation, y, p->activation, p->rows, 0, 1.0, terms,
                          fused ? c.count : 0);
    for (int32_t n = 0; !fused && n < c.count; n++) {
        if (c.list[n]->site.kind != GRAFT_LINEAR) continue;
        char *const mark = c.scratch;
        const call_tensors t = {.x = onehot ? NULL : linear_input(&c, n, dropout_of(&c, c.list[n])),
                                .onehot = onehot,
                                .y = y,
                                .bias = b,
                                .w = onehot ? NULL : &w->w};
        const adapt_pass call = pass_at(&c, c.scratch);
        adapt_call(a, c.list[n], HOOK_FORWARD, &call, &t, p->step, p->steps, NULL, &err);
        c.scratch = mark;
    }
}

/* Gradients of a trained base weight and bias: dW += dyᵀ·x, db += Σ dy. */
static void base_gradients(const adapt_pass *p, const base_tensor *w, const base_tensor *bias, const void *x,
                           const int32_t *onehot, const void *dy) {
    kernels *k = p->device;
    if (bias && bias->trained) k->column_sum(k, dy, p->activation, p->rows, bias->out, bias->grad);
    if (!w->trained) return;
    if (onehot) {
        k->scatter_rows(k, onehot, dy, p->activation, p->rows, w->in, 1.0, w->skip_row, w->grad);
        return;
    }
    const gemm_call g = {
        .batch = 1,
        .m = w->out,
        .n = w->in,
        .k = p->rows,
        .a = {.data = dy, .type = p->activation, .row = 1,     .col = w->out},
        .b = {.data = x,  .type = p->activation, .row = w->in, .col = 1     },
        .c = w->grad,
        .c_type = k->real,
        .c_row = w->in,
        .c_col = 1,
        .alpha = 1,
        .accumulate = 1
    };
    k->gemm(k, &g);
}

/* One LINEAR through its own backward; with dropout its part of dx is masked before it is added. */
static void linear_textbook(chain *c, int32_t n, const weight *w, const base_tensor *bias, const int32_t *onehot,
                            void *dy, void *dx, graft_error *err) {
    char *const mark = c->scratch;
    const double rate = dropout_of(c, c->list[n]);
    const void *x = onehot ? NULL : linear_input(c, n, rate);
    const int64_t bytes = c->p->rows * c->at->in * dtype_bytes(c->p->activation);
    char *own = NULL;
    if (rate > 0 && dx) {
        own = take(c, bytes);
        c->p->device->zero(c->p->device, own, bytes);
    }
    const call_tensors t = {.x = x,
                            .onehot = onehot,
                            .dy = dy,
                            .dx = own ? own : dx,
                            .bias = bias ? bias->vector : NULL,
                            .dbias = bias && bias->trained ? bias->grad : NULL,
                            .w = onehot ? NULL : w};
    const adapt_pass call = pass_at(c, c->scratch);
    adapt_call(c->a, c->list[n], HOOK_BACKWARD, &call, &t, c->p->step, c->p->steps, NULL, err);
    if (own) drop(c, c->list[n], rate, own, dx, 1);
    c->scratch = mark;
}

/* All low-rank terms in one call; a dropped x has its dH·A masked here. */
static void linear_fused(chain *c, const weight *w, const void *dy, void *dx, int32_t accumulate) {
    kernels *k = c->p->device;
    lowrank_term terms[ADAPT_AT_POINT];
    for (int32_t n = 0; n < c->count; n++) {
        const technique *t = &c->a->techniques[c->list[n]->spec];
        terms[n] = term_of(c, n, linear_input(c, n, dropout_of(c, c->list[n])));
        terms[n].da = c->list[n]->slots[t->lowrank[0]].grad;
        terms[n].db = c->list[n]->slots[t->lowrank[1]].grad;
        terms[n].dh = take(c, c->p->rows * terms[n].rank * dtype_bytes(k->real));
    }
    k->weight_input_grad(k, w, dy, c->p->activation, dx, c->p->activation, c->stage[0], c->p->activation, c->p->rows,
                         accumulate, 1.0, terms, c->count);
    for (int32_t n = 0; dx && n < c->count; n++) {
        if (!terms[n].x) continue;
        const int64_t bytes = c->p->rows * w->in * dtype_bytes(c->p->activation);
        char *own = take(c, bytes);
        const gemm_call g = {
            .batch = 1,
            .m = c->p->rows,
            .n = w->in,
            .k = terms[n].rank,
            .a = {.data = terms[n].dh, .type = k->real, .row = terms[n].rank, .col = 1},
            .b = {.data = terms[n].a,  .type = k->real, .row = w->in,         .col = 1},
            .c = own,
            .c_type = c->p->activation,
            .c_row = w->in,
            .c_col = 1,
            .alpha = 1
        };
        k->gemm(k, &g);
        const double rate = dropout_of(c, c->list[n]);
        if (rate > 0)
            drop(c, c->list[n], rate, own, dx, 1);
        else
            k->add(k, dx, own, c->p->activation, c->p->rows * w->in);
    }
}

void adapt_linear_backward(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const base_tensor *bias,
                           const void *x, const int32_t *onehot, void *dy, void *dx, int32_t accumulate) {
    graft_error err = {0};
    kernels *k = p->device;
    if (p->observing == OBSERVE_X_DY) adapt_observe(a, point, p, w, x, onehot, dy);
    chain c = chain_make(a, point, p, x);
    run_inputs(&c, &err);
    int32_t inputs = 0;
    for (int32_t n = 0; n < c.count; n++)
        inputs += c.list[n]->site.kind == GRAFT_INPUT;
    if (fusable(&c)) { /* no INPUT here: stage[0] is x */
        base_gradients(p, w, bias, x, onehot, dy);
        linear_fused(&c, &w->w, dy, dx, accumulate);
        return;
    }
    const int64_t bytes = p->rows * (c.at ? c.at->in : w->in) * dtype_bytes(p->activation);
    if (dx && !accumulate && !onehot) k->zero(k, dx, bytes);
    /* dx of stage n; without INPUTs every stage is the same x */
    void *d_stage[ADAPT_AT_POINT + 1];
    d_stage[c.count] = dx;
    for (int32_t n = c.count - 1; n >= 0; n--) {
        d_stage[n] = d_stage[n + 1];
        if (c.list[n]->site.kind == GRAFT_INPUT && !onehot) {
            d_stage[n] = take(&c, bytes);
            k->zero(k, d_stage[n], bytes);
        }
    }
    for (int32_t n = c.count - 1; n >= 0; n--)
        if (c.list[n]->site.kind == GRAFT_LINEAR) linear_textbook(&c, n, &w->w, bias, onehot, dy, d_stage[n + 1], &err);
    base_gradients(p, w, bias, c.stage[0], onehot, dy);
    if (d_stage[0] && !onehot)
        k->weight_input_grad(k, &w->w, dy, p->activation, d_stage[0], p->activation, NULL, p->activation, p->rows, 1,
                             1.0, NULL, 0);
    for (int32_t n = 0; inputs && n < c.count; n++) {
        if (c.list[n]->site.kind != GRAFT_INPUT) continue;
        const call_tensors t = {.x = c.stage[n + 1], .dy = d_stage[n], .dx = d_stage[n + 1]};
        const adapt_pass call = pass_at(&c, c.scratch);
        adapt_call(a, c.list[n], HOOK_BACKWARD, &call, &t, p->step, p->steps, NULL, &err);
    }
}

void adapt_branch(adapt *a, int32_t point, const adapt_pass *p, const void *x, void *y) {
    graft_error err = {0};
    if (p->observing == OBSERVE_X) adapt_observe(a, point, p, NULL, x, NULL, NULL);
    const chain c = chain_make(a, point, p, x);
    for (int32_t n = 0; n < c.count; n++) {
        const call_tensors t = {.x = x, .y = y};
        adapt_call(a, c.list[n], HOOK_FORWARD, p, &t, p->step, p->steps, NULL, &err);
    }
}

void adapt_branch_backward(adapt *a, int32_t point, const adapt_pass *p, const void *x, void *dy, void *dx) {
    graft_error err = {0};
    if (p->observing == OBSERVE_X_DY) adapt_observe(a, point, p, NULL, x, NULL, dy);
    const chain c = chain_make(a, point, p, x);
    for (int32_t n = c.count - 1; n >= 0; n--) {
        const call_tensors t = {.x = x, .dy = dy, .dx = dx};
        adapt_call(a, c.list[n], HOOK_BACKWARD, p, &t, p->step, p->steps, NULL, &err);
    }
}

/* An upper bound of what one point takes: temporaries of its widest call, and for every adapter a dropped x, its dx, the
 * written x of an INPUT and its gradient, and the low-rank H and dH. */
int64_t adapt_scratch(const adapt *a, int64_t rows, dtype activation, const kernels *device) {
    int64_t most = 0;
    for (int32_t p = 0; a && p < a->point_count; p++) {
        int64_t calls = 0, stages = 0;
        for (int32_t n = 0; a->at[p] && a->at[p][n]; n++) {
            const instance *i = a->at[p][n];
            const technique *t = &a->techniques[i->spec];
            const int64_t one = adapt_instance_scratch(a, i, rows, activation, device->real);
            calls = one > calls ? one : calls;
            if (i->site.kind & (GRAFT_LINEAR | GRAFT_INPUT) && !i->site.onehot)
                stages += 2 * round_up(rows * i->site.in * dtype_bytes(activation));
            if (t->lowrank[0] >= 0)
                stages += 2 * round_up(rows * i->slots[t->lowrank[0]].shape[0] * dtype_bytes(device->real));
        }
        most = calls + stages > most ? calls + stages : most;
    }
    return most;
}
