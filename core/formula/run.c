/* run — the steps of a program as calls of a device's kernels: addresses, numbers and rows of one call filled in. */
#include "formula/parts.h"
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct {
    const formula *f;
    const formula_run_call *c;
    const program_statement *s;
    char *temp[FORMULA_TEMPS];
    char nothing;    /* where temporaries lie that have no bytes */
    int32_t stopped; /* 1: a number in brackets is no index      */
} running;

static int64_t value(const running *r, extent e) {
    return extent_value(e, r->c->rows);
}

/* "WHERE: message", the statement, and a caret under `at` unless it is negative; the run ends. */
static void stop(running *r, int32_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void stop(running *r, int32_t at, const char *format, ...) {
    char message[240];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fail(r->c->err, GRAFT_FAILED, "%s%s%s\n  %s%s%*s%s", r->f->where, *r->f->where ? ": " : "", message, r->s->text,
         at < 0 ? "" : "\n  ", at < 0 ? 0 : (int)at, "", at < 0 ? "" : "^");
    r->stopped = 1;
}

/* ---- operands ---- */

static dtype type_of(const running *r, const place *p) {
    if (p->tensor < 0) return r->c->device->real;
    const tensor_info *const t = &r->f->tensors[p->tensor];
    if (t->activation) return r->c->activation;
    return t->type == F32 ? r->c->device->real : t->type;
}

static void *data_of(const running *r, const place *p) {
    return p->tensor < 0 ? r->temp[~p->tensor] : r->c->bindings[p->tensor].data;
}

/* Elements in front of what the fixed indices pick. */
static int64_t offset_of(running *r, const place *p) {
    int64_t offset = 0;
    for (int32_t i = 0; i < p->picks && !r->stopped; i++) {
        const pick *const at = &p->pick[i];
        const double index = number_value(r->f, at->number, r->c->numbers);
        const int64_t size = value(r, at->size);
        if (index >= 0 && index < (double)size && index == floor(index))
            offset += (int64_t)index * value(r, at->stride);
        else if (size > 0)
            stop(r, at->at, "%g in brackets is no index of a dimension of %lld", index, (long long)size);
        else
            r->stopped = 1; /* without rows there is nothing to pick, and nothing to say */
    }
    return offset;
}

static void *address(running *r, const place *p) {
    const int64_t offset = offset_of(r, p);
    return (char *)data_of(r, p) + offset * dtype_bytes(type_of(r, p));
}

static map_operand map_operand_of(running *r, const map_step *m, int32_t o) {
    const map_place *const p = &m->operand[o];
    map_operand operand = {.data = data_of(r, &p->at), .type = type_of(r, &p->at), .offset = offset_of(r, &p->at)};
    if (p->at.tensor >= 0) {
        operand.scale = r->c->bindings[p->at.tensor].scale;
        operand.store = r->f->tensors[p->at.tensor].store;
    }
    for (int32_t i = 0; i < m->program.indices; i++)
        operand.stride[i] = value(r, p->stride[i]);
    operand.gather = value(r, p->gather);
    operand.gather_extent = value(r, p->gather_extent);
    return operand;
}

static matrix matrix_of(running *r, const matrix_place *p) {
    return (matrix){.data = address(r, &p->at),
                    .type = type_of(r, &p->at),
                    .row = value(r, p->row),
                    .col = value(r, p->col),
                    .batch = value(r, p->batch)};
}

/* ---- steps ---- */

/* Draws of the twister come one after the other: a far one would take for ever. */
static void check_twister(running *r, double seed, double first) {
    if (seed >= 0 && seed <= UINT32_MAX && seed == floor(seed) && first >= 0 && first <= 0x1p28 &&
        first == floor(first))
        return;
    stop(r, -1, "mt19937(%g, %g): the seed is a whole number below 2^32, the first draw one up to 2^28", seed, first);
}

static void run_map(running *r, const map_step *m) {
    double numbers[FORMULA_NUMBERS];
    map_call call = {.numbers = numbers, .seed = r->c->seed, .stream = r->c->stream + r->s->salt};
    for (int32_t i = 0; i < m->program.numbers; i++)
        numbers[i] = number_value(r->f, m->number[i], r->c->numbers);
    if (m->twister >= 0) check_twister(r, numbers[m->twister], numbers[m->twister + 1]);
    for (int32_t i = 0; i < m->program.indices; i++)
        call.extent[i] = value(r, m->size[i]);
    for (int32_t o = 0; o < m->program.operands; o++)
        call.operand[o] = map_operand_of(r, m, o);
    if (!r->stopped) r->c->device->map(r->c->device, &m->program, &call);
}

static void run_gemm(running *r, const step *st) {
    const gemm_step *const g = &st->gemm;
    gemm_call call = {.batch = value(r, g->batch),
                      .m = value(r, g->m),
                      .n = value(r, g->n),
                      .k = value(r, g->k),
                      .b = matrix_of(r, &g->b),
                      .c = address(r, &g->c.at),
                      .c_type = type_of(r, &g->c.at),
                      .c_row = value(r, g->c.row),
                      .c_col = value(r, g->c.col),
                      .c_batch = value(r, g->c.batch),
                      .alpha = number_value(r->f, st->alpha, r->c->numbers),
                      .accumulate = st->accumulate};
    if (g->onehot) {
        call.a.onehot = r->c->bindings[g->a.at.tensor].onehot;
        call.onehot_transposed = g->transposed;
    } else {
        call.a = matrix_of(r, &g->a);
    }
    if (!r->stopped) r->c->device->gemm(r->c->device, &call);
}

static void run_weight(running *r, const step *st) {
    const weight_step *const s = &st->weight;
    kernels *const device = r->c->device;
    const weight *const w = r->c->bindings[s->w].w;
    void *const y = address(r, &s->y);
    if (st->kind == STEP_WEIGHT_SQNORM) {
        device->weight_row_sqnorm(device, w, y);
        return;
    }
    const void *const x = address(r, &s->x);
    const double alpha = number_value(r->f, st->alpha, r->c->numbers);
    const dtype x_type = type_of(r, &s->x), y_type = type_of(r, &s->y);
    if (r->stopped) return;
    if (st->kind == STEP_WEIGHT_FORWARD)
        device->weight_forward(device, w, NULL, x, x_type, y, y_type, value(r, s->rows), st->accumulate, alpha, NULL,
                               0);
    else
        device->weight_input_grad(device, w, x, x_type, y, y_type, NULL, x_type, value(r, s->rows), st->accumulate,
                                  alpha, NULL, 0);
}

/* ---- statements ---- */

static uint64_t absent_tensors(const formula *f, const formula_binding *bindings) {
    uint64_t absent = 0;
    for (int32_t i = 0; i < f->tensor_count; i++) {
        const formula_kind kind = f->tensors[i].kind;
        const int there = kind == FORMULA_WEIGHT   ? bindings[i].w != NULL
                          : kind == FORMULA_ONEHOT ? bindings[i].onehot != NULL
                                                   : bindings[i].data != NULL;
        absent |= (uint64_t)!there << i;
    }
    return absent;
}

static void place_temps(running *r) {
    const dtype real = r->c->device->real;
    char *at = r->c->scratch ? r->c->scratch : &r->nothing;
    assert(dtype_bytes(real) <= r->f->temp_bytes);
    for (int32_t t = 0; t < r->s->temps; t++) {
        r->temp[t] = at;
        at += (value(r, r->s->temp[t]) * r->f->temp_bytes + 63) & ~(int64_t)63;
    }
}

/* `X[=i,n] = X[=j,n] ...` is defined where i and j differ. */
static void check_distinct(running *r) {
    const int32_t *const d = r->s->distinct;
    if (d[0] < 0) return;
    const double written = number_value(r->f, d[0], r->c->numbers), read = number_value(r->f, d[1], r->c->numbers);
    if (written == read) stop(r, -1, "the statement reads index %g, which it writes", read);
}

static void run_step(running *r, const step *st) {
    switch (st->kind) {
    case STEP_MAP:
        run_map(r, &st->map);
        break;
    case STEP_GEMM:
        run_gemm(r, st);
        break;
    case STEP_WEIGHT_FORWARD:
    case STEP_WEIGHT_GRAD:
    case STEP_WEIGHT_SQNORM:
        run_weight(r, st);
        break;
    }
}

int formula_run(const formula *f, const formula_run_call *c) {
    graft_error local = {0};
    formula_run_call call = *c;
    if (!call.err) call.err = &local;
    const uint64_t absent = absent_tensors(f, c->bindings);
    for (const program_statement *s = f->statements; s && !call.err->code; s = s->next) {
        running r = {.f = f, .c = &call, .s = s};
        if (s->uses & absent) continue;
        check_distinct(&r);
        place_temps(&r);
        for (const step *st = s->steps; st && !r.stopped; st = st->next)
            run_step(&r, st);
    }
    return call.err->code;
}
