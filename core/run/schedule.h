/* schedule — the learning rate of every step: the warm-up is the core's, what follows the plugin's factor.
 *
 *   lr(s) = lr · s/w  for s < w,  lr · factor(s)  otherwise        s counts steps from 0: the first of a warm-up has rate 0
 *
 * Pure functions: a resumed run has the rates of an uninterrupted one. */
#ifndef GRAFT_RUN_SCHEDULE_H
#define GRAFT_RUN_SCHEDULE_H
#include "plugin/host.h"

typedef struct {
    const plugin_component *component; /* of kind schedule, borrowed; NULL: constant */
    const void *config;                /* its options, borrowed                     */
    double lr;
    int64_t warmup, steps;
} schedule;

double schedule_lr(const schedule *s, int64_t step);

#endif
