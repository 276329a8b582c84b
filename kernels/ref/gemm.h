/* gemm — products of matrices.
 *
 *   c[i,j] (+)= alpha · Σ_p a[i,p]·b[p,j]          for every matrix of the batch
 *   a one-hot (m,k):            c[i,:]         (+)= alpha · b[onehot[i],:]      a gather
 *   a one-hot (k,m), transposed: c[onehot[p],:] (+)= alpha · b[p,:], p ascending   a scatter-add */

enum { NARROW = 64 }; /* an operand one of whose sides is at most this is small: rounding it would save nothing */

/* The (rows, columns) matrix `batch` as dense reals. Beside a BF16 partner an F32 operand is rounded to BF16, unless narrow. */
static real *gemm_operand(const matrix *m, dtype partner, int64_t batch, int64_t rows, int64_t columns) {
    real *to = mem_new((size_t)(rows * columns), sizeof *to);
    const int round = m->type == F32 && partner == BF16 && rows > NARROW && columns > NARROW;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const real v = load(m->data, m->type, batch * m->batch + i * m->row + j * m->col);
            to[i * columns + j] = round ? rounded(BF16, v) : v;
        }
    return to;
}

static void gemm_store(const gemm_call *g, int64_t batch, int64_t i, int64_t j, wide v, int accumulate) {
    const int64_t at = batch * g->c_batch + i * g->c_row + j * g->c_col;
    store(g->c, g->c_type, at, accumulate ? load(g->c, g->c_type, at) + g->alpha * v : g->alpha * v);
}

static void gemm_dense(const gemm_call *g, int64_t batch) {
    const int64_t m = g->m, n = g->n, k = g->k;
    real *a = gemm_operand(&g->a, g->b.type, batch, m, k), *b = gemm_operand(&g->b, g->a.type, batch, k, n);
    wide *sum = mem_new((size_t)n, sizeof *sum);
    for (int64_t i = 0; i < m; i++) {
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t p = 0; p < k; p++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += (wide)a[i * k + p] * b[p * n + j];
        for (int64_t j = 0; j < n; j++)
            gemm_store(g, batch, i, j, sum[j], g->accumulate);
    }
    free(sum);
    free(b);
    free(a);
}

static void gemm_gather(const gemm_call *g, int64_t batch) {
    const matrix *b = &g->b;
    for (int64_t i = 0; i < g->m; i++) {
        const int64_t p = g->a.onehot[i];
        assert(p < g->k);
        for (int64_t j = 0; j < g->n; j++)
            gemm_store(g, batch, i, j, p < 0 ? 0 : load(b->data, b->type, batch * b->batch + p * b->row + j * b->col),
                       g->accumulate);
    }
}

static void gemm_scatter(const gemm_call *g, int64_t batch) {
    const matrix *b = &g->b;
    for (int64_t i = 0; i < g->m && !g->accumulate; i++)
        for (int64_t j = 0; j < g->n; j++)
            gemm_store(g, batch, i, j, 0, 0);
    for (int64_t p = 0; p < g->k; p++) {
        const int64_t i = g->a.onehot[p];
        assert(i < g->m);
        for (int64_t j = 0; i >= 0 && j < g->n; j++)
            gemm_store(g, batch, i, j, load(b->data, b->type, batch * b->batch + p * b->row + j * b->col), 1);
    }
}

static void ref_gemm(kernels *k, const gemm_call *g) {
    (void)k;
    assert(!g->b.onehot);
    for (int64_t batch = 0; batch < g->batch; batch++)
        if (!g->a.onehot)
            gemm_dense(g, batch);
        else if (g->onehot_transposed)
            gemm_scatter(g, batch);
        else
            gemm_gather(g, batch);
}
