/* elements — the simplest work: types, sums, factors. Equals kernels/ref/rows.h and base/dtype.c; only sqnorm adds in another
 * order (its sums are doubles, a relative error of n·2^-53). */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"

INLINE void convert(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale) {
    for (int64_t i = 0; i < n; i += LANES) {
        const floats v = load_n(from, from_type, i, n - i) * all(scale);
        const halves h = round_bf16(v); /* a conversion keeps subnormals */
        if (type == BF16)
            memcpy((uint16_t *)to + i, &h, (size_t)(n - i >= LANES ? LANES : n - i) * 2);
        else
            store_n(to, type, i, n - i, v);
    }
}

static void convert_to_f32(float *to, const void *from, dtype from_type, int64_t n, float scale) {
    if (from_type == F32)
        convert(to, F32, from, F32, n, scale);
    else if (from_type == BF16)
        convert(to, F32, from, BF16, n, scale);
    else
        convert(to, F32, from, F16, n, scale);
}

void NAME(convert)(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale) {
    if (type == F32)
        convert_to_f32(to, from, from_type, n, scale);
    else if (type == from_type && scale == 1)
        memmove(to, from, (size_t)n * 2);
    else if (type == BF16 && from_type == F32)
        convert(to, BF16, from, F32, n, scale);
    else if (type == BF16)
        convert(to, BF16, from, from_type, n, scale);
    else
        convert(to, F16, from, from_type, n, scale);
}

INLINE void add(void *y, const void *x, dtype type, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(y, type, i, n - i, load_n(y, type, i, n - i) + load_n(x, type, i, n - i));
}

void NAME(add)(void *y, const void *x, dtype type, int64_t n) {
    if (type == F32)
        add(y, x, F32, n);
    else
        add(y, x, BF16, n);
}

INLINE void scale(void *x, dtype type, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(x, type, i, n - i, load_n(x, type, i, n - i) * all(factor));
}

void NAME(scale)(void *x, dtype type, int64_t n, float factor) {
    if (type == F32)
        scale(x, F32, n, factor);
    else
        scale(x, BF16, n, factor);
}

INLINE void softcap(void *x, dtype type, int64_t n, float cap) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(x, type, i, n - i, cap * vector_tanh(load_n(x, type, i, n - i) / all(cap)));
}

void NAME(softcap)(void *x, dtype type, int64_t n, float cap) {
    if (type == F32)
        softcap(x, F32, n, cap);
    else
        softcap(x, BF16, n, cap);
}

/* Half a vector of doubles twice: what a vector of floats becomes. */
typedef double doubles __attribute__((vector_size(4 * LANES)));

INLINE void add_wide(doubles sum[2], floats v) {
#if defined(__AVX512F__)
    sum[0] += (doubles)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    sum[1] += (doubles)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
#else
    sum[0] += (doubles)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
    sum[1] += (doubles)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#endif
}

/* A square of a float is exact in a double's 53 bits. */
INLINE void add_wide_square(doubles sum[2], floats v) {
#if defined(__AVX512F__)
    const doubles low = (doubles)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)),
                  high = (doubles)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
#else
    const doubles low = (doubles)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)),
                  high = (doubles)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#endif
    sum[0] += low * low;
    sum[1] += high * high;
}

INLINE double sqnorm(const void *x, dtype type, int64_t n) {
    doubles sum[2] = {{0}, {0}};
    for (int64_t i = 0; i < n; i += LANES)
        add_wide_square(sum, load_n(x, type, i, n - i));
    const doubles both = sum[0] + sum[1];
    double total = 0;
    for (int i = 0; i < LANES / 2; i++)
        total += both[i];
    return total;
}

double NAME(sqnorm)(const void *x, dtype type, int64_t n) {
    return type == F32 ? sqnorm(x, F32, n) : type == BF16 ? sqnorm(x, BF16, n) : sqnorm(x, F16, n);
}

/* LANES columns or fewer. */
INLINE void column_sum(const void *x, dtype type, int64_t rows, int64_t width, int64_t j, int64_t n, float *sums) {
    doubles sum[2] = {{0}, {0}};
    add_wide(sum, load_n(sums, F32, j, n));
    for (int64_t i = 0; i < rows; i++)
        add_wide(sum, load_n(x, type, i * width + j, n));
    for (int64_t i = 0; i < n && i < LANES; i++)
        sums[j + i] = (float)sum[i / (LANES / 2)][i % (LANES / 2)];
}

void NAME(column_sum)(const void *x, dtype type, int64_t rows, int64_t width, int64_t j, int64_t n, float *sums) {
    for (int64_t i = 0; i < n; i += LANES)
        if (type == F32)
            column_sum(x, F32, rows, width, j + i, n - i, sums);
        else
            column_sum(x, BF16, rows, width, j + i, n - i, sums);
}

INLINE void add_scaled(float *to, const void *from, dtype type, int64_t n, float scale) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(to, F32, i, n - i, load_n(to, F32, i, n - i) + all(scale) * load_n(from, type, i, n - i));
}

void NAME(add_scaled)(float *to, const void *from, dtype type, int64_t n, float scale) {
    if (type == F32)
        add_scaled(to, from, F32, n, scale);
    else
        add_scaled(to, from, BF16, n, scale);
}
