/* decode — quantized weights as numbers, bit for bit weight_at of kernels/ref/weights.h.
 * CODEBOOK4: decode-codebook.h. ROWS8: q·absmax·(1/127), the products in this order.
 * AFFINE: codes become bytes, eight at a time, then scale·(q - zero). */
#include "kernels/bits.h"
#include "kernels/codebook.h"
#include "kernels/cpu/vector/decode-codebook.h"
#include "kernels/cpu/vector/table.h"

static void put(void *to, dtype type, int64_t i, float v) {
    if (type == F32)
        ((float *)to)[i] = v;
    else
        ((uint16_t *)to)[i] = f32_to_bf16(v);
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

/* Eight codes of `bits` bits as bytes: halves, quarters and eighths of the word move apart. */
static void spread_eight(const uint8_t *codes, int bits, uint8_t *to) {
    const uint64_t one = 1, ones = ~(uint64_t)0;
    uint64_t v = 0;
    memcpy(&v, codes, (size_t)(bits & 15)); /* the mask tells the compiler what it may assume */
    if (bits < 8) {
        v = (v | v << (32 - 4 * bits)) & (((one << 4 * bits) - 1) * (ones / 0xffffffff));
        v = (v | v << (16 - 2 * bits)) & (((one << 2 * bits) - 1) * (ones / 0xffff));
        v = (v | v << (8 - bits)) & (((one << bits) - 1) * (ones / 0xff));
    }
    memcpy(to, &v, sizeof v);
}

/* n codes from number `first` on. */
static void spread(const uint8_t *codes, int bits, int64_t first, int64_t n, uint8_t *to) {
    int64_t i = 0;
    for (; i < n && (first + i) % 8; i++)
        to[i] = (uint8_t)bits_get(codes, first + i, bits);
    for (; i + 8 <= n; i += 8)
        spread_eight(codes + (first + i) / 8 * bits, bits, to + i);
    for (; i < n; i++)
        to[i] = (uint8_t)bits_get(codes, first + i, bits);
}

INLINE floats widen_codes(const uint8_t *q) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q)));
#else
    return (floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)q)));
#endif
}

static float group_zero(const weight *w, int64_t g) {
    if (!w->zero) return (float)(1 << (w->bits - 1));
    return w->zero_type == U8 ? (float)((const uint8_t *)w->zero)[g] : ((const float *)w->zero)[g];
}

/* Part of one row, group by group. */
INLINE void decode_affine(const weight *w, dtype w_type, int64_t row, int64_t column, int64_t n, void *to, dtype type) {
    enum { CODES = 256 };
    const int64_t groups = (w->in + w->block - 1) / w->block;
    for (int64_t i = 0; i < n;) {
        const int64_t at = column + i, g = row * groups + at / w->block, left = w->block - at % w->block;
        int64_t here = left < n - i ? left : n - i;
        if (here > CODES) here = CODES;
        const floats scale = all(((const float *)w->scale)[g]), zero = all(group_zero(w, g));
        uint8_t q[CODES + LANES] = {0};
        spread(w->data, w->bits, g * w->block + at % w->block, here, q);
        for (int64_t j = 0; j < here; j += LANES) {
            const floats v = through(scale * (widen_codes(q + j) - zero), w_type);
            if (type == F32)
                store_n(to, F32, i + j, here - j, v);
            else
                store_n(to, BF16, i + j, here - j, v);
        }
        i += here;
    }
}

INLINE void decode_typed(const weight *w, dtype w_type, int64_t row, int64_t column, int64_t n, void *to, dtype type) {
    if (w->layout == WEIGHT_CODEBOOK4) {
        decode_codebook(w, w_type, row * w->in + column, n, to, type);
        return;
    }
    for (int64_t i = 0; i < n; row++, column = 0) {
        const int64_t here = w->in - column < n - i ? w->in - column : n - i;
        void *const at = (char *)to + i * (type == F32 ? 4 : 2);
        if (w->layout == WEIGHT_AFFINE)
            decode_affine(w, w_type, row, column, here, at, type);
        else
            decode_row8((const int8_t *)w->data + row * w->in + column, ((const float *)w->scale)[row], w_type, here,
                        at, type);
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
