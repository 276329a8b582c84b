/* vocab — see vocab.h. */
#include "text/vocab.h"
#include "text/hash.h"
#include <stdlib.h>
#include <string.h>

void vocab_reserve(vocab *v, int64_t ids, int64_t tokens) {
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)tokens)
        slots *= 2;
    v->tokens = mem_new((size_t)ids + 1, sizeof *v->tokens);
    v->slots = mem_new((size_t)slots, sizeof *v->slots);
    v->mask = slots - 1;
    v->count = ids;
}

/* The slot that holds the text, or the free one where it belongs. */
static uint64_t slot_of(const vocab *v, const char *text, int64_t length, uint32_t hash) {
    uint64_t slot = hash & v->mask;
    for (; v->slots[slot].mark; slot = (slot + 1) & v->mask) {
        if (v->slots[slot].hash != hash) continue;
        const vocab_token *const t = &v->tokens[v->slots[slot].mark - 1];
        if (t->length == length && memcmp(t->text, text, (size_t)length) == 0) break;
    }
    return slot;
}

static int put(vocab *v, int32_t id, const char *text, int64_t length, int again) {
    const uint32_t hash = (uint32_t)hash_bytes(text, length);
    const uint64_t slot = slot_of(v, text, length, hash);
    if (v->slots[slot].mark && !again) return 1;
    if (v->tokens[id].text) return 2;
    v->tokens[id] = (vocab_token){arena_copy(&v->texts, text, (size_t)length), (int32_t)length};
    v->slots[slot] = (vocab_slot){hash, id + 1};
    v->used++;
    return 0;
}

int vocab_put(vocab *v, int32_t id, const char *text, int64_t length) {
    return put(v, id, text, length, 0);
}

int vocab_put_again(vocab *v, int32_t id, const char *text, int64_t length) {
    return put(v, id, text, length, 1);
}

uint32_t vocab_hash(const char *text, int64_t length) {
    return (uint32_t)hash_bytes(text, length);
}

int32_t vocab_find_hashed(const vocab *v, const char *text, int64_t length, uint32_t hash) {
    return v->slots ? v->slots[slot_of(v, text, length, hash)].mark - 1 : -1;
}

int32_t vocab_find(const vocab *v, const char *text, int64_t length) {
    return vocab_find_hashed(v, text, length, vocab_hash(text, length));
}

void vocab_expect_text(const vocab *v, uint32_t hash) {
    const vocab_slot *const s = &v->slots[hash & v->mask];
    if (s->mark) __builtin_prefetch(&v->tokens[s->mark - 1]);
}

const char *vocab_text(const vocab *v, int32_t id, int64_t *length) {
    if (id < 0 || id >= v->count || !v->tokens[id].text) return NULL;
    if (length) *length = v->tokens[id].length;
    return v->tokens[id].text;
}

void vocab_free(vocab *v) {
    free(v->tokens);
    free(v->slots);
    arena_free(&v->texts);
    *v = (vocab){0};
}
