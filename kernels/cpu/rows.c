/* rows — picked, placed, scattered and dropped rows on the team. Equals kernels/ref/rows.h to the last bit. */
#include "kernels/cpu/split.h"
#include "kernels/dropout.h"
#include <string.h>

enum { COLUMNS = 64 /* of a part that scatters: all rows in order, so repeated ids add in order */ };

typedef struct {
    const int32_t *rows;
    const void *from;
    void *to;
    dtype type;
    int64_t count, width, skip;
    double number;
} rows_call;

static void pick_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)c, (void)part;
    const rows_call *a = call;
    for (int64_t i = first; i < first + count; i++)
        memcpy(split_at(a->to, a->type, i * a->width), split_at(a->from, a->type, a->rows[i] * a->width),
               (size_t)(a->width * dtype_bytes(a->type)));
}

void cpu_pick_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                   dtype type) {
    const rows_call a = {.rows = rows, .from = from, .to = to, .type = type, .width = width};
    split_run(k->state, width > 0 ? count : 0, split_rows(width), pick_run, &a);
}

static void place_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const rows_call *a = call;
    for (int64_t i = first; i < first + count; i++)
        c->f->add(split_at(a->to, a->type, a->rows[i] * a->width), split_at(a->from, a->type, i * a->width), a->type,
                  a->width);
}

void cpu_place_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                    dtype type) {
    cpu *const c = k->state;
    const rows_call a = {.rows = rows, .from = from, .to = to, .type = type, .width = width};
    if (split_fast(type))
        split_run(c, count, split_rows(width), place_run, &a);
    else
        c->ref->place_rows(c->ref, rows, count, width, from, to, type);
}

static void scatter_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const rows_call *a = call;
    for (int64_t i = 0; i < a->count; i++)
        if (a->rows[i] != a->skip)
            c->f->add_scaled((float *)a->to + a->rows[i] * a->width + first,
                             split_at(a->from, a->type, i * a->width + first), a->type, count, (float)a->number);
}

void cpu_scatter_rows(kernels *k, const int32_t *ids, const void *dy, dtype type, int64_t rows, int64_t width,
                      double scale, int64_t skip, void *table_grad) {
    cpu *const c = k->state;
    const rows_call a = {ids, dy, table_grad, type, rows, width, skip, scale};
    if (split_fast(type))
        split_run(c, width, COLUMNS, scatter_run, &a);
    else
        c->ref->scatter_rows(c->ref, ids, dy, type, rows, width, scale, skip, table_grad);
}

typedef struct {
    const void *x;
    void *y;
    dtype type;
    int64_t width;
    double p;
    uint64_t seed, stream;
    const int64_t *row_key;
    int32_t accumulate;
} dropout_call;

static void dropout_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const dropout_call *a = call;
    for (int64_t i = first; i < first + count; i++)
        c->f->dropout(split_at(a->x, a->type, i * a->width), split_at(a->y, a->type, i * a->width), a->type, a->width,
                      dropout_threshold(a->p), (float)(1 / (1 - a->p)), dropout_row(a->seed, a->stream, a->row_key[i]),
                      a->accumulate);
}

void cpu_dropout(kernels *k, const void *x, void *y, dtype type, int64_t rows, int64_t width, double p, uint64_t seed,
                 uint64_t stream, const int64_t *row_key, int32_t accumulate) {
    cpu *const c = k->state;
    const dropout_call a = {x, y, type, width, p, seed, stream, row_key, accumulate};
    if (split_fast(type))
        split_run(c, rows, split_rows(width), dropout_run, &a);
    else
        c->ref->dropout(c->ref, x, y, type, rows, width, p, seed, stream, row_key, accumulate);
}
