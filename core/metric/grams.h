/* grams — a text as pieces (words or characters), and counting runs of n of them. */
#ifndef GRAFT_METRIC_GRAMS_H
#define GRAFT_METRIC_GRAMS_H
#include "base/memory.h"

/* Piece i is bytes begin[i] .. end[i] of the text. Words stand with one space between them and characters with nothing, so a run of
 * pieces is a run of bytes that no other run spells. {0} is empty and valid. */
typedef struct {
    strbuf text;
    int64_t *begin, *end;
    int64_t count, capacity;
} pieces;
void pieces_free(pieces *p); /* and leaves {0} */
void pieces_add_word(pieces *p, const char *bytes, int64_t length);
void pieces_words(pieces *p, const char *text, int64_t length);      /* cut at white space                       */
void pieces_characters(pieces *p, const char *text, int64_t length); /* each character that is no white space    */

/* White space of Python's str.split: Unicode's, and U+001C to 1F. */
int grams_is_space(uint32_t code);
/* Length of a text without the white space at its end. */
int64_t grams_trim_end(const char *text, int64_t length);

static inline int64_t grams_count(const pieces *p, int64_t n) {
    return p->count >= n ? p->count - n + 1 : 0;
}
/* Raises most[run] to how often each run of n pieces stands in p. */
void grams_raise(strmap *most, const pieces *p, int64_t n);
/* Runs of p that stand in `most`, each at most as often as it says. */
int64_t grams_matched(const strmap *most, const pieces *p, int64_t n);

#endif
