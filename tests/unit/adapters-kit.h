/* adapters-kit — every adapter technique there is, with the settings that lead through other formulas, on tiny random models. */
#ifndef GRAFT_TESTS_ADAPTERS_KIT_H
#define GRAFT_TESTS_ADAPTERS_KIT_H
#include "model/pass.h"
#include "plugin/registry.h"

/* Models whose layers lie differently: with biases, with transposed and fused matrices, with norms behind the sub-blocks and a
 * tied table; and the first one with a single block. */
enum { KIT_QWEN2, KIT_GPT2, KIT_GEMMA3, KIT_ONE_BLOCK, KIT_MODELS };
enum { KIT_ROWS = 12 };
char *kit_folder(int model); /* a model folder with random weights; given back with kit_remove */
void kit_remove(char *folder);

/* A technique and settings, "key = value" each; NULL-terminated. */
typedef struct {
    const char *name;
    const char *settings[6];
} kit_variant;
/* Variant n: those of the table, then every other adapter of the registry at its defaults. 0: there are no more. */
int kit_next(registry *plugins, int n, kit_variant *out);
char *kit_title(const kit_variant *v); /* for messages, owned by the caller */

/* One technique on everything that it takes in a model, at its first values; a batch of two documents. */
typedef struct {
    kernels *device;
    model *m;
    adapt *a;
    workspace *w;
    const plugin_component *component;
    void *config;
    arena memory;
    adapt_spec spec;
    int32_t ids[KIT_ROWS], positions[KIT_ROWS], targets[KIT_ROWS], first[2];
    int64_t start[3], step; /* step of 4, from 1                                 */
    int regularize;         /* 1: what the technique adds to the loss belongs to it */
    model_rows rows;
} kit;
/* *left_out = 1: this model has nothing that the technique takes. */
void kit_open(kit *k, registry *plugins, const kit_variant *v, const char *folder, const char *device, int checkpoint,
              int *left_out);
void kit_randomize(kit *k); /* adds random numbers to every parameter, so that nothing is zero */
void kit_close(kit *k);

/* Gradients of the step's loss, what the technique adds to it included. */
void kit_gradients(kit *k);
/* The loss in double. */
double kit_loss(kit *k);
/* The values of a parameter (or its gradient) to the host and back; base tensors are brought to where products read them. */
double *kit_get(const kit *k, const void *dev, int64_t count);
void kit_put(kit *k, void *dev, const double *values, int64_t count);

#endif
