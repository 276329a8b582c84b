/* codebook — bitsandbytes' 4-bit code books and the rule that turns a scaled value into a code.
 * Source: bitsandbytes csrc/kernels.cu (dQuantizeNF4, dQuantizeFP4, 0.50) and Dettmers et al., 2023, arXiv:2305.14314.
 *
 *   absmax = max |x| of a block     s = x·(1/absmax), both in f32     value = code[c]·absmax
 * A threshold is exceeded by a strict >: a tie takes the lower code. The thresholds are the kernel's literals as f32; some
 * are an ulp beside the middle of their codes. A block of zeros has absmax 0 and the code of 0. */
#ifndef GRAFT_KERNELS_CODEBOOK_H
#define GRAFT_KERNELS_CODEBOOK_H
#include <math.h>
#include <stdint.h>

/* Quantiles of the normal distribution, divided by the largest; ascending. */
static const float codebook_nf4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
/* Between code i and i + 1. */
static const float codebook_nf4_above[15] = {
    -0.8480964004993439f,  -0.6106329262256622f,   -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,   0.2035212516784668f,
    0.2920137718319893f,   0.3893125355243683f,    0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f,
};
/* Bit 3 is the sign; magnitudes are not in the order of their codes. */
static const float codebook_fp4[16] = {
    0.0f,  0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
    -0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f,
};
static const float codebook_fp4_above[7] = {
    0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f,
};
static const uint8_t codebook_fp4_order[8] = {0, 1, 6, 7, 4, 5, 2, 3};

typedef enum { CODEBOOK_OTHER, CODEBOOK_NF4, CODEBOOK_FP4 } codebook_kind;

static inline codebook_kind codebook_of(const float code[16]) {
    int nf4 = 1, fp4 = 1;
    for (int i = 0; i < 16; i++) {
        nf4 &= code[i] == codebook_nf4[i];
        fp4 &= code[i] == codebook_fp4[i];
    }
    return nf4 ? CODEBOOK_NF4 : fp4 ? CODEBOOK_FP4 : CODEBOOK_OTHER;
}

/* Code of the scaled value s. A book that is neither NF4 nor FP4: the nearest code, the lower one on a tie. */
static inline int codebook_encode(codebook_kind kind, const float code[16], float s) {
    int c = 0;
    if (kind == CODEBOOK_NF4) {
        for (int i = 0; i < 15; i++)
            c += s > codebook_nf4_above[i];
        return c;
    }
    if (kind == CODEBOOK_FP4) {
        for (int i = 0; i < 7; i++)
            c += fabsf(s) > codebook_fp4_above[i];
        return codebook_fp4_order[c] | (s < 0 ? 8 : 0);
    }
    for (int i = 1; i < 16; i++)
        if (fabsf(s - code[i]) < fabsf(s - code[c])) c = i;
    return c;
}

/* The f32 factor of bitsandbytes' int8_vectorwise_dequant: rows of 8-bit codes are q·absmax·ROWS8_UNIT, left to right. */
#define ROWS8_UNIT 7.874015718698502e-3f

/* What multiplies the values of a block whose largest magnitude is absmax; 0 for a block of zeros, whose code is that of 0. */
static inline float codebook_inverse(float absmax) {
    return absmax > 0 ? 1.0f / absmax : 0.0f;
}

#endif
