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

/* One side of a term: element p of its row i (A) or of its column j (B) is data[i·outer + p·deep + batch·batch_stride]. */
typedef struct {
    const void *data;
    dtype type;
    int64_t outer, deep, batch;
    const weight
        *w; /* not NULL: a quantized weight, decoded tile by tile; outer and deep (in, 1) or (1, in), as if plain */
} product_side;

typedef struct {
    int64_t k;
    dtype step;  /* F32, or BF16 where multiply.bf16: what both sides become when they are multiplied */
    float scale; /* of the term; F32 steps only, else 1                                               */
    product_side a, b;
} product_term;

typedef struct {
    int64_t batch, m, n;
    int count;
    product_term terms[PRODUCT_TERMS];
    multiply_target to;
    int64_t to_batch; /* not 0 when batch > 1 */
} product;

void product_run(cpu *c, const product *p);
int64_t product_scratch_bytes(const multiply_functions *f); /* of one member */

#endif
