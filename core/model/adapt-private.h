/* adapt-private — the parts of adapt share these: instances of techniques, their slots, and calls of their hooks. */
#ifndef GRAFT_MODEL_ADAPT_PRIVATE_H
#define GRAFT_MODEL_ADAPT_PRIVATE_H
#include "base/memory.h"
#include "formula/formula.h"
#include "model/adapt.h"

enum { ADAPT_SLOTS = 28 }; /* most slots of one component */

/* Names every formula knows, in the order of its bindings; the slots follow, then their gradients. */
enum { NAME_X, NAME_Y, NAME_DX, NAME_DY, NAME_W, NAME_LOSS, NAME_BIAS, NAME_DBIAS, NAMES_FIXED };
enum { ADAPT_BINDINGS = NAMES_FIXED + 2 * ADAPT_SLOTS };

typedef enum {
    HOOK_BIND,
    HOOK_OBSERVE,
    HOOK_INIT,
    HOOK_PREPARE,
    HOOK_FORWARD,
    HOOK_BACKWARD,
    HOOK_REGULARIZE,
    HOOK_AFTER_STEP,
    HOOK_SAVE,
    HOOK_COUNT
} hook;

typedef struct {
    int32_t rank, has_rows, activation;
    int64_t shape[FORMULA_RANK];
    int64_t stride[FORMULA_RANK]; /* of the corner of a larger SHARED tensor, 0: dense */
    int64_t count;                /* elements, or elements of one row where has_rows   */
    int64_t kept_at;              /* KEPT: bytes of one row's slots in front of this one in its block's area */
    void *data, *grad;            /* dev: PARAM BUFFER STEP */
    int32_t from_file;            /* its values came from a file: init is skipped */
    int32_t mask;                 /* 1: GRAFT_MASK; data is its bits, element e in bit e % 8 of byte e / 8 */
    int64_t zeros;                /* of a mask */
} slot_state;

typedef struct {
    hook at;
    uint64_t key; /* hash of the text */
    formula *program;
} compiled;

/* What an adapter folder gets of a slot in place of its values; by the save hook. */
typedef struct {
    float *values; /* host: those of the TEMP slot `from`, which has the same file name; NULL: none */
    uint8_t *kept; /* of each place of `dimension`: 1 = it is written; NULL: all of it is           */
    int32_t from, dimension;
    int32_t named; /* 1: the file's rank_pattern goes by this slot's name */
} saved_slot;

typedef struct instance {
    int32_t spec, point;
    graft_site site; /* what plugins see */
    void *config;    /* the options struct: the section's, or an own copy under a rank or alpha pattern */
    int32_t own_config;
    double *numbers;     /* values of the spec's number names */
    uint8_t *number_set; /* by the bind hook */
    slot_state slots[ADAPT_SLOTS];
    compiled *programs;
    int32_t program_count, program_capacity;
    int32_t initialized;
    int32_t replaces;    /* 1: its init writes W, or a mask of it does */
    int32_t init_rounds; /* rounds of init that ask for something, at least 1 */
    int32_t steps_on;    /* 1: its after_step asks for something */
    int32_t remasks;     /* 1: its after_step writes a mask */
    int32_t mask_new;    /* 1: a mask was written, W is not yet zero where it says */
    int32_t observes_dy; /* 1: they read dy */
    uint64_t observed;   /* names that the formulas of observe write, as bits of the bindings; 0: it has none */
    void *virtual_rows, *virtual_grad; /* KV and EMBED: dev real (rows, out) */
    saved_slot *saved;                 /* (slots) NULL: as they are          */
} instance;

/* Points that a technique refused for one reason. */
typedef struct {
    const char *first, *why;
    int32_t count;
} left_out;

/* One section: its component and names. */
typedef struct {
    adapt_spec in;
    const graft_adapter *functions;
    const char **number_names; /* options, NUMBER slots, built-ins */
    int32_t number_count, option_numbers;
    char *gradient_names[ADAPT_SLOTS]; /* "dA" */
    int32_t lowrank[4];                /* slots A and B, number s, slot H; lowrank[0] = -1: none */
    int32_t dropout;                   /* number of the option `dropout`, -1 = none */
    int32_t enabled;
    int32_t rounds;    /* of after_step */
    int32_t quantizes; /* 1: its init asked for the quantizer's round trip */
    instance **instances;
    int32_t count, capacity;
    left_out *left_out;
    int32_t left_out_count, left_out_capacity;
    instance *widest;    /* holds the SHARED slots, at the largest `in` and `out` of all sites; NULL: it has none */
    graft_field *fields; /* of adapter_config.json, by the save hook */
    int32_t field_count, field_capacity;
    double *saved_ranks, *saved_alphas; /* of the patterns, where the save hook gave them others; NULL: as they are */
} technique;

struct adapt {
    technique *techniques;
    int32_t count;
    const adapt_point *points;
    int32_t point_count;
    instance ***at; /* (points) instances of each point in INI order, NULL-terminated, or NULL */
    adapt_param *params, *buffers;
    int32_t param_count, buffer_count;
    kernels *device;
    uint64_t seed;
    int64_t step, steps; /* of the last after_step */
    int32_t textbook;    /* 1: fused kernels are not used */
    void (*round_trip)(void *context, const base_tensor *like, void *values,
                       graft_error *err); /* the quantizer's, or NULL */
    void *round_trip_context;
    arena names;
};

/* Number names behind the options and NUMBER slots. */
enum {
    BUILTIN_IN,
    BUILTIN_OUT,
    BUILTIN_LAYERS,
    BUILTIN_SITE,
    BUILTIN_SITES,
    BUILTIN_STEP,
    BUILTIN_STEPS,
    BUILTIN_LINEAR,
    BUILTIN_INPUT,
    BUILTIN_ONEHOT,
    BUILTIN_ROWS,
    BUILTIN_COUNT
};
extern const char *const adapt_builtin_names[BUILTIN_COUNT];

/* ---- adapt-call.c, adapt-mask.c ---- */
typedef struct {
    const void *x; /* dev (rows, in), NULL where onehot serves */
    const int32_t *onehot;
    void *y, *dx, *dy, *loss;
    const weight *w;  /* handle */
    const void *bias; /* of the base, dev real (out); NULL: it has none        */
    void *dbias;      /* its gradient; NULL where it is not trained            */
    void *w_tensor;   /* HOOK_INIT: dev real (out, in) */
} call_tensors;

/* What graft_call begins in memory: services find their way back through it. */
typedef struct {
    graft_call public;
    adapt *a;
    instance *i;
    hook h;
    int checking;
    const char *refused;
    const adapt_pass *pass;
    formula_binding bindings[ADAPT_BINDINGS];
    int64_t rows;
    char *scratch; /* behind the slots of this call: the formulas' temporaries        */
    int64_t room;  /* bytes there; -1 in a pass, whose scratch was planned for all    */
    void *own_room;
    void *dense[ADAPT_SLOTS];    /* dev real: masks of this call, opened to elements     */
    void *own_w;                 /* dev real: W as after_step reads it                   */
    int32_t wrote_w, wrote_mask; /* wrote_mask: bits of slots                                 */
    int32_t asked;               /* asked: 1 = a service that reads, writes or computes was called */
    graft_error *err;
} adapt_calling;

/* Runs one hook of one instance on the device. p may be NULL outside passes. The first error stays in err. */
int adapt_call(adapt *a, instance *i, hook h, const adapt_pass *p, const call_tensors *t, int64_t step, int64_t steps,
               int32_t *wrote_w, graft_error *err);
/* HOOK_INIT and HOOK_AFTER_STEP in one of their rounds. */
int adapt_call_init(adapt *a, instance *i, int64_t round, void *w, int32_t *wrote_w, graft_error *err);
int adapt_call_round(adapt *a, instance *i, int64_t round, graft_error *err);
/* Runs one hook on shapes alone: every formula is compiled and checked. */
int adapt_check(adapt *a, instance *i, hook h, const char **refused, graft_error *err);
/* Runs a formula as HOOK_INIT does (NULL: nothing); a slot's own. */
int adapt_run_init(adapt *a, instance *i, const char *formula, const call_tensors *t, graft_error *err);
int adapt_slot_init(adapt *a, instance *i, int32_t slot, const call_tensors *t, graft_error *err);
int adapt_slot_init_check(adapt *a, instance *i, int32_t slot, graft_error *err);
/* W is zero wherever a MASK slot of the instance is. w: dev real (out, in); *wrote is set when there is such a slot. */
int adapt_mask(adapt *a, instance *i, void *w, int32_t *wrote, graft_error *err);
/* Before formulas or the host touch names (bits of the bindings) outside a pass: masks are opened, W is read. */
int adapt_open(adapt_calling *c, uint64_t names, uint64_t writes);
/* Masks that were written go back into their bits. */
void adapt_close(adapt_calling *c);
/* The masters of trained weights; only_new: where a mask was written since. */
int adapt_mask_trained(adapt *a, int32_t only_new, graft_error *err);
/* Every name of a hook's formulas, as many as returned; t has ADAPT_BINDINGS entries. */
int32_t adapt_fill_names(const adapt *a, const instance *i, hook h, formula_tensor *t);
extern const char *const adapt_hook_names[HOOK_COUNT];

/* ---- adapt-host.c: the services that compute on the host ---- */
void adapt_read_slot(graft_call *g, const char *name, double *values);
void adapt_write_slot(graft_call *g, const char *name, const double *values);
int64_t adapt_slot_size(graft_call *g, const char *name);
void adapt_svd(graft_call *g, const char *of, const char *u, const char *s, const char *vt);
void adapt_qr(graft_call *g, const char *of, const char *q, const char *r);
void adapt_quantize(graft_call *g, const char *from, const char *to);
void adapt_rank(const double *values, int64_t count, int64_t *order);
void adapt_keep(graft_call *g, const char *slot, int32_t dimension, const double *mask);
void adapt_field(graft_call *g, const char *key, const char *value);
/* Behind a save hook: its TEMP slots that have the file name of another slot become what is saved of that one. */
void adapt_take_saved(adapt_calling *c);
void adapt_forget_saved(instance *i, int32_t slots);

/* ---- adapt-bind.c ---- */
/* What was left out and why, a line for each reason. */
void adapt_say_left_out(const technique *t, strbuf *out);

/* ---- adapt-list.c ---- */
int adapt_list_params(adapt *a, int32_t spec, int32_t *params, int32_t *buffers, graft_error *err);
/* Of a tied pair (embedding and head, the only one in these families) the half that is not `t`; NULL: t is not tied. */
base_tensor *adapt_other_half(const adapt *a, const base_tensor *t);

static inline const graft_slot *slot_of(const technique *t, int32_t slot) {
    return &t->in.component->slots[slot];
}
static inline int32_t slot_count(const technique *t) {
    return t->in.component->slot_count;
}
static inline int64_t round_up(int64_t bytes) {
    return (bytes + 63) & ~(int64_t)63;
}
void adapt_release_device(adapt *a);
void adapt_point_param(adapt_param *p);
/* 1: the update here is the declared A B s H and nothing else: no other PARAM has elements. */
int adapt_is_lowrank(const adapt *a, const instance *i);
int64_t adapt_virtual_rows(const adapt *a, const instance *i);
int64_t adapt_instance_scratch(const adapt *a, const instance *i, int64_t rows, dtype activation, dtype real);

void *adapt_kept(const instance *i, int32_t slot, const adapt_pass *p);
int64_t adapt_slot_bytes(const slot_state *s, int64_t rows, dtype activation, dtype real);

#endif
