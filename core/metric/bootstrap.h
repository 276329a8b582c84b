/* bootstrap — how sure a value is: its 95 % interval under resampling of the records. Efron, 1979, "Bootstrap methods: another look
 * at the jackknife"; for BLEU and the like Koehn, 2004, "Statistical significance tests for machine translation evaluation".
 *
 * 1000 times as many records as there are are drawn with replacement, by Philox of a fixed seed, and the value of their sums is taken;
 * the interval reaches from the 2.5th to the 97.5th percentile. Two models are compared on the same draws: the interval of the
 * difference then knows that a record which is hard for one is hard for the other. */
#ifndef GRAFT_METRIC_BOOTSTRAP_H
#define GRAFT_METRIC_BOOTSTRAP_H
#include "metric/metric.h"

enum { BOOTSTRAP_DRAWS = 1000 };

typedef struct {
    double low, high; /* NaN without a record to draw */
} interval;

/* statistics: (records, m->statistics). base NULL: the interval of the value; else of value(statistics) - value(base). */
interval bootstrap(const metric *m, const double *statistics, const double *base, int64_t records);
/* The value of all records. */
double bootstrap_value(const metric *m, const double *statistics, int64_t records);

#endif
