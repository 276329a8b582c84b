/* normalform — the Unicode normalization forms NFC, NFD, NFKC, NFKD with alignment.
 * Unicode Standard Annex 15, with the character data of Unicode 9 (unicode.h says why). */
#ifndef GRAFT_TEXT_NORMALFORM_H
#define GRAFT_TEXT_NORMALFORM_H
#include "text/aligned.h"
#include <stdint.h>

enum { NORMALFORM_COMPOSE = 1, NORMALFORM_COMPATIBLE = 2 }; /* NFD 0, NFC 1, NFKD 2, NFKC 3 */

/* A character of the new text. `change` says how it came about: 0 it replaces the next old character, -n it also
 * swallows the n after it, +1 it is inserted behind what the last one replaced. */
typedef struct {
    uint32_t code;
    int32_t change;
    uint8_t combining;
} normal_char;

typedef struct {
    normal_char *items, *sorted;
    int64_t count, capacity, sorted_capacity;
} normalform_scratch;
void normalform_scratch_free(normalform_scratch *s);

/* Writes the form of v to out (emptied first) and returns 1, or returns 0 when v is in that form already. */
int normalform_apply(int form, const view *v, aligned *out, normalform_scratch *s);

#endif
