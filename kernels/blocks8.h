/* blocks8 — bitsandbytes' blockwise 8-bit numbers: a map of 256 values and one f32 absmax a block.
 * Source: bitsandbytes functional.create_dynamic_map and csrc/kernels.cu (0.50); Dettmers et al., 2022, arXiv:2110.02861.
 *
 *   value = map[code]·absmax       code = the nearest map value of x·(1/absmax), exact ties to the even index
 * A block of zeros has absmax 0 and the code of 0. Used by states of 8-bit optimizers and by nested absmax of 4-bit weights. */
#ifndef GRAFT_KERNELS_BLOCKS8_H
#define GRAFT_KERNELS_BLOCKS8_H
#include <stdint.h>

enum { BLOCKS8_BLOCK = 256 /* of states and of nested absmax */ };

/* Makes the 256 ascending values. Signed: -0.993 .. 1, 0 at index 127. Unsigned: 0 .. 1, 0 at index 0. */
void blocks8_map(int is_unsigned, float map[256]);

/* Index of the map value nearest to s. NaN gives 0. */
uint8_t blocks8_nearest(const float map[256], float s);

/* Codes and absmax of one block of n values. keep_sign (states of optimizers, signed map): a code whose value has another
 * sign bit than x moves by one, so that a negative state never comes back positive nor the other way round. */
void blocks8_quantize(const float map[256], int keep_sign, const float *x, int64_t n, uint8_t *codes, float *absmax);

#endif
