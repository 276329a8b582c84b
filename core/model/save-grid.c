/* save-grid — weights that lie on grids of groups on the device as GPTQ's tensors. */
#include "model/model-private.h"
#include <stdlib.h>

/* (out, groups), NULL: all in the middle; the caller's. */
static uint8_t *zeros_of(model *m, const weight *w) {
    const int64_t count = w->out * ((w->in + w->block - 1) / w->block);
    if (!w->zero) return NULL;
    uint8_t *const zeros = mem_new((size_t)count, 1);
    m->device->download(m->device, zeros, w->zero, count);
    return zeros;
}

/* The layout in a file, but rows and groups as they lie on the device, where a group may reach beyond its row. */
static int lay_out(const base_tensor *t, const gptq_config *c, gptq_weight *g, graft_error *err) {
    if (gptq_lay_out(c, t->out, t->in, t->name, g, err)) return err->code;
    g->group = t->w.block;
    g->row = g->groups * g->group * c->bits / 8;
    return GRAFT_OK;
}

/* c->group_size becomes that of weights with several groups in a row; *widest the longest row that is one group. */
static int add_weight(model *m, const base_tensor *t, gptq_config *c, int64_t *widest, graft_error *err) {
    const weight *w = &t->w;
    const int single = w->block >= w->in;
    gptq_weight g;
    if (w->layout != WEIGHT_AFFINE)
        return fail(err, GRAFT_USAGE, "%s is not packed on grids like others: a folder has one of the two", t->name);
    if (w->zero && w->zero_type != U8)
        return fail(err, GRAFT_USAGE,
                    "%s has zero points that are no whole numbers (refine, real_zero), which GPTQ's files cannot hold",
                    t->name);
    if (c->bits && (c->bits != w->bits || (!single && c->group_size > 0 && c->group_size != w->block)))
        return fail(err, GRAFT_USAGE, "%s has %d bits in groups of %lld, others %d in groups of %lld: a folder has one",
                    t->name, (int)w->bits, (long long)w->block, (int)c->bits, (long long)c->group_size);
    *widest = single && w->in > *widest ? w->in : *widest;
    c->symmetric = (c->bits == 0 || c->symmetric) && !w->zero;
    c->group_size = !single ? w->block : c->bits ? c->group_size : -1;
    c->bits = w->bits;
    if (c->group_size > 0 && *widest > c->group_size)
        return fail(err, GRAFT_USAGE, "rows of %lld are one group, those of %s groups of %lld: a folder has one size",
                    (long long)*widest, t->name, (long long)c->group_size);
    if (lay_out(t, c, &g, err)) return err->code;
    uint8_t *const zeros = zeros_of(m, w);
    for (int64_t i = 0; zeros && i < t->out * ((w->in + w->block - 1) / w->block); i++)
        c->plain_zeros |= zeros[i] == 0; /* 0 less 1 is no code: readers differ about it */
    free(zeros);
    return GRAFT_OK;
}

int grid_config(model *m, gptq_config *out, graft_error *err) {
    int64_t widest = 0;
    *out = (gptq_config){0};
    for (int32_t i = 0; i < m->tensor_count && !err->code; i++) {
        const base_tensor *t = &m->tensors[i];
        if (t->tied_to < 0 && tensor_is_packed(t)) add_weight(m, t, out, &widest, err);
    }
    return err->code;
}

int grid_tensors(model *m, const base_tensor *t, const gptq_config *grid, arena *memory, tensor_out *list,
                 int32_t *count, graft_error *err) {
    gptq_weight g;
    if (lay_out(t, grid, &g, err)) return err->code;
    float *const scales = mem_new((size_t)(t->out * g.groups), sizeof *scales);
    uint8_t *const zeros = zeros_of(m, &t->w);
    m->device->download(m->device, scales, t->w.scale, t->out * g.groups * (int64_t)sizeof *scales);
    *count = gptq_tensors(t->name, &g, t->w.data, scales, zeros, memory, list);
    free(scales);
    free(zeros);
    return GRAFT_OK;
}

int grid_put_codes(model *m, const base_tensor *t, const gptq_config *grid, weights_writer *to, graft_error *err) {
    gptq_weight g;
    if (lay_out(t, grid, &g, err)) return err->code;
    const int64_t held = t->out * g.row, bytes = t->out * t->in * grid->bits / 8;
    uint8_t *const codes = mem_new((size_t)held, 1), *const words = mem_new((size_t)bytes, 1);
    m->device->download(m->device, codes, t->w.data, held);
    gptq_write_codes(&g, codes, words);
    weights_put(to, words, bytes, err);
    free(codes);
    free(words);
    return err->code;
}
