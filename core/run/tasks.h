/* tasks — validation records as tasks: what a model is given, what it writes, and what it should have written. */
#ifndef GRAFT_RUN_TASKS_H
#define GRAFT_RUN_TASKS_H
#include "metric/metric.h"
#include "model/generate.h"
#include "run/data-text.h"

/* Texts and ids are the list's. */
typedef struct {
    const char *prompt; /* as the tokenizer reads it */
    const int32_t *ids;
    int64_t count; /* at least 1 */
    metric_text reference;
    metric_text answer; /* of the model asked last */
} task;

typedef struct {
    task *at;
    int64_t count, capacity;
    int64_t longest; /* prompt, tokens */
    const tokenizer *words;
    const text_ends *ends;
    arena memory;
    strbuf answers; /* all texts of the last model */
} task_list;

/* The tasks of a source that data_text_open gave. A record with a completion asks with its prompt; a conversation with all but its
 * last message, up to where the model answers, in its chat template. *out is {0}, freed in any case; it borrows from the source.
 * Errors: a record that is one text, a conversation that ends with no answer, an empty prompt. */
int tasks_read(data_source *d, task_list *out, graft_error *err);
void tasks_free(task_list *t);

typedef struct {
    int64_t max_new, room;    /* tokens of an answer; of prompt and answer */
    const char *const *stops; /* an answer ends in front of the first of these texts */
    int32_t stop_count;
} task_settings;

/* Lets the model, with the adapters that are enabled, answer every task: the best token each time (greedy), until it ends the text. The
 * workspace has `batch` documents, and as many answers are written at a time. Replaces the answers. *tokens: how many were written. */
int tasks_answer(task_list *t, workspace *w, int64_t batch, const task_settings *settings, int64_t *tokens,
                 graft_error *err);

#endif
