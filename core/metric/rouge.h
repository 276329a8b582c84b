/* rouge — precision, recall and F1 of one answer and one reference. */
#ifndef GRAFT_METRIC_ROUGE_H
#define GRAFT_METRIC_ROUGE_H
#include "metric/metric.h"

enum { ROUGE_L = 10, ROUGE_LSUM }; /* 1 .. 9: runs of so many words */

typedef struct {
    double precision, recall, f;
} rouge_score;

/* The one error is a text whose lines are too long for ROUGE_LSUM. */
int rouge(int32_t variant, const metric_text *answer, const metric_text *reference, rouge_score *out, graft_error *err);

#endif
