/* step — one step of a product's operand: an f32, or two bf16 woven, for LANES columns that lie side by side. */
#ifndef GRAFT_CPU_STEP_H
#define GRAFT_CPU_STEP_H
#include "kernels/cpu/vector/transpose.h"

/* LANES elements, of which n exist, as halves of bf16. */
INLINE halves bf16_part(const void *from, dtype type, int64_t i, int64_t n) {
    if (type != BF16) return round_bf16(load_n(from, type, i, n));
    if (n >= LANES) return load_halves(place(from, type, i));
    halves h = {0};
    memcpy(&h, place(from, type, i), (size_t)n * 2);
    return h;
}

/* One step of LANES columns that lie side by side, the first at element `at`. */
INLINE words step_across(dtype type, const void *from, dtype from_type, int64_t at, int64_t down, int64_t k,
                         int64_t n) {
    if (type == F32) return (words)load_n(from, from_type, at, n);
    const halves second = k > 1 ? bf16_part(from, from_type, at + down, n) : (halves){0};
    return weave(bf16_part(from, from_type, at, n), second);
}

#endif
