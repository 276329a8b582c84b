/* attention — what the forward and the backward pass share: blocks of rows and keys, and products of a copied strip with
 * packed panels. Private to attention-forward.c, attention-backward.c and attention.c. */
#ifndef GRAFT_CPU_ATTENTION_H
#define GRAFT_CPU_ATTENTION_H
#include "kernels/cpu/cpu.h"

/* A run of rows of one span, or of the virtual rows where span is NULL. */
typedef struct {
    const attention_span *span;
    int64_t first, count; /* in the span: of query or key rows */
} attention_block;

typedef struct {
    cpu *c;
    const attention_call *a;
    const multiply_functions *f;
    dtype step;                      /* what is multiplied: BF16 where the machine does and the call has it, else F32 */
    int64_t group;                   /* query heads of a key head */
    int64_t deep;                    /* head_dim rounded up to whole steps */
    int64_t wide;                    /* head_dim rounded up to whole vectors */
    int64_t tile;                    /* keys (forward, dq) or rows (dk, dv) multiplied at a time */
    int64_t query_rows, key_rows;    /* of a block */
    attention_block *queries, *keys; /* all blocks of the call; queries in every span, then keys */
    int64_t query_blocks, key_blocks;
    float *do_o; /* do·o (rows, heads), backward */
} attention;

/* Cuts the call into blocks, from its shape alone; ends with attention_close. */
attention attention_open(cpu *c, const attention_call *a, int64_t scratch_bytes_of(const attention *t));
void attention_close(attention *t);

/* o, lse and dq of rows that belong to no span become 0. lse may be NULL. */
void attention_clear_outside(const attention *t, void *x, int64_t stride, float *lse);

/* First and last+1 of the keys that row i (of the call) sees: of the span's, or of the virtual rows (span NULL). */
void attention_keys_of(const attention *t, const attention_span *s, int64_t i, int32_t *from, int32_t *to);
/* First and last+1 of the rows of span s that see key j of key span `of` (NULL: virtual row j). */
void attention_rows_of(const attention *t, const attention_span *s, int virtual_key, int64_t j, int32_t *from,
                       int32_t *to);

/* Where feature 0 of head h of row i lies. */
const void *attention_at(const attention *t, const void *x, int64_t stride, int64_t i, int64_t h);
/* Key or value j of a block's span (or of the virtual rows), key head h, and the stride to the next. */
const void *attention_key(const attention *t, const attention_span *s, int values, int64_t j, int64_t h,
                          int64_t *stride);

/* Copies `count` rows of head_dim features into (count, deep) steps, zero filled. */
void attention_copy(const attention *t, const void *from, int64_t stride, int64_t count, void *to);
/* Panels of a product over head_dim whose columns are n rows of x; or over n rows whose columns are head_dim. */
void attention_pack_rows(const attention *t, const void *x, int64_t stride, int64_t n, char *panels);
void attention_pack_features(const attention *t, const void *x, int64_t stride, int64_t n, char *panels);
int64_t attention_panels_bytes(const attention *t); /* of either, for n <= tile */
/* Scores: c (rows, columns) = a (rows, head_dim)·(rows first.. of n_packed packed ones), at least n of them: whole panels.
 * Returns columns (up to whole vectors), the row of c. first: a multiple of a panel. */
int64_t attention_scores(const attention *t, const void *a, int64_t rows, const char *panels, int64_t n_packed,
                         int64_t first, int64_t n, float *c);
/* Sums: c (rows, head_dim) += a (rows, n)·(rows first.. of n_packed whose features are packed); c_row = wide. */
void attention_add(const attention *t, const void *a, int64_t a_row, int64_t rows, const char *panels, int64_t n_packed,
                   int64_t first, int64_t n, float *c);
/* The columns from..to that any of `rows` rows sees in a tile of n columns that begins at `origin`, *first down to a whole
 * panel; from[] and to[] become counts from there. Returns how many columns that is; 0: none. */
int64_t attention_seen(const attention *t, const int32_t *all_from, const int32_t *all_to, int64_t rows, int64_t origin,
                       int64_t n, int32_t from[], int32_t to[], int64_t *first);

/* Bytes of what is multiplied. */
static inline int64_t attention_bytes(const attention *t) {
    return t->step == BF16 ? 2 : 4;
}
/* The next room of a member's scratch. */
static inline void *attention_take(char **next, int64_t bytes) {
    void *const here = *next;
    *next += (bytes + 63) / 64 * 64;
    return here;
}
static inline int64_t attention_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t attention_round(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

#endif
