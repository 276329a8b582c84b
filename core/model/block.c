/* block — one decoder block, forward:
 *
 *   n = norm(x)          q, k, v = n·Wᵀ     (q, k = norm of each head)     q, k = rope(q, k)
 *   o = attention(q, k, v)                  x_mid = x + [norm](o·Woᵀ)
 *   n = norm(x_mid)      g, u = n·Wᵀ        h = act(g)·u                   out = x_mid + [norm](h·Wdᵀ)
 * [norm] where the family has norms behind the sub-blocks (sandwich). Families differ by data alone. Kept for the backward
 * pass: x, q, k, v, o, log-sum-exp, x_mid, g, u, and in a sandwich the sub-blocks' outputs; block-backward.c is the mirror. */
#include "model/pass.h"

static base_tensor *bias_of(const model *m, const block_map *b, tensor_role role) {
    return b->bias[role] < 0 ? NULL : &m->tensors[b->bias[role]];
}

void linear_forward(pass *p, int64_t layer, tensor_role role, const void *x, void *y) {
    const block_map *b = block_of(p->m, layer);
    adapt_linear(p->w->a, b->point[role], &p->call, tensor_at(p->m, b->weight[role]), bias_of(p->m, b, role), x, NULL,
                 y);
}

void norm_rows(pass *p, int64_t layer, tensor_role role, const void *x, void *y, int64_t rows) {
    const block_map *b = block_of(p->m, layer);
    const base_tensor *w = &p->m->tensors[b->weight[role]], *bias = bias_of(p->m, b, role);
    p->k->norm_forward(p->k, p->m->shape.norm, x, w->vector, bias ? bias->vector : NULL, p->m->shape.norm_eps, y,
                       p->type, rows, w->out);
}

void rotate(pass *p, int64_t layer, void *x, int64_t stride, int64_t heads, int32_t inverse) {
    const model_shape *s = &p->m->shape;
    const int32_t id = s->rope_id[layer];
    for (int64_t r = 0; id >= 0 && r < p->runs; r++) {
        const rope_run *run = &p->w->runs[r];
        p->k->rope(p->k, (char *)x + run->row * stride * dtype_bytes(p->type), p->type, run->rows, stride, heads,
                   s->head_dim, s->rope[id].pairs, p->w->positions + run->row, run->table[id], s->rope[id].factor,
                   inverse);
    }
}

void normed_heads(pass *p, int64_t layer, const block_stash *s) {
    const model_shape *shape = &p->m->shape;
    norm_rows(p, layer, ROLE_Q_NORM, s->q, p->w->q_normed, p->rows * shape->heads);
    norm_rows(p, layer, ROLE_K_NORM, s->k, p->w->k_normed, p->rows * shape->kv_heads);
    rotate(p, layer, p->w->q_normed, s->q_stride, shape->heads, 0);
    rotate(p, layer, p->w->k_normed, s->kv_stride, shape->kv_heads, 0);
}

/* Virtual keys and values of this layer: columns 2l and 2l + 1, each of the width of k, of the adapter's one matrix. */
static void virtual_rows(pass *p, int64_t layer, attention_call *a) {
    const int64_t width = a->kv_heads * a->head_dim, all = 2 * p->m->shape.layers * width;
    const char *first = (const char *)p->kv + 2 * layer * width * dtype_bytes(p->k->real);
    void *const to[] = {p->w->virtual_k, p->w->virtual_v};
    for (int64_t i = 0; i < 2; i++)
        copy_columns(p->k, (columns){to[i], p->type, width},
                     (columns){(char *)(uintptr_t)first + i * width * dtype_bytes(p->k->real), p->k->real, all},
                     p->virtual_kv, width, 0);
    a->virtual_k = p->w->virtual_k;
    a->virtual_v = p->w->virtual_v;
    a->virtual_rows = p->virtual_kv;
}

attention_call attention_of(pass *p, int64_t layer, const block_stash *s) {
    const model_shape *shape = &p->m->shape;
    const workspace *w = p->w;
    attention_call a = {.type = p->type,
                        .q = shape->qk_norm ? w->q_normed : s->q,
                        .k = shape->qk_norm ? w->k_normed : s->k,
                        .v = s->v,
                        .q_stride = s->q_stride,
                        .k_stride = s->kv_stride,
                        .v_stride = s->kv_stride,
                        .o_stride = shape->heads * shape->head_dim,
                        .q_pos = w->positions,
                        .k_pos = w->positions,
                        .spans = w->spans,
                        .span_count = p->documents,
                        .rows = p->rows,
                        .heads = shape->heads,
                        .kv_heads = shape->kv_heads,
                        .head_dim = shape->head_dim,
                        .scale = shape->attn_scale_layer ? shape->attn_scale_layer[layer] : shape->attn_scale,
                        .softcap = shape->attn_softcap,
                        .window = shape->window[layer],
                        .o = s->o,
                        .lse = s->lse};
    if (p->virtual_kv) virtual_rows(p, layer, &a);
    return a;
}

static void attend(pass *p, int64_t layer, const block_stash *s) {
    const model_shape *shape = &p->m->shape;
    if (shape->qk_norm) {
        normed_heads(p, layer, s);
    } else {
        rotate(p, layer, s->q, s->q_stride, shape->heads, 0);
        rotate(p, layer, s->k, s->kv_stride, shape->kv_heads, 0);
    }
    attention_call a = attention_of(p, layer, s);
    if (p->cache) cache_extend(p->cache, layer, p, &a);
    p->k->attention_forward(p->k, &a);
}

/* out = x + [norm](y); y is the sub-block's output, in a plain block out itself. */
static void join(pass *p, int64_t layer, int32_t branch, tensor_role norm, const void *x, void *y, void *out) {
    adapt_branch(p->w->a, branch, &p->call, x, y);
    if (p->m->shape.sandwich) norm_rows(p, layer, norm, y, out, p->rows);
    p->k->add(p->k, out, x, p->type, p->rows * p->m->shape.hidden);
}

void block_forward(pass *p, int64_t layer, const void *x, void *out) {
    const model_shape *shape = &p->m->shape;
    const workspace *w = p->w;
    const block_stash *s = &w->blocks[layer];
    const block_map *b = &p->m->blocks[layer];
    p->call.kept = s->kept;

    norm_rows(p, layer, ROLE_NORM_ATTN, x, w->norm, p->rows);
    if (shape->fused_qkv) {
        linear_forward(p, layer, ROLE_QKV, w->norm, s->q);
    } else {
        linear_forward(p, layer, ROLE_Q, w->norm, s->q);
        linear_forward(p, layer, ROLE_K, w->norm, s->k);
        linear_forward(p, layer, ROLE_V, w->norm, s->v);
    }
    attend(p, layer, s);
    void *attn = shape->sandwich ? s->attn : s->x_mid;
    linear_forward(p, layer, ROLE_O, s->o, attn);
    join(p, layer, b->attn, ROLE_NORM_ATTN_OUT, x, attn, s->x_mid);

    norm_rows(p, layer, ROLE_NORM_MLP, s->x_mid, w->norm, p->rows);
    if (shape->fused_gate_up) linear_forward(p, layer, ROLE_GATE_UP, w->norm, s->gate);
    if (shape->gated && !shape->fused_gate_up) linear_forward(p, layer, ROLE_GATE, w->norm, s->gate);
    if (!shape->fused_gate_up) linear_forward(p, layer, ROLE_UP, w->norm, shape->gated ? s->up : s->gate);
    p->k->gate_forward(p->k, shape->act, s->gate, s->up, s->gate_stride, w->hidden, p->type, p->rows, shape->inner);
    void *mlp = shape->sandwich ? s->mlp : out;
    linear_forward(p, layer, ROLE_DOWN, w->hidden, mlp);
    join(p, layer, b->mlp, ROLE_NORM_MLP_OUT, s->x_mid, mlp, out);
}
