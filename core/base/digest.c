/* digest — SHA-256 as FIPS 180-4 section 6.2 writes it; CRC-32 from zlib. */
#include "base/digest.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotr(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void add_block(uint32_t state[8], const unsigned char *block) {
    uint32_t w[64];
    for (int t = 0; t < 16; t++, block += 4)
        w[t] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
    for (int t = 16; t < 64; t++) {
        const uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
        const uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
        const uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t];
        const uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void sha256_begin(sha256 *s) {
    *s = (sha256){
        .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
    };
}

void sha256_add(sha256 *s, const void *bytes, size_t count) {
    const unsigned char *from = bytes;
    const size_t held = s->length % 64;
    s->length += count;
    if (held) {
        const size_t taken = count < 64 - held ? count : 64 - held;
        memcpy(s->block + held, from, taken);
        from += taken, count -= taken;
        if (held + taken < 64) return;
        add_block(s->state, s->block);
    }
    for (; count >= 64; from += 64, count -= 64)
        add_block(s->state, from);
    if (count) memcpy(s->block, from, count);
}

/* Padding: one bit 1, zeros, the length in bits as a big-endian 64-bit number at the end of a block. */
void sha256_end(sha256 *s, char hex[65]) {
    const uint64_t bits = s->length * 8;
    unsigned char padding[72] = {0x80};
    const size_t zeros_until = (s->length % 64 < 56 ? 56 : 120) - s->length % 64;
    for (int i = 0; i < 8; i++)
        padding[zeros_until + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, padding, zeros_until + 8);
    for (int i = 0; i < 64; i++)
        hex[i] = "0123456789abcdef"[s->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = '\0';
}

int sha256_file(const char *path, char hex[65], graft_error *err) {
    enum { CHUNK = 1 << 18 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
    int rc = GRAFT_OK;
    char *const chunk = mem_new(CHUNK, 1);
    sha256 s;
    sha256_begin(&s);
    for (ssize_t got; (got = read(fd, chunk, CHUNK)) != 0;) {
        if (got > 0) {
            sha256_add(&s, chunk, (size_t)got);
        } else if (errno != EINTR) {
            rc = fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
            break;
        }
    }
    sha256_end(&s, hex);
    free(chunk);
    close(fd);
    return rc;
}

uint32_t digest_crc32(uint32_t crc, const void *bytes, size_t count) {
    return (uint32_t)crc32_z(crc, bytes, count);
}
