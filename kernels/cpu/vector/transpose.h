/* transpose — LANES x LANES words in registers, and two vectors of halves woven into one of pairs. */
#ifndef GRAFT_CPU_TRANSPOSE_H
#define GRAFT_CPU_TRANSPOSE_H
#include "kernels/cpu/vector/vector.h"

#if defined(__AVX512F__)
INLINE void transpose_words(words r[LANES]) {
    __m512i a[LANES], b[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) { /* pairs of rows: words woven */
        a[i] = _mm512_unpacklo_epi32((__m512i)r[i], (__m512i)r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32((__m512i)r[i], (__m512i)r[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) { /* fours of rows: every 128 bits hold a column of four */
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int i = 0; i < LANES; i += 8) { /* eights: even and odd 128 bits */
        UNROLL for (int j = 0; j < 4; j++) {
            a[i + j] = _mm512_shuffle_i32x4(b[i + j], b[i + j + 4], 0x88);
            a[i + j + 4] = _mm512_shuffle_i32x4(b[i + j], b[i + j + 4], 0xdd);
        }
    }
    UNROLL for (int i = 0; i < LANES / 2; i++) {
        r[i] = (words)_mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
        r[i + 8] = (words)_mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
    }
}

/* Lane i: low[i] below, high[i] above. */
INLINE words weave(halves low, halves high) {
    const __m512i above = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16);
    return (words)_mm512_or_si512(_mm512_cvtepu16_epi32((__m256i)low), above);
}
#else
INLINE void transpose_words(words r[LANES]) {
    __m256i a[LANES], b[LANES];
    UNROLL for (int i = 0; i < LANES; i += 2) {
        a[i] = _mm256_unpacklo_epi32((__m256i)r[i], (__m256i)r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32((__m256i)r[i], (__m256i)r[i + 1]);
    }
    UNROLL for (int i = 0; i < LANES; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int i = 0; i < LANES / 2; i++) {
        r[i] = (words)_mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = (words)_mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

INLINE words weave(halves low, halves high) {
    const __m256i above = _mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)high), 16);
    return (words)_mm256_or_si256(_mm256_cvtepu16_epi32((__m128i)low), above);
}
#endif

#endif
