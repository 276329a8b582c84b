/* attention — the element work on a tile of scores: softmax with running maximum and sum, and the gradient of a score.
 * The formulas stand in kernels/ref/attention.h, their order in cpu/attention.c. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"
#include <math.h>

/* All bits of the lanes j.. that lie in from..to. */
INLINE ints visible(int64_t j, int32_t from, int32_t to) {
    ints lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    const ints at = lane + (int32_t)j;
    return (at >= from) & (at < to);
}

/* t = softcap·tanh(z / softcap), z = scale·s */
INLINE floats score(const attention_tile *t, const int capped, floats s) {
    const floats z = t->scale * s;
    return capped ? t->softcap * vector_tanh(z / all(t->softcap)) : z;
}

INLINE floats score_slope(const attention_tile *t, const int capped, floats y) {
    const floats share = y / all(capped ? t->softcap : 1);
    return capped ? 1 - share * share : (floats){0} + 1;
}

/* Scores of row r, hidden ones -inf, back into the tile; returns the largest. */
INLINE float row_scores(const attention_tile *t, const int capped, int64_t r) {
    float *const s = t->scores + r * t->row;
    const int32_t from = t->from[r], to = t->to[r];
    floats most = all(-INFINITY);
    for (int64_t j = 0; j < t->out_row; j += LANES) {
        floats y = score(t, capped, load_floats(s + j));
        if (j < from || j + LANES > to) y = select_floats(visible(j, from, to), y, all(-INFINITY));
        most = largest(most, y);
        store_floats(s + j, y);
    }
    return lanes_largest(most);
}

INLINE void softmax(const attention_tile *t, const int capped, const dtype type, float *most, float *sum,
                    float *rescale) {
    for (int64_t r = 0; r < t->rows; r++) {
        const float here = row_scores(t, capped, r), now = here > most[r] ? here : most[r];
        const float about = now == -INFINITY ? 0 : now; /* nothing seen yet: every p is exp(-inf) */
        floats total = {0};
        for (int64_t j = 0; j < t->out_row; j += LANES) {
            const floats p = vector_exp(load_floats(t->scores + r * t->row + j) - about);
            total += p;
            store(t->p, type, r * t->out_row + j, p);
        }
        rescale[r] = now == most[r] ? 1 : expf(most[r] - about);
        sum[r] = sum[r] * rescale[r] + lanes_sum(total);
        most[r] = now;
    }
}

void NAME(attention_softmax)(const attention_tile *t, float *most, float *sum, float *rescale) {
    if (t->type == BF16)
        t->softcap > 0 ? softmax(t, 1, BF16, most, sum, rescale) : softmax(t, 0, BF16, most, sum, rescale);
    else
        t->softcap > 0 ? softmax(t, 1, F32, most, sum, rescale) : softmax(t, 0, F32, most, sum, rescale);
}

INLINE void grad(const attention_tile *t, const int capped, const dtype type, const int by_row, const float *lse,
                 const float *do_o) {
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t j = 0; j < t->out_row; j += LANES) {
            const floats y = score(t, capped, load_floats(t->scores + r * t->row + j));
            const floats dp = load_floats(t->other + r * t->row + j);
            const floats p = vector_exp(y - (by_row ? all(lse[r]) : load_floats(lse + j)));
            const floats dz = p * (dp - (by_row ? all(do_o[r]) : load_floats(do_o + j))) * score_slope(t, capped, y);
            const int whole = j >= t->from[r] && j + LANES <= t->to[r];
            const ints seen = whole ? (ints){0} - 1 : visible(j, t->from[r], t->to[r]);
            if (t->p) store(t->p, type, r * t->out_row + j, select_floats(seen, p, all(0)));
            store(t->dz, type, r * t->out_row + j, select_floats(seen, dz, all(0)));
        }
}

void NAME(attention_grad_rows)(const attention_tile *t, const float *lse, const float *do_o) {
    if (t->type == BF16)
        t->softcap > 0 ? grad(t, 1, BF16, 1, lse, do_o) : grad(t, 0, BF16, 1, lse, do_o);
    else
        t->softcap > 0 ? grad(t, 1, F32, 1, lse, do_o) : grad(t, 0, F32, 1, lse, do_o);
}

void NAME(attention_grad_columns)(const attention_tile *t, const float *lse, const float *do_o) {
    if (t->type == BF16)
        t->softcap > 0 ? grad(t, 1, BF16, 0, lse, do_o) : grad(t, 0, BF16, 0, lse, do_o);
    else
        t->softcap > 0 ? grad(t, 1, F32, 0, lse, do_o) : grad(t, 0, F32, 0, lse, do_o);
}

INLINE float dot(const void *a, const void *b, dtype type, int64_t n) {
    floats sum[2] = {{0}, {0}};
    for (int64_t i = 0; i < n; i += LANES)
        sum[i / LANES % 2] = fused(load_n(a, type, i, n - i), load_n(b, type, i, n - i), sum[i / LANES % 2]);
    return lanes_sum(sum[0] + sum[1]);
}

float NAME(dot)(const void *a, const void *b, dtype type, int64_t n) {
    return type == BF16 ? dot(a, b, BF16, n) : dot(a, b, F32, n);
}
