/* prompts — what graft generate goes on from: texts, ids, a file of prompts, conversations. */
#ifndef GRAFT_CLI_PROMPTS_H
#define GRAFT_CLI_PROMPTS_H
#include "run/session.h"
#include "text/tokenizer.h"

typedef struct {
    char *text; /* NULL: ids were given */
    int32_t *ids;
    int64_t count;
} prompt;

typedef struct {
    prompt *at;
    int64_t count, capacity;
    int64_t longest;  /* tokens */
    int32_t turn_end; /* the token with which the template of the conversations ends an answer, -1: none */
} prompts;

/* Each NULL when not given; all that are given are read, in this order. */
typedef struct {
    const char *ids;      /* "1,2,3" */
    const char *text;     /* a prompt */
    const char *file;     /* one prompt a line: JSON strings, or plain lines */
    const char *messages; /* JSON: a conversation, or one a line */
    const char *template; /* of conversations, as chat_open takes it */
} prompt_sources;

/* *out is {0}; prompts_free in any case. Errors name the place; a prompt that is empty or too long for the model is one. */
int prompts_read(const prompt_sources *from, const tokenizer *t, const session *s, prompts *out, graft_error *err);
void prompts_free(prompts *p);

#endif
