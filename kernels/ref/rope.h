/* rope — rotary positions in the half-split order of Hugging Face. Su et al., 2021, arXiv:2104.09864
 *
 *   a = position·inv_freq[i]  (f32)     c = factor·cos a     s = factor·sin a
 *   x[i], x[i + pairs]  ←  x[i]·c - x[i + pairs]·s,  x[i + pairs]·c + x[i]·s
 * The gradient is the transposed rotation: s changes its sign. */

static void ref_rope(kernels *k, void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
                     int64_t pairs, const int32_t *positions, const float *inv_freq, double factor, int32_t inverse) {
    (void)k;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < pairs; i++) {
            const float angle = (float)positions[n] * inv_freq[i];
            const real c = (real)factor * cos((real)angle);
            const real s = (real)(inverse ? -factor : factor) * sin((real)angle);
            for (int64_t h = 0; h < heads; h++) {
                const int64_t at = n * stride + h * head_dim + i;
                const real a = load(x, type, at), b = load(x, type, at + pairs);
                store(x, type, at, a * c - b * s);
                store(x, type, at + pairs, b * c + a * s);
            }
        }
}
