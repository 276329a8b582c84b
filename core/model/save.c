/* save — a model folder as transformers writes it: weights in one file or in shards with an index, config.json as it was but
 * for what changed, and the files of tokenizer and generation copied. Every file appears under its name when it is complete;
 * config.json comes last. */
#include "base/file.h"
#include "base/json.h"
#include "model/model-private.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    model *m;
    const char *folder;
    const model_saving *how;
    tensor_out *out; /* (count) */
    int32_t *list;   /* (count) their places in m->tensors */
    int32_t count;
    arena memory;         /* names and tables of packed weights */
    json_t *quantization; /* of config.json, NULL: nothing is packed */
    gptq_config grid;     /* bits > 0: packed by GPTQ's rules */
} saving;

static int is_untied(const model *m) {
    return m->shape.tied && m->tensors[m->outside.weight[ROLE_HEAD]].tied_to < 0;
}

/* What is written: every tensor that holds numbers of its own, under transformers' name, in the file's orientation. */
static int list_saved(saving *s, graft_error *err) {
    model *const m = s->m;
    const dtype type = s->how->type;
    if (s->how->packed && packed_config(m, &s->quantization, &s->grid, err)) return err->code;
    s->out = mem_new((size_t)m->tensor_count * PACKED_TENSORS, sizeof *s->out);
    s->list = mem_new((size_t)m->tensor_count * PACKED_TENSORS, sizeof *s->list);
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        int32_t parts = 1;
        if (t->tied_to >= 0) continue;
        tensor_out *o = &s->out[s->count];
        *o = (tensor_out){.name = t->name, .dtype = type == DTYPE_COUNT ? t->stored : type, .rank = t->in ? 2 : 1};
        o->shape[0] = t->transposed ? t->in : t->out;
        o->shape[1] = t->transposed ? t->out : t->in;
        if (s->how->packed && tensor_is_packed(t) && packed_tensors(m, t, &s->grid, &s->memory, o, &parts, err))
            return err->code;
        for (int32_t p = 0; p < parts; p++)
            s->list[s->count++] = i;
    }
    return GRAFT_OK;
}

/* ---- weights ---- */

/* A tensor of a packed weight: a table on the host, or bytes of the device. */
static int put_packed(const saving *s, weights_writer *w, int32_t i, graft_error *err) {
    enum { PIECE = 1 << 22 };
    const weight *at = &s->m->tensors[s->list[i]].w;
    const tensor_out *o = &s->out[i];
    if (s->grid.bits && o->data == at->data) return grid_put_codes(s->m, &s->m->tensors[s->list[i]], &s->grid, w, err);
    int64_t bytes = dtype_bytes(o->dtype);
    for (int r = 0; r < o->rank; r++)
        bytes *= o->shape[r];
    if (o->data != at->data && o->data != at->scale && o->data != at->nested && o->data != at->nested_scale)
        return weights_put(w, o->data, bytes, err);
    char *const piece = mem_new(PIECE, 1);
    for (int64_t done = 0; done < bytes && !err->code; done += PIECE) {
        const int64_t n = bytes - done < PIECE ? bytes - done : PIECE;
        s->m->device->download(s->m->device, piece, (const char *)o->data + done, n);
        weights_put(w, piece, n, err);
    }
    free(piece);
    return err->code;
}

static int put_tensor(const saving *s, weights_writer *w, int32_t i, graft_error *err) {
    const base_tensor *t = &s->m->tensors[s->list[i]];
    if (s->how->packed && tensor_is_packed(t)) return put_packed(s, w, i, err);
    const model_rewrite *const other = s->how->other;
    const dtype type = s->out[i].dtype;
    const int64_t width = t->in ? t->in : 1, piece = t->transposed ? t->out : tensor_piece(t);
    float *values = mem_new((size_t)(piece * width), sizeof *values);
    float *turned = t->transposed ? mem_new((size_t)(piece * width), sizeof *values) : NULL;
    void *bytes = mem_new((size_t)(piece * width), (size_t)dtype_bytes(type));
    for (int64_t r = 0; r < t->out && !err->code; r += piece) {
        const int64_t rows = t->out - r < piece ? t->out - r : piece;
        int32_t given = 0;
        if (other && other->rows(other->context, s->list[i], r, rows, values, &given, err)) break;
        if (!given && tensor_rows(s->m, t, r, rows, values, err)) break;
        if (turned) transpose_bytes(turned, values, t->out, t->in, sizeof *values);
        dtype_convert(bytes, type, turned ? turned : values, F32, rows * width);
        const int64_t bad = first_not_finite(bytes, type, rows * width);
        if (bad >= 0)
            fail(err, GRAFT_FAILED, "%s: element %lld of %s is %g, which %s does not hold as a finite number",
                 s->folder, (long long)(r * width + bad), t->name, (double)(turned ? turned : values)[bad],
                 dtype_name(type));
        else
            weights_put(w, bytes, rows * width * dtype_bytes(type), err);
    }
    free(values);
    free(turned);
    free(bytes);
    return err->code;
}

static int write_weights(const saving *s, graft_error *err) {
    static const safetensors_note notes[] = {
        {"format", "pt"}
    };
    weights_writer *w = NULL;
    const int64_t shard_bytes = s->how->shard_bytes;
    if (weights_create(s->folder, s->out, s->count, notes, 1, shard_bytes > 0 ? shard_bytes : INT64_MAX, &w, err))
        return err->code;
    for (int64_t i; !err->code && (i = weights_next(w)) >= 0;)
        put_tensor(s, w, (int32_t)i, err);
    if (!err->code) return weights_commit(w, err);
    weights_abandon(w);
    return err->code;
}

/* ---- the rest of the folder ---- */

static void set_dtype(json_t *config, dtype type) {
    static const char *const names[] = {[F64] = "float64", [F32] = "float32", [BF16] = "bfloat16", [F16] = "float16"};
    const char *key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype";
    json_object_set_new(config, key, json_string(names[type]));
}

/* The text part of a multimodal folder is a model of its own. */
static json_t *text_config(const model *m) {
    json_t *inner = json_object_get(m->config, "text_config");
    if (!json_is_object(inner)) return json_copy(m->config);
    json_t *config = json_copy(inner);
    json_object_set_new(config, "architectures", json_pack("[s]", "Gemma3ForCausalLM"));
    json_object_set_new(config, "model_type", json_string(m->shape.family));
    return config;
}

static int write_config(const saving *s, graft_error *err) {
    const dtype type = s->how->type;
    json_t *config = text_config(s->m);
    json_object_del(config, "quantization_config");
    if (s->quantization) json_object_set(config, "quantization_config", s->quantization);
    if (is_untied(s->m)) json_object_set_new(config, "tie_word_embeddings", json_false());
    if (type != DTYPE_COUNT) set_dtype(config, type);
    if (s->grid.bits) set_dtype(config, packed_first(s->m)->w.type); /* nothing else says what values are rounded to */
    char *path = path_join(s->folder, "config.json");
    json_write_file(path, config, JSON_INDENT(2), err);
    free(path);
    json_decref(config);
    return err->code;
}

static int copy_files(const saving *s, graft_error *err) {
    static const char *const names[] = {"generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "chat_template.json"};
    enum { LARGEST = 1 << 30 };
    for (size_t i = 0; i < sizeof names / sizeof *names && !err->code; i++) {
        char *from = path_join(s->m->folder, names[i]), *to = path_join(s->folder, names[i]), *bytes = NULL;
        int64_t size;
        if (file_exists(from) && !file_read(from, LARGEST, &bytes, &size, err)) file_write(to, bytes, size, err);
        free(bytes);
        free(from);
        free(to);
    }
    return err->code;
}

int model_save(model *m, const char *folder, dtype type, int64_t shard_bytes, graft_error *err) {
    return model_save_as(m, folder, &(model_saving){.type = type, .shard_bytes = shard_bytes}, err);
}

int model_save_as(model *m, const char *folder, const model_saving *how, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    if (!m->device) return fail(err, GRAFT_FAILED, "%s is not loaded: there is nothing to save", m->folder);
    if (how->type != DTYPE_COUNT && !dtype_is_float(how->type))
        return fail(err, GRAFT_USAGE, "weights are saved as F32, BF16, F16 or F64, not %s", dtype_name(how->type));
    saving s = {.m = m, .folder = folder, .how = how};
    if (list_saved(&s, err) == GRAFT_OK && file_make_folders(folder, err) == GRAFT_OK &&
        write_weights(&s, err) == GRAFT_OK && copy_files(&s, err) == GRAFT_OK)
        write_config(&s, err);
    json_decref(s.quantization);
    arena_free(&s.memory);
    free(s.out);
    free(s.list);
    return err->code;
}
