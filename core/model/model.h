/* model — a decoder language model: one forward and one hand-written backward over a descriptor; families differ by data.
 *
 * A model is opened from a Hugging Face folder on headers alone (config.json, tensor names and shapes), then planned, then
 * loaded. Rows are tokens: a batch is the concatenation of its documents without padding; attention never leaves a document.
 *
 * Threads: one pass at a time for one model. */
#ifndef GRAFT_MODEL_MODEL_H
#define GRAFT_MODEL_MODEL_H
#include "base/error.h"
#include "kernels/kernels.h"
#include "model/adapt.h"
#include "model/descriptor.h"
#include "model/quantize.h"
#include "model/tensor.h"
#include <graft/graft.h>

typedef struct model model;

/* ---- opening: config.json, headers of the weight files; no weight is read ----
 * Errors name the folder, the file, the key or tensor and what was expected. */
int model_open(const char *folder, model **out, graft_error *err);
/* The same from config.json alone, without weights: for model_randomize (`graft init`). */
int model_open_config(const char *folder, model **out, graft_error *err);
void model_close(model *m); /* device memory too */

const model_shape *model_descriptor(const model *m);
const char *model_folder(const model *m);
base_tensor *model_tensors(model *m, int32_t *count);
const adapt_point *model_points(model *m, int32_t *count);
int32_t model_is_packed(const model *m); /* 1: its linear weights lie quantized in the files */
/* Names PEFT targets by default for this family ("q_proj", "v_proj"), NULL-terminated. */
const char *const *model_default_targets(const model *m);

/* ---- loading ----
 * Reads one tensor at a time: file type -> adapter init -> quantizer -> packed; then adapt_ready. `a` and `q` may be NULL.
 * activation: F32, BF16 or (on ref64) F64. Weights of a plain layout keep the file's type; with activation F64 they are F64. */
int model_load(model *m, kernels *device, dtype activation, adapt *a, quantize *q, graft_error *err);
/* After an optimizer step: the copies that products read are made anew from the masters of trained tensors. */
void model_refresh(model *m);
/* Fills the model with random values instead of reading files (`graft init`): normal(0, initializer_range), norms at their neutral
 * value, biases 0; a pure function of seed and tensor name. Then written by model_save. */
int model_randomize(model *m, kernels *device, uint64_t seed, graft_error *err);
/* Writes a complete model folder: config.json, tokenizer and generation files copied, weights in `type` (a float type) or, with
 * DTYPE_COUNT, each in its stored type; tied tensors once; shards of at most shard_bytes. Atomic file by file. */
int model_save(model *m, const char *folder, dtype type, int64_t shard_bytes, graft_error *err);
/* How a folder is written. `rows` gives other numbers for some tensors (merging): it fills rows first .. first + count - 1 of `tensor`,
 * (out, in), f32, and sets *given, or leaves the tensor as it is. Asked tensor by tensor, the rows in order. */
typedef struct {
    int (*rows)(void *context, int32_t tensor, int64_t first, int64_t count, float *to, int32_t *given,
                graft_error *err);
    void *context;
} model_rewrite;
typedef struct {
    dtype type;          /* DTYPE_COUNT: as stored                                                                  */
    int64_t shard_bytes; /* 0: one file                                                                             */
    const model_rewrite
        *other;     /* NULL: the model's own numbers                                                           */
    int32_t packed; /* 1: what is packed on the device is written so, as bitsandbytes does; `other` is not asked for it.
                        An error names a tensor that no file format holds. 0: everything becomes numbers.     */
} model_saving;
int model_save_as(model *m, const char *folder, const model_saving *how, graft_error *err);
/* The numbers of one tensor as f32 on the host, (out, in) orientation; for merging, inspecting, tests. */
int model_read_tensor(model *m, int32_t tensor, float *to, graft_error *err);
/* The same as the files hold them, whatever became of them; an error where they lie packed there. */
int model_read_stored(model *m, int32_t tensor, float *to, graft_error *err);
int32_t model_is_packed_tensor(const model *m, const base_tensor *t); /* 1: it lies packed in the files */
/* A tensor that lies packed in the files; NULL: none does. */
const base_tensor *model_packed_in_files(const model *m);

/* ---- rows: the input of a pass; all host memory, borrowed for the call ---- */
typedef struct {
    int64_t rows;
    const int32_t *ids;       /* (rows)                                                                        */
    const int32_t *positions; /* (rows) position of each token, increasing within a document                   */
    int64_t documents;
    const int64_t *start;   /* (documents + 1) first row of each document                                    */
    const int32_t *targets; /* (rows) the id each row should predict, already shifted; -1 = none             */
    const float *weights;   /* (rows) weight of each target; NULL = 1                                        */
    const int64_t *row_key; /* (rows) for dropout, see adapt_pass; NULL when not training                    */
    /* (documents) the id that the last virtual embedding row of a document should predict, its first token; -1 = none,
     * NULL = none. Only looked at when an adapter has such rows. */
    const int32_t *first;
    /* Rotary tables that depend on the length (dynamic, longrope) are chosen for a document's own length, or for this
     * number of positions when it is larger (a padded batch); 0 = its own. */
    int64_t longest;
} model_rows;

/* Tokens that a sequence may have: learned positions, less the virtual rows of the adapters that are on; without learned positions
 * no bound that matters. model_check_length: GRAFT_USAGE with both numbers. Both from model_open on; `a` may be NULL. */
int64_t model_longest(const model *m, const adapt *a);
int model_check_length(const model *m, const adapt *a, int64_t tokens, graft_error *err);

/* ---- workspace: the memory of passes, laid out once for at most `rows` rows ---- */
typedef struct {
    int64_t rows;       /* capacity                                                                      */
    int64_t documents;  /* most documents in one call                                                    */
    int32_t backward;   /* 1: activations are kept for a backward pass                                   */
    int32_t checkpoint; /* 1: only block inputs are kept, blocks are recomputed                          */
    int64_t head_rows;  /* rows of one chunk of the head; 0 = chosen from the vocabulary                 */
} workspace_config;
typedef struct {
    int64_t weights;            /* base weights on the device incl. scales and packed forms                      */
    int64_t masters, gradients; /* trained base tensors                                                        */
    int64_t activations;        /* kept from forward to backward, KEPT slots included                            */
    int64_t scratch;            /* temporaries incl. the head's chunk                                            */
} model_bytes;
typedef struct workspace workspace;
/* Bytes a load and a workspace would take; allocates nothing. */
void model_plan(model *m, const kernels *device, dtype activation, const adapt *a, const quantize *q,
                const workspace_config *c, model_bytes *out);
/* Calibration rows, shown to techniques that observe while model_load loads, block by block: each begins behind what it saw.
 * Borrowed until then; without them nothing is observed. */
typedef struct {
    const model_rows *at; /* slices, each of at most workspace.rows rows */
    int64_t count;
    workspace_config workspace; /* with backward where adapt_observes says OBSERVE_X_DY */
} model_calibration;
void model_calibrate(model *m, const model_calibration *c);
/* Bytes that this takes beside the weights, for `rows` rows in all. */
int64_t model_calibration_bytes(model *m, const kernels *device, dtype activation, const adapt *a, const quantize *q,
                                const workspace_config *c, int64_t rows);
/* Frozen weights become zero where masks of `a` were written since (adapt_mask_is_new). */
int model_mask(model *m, adapt *a, graft_error *err);
/* After model_load. *out owned by the caller, freed before the model. */
int workspace_create(model *m, adapt *a, const workspace_config *c, workspace **out, graft_error *err);
void workspace_free(workspace *w);

/* ---- passes ---- */
/* Log-probability of each row's target, in row order of the rows that have one (count of them); host floats (may be NULL). */
int model_logprobs(workspace *w, const model_rows *rows, float *logp, graft_error *err);
/* Forward, loss, backward of one slice. The objective's d loss / d logp comes from `objective` (see graft_batch; total is the
 * step's sum of weights); gradients are added. *loss gets the slice's share of the loss. */
typedef struct {
    const graft_objective *functions;
    const void *self;
    double total;
    int64_t step, steps; /* for dropout and adapters */
    int32_t training;
} model_objective;
int model_train_slice(workspace *w, const model_rows *rows, const model_objective *o, double *loss, graft_error *err);
void model_zero_gradients(workspace *w); /* of trained base tensors and of the adapters */
/* Logits (after the final softcap) of the rows listed (all when list is NULL) as host f32, (count, vocab). -1 - i stands for
 * virtual embedding row i, counted document by document. */
int model_logits(workspace *w, const model_rows *rows, const int32_t *list, int64_t count, float *logits,
                 graft_error *err);
/* Hidden states as transformers gives them: entry 0 the embeddings, l the output of block l, the last after the final norm;
 * host f32 (layers + 1, rows, hidden). */
int model_hidden(workspace *w, const model_rows *rows, float *hidden, graft_error *err);

/* ---- generation ---- */
typedef struct kv_cache kv_cache;
/* For `capacity` tokens of one sequence; layers with a window hold less. Virtual rows of adapters come on top. The cache is
 * freed before its workspace, which no other call may use between two appends of one sequence's pieces. */
int cache_create(workspace *w, int64_t capacity, kv_cache **out, graft_error *err);
/* The same for `sequences` of them, of which one at a time is selected (first 0): what follows speaks of that one. */
int cache_create_many(workspace *w, int64_t sequences, int64_t capacity, kv_cache **out, graft_error *err);
void cache_select(kv_cache *c, int64_t sequence);
void cache_free(kv_cache *c);
void cache_clear(kv_cache *c);
/* Keeps of the tokens so far what is a prefix of ids[0..count), at most count - 1, and forgets the rest: how many are kept. 0, and all
 * is forgotten, where a layer's window has passed that place or rotary tables depend on the length. The adapters must be those
 * that the tokens were computed with. */
int64_t cache_keep(kv_cache *c, const int32_t *ids, int64_t count);
int64_t cache_length(const kv_cache *c);
int64_t cache_sequences(const kv_cache *c);
int64_t cache_vocab(const kv_cache *c);
/* Tokens it may hold at most: what it was made for, or what the model has positions for. */
int64_t cache_room(const kv_cache *c);
/* Appends `count` tokens, in passes of the workspace's rows, and gives the logits behind the last one, host f32 (vocab). */
int cache_append(kv_cache *c, const int32_t *ids, int64_t count, float *logits, graft_error *err);
/* Appends ids[i] to sequence sequences[i] (distinct), as many in one pass as the workspace has documents; the logits behind each,
 * host f32 (count, vocab). */
int cache_step(kv_cache *c, const int32_t *sequences, const int32_t *ids, int64_t count, float *logits,
               graft_error *err);

#endif
