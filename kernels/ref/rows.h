/* rows — the small things between the blocks: sums, picked and scattered rows, dropout. */

static void ref_add(kernels *k, void *y, const void *x, dtype type, int64_t n) {
    (void)k;
    for (int64_t i = 0; i < n; i++)
        store(y, type, i, load(y, type, i) + load(x, type, i));
}

static void ref_scale(kernels *k, void *x, dtype type, int64_t n, double factor) {
    (void)k;
    for (int64_t i = 0; i < n; i++)
        store(x, type, i, load(x, type, i) * (real)factor);
}

static double ref_sqnorm(kernels *k, const void *x, dtype type, int64_t n) {
    (void)k;
    wide sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (wide)load(x, type, i) * load(x, type, i);
    return sum;
}

static void ref_column_sum(kernels *k, const void *x, dtype type, int64_t rows, int64_t width, void *sums) {
    (void)k;
    for (int64_t j = 0; j < width; j++) {
        wide sum = ((const real *)sums)[j];
        for (int64_t n = 0; n < rows; n++)
            sum += load(x, type, n * width + j);
        ((real *)sums)[j] = (real)sum;
    }
}

static void ref_scatter_rows(kernels *k, const int32_t *ids, const void *dy, dtype type, int64_t rows, int64_t width,
                             double scale, int64_t skip, void *table_grad) {
    (void)k;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < width && ids[n] != skip; j++)
            ((real *)table_grad)[ids[n] * width + j] += (real)scale * load(dy, type, n * width + j);
}

static void ref_pick_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                          dtype type) {
    (void)k;
    const size_t bytes = (size_t)width * (size_t)dtype_bytes(type);
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)to + (size_t)i * bytes, (const char *)from + (size_t)rows[i] * bytes, bytes);
}

static void ref_place_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                           dtype type) {
    (void)k;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++) {
            const int64_t at = rows[i] * width + j;
            store(to, type, at, load(to, type, at) + load(from, type, i * width + j));
        }
}

/* Inverted dropout: what stays grows by 1/(1 - p). Srivastava et al., 2014. The mask's rule is kernels/dropout.h. */
static void ref_dropout(kernels *k, const void *x, void *y, dtype type, int64_t rows, int64_t width, double p,
                        uint64_t seed, uint64_t stream, const int64_t *row_key, int32_t accumulate) {
    (void)k;
    const uint32_t dropped = dropout_threshold(p);
    const real grown = (real)(1 / (1 - p));
    for (int64_t n = 0; n < rows; n++) {
        const uint64_t row = dropout_row(seed, stream, row_key[n]);
        for (int64_t j = 0; j < width; j++) {
            const int64_t at = n * width + j;
            const real v = dropout_words(row, j / 4).v[j % 4] < dropped ? 0 : load(x, type, at) * grown;
            store(y, type, at, accumulate ? load(y, type, at) + v : v);
        }
    }
}
