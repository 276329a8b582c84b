/* names — the modules of the families in transformers' spelling, and their spellings in files. */
#include "model/model-private.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* %lld stands for the layer. A role the family has not is NULL; the descriptor says which of them it uses. */
static const char *const llama_names[ROLE_COUNT] = {
    [ROLE_EMBED] = "model.embed_tokens",
    [ROLE_FINAL_NORM] = "model.norm",
    [ROLE_HEAD] = "lm_head",
    [ROLE_Q] = "model.layers.%lld.self_attn.q_proj",
    [ROLE_K] = "model.layers.%lld.self_attn.k_proj",
    [ROLE_V] = "model.layers.%lld.self_attn.v_proj",
    [ROLE_QKV] = "model.layers.%lld.self_attn.qkv_proj",
    [ROLE_O] = "model.layers.%lld.self_attn.o_proj",
    [ROLE_GATE] = "model.layers.%lld.mlp.gate_proj",
    [ROLE_UP] = "model.layers.%lld.mlp.up_proj",
    [ROLE_GATE_UP] = "model.layers.%lld.mlp.gate_up_proj",
    [ROLE_DOWN] = "model.layers.%lld.mlp.down_proj",
    [ROLE_NORM_ATTN] = "model.layers.%lld.input_layernorm",
    [ROLE_NORM_MLP] = "model.layers.%lld.post_attention_layernorm",
    [ROLE_Q_NORM] = "model.layers.%lld.self_attn.q_norm",
    [ROLE_K_NORM] = "model.layers.%lld.self_attn.k_norm",
};
/* With norms on both sides of a sub-block, post_attention_layernorm is the one behind attention. */
static const char *const sandwich_names[ROLE_COUNT] = {
    [ROLE_NORM_ATTN_OUT] = "model.layers.%lld.post_attention_layernorm",
    [ROLE_NORM_MLP] = "model.layers.%lld.pre_feedforward_layernorm",
    [ROLE_NORM_MLP_OUT] = "model.layers.%lld.post_feedforward_layernorm",
};
static const char *const gpt2_names[ROLE_COUNT] = {
    [ROLE_EMBED] = "transformer.wte",
    [ROLE_POSITION] = "transformer.wpe",
    [ROLE_FINAL_NORM] = "transformer.ln_f",
    [ROLE_HEAD] = "lm_head",
    [ROLE_QKV] = "transformer.h.%lld.attn.c_attn",
    [ROLE_O] = "transformer.h.%lld.attn.c_proj",
    [ROLE_UP] = "transformer.h.%lld.mlp.c_fc",
    [ROLE_DOWN] = "transformer.h.%lld.mlp.c_proj",
    [ROLE_NORM_ATTN] = "transformer.h.%lld.ln_1",
    [ROLE_NORM_MLP] = "transformer.h.%lld.ln_2",
};

/* Whether the family computes with such a module. */
static int in_use(const model_shape *s, tensor_role role) {
    switch (role) {
    case ROLE_Q:
    case ROLE_K:
    case ROLE_V:
        return !s->fused_qkv;
    case ROLE_QKV:
        return s->fused_qkv;
    case ROLE_GATE:
        return s->gated && !s->fused_gate_up;
    case ROLE_UP:
        return !s->fused_gate_up;
    case ROLE_GATE_UP:
        return s->fused_gate_up;
    case ROLE_POSITION:
        return s->learned_positions;
    case ROLE_NORM_ATTN_OUT:
    case ROLE_NORM_MLP_OUT:
        return s->sandwich;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return s->qk_norm;
    default:
        return 1;
    }
}

char *module_name(const model_shape *s, tensor_role role, int64_t layer) {
    const char *pattern = s->learned_positions ? gpt2_names[role] : llama_names[role];
    if (s->sandwich && sandwich_names[role]) pattern = sandwich_names[role];
    if (!pattern || !in_use(s, role)) return NULL;
    const char *number = strstr(pattern, "%lld");
    return number ? mem_format("%.*s%lld%s", (int)(number - pattern), pattern, (long long)layer, number + 4)
                  : mem_copy_text(pattern);
}

char *branch_name(const model_shape *s, int64_t layer, const char *branch) {
    return mem_format("%s.%lld.%s", s->learned_positions ? "transformer.h" : "model.layers", (long long)layer, branch);
}

/* Files may lack the base model's prefix, or wrap it: a multimodal folder has language_model on either side of `model`. */
const tensor_info *find_tensor(const safetensors *files, const char *name) {
    static const char *const prefixes[] = {"model.", "transformer."};
    const tensor_info *found = safetensors_find(files, name);
    const char *rest = NULL;
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++)
        if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0) rest = name + strlen(prefixes[p]);
    static const char *const inner[] = {"%s", "model.language_model.%s", "language_model.model.%s",
                                        "language_model.%s"};
    static const char *const outer[] = {"language_model.%s"};
    const size_t count = rest ? sizeof inner / sizeof *inner : sizeof outer / sizeof *outer;
    for (size_t c = 0; c < count && !found; c++) {
        const char *pattern = rest ? inner[c] : outer[c];
        char *candidate = mem_format("%.*s%s", (int)(strlen(pattern) - 2), pattern, rest ? rest : name);
        found = safetensors_find(files, candidate);
        free(candidate);
    }
    return found;
}

int is_extra_tensor(const char *name) {
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"};
    static const char *const begins[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                         "model.multi_modal_projector."};
    const size_t length = strlen(name);
    for (size_t e = 0; e < sizeof ends / sizeof *ends; e++)
        if (length >= strlen(ends[e]) && strcmp(name + length - strlen(ends[e]), ends[e]) == 0) return 1;
    for (size_t b = 0; b < sizeof begins / sizeof *begins; b++)
        if (strncmp(name, begins[b], strlen(begins[b])) == 0) return 1;
    return 0;
}

const char *const *family_default_targets(const char *family) {
    static const char *const separate[] = {"q_proj", "v_proj", NULL}, *const gpt2[] = {"c_attn", NULL},
                             *const phi3[] = {"qkv_proj", NULL};
    return strcmp(family, "gpt2") == 0 ? gpt2 : strcmp(family, "phi3") == 0 ? phi3 : separate;
}
