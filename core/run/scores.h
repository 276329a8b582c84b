/* scores — what several models reached on the same records, metric by metric. */
#ifndef GRAFT_RUN_SCORES_H
#define GRAFT_RUN_SCORES_H
#include "metric/bootstrap.h"
#include "run/data-choices.h"

enum { SCORES_METRICS = 32 };

typedef struct {
    char *name, *quantizer; /* of its base, NULL: none                            */
    int64_t targets, tokens,
        written; /* predicted tokens; computed ones; tokens of answers: 0 where they were not asked for */
    double *statistics[SCORES_METRICS]; /* of each metric: (records, its statistics) */
    int64_t records[SCORES_METRICS];
} model_scores;

/* {0} is empty and valid. */
typedef struct {
    const metric *metrics[SCORES_METRICS];
    int32_t metric_count;
    model_scores *models; /* the first is what the others are compared with */
    int64_t count, capacity;
} scores;
model_scores *scores_add(scores *s, const char *name, const char *quantizer); /* valid until the next one */
void scores_free(scores *s);                                                  /* and leaves {0} */

/* Whether a metric of this source is wanted. */
int scores_want(const scores *s, metric_source source);

/* Statistics of all wanted metrics of one source. tokens: each (records, 2) as evaluate gives it. choices: each of the sequences.
 * texts: `next` gives record i. */
void scores_of_tokens(const scores *s, model_scores *m, const double *each, int64_t records);
void scores_of_choices(const scores *s, model_scores *m, const double *each, const question_list *questions);
typedef metric_record answer_of(void *context, int64_t i);
int scores_of_texts(const scores *s, model_scores *m, int64_t records, answer_of *next, void *context,
                    graft_error *err);

typedef struct {
    double value;
    interval of_value;
    int32_t compared; /* 1: with the first model, on the same records */
    double change;
    interval of_change;
    const char *verdict; /* "better", "worse", "unclear": the interval of the change has 0 inside; "" */
} score;
score scores_value(const scores *s, int64_t model, int32_t number); /* number: of the metric */

#endif
