/* bootstrap — see bootstrap.h. */
#include "metric/bootstrap.h"
#include "base/philox.h"
#include <math.h>
#include <stdlib.h>

static const uint64_t seed = 0x677261667421u; /* the same for every metric and model: comparisons are paired */

static void add(double *sums, const double *statistics, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        sums[i] += statistics[i];
}

double bootstrap_value(const metric *m, const double *statistics, int64_t records) {
    double sums[METRIC_STATISTICS] = {0};
    for (int64_t r = 0; r < records; r++)
        add(sums, statistics + r * m->statistics, m->statistics);
    return m->value(m, sums);
}

static double draw(const metric *m, const double *statistics, const double *base, int64_t records, uint64_t number) {
    double sums[METRIC_STATISTICS] = {0}, base_sums[METRIC_STATISTICS] = {0};
    for (int64_t r = 0; r < records; r++) {
        const int64_t at = (int64_t)(philox_bits(seed, number, (uint64_t)r) % (uint64_t)records) * m->statistics;
        add(sums, statistics + at, m->statistics);
        if (base) add(base_sums, base + at, m->statistics);
    }
    return m->value(m, sums) - (base ? m->value(m, base_sums) : 0);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the two values around it. */
static double percentile(const double *sorted, int64_t count, double share) {
    const double at = share * (double)(count - 1);
    const int64_t below = (int64_t)at;
    const double step = below + 1 < count ? sorted[below + 1] - sorted[below] : 0;
    return sorted[below] + (step > 0 ? step * (at - (double)below) : 0);
}

interval bootstrap(const metric *m, const double *statistics, const double *base, int64_t records) {
    double *values = mem_new(BOOTSTRAP_DRAWS, sizeof *values);
    int64_t count = 0;
    for (int64_t d = 0; d < BOOTSTRAP_DRAWS && records > 0; d++) {
        const double value = draw(m, statistics, base, records, (uint64_t)d);
        if (value == value) values[count++] = value; /* not where nothing that was drawn has a target */
    }
    qsort(values, (size_t)count, sizeof *values, ascending);
    const interval out =
        count ? (interval){percentile(values, count, 0.025), percentile(values, count, 0.975)} : (interval){NAN, NAN};
    free(values);
    return out;
}
