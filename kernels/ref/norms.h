/* norms — normalisation of rows.
 *
 *   RMS           y = w·x̂              x̂ = x·r, rounded to the activation type first   r = 1/sqrt(mean(x²) + eps)
 *   RMS_ONE_PLUS  y = (1 + w)·x̂        x̂ = x·r
 *   LAYER         y = w·x̂ + b          x̂ = (x - mean)·r                                r = 1/sqrt(mean((x - mean)²) + eps)
 *
 *   g = dy·∂y/∂x̂     RMS: dx = r·(g - x̂·mean(g·x̂))     LAYER: dx = r·(g - mean(g) - x̂·mean(g·x̂))
 *   dw += Σ_rows dy·x̂     db += Σ_rows dy
 * Sources: Zhang and Sennrich, 2019, arXiv:1910.07467; Ba et al., 2016, arXiv:1607.06450; the plain and the one-plus form
 * are those of Llama and Gemma. */

typedef struct {
    real mean, r;
} norm_statistics;

static norm_statistics norm_row(norm_kind kind, const void *x, dtype type, int64_t first, int64_t width, double eps) {
    wide mean = 0, square = 0;
    for (int64_t j = 0; j < width && kind == NORM_LAYER; j++)
        mean += load(x, type, first + j) / (wide)width;
    for (int64_t j = 0; j < width; j++) {
        const wide v = load(x, type, first + j) - mean;
        square += v * v;
    }
    return (norm_statistics){(real)mean, (real)(1 / sqrt(square / (wide)width + eps))};
}

/* x̂ of one element. */
static real norm_hat(norm_kind kind, const norm_statistics *s, dtype type, real x) {
    const real hat = (x - s->mean) * s->r;
    return kind == NORM_RMS ? rounded(type, hat) : hat;
}

static real norm_slope(norm_kind kind, const real *w, int64_t j) {
    return kind == NORM_RMS_ONE_PLUS ? 1 + w[j] : w[j];
}

static void ref_norm_forward(kernels *k, norm_kind kind, const void *x, const void *w, const void *b, double eps,
                             void *y, dtype type, int64_t rows, int64_t width) {
    (void)k;
    for (int64_t n = 0; n < rows; n++) {
        const norm_statistics s = norm_row(kind, x, type, n * width, width, eps);
        for (int64_t j = 0; j < width; j++) {
            const real hat = norm_hat(kind, &s, type, load(x, type, n * width + j));
            store(y, type, n * width + j, norm_slope(kind, w, j) * hat + (b ? ((const real *)b)[j] : 0));
        }
    }
}

static void ref_norm_backward(kernels *k, norm_kind kind, const void *x, const void *w, double eps, const void *dy,
                              void *dx, void *dw, void *db, dtype type, int64_t rows, int64_t width,
                              int32_t accumulate) {
    (void)k;
    for (int64_t n = 0; n < rows; n++) {
        const int64_t first = n * width;
        const norm_statistics s = norm_row(kind, x, type, first, width, eps);
        wide mean_g = 0, mean_gx = 0;
        for (int64_t j = 0; j < width; j++) {
            const real hat = norm_hat(kind, &s, type, load(x, type, first + j)), d = load(dy, type, first + j);
            const wide g = (wide)d * norm_slope(kind, w, j);
            mean_g += kind == NORM_LAYER ? g / (wide)width : 0;
            mean_gx += g * hat / (wide)width;
            if (dw) ((real *)dw)[j] += d * hat;
            if (db) ((real *)db)[j] += d;
        }
        for (int64_t j = 0; dx && j < width; j++) {
            const real hat = norm_hat(kind, &s, type, load(x, type, first + j));
            const wide g = (wide)load(dy, type, first + j) * norm_slope(kind, w, j);
            const wide d = s.r * (g - mean_g - hat * mean_gx);
            store(dx, type, first + j, accumulate ? load(dx, type, first + j) + d : d);
        }
    }
}
