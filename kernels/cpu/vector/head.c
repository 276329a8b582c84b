/* head — log-probabilities of one row of logits and their gradient. Equals kernels/ref/head.h (the formulas stand there):
 * exponentials in f32, their sum in double from block to block. One exponential an element: the maximum is looked for a
 * block ahead and the sum so far rescaled where it grows. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"
#include <math.h>

enum { BLOCK = 1024 };

INLINE floats capped(floats z, float cap) {
    return cap > 0 ? cap * vector_tanh(z / all(cap)) : z;
}

/* Largest capped logit of a block; the capped ones into y. */
INLINE float block_largest(const void *logits, dtype type, int64_t from, int64_t n, float cap, float *y) {
    floats most = all(-INFINITY);
    for (int64_t j = 0; j < n; j += LANES) {
        const floats v = first_lanes(capped(load_n(logits, type, from + j, n - j), cap), n - j, -INFINITY);
        most = largest(most, v);
        store_floats(y + j, v);
    }
    return lanes_largest(most);
}

INLINE float block_sum(const float *y, int64_t n, float most) {
    floats sum[2] = {{0}, {0}};
    for (int64_t j = 0; j < n; j += 2 * LANES) {
        sum[0] += vector_exp(load_floats(y + j) - most);
        if (j + LANES < n) sum[1] += vector_exp(load_floats(y + j + LANES) - most);
    }
    return lanes_sum(sum[0] + sum[1]);
}

INLINE void logprob(const void *logits, dtype type, int64_t vocab, int32_t target, float cap, float *logp, float *lse) {
    float y[BLOCK + LANES], most = -INFINITY, of_target = 0;
    double sum = 0;
    for (int64_t from = 0; from < vocab; from += BLOCK) {
        const int64_t n = vocab - from < BLOCK ? vocab - from : BLOCK;
        const float here = block_largest(logits, type, from, n, cap, y);
        if (here > most) {
            sum *= exp((double)most - (double)here);
            most = here;
        }
        sum += (double)block_sum(y, n, most);
        if (target >= from && target < from + n) of_target = y[target - from];
    }
    const double total = (double)most + log(sum);
    *lse = (float)total;
    *logp = (float)((double)of_target - total);
}

INLINE void grad(void *logits, dtype type, int64_t vocab, int32_t target, float cap, float lse, float dlogp) {
    float at_target = 0;
    for (int64_t j = 0; j < vocab; j += LANES) {
        const floats y = capped(load_n(logits, type, j, vocab - j), cap), p = vector_exp(y - lse);
        const floats share = y / all(cap > 0 ? cap : 1), slope = cap > 0 ? 1 - share * share : all(1);
        store_n(logits, type, j, vocab - j, dlogp * (0 - p) * slope);
        if (target >= j && target < j + LANES) at_target = (dlogp * (1 - p) * slope)[target - j];
    }
    store_part(logits, type, target, 1, all(at_target));
}

void NAME(logprob)(const void *logits, dtype type, int64_t vocab, int32_t target, float cap, float *logp, float *lse) {
    if (type == BF16)
        logprob(logits, BF16, vocab, target, cap, logp, lse);
    else
        logprob(logits, F32, vocab, target, cap, logp, lse);
}

void NAME(logprob_grad)(void *logits, dtype type, int64_t vocab, int32_t target, float cap, float lse, float dlogp) {
    if (type == BF16 && cap == 0)
        grad(logits, BF16, vocab, target, 0, lse, dlogp);
    else if (type == BF16)
        grad(logits, BF16, vocab, target, cap, lse, dlogp);
    else
        grad(logits, F32, vocab, target, cap, lse, dlogp);
}
