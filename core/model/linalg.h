/* linalg — the decompositions plugins may ask for, in double on the host, through LAPACK. */
#ifndef GRAFT_MODEL_LINALG_H
#define GRAFT_MODEL_LINALG_H
#include "base/error.h"
#include <stdint.h>

/* The r largest singular triplets of a (m, n), r <= min(m, n): u (m, r), s (r) descending, vt (r, n); all row-major. From the
 * eigenpairs of the smaller Gram matrix, so values below 1e-8 of the largest are not resolved. r beyond the rank gives zeros. */
int linalg_svd(const double *a, int64_t m, int64_t n, int64_t r, double *u, double *s, double *vt, graft_error *err);

/* Thin QR of a (m, n), k = min(m, n): q (m, k), r (k, n). */
int linalg_qr(const double *a, int64_t m, int64_t n, double *q, double *r, graft_error *err);

#endif
