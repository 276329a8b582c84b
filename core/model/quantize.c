/* quantize — which weights are packed, into what, and by whom: the table's fused kernel where it knows the layout, which must
 * equal the plugin's formulas (quantize-formula.c), or a state file (quantize-state.c). */
#include "config/option.h"
#include "formats/targets.h"
#include "kernels/blocks8.h"
#include "model/quantize-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number_of(const quantize *q, const char *name, double fallback) {
    for (int32_t n = 0; n < q->number_count; n++)
        if (strcmp(q->number_names[n], name) == 0) return q->numbers[n];
    return fallback;
}

static int read_component(quantize *q, graft_error *err) {
    const plugin_component *c = q->in.component;
    const char *layout = c->quantizer.layout;
    for (int32_t o = 0; o < c->option_count && q->number_count < 60; o++) {
        double value;
        if (!option_number(&c->options[o], q->in.config, &value)) continue;
        q->number_names[q->number_count] = c->options[o].key;
        q->numbers[q->number_count++] = value;
    }
    q->block = (int64_t)number_of(q, "block_size", 0);
    q->nested = number_of(q, "double_quant", 0) != 0;
    if (layout && strcmp(layout, "codebook4") == 0)
        q->layout = WEIGHT_CODEBOOK4;
    else if (layout && strcmp(layout, "rows8") == 0)
        q->layout = WEIGHT_ROWS8;
    else
        return fail(err, GRAFT_USAGE, "quantizer %s has layout \"%s\"; this version knows codebook4 and rows8", c->name,
                    layout ? layout : "(none)");
    if (q->layout == WEIGHT_CODEBOOK4 && (q->block < 32 || q->block > 4096 || (q->block & (q->block - 1))))
        return fail(err, GRAFT_USAGE, "quantizer %s: block_size = %lld must be a power of two from 32 to 4096", c->name,
                    (long long)q->block);
    for (int32_t s = 0; s < c->slot_count; s++)
        if (strcmp(c->slots[s].name, "code") == 0 && c->slots[s].values)
            for (int i = 0; i < 16 && q->layout == WEIGHT_CODEBOOK4; i++)
                q->code[i] = (float)c->slots[s].values[i];
    return quantize_check(q, 2, 4096, err);
}

int quantize_create(const quantize_spec *spec, quantize **out, graft_error *err) {
    quantize *q = mem_new(1, sizeof *q);
    q->in = *spec;
    q->layout = WEIGHT_PLAIN;
    if (spec->component) read_component(q, err);
    if (!err->code && spec->state && *spec->state) safetensors_open(spec->state, &q->state, err);
    if (err->code) {
        quantize_free(q);
        return err->code;
    }
    *out = q;
    return GRAFT_OK;
}

void quantize_free(quantize *q) {
    if (!q) return;
    safetensors_close(q->state);
    free(q);
}

int32_t quantize_selects(const quantize *q, const base_tensor *t) {
    if (!q || !t->in || t->trained || t->tied_to >= 0) return 0;
    static const char *const everything[] = {"all-linear"};
    const targets_list list = {.names = q->in.targets ? q->in.targets : everything,
                               .count = q->in.targets ? q->in.target_count : 1,
                               .exclude = q->in.exclude,
                               .exclude_count = q->in.exclude_count};
    return targets_select(&list, t->module, t->layer, t->linear);
}

static int64_t blocks_of(const quantize *q, const base_tensor *t) {
    return (t->out * t->in + q->block - 1) / q->block;
}

int64_t quantize_bytes(const quantize *q, const base_tensor *t) {
    if (q->layout == WEIGHT_ROWS8) return t->out * t->in + 4 * t->out;
    if (q->layout != WEIGHT_CODEBOOK4) return 0;
    const int64_t blocks = blocks_of(q, t), nested = (blocks + BLOCKS8_BLOCK - 1) / BLOCKS8_BLOCK;
    return (t->out * t->in + 1) / 2 + (q->nested ? blocks + 4 * nested + 4 * 256 : 4 * blocks);
}

int quantize_allocate(kernels *k, weight *w, const char *name, graft_error *err) {
    const int64_t n = w->out * w->in;
    /* whole blocks: formulas write the padding too */
    const int64_t padded = w->layout == WEIGHT_CODEBOOK4 ? (n + w->block - 1) / w->block * w->block : n;
    w->data = k->alloc(k, w->layout == WEIGHT_CODEBOOK4 ? (padded + 1) / 2 : n);
    w->scale = k->alloc(k, 4 * (w->layout == WEIGHT_CODEBOOK4 ? padded / w->block : w->out));
    if (!w->data || !w->scale)
        return fail(err, GRAFT_FAILED, "no memory for the packed form of %s (%lld values)", name, (long long)n);
    return GRAFT_OK;
}

/* Double quantization (specs/peft.md 1.8): absmax - mean in 8 bits with the signed map, blocks of 256. */
static int nest(kernels *k, weight *w, graft_error *err) {
    const int64_t blocks = (w->out * w->in + w->block - 1) / w->block;
    const int64_t groups = (blocks + BLOCKS8_BLOCK - 1) / BLOCKS8_BLOCK;
    float map[256], *absmax = mem_new((size_t)blocks, sizeof *absmax),
                    *scales = mem_new((size_t)groups, sizeof *scales);
    uint8_t *codes = mem_new((size_t)blocks, 1);
    blocks8_map(0, map);
    k->download(k, absmax, w->scale, blocks * 4);
    double sum = 0;
    for (int64_t b = 0; b < blocks; b++)
        sum += (double)absmax[b];
    w->nested_offset = (float)(sum / (double)blocks);
    for (int64_t b = 0; b < blocks; b++)
        absmax[b] -= w->nested_offset;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t first = g * BLOCKS8_BLOCK, left = blocks - first;
        blocks8_quantize(map, 0, absmax + first, left < BLOCKS8_BLOCK ? left : BLOCKS8_BLOCK, codes + first,
                         &scales[g]);
    }
    w->nested_block = BLOCKS8_BLOCK;
    w->nested = k->alloc(k, blocks);
    w->nested_scale = k->alloc(k, groups * 4);
    w->nested_code = k->alloc(k, sizeof map);
    if (!w->nested || !w->nested_scale || !w->nested_code) {
        fail(err, GRAFT_FAILED, "no memory for the nested scales of %lld blocks", (long long)blocks);
    } else {
        k->upload(k, w->nested, codes, blocks);
        k->upload(k, w->nested_scale, scales, groups * 4);
        k->upload(k, w->nested_code, map, sizeof map);
        k->release(k, w->scale);
        w->scale = NULL;
    }
    free(absmax);
    free(scales);
    free(codes);
    return err->code;
}

int quantize_pack(quantize *q, kernels *k, base_tensor *t, const void *values, graft_error *err) {
    weight *w = &t->w;
    *w = (weight){.out = t->out,
                  .in = t->in,
                  .layout = q->layout,
                  .type = dtype_is_float(t->stored) ? t->stored : F32,
                  .block = q->block};
    if (w->type == F64 || k->real == F64) w->type = k->real;
    memcpy(w->code, q->code, sizeof w->code);
    if (quantize_allocate(k, w, t->name, err)) return err->code;
    if (strcmp(k->name, "cpu") == 0 || q->layout == WEIGHT_ROWS8)
        k->weight_quantize(k, w, values);
    else /* the references run what the plugin wrote */
        quantize_by_formulas(q, k, w, values, err);
    if (!err->code && q->nested && q->layout == WEIGHT_CODEBOOK4) nest(k, w, err);
    return err->code;
}

int quantize_round_trip(quantize *q, kernels *k, const base_tensor *like, void *values, graft_error *err) {
    base_tensor copy = *like;
    copy.stored = F32;
    if (quantize_pack(q, k, &copy, values, err) == GRAFT_OK) k->weight_read(k, &copy.w, 0, copy.out, values, k->real);
    weight *const w = &copy.w;
    void *const owned[] = {w->data, w->scale, w->nested, w->nested_scale, w->nested_code};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        k->release(k, owned[i]);
    return err->code;
}
