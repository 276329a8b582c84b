/* pack — operands of products in the order the inner loop reads them, and its sums where they belong.
 * A step is one k (F32) or two (BF16, woven as pairs); values change their type on the way: widened exactly, or rounded to
 * bf16 as f32_to_bf16 does. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/transpose.h"

/* LANES elements, of which n exist, as halves of bf16. */
INLINE halves bf16_part(const void *from, dtype type, int64_t i, int64_t n) {
    if (type != BF16) return round_bf16(n >= LANES ? load(from, type, i) : load_part(from, type, i, n));
    if (n >= LANES) return load_halves(place(from, type, i));
    halves h = {0};
    memcpy(&h, place(from, type, i), (size_t)n * 2);
    return h;
}

INLINE floats f32_part(const void *from, dtype type, int64_t i, int64_t n) {
    return n >= LANES ? load(from, type, i) : load_part(from, type, i, n);
}

/* One step of LANES columns that lie side by side, the first at element `at`. */
INLINE words step_across(dtype type, const void *from, dtype from_type, int64_t at, int64_t down, int64_t k,
                         int64_t n) {
    if (type == F32) return (words)f32_part(from, from_type, at, n);
    const halves second = k > 1 ? bf16_part(from, from_type, at + down, n) : (halves){0};
    return weave(bf16_part(from, from_type, at, n), second);
}

/* Columns lie side by side: along 1. */
INLINE void pack_across(uint32_t *panel, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                        int64_t n) {
    const int64_t width = (n + LANES - 1) / LANES * LANES, deep = type == BF16 ? 2 : 1;
    for (int64_t p = 0; p < k; p += deep, panel += width)
        for (int64_t j = 0; j < n; j += LANES) {
            const words v = step_across(type, from, from_type, p * down + j, down, k - p, n - j);
            memcpy(panel + j, &v, sizeof v);
        }
}

/* LANES steps of one column whose k lie side by side; `k` of them exist. */
INLINE words steps_down(dtype type, const void *from, dtype from_type, int64_t at, int64_t k) {
    if (type == F32) return (words)f32_part(from, from_type, at, k);
    uint16_t pairs[2 * LANES] = {0};
    if (from_type == BF16) {
        if (k < 2 * LANES)
            memcpy(pairs, place(from, BF16, at), (size_t)k * 2);
        else
            memcpy(pairs, place(from, BF16, at), sizeof pairs);
    } else {
        store_halves(pairs, bf16_part(from, from_type, at, k));
        if (k > LANES) store_halves(pairs + LANES, bf16_part(from, from_type, at + LANES, k - LANES));
    }
    words v;
    memcpy(&v, pairs, sizeof v);
    return v;
}

/* The k of a column lie side by side: down 1. Blocks of LANES columns and LANES steps are transposed. */
INLINE void pack_down(uint32_t *panel, dtype type, const void *from, dtype from_type, int64_t along, int64_t k,
                      int64_t n) {
    const int64_t width = (n + LANES - 1) / LANES * LANES, deep = type == BF16 ? 2 : 1, steps = (k + deep - 1) / deep;
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t s = 0; s < steps; s += LANES) {
            const int64_t left = k - s * deep, count = steps - s < LANES ? steps - s : LANES;
            words r[LANES];
            if (left >= LANES * deep && n - j >= LANES) {
                UNROLL for (int c = 0; c < LANES; c++) r[c] =
                    steps_down(type, from, from_type, (j + c) * along + s * deep, LANES * deep);
            } else
                for (int c = 0; c < LANES; c++)
                    r[c] = j + c < n ? steps_down(type, from, from_type, (j + c) * along + s * deep, left) : (words){0};
            transpose_words(r);
            for (int64_t i = 0; i < count; i++)
                memcpy(panel + (s + i) * width + j, &r[i], sizeof r[i]);
        }
}

static float element(const void *from, dtype type, int64_t i) {
    const uint16_t *halves_of = from;
    return type == F32 ? ((const float *)from)[i] : type == BF16 ? bf16_to_f32(halves_of[i]) : f16_to_f32(halves_of[i]);
}

/* Any strides, element by element. */
static void pack_scattered(void *panel, dtype type, const void *from, dtype from_type, int64_t down, int64_t along,
                           int64_t k, int64_t n) {
    const int64_t width = (n + LANES - 1) / LANES * LANES, deep = type == BF16 ? 2 : 1;
    memset(panel, 0, (size_t)((k + deep - 1) / deep * width) * 4);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) {
            const float v = element(from, from_type, p * down + j * along);
            if (type == F32)
                ((float *)panel)[p * width + j] = v;
            else
                ((uint16_t *)panel)[(p / 2 * width + j) * 2 + p % 2] = f32_to_bf16(v);
        }
}

INLINE void pack_typed(void *panel, dtype type, const void *from, dtype from_type, int64_t down, int64_t along,
                       int64_t k, int64_t n) {
    if (along == 1)
        pack_across(panel, type, from, from_type, down, k, n);
    else
        pack_down(panel, type, from, from_type, along, k, n);
}

void NAME(pack)(void *panel, dtype type, const void *from, dtype from_type, int64_t down, int64_t along, int64_t k,
                int64_t n) {
    if (along != 1 && down != 1)
        pack_scattered(panel, type, from, from_type, down, along, k, n);
    else if (type == F32 && from_type == F32)
        pack_typed(panel, F32, from, F32, down, along, k, n);
    else if (type == F32 && from_type == BF16)
        pack_typed(panel, F32, from, BF16, down, along, k, n);
    else if (type == F32)
        pack_typed(panel, F32, from, F16, down, along, k, n);
    else if (from_type == BF16)
        pack_typed(panel, BF16, from, BF16, down, along, k, n);
    else if (from_type == F32)
        pack_typed(panel, BF16, from, F32, down, along, k, n);
    else
        pack_typed(panel, BF16, from, F16, down, along, k, n);
}

/* Two strips of half a vector at a time. */
INLINE void strips_typed(uint32_t *strips, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                         int64_t rows) {
    enum { STRIP = LANES / 2 };
    const int64_t deep = type == BF16 ? 2 : 1, size = (k + deep - 1) / deep * STRIP;
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t p = 0; p < k; p += deep) {
            const words v = step_across(type, from, from_type, p * down + i, down, k - p, rows - i);
            uint32_t *const to = strips + i / STRIP * size + p / deep * STRIP;
            memcpy(to, &v, sizeof v / 2);
            if (rows - i > STRIP) memcpy(to + size, (const char *)&v + sizeof v / 2, sizeof v / 2);
        }
}

void NAME(pack_strips)(void *strips, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                       int64_t rows) {
    if (type == F32 && from_type == F32)
        strips_typed(strips, F32, from, F32, down, k, rows);
    else if (type == F32 && from_type == BF16)
        strips_typed(strips, F32, from, BF16, down, k, rows);
    else if (type == F32)
        strips_typed(strips, F32, from, F16, down, k, rows);
    else if (from_type == BF16)
        strips_typed(strips, BF16, from, BF16, down, k, rows);
    else if (from_type == F32)
        strips_typed(strips, BF16, from, F32, down, k, rows);
    else
        strips_typed(strips, BF16, from, F16, down, k, rows);
}

/* A row of sums, its target's elements side by side. */
INLINE void finish_row(const float *c, int64_t columns, const multiply_target *to, dtype type, int64_t at,
                       const float *bias) {
    const floats alpha = all(to->alpha);
    for (int64_t j = 0; j < columns; j += LANES) {
        const int64_t n = columns - j;
        floats v = alpha * load_floats(c + j);
        if (bias) v += f32_part(bias, F32, j, n);
        if (to->accumulate) v += f32_part(to->data, type, at + j, n);
        if (n >= LANES)
            store(to->data, type, at + j, v);
        else
            store_part(to->data, type, at + j, n, v);
    }
}

static void finish_element(const multiply_target *to, int64_t at, float v) {
    if (to->accumulate) v += element(to->data, to->type, at);
    if (to->type == F32)
        ((float *)to->data)[at] = v;
    else
        ((uint16_t *)to->data)[at] = to->type == BF16 ? f32_to_bf16(v) : f32_to_f16(v);
}

void NAME(finish)(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to, int64_t i,
                  int64_t j) {
    const float *bias = to->bias ? to->bias + j : NULL;
    for (int64_t r = 0; r < rows && to->col == 1; r++, c += c_row) {
        const int64_t at = (i + r) * to->row + j;
        if (to->type == BF16)
            finish_row(c, columns, to, BF16, at, bias);
        else if (to->type == F32)
            finish_row(c, columns, to, F32, at, bias);
        else
            finish_row(c, columns, to, F16, at, bias);
    }
    for (int64_t q = 0; q < columns && to->col != 1; q++)
        for (int64_t r = 0; r < rows; r++)
            finish_element(to, (i + r) * to->row + (j + q) * to->col,
                           to->alpha * c[r * c_row + q] + (bias ? bias[q] : 0));
}
