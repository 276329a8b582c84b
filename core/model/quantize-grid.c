/* quantize-grid — weights on the grids of groups (WEIGHT_AFFINE) without their quantizer: read from GPTQ's tensors onto the
 * device, and laid anew over other values, as plugins/quant-affine lays them. */
#include "kernels/bits.h"
#include "model/model-private.h"
#include "model/quantize-private.h"
#include <math.h>
#include <stdlib.h>

static int upload(kernels *k, void **to, const void *from, int64_t bytes, const char *name, graft_error *err) {
    *to = err->code ? NULL : k->alloc(k, bytes);
    if (err->code) return err->code;
    if (!*to) return fail(err, GRAFT_FAILED, "no memory for %lld bytes of %s", (long long)bytes, name);
    k->upload(k, *to, from, bytes);
    return GRAFT_OK;
}

int quantize_read_grid(kernels *k, const safetensors *set, const tensor_info *codes, const gptq_config *c,
                       base_tensor *t, graft_error *err) {
    gptq_weight g;
    if (gptq_read(set, codes, c, t->out, t->in, &g, err)) return err->code;
    const int64_t groups = g.out * g.groups;
    t->w = (weight){.out = t->out,
                    .in = t->in,
                    .layout = WEIGHT_AFFINE,
                    .type = k->real == F64 || !dtype_is_float(t->stored) || t->stored == F64 ? k->real : t->stored,
                    .block = g.group,
                    .bits = c->bits,
                    .zero_type = U8};
    uint8_t *const bytes = mem_new((size_t)(g.out * g.row), 1), *const zeros = mem_new((size_t)groups, 1);
    float *const scales = mem_new((size_t)groups, sizeof *scales);
    if (!gptq_read_codes(set, &g, bytes, err) && !gptq_read_scales(set, &g, scales, err) &&
        !gptq_read_zeros(set, &g, zeros, err)) {
        upload(k, &t->w.data, bytes, g.out * g.row, t->name, err);
        upload(k, &t->w.scale, scales, groups * (int64_t)sizeof *scales, t->name, err);
        if (!c->symmetric) upload(k, &t->w.zero, zeros, groups, t->name, err);
    }
    free(bytes);
    free(zeros);
    free(scales);
    return err->code;
}

/* ---- laid anew ---- */

/* Half numbers stay half numbers, so that a file of them gets no wider. */
static int are_halves(const float *scales, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (f16_to_f32(f32_to_f16(scales[i])) != scales[i]) return 0;
    return 1;
}

typedef struct {
    int bits, symmetric, halves;
} grid_rule;

/* One group: its scale and zero point, and its codes from place `at` of the stream on. */
static void lay_group(const grid_rule *rule, const float *x, int64_t count, float *scale, uint8_t *zero, uint8_t *codes,
                      int64_t at) {
    const float top = (float)((1 << rule->bits) - 1);
    float high = 0, low = 0;
    for (int64_t i = 0; i < count; i++) {
        const float up = rule->symmetric ? fabsf(x[i]) : x[i];
        high = up > high ? up : high;
        low = -x[i] > low ? -x[i] : low;
    }
    if (rule->symmetric) low = high;
    const float wide = high + low;
    *scale = (wide > 0 ? wide : 2) / top;
    if (rule->halves) *scale = fmaxf(f16_to_f32(f32_to_f16(*scale)), 0x1p-24f);
    *zero = (uint8_t)(rule->symmetric ? (float)(1 << (rule->bits - 1)) : rintf((wide > 0 ? low : 1) / *scale));
    for (int64_t i = 0; i < count; i++)
        bits_put(codes, at + i, rule->bits, (unsigned)fminf(fmaxf(rintf(x[i] / *scale) + (float)*zero, 0), top));
}

int quantize_grid_again(kernels *k, const weight *like, weight *w, const void *values, const char *name,
                        graft_error *err) {
    const int64_t groups = (w->in + w->block - 1) / w->block, all = w->out * groups, row = groups * w->block;
    if (like->zero && like->zero_type != U8)
        return fail(err, GRAFT_USAGE, "%s has zero points that are no whole numbers: only its quantizer lays those",
                    name);
    float *const scales = mem_new((size_t)all, sizeof *scales), *const x = mem_new((size_t)w->in, sizeof *x);
    uint8_t *const zeros = mem_new((size_t)all, 1), *const codes = mem_new((size_t)(w->out * row * w->bits / 8), 1);
    k->download(k, scales, like->scale, all * (int64_t)sizeof *scales);
    const grid_rule rule = {w->bits, !like->zero, are_halves(scales, all)};
    for (int64_t o = 0; o < w->out; o++) {
        download_as(k, x, F32, (const char *)values + o * w->in * dtype_bytes(k->real), k->real, w->in);
        for (int64_t g = 0; g < groups; g++) {
            const int64_t first = g * w->block, left = w->in - first;
            lay_group(&rule, x + first, left < w->block ? left : w->block, &scales[o * groups + g],
                      &zeros[o * groups + g], codes, o * row + first);
        }
    }
    upload(k, &w->data, codes, w->out * row * w->bits / 8, name, err);
    upload(k, &w->scale, scales, all * (int64_t)sizeof *scales, name, err);
    if (like->zero) upload(k, &w->zero, zeros, all, name, err);
    free(scales);
    free(x);
    free(zeros);
    free(codes);
    return err->code;
}
