/* formula — what plugins compute with: statements in index notation, checked on shapes, compiled once, run on any device.
 *
 *   H[n,r] = x[n,i] * A[r,i];  y[n,o] += s * H[n,r] * B[o,r]
 *
 * Grammar and rules: CONTRACT section 6. An index absent on the left is summed; a tensor without brackets has all its
 * indices by position; W is a handle that may stand only in a product with rows or in the row sum of W·W.
 * A program is compiled for fixed shapes except the number of rows, which is given with every run. */
#ifndef GRAFT_FORMULA_H
#define GRAFT_FORMULA_H
#include "base/error.h"
#include "kernels/kernels.h"

enum { FORMULA_RANK = 4, FORMULA_ROWS = -1 /* as an extent: the number of rows of the call */ };

typedef enum {
    FORMULA_TENSOR,
    FORMULA_WEIGHT, /* a base weight handle (out, in) */
    FORMULA_ONEHOT  /* (rows, in), given by the column of the 1 of each row */
} formula_kind;

enum { FORMULA_READ = 1, FORMULA_WRITE = 2, FORMULA_ADD = 4 /* += and -= only */ };

/* One tensor name. Borrowed by formula_compile for the call. */
typedef struct {
    const char *name;
    formula_kind kind;
    int32_t may; /* FORMULA_READ | ...; 0: the name exists but not in this callback (said in the error) */
    int32_t rank;
    int64_t shape[FORMULA_RANK]; /* an extent 0: the slot is absent here, its statements are checked and skipped */
    dtype type;
    store_kind store;
    int32_t activation; /* 1: `type` is replaced by the activation type of the run (x y dx dy and wide KEPT slots) */
    int64_t stride[FORMULA_RANK]; /* elements from one index to the next; 0: the tensor is dense from there on      */
} formula_tensor;

typedef struct {
    const formula_tensor *tensors;
    int32_t tensor_count;
    const char *const *numbers; /* names of numbers: options, NUMBER slots, rows in out lr t ... */
    int32_t number_count;
    const char *where; /* "lora forward at model.layers.0.self_attn.q_proj", for messages */
    dtype real; /* of the device's temporaries: F32 counts 4 bytes an element, F64 (the zero) 8, enough for both */
} formula_scope;

typedef struct formula formula;

/* Parses, checks and compiles all statements of `text`. Errors (GRAFT_FAILED) show the statement with a caret under the
 * place. *out is owned by the caller. */
int formula_compile(const char *text, const formula_scope *scope, formula **out, graft_error *err);
void formula_free(formula *f);

/* What a tensor name stands for in one run, in the order of scope->tensors. data, w and onehot NULL: absent (skipped). */
typedef struct {
    void *data;  /* dev */
    void *scale; /* dev, STORE_BLOCKS8 */
    const weight *w;
    const int32_t *onehot; /* dev */
} formula_binding;

typedef struct {
    kernels *device;
    const formula_binding *bindings;
    const double *numbers; /* in the order of scope->numbers */
    int64_t rows;
    dtype activation;      /* type of tensors marked activation */
    void *scratch;         /* dev, formula_scratch bytes */
    uint64_t seed, stream; /* of uniform and normal; the statement and its target's name are mixed in */
    graft_error *err;      /* NULL allowed; see below */
} formula_run_call;

/* Runs all statements in order. What shapes cannot tell ends the run with GRAFT_FAILED: a number in brackets (`U[=j,i]`) that
 * is no index of its tensor, mt19937 with a seed or first draw out of range. */
int formula_run(const formula *f, const formula_run_call *c);
int64_t formula_scratch(const formula *f, int64_t rows); /* bytes of temporaries a run needs */

/* Lists what the program writes and reads, as bits over scope->tensors (for liveness: is W needed, is x needed). */
void formula_uses(const formula *f, uint64_t *reads, uint64_t *writes);

/* Value of a number formula ("alpha / rank", "sqrt(in)") from names and values. */
int formula_number(const char *text, const char *const *names, const double *values, int32_t count, double *out,
                   graft_error *err);
/* Extents of a shape ("rank, in/block"): whole numbers >= 0; `rows` gives FORMULA_ROWS. Returns the rank through *rank. */
int formula_shape(const char *text, const char *const *names, const double *values, int32_t count,
                  int64_t shape[FORMULA_RANK], int32_t *rank, graft_error *err);

#endif
