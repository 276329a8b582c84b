/* save-packed — weights that lie packed on the device as bitsandbytes' tensors, or those on grids as GPTQ's, and what
 * config.json says about them. */
#include "model/model-private.h"
#include <stdlib.h>
#include <string.h>

/* The weight as the file format describes it. */
static int describe(model *m, const base_tensor *t, bnb_weight *b, graft_error *err) {
    const weight *w = &t->w;
    kernels *const k = m->device;
    *b = (bnb_weight){
        .kind = w->layout == WEIGHT_CODEBOOK4 ? BNB_4BIT : BNB_8BIT,
        .rank = 2,
        .shape = {t->out, t->in},
        .count = t->out * t->in,
        .type = w->type,
        .block = w->block
    };
    if (w->layout != WEIGHT_CODEBOOK4 && w->layout != WEIGHT_ROWS8)
        return fail(err, GRAFT_USAGE,
                    "%s is packed %s: bitsandbytes' files have nf4, fp4 and 8-bit rows, GPTQ's have grids", t->name,
                    w->layout == WEIGHT_AFFINE ? "on a grid, others are not; a folder holds one of the two"
                                               : "in a layout of its own, which no file format holds");
    if (b->kind == BNB_8BIT) return GRAFT_OK;
    memcpy(b->code, w->code, sizeof b->code);
    if (!bnb_names_code(b))
        return fail(err, GRAFT_USAGE,
                    "%s is packed with a code book that is neither nf4 nor fp4: no file format has it", t->name);
    b->nested = w->nested != NULL;
    b->nested_block = w->nested_block;
    b->nested_offset = w->nested_offset;
    if (b->nested) k->download(k, b->nested_code, w->nested_code, sizeof b->nested_code);
    return GRAFT_OK;
}

int packed_tensors(model *m, const base_tensor *t, const gptq_config *grid, arena *memory,
                   tensor_out list[PACKED_TENSORS], int32_t *count, graft_error *err) {
    bnb_weight b;
    if (grid->bits) return grid_tensors(m, t, grid, memory, list, count, err);
    if (describe(m, t, &b, err)) return err->code;
    const weight *w = &t->w;
    *count = bnb_tensors(t->name, &b, w->data, w->nested ? w->nested : w->scale, w->nested_scale, memory, list);
    return GRAFT_OK;
}

/* The linear modules, and which of them are packed. */
typedef struct {
    const char **names;
    int32_t *packed, count;
} module_list;

static module_list list_modules(const model *m) {
    module_list l = {.names = mem_new((size_t)m->tensor_count + 1, sizeof *l.names),
                     .packed = mem_new((size_t)m->tensor_count + 1, sizeof *l.packed)};
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        if ((!t->linear && i != m->outside.weight[ROLE_HEAD]) || t->in == 0) continue;
        l.packed[l.count] = tensor_is_packed(t);
        l.names[l.count++] = t->module;
    }
    return l;
}

/* Modules that stay as they are; null when those are what bitsandbytes leaves alone by itself, the head. */
static json_t *skip_list(const model *m, const module_list *l) {
    const char *const head = m->tensors[m->outside.weight[ROLE_HEAD]].module;
    json_t *const list = json_array();
    for (int32_t i = 0; i < l->count; i++)
        if (!l->packed[i]) json_array_append_new(list, json_string(l->names[i]));
    const char *const only = json_string_value(json_array_get(list, 0));
    if (json_array_size(list) != 1 || strcmp(only, head) != 0) return list;
    json_decref(list);
    return json_null();
}

const base_tensor *packed_first(const model *m) {
    for (int32_t i = 0; i < m->tensor_count; i++)
        if (m->tensors[i].tied_to < 0 && tensor_is_packed(&m->tensors[i])) return &m->tensors[i];
    return NULL;
}

static int check_embeddings(const model *m, graft_error *err) {
    const int32_t tables[] = {m->outside.weight[ROLE_EMBED], m->outside.weight[ROLE_POSITION]};
    for (int i = 0; i < 2; i++)
        if (tables[i] >= 0 && tensor_is_packed(&m->tensors[tables[i]]))
            return fail(err, GRAFT_USAGE, "%s: packed folders hold linear layers, no embeddings; exclude it",
                        m->tensors[tables[i]].name);
    return GRAFT_OK;
}

/* All are packed in one of bitsandbytes' ways; *b is that of the first. */
static int check_same(model *m, const base_tensor *first, bnb_weight *b, graft_error *err) {
    bnb_weight other;
    if (describe(m, first, b, err)) return err->code;
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        if (t->tied_to >= 0 || !tensor_is_packed(t)) continue;
        if (describe(m, t, &other, err)) return err->code;
        if (other.kind != b->kind)
            return fail(err, GRAFT_USAGE,
                        "%s and %s are packed in %d and %d bits; a folder of bitsandbytes has one of the two",
                        first->name, t->name, b->kind == BNB_4BIT ? 4 : 8, other.kind == BNB_4BIT ? 4 : 8);
    }
    return GRAFT_OK;
}

int packed_config(model *m, json_t **out, gptq_config *grid, graft_error *err) {
    const base_tensor *const first = packed_first(m);
    const dtype stored = m->shape.stored == F64 ? F32 : m->shape.stored;
    bnb_weight b;
    *out = NULL;
    if (!first) return GRAFT_OK;
    const int grids = first->w.layout == WEIGHT_AFFINE;
    if (check_embeddings(m, err) || (grids ? grid_config(m, grid, err) : check_same(m, first, &b, err)))
        return err->code;
    const module_list l = list_modules(m);
    if (grids) {
        *out = gptq_config_write(grid, l.names, l.packed, l.count);
    } else {
        *out = bnb_config(&b, stored);
        json_object_set_new(*out, "llm_int8_skip_modules", skip_list(m, &l));
        if (first->w.threshold > 0)
            json_object_set_new(*out, "llm_int8_threshold", json_real((double)first->w.threshold));
    }
    free(l.names);
    free(l.packed);
    return GRAFT_OK;
}
