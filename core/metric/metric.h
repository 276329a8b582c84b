/* metric — how good an answer is: texts in, numbers out.
 *
 * Every metric is a row of statistics for each record and a function of their sums over records. So the value of any subset
 * of the records costs additions alone, and with it a bootstrap (bootstrap.h); and the corpus metrics (BLEU, chrF), which are
 * no means over records, look like the others. Texts are valid UTF-8. Threads: everything here is a pure function. */
#ifndef GRAFT_METRIC_METRIC_H
#define GRAFT_METRIC_METRIC_H
#include "base/error.h"
#include "base/memory.h"
#include <stdint.h>

enum { METRIC_STATISTICS = 24 };

typedef struct {
    const char *text; /* borrowed */
    int64_t length;
} metric_text;

typedef struct {
    metric_text prediction;
    const metric_text *references;
    int64_t count;      /* of references, at least 1   */
    const char *prompt; /* for people; NULL: not known */
} metric_record;

/* What the statistics of a metric come from. */
typedef enum {
    METRIC_OF_TOKENS, /* {-log p summed over the targets, targets}                       */
    METRIC_OF_CHOICE, /* {1 when the right choice has the largest score, else 0; 1}      */
    METRIC_OF_TEXT    /* add()                                                           */
} metric_source;

typedef struct metric metric;
struct metric {
    const char *name, *brief; /* brief: one line for people, with the source */
    metric_source source;
    int32_t lower_is_better;
    int32_t variant;    /* for add and value                              */
    int32_t statistics; /* how many                                       */
    /* Writes the statistics of a record; METRIC_OF_TEXT only. The one error is a text that is too long. */
    int (*add)(const metric *m, const metric_record *r, double *statistics, graft_error *err);
    /* Of the sums of the statistics; NaN where there is nothing to measure. */
    double (*value)(const metric *m, const double *sums);
    /* The same of one record alone, where that has rules of its own; NULL: value. */
    double (*record_value)(const metric *m, const double *statistics);
};

extern const metric metrics[];
extern const int32_t metric_count;

/* "bleu", or several separated by commas ("rouge1,rougeL"); "gsm8k" and "rouge" stand for all of theirs. Adds what is not there yet
 * to list (room for metric_count). An unknown name is GRAFT_USAGE and lists what there is. */
int metric_choose(const char *names, const metric **list, int32_t *count, graft_error *err);

double metric_mean(const metric *m, const double *sums); /* sums[0] / sums[1] */
double metric_of_record(const metric *m, const double *statistics);

/* What stands in the table. */
int bleu_add(const metric *m, const metric_record *r, double *statistics, graft_error *err);
double bleu_value(const metric *m, const double *sums);
double bleu_record_value(const metric *m, const double *statistics);
int chrf_add(const metric *m, const metric_record *r, double *statistics, graft_error *err);
double chrf_value(const metric *m, const double *sums);
int rouge_add(const metric *m, const metric_record *r, double *statistics, graft_error *err);
int answer_add(const metric *m, const metric_record *r, double *statistics, graft_error *err);

/* What divides the scores of choices: variant of METRIC_OF_CHOICE. */
enum { CHOICE_BY_NOTHING, CHOICE_BY_CHARACTERS, CHOICE_BY_BYTES };
/* Which of the choices has the largest score / length (length NULL: largest score), the first of equals. */
int64_t choice_best(const double *scores, const int64_t *lengths, int64_t count);

#endif
