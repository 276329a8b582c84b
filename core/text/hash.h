/* hash — a quick hash of short byte strings, for tables that compare the bytes after a hit. */
#ifndef GRAFT_TEXT_HASH_H
#define GRAFT_TEXT_HASH_H
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static inline uint64_t hash_bytes(const char *bytes, int64_t length) {
    uint64_t h = (uint64_t)length;
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        h = hash_mix(h, word);
    }
    uint64_t tail = 0;
    for (int64_t i = 0; i < length; i++)
        tail = tail << 8 | (unsigned char)bytes[i];
    return hash_mix(h, tail);
}

#endif
