/* descriptor — what distinguishes decoder families, as data: config.json becomes one model_shape (specs/models.md, part B). */
#ifndef GRAFT_MODEL_DESCRIPTOR_H
#define GRAFT_MODEL_DESCRIPTOR_H
#include "base/error.h"
#include "base/json.h"
#include "kernels/kernels.h"

enum { MODEL_ROPES = 2 };

typedef struct {
    int64_t pairs;   /* rotated pairs of a head; 0 = none                                   */
    int64_t dim;     /* of a head that rotates; odd: the last pair takes one more            */
    double factor;   /* cos and sin are multiplied by it (yarn, longrope)                   */
    float *inv_freq; /* (pairs) host, scaled; owned                                          */
    /* longrope and dynamic pick their table by length: */
    float *inv_freq_long; /* (pairs) used when the longest position + 1 exceeds `original`; NULL */
    int64_t original;
    int32_t dynamic; /* 1: recomputed from the longest position (NTK)                       */
    double theta, scaling_factor;
} rope_table;

typedef struct {
    const char *family; /* model_type: "llama" ...                                              */
    int64_t vocab, hidden, inner, layers, heads, kv_heads, head_dim, context;
    norm_kind norm;
    double norm_eps;
    int32_t sandwich; /* norms behind attention and MLP too (Gemma 2, 3)                      */
    int32_t qk_norm;
    int32_t bias_qkv, bias_o, bias_mlp;
    activation_kind act;
    int32_t gated;
    int32_t fused_qkv, fused_gate_up, conv1d;
    int32_t learned_positions; /* GPT-2 */
    double attn_scale, attn_softcap, final_softcap, embed_scale;
    int32_t tied;    /* as the config says; the files decide what really is                   */
    int64_t pad_row; /* row of the embedding without input-side gradient, -1 = none           */
    rope_table rope[MODEL_ROPES];
    int64_t *window;          /* (layers) 0 = full; owned                                              */
    int32_t *rope_id;         /* (layers) -1 = none; owned                                             */
    double *attn_scale_layer; /* (layers) or NULL (GPT-2's inverse_layer_idx); owned              */
    double initializer_range;
    int64_t bos, eos[8];
    int32_t eos_count;
    int64_t pad;  /* -1 = none */
    dtype stored; /* dtype / torch_dtype of the config */
} model_shape;

/* Reads config.json's object. `what` names the file. Every doubtful value is an error naming key, value and what is allowed. */
int descriptor_read(const json_t *config, const char *what, model_shape *out, graft_error *err);
void descriptor_free(model_shape *s);

/* Name of a tensor of the family in transformers' spelling: role 0.. as in the table of descriptor.c; layer fills the number. */
typedef enum {
    ROLE_EMBED,
    ROLE_POSITION,
    ROLE_FINAL_NORM,
    ROLE_HEAD,
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_QKV,
    ROLE_O,
    ROLE_GATE,
    ROLE_UP,
    ROLE_GATE_UP,
    ROLE_DOWN,
    ROLE_NORM_ATTN,
    ROLE_NORM_ATTN_OUT,
    ROLE_NORM_MLP,
    ROLE_NORM_MLP_OUT,
    ROLE_Q_NORM,
    ROLE_K_NORM,
    ROLE_COUNT
} tensor_role;

#endif
