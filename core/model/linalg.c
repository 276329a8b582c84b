#include "model/linalg.h"
#include "base/memory.h"
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With g = a·aᵀ (m <= n) = u·s²·uᵀ: vt = s⁻¹·uᵀ·a. The wide case is the transposed one. */
int linalg_svd(const double *a, int64_t m, int64_t n, int64_t r, double *u, double *s, double *vt, graft_error *err) {
    const int wide = m <= n;
    const int64_t k = wide ? m : n, want = r < k ? r : k;
    memset(u, 0, (size_t)(m * r) * sizeof *u);
    memset(s, 0, (size_t)r * sizeof *s);
    memset(vt, 0, (size_t)(r * n) * sizeof *vt);
    if (want <= 0) return GRAFT_OK;
    double *gram = mem_new((size_t)(k * k), sizeof *gram), *values = mem_new((size_t)k, sizeof *values);
    double *vectors = mem_new((size_t)(k * want), sizeof *vectors);
    lapack_int *support = mem_new((size_t)(2 * k), sizeof *support), found = 0;
    cblas_dsyrk(CblasRowMajor, CblasUpper, wide ? CblasNoTrans : CblasTrans, (int)k, (int)(wide ? n : m), 1.0, a,
                (int)n, 0.0, gram, (int)k);
    const lapack_int info = LAPACKE_dsyevr(LAPACK_ROW_MAJOR, 'V', 'I', 'U', (lapack_int)k, gram, (lapack_int)k, 0, 0,
                                           (lapack_int)(k - want + 1), (lapack_int)k, 0.0, &found, values, vectors,
                                           (lapack_int)want, support);
    if (info != 0 || found != want) {
        fail(err, GRAFT_FAILED, "singular values of a %lld x %lld matrix: LAPACK dsyevr answered %d", (long long)m,
             (long long)n, (int)info);
        goto done;
    }
    const double floor_value = 1e-10 * sqrt(fmax(values[want - 1], 0));
    double *left = mem_new((size_t)(k * want), sizeof *left); /* (k, want), largest first */
    for (int64_t j = 0; j < want; j++) {
        const int64_t from = want - 1 - j; /* LAPACK counts upwards */
        s[j] = sqrt(fmax(values[from], 0));
        for (int64_t i = 0; i < k; i++)
            left[i * want + j] = vectors[i * want + from];
    }
    for (int64_t j = 0; j < want; j++) {
        const double inverse = s[j] > floor_value && s[j] > 0 ? 1 / s[j] : 0;
        for (int64_t i = 0; i < k; i++) {
            if (wide)
                u[i * r + j] = left[i * want + j];
            else
                vt[j * n + i] = left[i * want + j];
        }
        if (wide) /* vt[j,:] = leftᵀ·a / s */
            cblas_dgemv(CblasRowMajor, CblasTrans, (int)m, (int)n, inverse, a, (int)n, left + j, (int)want, 0.0,
                        vt + j * n, 1);
        else /* u[:,j] = a·right / s */
            cblas_dgemv(CblasRowMajor, CblasNoTrans, (int)m, (int)n, inverse, a, (int)n, left + j, (int)want, 0.0,
                        u + j, (int)r);
    }
    free(left);
done:
    free(gram);
    free(values);
    free(vectors);
    free(support);
    return err->code;
}

int linalg_qr(const double *a, int64_t m, int64_t n, double *q, double *r, graft_error *err) {
    const int64_t k = m < n ? m : n;
    if (k == 0) return GRAFT_OK;
    double *work = mem_new((size_t)(m * n), sizeof *work), *tau = mem_new((size_t)k, sizeof *tau);
    memcpy(work, a, (size_t)(m * n) * sizeof *work);
    lapack_int info = LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, (lapack_int)m, (lapack_int)n, work, (lapack_int)n, tau);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++)
            r[i * n + j] = j < i ? 0 : work[i * n + j];
    if (info == 0)
        info = LAPACKE_dorgqr(LAPACK_ROW_MAJOR, (lapack_int)m, (lapack_int)k, (lapack_int)k, work, (lapack_int)n, tau);
    for (int64_t i = 0; i < m; i++)
        memcpy(q + i * k, work + i * n, (size_t)k * sizeof *q);
    free(work);
    free(tau);
    return info == 0 ? GRAFT_OK
                     : fail(err, GRAFT_FAILED, "QR of a %lld x %lld matrix: LAPACK answered %d", (long long)m,
                            (long long)n, (int)info);
}
