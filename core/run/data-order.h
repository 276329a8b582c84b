/* data-order — which row comes when: a pure function of seed and epoch, so that a resumed run needs no state.
 *
 *   one file, or several without weights: an epoch has each row once, in a permutation by Philox of (seed, epoch).
 *   with weights w: an epoch has as many rows as all files together, and of file i the share w_i / sum w, at least one. Each
 *     file is an endless row of permutations of its own, and an epoch goes on in it where the last one ended: a small file comes
 *     again, a large one comes in parts, and no row is left out for good.
 *   by length: the epoch's order is cut into parts of 50 steps; each is sorted, longest first, and cut into batches, and the
 *     batches of the epoch are permuted. What fills no batch comes last. 50 as in transformers' LengthGroupedSampler.
 * Without shuffling the order is that of the files. Threads: read-only. */
#ifndef GRAFT_RUN_DATA_ORDER_H
#define GRAFT_RUN_DATA_ORDER_H
#include <stdint.h>

#define ORDER_ROWS 0xFFFFFFFF /* 4 bytes a row are held */

typedef struct {
    int64_t rows;           /* of all files, at most ORDER_ROWS                           */
    int32_t files;          /* at least 1                                                 */
    const int64_t *first;   /* (files + 1) first row of each file, and `rows`             */
    const double *weights;  /* (files) above 0; NULL: each row once an epoch              */
    const int32_t *lengths; /* (rows) tokens; NULL: not by length                         */
    int64_t batch, step;    /* rows of a batch and of a step, for sorting by length       */
    int32_t shuffle;        /* 0 | 1 */
    uint64_t seed;
} order_rules;

int64_t order_rows(const order_rules *r);                /* in an epoch */
int64_t order_quota(const order_rules *r, int32_t file); /* of a file, in an epoch */
/* Rows of an epoch in their order: (order_rows) numbers. */
void order_make(const order_rules *r, int64_t epoch, uint32_t *out);

void order_permute(uint32_t *order, int64_t count, uint64_t seed,
                   uint64_t stream); /* Fisher and Yates over 0 .. count - 1 */

/* The share of padding if every batch were padded to its longest row. `lengths` (by row). */
double order_padding(const uint32_t *order, int64_t count, const int32_t *lengths, int64_t batch);

#endif
