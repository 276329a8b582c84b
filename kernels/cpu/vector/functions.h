/* functions — what the files of this folder give, once per instruction set: one table of serial functions over a range of
 * rows or elements. The files beside this folder cut the work into parts and call them from the team.
 * Unless said otherwise `type` is F32 or BF16, rows are dense, and a function computes what the one of the same name in
 * kernels/ref computes. */
#ifndef GRAFT_CPU_FUNCTIONS_H
#define GRAFT_CPU_FUNCTIONS_H
#include "kernels/cpu/vector/map-plan.h"
#include "kernels/kernels.h"

/* ---- products: a strip of rows of A times packed panels of B ---- */
enum {
    MULTIPLY_RUNS = 4, /* runs of one multiply, at most */
};

/* One stretch of k. F32: a step is one k, A is read at a + i·row + step·next. BF16: a step is two k, which lie side by side.
 * b: [step][panel width] elements, or pairs of them; F32 where b_row is not 0: the matrix itself, step k at b + k·b_row, its
 * columns (whole vectors of them) side by side, F32 or BF16. */
typedef struct {
    const void *a, *b;
    int64_t row, next; /* elements */
    int64_t steps;
    dtype type;
    dtype b_type;  /* where b_row is not 0 */
    int64_t b_row; /* elements; 0: a panel */
} multiply_run;

/* What a finished piece of a product becomes: to[i·row + j·col] [+]= alpha·c[i,j] + bias. */
typedef struct {
    void *data;
    dtype type; /* F32 BF16 F16 */
    int64_t row, col;
    float alpha;
    const float *bias; /* of each column, or of each row where bias_down; NULL: none */
    int32_t accumulate, bias_down;
} multiply_target;

/* A (k, n) matrix whose element (p, j) is data[p·down + j·along]. */
typedef struct {
    const void *data;
    dtype type; /* F32 BF16 F16 */
    int64_t down, along;
} pack_source;

typedef struct {
    int strip, panel,
        lanes;  /* rows at a time; columns of a panel (whole vectors); columns of a vector                  */
    int panels; /* of a part                                                                                */
    int bf16;   /* 1: multiplies BF16 runs too                                                              */
    int64_t
        depth_bytes; /* of k of one row in one pass: a strip of A fits the first cache, a part's panels the second */
    void (*begin)(void), (*end)(void); /* around a part, on its thread; NULL: nothing to do */
    /* c (rows, columns) [+]= Σ runs, rows <= strip, columns <= panel rounded up to whole vectors; all of c is written. */
    void (*multiply)(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                     int add);
    /* Panels of n columns: that of columns j.. begins at word j·steps, and has `steps` steps of its width (whole vectors), of
     * which this call writes those from first_step on. Columns up to whole vectors and an odd k up to pairs become 0.
     * type F32 or BF16. */
    void (*pack)(void *panels, dtype type, int64_t steps, int64_t first_step, const pack_source *from, int64_t k,
                 int64_t n);
    /* Where a strip must have its k side by side: (rows, steps) of a matrix whose rows lie side by side, element (i, p) at
     * from[i + p·down]. NULL: a strip can be read from a panel. */
    void (*pack_rows)(void *to, dtype type, const void *from, dtype from_type, int64_t down, int64_t k, int64_t rows);
    void (*finish)(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to, int64_t i,
                   int64_t j); /* c's corner is element (i, j) of the target; columns up to whole vectors can be read */
} multiply_functions;

/* A tile of attention scores, rows x n, row-major with `row` floats a row; element (r, j) counts where from[r] <= j < to[r]. */
typedef struct {
    float *scores, *other; /* q·k; dp = do·v (backward) */
    int64_t row, rows, n;
    const int32_t *from, *to;
    float scale, softcap;
    dtype type;      /* of p and dz */
    void *p, *dz;    /* (rows, out_row); columns outside from..to up to out_row become 0 */
    int64_t out_row; /* at least n, whole vectors */
} attention_tile;

typedef struct {
    const char *isa;
    multiply_functions multiply;
    /* Online softmax: p = exp(t - most), with most and sum of each row carried on; rescale[r]: what sums so far are to be
     * multiplied by. */
    void (*attention_softmax)(const attention_tile *t, float *most, float *sum, float *rescale);
    /* p = exp(t - lse), dz = p·(dp - do·o)·dt/dz; lse and do·o by row, or by column. p may be NULL. */
    void (*attention_grad_rows)(const attention_tile *t, const float *lse, const float *do_o);
    void (*attention_grad_columns)(const attention_tile *t, const float *lse, const float *do_o);
    void (*map)(const map_plan *m, int64_t first, int64_t count); /* of the target's elements, row-major */
    float (*dot)(const void *a, const void *b, dtype type, int64_t n);
    void (*add)(void *y, const void *x, dtype type, int64_t n);
    void (*scale)(void *x, dtype type, int64_t n, float factor);
    void (*softcap)(void *x, dtype type, int64_t n, float cap);
    double (*sqnorm)(const void *x, dtype type, int64_t n); /* F16 too */
    /* Columns j..j+n-1 of (rows, width). */
    void (*column_sum)(const void *x, dtype type, int64_t rows, int64_t width, int64_t j, int64_t n, float *sums);
    /* One row: to[i] += scale·from[i]. */
    void (*add_scaled)(float *to, const void *from, dtype type, int64_t n, float scale);
    void (*dropout)(const void *x, void *y, dtype type, int64_t width, uint32_t dropped, float grown, uint64_t row,
                    int32_t accumulate); /* one row, whose key is `row` (dropout.h) */
    void (*norm_forward)(norm_kind kind, const void *x, const float *w, const float *b, double eps, void *y, dtype type,
                         int64_t rows, int64_t width);
    void (*norm_backward)(norm_kind kind, const void *x, const float *w, double eps, const void *dy, void *dx,
                          float *dw, float *db, dtype type, int64_t rows, int64_t width, int32_t accumulate);
    void (*rope)(void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, int64_t pairs,
                 const int32_t *positions, const float *inv_freq, float factor, int32_t inverse);
    void (*gate_forward)(activation_kind act, const void *gate, const void *up, int64_t stride, void *h, dtype type,
                         int64_t rows, int64_t width);
    void (*gate_backward)(activation_kind act, const void *gate, const void *up, int64_t stride, const void *dh,
                          void *dgate, void *dup, dtype type, int64_t rows, int64_t width);
    /* One row each. */
    void (*logprob)(const void *logits, dtype type, int64_t vocab, int32_t target, float cap, float *logp, float *lse);
    void (*logprob_grad)(void *logits, dtype type, int64_t vocab, int32_t target, float cap, float lse, float dlogp);
    /* to[i] = scale·from[i]; types F32 BF16 F16; scale is 1 unless both compute in F32. May be done in place. */
    void (*convert)(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale);
    /* n values of a CODEBOOK4 or ROWS8 weight from (row, column) on, running on into the next rows: bit for bit those of
     * weight_read, as F32 or BF16. */
    void (*decode)(const weight *w, int64_t row, int64_t column, int64_t n, void *to, dtype type);
    /* Codes of one block of n values (kind: a codebook_kind), or of one row; returns its absmax. */
    float (*quantize_block)(int kind, const float code[16], const float *x, int64_t n, uint8_t *to);
    float (*quantize_row8)(const float *x, int64_t n, int8_t *to);
} vector_functions;

extern const multiply_functions multiply_functions_amx; /* the rest of amx is avx512bf16 */
extern const vector_functions vector_functions_avx2, vector_functions_avx512, vector_functions_avx512bf16;

#endif
