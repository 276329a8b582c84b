/* dropout — which elements a dropout mask keeps; the one rule every device follows.
 *
 *   key of a row   = philox_bits(seed, stream, row_key[row])
 *   block of four  = Philox4x32-10 of counter (feature / 4, 0, 0, 0) under that key; word feature % 4 belongs to the feature
 *   kept           = word >= p·2³²
 * so one block serves four features, and a mask depends on (seed, stream, row key, feature) alone: recomputation, slices
 * and threads see the same one. */
#ifndef GRAFT_KERNELS_DROPOUT_H
#define GRAFT_KERNELS_DROPOUT_H
#include "base/philox.h"

static inline uint64_t dropout_row(uint64_t seed, uint64_t stream, int64_t row_key) {
    return philox_bits(seed, stream, (uint64_t)row_key);
}

/* The words of features 4·four .. 4·four + 3 of the row whose key is `row`. */
static inline philox_block dropout_words(uint64_t row, int64_t four) {
    const philox_block counter = {
        {(uint32_t)four, (uint32_t)((uint64_t)four >> 32), 0, 0}
    };
    return philox(counter, (uint32_t)row, (uint32_t)(row >> 32));
}

/* A word below this is dropped; 0 <= p < 1. */
static inline uint32_t dropout_threshold(double p) {
    const double t = floor(p * 0x1p32);
    return t >= 0x1p32 ? 0xffffffffu : (uint32_t)t;
}

#endif
