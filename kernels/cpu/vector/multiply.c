/* multiply — the inner loop of every product: a strip of rows times a packed panel, sums in registers.
 * 8 x 48 (AVX-512) or 4 x 24 (AVX2): 24 or 12 sums, 3 vectors of B and one broadcast element of A.
 * Equals gemm_dense of kernels/ref/gemm.h with sums in f32: |error| <= k·2^-24·Σ|a·b|. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector.h"

enum { STRIP = LANES / 2, COLUMNS = PANEL / LANES /* vectors */ };

#if defined(__AVX512BF16__)
INLINE floats dot_pairs(floats sum, const uint16_t *a, floats b) {
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)b);
}

INLINE void run_bf16(const multiply_run *r, const int rows, const int columns, floats sum[STRIP][COLUMNS]) {
    const uint16_t *a = r->a;
    const char *b = r->b;
    for (int64_t p = 0; p < r->steps; p++, a += r->next, b += columns * sizeof(floats)) {
        floats v[COLUMNS];
        UNROLL for (int j = 0; j < columns; j++) v[j] = load_floats(b + j * sizeof(floats));
        __builtin_prefetch(b + 1536);
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < columns; j++) sum[i][j] = dot_pairs(sum[i][j], a + i * r->row, v[j]);
        }
    }
}
#endif

/* b_type: of B's vectors, b_row elements from step to step. */
INLINE void run_f32(const multiply_run *r, const dtype b_type, const int64_t b_row, const int rows, const int columns,
                    floats sum[STRIP][COLUMNS]) {
    const float *a = r->a;
    for (int64_t p = 0; p < r->steps; p++, a += r->next) {
        floats v[COLUMNS];
        UNROLL for (int j = 0; j < columns; j++) v[j] = load(r->b, b_type, p * b_row + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const floats x = all(a[i * r->row]);
            UNROLL for (int j = 0; j < columns; j++) sum[i][j] = fused(x, v[j], sum[i][j]);
        }
    }
}

INLINE void add_run(const multiply_run *r, const int rows, const int columns, floats sum[STRIP][COLUMNS]) {
#if defined(__AVX512BF16__)
    if (r->type == BF16) {
        run_bf16(r, rows, columns, sum);
        return;
    }
#endif
    if (!r->b_row)
        run_f32(r, F32, columns * LANES, rows, columns, sum);
    else if (r->b_type == F32)
        run_f32(r, F32, r->b_row, rows, columns, sum);
    else
        run_f32(r, BF16, r->b_row, rows, columns, sum);
}

INLINE void multiply(const multiply_run *runs, int count, const int rows, const int columns, float *c, int64_t c_row,
                     int add) {
    floats sum[STRIP][COLUMNS];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < columns; j++) sum[i][j] = add ? load_floats(c + i * c_row + j * LANES) : (floats){0};
    }
    for (int r = 0; r < count; r++)
        add_run(&runs[r], rows, columns, sum);
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < columns; j++) store_floats(c + i * c_row + j * LANES, sum[i][j]);
    }
}

#define SIZE(rows, columns)                                                                                            \
    static void multiply_##rows##_##columns(const multiply_run *runs, int count, float *c, int64_t c_row, int add) {   \
        multiply(runs, count, rows, columns, c, c_row, add);                                                           \
    }
#define SIZES(rows) SIZE(rows, 1) SIZE(rows, 2) SIZE(rows, 3)
#define ENTRY(rows)                                                                                                    \
    { multiply_##rows##_1, multiply_##rows##_2, multiply_##rows##_3 }

SIZES(1)
SIZES(2)
SIZES(3)
SIZES(4)
#if defined(__AVX512F__)
SIZES(5)
SIZES(6)
SIZES(7)
SIZES(8)
#endif

typedef void multiply_size(const multiply_run *runs, int count, float *c, int64_t c_row, int add);
static multiply_size *const sizes[STRIP][COLUMNS] = {
    ENTRY(1), ENTRY(2), ENTRY(3), ENTRY(4),
#if defined(__AVX512F__)
    ENTRY(5), ENTRY(6), ENTRY(7), ENTRY(8),
#endif
};

void NAME(multiply)(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                    int add) {
    sizes[rows - 1][(columns - 1) / LANES](runs, count, c, c_row, add);
}
