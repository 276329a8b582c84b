/* kernels — everything that touches device memory, as one table of functions per device. Private to core and device modules.
 *
 * Implementations: "ref" (plain loops, f32) and "ref64" (the same source, f64) are the specification; "cpu" is the fast one
 * (SIMD, its instruction set chosen at run time); "fake" is "ref" over memory that cannot be read outside kernel calls.
 * Rules for all of them: pointers named dev are device memory, whose address arithmetic is allowed and whose contents are
 * not; sizes are elements unless named bytes; matrices are row-major, a stride counts elements; reductions have a fixed
 * order, so a result depends on arguments only, never on the number of threads; element-wise work computes in f32 (f64 in
 * ref64) and rounds once at the store; products accumulate in f32 (f64) or wider. Beside a BF16 operand an F32 operand of gemm
 * is rounded to BF16 when loaded, unless it is narrow (a side of it <= 64), where it may stay F32; elsewhere operands of
 * different types meet as they are.
 * Zero sizes are allowed everywhere. Arguments are checked by callers: a wrong one is a bug (assert).
 * Threads: a table is used by one thread at a time; parallelism inside is the team's. */
#ifndef GRAFT_KERNELS_H
#define GRAFT_KERNELS_H
#include "base/dtype.h"
#include "base/error.h"
#include "base/team.h"
#include <stdint.h>

typedef struct kernels kernels;

/* ---- products ---- */
typedef struct {
    const void *data; /* dev */
    dtype type;       /* F32 BF16 F16 F64 */
    int64_t row, col; /* strides */
    int64_t batch;    /* stride from one matrix of the batch to the next; 0 = the same for all */
    /* dev (rows): this matrix has its only 1 of row i at column onehot[i]; data is NULL. A negative entry is a zero row. */
    const int32_t *onehot;
} matrix;

typedef struct {
    int64_t batch, m, n, k; /* c (m,n) from a (m,k) and b (k,n), `batch` times */
    /* at most one is one-hot: a as (m,k): gathers rows of b; a as (k,m) transposed (onehot_transposed): scatter-add */
    matrix a, b;
    int32_t onehot_transposed;
    void *c; /* dev */
    dtype c_type;
    int64_t c_row, c_col, c_batch;
    double alpha;
    int32_t accumulate; /* 0: c = alpha·a·b    1: c += alpha·a·b (c_batch 0 allowed: sums over the batch) */
} gemm_call;

/* ---- maps: one statement, element by element, with reductions ---- */
enum { MAP_INDICES = 6, MAP_OPERANDS = 10, MAP_STACK = 16 };
typedef enum {
    MAP_LOAD, /* push operand[arg] at the current indices                                   */
    MAP_GATHER, /* pop k, push operand[arg] at the current indices plus k * gather stride; k outside 0..gather_extent-1 gives 0 */
    MAP_NUMBER, /* push numbers[arg]                                                           */
    MAP_INDEX,  /* push the value of index arg                                                 */
    MAP_ADD,
    MAP_SUB,
    MAP_MUL,
    MAP_DIV,
    MAP_NEG,
    MAP_LT,
    MAP_LE,
    MAP_GT,
    MAP_GE,
    MAP_EQ,
    MAP_NE,
    MAP_AND,
    MAP_OR,
    MAP_NOT,    /* 1 or 0 */
    MAP_SELECT, /* pop c, b, a in this order from the top: push a != 0 ? b : c                 */
    MAP_SQRT,
    MAP_EXP,
    MAP_LOG,
    MAP_ABS,
    MAP_SIGN,
    MAP_MAX,
    MAP_MIN,
    MAP_POW,
    MAP_TANH,
    MAP_SIGMOID,
    MAP_ERF,
    MAP_COS,
    MAP_FLOOR,
    MAP_ROUND,   /* round half to even */
    MAP_UNIFORM, /* pop high, low: philox_uniform(seed, stream, flat index of the target element) */
    MAP_NORMAL,  /* push philox_normal(...) */
    MAP_MT19937  /* pop first, seed: draw number first + flat index of mt19937(seed), as u = (draw & 0xffffff) * 2^-24;
                             both are MAP_NUMBERs right before, whose doubles are used (a float would not hold them); mt19937.h */
} map_op;

typedef enum {
    STORE_PLAIN,
    STORE_U4,
    STORE_U4_HIGH,
    STORE_BLOCKS8,
    STORE_BLOCKS8_UNSIGNED,
    STORE_U2,
    STORE_U3
} store_kind;
/* U4: two elements a byte, the first in the low (HIGH: the high) bits; U2 and U3: bits side by side, the first lowest
 * (bits.h). Flat row-major, type U8.
 * BLOCKS8: bitsandbytes' blockwise 8-bit map, blocks of 256: data = U8 codes, scale = f32 absmax of each block; the signed
 * one keeps signs (blocks8.h). A BLOCKS8 target is a whole dense tensor, offset 0.
 * Integer stores round to the nearest whole number, ties to even, and stay inside the type; NaN is 0. */

typedef struct {
    void *data;  /* dev */
    void *scale; /* dev, BLOCKS8 only */
    dtype type;
    store_kind store;
    int64_t stride[MAP_INDICES]; /* per index of the program; 0 = broadcast */
    int64_t offset;
    int64_t gather, gather_extent; /* of MAP_GATHER */
} map_operand;

typedef struct {
    int16_t op, arg;
} map_instruction;

typedef enum { MAP_SET, MAP_PLUS, MAP_MINUS, MAP_TIMES, MAP_OVER, MAP_MAXIMUM } map_store; /* = += -= *= /= max= */

typedef struct {
    int32_t indices,
        kept;           /* indices 0..kept-1 belong to the target, kept..indices-1 are reduced, all row-major order  */
    int32_t reduce_max; /* 1: the maximum over the reduced indices, else their sum                                   */
    map_store store;
    int32_t operands, numbers,
        length;                  /* operand 0 is the target                                                       */
    const map_instruction *code; /* leaves exactly one value; stack at most MAP_STACK deep                         */
} map_program;

typedef struct {
    int64_t extent[MAP_INDICES];
    map_operand operand[MAP_OPERANDS];
    const double *numbers;
    uint64_t seed, stream; /* of uniform and normal */
} map_call;

/* ---- base weights ---- */
typedef enum { WEIGHT_PLAIN, WEIGHT_CODEBOOK4, WEIGHT_ROWS8, WEIGHT_AFFINE, WEIGHT_CUSTOM } weight_layout;

/* What only its quantizer can read (WEIGHT_CUSTOM). The tables multiply such a weight tile by tile, with their own gemm:
 * never more of it than a tile is dex. */
typedef struct weight_custom {
    /* Rows first .. first + count - 1, count <= most, into `to` (count, in), dev real, not rounded. */
    void (*rows)(const struct weight_custom *c, kernels *k, int64_t first, int64_t count, void *to);
    int64_t most;
} weight_custom;

/* A frozen or trained matrix W (out, in). y = x·Wᵀ. Buffers are dev and owned by whoever allocated them; `packed` by the table. */
typedef struct {
    int64_t out, in;
    weight_layout layout;
    /* PLAIN: of data. Others: what a value is rounded to after dequantizing (F32 BF16 F16; F64 in ref64: nothing beyond F32) */
    dtype type;
    /* PLAIN (out, in); CODEBOOK4 (out*in+1)/2 bytes, high nibble first, blocks over the flattened matrix; ROWS8 int8 (out, in);
     * AFFINE codes of `bits` bits (bits.h), every row padded to whole groups */
    void *data;
    /* CODEBOOK4: f32 absmax (blocks), NULL when nested; ROWS8: f32 absmax of each row (bitsandbytes' SCB),
     * value = (q * scale) * ROWS8_UNIT in f32 (codebook.h) */
    void *scale;
    int64_t block;   /* CODEBOOK4: elements of a block; AFFINE: of a group, a multiple of 8 */
    int32_t bits;    /* AFFINE: 2 3 4 8; value = scale·(q - zero), two f32 roundings; scale f32 (out, groups) */
    dtype zero_type; /* AFFINE: of `zero` (out, groups), U8 or F32 */
    void *zero;      /* AFFINE: NULL = 2^(bits - 1) everywhere */
    float threshold; /* ROWS8: > 0: the forward reads x through 8 bits but for elements of at least this (layouts.h) */
    const weight_custom *custom; /* CUSTOM, borrowed */
    float code[16];              /* CODEBOOK4 */
    /* CODEBOOK4 with double quantization: absmax = nested_code[nested[b]] * nested_scale[b / nested_block] + nested_offset, two roundings */
    void *nested;       /* u8 (blocks) */
    void *nested_scale; /* f32 */
    void *nested_code;  /* f32 (256) */
    int64_t nested_block;
    float nested_offset;
    void *packed; /* device-private order made by weight_pack; NULL when data serves */
} weight;

/* One low-rank term of a linear layer: y += s·(x·Aᵀ)·Bᵀ. */
typedef struct {
    const void *a, *b; /* dev, type `type`: A (rank, in), B (out, rank) */
    dtype type;
    int64_t rank;
    double s;
    void *h;       /* dev (rows, rank) f32 (f64 in ref64): forward writes x·Aᵀ; backward reads it                  */
    const void *x; /* dev (rows, in), what A reads when it is not the layer's x (dropout); NULL = the layer's x     */
    void *da, *db; /* backward: dev f32, += ; NULL = not wanted                                                     */
    void *dh;      /* backward: dev scratch (rows, rank)                                                            */
} lowrank_term;

/* ---- attention ---- */
/* A document: query rows q0..q0+q_count-1 see key rows k0..k0+k_count-1 with k_pos <= q_pos and, where window > 0,
 * q_pos - k_pos < window; and all virtual rows (positions 0..virtual_rows-1, the window counts them too).
 * Query rows of no span: o, lse and dq become 0. Key rows of no span: dk and dv are left alone. */
typedef struct {
    int64_t q0, q_count, k0, k_count;
} attention_span;

typedef struct {
    dtype type;            /* of q k v o and their gradients */
    const void *q, *k, *v; /* dev; head h of row i begins at i * stride + h * head_dim */
    int64_t q_stride, k_stride, v_stride, o_stride;
    const int32_t *q_pos, *k_pos; /* dev, increasing inside a span */
    const attention_span *spans;  /* host */
    int64_t span_count, rows;     /* rows: of q and o */
    int64_t heads, kv_heads, head_dim;
    double scale, softcap; /* score = softcap·tanh(scale·q·k / softcap); 0 = none */
    int64_t window;
    const void *virtual_k, *virtual_v; /* dev (virtual_rows, kv_heads·head_dim), NULL = none */
    int64_t virtual_rows;
    void *o;   /* forward writes, backward reads */
    void *lse; /* dev (rows, heads) f32 (f64): log-sum-exp of the scores; forward writes unless NULL, backward reads */
    const void *d_o;               /* backward, row stride o_stride */
    void *dq, *dk, *dv;            /* backward writes, strides as q k v */
    void *dvirtual_k, *dvirtual_v; /* backward adds, f32 (f64) */
} attention_call;

typedef enum { NORM_RMS, NORM_RMS_ONE_PLUS, NORM_LAYER } norm_kind;
typedef enum { ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF, ACT_RELU } activation_kind;

/* real = F32 (F64 in ref64): type of parameters, their gradients, lse, logp. "act" below = `type`, the activation type. */
struct kernels {
    const char *name; /* "ref" "ref64" "cpu" "fake" */
    const char *isa;  /* what cpu chose: "avx2" "avx512" "avx512-bf16" "amx"; else "" */
    dtype real;
    int32_t multiplies_bf16; /* 1: BF16 activations are worth having here */
    team *threads;
    void *state;

    void *(*alloc)(kernels *k, int64_t bytes); /* dev, zeroed, aligned to 64; NULL when there is no memory */
    void (*release)(kernels *k, void *dev);    /* NULL allowed */
    void (*upload)(kernels *k, void *dev, const void *host, int64_t bytes);
    void (*download)(kernels *k, void *host, const void *dev, int64_t bytes);
    void (*copy)(kernels *k, void *dev, const void *from, int64_t bytes);
    void (*zero)(kernels *k, void *dev, int64_t bytes);
    void (*convert)(kernels *k, void *dev, dtype type, const void *from, dtype from_type, int64_t n); /* float types */
    void (*close)(kernels *k);

    void (*gemm)(kernels *k, const gemm_call *g);
    void (*map)(kernels *k, const map_program *p, const map_call *c);

    /* Weights. pack may build `packed` (data stays valid only if the table says so by leaving it); free_packed releases it. */
    int64_t (*weight_packed_bytes)(kernels *k, const weight *w);
    void (*weight_pack)(kernels *k, weight *w);
    void (*weight_unpack)(kernels *k, weight *w);
    /* y (rows, out) [+]= alpha·x (rows, in)·Wᵀ + bias, then the terms in order. bias: real (out) or NULL. */
    void (*weight_forward)(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                           dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                           int32_t count);
    /* dx (rows, in) [+]= alpha·dy (rows, out)·W, then for each term dH = s·dy·B, dx += dH·A, dB += s·dyᵀ·H, dA += dHᵀ·x.
     * dx may be NULL: only the terms' gradients. A term with its own x does not add to dx: its dH stays for the caller. */
    void (*weight_input_grad)(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                              const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                              const lowrank_term *terms, int32_t count);
    void (*weight_row_sqnorm)(kernels *k, const weight *w, void *norms); /* real (out): Σ_i W[o,i]² */
    void (*weight_read)(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to,
                        dtype type); /* (rows, in) */
    void (*weight_gather)(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                          double scale);
    /* Codes and scales of a CODEBOOK4 or ROWS8 weight from (out, in) real values, by the rules of codebook.h (w->code set).
     * Plain absmax only: nested statistics are made on the host. The other layouts are quantized by formulas. */
    void (*weight_quantize)(kernels *k, weight *w, const void *from);

    /* The transformer. rows × width matrices are dense. */
    void (*norm_forward)(kernels *k, norm_kind kind, const void *x, const void *w, const void *b, double eps, void *y,
                         dtype type, int64_t rows, int64_t width);
    /* dx [+]= ; dw, db real, += , NULL = not wanted. */
    void (*norm_backward)(kernels *k, norm_kind kind, const void *x, const void *w, double eps, const void *dy,
                          void *dx, void *dw, void *db, dtype type, int64_t rows, int64_t width, int32_t accumulate);
    /* Rotates the first 2·pairs features of every head in place: angle = position·inv_freq[i], pair (i, i + pairs), times
     * `factor`. inverse = 1 rotates back (the gradient). Row stride `stride`. inv_freq: dev f32 (pairs); angles are f32
     * products (f64 tables in ref64 use the same f32 angles). */
    void (*rope)(kernels *k, void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
                 int64_t pairs, const int32_t *positions, const float *inv_freq, double factor, int32_t inverse);
    void (*attention_forward)(kernels *k, const attention_call *a);
    void (*attention_backward)(kernels *k, const attention_call *a);
    /* h = act(gate)·up, up NULL: h = act(gate). gate and up have row stride `stride` (fused matrices), h is dense. */
    void (*gate_forward)(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride, void *h,
                         dtype type, int64_t rows, int64_t width);
    void (*gate_backward)(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride,
                          const void *dh, void *dgate, void *dup, dtype type, int64_t rows,
                          int64_t width);                                   /* writes, stride as gate */
    void (*add)(kernels *k, void *y, const void *x, dtype type, int64_t n); /* y += x */
    void (*column_sum)(kernels *k, const void *x, dtype type, int64_t rows, int64_t width, void *sums); /* real, += */
    /* table_grad (vocab, width) real [ids[i]] += scale·dy[i]; rows whose id is `skip` are left out (-1: none). */
    void (*scatter_rows)(kernels *k, const int32_t *ids, const void *dy, dtype type, int64_t rows, int64_t width,
                         double scale, int64_t skip, void *table_grad);
    /* to[i] = from[rows[i]]; scatter: to[rows[i]] += from[i] (rows distinct). */
    void (*pick_rows)(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                      dtype type);
    void (*place_rows)(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                       dtype type);
    /* y [+]= x·keep/(1-p), keep by the rule of dropout.h from (seed, stream, row_key[row], feature): the same call masks a
     * gradient. */
    void (*dropout)(kernels *k, const void *x, void *y, dtype type, int64_t rows, int64_t width, double p,
                    uint64_t seed, uint64_t stream, const int64_t *row_key, int32_t accumulate);
    /* logits (rows, vocab): logp[i] = log softmax(cap(logits[i]))[target[i]], lse real (rows). cap 0 = none, else cap·tanh(z/cap). */
    void (*logprob)(kernels *k, const void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                    double cap, void *logp, void *lse);
    /* In place: logits[i,:] = dlogp[i]·d logp[i]/d logits[i,:]. */
    void (*logprob_grad)(kernels *k, void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                         double cap, const void *lse, const void *dlogp);
    void (*softcap)(kernels *k, void *logits, dtype type, int64_t n, double cap); /* in place */
    double (*sqnorm)(kernels *k, const void *x, dtype type, int64_t n);
    void (*scale)(kernels *k, void *x, dtype type, int64_t n, double factor);

    /* The table's own weight functions: those above choose what they are asked (layouts.h). */
    struct {
        void (*forward)(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                        dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                        int32_t count);
        void (*input_grad)(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                           const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                           const lowrank_term *terms, int32_t count);
        void (*row_sqnorm)(kernels *k, const weight *w, void *norms);
        void (*read)(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type);
        void (*gather)(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                       double scale);
    } own;
};

/* Opens a device. name: "cpu" "ref" "ref64" "fake"; threads may be NULL (one thread), borrowed until close.
 * Errors: an unknown name; GRAFT_CPU in the environment naming an ISA this machine lacks (the message lists what it has). */
int kernels_open(const char *name, team *threads, kernels **out, graft_error *err);

#endif
