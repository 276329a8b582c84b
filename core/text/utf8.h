/* utf8 — stepping through UTF-8 (Unicode 16, chapter 3, table 3-7). */
#ifndef GRAFT_TEXT_UTF8_H
#define GRAFT_TEXT_UTF8_H
#include "base/memory.h"
#include <stdint.h>

enum { UTF8_MAX = 4 };

/* Codes that stand for bytes that are no character. */
#define UTF8_BAD 0xFFFFFFFFu /* no continuation makes these bytes a character           */
#define UTF8_CUT 0xFFFFFFFEu /* the text ends inside what could still become a character */

/* Reads the character at `bytes` (length >= 1) into *code and returns its size in bytes. For ill-formed bytes *code is
 * UTF8_BAD or UTF8_CUT and the size is that of the maximal ill-formed part: the unit that one U+FFFD replaces. */
int utf8_decode(const char *bytes, int64_t length, uint32_t *code);

/* Writes the character and returns its size. `code` is a Unicode scalar value. */
int utf8_encode(uint32_t code, char out[UTF8_MAX]);
void utf8_add(strbuf *b, uint32_t code);

/* How many bytes at the front are ASCII. */
int64_t utf8_ascii(const char *bytes, int64_t length);

/* How many bytes at the front are well-formed: `length` when all are. */
int64_t utf8_valid(const char *bytes, int64_t length);

/* Size of the character that begins with this byte, in valid text. */
static inline int utf8_size(char lead) {
    const unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Whether this byte continues a character. */
static inline int utf8_continues(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

#endif
