/* bits — whole numbers of 1 to 8 bits side by side in bytes, the first in the low bits; one may lie in two bytes. */
#ifndef GRAFT_KERNELS_BITS_H
#define GRAFT_KERNELS_BITS_H
#include <stdint.h>

static inline unsigned bits_get(const uint8_t *bytes, int64_t at, int bits) {
    const int64_t first = at * bits;
    const int shift = (int)(first % 8);
    unsigned v = bytes[first / 8] >> shift;
    if (shift + bits > 8) v |= (unsigned)bytes[first / 8 + 1] << (8 - shift);
    return v & ((1u << bits) - 1);
}

static inline void bits_put(uint8_t *bytes, int64_t at, int bits, unsigned value) {
    const int64_t first = at * bits;
    const int shift = (int)(first % 8);
    const unsigned mask = ((1u << bits) - 1) << shift, v = value << shift;
    bytes[first / 8] = (uint8_t)((bytes[first / 8] & ~mask) | (v & 0xff));
    if (shift + bits > 8) bytes[first / 8 + 1] = (uint8_t)((bytes[first / 8 + 1] & ~(mask >> 8)) | v >> 8);
}

#endif
