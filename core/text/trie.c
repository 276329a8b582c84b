/* trie — see trie.h. */
#include "text/trie.h"
#include "base/memory.h"
#include <stdlib.h>

enum { NODES = 1 << 24 }; /* a node and a byte fit 32 bits */

static void insert(trie *t, trie_slot what) {
    uint64_t slot = (what.key * 0x9E3779B97F4A7C15u >> 32) & t->mask;
    while (t->slots[slot].node)
        slot = (slot + 1) & t->mask;
    t->slots[slot] = what;
}

static void grow(trie *t) {
    trie_slot *const old = t->slots;
    const uint64_t size = old ? t->mask + 1 : 0;
    t->mask = old ? 2 * size - 1 : 255;
    t->slots = mem_new(t->mask + 1, sizeof *t->slots);
    for (uint64_t i = 0; i < size; i++)
        if (old[i].node) insert(t, old[i]);
    free(old);
}

int trie_add(trie *t, const char *text, int64_t length, int32_t value, graft_error *err) {
    if (!t->nodes) {
        grow(t);
        mem_reserve(t->values, t->nodes, t->capacity);
        t->values[t->nodes++] = -1;
    }
    int32_t node = 0;
    for (int64_t i = 0; i < length; i++) {
        const unsigned char byte = (unsigned char)text[i];
        int32_t child = trie_step(t, node, byte);
        if (!child) {
            if (t->nodes >= NODES) return fail(err, GRAFT_FAILED, "the token strings have more than %d bytes", NODES);
            if (2 * (uint64_t)t->nodes >= t->mask) grow(t);
            mem_reserve(t->values, t->nodes, t->capacity);
            child = (int32_t)t->nodes++;
            t->values[child] = -1;
            if (node)
                insert(t, (trie_slot){(uint32_t)node << 8 | byte, child});
            else
                t->root[byte] = child;
        }
        node = child;
    }
    t->values[node] = value;
    return 0;
}

void trie_free(trie *t) {
    free(t->values);
    free(t->slots);
    *t = (trie){0};
}
