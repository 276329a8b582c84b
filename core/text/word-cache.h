/* word-cache — the words that one encoding has seen, with their tokens. Text repeats itself: most words are found here. */
#ifndef GRAFT_TEXT_WORD_CACHE_H
#define GRAFT_TEXT_WORD_CACHE_H
#include "text/token-model.h"
#include <stdint.h>

enum { CACHE_WORD = 256 }; /* bytes of the longest word that is kept */

typedef struct {
    struct cache_slot *slots;
    int64_t used;
    char *keys; /* the words, one behind the other */
    int64_t key_count, key_capacity;
    word_token *tokens;
    int64_t token_count, token_capacity;
} word_cache;

/* The tokens of a word, *count of them; NULL when it is not there. Valid until the next word_cache_put. */
const word_token *word_cache_find(const word_cache *c, const char *word, int64_t length, int64_t *count);

/* Keeps the tokens of a word that is not there. When the cache is full it starts anew. */
void word_cache_put(word_cache *c, const char *word, int64_t length, const word_token *tokens, int64_t count);
void word_cache_free(word_cache *c);

#endif
