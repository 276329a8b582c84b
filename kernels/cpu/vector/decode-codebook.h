/* decode-codebook — 4-bit weights as numbers. The 16 values of a block (code·absmax, rounded to the weight's type) are made once
 * into a register; a nibble then picks its value by a permutation. High nibble first, blocks over the flattened matrix. */
#ifndef GRAFT_CPU_DECODE_CODEBOOK_H
#define GRAFT_CPU_DECODE_CODEBOOK_H
#include "kernels/cpu/vector/vector.h"
#include "kernels/kernels.h"

/* v as it comes back from `type`. */
INLINE floats through(floats v, dtype type) {
    return type == BF16 ? widen_bf16(round_bf16(v)) : type == F16 ? widen_f16(narrow_f16(v)) : v;
}

INLINE float block_absmax(const weight *w, int64_t b) {
    if (w->scale) return ((const float *)w->scale)[b];
    const float *code = w->nested_code, *scale = w->nested_scale;
    const float product = code[((const uint8_t *)w->nested)[b]] * scale[b / w->nested_block];
    return product + w->nested_offset;
}

#if defined(__AVX512F__)
/* code·absmax as 16 halves, twice in the register: the fifth bit of an index does not matter. */
INLINE __m512i codebook_halves(const weight *w, dtype w_type, float absmax) {
    const __m512 v = (__m512)(load_floats(w->code) * absmax);
#    if defined(__AVX512BF16__)
    enum { NAN_OR_SUBNORMAL = 0x01 | 0x80 | 0x20 }; /* what the instruction rounds in its own way */
    if (w_type == BF16 && !_mm512_fpclass_ps_mask(v, NAN_OR_SUBNORMAL))
        return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(v));
#    endif
    return _mm512_broadcast_i64x4((__m256i)round_bf16(through((floats)v, w_type)));
}

/* n nibbles, the first one the high one of `bytes`, whole vectors of 32 and a rest. */
INLINE void codebook_bf16(const uint8_t *bytes, __m512i table, int64_t n, uint16_t *to) {
    for (int64_t i = 0; i < n; i += 32) {
        const int64_t left = n - i;
        const __mmask16 there = left >= 32 ? 0xffff : (__mmask16)((1u << (left + 1) / 2) - 1);
        const __m512i b = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, bytes + i / 2));
        const __m512i pairs = _mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_slli_epi32(b, 16));
        const __m512i v = _mm512_permutexvar_epi16(pairs, table);
        if (left >= 32)
            _mm512_storeu_si512(to + i, v);
        else
            _mm512_mask_storeu_epi16(to + i, (__mmask32)((UINT64_C(1) << left) - 1), v);
    }
}

INLINE void codebook_f32(const uint8_t *bytes, floats table, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t left = n - i;
        const __mmask16 there = left >= 16 ? 0xff : (__mmask16)((1u << (left + 1) / 2) - 1);
        const __m128i b = _mm_maskz_loadu_epi8(there, bytes + i / 2);
        const __m128i both = _mm_unpacklo_epi8(_mm_srli_epi16(b, 4), b); /* a permutation reads four bits */
        store_n(to, F32, i, left, (floats)_mm512_permutexvar_ps(_mm512_cvtepu8_epi32(both), (__m512)table));
    }
}

/* A piece of one block that begins with a whole byte. */
INLINE void codebook_piece(const weight *w, dtype w_type, float absmax, const uint8_t *bytes, int64_t n, void *to,
                           dtype type) {
    if (type == F32)
        codebook_f32(bytes, through(load_floats(w->code) * absmax, w_type), n, to);
    else
        codebook_bf16(bytes, codebook_halves(w, w_type, absmax), n, to);
}
#else
INLINE void codebook_piece(const weight *w, dtype w_type, float absmax, const uint8_t *bytes, int64_t n, void *to,
                           dtype type) {
    const floats low = through(load_floats(w->code) * absmax, w_type),
                 high = through(load_floats(w->code + 8) * absmax, w_type);
    for (int64_t i = 0; i < n; i += 8) {
        const int64_t left = n - i;
        int32_t four = 0;
        memcpy(&four, bytes + i / 2, left >= 8 ? 4 : (size_t)(left + 1) / 2);
        const __m128i b = _mm_cvtsi32_si128(four);
        const __m128i both = _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi16(b, 4), _mm_set1_epi8(15)), b);
        const __m256i index =
            _mm256_cvtepu8_epi32(both); /* a permutation reads three bits; the fourth chooses the half */
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
        const floats v = (floats)_mm256_blendv_ps(_mm256_permutevar8x32_ps((__m256)low, index),
                                                  _mm256_permutevar8x32_ps((__m256)high, index), upper);
        if (type == F32)
            store_n(to, F32, i, left, v);
        else
            store_n(to, BF16, i, left, v);
    }
}
#endif

/* The value in the low nibble of element flat's byte, alone. */
INLINE void codebook_single(const weight *w, dtype w_type, float absmax, int64_t flat, void *to, dtype type) {
    const int code = ((const uint8_t *)w->data)[flat / 2] & 15;
    const floats v = through(all(w->code[code]) * absmax, w_type);
    if (type == F32)
        store_part(to, F32, 0, 1, v);
    else
        memcpy(to, &(uint16_t){round_bf16(v)[0]}, 2);
}

/* n values from element flat on. */
INLINE void decode_codebook(const weight *w, dtype w_type, int64_t flat, int64_t n, void *to, dtype type) {
    int64_t block = flat / w->block, left = w->block - flat % w->block; /* in the block */
    for (int64_t i = 0; i < n; block++, left = w->block) {
        const float absmax = block_absmax(w, block);
        int64_t here = left < n - i ? left : n - i;
        if ((flat + i) % 2) {
            codebook_single(w, w_type, absmax, flat + i, place_out(to, type, i), type);
            i++, here--;
        }
        if (here > 0)
            codebook_piece(w, w_type, absmax, (const uint8_t *)w->data + (flat + i) / 2, here, place_out(to, type, i),
                           type);
        i += here;
    }
}

#endif
