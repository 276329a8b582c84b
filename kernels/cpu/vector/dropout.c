/* dropout — masks of whole vectors of Philox blocks. Equals kernels/ref/rows.h bit for bit (f32); the rule is
 * kernels/dropout.h: word w of block b belongs to feature 4b + w. */
#include "kernels/cpu/vector/table.h"

/* High and low words of a·m, lane by lane. */
INLINE words multiply_high_low(words a, uint32_t m, words *low) {
#if defined(__AVX512F__)
    const __m512i factor = _mm512_set1_epi32((int32_t)m), even = _mm512_mul_epu32((__m512i)a, factor),
                  odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
    *low = (words)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
    return (words)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
#else
    const __m256i factor = _mm256_set1_epi32((int32_t)m), even = _mm256_mul_epu32((__m256i)a, factor),
                  odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
    *low = (words)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    return (words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
#endif
}

/* Philox4x32-10 of LANES counters (first + lane, 0, 0, 0): base/philox.h on vectors. */
INLINE void philox_lanes(uint32_t first, uint32_t key0, uint32_t key1, words v[4]) {
    for (int i = 0; i < LANES; i++)
        v[0][i] = first + (uint32_t)i;
    v[1] = v[2] = v[3] = (words){0};
    for (int round = 0; round < 10; round++) {
        words low0, low2;
        const words high0 = multiply_high_low(v[0], 0xD2511F53u, &low0),
                    high2 = multiply_high_low(v[2], 0xCD9E8D57u, &low2);
        v[0] = high2 ^ v[1] ^ key0;
        v[1] = low2;
        v[2] = high0 ^ v[3] ^ key1;
        v[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

INLINE void dropout(const void *x, void *y, dtype type, int64_t width, uint32_t dropped, float grown, uint64_t row,
                    int32_t accumulate) {
    for (int64_t j = 0; j < width; j += 4 * LANES) {
        words v[4];
        uint32_t in_order[4 * LANES];
        philox_lanes((uint32_t)(j / 4), (uint32_t)row, (uint32_t)(row >> 32), v);
        for (int i = 0; i < 4 * LANES; i++)
            in_order[i] = v[i % 4][i / 4];
        for (int64_t i = 0; i < 4 * LANES && j + i < width; i += LANES) {
            const int64_t n = width - j - i;
            words w;
            memcpy(&w, in_order + i, sizeof w);
            floats out = select_floats((ints)(w >= dropped), load_n(x, type, j + i, n) * grown, all(0));
            if (accumulate) out += load_n(y, type, j + i, n);
            store_n(y, type, j + i, n, out);
        }
    }
}

void NAME(dropout)(const void *x, void *y, dtype type, int64_t width, uint32_t dropped, float grown, uint64_t row,
                   int32_t accumulate) {
    if (type == BF16)
        dropout(x, y, BF16, width, dropped, grown, row, accumulate);
    else
        dropout(x, y, F32, width, dropped, grown, row, accumulate);
}
