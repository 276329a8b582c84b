/* decode — quantized weights as numbers, bit for bit weight_at of kernels/ref/weights.h.
 * CODEBOOK4: the 16 values of a block (code·absmax, rounded to the weight's type) are made once into registers; a nibble
 * then picks its value by a permutation. High nibble first. ROWS8: q·absmax·(1/127), the products in this order. */
#include "kernels/codebook.h"
#include "kernels/cpu/vector/table.h"

static float block_absmax(const weight *w, int64_t b) {
    if (w->scale) return ((const float *)w->scale)[b];
    const float *code = w->nested_code, *scale = w->nested_scale;
    const float product = code[((const uint8_t *)w->nested)[b]] * scale[b / w->nested_block];
    return product + w->nested_offset;
}

/* v as it comes back from `type`. */
INLINE floats through(floats v, dtype type) {
    return type == BF16 ? widen_bf16(round_bf16(v)) : type == F16 ? widen_f16(narrow_f16(v)) : v;
}

/* The 16 values of a block of a weight of `type`. */
INLINE void block_values(const weight *w, dtype type, float absmax, float values[16]) {
    for (int i = 0; i < 16; i += LANES)
        store_floats(values + i, through(load_floats(w->code + i) * all(absmax), type));
}

static float nibble_value(const weight *w, const float values[16], int64_t flat) {
    return values[((const uint8_t *)w->data)[flat / 2] >> (flat % 2 ? 0 : 4) & 15];
}

static void put(void *to, dtype type, int64_t i, float v) {
    if (type == F32)
        ((float *)to)[i] = v;
    else
        ((uint16_t *)to)[i] = f32_to_bf16(v);
}

#if defined(__AVX512F__)
/* 32 nibbles of 16 bytes, in order, as the halves of 16 words; bits above the fourth are left over. */
INLINE __m512i nibbles(const uint8_t *bytes) {
    const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes));
    return _mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_slli_epi32(b, 16));
}

/* n even nibbles from byte on, whole vectors first; returns how many were done. The table of 16 halves stands twice in the
 * register, so that the fifth bit of an index does not matter. */
INLINE int64_t decode_bf16(const uint8_t *bytes, const float values[16], int64_t n, uint16_t *to) {
    const halves table = round_bf16(load_floats(values));
    const __m512i twice = _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)table), (__m256i)table, 1);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(to + i, _mm512_permutexvar_epi16(nibbles(bytes + i / 2), twice));
    return i;
}

INLINE int64_t decode_f32(const uint8_t *bytes, const float values[16], int64_t n, float *to) {
    const __m512 table = (__m512)load_floats(values);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m128i b = _mm_loadl_epi64((const __m128i *)(bytes + i / 2));
        const __m128i both = _mm_unpacklo_epi8(_mm_srli_epi16(b, 4), b); /* a permutation reads four bits */
        _mm512_storeu_ps(to + i, _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(both), table));
    }
    return i;
}
#else
INLINE int64_t decode_bf16(const uint8_t *bytes, const float values[16], int64_t n, uint16_t *to) {
    (void)bytes, (void)values, (void)n, (void)to;
    return 0; /* never asked for: AVX2 multiplies no bf16 */
}

INLINE int64_t decode_f32(const uint8_t *bytes, const float values[16], int64_t n, float *to) {
    const __m256 low = _mm256_loadu_ps(values), high = _mm256_loadu_ps(values + 8);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int32_t four;
        memcpy(&four, bytes + i / 2, sizeof four);
        const __m128i b = _mm_cvtsi32_si128(four);
        const __m128i both = _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi16(b, 4), _mm_set1_epi8(15)), b);
        const __m256i index =
            _mm256_cvtepu8_epi32(both); /* a permutation reads three bits; the fourth chooses the half */
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
        _mm256_storeu_ps(to + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index),
                                                  _mm256_permutevar8x32_ps(high, index), upper));
    }
    return i;
}
#endif

INLINE void decode_codebook(const weight *w, dtype w_type, int64_t flat, int64_t n, void *to, dtype type) {
    for (int64_t i = 0; i < n;) {
        const int64_t block = (flat + i) / w->block, end = (block + 1) * w->block - flat, until = end < n ? end : n;
        float values[16];
        block_values(w, w_type, block_absmax(w, block), values);
        if ((flat + i) % 2) put(to, type, i, nibble_value(w, values, flat + i)), i++;
        const uint8_t *bytes = (const uint8_t *)w->data + (flat + i) / 2;
        i += type == F32 ? decode_f32(bytes, values, until - i, (float *)to + i)
                         : decode_bf16(bytes, values, until - i, (uint16_t *)to + i);
        for (; i < until; i++)
            put(to, type, i, nibble_value(w, values, flat + i));
    }
}

INLINE floats widen_bytes(const int8_t *q) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)q)));
#else
    return (floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)q)));
#endif
}

/* Part of one row. */
INLINE void decode_row8(const int8_t *q, float absmax, dtype w_type, int64_t n, void *to, dtype type) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const floats v = through(widen_bytes(q + i) * all(absmax) * all(ROWS8_UNIT), w_type);
        if (type == F32)
            store_floats((float *)to + i, v);
        else
            store_halves((uint16_t *)to + i, round_bf16(v));
    }
    for (; i < n; i++) {
        const float v = (float)q[i] * absmax * ROWS8_UNIT;
        put(to, type, i, w_type == BF16 ? bf16_to_f32(f32_to_bf16(v)) : w_type == F16 ? f16_to_f32(f32_to_f16(v)) : v);
    }
}

INLINE void decode_typed(const weight *w, dtype w_type, int64_t row, int64_t column, int64_t n, void *to, dtype type) {
    if (w->layout == WEIGHT_CODEBOOK4)
        decode_codebook(w, w_type, row * w->in + column, n, to, type);
    else
        for (int64_t i = 0; i < n; row++, column = 0) {
            const int64_t here = w->in - column < n - i ? w->in - column : n - i;
            decode_row8((const int8_t *)w->data + row * w->in + column, ((const float *)w->scale)[row], w_type, here,
                        (char *)to + i * (type == F32 ? 4 : 2), type);
            i += here;
        }
}

void NAME(decode)(const weight *w, int64_t row, int64_t column, int64_t n, void *to, dtype type) {
    if (w->type == BF16 && type == BF16)
        decode_typed(w, BF16, row, column, n, to, BF16);
    else if (w->type == BF16)
        decode_typed(w, BF16, row, column, n, to, F32);
    else if (w->type == F16)
        decode_typed(w, F16, row, column, n, to, type);
    else
        decode_typed(w, F32, row, column, n, to, type);
}
