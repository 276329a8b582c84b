/* compare — the same call on two kernel tables, and a bound on how far their results may be apart.
 *
 *   pair p;
 *   pair_open(&p, "cpu", "ref");
 *   twin x = pair_random(&p, BF16, rows * width, 1), y = pair_zeros(&p, OWN, rows * width);
 *   FOR_BOTH(p, k, s) k->some_function(k, x.dev[s], y.dev[s], ...);
 *   pair_expect(&p, &y, 1e-6, "y");
 *   pair_close(&p);
 *
 * A twin is one tensor on both devices with the same values in it. OWN is the `real` type of each table (F32, or F64 on
 * ref64); values are rounded to f32, or to the narrower type asked for, before either side gets them. */
#ifndef GRAFT_TESTS_COMPARE_H
#define GRAFT_TESTS_COMPARE_H
#include "base/memory.h"
#include "base/philox.h"
#include "kernels/kernels.h"
#include <criterion/criterion.h>
#include <stdlib.h>

enum { OWN = DTYPE_COUNT, PAIR_TWINS = 256 };

typedef struct {
    kernels *k[2]; /* tested, reference */
    void *owned[2][PAIR_TWINS];
    int count;
    uint64_t draws;
} pair;

typedef struct {
    void *dev[2];
    dtype type[2];
    int64_t n;
} twin;

#define FOR_BOTH(p, table, s)                                                                                          \
    for (int s = 0; s < 2; s++)                                                                                        \
        for (kernels *table = (p)->k[s]; table; table = NULL)

static inline kernels *open_device(const char *name, team *threads) {
    graft_error err = {0};
    kernels *k = NULL;
    cr_assert_eq(kernels_open(name, threads, &k, &err), 0, "%s", err.text);
    return k;
}

static inline void pair_open(pair *p, const char *tested, const char *reference) {
    *p = (pair){
        .k = {open_device(tested, NULL), open_device(reference, NULL)}
    };
}

/* Releases every twin made so far. */
static inline void pair_release(pair *p) {
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < p->count; i++)
            p->k[s]->release(p->k[s], p->owned[s][i]);
    p->count = 0;
}

static inline void pair_close(pair *p) {
    pair_release(p);
    for (int s = 0; s < 2; s++)
        p->k[s]->close(p->k[s]);
}

static inline twin pair_zeros(pair *p, int type, int64_t n) {
    twin t = {.n = n};
    cr_assert_lt(p->count, PAIR_TWINS);
    for (int s = 0; s < 2; s++) {
        t.type[s] = type == OWN ? p->k[s]->real : (dtype)type;
        t.dev[s] = p->k[s]->alloc(p->k[s], n * dtype_bytes(t.type[s]));
        cr_assert_not_null(t.dev[s]);
        p->owned[s][p->count] = t.dev[s];
    }
    p->count++;
    return t;
}

/* Raw bytes of a type that is the same on both sides. */
static inline twin pair_bytes(pair *p, dtype type, const void *values, int64_t n) {
    const twin t = pair_zeros(p, (int)type, n);
    FOR_BOTH(p, k, s) k->upload(k, t.dev[s], values, n * dtype_bytes(type));
    return t;
}

/* Values of a float type. */
static inline twin pair_put(pair *p, int type, const double *values, int64_t n) {
    const twin t = pair_zeros(p, type, n);
    const dtype narrow = type == OWN || type == F64 ? F32 : (dtype)type;
    void *first = mem_new((size_t)n, 8), *then = mem_new((size_t)n, 8);
    FOR_BOTH(p, k, s) {
        dtype_convert(first, narrow, values, F64, n);
        dtype_convert(then, t.type[s], first, narrow, n);
        k->upload(k, t.dev[s], then, n * dtype_bytes(t.type[s]));
    }
    free(then);
    free(first);
    return t;
}

/* Normal numbers times `spread`; every call draws new ones, every run the same. */
static inline twin pair_random(pair *p, int type, int64_t n, double spread) {
    double *values = mem_new((size_t)n, sizeof *values);
    p->draws++;
    for (int64_t i = 0; i < n; i++)
        values[i] = spread * philox_normal(7, p->draws, (uint64_t)i);
    const twin t = pair_put(p, type, values, n);
    free(values);
    return t;
}

/* Whole numbers 0..below-1 as I32. */
static inline twin pair_indices(pair *p, int64_t n, int32_t below) {
    int32_t *values = mem_new((size_t)n, sizeof *values);
    p->draws++;
    for (int64_t i = 0; i < n; i++)
        values[i] = (int32_t)(philox_bits(7, p->draws, (uint64_t)i) % (uint64_t)below);
    const twin t = pair_bytes(p, I32, values, n);
    free(values);
    return t;
}

/* What side s holds, as doubles owned by the caller. Float types, I32, I8 and U8. */
static inline double *pair_get(const pair *p, const twin *t, int s) {
    kernels *k = p->k[s];
    void *raw = mem_new((size_t)t->n, (size_t)dtype_bytes(t->type[s]));
    double *values = mem_new((size_t)t->n, sizeof *values);
    k->download(k, raw, t->dev[s], t->n * dtype_bytes(t->type[s]));
    dtype_convert(values, F64, raw, t->type[s], t->n);
    free(raw);
    return values;
}

/* |tested - reference| <= bound·(|reference| + rms(reference)), NaN beside NaN; a bound of 0 asks for equal values. The
 * rms carries what cancels in a sum. */
static inline void pair_expect(const pair *p, const twin *t, double bound, const char *what) {
    double *a = pair_get(p, t, 0), *b = pair_get(p, t, 1), square = 0;
    for (int64_t i = 0; i < t->n; i++)
        square += isfinite(b[i]) ? b[i] * b[i] : 0;
    const double rms = t->n ? sqrt(square / (double)t->n) : 0;
    for (int64_t i = 0; i < t->n; i++) {
        const int same = a[i] == b[i] || (isnan(a[i]) && isnan(b[i]));
        cr_assert(same || fabs(a[i] - b[i]) <= bound * (fabs(b[i]) + rms), "%s[%ld]: %s gives %.9g, %s %.9g (bound %g)",
                  what, (long)i, p->k[0]->name, a[i], p->k[1]->name, b[i], bound);
    }
    free(b);
    free(a);
}

#endif
