/* lower — shared by the files that turn a checked statement into steps.
 *
 *   lower.c    terms of the statement, their order, the target
 *   product.c  a term of several factors: which two are multiplied first, and how
 *   matrix.c   one product as a gemm or weight call: strides, copies
 *   map.c      one map */
#ifndef GRAFT_FORMULA_LOWER_H
#define GRAFT_FORMULA_LOWER_H
#include "formula/parts.h"

enum {
    PIECES = 32, /* bits of a set of pieces    */
    FACTORS = 8, /* of a term, without numbers */
    TERMS = 16,  /* of a statement             */
    MAP_CODE = 768,
    ROWS_ASSUMED = 1024 /* costs are compared for so many rows */
};

/* What products multiply: a part of the tree, or a temporary. */
typedef struct {
    int32_t node;    /* -1: a temporary                                     */
    int32_t inverse; /* 1: divides                                          */
    uint32_t indices;
    int32_t handle; /* FORMULA_WEIGHT or FORMULA_ONEHOT, else 0            */
    int32_t plain;  /* 1: float numbers at `at` with `stride`, as gemm reads them */
    place at;
    extent stride[FORMULA_INDICES];
} piece;

/* Where a step writes: indices in row-major order and their strides. */
typedef struct {
    place at;
    int32_t order[FORMULA_INDICES], count;
    uint32_t indices;
    extent stride[FORMULA_INDICES];
    int32_t plain,
        exact; /* 1: gemm can write it; 1: of the device's real type, so adding twice rounds no more than once */
} output;

typedef struct {
    formula *f;
    statement *s;
    step **tail;
    int32_t temps, pieces;
    int32_t crowded; /* 1: too many nodes or terms for products: one map */
    extent temp[FORMULA_TEMPS];
    piece piece[PIECES];
} lowering;

/* lower.c: -1 where an error was told. */
place access_place(lowering *l, const access *a);
int32_t temp_add(lowering *l, uint32_t indices); /* -1: error told       */
int32_t piece_add(lowering *l, const piece *p);  /* -1: error told       */
step *step_new(lowering *l, step_kind kind);     /* not yet in the list  */
void step_append(lowering *l, step *st);
int32_t indices_in_order(uint32_t set, const extent *stride, int32_t order[FORMULA_INDICES]);
void dense_strides(const lowering *l, const int32_t *order, int32_t count, extent stride[FORMULA_INDICES]);
/* Writes the product of `pieces` (bits) to a new temporary whose layout is `order`, summing what order lacks: its piece. */
int32_t materialize(lowering *l, uint32_t pieces, const int32_t *order, int32_t count);

static inline double extent_cost(extent e) {
    double n = (double)e.n;
    for (int64_t p = 0; p < e.power; p++)
        n *= ROWS_ASSUMED;
    return n;
}
static inline double set_cost(const lowering *l, uint32_t set) {
    double n = 1;
    for (; set; set &= set - 1)
        n *= extent_cost(l->s->index[__builtin_ctz(set)].size);
    return n;
}
static inline const formula_tensor *piece_tensor(const lowering *l, const piece *p) {
    return &l->s->scope->tensors[p->at.tensor];
}

/* map.c */
typedef struct {
    place at;
    extent stride[FORMULA_INDICES]; /* per index of the statement; while the map ends: per place in its order */
    extent gather, gather_extent;
} map_source;

typedef struct {
    lowering *l;
    map_store store;
    int32_t place_of[FORMULA_INDICES]; /* of a statement's index in the order */
    int32_t order[FORMULA_INDICES], count, kept;
    extent size[FORMULA_INDICES];
    uint32_t valued; /* places whose index is used as a value */
    int32_t operands, depth, length, numbers, twister;
    map_source operand[MAP_OPERANDS];
    map_instruction code[MAP_CODE];
    int32_t number[FORMULA_NUMBERS];
} map_build;
void map_begin(map_build *b, lowering *l, const output *to, uint32_t reduced, map_store store);
int map_node(map_build *b, int32_t node);
int map_pieces(map_build *b, uint32_t pieces); /* their product */
int map_number(map_build *b, int32_t number);
int map_operation(map_build *b, map_op op); /* on what stands on the stack */
int map_end(map_build *b);

/* product.c */
typedef struct {
    int32_t node, sign;
    int16_t up[FACTORS], down[FACTORS]; /* numbers */
    int16_t factor[FACTORS];            /* pieces  */
    int32_t ups, downs, factors;
    int32_t squared; /* 1: a factor is the row sum of W·W */
} term;

typedef enum { COMBINE_NONE, COMBINE_LAZY, COMBINE_REDUCE, COMBINE_GEMM, COMBINE_HANDLE } combine;

/* The last multiplication of a term: what remains when everything before it is in temporaries. */
typedef struct {
    combine kind;
    uint32_t a, b;    /* pieces                            */
    uint32_t ia, ib;  /* the indices they bring            */
    uint32_t indices; /* of the result                     */
} last_product;

int term_open(lowering *l, term *t, int32_t node, int32_t sign);
/* *is_product = 1: the term is worth, or needs, products; its steps but the last are appended. */
int term_lower(lowering *l, term *t, int32_t *is_product, last_product *last);
int say_handle(const lowering *l, const piece *p);

/* matrix.c: the last product of p, written to `to` (NULL: to a temporary). *prepared: a step that is not yet in the list and
 * has neither alpha nor accumulate; if it stays as it was, the product is in the piece *result. */
int matrix_product(lowering *l, const last_product *p, const output *to, int32_t may_add, step **prepared,
                   int32_t *result);

#endif
