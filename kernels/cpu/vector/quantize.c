/* quantize — codes of one block or row. Equals quantize_codebook4 and quantize_rows8 of kernels/ref/weights.h to the last bit;
 * the rules are kernels/codebook.h. A code is the number of thresholds its value exceeds: 15 comparisons, no search. */
#include "kernels/codebook.h"
#include "kernels/cpu/vector/table.h"

INLINE float largest_magnitude(const float *x, int64_t n, const int through_f16) {
    floats most = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        floats v = load_n(x, F32, i, n - i);
        if (through_f16) v = widen_f16(narrow_f16(v));
        most = largest(magnitude(v), most); /* NaN does not count */
    }
    return lanes_largest(most);
}

INLINE ints nf4_codes(floats s) {
    ints c = {0};
    UNROLL for (int i = 0; i < 15; i++) c -= s > codebook_nf4_above[i];
    return c;
}

/* Two codes a byte, the first high; `codes` has room for whole vectors. */
static void put_codes(const uint8_t *codes, int64_t n, uint8_t *to) {
    for (int64_t i = 0; i < n; i += 2)
        to[i / 2] = (uint8_t)(codes[i] << 4 | codes[i + 1]);
}

float NAME(quantize_block)(int kind, const float code[16], const float *x, int64_t n, uint8_t *to) {
    const float absmax = largest_magnitude(x, n, 0), inverse = codebook_inverse(absmax);
    for (int64_t i = 0; i < n; i += 2 * LANES) {
        const int64_t here = n - i < 2 * LANES ? n - i : 2 * LANES;
        uint8_t codes[2 * LANES];
        if (kind == CODEBOOK_NF4 && here == 2 * LANES) {
            int32_t wide[2 * LANES];
            for (int half = 0; half < 2; half++) {
                const ints c = nf4_codes(load_floats(x + i + half * LANES) * inverse);
                memcpy(wide + half * LANES, &c, sizeof c);
            }
            for (int j = 0; j < 2 * LANES; j++)
                codes[j] = (uint8_t)wide[j];
        } else
            for (int64_t j = 0; j < here + here % 2; j++) /* an odd last one is paired with 0 */
                codes[j] = (uint8_t)codebook_encode((codebook_kind)kind, code, j < here ? x[i + j] * inverse : 0);
        put_codes(codes, here, to + i / 2);
    }
    return absmax;
}

float NAME(quantize_row8)(const float *x, int64_t n, int8_t *to) {
    const float absmax = largest_magnitude(x, n, 1), factor = absmax > 0 ? 127.0f / absmax : 0;
    for (int64_t i = 0; i < n; i += LANES) {
        const floats v = widen_f16(narrow_f16(load_n(x, F32, i, n - i))) * factor;
        const floats inside = largest(all(-127), smallest(all(127), nearest_whole(v)));
        float q[LANES];
        store_floats(q, select_floats(v != v, all(0), inside));
        for (int64_t j = 0; j < LANES && i + j < n; j++)
            to[i + j] = (int8_t)q[j];
    }
    return absmax;
}
