/* optimizer-private — what the files of the optimizer share. */
#ifndef GRAFT_RUN_OPTIMIZER_PRIVATE_H
#define GRAFT_RUN_OPTIMIZER_PRIVATE_H
#include "base/memory.h"
#include "formula/formula.h"
#include "kernels/blocks8.h"
#include "run/optimizer.h"

enum { OPTIMIZER_SLOTS = 16, OPTIMIZER_TILE = 1 << 18 /* elements, whole blocks of 8 bits */ };
/* The numbers behind options and NUMBER slots; the last two change from step to step. */
enum { NUMBER_SIZE, NUMBER_MATRIX, NUMBER_OUT, NUMBER_IN, NUMBER_LR, NUMBER_T, NUMBERS_FIXED };

typedef struct {
    char *text;
    formula *program;
} optimizer_program;

/* What sets parameters of one shape apart. */
typedef struct {
    int32_t decays;  /* 0: weight_decay is 0 */
    double lr_scale; /* times lr             */
} optimizer_group;

typedef struct {
    optimizer_group group;
    void *config;  /* the component's options, weight_decay 0 where the group does not decay */
    int32_t rank;  /* of the parameter: 1 or 2 */
    int32_t tiled; /* 1: updated OPTIMIZER_TILE elements at a time */
    int64_t own[FORMULA_RANK], count;
    int64_t shape[OPTIMIZER_SLOTS][FORMULA_RANK]; /* extents of each slot */
    int64_t slot_count[OPTIMIZER_SLOTS];          /* its elements; 0: absent */
    int32_t slot_rank[OPTIMIZER_SLOTS];
    int32_t like_p[OPTIMIZER_SLOTS]; /* 1: it lies like the parameter              */
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
    int32_t state_bits;
    const char **number_names; /* options, NUMBER slots, the fixed ones */
    int32_t number_count, first_fixed;
    optimizer_shape *shapes;
    int32_t shape_count, shape_capacity;
    const adapt_param *params; /* of the running step */
    int32_t param_count;
    int32_t *shape_of;     /* (params) */
    const char **names;    /* (params) */
    optimizer_slot *slots; /* (params, slots) */
    void *
        shared[OPTIMIZER_SLOTS]; /* dev: a TEMP slot, or the widened state of an 8-bit slot, of the running parameter */
    void *scratch;               /* dev */
    optimizer_state *states;
    int64_t state_count, state_capacity;
    int64_t updates;
    arena memory;
};

static inline const graft_slot *slot_at(const optimizer *o, int32_t s) {
    return &o->component->slots[s];
}

/* Elements of slot s that one run of formulas sees. */
static inline int64_t optimizer_seen(const optimizer_shape *c, int32_t s) {
    return c->tiled && c->slot_count[s] > OPTIMIZER_TILE ? OPTIMIZER_TILE : c->slot_count[s];
}

/* ---- optimizer-shape.c ---- */
/* Sets group[i] of every parameter. GRAFT_USAGE as optimizer_create. */
int optimizer_groups(const plugin_component *component, const optimizer_settings *settings, const adapt_param *params,
                     int32_t count, optimizer_group *group, graft_error *err);
/* The number of the shape of `p`, made and compiled when it is the first of its kind; -1: err says why not. */
int32_t optimizer_shape_of(optimizer *o, const adapt_param *p, const optimizer_group *group, graft_error *err);

/* ---- optimizer-call.c ---- */
/* Runs the update of one parameter, or the init formula of one of its slots (init not NULL); param -1: only checks and
 * compiles for the shape. */
int optimizer_call(optimizer *o, int32_t shape, int32_t param, const char *init, graft_error *err);
/* 1 when every formula of the shape works on elements alone. */
int optimizer_is_elementwise(optimizer *o, int32_t shape, graft_error *err);

#endif
