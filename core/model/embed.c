/* embed — from token ids to the residual stream:
 *
 *   x[n] = S·E[id[n]]  (+ P[position[n]])        S: embed_scale, rounded to the activation type as the reference rounds it
 * Virtual rows of an adapter replace the looked-up ones; they are not scaled. */
#include "model/pass.h"

static double scale_of(const pass *p) {
    const float s = (float)p->m->shape.embed_scale;
    return (double)(p->type == BF16 ? bf16_to_f32(f32_to_bf16(s)) : s);
}

static char *row_at(const pass *p, const void *x, int64_t row) {
    return (char *)(uintptr_t)x + row * p->m->shape.hidden * dtype_bytes(p->type);
}

static int has_virtual(const pass *p) {
    return p->virtual_embed && p->w->host_positions[0] == p->virtual_kv;
}

void embed_forward(pass *p, void *x) {
    const model *m = p->m;
    const workspace *w = p->w;
    const block_map *b = &m->outside;
    const int64_t hidden = m->shape.hidden;
    p->call.kept = w->kept_outside;
    adapt_linear(w->a, b->point[ROLE_EMBED], &p->call, tensor_at(m, b->weight[ROLE_EMBED]), NULL, NULL, w->ids, x);
    if (m->shape.embed_scale != 1) p->k->scale(p->k, x, p->type, p->rows * hidden, scale_of(p));
    for (int64_t d = 0; d < p->documents && has_virtual(p); d++)
        p->k->convert(p->k, row_at(p, x, w->first[d]), p->type, p->embed, p->k->real, p->virtual_embed * hidden);
    if (b->weight[ROLE_POSITION] < 0) return;
    adapt_linear(w->a, b->point[ROLE_POSITION], &p->call, tensor_at(m, b->weight[ROLE_POSITION]), NULL, NULL,
                 w->positions, w->norm);
    p->k->add(p->k, x, w->norm, p->type, p->rows * hidden);
}

void embed_backward(pass *p, void *dx) {
    const model *m = p->m;
    const workspace *w = p->w;
    const block_map *b = &m->outside;
    const int64_t hidden = m->shape.hidden, bytes = hidden * dtype_bytes(p->type);
    p->call.kept = w->kept_outside;
    if (b->weight[ROLE_POSITION] >= 0) {
        p->k->copy(p->k, w->dy, dx, p->rows * bytes);
        adapt_linear_backward(w->a, b->point[ROLE_POSITION], &p->call, tensor_at(m, b->weight[ROLE_POSITION]), NULL,
                              NULL, w->positions, w->dy, NULL, 0);
    }
    for (int64_t d = 0; d < p->documents && has_virtual(p); d++) {
        char *rows = row_at(p, dx, w->first[d]);
        copy_columns(p->k, (columns){p->dembed, p->k->real, hidden}, (columns){rows, p->type, hidden}, p->virtual_embed,
                     hidden, 1);
        p->k->zero(p->k, rows, p->virtual_embed * bytes);
    }
    if (m->shape.embed_scale != 1) p->k->scale(p->k, dx, p->type, p->rows * hidden, scale_of(p));
    adapt_linear_backward(w->a, b->point[ROLE_EMBED], &p->call, tensor_at(m, b->weight[ROLE_EMBED]), NULL, NULL, w->ids,
                          dx, NULL, 0);
}
