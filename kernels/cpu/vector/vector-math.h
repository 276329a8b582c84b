/* vector-math — exp and its kin on whole vectors, to about 2 units in the last place of f32; infinities and NaN come out as
 * from libm, subnormal results too.
 * Sources: polynomials of Cephes (Moshier: expf, logf, tanhf, sinf, cosf) and of N. Juffa (erff). */
#ifndef GRAFT_CPU_VECTOR_MATH_H
#define GRAFT_CPU_VECTOR_MATH_H
#include "kernels/cpu/vector/vector.h"

INLINE ints whole_ints(floats v) { /* v is whole */
#if defined(__AVX512F__)
    return (ints)_mm512_cvtps_epi32((__m512)v);
#else
    return (ints)_mm256_cvtps_epi32((__m256)v);
#endif
}

INLINE floats ints_floats(ints v) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps((__m512i)v);
#else
    return (floats)_mm256_cvtepi32_ps((__m256i)v);
#endif
}

/* v·2^n, n whole, |n| < 252. */
INLINE floats times_power(floats v, floats n) {
#if defined(__AVX512F__)
    return (floats)_mm512_scalef_ps((__m512)v, (__m512)n);
#else
    const ints all_n = whole_ints(n), half = all_n >> 1, rest = all_n - half; /* in two steps: through the subnormals */
    return v * (floats)((half + 127) << 23) * (floats)((rest + 127) << 23);
#endif
}

/* e^x = 2^n·e^r, |r| <= ln 2 / 2 */
INLINE floats vector_exp(floats x) {
    x = largest(all(-104), smallest(all(89), x)); /* NaN stays: it is the second operand */
    const floats n = nearest_whole(x * 1.44269504088896341f);
    floats r = fused(n, all(-0.693359375f), x);
    r = fused(n, all(2.12194440e-4f), r);
    floats p = all(1.9875691500e-4f);
    p = fused(p, r, all(1.3981999507e-3f));
    p = fused(p, r, all(8.3334519073e-3f));
    p = fused(p, r, all(4.1665795894e-2f));
    p = fused(p, r, all(1.6666665459e-1f));
    p = fused(p, r, all(5.0000001201e-1f));
    return times_power(fused(p * r, r, r) + 1, n);
}

/* ln x = n·ln 2 + ln m, sqrt(1/2) <= m < sqrt 2 */
INLINE floats vector_log(floats x) {
    const ints tiny = x < 1.17549435e-38f;
    const floats scaled = select_floats(tiny, x * 0x1p25f, x);
    const ints bits = (ints)scaled, e = ((bits >> 23) & 255) - 126;
    floats m = (floats)((bits & 0x007fffff) | 0x3f000000); /* 0.5 <= m < 1 */
    const ints low = m < 0.707106781186547524f;
    const floats n = ints_floats(e + low) - select_floats(tiny, all(25), all(0));
    const floats f = select_floats(low, m + m, m) - 1, z = f * f;
    floats p = all(7.0376836292e-2f);
    p = fused(p, f, all(-1.1514610310e-1f));
    p = fused(p, f, all(1.1676998740e-1f));
    p = fused(p, f, all(-1.2420140846e-1f));
    p = fused(p, f, all(1.4249322787e-1f));
    p = fused(p, f, all(-1.6668057665e-1f));
    p = fused(p, f, all(2.0000714765e-1f));
    p = fused(p, f, all(-2.4999993993e-1f));
    p = fused(p, f, all(3.3333331174e-1f));
    p = p * f * z;
    p = fused(n, all(-2.12194440e-4f), p);
    p = fused(z, all(-0.5f), p);
    floats v = fused(n, all(0.693359375f), f + p);
    v = select_floats(x == 0, all(-__builtin_inff()), v);
    v = select_floats(x == __builtin_inff(), x, v);
    return select_floats(~(x >= 0), all(__builtin_nanf("")), v); /* below 0, and NaN */
}

/* Near 0 by a polynomial, else 1 - 2/(e^2|x| + 1). */
INLINE floats vector_tanh(floats x) {
    const floats a = magnitude(x), z = x * x;
    floats p = all(-5.70498872745e-3f);
    p = fused(p, z, all(2.06390887954e-2f));
    p = fused(p, z, all(-5.37397155531e-2f));
    p = fused(p, z, all(1.33314422036e-1f));
    p = fused(p, z, all(-3.33332819422e-1f));
    p = fused(p * z, x, x);
    const floats far = 1 - 2 / (vector_exp(a + a) + 1);
    const floats signed_far = (floats)((ints)far | ((ints)x & (ints)all(-0.0f)));
    return select_floats(a < 0.625f, p, signed_far);
}

INLINE floats vector_sigmoid(floats x) {
    return 1 / (1 + vector_exp(-x));
}

/* |x| <= 475/512: x + x·P(x²); beyond: 1 - e^Q(|x|) */
INLINE floats vector_erf(floats x) {
    const floats a = magnitude(x), z = x * x;
    floats far = fused(all(-1.72853470e-5f), a, all(3.83197126e-4f));
    far = fused(far, z, fused(all(-3.88396438e-3f), a, all(2.42546219e-2f)));
    far = fused(far, a, all(-1.06777877e-1f));
    far = fused(far, a, all(-6.34846687e-1f));
    far = fused(far, a, all(-1.28717512e-1f));
    far = 1 - vector_exp(fused(far, a, -a));
    far = select_floats(a > 4, all(1), far); /* where the polynomial has left its range */
    floats near = all(-5.96761703e-4f);
    near = fused(near, z, all(4.99119423e-3f));
    near = fused(near, z, all(-2.67681349e-2f));
    near = fused(near, z, all(1.12819925e-1f));
    near = fused(near, z, all(-3.76125336e-1f));
    near = fused(near, z, all(1.28379166e-1f));
    near = fused(near, x, x);
    const floats signed_far = (floats)((ints)far | ((ints)x & (ints)all(-0.0f)));
    return select_floats(a <= 0.927734375f, near, select_floats(x != x, x, signed_far));
}

/* Sine and cosine; |x| <= 71000, beyond which the reduction by three parts of pi/2 loses bits. */
INLINE void vector_sine_cosine(floats x, floats *sine, floats *cosine) {
    const floats n = nearest_whole(x * 0.636619772367581343f);
    floats r = fused(n, all(-0x1.921fb0p+00f), x);
    r = fused(n, all(-0x1.5110b4p-22f), r);
    r = fused(n, all(-0x1.846988p-48f), r);
    const floats z = r * r;
    floats s = all(-1.9515295891e-4f);
    s = fused(s, z, all(8.3321608736e-3f));
    s = fused(s, z, all(-1.6666654611e-1f));
    s = fused(s * z, r, r);
    floats c = all(2.443315711809948e-5f);
    c = fused(c, z, all(-1.388731625493765e-3f));
    c = fused(c, z, all(4.166664568298827e-2f));
    c = fused(c * z, z, fused(z, all(-0.5f), all(1)));
    const ints quarter = whole_ints(n), odd = -(quarter & 1), sine_sign = (quarter & 2) << 30,
               cosine_sign = ((quarter + 1) & 2) << 30;
    *sine = (floats)((ints)select_floats(odd, c, s) ^ sine_sign);
    *cosine = (floats)((ints)select_floats(odd, s, c) ^ cosine_sign);
}

#endif
