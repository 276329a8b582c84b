/* pack — operands of products in the order the inner loop reads them.
 * A step is one k (F32) or two (BF16, woven as pairs); values change their type on the way: widened exactly, or rounded to
 * bf16 as f32_to_bf16 does. Panels: columns j.. of PANEL (the last one: of as many whole vectors as it needs) lie behind each
 * other, each [step][its width]. */
#include "kernels/cpu/vector/step.h"
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/transpose.h"

enum { AHEAD = 8 /* steps whose rows are asked for before they are packed */ };

static int64_t whole_vectors(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* LANES steps of one column whose k lie side by side; `k` of them exist. */
INLINE words steps_down(dtype type, const void *from, dtype from_type, int64_t at, int64_t k) {
    if (type == F32) return (words)load_n(from, from_type, at, k);
    uint16_t pairs[2 * LANES] = {0};
    if (from_type == BF16)
        memcpy(pairs, place(from, BF16, at), k < 2 * LANES ? (size_t)k * 2 : sizeof pairs);
    else {
        store_halves(pairs, bf16_part(from, from_type, at, k));
        if (k > LANES) store_halves(pairs + LANES, bf16_part(from, from_type, at + LANES, k - LANES));
    }
    words v;
    memcpy(&v, pairs, sizeof v);
    return v;
}

/* Columns lie side by side: all panels step by step, as the rows lie in memory. */
INLINE void pack_across(uint32_t *panels, dtype type, int64_t steps, int64_t first, const void *from, dtype from_type,
                        int64_t down, int64_t k, int64_t n) {
    const int64_t deep = type == BF16 ? 2 : 1;
    for (int64_t p = 0; p < k; p += deep)
        for (int64_t j = 0; j < n; j += LANES) {
            const int64_t j0 = j / PANEL * PANEL, width = n - j0 < PANEL ? whole_vectors(n - j0) : PANEL;
            const words v = step_across(type, from, from_type, p * down + j, down, k - p, n - j);
            memcpy(panels + j0 * steps + (first + p / deep) * width + (j - j0), &v, sizeof v);
            for (int64_t d = 0; d < deep; d++) /* into the second cache: rows may all fall on one set of the first */
                __builtin_prefetch(place(from, from_type, (p + AHEAD * deep + d) * down + j), 0, 2);
        }
}

/* The k of a column lie side by side: blocks of LANES columns and LANES steps are transposed. */
INLINE void pack_down(uint32_t *panel, dtype type, int64_t first, const void *from, dtype from_type, int64_t along,
                      int64_t k, int64_t n) {
    const int64_t width = whole_vectors(n), deep = type == BF16 ? 2 : 1, steps = (k + deep - 1) / deep;
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t s = 0; s < steps; s += LANES) {
            const int64_t left = k - s * deep, count = steps - s < LANES ? steps - s : LANES;
            words r[LANES];
            if (left >= LANES * deep && n - j >= LANES) {
                UNROLL for (int c = 0; c < LANES; c++) {
                    const int64_t at = (j + c) * along + s * deep;
                    r[c] = steps_down(type, from, from_type, at, LANES * deep);
                    __builtin_prefetch(place(from, from_type, at + LANES * along)); /* the columns that come next */
                }
            } else
                for (int c = 0; c < LANES; c++)
                    r[c] = j + c < n ? steps_down(type, from, from_type, (j + c) * along + s * deep, left) : (words){0};
            transpose_words(r);
            for (int64_t i = 0; i < count; i++)
                memcpy(panel + (first + s + i) * width + j, &r[i], sizeof r[i]);
        }
}

/* Any strides, element by element. */
static void pack_scattered(uint32_t *panel, dtype type, int64_t first, const pack_source *from, int64_t k, int64_t n) {
    const int64_t width = whole_vectors(n), deep = type == BF16 ? 2 : 1;
    memset(panel + first * width, 0, (size_t)((k + deep - 1) / deep * width) * 4);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) {
            const void *at = place(from->data, from->type, p * from->down + j * from->along);
            float v;
            dtype_convert(&v, F32, at, from->type, 1);
            if (type == F32)
                ((float *)panel)[(first + p) * width + j] = v;
            else
                ((uint16_t *)panel)[((first + p / 2) * width + j) * 2 + p % 2] = f32_to_bf16(v);
        }
}

INLINE void pack_typed(uint32_t *panels, dtype type, int64_t steps, int64_t first, const pack_source *from,
                       dtype from_type, int64_t k, int64_t n) {
    if (from->along == 1)
        pack_across(panels, type, steps, first, from->data, from_type, from->down, k, n);
    else
        for (int64_t j = 0; j < n; j += PANEL)
            pack_down(panels + j * steps, type, first, place(from->data, from_type, j * from->along), from_type,
                      from->along, k, n - j < PANEL ? n - j : PANEL);
}

void NAME(pack)(void *panels, dtype type, int64_t steps, int64_t first, const pack_source *from, int64_t k, int64_t n) {
    const dtype from_type = from->type;
    if (from->along != 1 && from->down != 1)
        for (int64_t j = 0; j < n; j += PANEL) {
            const pack_source here = {place(from->data, from_type, j * from->along), from_type, from->down,
                                      from->along};
            pack_scattered((uint32_t *)panels + j * steps, type, first, &here, k, n - j < PANEL ? n - j : PANEL);
        }
    else if (type == F32 && from_type == F32)
        pack_typed(panels, F32, steps, first, from, F32, k, n);
    else if (type == F32 && from_type == BF16)
        pack_typed(panels, F32, steps, first, from, BF16, k, n);
    else if (type == F32)
        pack_typed(panels, F32, steps, first, from, F16, k, n);
    else if (from_type == BF16)
        pack_typed(panels, BF16, steps, first, from, BF16, k, n);
    else if (from_type == F32)
        pack_typed(panels, BF16, steps, first, from, F32, k, n);
    else
        pack_typed(panels, BF16, steps, first, from, F16, k, n);
}
