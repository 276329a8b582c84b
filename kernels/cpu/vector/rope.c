/* rope — rotary positions. Equals kernels/ref/rope.h (the formula stands there): the same f32 angles, sine and cosine to 2 ulp.
 * The sines of a row are made once and serve all its heads. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"
#include <math.h>

enum { CHUNK = 256 }; /* pairs whose sines are kept at a time */

/* sine[i], cosine[i] of factor and angle position·inv_freq[i]. */
INLINE void angles(float position, const float *inv_freq, int64_t n, float factor, float sign, float *sine,
                   float *cosine) {
    const floats far = all(71000);
    for (int64_t i = 0; i < n; i += LANES) {
        const floats a = position * load_n(inv_freq, F32, i, n - i);
        floats s, c;
        vector_sine_cosine(a, &s, &c);
        store_floats(sine + i, sign * factor * s);
        store_floats(cosine + i, factor * c);
        const ints beyond = magnitude(a) > far;
        for (int l = 0; l < LANES; l++)
            if (beyond[l]) {
                sine[i + l] = sign * factor * sinf(a[l]);
                cosine[i + l] = factor * cosf(a[l]);
            }
    }
}

INLINE void rotate(void *x, dtype type, int64_t at, int64_t pairs, int64_t n, const float *sine, const float *cosine) {
    for (int64_t i = 0; i < n; i += LANES) {
        const floats a = load_n(x, type, at + i, n - i), b = load_n(x, type, at + pairs + i, n - i);
        const floats s = load_floats(sine + i), c = load_floats(cosine + i);
        store_n(x, type, at + i, n - i, a * c - b * s);
        store_n(x, type, at + pairs + i, n - i, b * c + a * s);
    }
}

INLINE void rope(void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, int64_t pairs,
                 const int32_t *positions, const float *inv_freq, float factor, int32_t inverse) {
    float sine[CHUNK + LANES], cosine[CHUNK + LANES];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < pairs; i += CHUNK) {
            const int64_t count = pairs - i < CHUNK ? pairs - i : CHUNK;
            angles((float)positions[n], inv_freq + i, count, factor, inverse ? -1 : 1, sine, cosine);
            for (int64_t h = 0; h < heads; h++)
                rotate(x, type, n * stride + h * head_dim + i, pairs, count, sine, cosine);
        }
}

void NAME(rope)(void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, int64_t pairs,
                const int32_t *positions, const float *inv_freq, float factor, int32_t inverse) {
    if (type == BF16)
        rope(x, BF16, rows, stride, heads, head_dim, pairs, positions, inv_freq, factor, inverse);
    else
        rope(x, F32, rows, stride, heads, head_dim, pairs, positions, inv_freq, factor, inverse);
}
