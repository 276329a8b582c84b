/* unicode — what the libraries do not say in the version of Unicode that the reference tokenizer speaks.
 *
 * Its parts are of different age: regular expressions know Unicode 16, normalization forms Unicode 9, lower case and
 * white space are those of its language. PCRE2 and utf8proc are of one age each, so the differences stand here as tables,
 * derived from the Unicode Character Database (UnicodeData.txt of 9.0, 13.0 and 16.0). */
#ifndef GRAFT_TEXT_UNICODE_H
#define GRAFT_TEXT_UNICODE_H
#include "base/memory.h"
#include <stdint.h>

/* White_Space: U+0009-D 20 85 A0 1680 2000-200A 2028 2029 202F 205F 3000. */
int unicode_is_space(uint32_t code);

/* Whether the character takes part in normalization as of Unicode 9: it has a decomposition or a combining class, or it
 * can be the second half of a composition. Every other character stands for itself and separates its neighbours. */
int unicode_normalizes(uint32_t code);

/* Whether a character of combining class 0 can be the second half of a composition (vowel signs, Hangul vowels, finals). */
int unicode_is_second(uint32_t code);

/* The lower case of one character without regard to its neighbours: one or two characters into out; returns how many. */
int unicode_lower(uint32_t code, uint32_t out[2]);

/* First letter of the general category: L, M, N, P, S, Z or C. */
char unicode_category(uint32_t code);

/* Appends the inside of a PCRE2 character class for a general category ("L", "Letter", "Nd") or script ("Han"), given
 * without spaces, hyphens and underscores, in any case: the property and the ranges that came to it after the oldest
 * supported PCRE2 (these where with_added is 1). Returns 0 when the name is unknown. */
int unicode_property(const char *name, int32_t with_added, strbuf *out);

/* Whether the character is in such a range. Where a text has none of them, the property alone means the same. */
int unicode_is_added(uint32_t code);

#endif
