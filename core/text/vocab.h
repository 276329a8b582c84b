/* vocab — token strings and their ids, both ways. */
#ifndef GRAFT_TEXT_VOCAB_H
#define GRAFT_TEXT_VOCAB_H
#include "base/memory.h"
#include <stdint.h>

enum { VOCAB_IDS = 1 << 24 }; /* ids are below this: a table by id stays small whatever a file says */

typedef struct {
    const char *text; /* NULL: the id has no token; NUL behind the text */
    int32_t length;
} vocab_token;

typedef struct {
    uint32_t hash;
    int32_t mark; /* id + 1, 0: the slot is free */
} vocab_slot;

typedef struct {
    vocab_token *tokens; /* by id */
    int64_t count;       /* one more than the largest id */
    int64_t used;        /* ids that have a token */
    vocab_slot *slots;   /* by hash of the text, open addressing */
    uint64_t mask;
    arena texts;
} vocab;

/* Room for `tokens` tokens with ids below `ids` (at most VOCAB_IDS). */
void vocab_reserve(vocab *v, int64_t ids, int64_t tokens);

/* Gives `id` its text (copied). 0 done, 1 the text has an id already, 2 the id has a text already. */
int vocab_put(vocab *v, int32_t id, const char *text, int64_t length);
/* The same, but a text that has an id already gets this one; the old id keeps its text. */
int vocab_put_again(vocab *v, int32_t id, const char *text, int64_t length);
int32_t vocab_find(const vocab *v, const char *text, int64_t length); /* -1: not there */

/* The same in steps, for many texts at once: memory that is asked for early is there when it is needed. */
uint32_t vocab_hash(const char *text, int64_t length);
static inline void vocab_expect(const vocab *v, uint32_t hash) {
    __builtin_prefetch(&v->slots[hash & v->mask]);
}
void vocab_expect_text(const vocab *v, uint32_t hash); /* after vocab_expect */
int32_t vocab_find_hashed(const vocab *v, const char *text, int64_t length, uint32_t hash);

const char *vocab_text(const vocab *v, int32_t id, int64_t *length); /* NULL: not there */
void vocab_free(vocab *v);

#endif
