/* elements — types, sums and factors of whole tensors, copies. Equals kernels/ref/rows.h and memory.h: element work to the last
 * bit (softcap 4 ulp), sums in double. */
#include "kernels/cpu/split.h"
#include <string.h>

enum { COLUMNS = 64 /* of a part that sums down columns */ };

typedef struct {
    void *y;
    const void *x;
    dtype type, from;
    int64_t width;
    double number;
} elements;

static void add_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const elements *e = call;
    c->f->add(split_at(e->y, e->type, first), split_at(e->x, e->type, first), e->type, count);
}

void cpu_add(kernels *k, void *y, const void *x, dtype type, int64_t n) {
    cpu *const c = k->state;
    if (split_fast(type))
        split_run(c, n, SPLIT_ELEMENTS, add_run, &(elements){.y = y, .x = x, .type = type});
    else
        c->ref->add(c->ref, y, x, type, n);
}

static void scale_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const elements *e = call;
    c->f->scale(split_at(e->y, e->type, first), e->type, count, (float)e->number);
}

void cpu_scale(kernels *k, void *x, dtype type, int64_t n, double factor) {
    cpu *const c = k->state;
    if (split_fast(type))
        split_run(c, n, SPLIT_ELEMENTS, scale_run, &(elements){.y = x, .type = type, .number = factor});
    else
        c->ref->scale(c->ref, x, type, n, factor);
}

static void softcap_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const elements *e = call;
    c->f->softcap(split_at(e->y, e->type, first), e->type, count, (float)e->number);
}

void cpu_softcap(kernels *k, void *logits, dtype type, int64_t n, double cap) {
    cpu *const c = k->state;
    if (split_fast(type) && cap > 0)
        split_run(c, n, SPLIT_ELEMENTS, softcap_run, &(elements){.y = logits, .type = type, .number = cap});
    else
        c->ref->softcap(c->ref, logits, type, n, cap);
}

static void convert_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const elements *e = call;
    c->f->convert(split_at(e->y, e->type, first), e->type, split_at(e->x, e->from, first), e->from, count, 1);
}

void cpu_convert(kernels *k, void *dev, dtype type, const void *from, dtype from_type, int64_t n) {
    cpu *const c = k->state;
    const int known = (split_fast(type) || type == F16) && (split_fast(from_type) || from_type == F16);
    if (known && (dev != from || dtype_bytes(type) == dtype_bytes(from_type)))
        split_run(c, n, SPLIT_ELEMENTS, convert_run, &(elements){.y = dev, .x = from, .type = type, .from = from_type});
    else
        c->ref->convert(c->ref, dev, type, from, from_type, n);
}

static void zero_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)c, (void)part;
    memset((char *)((const elements *)call)->y + first, 0, (size_t)count);
}

void cpu_zero(kernels *k, void *dev, int64_t bytes) {
    cpu *const c = k->state;
    split_run(c, bytes, 16 * SPLIT_ELEMENTS, zero_run, &(elements){.y = dev});
}

static void copy_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)c, (void)part;
    const elements *e = call;
    memcpy((char *)e->y + first, (const char *)e->x + first, (size_t)count);
}

void cpu_copy(kernels *k, void *dev, const void *from, int64_t bytes) {
    cpu *const c = k->state;
    const uintptr_t a = (uintptr_t)dev, b = (uintptr_t)from, n = bytes > 0 ? (uintptr_t)bytes : 0;
    if (a + n <= b || b + n <= a)
        split_run(c, bytes, 16 * SPLIT_ELEMENTS, copy_run, &(elements){.y = dev, .x = from});
    else
        c->ref->copy(c->ref, dev, from, bytes);
}

/* ---- sums ---- */

static void sqnorm_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    const elements *e = call;
    ((double *)e->y)[part] = c->f->sqnorm(split_at(e->x, e->type, first), e->type, count);
}

double cpu_sqnorm(kernels *k, const void *x, dtype type, int64_t n) {
    cpu *const c = k->state;
    if (!split_fast(type) && type != F16) return c->ref->sqnorm(c->ref, x, type, n);
    double *const sums = cpu_shared(c, (split_parts(n, SPLIT_ELEMENTS) + 1) * (int64_t)sizeof(double)), sum = 0;
    split_run(c, n, SPLIT_ELEMENTS, sqnorm_run, &(elements){.y = sums, .x = x, .type = type});
    for (int64_t i = 0; i < split_parts(n, SPLIT_ELEMENTS); i++)
        sum += sums[i];
    return sum;
}

typedef struct {
    const void *x;
    dtype type;
    int64_t rows, width;
    float *sums;
} column_call;

static void column_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const column_call *a = call;
    c->f->column_sum(a->x, a->type, a->rows, a->width, first, count, a->sums);
}

void cpu_column_sum(kernels *k, const void *x, dtype type, int64_t rows, int64_t width, void *sums) {
    cpu *const c = k->state;
    if (split_fast(type))
        split_run(c, width, COLUMNS, column_run, &(column_call){x, type, rows, width, sums});
    else
        c->ref->column_sum(c->ref, x, type, rows, width, sums);
}
