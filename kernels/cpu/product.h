/* product — the one matrix product behind gemm, the linear layers and the low-rank terms:
 *
 *   target[i,j] [+]= alpha·Σ_terms Σ_p A_t[i,p]·B_t[p,j] + bias[j]          for every matrix of a batch
 *
 * It is cut into parts of rows x columns (x slices of k where those are few) by its sizes alone. A part packs a panel of B
 * (decoding quantized weights on the way), keeps it in the second cache and runs strips of A over it; terms of little k
 * (low-rank updates) join the last pass over the sums, so they cost no pass of their own. */
#ifndef GRAFT_CPU_PRODUCT_H
#define GRAFT_CPU_PRODUCT_H
#include "kernels/cpu/cpu.h"

enum { PRODUCT_TERMS = 32 };

typedef struct {
    int64_t k;
    dtype step; /* F32, or BF16 where multiply.bf16: what both operands become                                      */
    const void *a; /* element (i, p) at i·a_row + p·a_col + batch·a_batch */
    dtype a_type;
    int64_t a_row, a_col, a_batch;
    float a_scale; /* of A's elements as they are loaded; F32 steps only, else 1 */
    const void *b; /* element (p, j) at p·b_row + j·b_col + batch·b_batch; NULL: w */
    dtype b_type;
    int64_t b_row, b_col, b_batch;
    const weight *w; /* a quantized matrix decoded tile by tile: B = Wᵀ, or W where transposed = 0 */
    int32_t transposed;
} product_term;

typedef struct {
    int64_t batch, m, n;
    int count;
    product_term terms[PRODUCT_TERMS];
    multiply_target to;
    int64_t to_batch; /* not 0 when batch > 1 */
} product;

void product_run(cpu *c, const product *p);
int64_t product_scratch_bytes(const multiply_functions *f); /* of one member, from scratch_of */

#endif
