/* model-private — what the files of the model share: the table of tensors, the tables of a pass, the workspace. */
#ifndef GRAFT_MODEL_MODEL_PRIVATE_H
#define GRAFT_MODEL_MODEL_PRIVATE_H
#include "base/memory.h"
#include "formats/bnb.h"
#include "formats/gptq.h"
#include "formats/safetensors.h"
#include "model/model.h"

/* ---- descriptor: rope.c, names.c ---- */

/* Which keys of config.json speak of one rope table: `dict` (may be NULL) with theta and pairs by default from the rest. */
typedef struct {
    const json_t *config, *dict;
    const char *what; /* names the file                                              */
    double theta;     /* when the dict does not say                                  */
    int64_t head_dim, context;
    int32_t layered; /* 1: the dict is that of one layer type (Gemma 3); `shared` (may be NULL) holds them all */
    const json_t *shared;
    int32_t partial;        /* 1: the family may rotate a part of the head                 */
    int32_t longrope_names; /* 1: "su" and "yarn" mean longrope; original comes from the top level (Phi-3) */
} rope_source;
int rope_read(const rope_source *s, rope_table *out, graft_error *err);
/* The table for a sequence of `length` positions: inv_freq or inv_freq_long, or computed into `own` (pairs) when dynamic. */
const float *rope_for(const rope_table *r, int64_t length, float *own);

/* "model.layers.3.self_attn.q_proj"; NULL when the family has no such module. Owned by the caller. */
char *module_name(const model_shape *s, tensor_role role, int64_t layer);
/* "model.layers.3.attn" */
char *branch_name(const model_shape *s, int64_t layer, const char *branch);
/* The tensor in the files under any spelling of its prefix, NULL when absent. */
const tensor_info *find_tensor(const safetensors *files, const char *name);
/* 1: a tensor that belongs to no computation (mask buffers, a vision tower): passed over without a word. */
int is_extra_tensor(const char *name);
const char *const *family_default_targets(const char *family);

/* ---- the model ---- */

/* Places of one block's tensors and points, -1 where the family has none. Block -1 is what lies outside the blocks. */
typedef struct {
    int32_t weight[ROLE_COUNT], bias[ROLE_COUNT]; /* in model.tensors */
    int32_t point[ROLE_COUNT];                    /* in model.points  */
    int32_t attn, mlp;                            /* BRANCH points    */
} block_map;

struct model {
    char *folder;
    json_t *config;
    model_shape shape;
    safetensors *files; /* NULL: opened by its config alone */
    base_tensor *tensors;
    const tensor_info **sources; /* of each tensor */
    int64_t *packed;             /* of each: bytes on the device when it lies packed in the files, else 0 */
    gptq_config grid;            /* how, when by GPTQ; bits 0: by bitsandbytes, or not at all */
    int32_t tensor_count;
    adapt_point *points;
    int32_t point_count;
    block_map outside, *blocks;
    arena names;

    model_calibration calibration;

    kernels *device; /* once loaded */
    dtype activation;
    float *inv_freq[MODEL_ROPES], *inv_freq_long[MODEL_ROPES]; /* dev */
};

static inline const block_map *block_of(const model *m, int64_t layer) {
    return layer < 0 ? &m->outside : &m->blocks[layer];
}
/* The tensor that holds the numbers: of a tied head the embedding. */
static inline base_tensor *tensor_at(const model *m, int32_t place) {
    if (place < 0) return NULL;
    base_tensor *t = &m->tensors[place];
    return t->tied_to >= 0 ? &m->tensors[t->tied_to] : t;
}
static inline int64_t tensor_count_of(const base_tensor *t) {
    return t->out * (t->in ? t->in : 1);
}

/* ---- load.c ---- */
/* The type a plain weight has on the device. */
dtype tensor_device_type(const base_tensor *t, dtype activation, const kernels *device);
/* Bytes the tensor takes there, added to *bytes. */
void tensor_bytes(const model *m, const base_tensor *t, const kernels *device, dtype activation, const quantize *q,
                  model_bytes *bytes);
void tensor_release(kernels *device, base_tensor *t);
/* Memory of a plain tensor on m->device, its handle set up; values are still to be written. */
int tensor_allocate(model *m, base_tensor *t, graft_error *err);
/* Gives the device its own order of the values; where that serves alone, the plain ones are released. */
void tensor_pack(model *m, base_tensor *t);
/* The device that holds the model from now on, and its rotary tables; a model is loaded once. */
int model_begin_device(model *m, kernels *device, dtype activation, graft_error *err);
/* Rows of a loaded tensor as f32 on the host; a vector has rows of one element. tensor_piece: how many to ask for at once. */
int tensor_rows(model *m, const base_tensor *t, int64_t first, int64_t rows, float *to, graft_error *err);
int64_t tensor_piece(const base_tensor *t);
/* First element that is NaN or infinite, -1 when all are finite. */
int64_t first_not_finite(const void *values, dtype type, int64_t n);
/* (rows, cols) to (cols, rows), elements of `size` bytes, by tiles that stay in the cache. */
void transpose_bytes(void *to, const void *from, int64_t rows, int64_t cols, int size);
/* Lowest layer with something to train, as adapt_lowest_layer, tensors marked without adapters included. */
int64_t model_lowest_layer(const model *m, const adapt *a);

/* ---- model-observe.c ---- */
typedef struct observation observation;
/* *out is NULL when nobody observes or there are no rows; ended in any case. */
int observe_begin(model *m, adapt *a, observation **out, graft_error *err);
void observe_end(observation *o);
int64_t observed_section(const model *m, const base_tensor *t);
/* 1: a technique observes what t multiplies: it begins behind the pass. NULL: 0. */
int32_t observe_waits(const observation *o, const base_tensor *t);
/* All slices through a section whose tensors are loaded, and no other that is above: observing, or for what it gives. */
int observe_run(observation *o, int64_t section, int32_t observing, graft_error *err);
/* 1: a technique observes dy, so the whole base is observed at once, when all of it is loaded. */
int32_t observe_whole(const observation *o);
int observe_gradients(observation *o, graft_error *err);

/* ---- save-packed.c ---- */
enum { PACKED_TENSORS = (int)BNB_TENSORS > (int)GPTQ_TENSORS ? (int)BNB_TENSORS : (int)GPTQ_TENSORS };

static inline int tensor_is_packed(const base_tensor *t) {
    return t->w.layout != WEIGHT_PLAIN;
}
/* The first tensor that is packed, NULL: none is. */
const base_tensor *packed_first(const model *m);
/* quantization_config of what is packed, NULL when nothing is; the caller's. *grid is set where GPTQ's tensors hold it. An error
 * when no folder can. */
int packed_config(model *m, json_t **out, gptq_config *grid, graft_error *err);
/* The tensors of a packed weight; `data` of those that lie on the device is where they lie there. */
int packed_tensors(model *m, const base_tensor *t, const gptq_config *grid, arena *memory,
                   tensor_out list[PACKED_TENSORS], int32_t *count, graft_error *err);

/* ---- save-grid.c: the same for weights on grids ---- */
int grid_config(model *m, gptq_config *out, graft_error *err);
int grid_tensors(model *m, const base_tensor *t, const gptq_config *grid, arena *memory, tensor_out *list,
                 int32_t *count, graft_error *err);
/* The codes of the weight as words of the file. */
int grid_put_codes(model *m, const base_tensor *t, const gptq_config *grid, weights_writer *to, graft_error *err);

/* ---- small helpers over the kernel table: device.c ---- */
typedef struct {
    void *data; /* dev */
    dtype type;
    int64_t stride;
} columns;
/* to (rows, cols) [+]= from: strided, converting. */
void copy_columns(kernels *k, columns to, columns from, int64_t rows, int64_t cols, int32_t add);
/* Numbers on the device as a host type. n elements of `type` at dev to host elements of `want`. */
void download_as(kernels *k, void *host, dtype want, const void *dev, dtype type, int64_t n);
void upload_as(kernels *k, void *dev, dtype type, const void *host, dtype from, int64_t n);

#endif
