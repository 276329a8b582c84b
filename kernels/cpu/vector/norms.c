/* norms — rows normalised, forward and backward. Equals kernels/ref/norms.h (the formulas stand there) with sums in f32 over
 * four vectors: relative error of mean and r about (width / (8·LANES) + 8)·2^-24. */
#include "kernels/cpu/vector/table.h"

enum { SUMS = 4 };

typedef struct {
    float mean, r;
} statistics;

INLINE float all_sums(const floats sum[SUMS]) {
    return lanes_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE statistics row_statistics(norm_kind kind, const void *x, dtype type, int64_t width, double eps) {
    float mean = 0;
    if (kind == NORM_LAYER) {
        floats sum[SUMS] = {{0}};
        for (int64_t j = 0; j < width; j += LANES)
            sum[j / LANES % SUMS] += load_n(x, type, j, width - j);
        mean = all_sums(sum) / (float)width;
    }
    floats square[SUMS] = {{0}};
    for (int64_t j = 0; j < width; j += LANES) {
        floats v = load_n(x, type, j, width - j);
        if (kind == NORM_LAYER) v = first_lanes(v - mean, width - j, 0);
        square[j / LANES % SUMS] = fused(v, v, square[j / LANES % SUMS]);
    }
    return (statistics){mean, (float)(1 / __builtin_sqrt((double)all_sums(square) / (double)width + eps))};
}

/* x̂; RMS rounds it to the activation type before it meets the weight. */
INLINE floats hat_of(norm_kind kind, const statistics *s, dtype type, floats x) {
    if (kind == NORM_LAYER) return (x - s->mean) * s->r;
    const floats hat = x * s->r;
    return kind == NORM_RMS && type == BF16 ? widen_bf16(narrow_bf16(hat)) : hat;
}

INLINE floats slope_of(norm_kind kind, const float *w, int64_t j, int64_t n) {
    const floats v = load_n(w, F32, j, n);
    return kind == NORM_RMS_ONE_PLUS ? 1 + v : v;
}

INLINE void forward_row(norm_kind kind, const void *x, const float *w, const float *b, double eps, void *y, dtype type,
                        int64_t width) {
    const statistics s = row_statistics(kind, x, type, width, eps);
    for (int64_t j = 0; j < width; j += LANES) {
        const int64_t n = width - j;
        floats v = slope_of(kind, w, j, n) * hat_of(kind, &s, type, load_n(x, type, j, n));
        if (b) v += load_n(b, F32, j, n);
        store_n(y, type, j, n, v);
    }
}

INLINE void backward_row(norm_kind kind, const void *x, const float *w, double eps, const void *dy, void *dx, float *dw,
                         float *db, dtype type, int64_t width, int32_t accumulate) {
    const statistics s = row_statistics(kind, x, type, width, eps);
    floats sum_g[SUMS] = {{0}}, sum_gx[SUMS] = {{0}};
    for (int64_t j = 0; j < width; j += LANES) {
        const int64_t n = width - j;
        const floats hat = hat_of(kind, &s, type, load_n(x, type, j, n)), d = load_n(dy, type, j, n);
        const floats g = d * slope_of(kind, w, j, n); /* 0 past the end, because d is */
        sum_g[j / LANES % SUMS] += g;
        sum_gx[j / LANES % SUMS] = fused(g, hat, sum_gx[j / LANES % SUMS]);
        if (dw) store_n(dw, F32, j, n, load_n(dw, F32, j, n) + d * hat);
        if (db) store_n(db, F32, j, n, load_n(db, F32, j, n) + d);
    }
    if (!dx) return;
    const float mean_g = kind == NORM_LAYER ? all_sums(sum_g) / (float)width : 0,
                mean_gx = all_sums(sum_gx) / (float)width;
    for (int64_t j = 0; j < width; j += LANES) {
        const int64_t n = width - j;
        const floats hat = hat_of(kind, &s, type, load_n(x, type, j, n));
        const floats g = load_n(dy, type, j, n) * slope_of(kind, w, j, n);
        floats d = s.r * (g - mean_g - hat * mean_gx);
        if (accumulate) d += load_n(dx, type, j, n);
        store_n(dx, type, j, n, d);
    }
}

INLINE void forward(norm_kind kind, const void *x, const float *w, const float *b, double eps, void *y, dtype type,
                    int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        forward_row(kind, place(x, type, i * width), w, b, eps, place_out(y, type, i * width), type, width);
}

INLINE void backward(norm_kind kind, const void *x, const float *w, double eps, const void *dy, void *dx, float *dw,
                     float *db, dtype type, int64_t rows, int64_t width, int32_t accumulate) {
    for (int64_t i = 0; i < rows; i++)
        backward_row(kind, place(x, type, i * width), w, eps, place(dy, type, i * width),
                     dx ? place_out(dx, type, i * width) : NULL, dw, db, type, width, accumulate);
}

void NAME(norm_forward)(norm_kind kind, const void *x, const float *w, const float *b, double eps, void *y, dtype type,
                        int64_t rows, int64_t width) {
    if (type == BF16)
        kind == NORM_RMS            ? forward(NORM_RMS, x, w, b, eps, y, BF16, rows, width)
        : kind == NORM_RMS_ONE_PLUS ? forward(NORM_RMS_ONE_PLUS, x, w, b, eps, y, BF16, rows, width)
                                    : forward(NORM_LAYER, x, w, b, eps, y, BF16, rows, width);
    else
        kind == NORM_RMS            ? forward(NORM_RMS, x, w, b, eps, y, F32, rows, width)
        : kind == NORM_RMS_ONE_PLUS ? forward(NORM_RMS_ONE_PLUS, x, w, b, eps, y, F32, rows, width)
                                    : forward(NORM_LAYER, x, w, b, eps, y, F32, rows, width);
}

void NAME(norm_backward)(norm_kind kind, const void *x, const float *w, double eps, const void *dy, void *dx, float *dw,
                         float *db, dtype type, int64_t rows, int64_t width, int32_t accumulate) {
    if (type == BF16)
        kind == NORM_RMS ? backward(NORM_RMS, x, w, eps, dy, dx, dw, db, BF16, rows, width, accumulate)
        : kind == NORM_RMS_ONE_PLUS
            ? backward(NORM_RMS_ONE_PLUS, x, w, eps, dy, dx, dw, db, BF16, rows, width, accumulate)
            : backward(NORM_LAYER, x, w, eps, dy, dx, dw, db, BF16, rows, width, accumulate);
    else
        kind == NORM_RMS ? backward(NORM_RMS, x, w, eps, dy, dx, dw, db, F32, rows, width, accumulate)
        : kind == NORM_RMS_ONE_PLUS
            ? backward(NORM_RMS_ONE_PLUS, x, w, eps, dy, dx, dw, db, F32, rows, width, accumulate)
            : backward(NORM_LAYER, x, w, eps, dy, dx, dw, db, F32, rows, width, accumulate);
}
