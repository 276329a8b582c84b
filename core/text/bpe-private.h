/* bpe-private — what bpe.c and bpe-load.c share. */
#ifndef GRAFT_TEXT_BPE_PRIVATE_H
#define GRAFT_TEXT_BPE_PRIVATE_H
#include "base/memory.h"
#include "text/bpe.h"
#include "text/hash.h"

typedef struct {
    int32_t left, right; /* ids */
    int32_t rank;        /* -1: the slot is free */
    int32_t made;        /* id of the merged symbol */
} merge_slot;

enum { BPE_PLANE = 0x10000, BPE_JOIN_BITS = 1 << 21 };

struct bpe {
    const vocab *words;
    merge_slot *merges;
    uint64_t mask;
    int32_t characters[BPE_PLANE]; /* ids of the tokens of one character, -1: none */
    int32_t bytes[256];            /* ids of <0x00> ... <0xFF>, -1: none */
    uint64_t *joins;               /* one bit for the hash of every two characters that meet in a merge */
    strbuf prefix, suffix;         /* of symbols that do not begin, and of the one that ends a word */
    char *unknown_text;            /* unk_token, NULL: unknown characters are dropped */
    int32_t unknown;
    int fuse_unknown, byte_fallback, look_up_words, cuts;
};

/* The slot of a pair, or the free one where it belongs. */
static inline merge_slot *bpe_merge_of(const bpe *b, int32_t left, int32_t right) {
    uint64_t slot = hash_mix((uint64_t)(uint32_t)left << 32, (uint32_t)right) & b->mask;
    while (b->merges[slot].rank >= 0 && (b->merges[slot].left != left || b->merges[slot].right != right))
        slot = (slot + 1) & b->mask;
    return &b->merges[slot];
}

static inline uint64_t bpe_join_bit(uint32_t left, uint32_t right) {
    return hash_mix((uint64_t)left << 32, right) & (BPE_JOIN_BITS - 1);
}

#endif
