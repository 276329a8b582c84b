/* data-choices — questions with several answers to choose from, every answer a sequence that is scored.
 *
 *   {"question": "The sky is", "choices": ["blue", "green"], "answer": 0}
 *   question   or context, query, prompt, ctx: what stands in front, as it is
 *   choices    or endings, options: a list of texts, or {"text": [...], "label": [...]} (ARC)
 *   answer     or gold, label, answerKey: a number from 0, a label, a letter from A, or the text of a choice
 * An answer is the text " " + choice behind the question; white space at the question's end goes to the answer. Its tokens are
 * those of the whole without the first ones, as many as the question alone has. Source: lm-evaluation-harness, api/model.py. */
#ifndef GRAFT_RUN_DATA_CHOICES_H
#define GRAFT_RUN_DATA_CHOICES_H
#include "run/data.h"

typedef struct {
    int64_t first, count; /* sequences of its choices */
    int64_t right;        /* of them, from 0          */
} question;

typedef struct {
    question *at;
    int64_t count, capacity;
    int64_t *characters, *bytes; /* of every choice, without the space */
} question_list;

/* Questions longer than `context` tokens lose their begin. A data_source for validation alone: fetch is NULL. *questions is the
 * source's. Errors name file and line. */
int data_choices_open(const char *path, const char *model_folder, int64_t context, data_source **out,
                      const question_list **questions, graft_error *err);

#endif
