/* optimizer — runs an optimizer component's formulas over everything that is trained, and owns its state on the device.
 *
 * Names in its formulas: p the parameter, g its gradient (clipped), the component's slots, and the numbers lr, t (updates of
 * this parameter, from 1), size, matrix (1 for a matrix), out and in (of a matrix, else 0), and its options. A slot of shape
 * "size" (or "option ? size : 0": absent unless) lies like p; "out" and "in" are vectors of a matrix and absent elsewhere. Slots: BUFFER state that checkpoints
 * hold, TEMP scratch, NUMBER a formula of options and sizes. Threads: as the kernel table.
 *
 * States of 8 bits (bitsandbytes' blockwise maps, one absmax for 256 numbers): slots with store = "blocks8", and with
 * state_bits 8 every BUFFER that lies like p, where the parameter has 4096 elements or more. Formulas never see codes: a
 * state is widened, updated and rounded once, so p follows from numbers that are not rounded yet. Updates of elements alone
 * (no brackets, no draws) go through the parameter in tiles; any other needs room for one whole parameter. */
#ifndef GRAFT_RUN_OPTIMIZER_H
#define GRAFT_RUN_OPTIMIZER_H
#include "kernels/kernels.h"
#include "model/adapt.h"
#include "plugin/host.h"

typedef struct optimizer optimizer;

/* What holds for any component. {0}: nothing special. Patterns are names, ends behind a dot, or globs of either. */
typedef struct {
    uint64_t seed; /* of draws                                                                                     */
    int32_t state_bits;          /* 8: see above; else as the slots say                                              */
    const char *const *no_decay; /* parameters for which the option weight_decay is 0                               */
    int32_t no_decay_count;
    const char *const *scaled; /* parameters whose lr is multiplied: the first pattern that fits decides           */
    const double *scales;      /* (scaled_count)                                                                   */
    int32_t scaled_count;
} optimizer_settings;

/* Checks and compiles every formula for every parameter's shape; allocates nothing on the device. `params` is the list of
 * adapt_params, whose order is that of the state; its names are borrowed, its pointers are read at optimizer_step.
 * `settings` is read here alone. GRAFT_USAGE for patterns that fit nothing, and no_decay where there is no weight_decay. */
int optimizer_create(const plugin_component *component, const void *config, const optimizer_settings *settings,
                     const adapt_param *params, int32_t count, kernels *device, optimizer **out, graft_error *err);
void optimizer_free(optimizer *o);

int64_t optimizer_bytes(const optimizer *o); /* of state and scratch on the device */
int optimizer_allocate(optimizer *o, graft_error *err);

/* One update of every parameter from its gradient, in the order of the list; `params` as adapt_params gives it now. */
int optimizer_step(optimizer *o, const adapt_param *params, double lr, graft_error *err);

/* ---- what checkpoints hold ---- */
typedef struct {
    const char *slot; /* "exp_avg": the slot's file name, or its name; behind it ".absmax" for the scales of blocks8 */
    int32_t param;    /* place in the list of parameters                                                             */
    dtype type;
    int64_t count; /* elements                                                                                    */
    void *data;    /* dev                                                                                         */
} optimizer_state;
const optimizer_state *optimizer_states(const optimizer *o, int64_t *count); /* borrowed; after optimizer_allocate */
int64_t optimizer_updates(const optimizer *o);                               /* t of the last update */
void optimizer_set_updates(optimizer *o, int64_t updates);

#endif
