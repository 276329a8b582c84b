/* talk — a conversation with a model and its adapters: history, cache, what ends an answer. */
#ifndef GRAFT_CLI_TALK_H
#define GRAFT_CLI_TALK_H
#include "cli/sampling.h"
#include "run/session.h"
#include "text/chat.h"
#include "text/ends.h"

typedef struct {
    const char *system, *template;
    int64_t context;
    sampling_wishes sampling;
} talk_wishes;

typedef struct {
    session session;
    const char *folder;
    const char *const *adapters; /* folders */
    int32_t adapter_count;
    tokenizer *words;
    chat *chat;
    text_ends ends;
    strbuf head, tail; /* what the template writes between generation prompt and answer, and behind it */
    workspace *space;
    kv_cache *cache;
    int64_t context, max_new; /* context: of the adapters that are on */
    int64_t wanted;           /* context without their virtual rows */
    sample_settings settings;
    json_t *history; /* {"messages": [...]} */
    char *system;    /* NULL: none */
} talk;

/* `t` holds folder, adapters and the opened session; talk_close in any case. */
int talk_open(talk *t, const talk_wishes *w, graft_error *err);
void talk_close(talk *t);

const char *talk_adapter_name(const talk *t, int32_t i, int *length); /* the last part of its path */
/* `name`: that of a folder, its number, "all" or "none". 0 when there is no such adapter. The cache is dropped: other keys. */
int talk_switch(talk *t, const char *name, graft_error *err);

/* Answers a message on stdout as it is written; both become part of the history, unless that fails. Only what the cache does not
 * hold is computed. The oldest turns are forgotten, with a warning, when the context is full. */
int talk_answer(talk *t, const char *question, size_t length, graft_error *err);

/* A handler of SIGINT that ends the answer being written; whether it was called since one was asked for. */
void talk_interrupt(int signal);
int talk_was_interrupted(void);

#endif
