/* trie — byte strings in a tree, to find all that begin at one place of a text. */
#ifndef GRAFT_TEXT_TRIE_H
#define GRAFT_TEXT_TRIE_H
#include "base/error.h"
#include <stdint.h>

typedef struct {
    uint32_t key; /* parent * 256 + byte */
    int32_t node; /* 0: free (the root is no child) */
} trie_slot;

typedef struct {
    int32_t *values; /* by node, -1: no string ends here */
    int64_t nodes, capacity;
    trie_slot *slots; /* children of all nodes but the root, open addressing */
    uint64_t mask;
    int32_t root[256]; /* children of the root, 0: none */
} trie;

/* Adds a string of at least one byte with its value (>= 0); of equal strings the last one counts. */
int trie_add(trie *t, const char *text, int64_t length, int32_t value, graft_error *err);
void trie_free(trie *t);

/* The child of `node` (0: the root) along `byte`, 0 when there is none. */
static inline int32_t trie_step(const trie *t, int32_t node, unsigned char byte) {
    if (!node) return t->root[byte];
    const uint32_t key = (uint32_t)node << 8 | byte;
    for (uint64_t slot = (key * 0x9E3779B97F4A7C15u >> 32) & t->mask; t->slots[slot].node; slot = (slot + 1) & t->mask)
        if (t->slots[slot].key == key) return t->slots[slot].node;
    return 0;
}

#endif
