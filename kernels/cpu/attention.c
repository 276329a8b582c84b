/* attention — see attention.h. */
#include "kernels/cpu/attention.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

enum {
    QUERY_ROWS = 256, /* of a part: query rows times heads of their group ...                              */
    KEY_ROWS = 128,   /* keys of a part of the backward pass; half of it where that makes too few parts      */
    PARTS_GOOD = 16,
    TILE_BYTES = 384, /* of a feature in a tile: 192 keys of bf16, 96 of f32                                 */
    STEP_BYTES = 4,
};

static void add_blocks(attention_block **list, int64_t *count, const attention_span *span, int64_t rows, int64_t size) {
    const int64_t more = (rows + size - 1) / size;
    *list = mem_grow(*list, (size_t)(*count + more), sizeof **list);
    for (int64_t i = 0; i < rows; i += size)
        (*list)[(*count)++] = (attention_block){span, i, attention_least(size, rows - i)};
}

attention attention_open(cpu *c, const attention_call *a, int64_t scratch_bytes_of(const attention *t)) {
    const multiply_functions *f = &c->f->multiply;
    attention t = {.c = c, .a = a, .f = f, .group = a->heads / a->kv_heads};
    t.step = a->type == BF16 && f->bf16 ? BF16 : F32;
    t.deep = t.step == BF16 ? attention_round(a->head_dim, 2) : a->head_dim;
    t.wide = attention_round(a->head_dim, f->lanes);
    t.tile = TILE_BYTES / dtype_bytes(t.step) / f->panel * f->panel;
    t.query_rows = QUERY_ROWS / t.group / f->strip * f->strip;
    if (t.query_rows > QUERY_ROWS / 2) t.query_rows = QUERY_ROWS / 2;
    if (t.query_rows < f->strip) t.query_rows = f->strip;
    int64_t keys = a->virtual_rows;
    for (int64_t s = 0; s < a->span_count; s++)
        keys += a->spans[s].k_count;
    t.key_rows = keys * a->kv_heads >= PARTS_GOOD * KEY_ROWS ? KEY_ROWS : KEY_ROWS / 2;
    for (int64_t s = 0; s < a->span_count; s++)
        add_blocks(&t.queries, &t.query_blocks, &a->spans[s], a->spans[s].q_count, t.query_rows);
    add_blocks(&t.keys, &t.key_blocks, NULL, a->virtual_rows, t.key_rows);
    for (int64_t s = 0; s < a->span_count; s++)
        add_blocks(&t.keys, &t.key_blocks, &a->spans[s], a->spans[s].k_count, t.key_rows);
    cpu_reserve_scratch(c, scratch_bytes_of(&t));
    return t;
}

void attention_close(attention *t) {
    free(t->queries);
    free(t->keys);
}

static int by_first_row(const void *a, const void *b) {
    const int64_t x = ((const attention_span *)a)->q0, y = ((const attention_span *)b)->q0;
    return (x > y) - (x < y);
}

void attention_clear_outside(const attention *t, void *x, int64_t stride, float *lse) {
    const attention_call *a = t->a;
    attention_span *spans = mem_new((size_t)a->span_count + 1, sizeof *spans);
    if (a->span_count > 0) memcpy(spans, a->spans, (size_t)a->span_count * sizeof *spans);
    spans[a->span_count].q0 = a->rows;
    qsort(spans, (size_t)a->span_count, sizeof *spans, by_first_row);
    int64_t i = 0;
    for (int64_t s = 0; s <= a->span_count; s++) {
        for (; i < spans[s].q0; i++) {
            memset((char *)x + i * stride * dtype_bytes(a->type), 0,
                   (size_t)(a->heads * a->head_dim * dtype_bytes(a->type)));
            if (lse) memset(lse + i * a->heads, 0, (size_t)a->heads * sizeof *lse);
        }
        if (spans[s].q0 + spans[s].q_count > i) i = spans[s].q0 + spans[s].q_count;
    }
    free(spans);
}

/* How many of n ascending positions are below `limit`. */
static int32_t below(const int32_t *positions, int64_t n, int64_t limit) {
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (positions[middle] < limit)
            low = middle + 1;
        else
            high = middle;
    }
    return (int32_t)low;
}

void attention_keys_of(const attention *t, const attention_span *s, int64_t i, int32_t *from, int32_t *to) {
    const attention_call *a = t->a;
    const int64_t q = a->q_pos[i],
                  oldest = a->window > 0 ? q - a->window + 1 : INT64_MIN; /* positions seen: oldest..q */
    if (s) {
        *from = a->window > 0 ? below(a->k_pos + s->k0, s->k_count, oldest) : 0;
        *to = below(a->k_pos + s->k0, s->k_count, q + 1);
    } else {
        *from = (int32_t)attention_least(oldest > 0 ? oldest : 0, a->virtual_rows);
        *to = (int32_t)a->virtual_rows;
    }
}

void attention_rows_of(const attention *t, const attention_span *s, int virtual_key, int64_t j, int32_t *from,
                       int32_t *to) {
    const attention_call *a = t->a;
    const int64_t k = virtual_key ? j : a->k_pos[s->k0 + j];
    *from = virtual_key ? 0 : below(a->q_pos + s->q0, s->q_count, k);
    *to = a->window > 0 ? below(a->q_pos + s->q0, s->q_count, k + a->window) : (int32_t)s->q_count;
}

const void *attention_at(const attention *t, const void *x, int64_t stride, int64_t i, int64_t h) {
    return (const char *)x + (i * stride + h * t->a->head_dim) * dtype_bytes(t->a->type);
}

const void *attention_key(const attention *t, const attention_span *s, int values, int64_t j, int64_t h,
                          int64_t *stride) {
    const attention_call *a = t->a;
    if (!s) {
        *stride = a->kv_heads * a->head_dim;
        return attention_at(t, values ? a->virtual_v : a->virtual_k, *stride, j, h);
    }
    *stride = values ? a->v_stride : a->k_stride;
    return attention_at(t, values ? a->v : a->k, *stride, s->k0 + j, h);
}

void attention_copy(const attention *t, const void *from, int64_t stride, int64_t count, void *to) {
    const int64_t from_bytes = dtype_bytes(t->a->type), bytes = attention_bytes(t), row = t->a->head_dim * bytes;
    for (int64_t i = 0; i < count; i++) {
        char *const at = (char *)to + i * t->deep * bytes;
        t->c->f->convert(at, t->step, (const char *)from + i * stride * from_bytes, t->a->type, t->a->head_dim, 1);
        memset(at + row, 0, (size_t)(t->deep * bytes - row));
    }
}

static int64_t steps_of(const attention *t, int64_t k) {
    return t->step == BF16 ? (k + 1) / 2 : k;
}

/* Panels of n columns over k, element (p, j) at p·down + j·along. */
static void pack(const attention *t, const void *x, int64_t down, int64_t along, int64_t k, int64_t n, char *panels) {
    const pack_source from = {x, t->a->type, down, along};
    t->f->pack(panels, t->step, steps_of(t, k), 0, &from, k, n);
}

void attention_pack_rows(const attention *t, const void *x, int64_t stride, int64_t n, char *panels) {
    pack(t, x, 1, stride, t->a->head_dim, n, panels);
}

void attention_pack_features(const attention *t, const void *x, int64_t stride, int64_t n, char *panels) {
    pack(t, x, stride, 1, n, t->a->head_dim, panels);
}

int64_t attention_panels_bytes(const attention *t) {
    const int64_t of_rows = t->tile * steps_of(t, t->deep), of_features = steps_of(t, t->tile) * t->wide;
    return STEP_BYTES * (of_rows > of_features ? of_rows : of_features);
}

int64_t attention_scores(const attention *t, const void *a, int64_t rows, const char *panels, int64_t n_packed,
                         int64_t first, int64_t n, float *c) {
    const int64_t steps = steps_of(t, t->a->head_dim), panel = t->f->panel;
    const int64_t width = attention_least(n_packed - first, attention_round(n, panel)),
                  row = attention_round(width, t->f->lanes);
    multiply_run run = {.a = a, .row = t->deep, .next = t->step == BF16 ? 2 : 1, .steps = steps, .type = t->step};
    for (int64_t j = 0; j < width; j += panel) {
        run.b = panels + (first + j) * steps * STEP_BYTES;
        t->f->multiply(&run, 1, rows, attention_least(panel, width - j), c + j, row, 0);
    }
    return row;
}

void attention_add(const attention *t, const void *a, int64_t a_row, int64_t rows, const char *panels, int64_t n_packed,
                   int64_t first, int64_t n, float *c) {
    const int64_t steps = steps_of(t, n_packed), panel = t->f->panel;
    multiply_run run = {
        .a = a, .row = a_row, .next = t->step == BF16 ? 2 : 1, .steps = steps_of(t, n), .type = t->step};
    for (int64_t j = 0; j < t->a->head_dim; j += panel) {
        const int64_t width = attention_least(panel, t->wide - j);
        run.b = panels + (j * steps + steps_of(t, first) * width) * STEP_BYTES;
        t->f->multiply(&run, 1, rows, attention_least(panel, t->a->head_dim - j), c + j, t->wide, 1);
    }
}

int64_t attention_seen(const attention *t, const int32_t *all_from, const int32_t *all_to, int64_t rows, int64_t origin,
                       int64_t n, int32_t from[], int32_t to[], int64_t *first) {
    int64_t begin = n, end = 0;
    for (int64_t s = 0; s < rows; s++) {
        from[s] = all_from[s] > origin ? (int32_t)(all_from[s] - origin) : 0;
        to[s] = all_to[s] < origin + n ? (int32_t)(all_to[s] - origin) : (int32_t)n;
        if (from[s] >= to[s]) continue;
        begin = attention_least(begin, from[s]);
        end = to[s] > end ? to[s] : end;
    }
    *first = begin / t->f->panel * t->f->panel;
    for (int64_t s = 0; s < rows; s++)
        from[s] -= (int32_t)*first, to[s] -= (int32_t)*first;
    return begin < end ? end - *first : 0;
}
