/* evaluate — loss and perplexity over a validation set: every target counts once, dropout is off. */
#ifndef GRAFT_RUN_EVALUATE_H
#define GRAFT_RUN_EVALUATE_H
#include "model/model.h"
#include "run/data.h"
#include "run/slices.h"

typedef struct {
    double nll; /* sum of -log p over the targets                */
    int64_t targets;
    int64_t tokens;    /* computed                                      */
    double loss;       /* nll / targets, NaN without any                */
    double perplexity; /* exp(loss)                                    */
} evaluation;

/* Over all d->eval_count sequences, with the adapters that are enabled. An empty set gives 0 targets. each: (eval_count, 2), zeroed,
 * gets of every sequence the sum of -log p and the number of its targets; NULL: nobody asks. */
int evaluate(workspace *w, data_source *d, const slice_limits *limits, double *each, evaluation *out, graft_error *err);

#endif
