/* pack — which documents share a row. Pure functions of the lengths.
 *
 *   best fit decreasing: longest first (equal ones in input order), each into the open row with the least space that is
 *     enough, among equal ones the row that has had that space longest; else into a new row. Documents longer than the
 *     capacity are cut at it, or first split into pieces of the capacity.
 *   first fit decreasing: the same order, the first row with enough space.      sequential: input order, a new row where
 *     a document does not fit.      wrapped: everything joined and cut every `capacity` tokens.
 * Empty documents are in no row. Best fit and wrapped are trl's `bfd`, `bfd_split` and `wrapped`. n documents, r rows: memory
 * O(n + capacity), time O(n log(n + capacity)). */
#ifndef GRAFT_TEXT_PACK_H
#define GRAFT_TEXT_PACK_H
#include <stdint.h>

typedef struct {
    uint32_t document;
    int32_t begin, length; /* from its token `begin` */
} pack_segment;

/* Row r holds segments first[r] .. first[r + 1] - 1. */
typedef struct {
    pack_segment *segments;
    int64_t *first;
    int64_t rows;
} packing;

/* `lengths` (count below 2^31), each 0 to 2^30; capacity 1 to 2^30. The result is released with packing_free. */
packing pack_best_fit(const int64_t *lengths, int64_t count, int64_t capacity, int split);
packing pack_first_fit(const int64_t *lengths, int64_t count, int64_t capacity);
packing pack_sequential(const int64_t *lengths, int64_t count, int64_t capacity);
packing pack_wrapped(const int64_t *lengths, int64_t count, int64_t capacity);
void packing_free(packing *p); /* and leaves {0} */
/* Adds the rows of `from`, whose documents count from `first_document`; takes its memory. */
void packing_append(packing *to, packing *from, int64_t first_document);

#endif
