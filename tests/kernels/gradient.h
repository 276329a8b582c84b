/* gradient — is a backward the derivative of its forward? On ref64, whose device memory a test of ref may read and write.
 *
 * L = <c, y> with a fixed random c. For random directions v: (L(x + h·v) - L(x - h·v)) / 2h against <dL/dx, v>, the
 * difference measured against |dL/dx|·|v|. At h = 1e-5 a right gradient is off by less than 1e-8, a wrong one by 1e-3 and more. */
#ifndef GRAFT_TESTS_GRADIENT_H
#define GRAFT_TESTS_GRADIENT_H
#include "base/memory.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static inline void fill_normal(double *x, int64_t n, uint64_t stream, double spread) {
    for (int64_t i = 0; i < n; i++)
        x[i] = spread * philox_normal(11, stream, (uint64_t)i);
}

static inline double *new_normal(int64_t n, uint64_t stream, double spread) {
    double *x = mem_new((size_t)n, sizeof *x);
    fill_normal(x, n, stream, spread);
    return x;
}

static inline double dot_product(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* x (n) are the variables, left as they were; `loss(context)` reads them. */
static inline void expect_gradient(const char *what, double *x, const double *gradient, int64_t n,
                                   double (*loss)(void *context), void *context) {
    const double h = 1e-5, length = sqrt(dot_product(gradient, gradient, n));
    cr_assert(length > 0, "%s: the gradient is zero", what);
    double *kept = mem_new((size_t)n, sizeof *kept), *v = mem_new((size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        kept[i] = x[i];
    for (uint64_t direction = 0; direction < 6; direction++) {
        fill_normal(v, n, 1000 + direction, 1);
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (int64_t i = 0; i < n; i++)
                x[i] = kept[i] + (s ? -h : h) * v[i];
            side[s] = loss(context);
        }
        const double difference = (side[0] - side[1]) / (2 * h), derivative = dot_product(gradient, v, n);
        const double error = fabs(difference - derivative) / (length * sqrt(dot_product(v, v, n)));
        cr_assert(error <= 1e-6, "%s: derivative %.9g, difference %.9g, error %.2g", what, derivative, difference,
                  error);
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = kept[i];
    free(v);
    free(kept);
}

#endif
