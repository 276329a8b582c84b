/* family — config.json to descriptor. What distinguishes the families is the table below; the rules behind its columns are
 * those of transformers 4.57 to 5.x (specs/models.md A and G). A key that is absent and a key that is null differ in some
 * families, so both defaults are columns. */
#include "base/log.h"
#include "base/memory.h"
#include "model/descriptor.h"
#include "model/model-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BIAS_QKV = 1,       /* q, k and v always have a bias                                   */
    ATTENTION_BIAS = 2, /* `attention_bias` gives q, k, v and o one                        */
    MLP_BIAS = 4,       /* `mlp_bias`                                                      */
    QK_NORM = 8,
    SANDWICH = 16,
    ONE_PLUS = 32,            /* RMS norm by 1 + w                                               */
    EMBED_SCALE = 64,         /* embeddings times sqrt(hidden)                                   */
    FUSED = 128,              /* qkv_proj and gate_up_proj                                       */
    DIVISIBLE = 256,          /* heads must divide hidden_size, even where head_dim is given     */
    QUERY_SCALAR = 512,       /* attention scale from query_pre_attn_scalar                      */
    HIDDEN_ACTIVATION = 1024, /* the activation's key is hidden_activation                       */
    GELU_IS_TANH = 2048,      /* "gelu" means the tanh form                                      */
    LAYER_TYPES = 4096,       /* an explicit list wins over the window rule                      */
    PARTIAL = 8192            /* a part of the head may rotate; longrope under its old names     */
};

enum {
    LLAMA = ATTENTION_BIAS | MLP_BIAS | DIVISIBLE,
    QWEN3 = ATTENTION_BIAS | QK_NORM | LAYER_TYPES,
    SMOLLM3 = ATTENTION_BIAS | MLP_BIAS | LAYER_TYPES,
    GEMMA = ATTENTION_BIAS | ONE_PLUS | EMBED_SCALE,
    GEMMA2 = GEMMA | SANDWICH | QUERY_SCALAR | HIDDEN_ACTIVATION | DIVISIBLE | LAYER_TYPES
};

typedef enum { NO_WINDOW, EVERY_LAYER, UPPER_LAYERS, EVEN_LAYERS, PATTERN, NOPE_LAYERS } window_rule;

typedef struct {
    const char *name;
    int64_t vocab, hidden, inner, layers, heads;
    int64_t kv_heads, head_dim; /* 0: as many as heads; hidden / heads */
    int64_t context;
    double eps, theta; /* theta 0: learned positions */
    int32_t tied;
    int64_t pad, bos, eos; /* -1: none */
    activation_kind act;
    int32_t flags;
    window_rule windows;
    int64_t window; /* when the key is absent, 0 = none */
} family;

/* clang-format off */
static const family families[] = {
/*   name            vocab hidden inner  layers heads kv head context eps  theta tied pad     bos     eos     act            flags                  windows        */
    {"llama",        32000, 4096, 11008, 32, 32,  0,   0,   2048, 1e-6, 1e4, 0,     -1,      1,      2, ACT_SILU,      LLAMA,                 NO_WINDOW,       0},
    {"mistral",      32000, 4096, 14336, 32, 32,  8,   0, 131072, 1e-6, 1e4, 0,     -1,      1,      2, ACT_SILU,      LAYER_TYPES,           EVERY_LAYER,  4096},
    {"qwen2",       151936, 4096, 22016, 32, 32, 32,   0,  32768, 1e-6, 1e4, 0,     -1,     -1,     -1, ACT_SILU,      BIAS_QKV | LAYER_TYPES, UPPER_LAYERS, 4096},
    {"qwen3",       151936, 4096, 22016, 32, 32, 32, 128,  32768, 1e-6, 1e4, 0,     -1,     -1,     -1, ACT_SILU,      QWEN3,                 UPPER_LAYERS, 4096},
    {"smollm3",     128256, 2048, 11008, 36, 16,  4,   0,  32768, 1e-6, 2e6, 1, 128004, 128000, 128001, ACT_SILU,      SMOLLM3,               NOPE_LAYERS,     0},
    {"phi3",         32064, 3072,  8192, 32, 32,  0,   0,   4096, 1e-5, 1e4, 0,  32000,      1,  32000, ACT_SILU,      FUSED | PARTIAL,       EVERY_LAYER,     0},
    {"gemma",       256000, 3072, 24576, 28, 16, 16, 256,   8192, 1e-6, 1e4, 1,      0,      2,      1, ACT_GELU_TANH, GEMMA | GELU_IS_TANH,  NO_WINDOW,       0},
    {"gemma2",      256000, 2304,  9216, 26,  8,  4, 256,   8192, 1e-6, 1e4, 1,      0,      2,      1, ACT_GELU_TANH, GEMMA2,                EVEN_LAYERS,  4096},
    {"gemma3_text", 262208, 2304,  9216, 26,  8,  4, 256, 131072, 1e-6, 1e6, 1,      0,      2,      1, ACT_GELU_TANH, GEMMA2 | QK_NORM,      PATTERN,      4096},
    {"gpt2",         50257,  768,     0, 12, 12,  0,   0,   1024, 1e-5,   0, 1,     -1,  50256,  50256, ACT_GELU_TANH, 0,                     NO_WINDOW,       0},
};
/* clang-format on */
enum { FAMILIES = sizeof families / sizeof *families };

/* ---- reading keys; the first error sticks in err and silences the rest; bounds do not hold for what is absent ---- */

typedef struct {
    const json_t *config;
    const char *what;
    graft_error *err;
} reader;

static int says(const reader *r, const char *key) {
    const json_t *value = json_object_get(r->config, key);
    return value && !json_is_null(value);
}

static int64_t whole(const reader *r, const char *key, int64_t fallback, int64_t low, int64_t high) {
    int64_t value = fallback;
    if (r->err->code || json_get_int(r->config, r->what, key, fallback, &value, r->err)) return fallback;
    if (says(r, key) && (value < low || value > high))
        fail(r->err, GRAFT_FAILED, "%s: %s is %lld; it must be between %lld and %lld", r->what, key, (long long)value,
             (long long)low, (long long)high);
    return r->err->code ? fallback : value;
}

static double number(const reader *r, const char *key, double fallback, double low, double high) {
    double value = fallback;
    if (r->err->code || json_get_real(r->config, r->what, key, fallback, &value, r->err)) return fallback;
    if (says(r, key) && !(value >= low && value <= high))
        fail(r->err, GRAFT_FAILED, "%s: %s is %g; it must be between %g and %g", r->what, key, value, low, high);
    return r->err->code ? fallback : value;
}

static int truth(const reader *r, const char *key, int fallback) {
    int value = fallback;
    if (!r->err->code) json_get_bool(r->config, r->what, key, fallback, &value, r->err);
    return value;
}

static const char *text(const reader *r, const char *key, const char *fallback) {
    const char *value = fallback;
    if (!r->err->code) json_get_text(r->config, r->what, key, fallback, &value, r->err);
    return value ? value : "";
}

static int has(const reader *r, const char *key) {
    return json_object_get(r->config, key) != NULL;
}

/* Absent: `absent`; null: `null`. */
static int64_t whole_or_null(const reader *r, const char *key, int64_t absent, int64_t null, int64_t low,
                             int64_t high) {
    return whole(r, key, has(r, key) ? null : absent, low, high);
}

/* ---- parts of the descriptor ---- */

static const family *find_family(const reader *r) {
    const char *type = text(r, "model_type", "");
    for (int f = 0; f < FAMILIES; f++)
        if (strcmp(type, families[f].name) == 0) return &families[f];
    if (!*type)
        fail(r->err, GRAFT_FAILED, "%s: \"model_type\" is missing; it says which family of models this is", r->what);
    strbuf list = {0};
    for (int f = 0; f < FAMILIES; f++)
        strbuf_printf(&list, "%s%s", f ? ", " : "", families[f].name);
    fail(r->err, GRAFT_FAILED,
         "%s: model_type is \"%s\", which is not supported; supported are %s and gemma3 (its text part)", r->what, type,
         list.text);
    strbuf_free(&list);
    return NULL;
}

static activation_kind read_activation(const reader *r, const char *key, const family *f) {
    static const struct {
        const char *name;
        activation_kind act;
    } known[] = {
        {"silu",              ACT_SILU     },
        {"swish",             ACT_SILU     },
        {"gelu_pytorch_tanh", ACT_GELU_TANH},
        {"gelu_python_tanh",  ACT_GELU_TANH},
        {"gelu_accurate",     ACT_GELU_TANH},
        {"gelu_new",          ACT_GELU_TANH},
        {"gelu_fast",         ACT_GELU_TANH},
        {"gelu_python",       ACT_GELU_ERF },
        {"gelu",              ACT_GELU_ERF },
        {"relu",              ACT_RELU     }
    };
    const char *name = text(r, key, "");
    if (!*name || ((f->flags & GELU_IS_TANH) && strcmp(name, "gelu") == 0)) return f->act;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].act;
    fail(r->err, GRAFT_FAILED, "%s: %s is \"%s\"; known are silu, gelu, gelu_new, gelu_pytorch_tanh and relu", r->what,
         key, name);
    return ACT_SILU;
}

static void read_eos(const reader *r, int64_t fallback, model_shape *s) {
    const json_t *value = json_object_get(r->config, "eos_token_id");
    const size_t listed = json_is_array(value) ? json_array_size(value) : 0;
    if (listed > sizeof s->eos / sizeof *s->eos)
        fail(r->err, GRAFT_FAILED, "%s: eos_token_id lists %zu ids, at most 8 are supported", r->what, listed);
    for (size_t i = 0; i < listed && !r->err->code; i++) {
        const json_t *id = json_array_get(value, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            fail(r->err, GRAFT_FAILED, "%s: eos_token_id holds an element that is no token id", r->what);
        s->eos[s->eos_count++] = json_integer_value(id);
    }
    if (json_is_array(value)) return;
    const int64_t one = whole_or_null(r, "eos_token_id", fallback, -1, -1, INT32_MAX);
    if (one >= 0) s->eos[s->eos_count++] = one;
}

/* The pad row of the embedding gets no gradient from the input side; a negative id counts from the end, as in torch. */
static void read_pad(const reader *r, const family *f, model_shape *s) {
    s->pad = whole_or_null(r, "pad_token_id", f->pad < s->vocab ? f->pad : -1, -1, INT32_MIN, INT32_MAX);
    s->pad_row = -1;
    const json_t *value = json_object_get(r->config, "pad_token_id");
    if (s->pad >= s->vocab || s->pad < -s->vocab)
        fail(r->err, GRAFT_FAILED, "%s: pad_token_id is %lld, outside the vocabulary of %lld", r->what,
             (long long)s->pad, (long long)s->vocab);
    else if (s->pad < 0 && json_is_integer(value))
        s->pad_row = s->vocab + s->pad;
    else
        s->pad_row = s->pad;
    if (s->pad < 0) s->pad = -1;
}

static void read_stored(const reader *r, model_shape *s) {
    const char *name = text(r, has(r, "dtype") ? "dtype" : "torch_dtype", "float32");
    static const struct {
        const char *name;
        dtype type;
    } known[] = {
        {"float32",  F32 },
        {"bfloat16", BF16},
        {"float16",  F16 },
        {"float64",  F64 }
    };
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            s->stored = known[i].type;
            return;
        }
    fail(r->err, GRAFT_FAILED, "%s: dtype is \"%s\"; known are float32, bfloat16, float16 and float64", r->what, name);
}

/* 1 sliding, 0 full, -1: the list says nothing. */
static int layer_type(const reader *r, const json_t *list, int64_t layer) {
    const char *type = list ? json_string_value(json_array_get(list, (size_t)layer)) : NULL;
    if (!list) return -1;
    if (type && strcmp(type, "sliding_attention") == 0) return 1;
    if (!type || strcmp(type, "full_attention") != 0)
        fail(r->err, GRAFT_FAILED, "%s: layer_types[%lld] is %s%s%s; known are sliding_attention and full_attention",
             r->what, (long long)layer, type ? "\"" : "", type ? type : "no text", type ? "\"" : "");
    return 0;
}

static void read_windows(const reader *r, const family *f, model_shape *s) {
    const json_t *list = f->flags & LAYER_TYPES ? json_object_get(r->config, "layer_types") : NULL;
    if (json_is_null(list)) list = NULL;
    if (list && (!json_is_array(list) || json_array_size(list) != (size_t)s->layers)) {
        fail(r->err, GRAFT_FAILED, "%s: layer_types must be a list with one entry for each of the %lld layers", r->what,
             (long long)s->layers);
        return;
    }
    const int switched = f->windows == UPPER_LAYERS || (f->windows == NOPE_LAYERS && !list);
    const int on = f->windows != NO_WINDOW && (!switched || truth(r, "use_sliding_window", 0));
    const int always = f->windows == EVEN_LAYERS || f->windows == PATTERN; /* without a window they mean nothing */
    const int64_t window = on ? whole_or_null(r, "sliding_window", f->window, 0, 1, INT32_MAX) : 0;
    const int64_t upper = f->windows == UPPER_LAYERS ? whole(r, "max_window_layers", 28, 0, INT32_MAX) : 0;
    const int64_t pattern = f->windows == PATTERN ? whole(r, "sliding_window_pattern", 6, 1, INT32_MAX) : 1;
    for (int64_t l = 0; l < s->layers && !r->err->code; l++) {
        const int by_rule[] = {[NO_WINDOW] = 0,
                               [EVERY_LAYER] = 1,
                               [UPPER_LAYERS] = l >= upper,
                               [EVEN_LAYERS] = l % 2 == 0,
                               [PATTERN] = (l + 1) % pattern != 0,
                               [NOPE_LAYERS] = s->rope_id[l] < 0};
        const int listed = layer_type(r, list, l);
        const int sliding = listed >= 0 ? listed : by_rule[f->windows];
        if (sliding && window == 0 && (listed > 0 || always))
            fail(r->err, GRAFT_FAILED, "%s: layer %lld is of type sliding_attention, but %s", r->what, (long long)l,
                 on ? "sliding_window is not set" : "use_sliding_window is false");
        s->window[l] = sliding ? window : 0;
        if (f->windows == PATTERN) s->rope_id[l] = sliding ? 1 : 0;
    }
}

/* SmolLM3: 1 means rope, 0 means none. */
static void read_nope(const reader *r, const family *f, model_shape *s) {
    if (f->windows != NOPE_LAYERS) return;
    const int64_t interval = whole(r, "no_rope_layer_interval", 4, 1, INT32_MAX);
    const json_t *list = json_object_get(r->config, "no_rope_layers");
    const int given = list && !json_is_null(list);
    if (given && (!json_is_array(list) || json_array_size(list) < (size_t)s->layers)) {
        fail(r->err, GRAFT_FAILED, "%s: no_rope_layers must be a list with a 1 or 0 for each of the %lld layers",
             r->what, (long long)s->layers);
        return;
    }
    for (int64_t l = 0; l < s->layers; l++) {
        const json_t *value = given ? json_array_get(list, (size_t)l) : NULL;
        if (given && (!json_is_integer(value) || (json_integer_value(value) & ~1)))
            fail(r->err, GRAFT_FAILED, "%s: no_rope_layers[%lld] must be 1 (rope) or 0 (none)", r->what, (long long)l);
        s->rope_id[l] = (given ? json_integer_value(value) != 0 : (l + 1) % interval != 0) ? 0 : -1;
    }
}

/* ---- rope: old and new spelling ---- */

static const json_t *object_or_null(const reader *r, const json_t *in, const char *key) {
    const json_t *value = json_object_get(in, key);
    if (json_is_null(value)) return NULL;
    if (value && !json_is_object(value) && !r->err->code)
        fail(r->err, GRAFT_FAILED, "%s: %s must be an object or null", r->what, key);
    return value;
}

/* A non-null rope_scaling replaces a flat rope_parameters entirely, theta included; beside per-layer dicts (Gemma 3) it is
 * merged into full_attention and keeps theta. */
static void read_ropes(const reader *r, const family *f, model_shape *s) {
    const json_t *old = object_or_null(r, r->config, "rope_scaling"),
                 *new = object_or_null(r, r->config, "rope_parameters");
    rope_source source = {.config = r->config,
                          .what = r->what,
                          .head_dim = s->head_dim,
                          .context = s->context,
                          .partial = (f->flags & PARTIAL) != 0,
                          .longrope_names = (f->flags & PARTIAL) != 0};
    source.theta = number(r, "rope_theta", f->theta, 1e-3, 1e15);
    if (f->windows != PATTERN) {
        source.dict = old ? old : new;
        if (json_object_get(source.dict, "full_attention") || json_object_get(source.dict, "sliding_attention"))
            fail(r->err, GRAFT_FAILED, "%s: rope_parameters differ by layer type; this family has one rotary table",
                 r->what);
        if (!r->err->code) rope_read(&source, &s->rope[0], r->err);
        return;
    }
    const json_t *full = object_or_null(r, new, "full_attention"),
                 *sliding = object_or_null(r, new, "sliding_attention");
    if (new &&json_object_size(new) && !full && !sliding)
        fail(r->err, GRAFT_FAILED, "%s: rope_parameters must hold full_attention and sliding_attention in this family",
             r->what);
    json_t *merged = full ? json_copy((json_t *)(uintptr_t)full) : json_object();
    if (old) json_object_update(merged, (json_t *)(uintptr_t)old);
    source.layered = 1;
    source.shared = new;
    source.dict = merged;
    if (!r->err->code) rope_read(&source, &s->rope[0], r->err);
    json_decref(merged);
    source.dict = sliding;
    source.theta = number(r, "rope_local_base_freq", 1e4, 1e-3, 1e15);
    if (!r->err->code) rope_read(&source, &s->rope[1], r->err);
}

/* ---- families ---- */

static void read_sizes(const reader *r, const family *f, model_shape *s) {
    enum { WIDEST = 1 << 20 };
    const int gpt2 = f->theta == 0;
    const char *hidden = gpt2 && has(r, "n_embd") ? "n_embd" : "hidden_size";
    const char *layers = gpt2 && has(r, "n_layer") ? "n_layer" : "num_hidden_layers";
    const char *heads = gpt2 && has(r, "n_head") ? "n_head" : "num_attention_heads";
    const char *context = gpt2 && has(r, "n_positions") ? "n_positions" : "max_position_embeddings";
    s->vocab = whole(r, "vocab_size", f->vocab, 1, 1 << 26);
    s->hidden = whole(r, hidden, f->hidden, 1, WIDEST);
    s->layers = whole(r, layers, f->layers, 1, 4096);
    s->heads = whole(r, heads, f->heads, 1, WIDEST);
    s->context = whole(r, context, f->context, 1, INT32_MAX);
    s->inner = whole(r, gpt2 ? "n_inner" : "intermediate_size", gpt2 ? 4 * s->hidden : f->inner, 1, 4 * WIDEST);
    s->kv_heads =
        gpt2 ? s->heads
             : whole_or_null(r, "num_key_value_heads", f->kv_heads ? f->kv_heads : s->heads, s->heads, 1, WIDEST);
    const int64_t given = gpt2 ? 0 : whole_or_null(r, "head_dim", f->head_dim, 0, 1, WIDEST);
    s->head_dim = given ? given : s->hidden / s->heads;
    if (r->err->code) return;
    if (s->hidden % s->heads && (gpt2 || (f->flags & DIVISIBLE)))
        fail(r->err, GRAFT_FAILED, "%s: %s %lld is not a multiple of %s %lld", r->what, hidden, (long long)s->hidden,
             heads, (long long)s->heads);
    else if (s->heads % s->kv_heads)
        fail(r->err, GRAFT_FAILED, "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
             r->what, (long long)s->heads, (long long)s->kv_heads);
    else if (!gpt2 && s->head_dim % 2)
        fail(r->err, GRAFT_FAILED, "%s: the head dimension is %lld; rotary positions need an even one", r->what,
             (long long)s->head_dim);
}

static void read_gpt2(const reader *r, model_shape *s) {
    s->norm = NORM_LAYER;
    s->norm_eps = number(r, "layer_norm_epsilon", 1e-5, 0, 1);
    s->bias_qkv = s->bias_o = s->bias_mlp = s->fused_qkv = s->conv1d = s->learned_positions = 1;
    s->pad = -1;
    if (truth(r, "add_cross_attention", 0))
        fail(r->err, GRAFT_FAILED, "%s: add_cross_attention is true; only decoders without an encoder are supported",
             r->what);
    if (!truth(r, "scale_attn_weights", 1)) s->attn_scale = 1;
    if (!truth(r, "scale_attn_by_inverse_layer_idx", 0)) return;
    s->attn_scale_layer = mem_new((size_t)s->layers, sizeof *s->attn_scale_layer);
    for (int64_t l = 0; l < s->layers; l++)
        s->attn_scale_layer[l] = s->attn_scale / (double)(l + 1);
}

static void read_gated(const reader *r, const family *f, model_shape *s) {
    const int bias = f->flags & ATTENTION_BIAS ? truth(r, "attention_bias", 0) : 0;
    s->norm = f->flags & ONE_PLUS ? NORM_RMS_ONE_PLUS : NORM_RMS;
    s->norm_eps = number(r, "rms_norm_eps", f->eps, 0, 1);
    s->sandwich = (f->flags & SANDWICH) != 0;
    s->qk_norm = (f->flags & QK_NORM) != 0;
    s->bias_qkv = bias || (f->flags & BIAS_QKV);
    s->bias_o = bias;
    s->bias_mlp = f->flags & MLP_BIAS ? truth(r, "mlp_bias", 0) : 0;
    s->gated = 1;
    s->fused_qkv = s->fused_gate_up = (f->flags & FUSED) != 0;
    if (f->flags & EMBED_SCALE) s->embed_scale = sqrt((double)s->hidden);
    if (f->flags & QUERY_SCALAR) s->attn_scale = 1 / sqrt(number(r, "query_pre_attn_scalar", 256, 1e-6, 1e9));
    if (f->flags & QUERY_SCALAR) /* Gemma 3 reads attn_logit_softcapping too, and never uses it */
        s->final_softcap =
            number(r, "final_logit_softcapping", has(r, "final_logit_softcapping") || s->qk_norm ? 0 : 30, 1e-6, 1e9);
    if ((f->flags & QUERY_SCALAR) && !s->qk_norm)
        s->attn_softcap = number(r, "attn_logit_softcapping", has(r, "attn_logit_softcapping") ? 0 : 50, 1e-6, 1e9);
    if ((f->flags & ONE_PLUS) && truth(r, "use_bidirectional_attention", 0))
        fail(r->err, GRAFT_FAILED, "%s: use_bidirectional_attention is true; only causal decoders are supported",
             r->what);
    read_nope(r, f, s);
    read_windows(r, f, s);
    read_ropes(r, f, s);
    read_pad(r, f, s);
}

/* The wrapper around a text model: its text_config, with what only the top level says. */
static json_t *text_part(const json_t *config) {
    static const char *const shared[] = {"tie_word_embeddings", "dtype",        "torch_dtype",      "eos_token_id",
                                         "bos_token_id",        "pad_token_id", "initializer_range"};
    json_t *out = json_copy(json_object_get(config, "text_config"));
    if (!json_object_get(out, "model_type")) json_object_set_new(out, "model_type", json_string("gemma3_text"));
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        if (!json_object_get(out, shared[i]) && json_object_get(config, shared[i]))
            json_object_set(out, shared[i], json_object_get(config, shared[i]));
    return out;
}

static int read_shape(const reader *r, model_shape *s) {
    const family *f = find_family(r);
    if (!f) return r->err->code;
    if (!truth(r, "is_causal", 1))
        fail(r->err, GRAFT_FAILED, "%s: is_causal is false; only causal decoders are supported", r->what);
    if (says(r, "per_layer_config"))
        fail(r->err, GRAFT_FAILED, "%s: per_layer_config is set; the layers of a model must be alike", r->what);
    *s = (model_shape){.family = f->name, .embed_scale = 1, .pad_row = -1};
    read_sizes(r, f, s);
    if (r->err->code) return r->err->code;
    s->window = mem_new((size_t)s->layers, sizeof *s->window);
    s->rope_id = mem_new((size_t)s->layers, sizeof *s->rope_id);
    s->attn_scale = 1 / sqrt((double)s->head_dim);
    for (int64_t l = 0; l < s->layers; l++)
        s->rope_id[l] = f->theta > 0 ? 0 : -1;
    if (f->theta > 0)
        read_gated(r, f, s);
    else
        read_gpt2(r, s);
    s->act = read_activation(r,
                             f->theta == 0                  ? "activation_function"
                             : f->flags & HIDDEN_ACTIVATION ? "hidden_activation"
                                                            : "hidden_act",
                             f);
    s->tied = truth(r, "tie_word_embeddings", f->tied);
    s->initializer_range = number(r, "initializer_range", 0.02, 0, 1e3);
    s->bos = whole_or_null(r, "bos_token_id", f->bos, -1, -1, INT32_MAX);
    read_eos(r, f->eos, s);
    read_stored(r, s);
    return r->err->code;
}

int descriptor_read(const json_t *config, const char *what, model_shape *out, graft_error *err) {
    *out = (model_shape){0};
    if (!json_is_object(config)) return fail(err, GRAFT_FAILED, "%s: a JSON object was expected", what);
    const char *type = json_string_value(json_object_get(config, "model_type"));
    json_t *text_config = NULL;
    if (type && strcmp(type, "gemma3") == 0) {
        if (!json_is_object(json_object_get(config, "text_config")))
            return fail(err, GRAFT_FAILED, "%s: model_type gemma3 needs an object \"text_config\"", what);
        text_config = text_part(config);
    }
    const reader r = {text_config ? text_config : config, what, err};
    read_shape(&r, out);
    json_decref(text_config);
    if (err->code) descriptor_free(out);
    return err->code;
}

void descriptor_free(model_shape *s) {
    for (int t = 0; t < MODEL_ROPES; t++) {
        free(s->rope[t].inv_freq);
        free(s->rope[t].inv_freq_long);
    }
    free(s->window);
    free(s->rope_id);
    free(s->attn_scale_layer);
    *s = (model_shape){0};
}
