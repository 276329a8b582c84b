/* jsonscan — reading JSON from front to back without building it: for lists of a million texts, where a tree of values would
 * take most of the time and the memory. Strict (RFC 8259): what is damaged gives 0 or -1, never a guess.
 *
 * Strings are unescaped where they stand, so a part can be read once. Text must be valid UTF-8 with a NUL behind it.
 * Threads: none shared. */
#ifndef GRAFT_TEXT_JSONSCAN_H
#define GRAFT_TEXT_JSONSCAN_H
#include <stdint.h>

/* What is left to read. {NULL, NULL} is nothing. Each function begins by stepping over white space. */
typedef struct {
    char *at, *end;
} jsonscan;

/* A number as it is written: significand * 10^exponent; digits beyond 64 bits are left out, as serde_json does. */
typedef struct {
    uint64_t significand;
    int64_t exponent;
    int negative;
    int whole; /* it has no fraction and no exponent, and all its digits are here */
} jsonscan_number;

int jsonscan_byte(jsonscan *s, char wanted); /* 1: it stood there and was taken */
/* Steps to the next member of a list or object that was opened before: 1 it begins here, 0 `close` was taken, -1 damage.
 * *first: 1 in front of the first one; becomes 0. */
int jsonscan_next(jsonscan *s, char close, int *first);
/* A string, borrowed from the text; it may hold NUL. */
int jsonscan_string(jsonscan *s, const char **text, int64_t *length);
int jsonscan_take_number(jsonscan *s, jsonscan_number *out);
/* Steps over a value, looking at strings and brackets only, and changes nothing. */
int jsonscan_skip(jsonscan *s);

/* The value as serde_json has it without its feature `float_roundtrip`: the significand times or divided by a power of ten,
 * each rounded, which may miss the nearest double by a bit. Infinite when it is too large. */
double jsonscan_real(const jsonscan_number *n);

#endif
