/* mt19937 — the Mersenne twister, Matsumoto and Nishimura, 1998, with the 2002 seeding: what torch's CPU generator draws.
 * graft uses it to rebuild what other tools made from a seed alone (VeRA's projections). */
#ifndef GRAFT_KERNELS_MT19937_H
#define GRAFT_KERNELS_MT19937_H
#include <stdint.h>

typedef struct {
    uint32_t word[624];
    int32_t at;    /* next word, 624: the state must be advanced first */
    uint64_t next; /* number of the draw that comes next               */
    uint32_t seed;
    int32_t ready; /* {0} is not seeded */
} mt19937;

static inline void mt19937_seed(mt19937 *g, uint32_t seed) {
    g->word[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        g->word[i] = 1812433253u * (g->word[i - 1] ^ g->word[i - 1] >> 30) + i;
    g->at = 624;
    g->next = 0;
    g->seed = seed;
    g->ready = 1;
}

static inline uint32_t mt19937_draw(mt19937 *g) {
    if (g->at == 624) {
        for (int i = 0; i < 624; i++) {
            const uint32_t y = (g->word[i] & 0x80000000u) | (g->word[(i + 1) % 624] & 0x7fffffffu);
            g->word[i] = g->word[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        g->at = 0;
    }
    uint32_t y = g->word[g->at++];
    g->next++;
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Draw `number` of the sequence of `seed` in [0, 1), 24 bits, as torch's f32 uniform takes them. Cheap in ascending order. */
static inline float mt19937_uniform(mt19937 *g, uint32_t seed, uint64_t number) {
    if (!g->ready || g->seed != seed || g->next > number) mt19937_seed(g, seed);
    while (g->next < number)
        mt19937_draw(g);
    return (float)(mt19937_draw(g) & 0xffffffu) * 0x1p-24f;
}

#endif
