/* digest — SHA-256 (FIPS 180-4) to tell files apart, CRC-32 (zlib's) for short checks. */
#ifndef GRAFT_BASE_DIGEST_H
#define GRAFT_BASE_DIGEST_H
#include "error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} sha256;
void sha256_begin(sha256 *s);
void sha256_add(sha256 *s, const void *bytes, size_t count);
void sha256_end(sha256 *s, char hex[65]);
int sha256_file(const char *path, char hex[65], graft_error *err);
uint32_t digest_crc32(uint32_t crc, const void *bytes, size_t count); /* begin with 0 */

#endif
