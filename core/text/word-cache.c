/* word-cache — see word-cache.h. */
#include "text/word-cache.h"
#include "text/hash.h"
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 1 << 16 };

struct cache_slot {
    uint64_t hash;
    uint32_t key, tokens;
    uint16_t length, count;
    uint32_t used;
};

static struct cache_slot *slot_of(const word_cache *c, const char *word, int64_t length, uint64_t hash) {
    uint64_t at = hash & (SLOTS - 1);
    for (; c->slots[at].used; at = (at + 1) & (SLOTS - 1)) {
        const struct cache_slot *const s = &c->slots[at];
        if (s->hash == hash && s->length == length && memcmp(c->keys + s->key, word, (size_t)length) == 0) break;
    }
    return &c->slots[at];
}

const word_token *word_cache_find(const word_cache *c, const char *word, int64_t length, int64_t *count) {
    if (!c->slots) return NULL;
    const struct cache_slot *const s = slot_of(c, word, length, hash_bytes(word, length));
    if (!s->used) return NULL;
    *count = s->count;
    return c->tokens + s->tokens;
}

void word_cache_put(word_cache *c, const char *word, int64_t length, const word_token *tokens, int64_t count) {
    if (!c->slots) c->slots = mem_new(SLOTS, sizeof *c->slots);
    if (2 * c->used >= SLOTS) {
        memset(c->slots, 0, SLOTS * sizeof *c->slots);
        c->used = c->key_count = c->token_count = 0;
    }
    const uint64_t hash = hash_bytes(word, length);
    *slot_of(c, word, length, hash) = (struct cache_slot){
        hash, (uint32_t)c->key_count, (uint32_t)c->token_count, (uint16_t)length, (uint16_t)count, 1};
    c->used++;
    for (int64_t i = 0; i < length; i++) {
        mem_reserve(c->keys, c->key_count, c->key_capacity);
        c->keys[c->key_count++] = word[i];
    }
    for (int64_t i = 0; i < count; i++) {
        mem_reserve(c->tokens, c->token_count, c->token_capacity);
        c->tokens[c->token_count++] = tokens[i];
    }
    if (!c->tokens) c->tokens = mem_new(1, sizeof *c->tokens); /* a first word without tokens is there all the same */
}

void word_cache_free(word_cache *c) {
    free(c->slots);
    free(c->keys);
    free(c->tokens);
    *c = (word_cache){0};
}
