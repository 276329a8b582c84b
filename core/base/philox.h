/* philox — counter-based random numbers: Philox4x32-10, Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3".
 * A draw is a pure function of (key, counter), so recomputation, threads and resuming cannot change it. */
#ifndef GRAFT_BASE_PHILOX_H
#define GRAFT_BASE_PHILOX_H
#include <math.h>
#include <stdint.h>

typedef struct {
    uint32_t v[4];
} philox_block;

static inline philox_block philox(philox_block counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * counter.v[0], p1 = (uint64_t)0xCD9E8D57u * counter.v[2];
        const philox_block next = {
            {(uint32_t)(p1 >> 32) ^ counter.v[1] ^ key0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ counter.v[3] ^ key1,
             (uint32_t)p0}
        };
        counter = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* 64 random bits for element `index` of stream (seed, stream): the common way to draw. */
static inline uint64_t philox_bits(uint64_t seed, uint64_t stream, uint64_t index) {
    const philox_block c = {
        {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}
    };
    const philox_block r = philox(c, (uint32_t)seed, (uint32_t)(seed >> 32));
    return (uint64_t)r.v[0] << 32 | r.v[1];
}

/* Uniform in [0, 1), 53 bits. */
static inline double philox_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (double)(philox_bits(seed, stream, index) >> 11) * 0x1p-53;
}

/* Standard normal (Box-Muller on the two halves of one block). */
static inline double philox_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    const uint64_t bits = philox_bits(seed, stream, index);
    const double u = ((double)(bits >> 32) + 0.5) * 0x1p-32, v = ((double)(uint32_t)bits + 0.5) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

#endif
