/* finish — sums of a product become its target: alpha·c + bias, added to what is there or not, rounded once. Rows of the target
 * side by side are written as they come; a turned target (its columns side by side) in transposed blocks. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/transpose.h"

/* n elements of the target from `at` on, which lie side by side. */
INLINE void finish_run(floats c, int64_t n, const multiply_target *to, dtype type, int64_t at, floats bias) {
    floats v = all(to->alpha) * c + bias;
    if (to->accumulate) v += load_n(to->data, type, at, n);
    store_n(to->data, type, at, n, v);
}

INLINE floats bias_run(const multiply_target *to, int64_t at, int64_t n) {
    return to->bias ? load_n(to->bias, F32, at, n) : (floats){0};
}

INLINE void finish_rows(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to,
                        dtype type, int64_t i, int64_t j) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < columns; q += LANES) {
            const floats bias = to->bias && to->bias_down ? all(to->bias[i + r]) : bias_run(to, j + q, columns - q);
            finish_run(load_floats(c + r * c_row + q), columns - q, to, type, (i + r) * to->row + j + q, bias);
        }
}

/* Blocks of LANES x LANES; bias runs down the rows, as they lie side by side. */
INLINE void finish_turned(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to,
                          dtype type, int64_t i, int64_t j) {
    for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t q = 0; q < columns; q += LANES) {
            const int64_t left = rows - r, width = columns - q < LANES ? columns - q : LANES;
            words block[LANES];
            for (int k = 0; k < LANES; k++)
                block[k] = k < left ? (words)load_floats(c + (r + k) * c_row + q) : (words){0};
            transpose_words(block);
            const floats down = to->bias_down ? bias_run(to, i + r, left) : (floats){0};
            for (int64_t k = 0; k < width; k++) {
                const floats bias = to->bias && !to->bias_down ? all(to->bias[j + q + k]) : down;
                finish_run((floats)block[k], left, to, type, i + r + (j + q + k) * to->col, bias);
            }
        }
}

static void finish_scattered(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to,
                             int64_t i, int64_t j) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < columns; q++) {
            const float bias = to->bias ? to->bias[to->bias_down ? i + r : j + q] : 0;
            const multiply_target one = {place_out(to->data, to->type, (i + r) * to->row + (j + q) * to->col),
                                         to->type,
                                         1,
                                         1,
                                         to->alpha,
                                         NULL,
                                         to->accumulate,
                                         0};
            finish_run(all(c[r * c_row + q]), 1, &one, to->type, 0, all(bias));
        }
}

INLINE void finish_typed(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to,
                         dtype type, int64_t i, int64_t j) {
    if (to->col == 1)
        finish_rows(c, c_row, rows, columns, to, type, i, j);
    else
        finish_turned(c, c_row, rows, columns, to, type, i, j);
}

void NAME(finish)(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to, int64_t i,
                  int64_t j) {
    if (to->col != 1 && to->row != 1)
        finish_scattered(c, c_row, rows, columns, to, i, j);
    else if (to->type == BF16)
        finish_typed(c, c_row, rows, columns, to, BF16, i, j);
    else if (to->type == F32)
        finish_typed(c, c_row, rows, columns, to, F32, i, j);
    else
        finish_typed(c, c_row, rows, columns, to, F16, i, j);
}
