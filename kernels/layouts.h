/* layouts — what no table does by itself with a weight, done for all of them with their own gemm and map:
 *
 *   CUSTOM      a tile of rows is dequantized by the quantizer, multiplied as a plain matrix, forgotten
 *   threshold   LLM.int8: the forward of a ROWS8 weight reads x through 8 bits, a token at a time,
 *                 x'[n,i] = |x[n,i]| >= threshold ? x[n,i] : round(x·127 / m[n])·m[n] / 127,  m[n] = max |x| below it
 *               which is the product of integers and the product of outliers in one. bitsandbytes keeps a column for every token of
 *               a batch as soon as one of them is an outlier there; here a token decides for itself, so that no result
 *               depends on what else is in the batch. Gradients pass straight through, as there.
 * Dettmers et al., 2022, LLM.int8(), arXiv:2208.07339. */
#ifndef GRAFT_KERNELS_LAYOUTS_H
#define GRAFT_KERNELS_LAYOUTS_H
#include "kernels/kernels.h"

/* Puts these in front of the table's own functions, which move to k->own. */
void layouts_install(kernels *k);
/* Device bytes a forward or backward over `rows` rows takes for a while. */
int64_t layouts_scratch(const kernels *k, const weight *w, int64_t rows);

#endif
