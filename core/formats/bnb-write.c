/* bnb-write — a quantized weight as bitsandbytes' tensors, and what config.json says about it. */
#include "formats/bnb.h"
#include "formats/jsontext.h"
#include <string.h>

static tensor_out *add(tensor_out *list, int32_t *count, const char *name, dtype type, int64_t elements,
                       const void *data) {
    tensor_out *const t = &list[(*count)++];
    *t = (tensor_out){.name = name, .dtype = type, .rank = 1, .shape = {elements}, .data = data};
    return t;
}

static const char *type_word(dtype type) {
    return type == F16 ? "float16" : type == BF16 ? "bfloat16" : "float32";
}

/* The state as json.dumps writes it. */
static void make_state(const bnb_weight *w, strbuf *out) {
    json_t *const state = json_object(), *const shape = json_array();
    for (int i = 0; i < w->rank; i++)
        json_array_append_new(shape, json_integer(w->shape[i]));
    json_object_set_new(state, "quant_type", json_string(w->fp4 ? "fp4" : "nf4"));
    json_object_set_new(state, "blocksize", json_integer(w->block));
    json_object_set_new(state, "dtype", json_string(type_word(w->type)));
    json_object_set_new(state, "shape", shape);
    if (w->nested) {
        json_object_set_new(state, "nested_blocksize", json_integer(w->nested_block));
        json_object_set_new(state, "nested_dtype", json_string("float32"));
        json_object_set_new(state, "nested_offset", json_real((double)w->nested_offset));
    }
    jsontext_add(out, state, 0);
    json_decref(state);
}

static int32_t tensors_8bit(const char *weight, const bnb_weight *w, const void *codes, const void *absmax,
                            arena *memory, tensor_out *list) {
    static const uint8_t rows = 0;
    const int module = (int)(strlen(weight) - strlen(".weight"));
    int32_t count = 0;
    tensor_out *const t = add(list, &count, weight, I8, w->shape[0], codes);
    t->rank = 2, t->shape[1] = w->shape[1];
    add(list, &count, arena_format(memory, "%.*s.SCB", module, weight), F32, w->shape[0], absmax);
    add(list, &count, arena_format(memory, "%.*s.weight_format", module, weight), U8, 1, &rows)->rank = 0;
    return count;
}

int32_t bnb_tensors(const char *weight, const bnb_weight *w, const void *codes, const void *absmax,
                    const float *nested_absmax, arena *memory, tensor_out list[BNB_TENSORS]) {
    if (w->kind == BNB_8BIT) return tensors_8bit(weight, w, codes, absmax, memory, list);
    int64_t elements = 1;
    for (int i = 0; i < w->rank; i++)
        elements *= w->shape[i];
    const int64_t blocks = (elements + w->block - 1) / w->block;
    float *const code = arena_new(memory, 16, sizeof *code);
    for (int i = 0; i < 16; i++)
        code[i] = w->code[i] + 0.0f; /* bitsandbytes' map has +0 twice */
    strbuf state = {0};
    make_state(w, &state);
    int32_t count = 0;
    tensor_out *const t = add(list, &count, weight, U8, (elements + 1) / 2, codes);
    t->rank = 2, t->shape[1] = 1;
    add(list, &count, arena_format(memory, "%s.absmax", weight), w->nested ? U8 : F32, blocks, absmax);
    add(list, &count, arena_format(memory, "%s.quant_map", weight), F32, 16, code);
    add(list, &count, arena_format(memory, "%s.quant_state.bitsandbytes__%s", weight, w->fp4 ? "fp4" : "nf4"), U8,
        (int64_t)state.length, arena_copy(memory, state.text, state.length));
    strbuf_free(&state);
    if (!w->nested) return count;
    float *const map = arena_new(memory, 256, sizeof *map);
    memcpy(map, w->nested_code, sizeof w->nested_code);
    add(list, &count, arena_format(memory, "%s.nested_absmax", weight), F32,
        (blocks + w->nested_block - 1) / w->nested_block, nested_absmax);
    add(list, &count, arena_format(memory, "%s.nested_quant_map", weight), F32, 256, map);
    return count;
}

json_t *bnb_config(const bnb_weight *w, dtype compute) {
    const int four = w->kind == BNB_4BIT;
    return json_pack("{s:b, s:b, s:s, s:s, s:s, s:b, s:b, s:b, s:n, s:f, s:b, s:b, s:s}", "_load_in_4bit", four,
                     "_load_in_8bit", !four, "bnb_4bit_compute_dtype", type_word(compute), "bnb_4bit_quant_storage",
                     "uint8", "bnb_4bit_quant_type", four && !w->fp4 ? "nf4" : "fp4", "bnb_4bit_use_double_quant",
                     four && w->nested, "llm_int8_enable_fp32_cpu_offload", 0, "llm_int8_has_fp16_weight", 0,
                     "llm_int8_skip_modules", "llm_int8_threshold", 6.0, "load_in_4bit", four, "load_in_8bit", !four,
                     "quant_method", "bitsandbytes");
}

int bnb_config_check(const json_t *quantization, const char *what, graft_error *err) {
    const char *method;
    if (!quantization || json_is_null(quantization)) return GRAFT_OK;
    const int rc = json_get_text(quantization, what, "quant_method", "bitsandbytes", &method, err);
    if (rc != GRAFT_OK || strcmp(method, "bitsandbytes") == 0) return rc;
    return fail(
        err, GRAFT_FAILED,
        "%s: its weights are quantized by \"%s\"; bitsandbytes' 4 and 8 bits, GPTQ's grids and plain weights are read",
        what, method);
}
