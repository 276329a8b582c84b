/* model — opening a model folder on headers alone: the descriptor, the table of tensors, the points of adapters. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "formats/bnb.h"
#include "model/model-private.h"
#include <stdlib.h>
#include <string.h>

/* ---- the table of tensors ---- */

/* Shape of a role's matrix (out, in); in == 0: a norm of `out` features. */
typedef struct {
    int64_t out, in;
    int32_t bias, linear, embedding;
} role_shape;

static role_shape shape_of(const model_shape *s, tensor_role role) {
    const int64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const int32_t norm_bias = s->norm == NORM_LAYER;
    switch (role) {
    case ROLE_EMBED:
        return (role_shape){s->vocab, s->hidden, 0, 0, 1};
    case ROLE_POSITION:
        return (role_shape){s->context, s->hidden, 0, 0, 1};
    case ROLE_HEAD:
        return (role_shape){s->vocab, s->hidden, 0, 0, 0};
    case ROLE_Q:
        return (role_shape){q, s->hidden, s->bias_qkv, 1, 0};
    case ROLE_K:
    case ROLE_V:
        return (role_shape){kv, s->hidden, s->bias_qkv, 1, 0};
    case ROLE_QKV:
        return (role_shape){q + 2 * kv, s->hidden, s->bias_qkv, 1, 0};
    case ROLE_O:
        return (role_shape){s->hidden, q, s->bias_o, 1, 0};
    case ROLE_GATE:
    case ROLE_UP:
        return (role_shape){s->inner, s->hidden, s->bias_mlp, 1, 0};
    case ROLE_GATE_UP:
        return (role_shape){2 * s->inner, s->hidden, s->bias_mlp, 1, 0};
    case ROLE_DOWN:
        return (role_shape){s->hidden, s->inner, s->bias_mlp, 1, 0};
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return (role_shape){s->head_dim, 0, 0, 0, 0};
    default:
        return (role_shape){s->hidden, 0, norm_bias, 0, 0};
    }
}

static base_tensor *add_tensor(model *m, int32_t *capacity, char *module, const char *kind) {
    const int32_t had = *capacity;
    mem_reserve(m->tensors, m->tensor_count, *capacity);
    if (*capacity != had) {
        m->sources = mem_grow(m->sources, (size_t)*capacity, sizeof *m->sources);
        m->packed = mem_grow(m->packed, (size_t)*capacity, sizeof *m->packed);
    }
    m->sources[m->tensor_count] = NULL;
    m->packed[m->tensor_count] = 0;
    base_tensor *t = &m->tensors[m->tensor_count++];
    *t = (base_tensor){.name = mem_format("%s.%s", module, kind),
                       .module = module,
                       .layer = -1,
                       .tied_to = -1,
                       .skip_row = -1,
                       .stored = m->shape.stored};
    return t;
}

/* The tensors of one role: its weight, and its bias where there is one. */
static void add_role(model *m, int32_t *capacity, block_map *map, tensor_role role, int64_t layer) {
    map->weight[role] = map->bias[role] = map->point[role] = -1;
    char *module = module_name(&m->shape, role, layer);
    if (!module) return;
    const role_shape s = shape_of(&m->shape, role);
    map->weight[role] = m->tensor_count;
    base_tensor *t = add_tensor(m, capacity, module, "weight");
    t->out = s.out;
    t->in = s.in;
    t->layer = layer;
    t->linear = s.linear;
    t->transposed = m->shape.conv1d && s.linear;
    t->skip_row = role == ROLE_EMBED ? m->shape.pad_row : -1;
    if (!s.bias) return;
    map->bias[role] = m->tensor_count;
    t = add_tensor(m, capacity, mem_copy_text(module), "bias");
    t->out = s.out;
    t->layer = layer;
}

static void list_tensors(model *m) {
    static const tensor_role outside[] = {ROLE_EMBED, ROLE_POSITION, ROLE_FINAL_NORM, ROLE_HEAD};
    static const tensor_role block[] = {
        ROLE_NORM_ATTN,     ROLE_Q,        ROLE_K,    ROLE_V,  ROLE_QKV,     ROLE_Q_NORM, ROLE_K_NORM,      ROLE_O,
        ROLE_NORM_ATTN_OUT, ROLE_NORM_MLP, ROLE_GATE, ROLE_UP, ROLE_GATE_UP, ROLE_DOWN,   ROLE_NORM_MLP_OUT};
    int32_t capacity = 0;
    memset(&m->outside, -1, sizeof m->outside);
    m->blocks = mem_new((size_t)m->shape.layers, sizeof *m->blocks);
    memset(m->blocks, -1, (size_t)m->shape.layers * sizeof *m->blocks);
    for (int r = 0; r < 2; r++)
        add_role(m, &capacity, &m->outside, outside[r], -1);
    for (int64_t l = 0; l < m->shape.layers; l++)
        for (size_t r = 0; r < sizeof block / sizeof *block; r++)
            add_role(m, &capacity, &m->blocks[l], block[r], l);
    for (int r = 2; r < 4; r++)
        add_role(m, &capacity, &m->outside, outside[r], -1);
}

/* ---- the points of adapters ---- */

static adapt_point *add_point(model *m, int32_t *capacity, const char *name, int32_t kinds) {
    mem_reserve(m->points, m->point_count, *capacity);
    adapt_point *p = &m->points[m->point_count++];
    *p = (adapt_point){.name = name, .kinds = kinds, .layer = -1};
    return p;
}

static void add_linear(model *m, int32_t *capacity, block_map *map, tensor_role role) {
    if (map->weight[role] < 0) return;
    base_tensor *t = &m->tensors[map->weight[role]];
    const role_shape s = shape_of(&m->shape, role);
    if (t->in == 0) return;
    map->point[role] = m->point_count;
    adapt_point *p = add_point(m, capacity, t->module, s.embedding ? GRAFT_LINEAR : GRAFT_LINEAR | GRAFT_INPUT);
    p->onehot = s.embedding;
    p->all_linear = t->linear;
    p->layer = t->layer;
    /* a one-hot x has as many features as the table has rows, and the table is Wᵀ: W (hidden, vocab) */
    p->in = s.embedding ? t->out : t->in;
    p->out = s.embedding ? t->in : t->out;
    p->tensor = t;
    p->bias = map->bias[role] >= 0 ? &m->tensors[map->bias[role]] : NULL;
}

static int32_t add_branch(model *m, int32_t *capacity, arena *names, int64_t layer, const char *branch) {
    char *name = branch_name(&m->shape, layer, branch);
    adapt_point *p = add_point(m, capacity, arena_copy(names, name, strlen(name)), GRAFT_BRANCH);
    free(name);
    p->layer = layer;
    p->in = p->out = m->shape.hidden;
    return m->point_count - 1;
}

static void list_points(model *m) {
    int32_t capacity = 0;
    const model_shape *s = &m->shape;
    add_point(m, &capacity, "", GRAFT_KV)->out = 2 * s->layers * s->kv_heads * s->head_dim;
    add_point(m, &capacity, "", GRAFT_EMBED)->out = s->hidden;
    add_linear(m, &capacity, &m->outside, ROLE_EMBED);
    add_linear(m, &capacity, &m->outside, ROLE_POSITION);
    for (int64_t l = 0; l < s->layers; l++) {
        block_map *b = &m->blocks[l];
        for (int role = ROLE_Q; role <= ROLE_O; role++)
            add_linear(m, &capacity, b, (tensor_role)role);
        b->attn = add_branch(m, &capacity, &m->names, l, "attn");
        for (int role = ROLE_GATE; role <= ROLE_DOWN; role++)
            add_linear(m, &capacity, b, (tensor_role)role);
        b->mlp = add_branch(m, &capacity, &m->names, l, "mlp");
    }
    add_linear(m, &capacity, &m->outside, ROLE_HEAD);
    for (int32_t t = 0; t < m->tensor_count; t++) {
        adapt_point *p = add_point(m, &capacity, m->tensors[t].name, GRAFT_TENSOR);
        p->layer = m->tensors[t].layer;
        p->out = m->tensors[t].out;
        p->in = m->tensors[t].in;
        p->tensor = &m->tensors[t];
    }
}

/* ---- the files ---- */

static int check_shape(const model *m, const base_tensor *t, const tensor_info *info, graft_error *err) {
    const int64_t rows = t->transposed ? t->in : t->out, cols = t->transposed ? t->out : t->in;
    const int fits = t->in ? info->rank == 2 && info->shape[0] == rows && info->shape[1] == cols
                           : info->rank == 1 && info->shape[0] == t->out;
    char *found = tensor_describe(info);
    if (!fits && t->in)
        fail(err, GRAFT_FAILED, "%s: %s is %s in the file; config.json makes it [%lld, %lld]", m->folder, info->name,
             found, (long long)rows, (long long)cols);
    else if (!fits)
        fail(err, GRAFT_FAILED, "%s: %s is %s in the file; config.json makes it [%lld]", m->folder, info->name, found,
             (long long)t->out);
    else if (!dtype_is_float(info->dtype))
        fail(err, GRAFT_FAILED, "%s: %s is %s; weights must be F32, BF16, F16 or F64", m->folder, info->name, found);
    free(found);
    return err->code;
}

/* Both halves of a tied pair are stored: they are one table only when they hold the same numbers. */
static int same_values(const model *m, const tensor_info *a, const tensor_info *b, int *same, graft_error *err) {
    enum { PIECE = 1 << 17 };
    const tensor_info *const both[2] = {a, b};
    const dtype type = a->dtype == b->dtype ? a->dtype : F64; /* which holds what the others hold */
    char *const values = mem_new(2, PIECE * sizeof(double)), *const raw = mem_new(PIECE, sizeof(double));
    *same = 1;
    for (int64_t at = 0; *same && !err->code && at < a->count; at += PIECE) {
        const int64_t n = a->count - at < PIECE ? a->count - at : PIECE, bytes = n * dtype_bytes(type);
        for (int i = 0; i < 2 && !err->code; i++) {
            const int64_t size = dtype_bytes(both[i]->dtype);
            if (safetensors_read_part(m->files, both[i], at * size, n * size, raw, err) == GRAFT_OK)
                dtype_convert(values + i * bytes, type, raw, both[i]->dtype, n);
        }
        *same = memcmp(values, values + bytes, (size_t)bytes) == 0;
    }
    free(values);
    free(raw);
    return err->code;
}

/* The head and the embedding: one table or two (specs A.1.4, G 4). */
static int tie_head(model *m, graft_error *err) {
    const int32_t embed = m->outside.weight[ROLE_EMBED], head = m->outside.weight[ROLE_HEAD];
    const tensor_info **e = &m->sources[embed], **h = &m->sources[head];
    if (!m->shape.tied) return GRAFT_OK;
    int same = 1;
    if (*e && *h &&
        (check_shape(m, &m->tensors[embed], *e, err) || check_shape(m, &m->tensors[head], *h, err) ||
         same_values(m, *e, *h, &same, err)))
        return err->code;
    if (!same) {
        log_warn("%s: config.json ties the head to the embedding, but %s and %s differ: they are kept apart", m->folder,
                 m->tensors[embed].name, m->tensors[head].name);
        return GRAFT_OK;
    }
    *e = *e ? *e : *h;
    *h = *e;
    m->tensors[head].tied_to = embed;
    return GRAFT_OK;
}

/* The tensor in the files; of a matrix that GPTQ packed, its codes. */
static int find_source(model *m, int32_t place, graft_error *err) {
    const char *const name = m->tensors[place].name, *const tail = strrchr(name, '.');
    const tensor_info **to = &m->sources[place];
    *to = find_tensor(m->files, name);
    if (!m->grid.bits || m->tensors[place].in == 0) return GRAFT_OK;
    char *const packed = mem_format("%.*s.q%s", (int)(tail - name), name, tail + 1);
    const tensor_info *const codes = find_tensor(m->files, packed);
    free(packed);
    if (codes && *to)
        return fail(err, GRAFT_FAILED, "%s: both %s and %s are there", m->folder, (*to)->name, codes->name);
    *to = codes ? codes : *to;
    return GRAFT_OK;
}

static int find_grid(model *m, int32_t place, graft_error *err) {
    const base_tensor *t = &m->tensors[place];
    gptq_weight w;
    if (gptq_read(m->files, m->sources[place], &m->grid, t->out, t->in, &w, err)) return err->code;
    m->packed[place] = t->out * (w.row + w.groups * (m->grid.symmetric ? 4 : 5));
    return GRAFT_OK;
}

/* A linear weight (the head may be one) that lies packed: checked, and its bytes counted. */
static int find_packed(model *m, int32_t place, graft_error *err) {
    const base_tensor *t = &m->tensors[place];
    const char *const name = m->sources[place]->name;
    bnb_weight b;
    if (m->grid.bits) return strstr(name, ".qweight") ? find_grid(m, place, err) : GRAFT_OK;
    if (bnb_find(m->files, name) == BNB_NONE || bnb_read(m->files, name, &b, err)) return err->code;
    if (b.rank != 2 || b.shape[0] != t->out || b.shape[1] != t->in)
        return fail(err, GRAFT_FAILED, "%s: %s is packed as [%lld, %lld]; config.json makes it [%lld, %lld]", m->folder,
                    t->name, (long long)b.shape[0], (long long)(b.rank > 1 ? b.shape[1] : 0), (long long)t->out,
                    (long long)t->in);
    const int64_t codes = b.kind == BNB_4BIT ? (b.count + 1) / 2 : b.count;
    m->packed[place] =
        codes + (b.nested ? b.scales + 4 * b.nested_scales + (int64_t)sizeof b.nested_code : 4 * b.scales);
    return GRAFT_OK;
}

/* The scales and tables beside a packed weight: MODULE.weight.absmax, MODULE.SCB, MODULE.qzeros ... */
static int is_sibling(const model *m, const strmap *used, const char *name) {
    static const char *const marks[] = {".weight.", ".SCB", ".weight_format", ".qzeros", ".scales", ".g_idx"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const char *at = strstr(name, marks[i]);
        if (!at) continue;
        char *packed = mem_format("%.*s.%sweight", (int)(at - name), name, m->grid.bits ? "q" : "");
        int64_t place = -1;
        const int found = strmap_get(used, packed, strlen(packed), &place);
        free(packed);
        if (found && m->packed[place]) return 1;
    }
    return 0;
}

static int find_sources(model *m, graft_error *err) {
    for (int32_t t = 0; t < m->tensor_count; t++)
        if (find_source(m, t, err)) return err->code;
    if (tie_head(m, err)) return err->code;
    for (int32_t t = 0; t < m->tensor_count; t++) {
        const tensor_info *info = NULL;
        if (!m->sources[t]) return safetensors_need(m->files, m->tensors[t].name, &info, err);
        const int own_head = t == m->outside.weight[ROLE_HEAD] && m->tensors[t].tied_to < 0;
        if ((m->tensors[t].linear || own_head) && find_packed(m, t, err)) return err->code;
        if (m->packed[t]) continue;
        if (check_shape(m, &m->tensors[t], m->sources[t], err)) return err->code;
        m->tensors[t].stored = m->sources[t]->dtype;
    }
    return GRAFT_OK;
}

/* What the files hold beyond the model is left alone, and said once. */
static void warn_extra(const model *m) {
    strmap used = {0};
    for (int32_t t = 0; t < m->tensor_count; t++)
        strmap_put(&used, m->sources[t]->name, strlen(m->sources[t]->name), t);
    const tensor_info *head = find_tensor(m->files, m->tensors[m->outside.weight[ROLE_HEAD]].name);
    int64_t count = 0, seen;
    if (head && !strmap_get(&used, head->name, strlen(head->name), &seen)) /* the second copy of a tied table */
        strmap_put(&used, head->name, strlen(head->name), 0);
    const char *first = NULL;
    for (int64_t i = 0; i < safetensors_count(m->files); i++) {
        const char *name = safetensors_at(m->files, i)->name;
        if (strmap_get(&used, name, strlen(name), &seen) || is_extra_tensor(name) || is_sibling(m, &used, name))
            continue;
        first = first ? first : name;
        count++;
    }
    if (count)
        log_warn(
            "%s: %lld of the tensors in the files belong to no part of this model and are left alone, the first is %s",
            m->folder, (long long)count, first);
    strmap_free(&used);
}

/* ---- public ---- */

static int read_quantization(const json_t *q, const char *what, gptq_config *grid, graft_error *err) {
    const char *const method = json_string_value(json_object_get(q, "quant_method"));
    if (method && strcmp(method, "gptq") == 0) return gptq_config_read(q, what, grid, err);
    return bnb_config_check(q, what, err);
}

static int open_config(const char *folder, model *m, graft_error *err) {
    char *path = path_join(folder, "config.json"), *adapter = path_join(folder, "adapter_config.json");
    if (!file_is_folder(folder))
        fail(err, GRAFT_FAILED, "%s is not a folder; a model is a folder with config.json and model.safetensors",
             folder);
    else if (!file_exists(path) && file_exists(adapter))
        fail(err, GRAFT_USAGE, "%s holds an adapter, no model: name its base in this place, and it with --adapter",
             folder);
    else if (!json_read_file(path, 0, &m->config, err) && !descriptor_read(m->config, path, &m->shape, err))
        read_quantization(json_object_get(m->config, "quantization_config"), path, &m->grid, err);
    free(path);
    free(adapter);
    return err->code;
}

static int open_model(const char *folder, int with_files, model **out, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    model *m = mem_new(1, sizeof *m);
    *out = NULL;
    m->folder = mem_copy_text(folder);
    if (open_config(folder, m, err)) goto failed;
    list_tensors(m);
    if (with_files) {
        if (weights_open(folder, &m->files, err) || find_sources(m, err)) goto failed;
        warn_extra(m);
    } else if (m->shape.tied) {
        m->tensors[m->outside.weight[ROLE_HEAD]].tied_to = m->outside.weight[ROLE_EMBED];
    }
    list_points(m);
    *out = m;
    return GRAFT_OK;
failed:
    model_close(m);
    return err->code;
}

int model_open(const char *folder, model **out, graft_error *err) {
    return open_model(folder, 1, out, err);
}

int model_open_config(const char *folder, model **out, graft_error *err) {
    return open_model(folder, 0, out, err);
}

void model_close(model *m) {
    if (!m) return;
    for (int32_t t = 0; t < m->tensor_count; t++) {
        if (m->device) tensor_release(m->device, &m->tensors[t]);
        free(m->tensors[t].name);
        free(m->tensors[t].module);
    }
    for (int r = 0; m->device && r < MODEL_ROPES; r++) {
        m->device->release(m->device, m->inv_freq[r]);
        m->device->release(m->device, m->inv_freq_long[r]);
    }
    safetensors_close(m->files);
    json_decref(m->config);
    descriptor_free(&m->shape);
    arena_free(&m->names);
    free(m->tensors);
    free(m->sources);
    free(m->packed);
    free(m->points);
    free(m->blocks);
    free(m->folder);
    free(m);
}

const model_shape *model_descriptor(const model *m) {
    return &m->shape;
}

int32_t model_is_packed(const model *m) {
    int32_t any = 0;
    for (int32_t t = 0; t < m->tensor_count; t++)
        any |= m->packed[t] != 0;
    return any;
}

const char *model_folder(const model *m) {
    return m->folder;
}

base_tensor *model_tensors(model *m, int32_t *count) {
    *count = m->tensor_count;
    return m->tensors;
}

const adapt_point *model_points(model *m, int32_t *count) {
    *count = m->point_count;
    return m->points;
}

const char *const *model_default_targets(const model *m) {
    return family_default_targets(m->shape.family);
}
