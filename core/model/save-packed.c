/* save-packed — weights that lie packed on the device as bitsandbytes' tensors, and what config.json says about them. */
#include "model/model-private.h"
#include <stdlib.h>
#include <string.h>

static const char *layout_word(const weight *w) {
    return w->layout == WEIGHT_AFFINE ? "groups of 2 to 8 bits on a grid" : "a layout of its own";
}

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
                    "%s is packed as %s, which no file format holds: bitsandbytes' files have nf4, fp4 and 8-bit rows",
                    t->name, layout_word(w));
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

int packed_tensors(model *m, const base_tensor *t, arena *memory, tensor_out list[BNB_TENSORS], int32_t *count,
                   graft_error *err) {
    bnb_weight b;
    if (describe(m, t, &b, err)) return err->code;
    const weight *w = &t->w;
    *count = bnb_tensors(t->name, &b, w->data, w->nested ? w->nested : w->scale, w->nested_scale, memory, list);
    return GRAFT_OK;
}

/* Linear modules that stay as they are; null when those are what bitsandbytes leaves alone by itself: the head. */
static json_t *skip_list(const model *m) {
    const int32_t head = m->outside.weight[ROLE_HEAD];
    json_t *const list = json_array();
    int usual = !tensor_is_packed(&m->tensors[head]);
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        if ((!t->linear && i != head) || tensor_is_packed(t) || t->in == 0) continue;
        json_array_append_new(list, json_string(t->module));
        usual &= i == head;
    }
    if (!usual) return list;
    json_decref(list);
    return json_null();
}

int packed_config(model *m, json_t **out, graft_error *err) {
    const base_tensor *first = NULL;
    bnb_weight b, other;
    *out = NULL;
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        if (t->tied_to >= 0 || !tensor_is_packed(t)) continue;
        if (describe(m, t, first ? &other : &b, err)) return err->code;
        if (i == m->outside.weight[ROLE_EMBED] || i == m->outside.weight[ROLE_POSITION])
            return fail(err, GRAFT_USAGE, "%s: bitsandbytes' files hold linear layers, no embeddings; exclude it",
                        t->name);
        if (first && other.kind != b.kind)
            return fail(err, GRAFT_USAGE,
                        "%s and %s are packed in %d and %d bits; a folder of bitsandbytes has one of the two",
                        first->name, t->name, b.kind == BNB_4BIT ? 4 : 8, other.kind == BNB_4BIT ? 4 : 8);
        first = first ? first : t;
    }
    if (!first) return GRAFT_OK;
    const dtype stored = m->shape.stored == F64 ? F32 : m->shape.stored;
    json_t *const config = bnb_config(&b, stored);
    json_object_set_new(config, "llm_int8_skip_modules", skip_list(m));
    if (first->w.threshold > 0)
        json_object_set_new(config, "llm_int8_threshold", json_real((double)first->w.threshold));
    *out = config;
    return GRAFT_OK;
}
