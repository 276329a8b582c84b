/* aligned — text that remembers which characters of its source it came from.
 *
 * Normalizers and pre-tokenizers change the text; token offsets must still point into the text as given. Every byte
 * carries the range of source bytes it stands for (whole characters). Text that nothing has changed carries none: it is
 * its own source, which is the common and quick case. */
#ifndef GRAFT_TEXT_ALIGNED_H
#define GRAFT_TEXT_ALIGNED_H
#include <stdint.h>

enum {
    ALIGNED_MOST = (1 << 30) - 1
}; /* bytes of the longest text: places in it, doubled by the byte map, fit 32 bits */

typedef struct {
    int32_t begin, end; /* bytes of the source, end exclusive */
} span;

/* A part of a text, borrowed. Always valid UTF-8. */
typedef struct {
    const char *bytes;
    const span *from; /* one per byte; NULL: byte i is byte origin + i of the source */
    int64_t length;
    int32_t origin; /* where in the source the view begins */
} view;

/* The source range of bytes begin..end (begin < end) of v, widened to whole characters. */
span view_span(const view *v, int64_t begin, int64_t end);

/* Bytes begin..end of v as a view of its own. */
view view_part(const view *v, int64_t begin, int64_t end);

/* A text under construction. {0} is empty and valid; storage is kept for the next use. */
typedef struct {
    char *bytes;
    span *from;
    int64_t length, capacity;
} aligned;
void aligned_add(aligned *a, const char *bytes, int64_t length, span from);
void aligned_copy(aligned *a, const view *v, int64_t begin, int64_t end);
view aligned_view(const aligned *a, int32_t origin); /* valid until a grows */
void aligned_free(aligned *a);

/* Pieces of a view: what the pre-tokenizer has cut it into. */
typedef struct {
    int64_t begin, end;
} piece;
typedef struct {
    piece *items;
    int64_t count, capacity;
} pieces;
void pieces_add(pieces *p, int64_t begin, int64_t end);

#endif
