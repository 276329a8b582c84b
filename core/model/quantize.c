/* quantize — which weights are packed, into what, and by whom: the table's fused kernel where it knows the layout, which must
 * equal the plugin's formulas (quantize-formula.c), or a state file (quantize-state.c). */
#include "base/philox.h"
#include "config/option.h"
#include "formats/targets.h"
#include "kernels/blocks8.h"
#include "kernels/layouts.h"
#include "model/quantize-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDEST = 1 << 16 /* elements of a block or group */ };

static double number_of(const quantize *q, const char *name, double fallback) {
    for (int32_t n = 0; n < q->number_count; n++)
        if (strcmp(q->number_names[n], name) == 0) return q->numbers[n];
    return fallback;
}

static int32_t add_number(quantize *q, const char *name, double value) {
    q->number_names[q->number_count] = name;
    q->numbers[q->number_count] = value;
    return q->number_count++;
}

/* Options, NUMBER slots, then the sizes of a tile, which change. */
static int read_numbers(quantize *q, graft_error *err) {
    const plugin_component *c = q->in.component;
    if (c->slot_count > QUANTIZE_SLOTS || c->option_count + c->slot_count + 3 > QUANTIZE_NUMBERS)
        return fail(err, GRAFT_FAILED, "%s: %d slots and %d options, at most %d and %d together", c->name,
                    (int)c->slot_count, (int)c->option_count, QUANTIZE_SLOTS, QUANTIZE_NUMBERS - 3);
    for (int32_t o = 0; o < c->option_count; o++) {
        double value;
        if (option_number(&c->options[o], q->in.config, &value)) add_number(q, c->options[o].key, value);
    }
    for (int32_t s = 0; s < c->slot_count; s++) {
        double value;
        if (c->slots[s].role != GRAFT_NUMBER) continue;
        if (formula_number(c->slots[s].init, q->number_names, q->numbers, q->number_count, &value, err))
            return fail_within(err, "%s: number %s", c->name, c->slots[s].name);
        add_number(q, c->slots[s].name, value);
    }
    q->size_number = add_number(q, "size", 0);
    q->in_number = add_number(q, "in", 0);
    q->out_number = add_number(q, "out", 0);
    return GRAFT_OK;
}

/* The stored slot of that name, with so many elements in a block; -1: error told, or there is none and none is needed. */
static int32_t find_slot(const quantize *q, const quantize_program *p, const char *name, int64_t elements, int needed,
                         graft_error *err) {
    const plugin_component *c = q->in.component;
    for (int32_t s = 0; s < c->slot_count; s++)
        if (strcmp(c->slots[s].name, name) == 0 && quantize_is_stored(&c->slots[s])) {
            if (p->per_block[1 + s] == elements) return s;
            if (needed || p->per_block[1 + s])
                fail(err, GRAFT_FAILED, "%s: layout \"%s\" needs %lld elements a block in slot %s, not %lld", c->name,
                     c->quantizer.layout, (long long)elements, name, (long long)p->per_block[1 + s]);
            return -1;
        }
    if (needed) fail(err, GRAFT_FAILED, "%s: layout \"%s\" needs a BUFFER slot %s", c->name, c->quantizer.layout, name);
    return -1;
}

/* The code book of a codebook4: the table of 16 numbers that is there. */
static int read_codebook(quantize *q, const quantize_program *p, graft_error *err) {
    const plugin_component *c = q->in.component;
    for (int32_t s = 0; s < c->slot_count; s++) {
        if (!c->slots[s].values || p->names[1 + s].rank != 1 || p->names[1 + s].shape[0] != 16) continue;
        for (int i = 0; i < 16; i++)
            q->code[i] = (float)c->slots[s].values[i];
        return GRAFT_OK;
    }
    return fail(err, GRAFT_FAILED, "%s: layout \"codebook4\" needs a table of 16 codes", c->name);
}

/* Which slots a known layout's kernels read, and that they are as those expect them. */
static int read_layout(quantize *q, const quantize_program *p, graft_error *err) {
    const char *name = q->in.component->name;
    const int affine = q->layout == WEIGHT_AFFINE, codebook = q->layout == WEIGHT_CODEBOOK4;
    if (q->layout == WEIGHT_CUSTOM) return GRAFT_OK;
    q->codes = find_slot(q, p, "codes", p->width, 1, err);
    q->scale = err->code ? -1 : find_slot(q, p, affine ? "scale" : "absmax", 1, 1, err);
    if (affine && !err->code) q->zero = find_slot(q, p, "zero", 1, 0, err);
    if (affine && !err->code && q->zero < 0) q->zero = find_slot(q, p, "offset", 1, 0, err);
    if (err->code) return err->code;
    const formula_tensor *codes = &p->names[1 + q->codes], *scale = &p->names[1 + q->scale],
                         *zero = q->zero >= 0 ? &p->names[1 + q->zero] : NULL;
    q->bits = quantize_slot_bits(codes);
    if (scale->type != F32 || (zero && zero->type != F32 && zero->type != U8))
        return fail(err, GRAFT_FAILED, "%s: scales are stored as they are (\"\"), zeros so or as u8", name);
    if (codebook && codes->store != STORE_U4_HIGH)
        return fail(err, GRAFT_FAILED, "%s: the codes of layout \"codebook4\" are stored u4-high-first", name);
    if (q->layout == WEIGHT_ROWS8 && (codes->type != I8 || q->block || q->group))
        return fail(err, GRAFT_FAILED, "%s: the codes of layout \"rows8\" are i8, its blocks the rows", name);
    if (affine && (codes->type != U8 || codes->store == STORE_U4_HIGH || !q->group || q->group % 8))
        return fail(
            err, GRAFT_USAGE,
            "%s: layout \"affine\" needs codes stored u2, u3, u4 or u8 and a group_size that is a multiple of 8", name);
    if (codebook && (q->block < 32 || q->block > 4096 || (q->block & (q->block - 1))))
        return fail(err, GRAFT_USAGE, "quantizer %s: block_size = %lld must be a power of two from 32 to 4096", name,
                    (long long)q->block);
    return codebook ? read_codebook(q, p, err) : GRAFT_OK;
}

static int read_component(quantize *q, graft_error *err) {
    static const struct {
        const char *name;
        weight_layout layout;
    } known[] = {
        {"codebook4", WEIGHT_CODEBOOK4},
        {"rows8",     WEIGHT_ROWS8    },
        {"affine",    WEIGHT_AFFINE   }
    };
    const plugin_component *c = q->in.component;
    if (read_numbers(q, err)) return err->code;
    q->block = (int64_t)number_of(q, "block_size", 0);
    q->group = (int64_t)number_of(q, "group_size", 0);
    q->nested = number_of(q, "double_quant", 0) != 0;
    q->threshold = (float)number_of(q, "threshold", 0);
    if (q->block < 0 || q->group < 0 || q->block > WIDEST || q->group > WIDEST || (q->block && q->group))
        return fail(err, GRAFT_USAGE,
                    "quantizer %s: block_size = %lld, group_size = %lld: one of them, up to %d, or none (rows)",
                    c->name, (long long)q->block, (long long)q->group, WIDEST);
    q->layout = WEIGHT_CUSTOM;
    for (size_t i = 0; i < sizeof known / sizeof *known && c->quantizer.layout; i++)
        if (strcmp(c->quantizer.layout, known[i].name) == 0) q->layout = known[i].layout;
    const quantize_program *p = quantize_program_for(q, 4096, err);
    return p ? read_layout(q, p, err) : err->code;
}

int quantize_create(const quantize_spec *spec, quantize **out, graft_error *err) {
    quantize *q = mem_new(1, sizeof *q);
    q->in = *spec;
    q->layout = WEIGHT_PLAIN;
    q->codes = q->scale = q->zero = -1;
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
    quantize_programs_free(q);
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

int quantize_prepare(quantize *q, const base_tensor *tensors, int32_t count, graft_error *err) {
    int32_t selected = 0;
    for (int32_t t = 0; q && q->in.component && t < count; t++) {
        if (!quantize_selects(q, &tensors[t])) continue;
        selected++;
        if (!quantize_program_for(q, tensors[t].in, err)) return fail_within(err, "%s", tensors[t].name);
    }
    if (q && q->in.component && q->in.targets && selected == 0)
        return fail(
            err, GRAFT_USAGE,
            "[quantizer] targets select nothing that can be packed: names of matrices that are not trained, a tied "
            "head under the name of its embedding");
    return GRAFT_OK;
}

/* Bytes of the slots of a weight. */
int64_t quantize_bytes(const quantize *given, const base_tensor *t) {
    quantize *q = (quantize *)(uintptr_t)given; /* programs are kept */
    graft_error err = {0};
    const quantize_program *p = q->in.component ? quantize_program_for(q, t->in, &err) : NULL;
    int64_t bytes = 0;
    if (!p) return 0;
    const int64_t blocks = quantize_blocks(p, t->out), nested = (blocks + BLOCKS8_BLOCK - 1) / BLOCKS8_BLOCK;
    for (int32_t s = 0; s < q->in.component->slot_count; s++)
        if (quantize_is_stored(&q->in.component->slots[s])) bytes += quantize_slot_bytes(p, s, blocks);
    return q->nested ? bytes - 3 * blocks + 4 * nested + 4 * 256 : bytes;
}

int64_t quantize_scratch(const quantize *given, const kernels *k, const base_tensor *t, int64_t rows) {
    quantize *q = (quantize *)(uintptr_t)given;
    graft_error err = {0};
    const quantize_program *p = q->in.component ? quantize_program_for(q, t->in, &err) : NULL;
    if (!p) return 0;
    const weight_custom custom = {.most = quantize_tile_rows(p)};
    const weight w = {.out = t->out, .in = t->in, .layout = q->layout, .threshold = q->threshold, .custom = &custom};
    return layouts_scratch(k, &w, rows);
}

static void *take(kernels *k, int64_t bytes, const char *name, graft_error *err) {
    void *const dev = err->code ? NULL : k->alloc(k, bytes);
    if (!dev) fail(err, GRAFT_FAILED, "no memory for %lld bytes of the packed form of %s", (long long)bytes, name);
    return dev;
}

static int allocate(quantize *q, kernels *k, weight *w, const char *name, graft_error *err) {
    const quantize_program *p = quantize_program_for(q, w->in, err);
    if (!p) return err->code;
    const int64_t blocks = quantize_blocks(p, w->out);
    if (q->layout != WEIGHT_CUSTOM) {
        w->data = take(k, quantize_slot_bytes(p, q->codes, blocks), name, err);
        w->scale = take(k, quantize_slot_bytes(p, q->scale, blocks), name, err);
        if (q->zero >= 0) w->zero = take(k, quantize_slot_bytes(p, q->zero, blocks), name, err);
        return err->code;
    }
    quantize_custom *custom = mem_new(1, sizeof *custom);
    *custom = (quantize_custom){
        .base = {.rows = quantize_custom_rows, .most = quantize_tile_rows(p)},
          .q = q, .out = w->out, .in = w->in
    };
    w->custom = &custom->base;
    for (int32_t s = 0; s < q->in.component->slot_count; s++)
        if (quantize_is_stored(&q->in.component->slots[s]))
            custom->slots[s] = take(k, quantize_slot_bytes(p, s, blocks), name, err);
    return err->code;
}

void quantize_release(kernels *k, weight *w) {
    void *const owned[] = {w->data, w->scale, w->zero, w->nested, w->nested_scale, w->nested_code};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        k->release(k, owned[i]);
    quantize_custom *const custom = (quantize_custom *)(uintptr_t)w->custom;
    for (int32_t s = 0; custom && s < QUANTIZE_SLOTS; s++)
        k->release(k, custom->slots[s]);
    free(custom);
    *w = (weight){0};
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

/* A scale that overflowed (8-bit rows pass through f16) would make the whole block infinite. */
static int check_scales(kernels *k, const weight *w, int64_t count, const char *name, graft_error *err) {
    float *const scales = mem_new((size_t)count, sizeof *scales);
    k->download(k, scales, w->scale, count * (int64_t)sizeof *scales);
    for (int64_t b = 0; b < count && !err->code; b++)
        if (!isfinite(scales[b]))
            fail(err, GRAFT_FAILED, "%s holds numbers too large for this quantizer (the scale of block %lld is %g)",
                 name, (long long)b, (double)scales[b]);
    free(scales);
    return err->code;
}

/* What later calls do without telling errors is done once here. */
static int try_custom(quantize *q, kernels *k, const weight *w, graft_error *err) {
    void *const row = k->alloc(k, w->in * dtype_bytes(k->real));
    if (row) quantize_rows_by_formulas(q, k, w, 0, w->out ? 1 : 0, row, err);
    k->release(k, row);
    return err->code;
}

int quantize_begin(quantize *q, kernels *k, base_tensor *t, graft_error *err) {
    if (!q || !q->in.component)
        return fail(err, GRAFT_USAGE, "%s is to be packed, but %s%s; name a [quantizer] plugin", t->name,
                    q && q->state ? "it does not lie as it is needed in " : "nothing says how",
                    q && q->state ? q->in.state : "");
    weight *w = &t->w;
    const quantize_program *p = quantize_program_for(q, t->in, err);
    *w = (weight){.out = t->out,
                  .in = t->in,
                  .layout = q->layout,
                  /* 8-bit rows are f32 numbers, as bitsandbytes reads them */
                  .type = dtype_is_float(t->stored) && q->layout != WEIGHT_ROWS8 ? t->stored : F32,
                  .block = q->block ? q->block : q->group,
                  .bits = q->bits,
                  .zero_type = q->zero >= 0 && p ? p->names[1 + q->zero].type : F32};
    if (!p) return err->code;
    if (w->type == F64 || k->real == F64) w->type = k->real;
    memcpy(w->code, q->code, sizeof w->code);
    quantize_adjust(q, w);
    return allocate(q, k, w, t->name, err);
}

int64_t quantize_row_unit(quantize *q, const base_tensor *t) {
    graft_error ignored = {0};
    const quantize_program *p = quantize_program_for(q, t->in, &ignored);
    if (!p) return t->out;
    int64_t a = p->pitch, b = p->width * p->align; /* whole blocks, whole bytes: u·pitch is a multiple of b */
    while (b) {
        const int64_t rest = a % b;
        a = b, b = rest;
    }
    return p->width * p->align / a;
}

int quantize_rows(quantize *q, kernels *k, base_tensor *t, int64_t first, int64_t rows, const void *values,
                  graft_error *err) {
    const int fused = q->layout == WEIGHT_CODEBOOK4 || q->layout == WEIGHT_ROWS8;
    if (!fused || strcmp(k->name, "cpu") != 0) /* the references run what the plugin wrote */
        return quantize_by_formulas(q, k, &t->w, first, rows, values, err);
    const int four = q->layout == WEIGHT_CODEBOOK4;
    const int64_t begin = first * t->in;
    weight part = t->w;
    part.out = rows;
    part.data = (char *)part.data + (four ? begin / 2 : begin);
    part.scale = (float *)part.scale + (four ? begin / part.block : first);
    k->weight_quantize(k, &part, values);
    return GRAFT_OK;
}

int quantize_end(quantize *q, kernels *k, base_tensor *t, graft_error *err) {
    weight *w = &t->w;
    const quantize_program *p = quantize_program_for(q, t->in, err);
    if (!err->code && q->layout == WEIGHT_CUSTOM) try_custom(q, k, w, err);
    if (!err->code && w->scale) check_scales(k, w, quantize_blocks(p, w->out), t->name, err);
    if (!err->code && q->nested && q->layout == WEIGHT_CODEBOOK4) nest(k, w, err);
    return err->code;
}

int quantize_pack(quantize *q, kernels *k, base_tensor *t, const void *values, graft_error *err) {
    if (quantize_begin(q, k, t, err) == GRAFT_OK && quantize_rows(q, k, t, 0, t->out, values, err) == GRAFT_OK)
        quantize_end(q, k, t, err);
    return err->code;
}

/* Codes and scales of values by the table's own kernel. */
static int quantize_anew(kernels *k, const weight *like, weight *w, const void *values, const char *name,
                         graft_error *err) {
    const int four = w->layout == WEIGHT_CODEBOOK4;
    const int64_t n = w->out * w->in, blocks = four ? (n + w->block - 1) / w->block : w->out;
    w->data = take(k, four ? (n + 1) / 2 : n, name, err);
    w->scale = take(k, blocks * (int64_t)sizeof(float), name, err);
    if (!err->code) k->weight_quantize(k, w, values);
    if (!err->code && check_scales(k, w, blocks, name, err) == GRAFT_OK && like->nested) nest(k, w, err);
    return err->code;
}

int quantize_again(kernels *k, weight *w, const void *values, const char *name, graft_error *err) {
    weight own = *w;
    own.data = own.scale = own.zero = own.nested = own.nested_scale = own.nested_code = own.packed = NULL;
    if (w->layout == WEIGHT_CUSTOM)
        return fail(err, GRAFT_USAGE, "%s is packed by formulas, which only its quantizer runs again", name);
    if (w->layout == WEIGHT_AFFINE)
        quantize_grid_again(k, w, &own, values, name, err);
    else
        quantize_anew(k, w, &own, values, name, err);
    if (!err->code) {
        weight old = *w;
        *w = own, own = old;
        if (own.packed) {
            k->weight_unpack(k, &own);
            k->weight_pack(k, w);
        }
    }
    own.custom = NULL;
    quantize_release(k, &own); /* the old one, or what failed */
    return err->code;
}

void quantize_adjust(const quantize *q, weight *w) {
    if (q && w->layout == WEIGHT_ROWS8) w->threshold = q->threshold;
}

int quantize_round_trip(quantize *q, kernels *k, const base_tensor *like, void *values, graft_error *err) {
    base_tensor copy = *like;
    copy.stored = F32;
    if (quantize_pack(q, k, &copy, values, err) == GRAFT_OK) k->weight_read(k, &copy.w, 0, copy.out, values, k->real);
    quantize_release(k, &copy.w);
    return err->code;
}

int quantize_holds_zeros(quantize *q, kernels *k, const base_tensor *t, int32_t *holds, graft_error *err) {
    enum { ROWS = 4 };
    base_tensor part = *t;
    part.out = t->out < ROWS ? t->out : ROWS;
    const int64_t count = part.out * part.in, bytes = count * dtype_bytes(k->real);
    double *const values = mem_new((size_t)count, sizeof *values);
    void *const raw = mem_new((size_t)count, sizeof *values), *const dev = k->alloc(k, bytes);
    for (int64_t i = 1; i < count; i += 2) /* each second is 0 */
        values[i] = philox_normal(1, 0, (uint64_t)i) + 0.5;
    dtype_convert(raw, k->real, values, F64, count);
    if (dev) k->upload(k, dev, raw, bytes);
    if (!dev)
        fail(err, GRAFT_FAILED, "no memory for %lld bytes of a trial of the quantizer", (long long)bytes);
    else if (quantize_round_trip(q, k, &part, dev, err) == GRAFT_OK)
        k->download(k, raw, dev, bytes);
    dtype_convert(values, F64, raw, k->real, count);
    *holds = 1;
    for (int64_t i = 0; i < count; i += 2)
        *holds &= values[i] == 0;
    k->release(k, dev);
    free(raw);
    free(values);
    return err->code;
}
