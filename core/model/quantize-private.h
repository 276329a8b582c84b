/* quantize-private — a quantizer's formulas made ready for matrices of one width, and what its slots hold.
 *
 * A quantizer sees blocks: w (blocks, width). block_size = n: stretches of n elements of the flattened matrix, the last one
 * filled with zeros. group_size = n: the same within every row, filled with its last element. Neither: a row is a block. The
 * first dimension of a slot that grows with the matrix counts blocks, so any stretch of blocks can be made or read alone. */
#ifndef GRAFT_MODEL_QUANTIZE_PRIVATE_H
#define GRAFT_MODEL_QUANTIZE_PRIVATE_H
#include "base/memory.h"
#include "formats/safetensors.h"
#include "formula/formula.h"
#include "model/quantize.h"

enum { QUANTIZE_SLOTS = 16, QUANTIZE_NUMBERS = 64, QUANTIZE_STEPS = 256 };

/* The formulas of one callback, in order. */
typedef struct {
    formula *step[QUANTIZE_STEPS];
    int32_t count;
} quantize_steps;

typedef struct quantize_program {
    struct quantize_program *next;
    int64_t in;
    int64_t width, pitch; /* elements of a block; of the blocks of a row (in, when blocks cross rows)  */
    int64_t align;        /* a block whose number is a multiple begins a byte in every slot            */
    formula_tensor names[1 + QUANTIZE_SLOTS]; /* 0 is w, then the component's slots                                  */
    int64_t per_block[1 + QUANTIZE_SLOTS];    /* elements; 0: the slot has a fixed size                              */
    quantize_steps quantize, dequantize;
    /* Device memory of one tile, allocated when first used. */
    kernels *device;
    int64_t tile; /* blocks, at most */
    void *w, *temps[QUANTIZE_SLOTS], *scratch;
} quantize_program;

struct quantize {
    quantize_spec in;
    weight_layout layout;       /* of the component; PLAIN without one */
    int64_t block, group;       /* options block_size and group_size, 0 = none */
    int32_t nested, bits;       /* option double_quant; AFFINE: of a code */
    float threshold;            /* option threshold */
    int32_t codes, scale, zero; /* slots of a known layout, -1 = none */
    float code[16];             /* the code book of a codebook4 */
    const char *number_names[QUANTIZE_NUMBERS];
    double numbers[QUANTIZE_NUMBERS];
    int32_t number_count, size_number, in_number, out_number;
    quantize_program *programs; /* one for each width of a row */
    safetensors *state;
};

/* A custom weight: what its BUFFER slots hold. */
typedef struct {
    weight_custom base; /* first: what weight.custom points to */
    quantize *q;
    int64_t out, in;
    void *slots[QUANTIZE_SLOTS];
} quantize_custom;

static inline int quantize_is_stored(const graft_slot *s) {
    return s->role == GRAFT_BUFFER && !s->values;
}

/* quantize-formula.c: the program for rows of `in`, compiled when first asked for; NULL: error told. */
quantize_program *quantize_program_for(quantize *q, int64_t in, graft_error *err);
void quantize_programs_free(quantize *q);
int quantize_slot_bits(const formula_tensor *t);                 /* of an element as it is stored */
int64_t quantize_blocks(const quantize_program *p, int64_t out); /* of a matrix of so many rows */
int64_t quantize_slot_elements(const quantize_program *p, int32_t slot, int64_t blocks);
int64_t quantize_slot_bytes(const quantize_program *p, int32_t slot, int64_t blocks); /* of a BUFFER */
/* The numbers size, in and out of a tile. */
void quantize_set_sizes(const quantize *q, const quantize_program *p, double *numbers, int64_t blocks);

/* quantize-tiles.c: values (dev real) of rows row .. row + rows - 1 into the weight's slots; rows of it, not rounded, back to `to` (dev real). */
int quantize_by_formulas(quantize *q, kernels *k, const weight *w, int64_t row, int64_t rows, const void *values,
                         graft_error *err);
int quantize_rows_by_formulas(quantize *q, kernels *k, const weight *w, int64_t first, int64_t count, void *to,
                              graft_error *err);
void quantize_custom_rows(const weight_custom *c, kernels *k, int64_t first, int64_t count, void *to);
int64_t quantize_tile_rows(const quantize_program *p); /* rows of a tile, at most */

/* quantize-grid.c: the packed form of values (dev real) into w, whose memory it allocates, by the rule that made `like`. */
int quantize_grid_again(kernels *k, const weight *like, weight *w, const void *values, const char *name,
                        graft_error *err);

#endif
