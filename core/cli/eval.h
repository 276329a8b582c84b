/* eval — what the files of `graft eval` share. */
#ifndef GRAFT_CLI_EVAL_H
#define GRAFT_CLI_EVAL_H
#include "base/file.h"
#include "cli/cli.h"
#include "run/scores.h"
#include "run/tasks.h"

enum { EVAL_MOST = 64 }; /* of --predictions and of --stop */
typedef struct {
    const char *data, *text, *metrics, *predictions[EVAL_MOST], *stops[EVAL_MOST];
    int prediction_count, stop_count, together;
    int64_t max_length, max_new, batch, context, stride; /* context, stride: 0, as the model says */
} eval_wishes;

typedef struct {
    const eval_wishes *wishes;
    const cli_options *o;
    registry *plugins;
    recipe *settings; /* of the data; NULL where it is no training data */
    scores *scores;
    file_writer *output; /* of --output; NULL: none */
} evaluating;

/* eval-model.c: the model alone and with each of the first `adapters` adapters alone, or with all of them, to e->scores. Adapters whose training quantized
 * the base are measured on that base, which has a row of its own. */
int eval_model(evaluating *e, const char *folder, int adapters, graft_error *err);
/* eval-report.c */
void eval_print(const scores *s, int json);
/* Writes one line of --output for each record of a model. */
int eval_write_answers(const evaluating *e, int64_t number, int64_t records, answer_of *next, void *context,
                       graft_error *err);
int eval_write_choices(const evaluating *e, int64_t number, const double *each, const question_list *questions,
                       graft_error *err);

#endif
