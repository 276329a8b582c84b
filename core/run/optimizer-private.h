/* optimizer-private — what the two files of the optimizer share. */
#ifndef GRAFT_RUN_OPTIMIZER_PRIVATE_H
#define GRAFT_RUN_OPTIMIZER_PRIVATE_H
#include "base/memory.h"
#include "formula/formula.h"
#include "run/optimizer.h"

enum { OPTIMIZER_SLOTS = 16 };
/* The numbers behind options and NUMBER slots; the last two change from step to step. */
enum { NUMBER_SIZE, NUMBER_MATRIX, NUMBER_OUT, NUMBER_IN, NUMBER_LR, NUMBER_T, NUMBERS_FIXED };

typedef struct {
    char *text;
    formula *program;
} optimizer_program;

typedef struct {
    int32_t rank; /* of the parameter: 1 or 2 */
    int64_t own[FORMULA_RANK], count;
    int64_t shape[OPTIMIZER_SLOTS][FORMULA_RANK]; /* extents of each slot */
    int64_t slot_count[OPTIMIZER_SLOTS];          /* its elements; 0: absent */
    int32_t slot_rank[OPTIMIZER_SLOTS];
    store_kind store[OPTIMIZER_SLOTS];
    double *numbers;
    optimizer_program *programs;
    int32_t program_count, program_capacity;
} optimizer_shape;

typedef struct {
    void *data, *scale; /* dev */
} optimizer_slot;

struct optimizer {
    const plugin_component *component;
    const void *config;
    kernels *device;
    uint64_t seed;
    const char **number_names; /* options, NUMBER slots, the fixed ones */
    int32_t number_count, first_fixed;
    optimizer_shape *shapes;
    int32_t shape_count, shape_capacity;
    const adapt_param *params; /* of the running step */
    int32_t param_count;
    int32_t *shape_of;     /* (params) */
    const char **names;    /* (params) */
    optimizer_slot *slots; /* (params, slots) */
    optimizer_slot temp[OPTIMIZER_SLOTS];
    void *scratch; /* dev */
    optimizer_state *states;
    int64_t state_count, state_capacity;
    int64_t updates;
    arena memory;
};

static inline const graft_slot *slot_at(const optimizer *o, int32_t s) {
    return &o->component->slots[s];
}

/* Runs the update of one parameter, or the init formula of one of its slots (init not NULL); param -1: only checks and compiles
 * for the shape. */
int optimizer_call(optimizer *o, int32_t shape, int32_t param, const char *init, graft_error *err);

#endif
