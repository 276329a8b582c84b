/* block-backward — the mirror of block.c, line by line in reverse. dx holds the gradient of the block's output on entry and
 * of its input on return; the residual connections make it one buffer. Norms, the activated product, and behind qk_norm the
 * rotated q and k are computed again from what is kept. */
#include "model/pass.h"

void linear_backward(pass *p, int64_t layer, tensor_role role, const void *x, void *dy, void *dx, int32_t accumulate) {
    const block_map *b = block_of(p->m, layer);
    const base_tensor *bias = b->bias[role] < 0 ? NULL : &p->m->tensors[b->bias[role]];
    adapt_linear_backward(p->w->a, b->point[role], &p->call, tensor_at(p->m, b->weight[role]), bias, x, NULL, dy, dx,
                          accumulate);
}

void norm_rows_backward(pass *p, int64_t layer, tensor_role role, const void *x, const void *dy, void *dx, int64_t rows,
                        int32_t accumulate) {
    const block_map *b = block_of(p->m, layer);
    const base_tensor *w = &p->m->tensors[b->weight[role]];
    const base_tensor *bias = b->bias[role] < 0 ? NULL : &p->m->tensors[b->bias[role]];
    p->k->norm_backward(p->k, p->m->shape.norm, x, w->vector, p->m->shape.norm_eps, dy, dx, w->trained ? w->grad : NULL,
                        bias && bias->trained ? bias->grad : NULL, p->type, rows, w->out, accumulate);
}

static int norm_is_trained(const pass *p, int64_t layer, tensor_role role) {
    const block_map *b = block_of(p->m, layer);
    return p->m->tensors[b->weight[role]].trained || (b->bias[role] >= 0 && p->m->tensors[b->bias[role]].trained);
}

/* out = x + [norm](y):  dy = [norm backward] dx, dx stays for x, to which the branch's adapters add. */
static void part(pass *p, int64_t layer, int32_t branch, tensor_role norm, const void *x, const void *y, void *dx) {
    const workspace *w = p->w;
    if (p->m->shape.sandwich)
        norm_rows_backward(p, layer, norm, y, dx, w->dy, p->rows, 0);
    else
        p->k->copy(p->k, w->dy, dx, p->rows * p->m->shape.hidden * dtype_bytes(p->type));
    adapt_branch_backward(p->w->a, branch, &p->call, x, w->dy, dx);
}

/* Gradients of the layer's columns of the virtual keys and values: added to the adapter's one matrix. */
static void virtual_backward(pass *p, int64_t layer) {
    const workspace *w = p->w;
    const int64_t width = p->m->shape.kv_heads * p->m->shape.head_dim, all = 2 * p->m->shape.layers * width;
    const int64_t real = dtype_bytes(p->k->real);
    void *const from[] = {w->dvirtual_k, w->dvirtual_v};
    for (int64_t i = 0; i < 2; i++)
        copy_columns(p->k, (columns){(char *)p->dkv + (2 * layer + i) * width * real, p->k->real, all},
                     (columns){from[i], p->k->real, width}, p->virtual_kv, width, 1);
}

/* From the gradient of o to those of q, k, v as the projections gave them (w->dq_raw, w->dk_raw, w->dv). */
static void attend_backward(pass *p, int64_t layer, const block_stash *s) {
    const model_shape *shape = &p->m->shape;
    const workspace *w = p->w;
    if (shape->qk_norm) normed_heads(p, layer, s);
    attention_call a = attention_of(p, layer, s);
    const int64_t bytes = p->virtual_kv * shape->kv_heads * shape->head_dim * dtype_bytes(p->k->real);
    if (p->virtual_kv) {
        p->k->zero(p->k, w->dvirtual_k, bytes);
        p->k->zero(p->k, w->dvirtual_v, bytes);
        a.dvirtual_k = w->dvirtual_k;
        a.dvirtual_v = w->dvirtual_v;
    }
    a.d_o = w->d_o;
    a.dq = w->dq;
    a.dk = w->dk;
    a.dv = w->dv;
    p->k->attention_backward(p->k, &a);
    if (p->virtual_kv) virtual_backward(p, layer);
    rotate(p, layer, w->dk, s->kv_stride, shape->kv_heads, 1);
    rotate(p, layer, w->dq, s->q_stride, shape->heads, 1);
    if (!shape->qk_norm) return;
    norm_rows_backward(p, layer, ROLE_K_NORM, s->k, w->dk, w->dk_raw, p->rows * shape->kv_heads, 0);
    norm_rows_backward(p, layer, ROLE_Q_NORM, s->q, w->dq, w->dq_raw, p->rows * shape->heads, 0);
}

void block_backward(pass *p, int64_t layer, const void *x, void *dx, int32_t below) {
    const model_shape *shape = &p->m->shape;
    const workspace *w = p->w;
    const block_stash *s = &w->blocks[layer];
    const block_map *b = &p->m->blocks[layer];
    p->call.kept = s->kept;

    part(p, layer, b->mlp, ROLE_NORM_MLP_OUT, s->x_mid, s->mlp, dx);
    p->k->gate_forward(p->k, shape->act, s->gate, s->up, s->gate_stride, w->hidden, p->type, p->rows, shape->inner);
    linear_backward(p, layer, ROLE_DOWN, w->hidden, w->dy, w->dhidden, 0);
    p->k->gate_backward(p->k, shape->act, s->gate, s->up, s->gate_stride, w->dhidden, w->dgate, w->dup, p->type,
                        p->rows, shape->inner);
    norm_rows(p, layer, ROLE_NORM_MLP, s->x_mid, w->norm, p->rows);
    if (!shape->fused_gate_up) linear_backward(p, layer, ROLE_UP, w->norm, shape->gated ? w->dup : w->dgate, w->dn, 0);
    if (shape->gated && !shape->fused_gate_up) linear_backward(p, layer, ROLE_GATE, w->norm, w->dgate, w->dn, 1);
    if (shape->fused_gate_up) linear_backward(p, layer, ROLE_GATE_UP, w->norm, w->dgate, w->dn, 0);
    norm_rows_backward(p, layer, ROLE_NORM_MLP, s->x_mid, w->dn, dx, p->rows, 1);

    part(p, layer, b->attn, ROLE_NORM_ATTN_OUT, x, s->attn, dx);
    linear_backward(p, layer, ROLE_O, s->o, w->dy, w->d_o, 0);
    attend_backward(p, layer, s);
    /* the lowest trained block hands nothing down */
    void *dn = below || norm_is_trained(p, layer, ROLE_NORM_ATTN) ? w->dn : NULL;
    norm_rows(p, layer, ROLE_NORM_ATTN, x, w->norm, p->rows);
    if (shape->fused_qkv) {
        linear_backward(p, layer, ROLE_QKV, w->norm, w->dq, dn, 0);
    } else {
        linear_backward(p, layer, ROLE_V, w->norm, w->dv, dn, 0);
        linear_backward(p, layer, ROLE_K, w->norm, w->dk_raw, dn, 1);
        linear_backward(p, layer, ROLE_Q, w->norm, w->dq_raw, dn, 1);
    }
    if (dn) norm_rows_backward(p, layer, ROLE_NORM_ATTN, x, dn, dx, p->rows, 1);
}
