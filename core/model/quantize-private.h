#ifndef GRAFT_MODEL_QUANTIZE_PRIVATE_H
#define GRAFT_MODEL_QUANTIZE_PRIVATE_H
#include "formats/safetensors.h"
#include "formula/formula.h"
#include "model/quantize.h"

enum { QUANTIZE_SLOTS = 16 };

struct quantize {
    quantize_spec in;
    weight_layout layout; /* of the component; PLAIN without one */
    int64_t block;        /* option block_size; 0 = rows */
    int32_t nested;       /* option double_quant */
    float code[16];       /* slot `code` of a codebook4 */
    const char *number_names[64];
    double numbers[64];
    int32_t number_count;
    safetensors *state;
};

/* Runs the component's own formulas on `values` (dev real, as many elements as the weight has): codes and scales into w. */
int quantize_by_formulas(quantize *q, kernels *k, weight *w, const void *values, graft_error *err);
/* Compiles both callbacks on the shapes of a weight (out, in). */
int quantize_check(quantize *q, int64_t out, int64_t in, graft_error *err);
/* Allocates data and scale of a weight whose layout fields are set. */
int quantize_allocate(kernels *k, weight *w, const char *name, graft_error *err);

#endif
