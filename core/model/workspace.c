/* workspace — the memory of passes, laid out once. lay_out runs twice: first without memory, to count (which is all that
 * model_plan does), then to place. Scratch of the attention half, the MLP half and the head is used at different times and
 * shares its bytes. */
#include "model/pass.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *base; /* NULL: counting */
    int64_t used, most;
} region;

static void *take(region *r, int64_t bytes) {
    void *at = r->base ? r->base + r->used : NULL;
    r->used += (bytes + 63) & ~(int64_t)63;
    r->most = r->used > r->most ? r->used : r->most;
    return at;
}

/* What the layout depends on. */
typedef struct {
    const model_shape *s;
    const kernels *k;
    const adapt *a;
    dtype type;
    int64_t act, real; /* bytes of an activation, of a real */
    int64_t q, kv;     /* widths of q, and of k and v */
} layout;

static char *offset(void *base, int64_t bytes) {
    return base ? (char *)base + bytes : NULL;
}

static void lay_qkv(const layout *l, int64_t rows, region *r, void **q, void **k, void **v) {
    if (l->s->fused_qkv) {
        *q = take(r, rows * (l->q + 2 * l->kv) * l->act);
        *k = offset(*q, l->q * l->act);
        *v = offset(*q, (l->q + l->kv) * l->act);
    } else {
        *q = take(r, rows * l->q * l->act);
        *k = take(r, rows * l->kv * l->act);
        *v = take(r, rows * l->kv * l->act);
    }
}

static void lay_gate(const layout *l, int64_t rows, region *r, void **gate, void **up) {
    const model_shape *s = l->s;
    *gate = take(r, rows * s->inner * (s->fused_gate_up ? 2 : 1) * l->act);
    *up = s->fused_gate_up ? offset(*gate, s->inner * l->act) : s->gated ? take(r, rows * s->inner * l->act) : NULL;
}

static void lay_block(const workspace *w, const layout *l, region *r, int64_t kept_row, block_stash *b) {
    const model_shape *s = l->s;
    const int64_t stream = w->rows * s->hidden * l->act;
    lay_qkv(l, w->rows, r, &b->q, &b->k, &b->v);
    b->q_stride = s->fused_qkv ? l->q + 2 * l->kv : l->q;
    b->kv_stride = s->fused_qkv ? b->q_stride : l->kv;
    b->o = take(r, w->rows * l->q * l->act);
    b->lse = w->c.backward ? take(r, w->rows * s->heads * l->real) : NULL;
    b->attn = s->sandwich ? take(r, stream) : NULL;
    b->x_mid = take(r, stream);
    lay_gate(l, w->rows, r, &b->gate, &b->up);
    b->gate_stride = s->inner * (s->fused_gate_up ? 2 : 1);
    b->mlp = s->sandwich ? take(r, stream) : NULL;
    b->kept = take(r, w->rows * kept_row);
}

static void lay_kept(workspace *w, const layout *l, region *r) {
    const model_shape *s = l->s;
    const int every_block = w->c.backward && !w->c.checkpoint;
    void *turns[2] = {NULL, NULL};
    int64_t widest = 0;
    for (int64_t b = 0; b < s->layers; b++) {
        const int64_t row = adapt_kept_row(l->a, b, l->type, l->k);
        widest = row > widest ? row : widest;
        if (every_block) lay_block(w, l, r, row, &w->blocks[b]);
    }
    if (!every_block) lay_block(w, l, r, widest, &w->blocks[0]);
    for (int64_t b = 1; !every_block && b < s->layers; b++)
        w->blocks[b] = w->blocks[0];
    for (int64_t b = 0; b <= s->layers; b++) {
        if (w->c.backward || b < 2) turns[b % 2] = take(r, w->rows * s->hidden * l->act);
        w->x[b] = turns[b % 2];
    }
    w->kept_outside = take(r, w->rows * adapt_kept_row(l->a, -1, l->type, l->k));
}

static void lay_attention(workspace *w, const layout *l, region *r) {
    const model_shape *s = l->s;
    const void *rows;
    void *gradient;
    const int64_t virtual = adapt_virtual_kv(l->a, &rows, &gradient) * l->kv;
    w->virtual_k = take(r, virtual * l->act);
    w->virtual_v = take(r, virtual * l->act);
    w->q_normed = s->qk_norm ? take(r, w->rows * l->q * l->act) : NULL;
    w->k_normed = s->qk_norm ? take(r, w->rows * l->kv * l->act) : NULL;
    if (!w->c.backward) return;
    w->dvirtual_k = take(r, virtual * l->real);
    w->dvirtual_v = take(r, virtual * l->real);
    w->d_o = take(r, w->rows * l->q * l->act);
    lay_qkv(l, w->rows, r, &w->dq, &w->dk, &w->dv);
    w->dq_raw = s->qk_norm ? take(r, w->rows * l->q * l->act) : w->dq;
    w->dk_raw = s->qk_norm ? take(r, w->rows * l->kv * l->act) : w->dk;
}

static void lay_mlp(workspace *w, const layout *l, region *r) {
    w->hidden = take(r, w->rows * l->s->inner * l->act);
    if (!w->c.backward) return;
    w->dhidden = take(r, w->rows * l->s->inner * l->act);
    lay_gate(l, w->rows, r, &w->dgate, &w->dup);
}

static void lay_head(workspace *w, const layout *l, region *r) {
    const int64_t stream = w->head_rows * l->s->hidden * l->act;
    w->head_x = take(r, stream);
    w->head_norm = take(r, stream);
    w->logits = take(r, w->head_rows * l->s->vocab * l->act);
    w->head_dn = w->c.backward ? take(r, stream) : NULL;
    w->head_dx = w->c.backward ? take(r, stream) : NULL;
    w->lse = take(r, w->head_rows * l->real);
}

static void lay_inputs(workspace *w, const layout *l, region *r) {
    int64_t own = 0;
    for (int t = 0; t < MODEL_ROPES; t++)
        own += l->s->rope[t].dynamic ? w->c.documents * l->s->rope[t].pairs : 0;
    w->ids = take(r, w->rows * 4);
    w->positions = take(r, w->rows * 4);
    w->picked = take(r, w->rows * 4);
    w->targets = take(r, w->rows * 4);
    w->keys = take(r, w->rows * 8);
    w->head_keys = take(r, w->rows * 8);
    w->logp = take(r, w->rows * l->real);
    w->dlogp = take(r, w->rows * l->real);
    w->rope_own = take(r, own * 4);
}

static void lay_scratch(workspace *w, const layout *l, region *r) {
    const int64_t stream = w->rows * l->s->hidden * l->act;
    lay_inputs(w, l, r);
    w->adapter = take(r, adapt_scratch(l->a, w->rows, l->type, l->k));
    w->norm = take(r, stream);
    if (w->c.backward) {
        w->dx = take(r, stream);
        w->dy = take(r, stream);
        w->dn = take(r, stream);
    }
    const int64_t shared = r->used;
    lay_attention(w, l, r);
    r->used = shared;
    lay_mlp(w, l, r);
    r->used = shared;
    lay_head(w, l, r);
}

/* Rows of logits at once: few enough to stay small, many enough to read the head's table seldom. */
static int64_t chosen_head_rows(const workspace *w, const layout *l) {
    enum { BYTES = 64 << 20, MOST = 1024, STEP = 16 };
    int64_t rows = w->c.head_rows;
    if (rows <= 0) {
        rows = BYTES / (l->s->vocab * l->act) / STEP * STEP;
        rows = rows < STEP ? STEP : rows > MOST ? MOST : rows;
    }
    return rows < w->rows ? rows : w->rows;
}

/* Counts or places, as the regions say. */
static void lay_out(workspace *w, const kernels *k, dtype type, region *kept, region *scratch) {
    enum { STEP = 16 }; /* whole steps of rows keep every slot of an adapter aligned */
    const model_shape *s = &w->m->shape;
    const layout l = {
        s, k, w->a, type, dtype_bytes(type), dtype_bytes(k->real), s->heads * s->head_dim, s->kv_heads * s->head_dim};
    const void *rows;
    void *gradient;
    w->c.documents = w->c.documents > 0 ? w->c.documents : 1;
    w->real_rows = w->c.rows;
    w->rows = w->c.rows + w->c.documents * adapt_virtual_embed(w->a, &rows, &gradient);
    w->rows = (w->rows + STEP - 1) / STEP * STEP;
    w->head_rows = chosen_head_rows(w, &l);
    lay_kept(w, &l, kept);
    lay_scratch(w, &l, scratch);
}

static workspace *new_workspace(model *m, adapt *a, const workspace_config *c) {
    workspace *w = mem_new(1, sizeof *w);
    *w = (workspace){.m = m, .a = a, .c = *c};
    w->x = mem_new((size_t)m->shape.layers + 1, sizeof *w->x);
    w->blocks = mem_new((size_t)m->shape.layers, sizeof *w->blocks);
    return w;
}

void model_plan(model *m, const kernels *device, dtype activation, const adapt *a, const quantize *q,
                const workspace_config *c, model_bytes *out) {
    workspace *w = new_workspace(m, (adapt *)(uintptr_t)a, c);
    region kept = {0}, scratch = {0};
    *out = (model_bytes){0};
    for (int32_t t = 0; t < m->tensor_count; t++)
        tensor_bytes(m, &m->tensors[t], device, activation, q, out);
    lay_out(w, device, activation, &kept, &scratch);
    out->activations = kept.most;
    int64_t widest = 0; /* what one product on packed weights takes for a while */
    for (int32_t t = 0; q && t < m->tensor_count; t++) {
        const int64_t bytes =
            quantize_selects(q, &m->tensors[t]) ? quantize_scratch(q, device, &m->tensors[t], c->rows) : 0;
        widest = bytes > widest ? bytes : widest;
    }
    out->scratch = scratch.most + widest;
    workspace_free(w);
}

static void new_host_arrays(workspace *w) {
    const size_t rows = (size_t)w->rows, documents = (size_t)w->c.documents;
    size_t own = 0;
    for (int t = 0; t < MODEL_ROPES; t++)
        own += w->m->shape.rope[t].dynamic ? documents * (size_t)w->m->shape.rope[t].pairs : 0;
    w->host_ids = mem_new(rows, sizeof *w->host_ids);
    w->host_positions = mem_new(rows, sizeof *w->host_positions);
    w->host_keys = mem_new(rows, sizeof *w->host_keys);
    w->first = mem_new(documents + 1, sizeof *w->first);
    w->spans = mem_new(documents, sizeof *w->spans);
    w->runs = mem_new(documents, sizeof *w->runs);
    w->target.row = mem_new(rows, sizeof *w->target.row);
    w->target.id = mem_new(rows, sizeof *w->target.id);
    w->target.weight = mem_new(rows, sizeof *w->target.weight);
    w->target.start = mem_new(documents + 1, sizeof *w->target.start);
    w->host_logp = mem_new(rows, sizeof *w->host_logp);
    w->host_dlogp = mem_new(rows, sizeof *w->host_dlogp);
    w->host_reference = mem_new(rows, sizeof *w->host_reference);
    w->host_rope = mem_new(own + 1, sizeof *w->host_rope);
}

int workspace_create(model *m, adapt *a, const workspace_config *c, workspace **out, graft_error *err) {
    *out = NULL;
    if (!m->device) return fail(err, GRAFT_FAILED, "%s is not loaded", m->folder);
    if (c->rows < 1)
        return fail(err, GRAFT_FAILED, "a workspace needs room for at least one row, not %lld", (long long)c->rows);
    workspace *w = new_workspace(m, a, c);
    region kept = {0}, scratch = {0};
    lay_out(w, m->device, m->activation, &kept, &scratch);
    w->kept_memory = m->device->alloc(m->device, kept.most);
    w->scratch_memory = m->device->alloc(m->device, scratch.most);
    if (!w->kept_memory || !w->scratch_memory) {
        fail(err, GRAFT_FAILED,
             "no memory for %lld bytes of activations and %lld of scratch; fewer rows at once or checkpointing "
             "need less",
             (long long)kept.most, (long long)scratch.most);
        workspace_free(w);
        return GRAFT_FAILED;
    }
    kept = (region){.base = w->kept_memory};
    scratch = (region){.base = w->scratch_memory};
    w->c = *c;
    lay_out(w, m->device, m->activation, &kept, &scratch);
    new_host_arrays(w);
    *out = w;
    return GRAFT_OK;
}

void workspace_free(workspace *w) {
    if (!w) return;
    if (w->m->device) {
        w->m->device->release(w->m->device, w->kept_memory);
        w->m->device->release(w->m->device, w->scratch_memory);
    }
    void *const host[] = {w->x,          w->blocks,     w->host_ids,       w->host_positions,
                          w->host_keys,  w->first,      w->spans,          w->runs,
                          w->target.row, w->target.id,  w->target.weight,  w->target.start,
                          w->host_logp,  w->host_dlogp, w->host_reference, w->host_rope};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    free(w);
}

void model_zero_gradients(workspace *w) {
    const model *m = w->m;
    kernels *k = m->device;
    int32_t count;
    for (int32_t t = 0; t < m->tensor_count; t++)
        if (m->tensors[t].grad) k->zero(k, m->tensors[t].grad, tensor_count_of(&m->tensors[t]) * dtype_bytes(k->real));
    const adapt_param *params = adapt_params(w->a, &count);
    for (int32_t p = 0; p < count; p++)
        if (!params[p].base) k->zero(k, params[p].grad, params[p].count * dtype_bytes(k->real));
}
