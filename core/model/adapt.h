/* adapt — techniques at their sites: binds the adapters of a run to the points a model offers, owns their slots, calls
 * their hooks, and stands between the model and every linear layer.
 *
 * The model offers points; adapt_bind lets each [adapter] section select some (targets), instantiates its slots there and
 * runs every callback on shapes alone, so a wrong formula is an error before any weight is read. During a pass the model
 * calls adapt_linear instead of the bare product. adapt == NULL or a point without adapters is the bare base. */
#ifndef GRAFT_MODEL_ADAPT_H
#define GRAFT_MODEL_ADAPT_H
#include "base/error.h"
#include "kernels/kernels.h"
#include "model/tensor.h"
#include "plugin/host.h"
#include <graft/graft.h>
#include <stdio.h>

/* A place of the model. One entry per linear layer (LINEAR | INPUT), embedding (LINEAR, onehot), sub-block (BRANCH:
 * "BLOCK.attn", "BLOCK.mlp"), the model itself (KV and EMBED: name ""), and base tensor (TENSOR). */
typedef struct {
    const char *name;   /* module path; of TENSOR: the tensor's name. Borrowed, lives as long as the model */
    int32_t kinds;      /* GRAFT_LINEAR | GRAFT_INPUT ...                                                   */
    int32_t onehot;     /* 1: x is one-hot                                                                 */
    int32_t all_linear; /* 1: `all-linear` selects it                                                      */
    int64_t layer, in, out;
    base_tensor *tensor; /* LINEAR: its weight; TENSOR: itself                                              */
    base_tensor *bias;   /* LINEAR: its bias, NULL for none                                                 */
} adapt_point;

/* One [adapter] section, checked. Borrowed; must outlive the adapt. */
typedef struct {
    const char *name;                  /* of the section, "" for [adapter]                               */
    const plugin_component *component; /* of kind adapter                                                */
    const void *config;                /* its options struct                                             */
    const char *saved_as;              /* the adapter's name inside tensor names (AdapterHub); NULL: as `name`   */
    const char *const *targets; /* names, suffixes, globs, or "all-linear"; NULL = the defaults of the model family */
    int32_t target_count;
    int32_t targets_of_file; /* 1: the list is a file's, whose tensors say what it selects: names may select nothing */
    const char *targets_regex; /* a PEFT file's string form instead of the list, else NULL       */
    const char *const *exclude;
    int32_t exclude_count;
    const char *exclude_regex; /* its string form */
    const int64_t *layers;     /* restrict to these layers                                        */
    int32_t layer_count;
    const char *const *layers_patterns; /* the components of a name behind which its layer stands; NULL = any */
    int32_t layers_pattern_count;
    const char *bias; /* "none" "all" "lora_only"                                       */
    const char *const *modules_to_save;
    int32_t modules_to_save_count;
    const char *const *rank_patterns; /* with ranks: option `rank` of a site whose name matches first   */
    const double *ranks;
    int32_t rank_pattern_count;
    const char *const *alpha_patterns;
    const double *alphas;
    int32_t alpha_pattern_count;
} adapt_spec;

typedef struct adapt adapt;

/* Selects, binds, checks all formulas. Marks trained base tensors (ALIAS, modules_to_save, bias). *out owned by the caller. */
int adapt_bind(const adapt_spec *specs, int32_t count, const adapt_point *points, int32_t point_count,
               int64_t max_rows_virtual, adapt **out, graft_error *err);
void adapt_free(adapt *a);
/* The round trip that the service `quantize` does (LoftQ), and that first values are made behind (DoRA); called with dev real
 * values of the shape of `like`. Unset: nothing is quantized. */
void adapt_set_round_trip(adapt *a,
                          void (*round_trip)(void *context, const base_tensor *like, void *values, graft_error *err),
                          void *context);
/* 1: the technique's first values belong to a quantized base (LoftQ): it means nothing without a quantizer. */
int32_t adapt_needs_quantizer(const adapt *a, int32_t spec);
/* 1: the plugins' own formulas run instead of the fused kernels that must equal them (tests, the gradient check). */
void adapt_set_textbook(adapt *a, int32_t on);

/* ---- memory: everything is allocated once; sizes are known before ---- */
typedef struct {
    int64_t parameters,
        gradients;     /* bytes of PARAM slots and their gradients (base tensors are the model's)          */
    int64_t buffers;   /* BUFFER and STEP slots                                                            */
    int64_t trainable; /* elements, base tensors included                                                  */
} adapt_bytes;
void adapt_size(const adapt *a, const kernels *device, adapt_bytes *out);
int adapt_allocate(adapt *a, kernels *device, uint64_t seed, graft_error *err);
/* Bytes of KEPT slots one row needs in block `layer` (-1: outside blocks), for the activation type. */
int64_t adapt_kept_row(const adapt *a, int64_t layer, dtype activation, const kernels *device);
/* Bytes of scratch any call needs for at most `rows` rows. */
int64_t adapt_scratch(const adapt *a, int64_t rows, dtype activation, const kernels *device);

/* ---- loading: called by the model weight by weight, before packing. w: dev real (out, in), may be replaced (*replaced) ---- */
int adapt_init_at(adapt *a, int32_t point, void *w, int32_t *replaced, graft_error *err);
int32_t adapt_reads_weight(const adapt *a, int32_t point); /* 1: adapt_init_at must see W here */
/* Rounds of init; all but the last come first, at every point in the order of loading: w is only read. */
int32_t adapt_init_rounds(const adapt *a, int32_t point);
int adapt_init_round(adapt *a, int32_t point, int64_t round, void *w, graft_error *err);

/* ---- observing: passes through the base while it is loaded; a site begins behind them ---- */
enum { OBSERVE_X = 1, OBSERVE_X_DY }; /* adapt_pass.observing: in forward, in backward          */
int32_t adapt_observes(const adapt *a,
                       int32_t point); /* of this point (-1: any) the most that a technique asks for; 0: none */
int adapt_observe_begin(adapt *a, graft_error *err); /* first values of what observe fills */
/* After all weights are there: SHARED buffers, tensors of files (spec folder of `start`), prepare. */
int adapt_ready(adapt *a, graft_error *err);

/* ---- one pass ---- */
typedef struct {
    kernels *device;
    dtype activation;
    int64_t rows, capacity; /* rows of this call (a head chunk has fewer), rows the KEPT areas were laid out for   */
    int32_t training;       /* 1: dropout is on                                                                   */
    int32_t observing;      /* OBSERVE_X ...: the observe hooks see what layers read                              */
    int64_t step, steps;
    const int64_t *row_key; /* dev (rows): (sample in the step) << 32 | token in the document; NULL without dropout */
    void *kept;             /* dev: KEPT area of the running block                                                */
    void *scratch;          /* dev: adapt_scratch bytes                                                           */
} adapt_pass;

/* y = x·Wᵀ + bias, wrapped by the adapters of the point. x (rows, in) or onehot ids (x NULL); y (rows, out). */
void adapt_linear(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const base_tensor *bias,
                  const void *x, const int32_t *onehot, void *y);
/* dx [+]= dy·W with the adapters' parts; their gradients and those of a trained W and bias are added. dx NULL: not wanted.
 * dy may be changed. */
void adapt_linear_backward(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const base_tensor *bias,
                           const void *x, const int32_t *onehot, void *dy, void *dx, int32_t accumulate);
/* BRANCH: y is changed by the adapters of the point, x is the residual stream before the sub-block. */
void adapt_branch(adapt *a, int32_t point, const adapt_pass *p, const void *x, void *y);
void adapt_branch_backward(adapt *a, int32_t point, const adapt_pass *p, const void *x, void *dy, void *dx);
/* What the techniques of the point observe: x (rows, in) or onehot ids, and dy (NULL in forward). adapt_linear and
 * adapt_branch do it themselves, and their backward. */
void adapt_observe(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const void *x,
                   const int32_t *onehot, const void *dy);
/* 1 when any adapter or trained tensor sits at or below this layer's input side: backward stops under the lowest. */
int64_t adapt_lowest_layer(
    const adapt *a); /* lowest layer with something to train, -1: embeddings too; INT64_MAX: nothing */

/* KV and EMBED (rows of the run, `virtual`): dev (virtual, out), activation type / real gradient; 0 rows when there is none. */
int64_t adapt_virtual_kv(const adapt *a, const void **rows, void **gradient);
int64_t adapt_virtual_embed(const adapt *a, const void **rows, void **gradient);

/* ---- between passes ---- */
int adapt_prepare(adapt *a, graft_error *err); /* after every change of parameters */
/* Behind the last backward: gradients of virtual rows; then, in training (steps > 0), what techniques add to the loss. */
int adapt_regularize(adapt *a, int64_t step, int64_t steps, double *loss, graft_error *err);
int adapt_after_step(adapt *a, int64_t step, int64_t steps, graft_error *err); /* and masks of trained weights */
/* 1: a section (-1: any) writes base weights while they are loaded. */
int32_t adapt_replaces(const adapt *a, int32_t spec);
/* 1: its save hook writes other tensors than its parameters, which belong to the base as it was (PiSSA). */
int32_t adapt_converts(const adapt *a, int32_t spec);

/* ---- masks: entries of base weights that are held at zero ---- */
typedef struct {
    const char *name; /* of the site */
    int64_t layer, zeros, all;
    int32_t changes; /* 1: after_step may write the mask                                                */
} adapt_mask_report;
/* The n-th site of a section. 0: there are fewer. */
int32_t adapt_masked(const adapt *a, int32_t spec, int32_t n, adapt_mask_report *out);
int adapt_mask_gradients(adapt *a, graft_error *err); /* of trained weights */
/* 1: a mask was written since W was made zero there, and W is frozen: adapt_mask_at is due. w: dev real (out, in). */
int32_t adapt_mask_is_new(const adapt *a, int32_t point);
int adapt_mask_at(adapt *a, int32_t point, void *w, graft_error *err);
/* The masks came from a file. */
int adapt_masks_read(adapt *a, graft_error *err);

/* Runs the after_step hooks on shapes for a run of so many steps, which a technique may refuse. */
int adapt_check_length(adapt *a, int64_t steps, graft_error *err);
int32_t adapt_goes_by_length(const adapt *a, int32_t spec); /* 1: what it does may depend on the length of the run */
void adapt_enable(adapt *a, int32_t spec, int32_t on);      /* switch one adapter off and on (-1: all) */

/* ---- what is trained ---- */
typedef struct {
    const char *name;   /* as saved: "base_model.model....lora_A.weight"; of a base tensor its own name  */
    int32_t spec;       /* which adapter it belongs to                                                   */
    int32_t rank;       /* 1 or 2 */
    int64_t rows, cols; /* shape: (rows, cols), cols 1 for vectors                                       */
    int64_t count;      /* elements                                                                      */
    void *data, *grad;  /* dev real                                                                      */
    base_tensor *base;  /* NULL for an adapter's own                                                     */
    int32_t transposed; /* 1: files hold it transposed (a trained Conv1D)                                */
    int32_t in_file; /* 1: adapter folders hold it (checkpoints hold all); base tensors beside one that is there too */
    struct instance *site; /* private: where it sits, NULL of a base tensor */
    int32_t slot;
    int32_t bits; /* 1: a mask; data is U8 (count + 7) / 8, element e in bit e % 8 of byte e / 8 */
} adapt_param;
const adapt_param *adapt_params(const adapt *a, int32_t *count);  /* in a fixed order; borrowed */
const adapt_param *adapt_buffers(const adapt *a, int32_t *count); /* BUFFER slots that checkpoints keep */

/* ---- files ---- */
#define ADAPT_BASE_TABLE                                                                                               \
    "base_layer.weight" /* behind a module's name: the frozen matrix that PEFT stores beside an adapter */
/* Runs the save hooks and writes the tensors of one spec into `folder` (atomic): adapter_model.safetensors, or as its kind of
 * folder calls it. The configuration beside it is run's (formats/peft.h). */
int adapt_save(adapt *a, int32_t spec, const char *folder, graft_error *err);
/* Reads an adapter folder's tensors over the slots; missing, foreign, mis-shaped tensors are errors. */
int adapt_load(adapt *a, int32_t spec, const char *folder, graft_error *err);
/* What the save hooks of the last adapt_save said. The places that a folder gets of site n, under the name that the configuration gives them (owned by the caller; mask NULL: all).
 * 0: there is no site n; */
int adapt_kept_places(const adapt *a, int32_t spec, int32_t n, char **name, const uint8_t **mask, int64_t *count);
/* and keys of the configuration. Borrowed until the next adapt_save. */
const graft_field *adapt_saved_fields(const adapt *a, int32_t spec, int32_t *count);
/* the values of rank_pattern and alpha_pattern, in the patterns' order; NULL: nothing was saved yet. */
void adapt_saved_patterns(const adapt *a, int32_t spec, const double **ranks, const double **alphas);
/* 1: the last adapt_save put other tensors in place of parameters (PiSSA), so the folder is another technique's. */
int32_t adapt_is_rewritten(const adapt *a, int32_t spec);
/* Compares a folder, bit by bit, with what adapt_save would write now. An error names the first tensor that differs. */
int adapt_compare(adapt *a, int32_t spec, const char *folder, graft_error *err);
/* Says what was bound and what was left out and why (for `graft plan` and `graft inspect`). */
void adapt_describe(const adapt *a, FILE *to);

int32_t adapt_at(const adapt *a, int32_t point); /* number of adapters at a point   */
int32_t adapt_site(const adapt *a, int32_t spec,
                   int32_t n); /* point of the n-th site of a section; -1: there are fewer */
int32_t adapt_site_kind(const adapt *a, int32_t spec, int32_t n); /* GRAFT_LINEAR, GRAFT_INPUT ... of it */
const plugin_component *adapt_component(const adapt *a, int32_t spec);
/* The n-th site of a plain low-rank technique: y += s·(x·Aᵀ)·Bᵀ, A (rank, in), B (out, rank). 0: there are fewer, or the
 * technique is another. Borrowed. */
int32_t adapt_lowrank_site(const adapt *a, int32_t spec, int32_t n, const adapt_param **A, const adapt_param **B,
                           double *s);

#endif
