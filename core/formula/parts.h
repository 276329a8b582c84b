/* parts — the private half of the formula room: what parse, check, lower and run hand to each other.
 *
 *   text --parse--> statement (a tree) --check--> names, extents, rules --lower--> steps (gemm, weight, map) --run--> kernels
 *
 * A statement is worked on in one struct of fixed size: hostile text meets a limit, never the end of a stack. */
#ifndef GRAFT_FORMULA_PARTS_H
#define GRAFT_FORMULA_PARTS_H
#include "base/memory.h"
#include "formula/formula.h"

enum {
    FORMULA_TEXT = 1 << 14, /* bytes of a program                                        */
    FORMULA_DEPTH = 48,     /* parentheses, signs and ?: inside each other               */
    FORMULA_NODES = 512,    /* numbers, names and operators of a statement               */
    FORMULA_ACCESSES = 32,  /* tensors named by a statement                              */
    FORMULA_INDICES = 12,   /* different indices of a statement                          */
    FORMULA_SPLIT = 3,      /* indices that share one dimension                          */
    FORMULA_TENSORS = 64,   /* names of a scope (bits of formula_uses)                   */
    FORMULA_STACK = 64,     /* values a number expression holds at once                  */
    FORMULA_TEMPS = 32,     /* temporary tensors of a statement                          */
    FORMULA_NUMBERS = 128   /* folded numbers of one map                                 */
};

/* ---- sizes: known but for the number of rows ---- */

typedef struct {
    int64_t n, power; /* n · rows^power */
} extent;

/* Saturates: what is as large as that is refused where memory or work would be asked for. */
static inline extent extent_times(extent a, extent b) {
    int64_t n;
    return (extent){__builtin_mul_overflow(a.n, b.n, &n) ? INT64_MAX : n, a.power + b.power};
}
static inline int extent_equal(extent a, extent b) {
    return a.n == b.n && (a.power == b.power || a.n == 0);
}
static inline int64_t extent_value(extent e, int64_t rows) {
    for (int64_t p = 0; p < e.power; p++)
        e.n *= rows;
    return e.n;
}

/* ---- the tree of a statement ---- */

typedef enum {
    NODE_VALUE,  /* a literal                                   */
    NODE_WORD,   /* a name not yet looked up                    */
    NODE_NUMBER, /* number `name` of the scope                  */
    NODE_TENSOR, /* access `name` of the statement              */
    NODE_INDEX,  /* the value of index `name` of the statement  */
    NODE_CALL    /* op on arguments: operators and functions    */
} node_kind;

typedef struct {
    node_kind kind;
    map_op op;
    int16_t argument[3], arguments;
    int32_t at, length; /* place in the text; the length of words */
    int32_t name;
    uint32_t indices; /* bits: what the value depends on           */
    int32_t number;   /* 1: made of numbers alone, folded in double */
    double value;
} node;

typedef enum {
    ITEM_INDEX,  /* i, or (k,b) with count 2                       */
    ITEM_NUMBER, /* 3 or =j: expression `node`                      */
    ITEM_GATHER  /* q[n]: expression `node`, its value is the index */
} item_kind;

typedef struct {
    item_kind kind;
    int32_t at;
    int16_t count, index[FORMULA_SPLIT], node;
    extent stride, size; /* of the dimension */
} item;

/* A tensor as it stands in a statement. */
typedef struct {
    int32_t at, length; /* its name in the text */
    int32_t tensor;     /* of the scope         */
    int32_t brackets, rank;
    item items[FORMULA_RANK];
    int32_t gather;                 /* its ITEM_GATHER, -1 = none                       */
    uint32_t indices;               /* bits, without those inside a gather              */
    extent stride[FORMULA_INDICES]; /* per index of the statement, 0 = does not move it */
} access;

typedef struct {
    int32_t at, length; /* its first place; length 0: a position of bare tensors */
    extent size;
    int32_t known; /* access that told the size, -1 = not told              */
} index_info;

typedef struct {
    const char *text;
    int32_t begin, end; /* the statement in the text */
    int32_t at, depth;  /* of the parser             */
    const formula_scope *scope;
    graft_error *err;
    map_store store;
    int32_t expression;    /* node                                                             */
    uint32_t kept, summed; /* indices on the left; on the right alone                          */
    int32_t absent;        /* 1: names a tensor that is absent here                            */
    int32_t random;        /* 1: draws random numbers                                          */
    int32_t distinct[2];   /* nodes of two =numbers that must differ at run time, -1 = none    */
    int32_t nodes, accesses, indices;
    node node[FORMULA_NODES];
    access access[FORMULA_ACCESSES]; /* 0 is the target */
    index_info index[FORMULA_INDICES];
} statement;

/* parse.c. Each returns 0 or GRAFT_FAILED with the error told. */
void statement_open(statement *s, const char *text, int32_t begin, int32_t end, const formula_scope *scope,
                    graft_error *err);
int parse_statement(statement *s); /* text from begin to end                     */
int parse_numbers(statement *s, int32_t *nodes, int32_t limit, int32_t *count); /* expressions separated by commas */
int32_t node_add(statement *s, node n); /* -1: the statement is too long (error told) */
int32_t node_call(statement *s, map_op op, int32_t at, int32_t arguments, const int32_t *argument); /* the same */
int32_t index_of(const statement *s, int32_t at, int32_t length); /* by name, -1 = none                         */

/* check.c */
int check_statement(statement *s);
int check_numbers(statement *s); /* every word is a number */
static inline const formula_tensor *tensor_of(const statement *s, const access *a) {
    return &s->scope->tensors[a->tensor];
}

/* extents.c */
int check_extents(statement *s);
int set_strides(statement *s);

/* sums.c */
int check_sums(const statement *s);
int check_target_on_right(statement *s);

/* say.c: "WHERE: message", the statement, and a caret under `at`. Returns GRAFT_FAILED. */
int say(const statement *s, int32_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
int say_unknown(const statement *s, int32_t at, int32_t length, int32_t tensors); /* with the nearest name */
const char *say_extent(extent e, char text[24]);
const char *index_name(const statement *s, int32_t index, char name[40]);

/* ---- the compiled program ---- */

/* An expression of numbers in reverse Polish order over map_op: MAP_NUMBER n pushes scope number n, or constant ~n. */
typedef struct {
    int32_t first, length;
} number_code;

/* One fixed place of a dimension: 3 or =j. */
typedef struct {
    int32_t number, at; /* number_code; place in the text for messages */
    extent stride, size;
} pick;

typedef struct {
    int32_t tensor; /* of the scope; ~t: temporary t of the statement */
    int32_t picks;
    const pick *pick;
} place;

typedef struct {
    place at;
    extent stride[MAP_INDICES], gather, gather_extent;
} map_place;

typedef struct {
    map_program program;
    extent size[MAP_INDICES];
    map_place *operand;
    int32_t *number; /* number_codes of the program's numbers */
    int32_t twister; /* the number that is mt19937's seed, the next is the draw it begins with; -1 = none */
} map_step;

typedef struct {
    place at;
    extent row, col, batch;
} matrix_place;

typedef struct {
    extent batch, m, n, k;
    matrix_place a, b, c;
    int32_t onehot, transposed; /* a is the one-hot tensor a.at */
} gemm_step;

typedef struct {
    int32_t w; /* tensor of the scope */
    place x, y;
    extent rows;
} weight_step;

typedef enum { STEP_MAP, STEP_GEMM, STEP_WEIGHT_FORWARD, STEP_WEIGHT_GRAD, STEP_WEIGHT_SQNORM } step_kind;

typedef struct step {
    struct step *next;
    step_kind kind;
    int32_t alpha, accumulate; /* of products; alpha is a number_code */
    union {
        map_step map;
        gemm_step gemm;
        weight_step weight;
    };
} step;

typedef struct program_statement {
    struct program_statement *next;
    const char *text; /* for messages at run time */
    uint64_t uses;    /* bits of tensors: one that is absent skips the statement */
    uint64_t salt;    /* added to the stream of random numbers                     */
    int32_t distinct[2];
    int32_t temps;
    extent *temp; /* elements of each temporary */
    step *steps;
} program_statement;

typedef struct {
    formula_kind kind;
    dtype type;
    store_kind store;
    int32_t activation;
} tensor_info;

struct formula {
    arena memory;
    program_statement *statements;
    tensor_info *tensors;
    int32_t tensor_count, number_count;
    int64_t temp_bytes; /* of one element */
    uint64_t reads, writes;
    const char *where;
    map_instruction *code; /* of number_codes */
    number_code *numbers;
    double *constants;
    int32_t code_count, code_capacity, numbers_count, numbers_capacity, constant_count, constant_capacity;
};

/* number.c */
int32_t op_arguments(map_op op);                                     /* values it takes from the stack */
int32_t number_constant(formula *f, double value);                   /* a number_code       */
int32_t number_add(formula *f, const statement *s, int32_t at_node); /* -1: error told      */
/* sign · the product of `up` / the product of `down` */
int32_t number_product(formula *f, const statement *s, int32_t sign, const int16_t *up, int32_t ups,
                       const int16_t *down, int32_t downs);
double number_value(const formula *f, int32_t number, const double *values);
int number_same(const statement *s, int32_t a, int32_t b); /* 1: the same expression */

/* lower.c */
enum { LOWER_MAPS_ONLY = 1 /* no products: every statement is one map; what tests compare with */ };
int lower_statement(formula *f, statement *s, int32_t number, int32_t flags);

/* compile.c */
int formula_compile_as(const char *text, const formula_scope *scope, int32_t flags, formula **out, graft_error *err);

#endif
