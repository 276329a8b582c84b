/* pass — the memory of passes and the steps of one pass; private to the model.
 *
 * A pass is one call over a batch of rows (tokens, document by document). Its memory is laid out once, by one function that
 * counts when there is no memory yet and places when there is (workspace.c): what is planned is what is used. */
#ifndef GRAFT_MODEL_PASS_H
#define GRAFT_MODEL_PASS_H
#include "model/model-private.h"

/* Kept from a block's forward for its backward; all dev. Strides in elements. */
typedef struct {
    void *q, *k, *v; /* behind rope; with qk_norm as the projections gave them                       */
    int64_t q_stride, kv_stride;
    void *o, *lse;    /* attention's output and log-sum-exp                                           */
    void *attn, *mlp; /* sandwich: outputs of the sub-blocks, before their norm                        */
    void *x_mid;      /* residual stream between the sub-blocks                                       */
    void *gate, *up;  /* inputs of the activation; up NULL without a gate                              */
    int64_t gate_stride;
    void *kept; /* KEPT slots of the block's adapters                                           */
} block_stash;

/* Runs of rows that rotate by the same tables. */
typedef struct {
    int64_t row, rows;
    const float *table[MODEL_ROPES]; /* dev */
} rope_run;

/* Where rows of the pass have a target: what the head computes. */
typedef struct {
    int64_t count;
    int32_t *row, *id; /* host */
    float *weight;
    int64_t *start; /* (documents + 1) first target of each document */
} target_list;

struct workspace {
    model *m;
    adapt *a;
    workspace_config c;
    int64_t rows, real_rows; /* capacity with virtual embedding rows, and without                            */
    int64_t head_rows;
    void *kept_memory, *scratch_memory;

    /* ---- kept from forward to backward ---- */
    void **x; /* (layers + 1) input of each block, and the last output; without backward two buffers in turn */
    block_stash *blocks; /* (layers); all the same one when nothing or only x is kept                     */
    void *kept_outside;

    /* ---- scratch ---- */
    void *norm, *hidden; /* (rows, hidden) norm of the stream; (rows, inner) activated product             */
    void *q_normed, *k_normed;
    void *dx, *dy, *dn; /* gradient of the stream, of a sub-block's output, of a norm's output           */
    void *dhidden, *dgate, *dup;
    void *dq, *dk, *dv, *d_o, *dq_raw, *dk_raw;
    void *virtual_k, *virtual_v, *dvirtual_k, *dvirtual_v;
    void *adapter; /* scratch of adapters                                                          */
    void *head_x, *head_norm, *logits, *head_dn, *head_dx; /* one chunk of the head                        */

    /* ---- inputs of the pass on the device ---- */
    int32_t *ids, *positions, *picked, *targets;
    int64_t *keys, *head_keys;
    float *rope_own; /* tables that dynamic rope computes: (documents, ropes, pairs)                  */
    void *lse, *logp, *dlogp;

    /* ---- the same on the host ---- */
    int32_t *host_ids, *host_positions;
    int64_t *host_keys, *first; /* first row of each document in the pass, with its virtual rows            */
    attention_span *spans;
    rope_run *runs;
    target_list target;
    float *host_logp, *host_dlogp, *host_reference, *host_rope;
};

typedef struct {
    workspace *w;
    model *m;
    kernels *k;
    dtype type; /* of activations */
    int64_t rows, documents;
    adapt_pass call; /* kept is set block by block */
    int64_t runs;
    int64_t virtual_kv, virtual_embed;
    const void *kv, *embed; /* dev real (virtual, ..) */
    void *dkv, *dembed;
    struct kv_cache *cache; /* keys and values of earlier tokens; NULL outside generation */
} pass;

/* ---- rows.c: checks the rows, lays them out with their virtual rows, and brings them to the device ---- */
int pass_begin(workspace *w, const model_rows *rows, pass *p, graft_error *err);
/* Targets of the pass in the order of rows; ids must be in the vocabulary. */
int pass_targets(pass *p, const model_rows *rows, graft_error *err);
/* Where row `row` of document `document` lies in the pass, behind the virtual rows. */
int64_t pass_row(const pass *p, const model_rows *rows, int64_t document, int64_t row);
/* `count` tokens behind `past` rows of a sequence in the cache, with the rotary tables of one of `longest` rows; virtual embedding
 * rows go in front where past is 0. One document of the pass each. */
typedef struct {
    const int32_t *ids;
    int64_t count, past, longest;
} cache_piece;
int pass_begin_cached(workspace *w, struct kv_cache *cache, const cache_piece *pieces, int64_t count, pass *p,
                      graft_error *err);

/* ---- embed.c ---- */
void embed_forward(pass *p, void *x);
void embed_backward(pass *p, void *dx);

/* ---- block.c, block-backward.c ---- */
void block_forward(pass *p, int64_t layer, const void *x, void *out);
/* dx: of the output on entry, of the input on return; below = 0: nothing under this block wants it. */
void block_backward(pass *p, int64_t layer, const void *x, void *dx, int32_t below);

/* Parts of a block that both directions use. */
void linear_forward(pass *p, int64_t layer, tensor_role role, const void *x, void *y);
void linear_backward(pass *p, int64_t layer, tensor_role role, const void *x, void *dy, void *dx, int32_t accumulate);
void norm_rows(pass *p, int64_t layer, tensor_role role, const void *x, void *y, int64_t rows);
void norm_rows_backward(pass *p, int64_t layer, tensor_role role, const void *x, const void *dy, void *dx, int64_t rows,
                        int32_t accumulate);
void rotate(pass *p, int64_t layer, void *x, int64_t stride, int64_t heads, int32_t inverse);
void normed_heads(pass *p, int64_t layer, const block_stash *s); /* q_normed and k_normed, rotated */
attention_call attention_of(pass *p, int64_t layer, const block_stash *s);

/* ---- head.c ---- */
/* Log-probabilities of the targets, on the device (w->logp). */
void head_forward(pass *p, const void *x);
/* Recomputes every chunk (or, fused, computes it for the first time) and adds to dx and to the gradients of the head. */
void head_backward(pass *p, const void *x, void *dx);
/* Logits of the listed rows as f32 on the host. */
void head_logits(pass *p, const void *x, const int32_t *list, int64_t count, float *logits);

/* ---- cache.c ---- */
/* Appends the rows' keys and values of a layer; the call's k, v, k_pos and spans then cover all that the layer still holds. */
void cache_extend(struct kv_cache *c, int64_t layer, const pass *p, attention_call *a);

/* ---- model-pass.c ---- */
/* All blocks; returns the last output. `each` (may be NULL) sees the input of every block and the last output. */
/* model_logprobs in double. */
int pass_logprobs(workspace *w, const model_rows *rows, double *logp, graft_error *err);
/* From the targets' dlogp (w->dlogp) down to the lowest layer that is wanted, -1: the embeddings. */
void backward(pass *p, int64_t lowest);
const void *forward(pass *p, void (*each)(void *context, int64_t layer, const void *x), void *context);

#endif
