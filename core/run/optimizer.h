/* optimizer — runs an optimizer component's formulas over everything that is trained, and owns its state on the device.
 *
 * Names in its formulas: p the parameter, g its gradient (clipped), the component's slots, and the numbers lr, t (updates of
 * this parameter, from 1), size, matrix (1 for a matrix), out and in (of a matrix, else 0), and its options. A slot of shape
 * "size" (or "option ? size : 0": absent unless) lies like p; "out" and "in" are vectors of a matrix and absent elsewhere. Slots: BUFFER state that checkpoints
 * hold, TEMP scratch, NUMBER a formula of options and sizes. store = "blocks8" keeps a state in bitsandbytes' blockwise
 * 8 bits, where the parameter has 4096 elements or more (below, real numbers). Threads: as the kernel table. */
#ifndef GRAFT_RUN_OPTIMIZER_H
#define GRAFT_RUN_OPTIMIZER_H
#include "kernels/kernels.h"
#include "model/adapt.h"
#include "plugin/host.h"

typedef struct optimizer optimizer;

/* Checks and compiles every formula for every parameter's shape; allocates nothing on the device. `params` is the list of
 * adapt_params, whose order is that of the state; its names are borrowed, its pointers are read at optimizer_step. */
int optimizer_create(const plugin_component *component, const void *config, const adapt_param *params, int32_t count,
                     kernels *device, uint64_t seed, optimizer **out, graft_error *err);
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
