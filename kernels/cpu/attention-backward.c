/* attention-backward — gradients of attention in tiles, from the saved log-sum-exp. Dao, 2023, arXiv:2307.08691.
 *
 *   D = do·o                                                         first, for every row and head
 *   query blocks:  S = Q·Kᵀ   dP = dO·Vᵀ   dZ = P∘(dP - D)∘dt/dz      dq  = scale·dZ·K
 *   key blocks:    Sᵀ = K·Qᵀ  dPᵀ = V·dOᵀ                             dv += Pᵀ·dO   dk += dZᵀ·Q, at the end times scale
 * Both kinds of blocks run on the team at once; no two write the same place and each adds in a fixed order, so S and dP are
 * computed twice (7 products for 5) and nothing is summed between threads.
 * Equals kernels/ref/attention.h with sums in f32 and, for bf16, P and dZ rounded to bf16 before they are multiplied: a
 * relative error of 2^-8 on every term of a sum. */
#include "kernels/cpu/attention.h"
#include <string.h>

typedef struct {
    char *panels[4];
    char *own[2];   /* copied rows: q and do, or k and v */
    float *sums[2]; /* dq, or dk and dv                 */
    char *p, *dz;
    float *scores, *other, *lse, *do_o;
    int32_t *from, *to;
} room;

static int64_t block_rows(const attention *t) {
    const int64_t queries = t->query_rows * t->group;
    return queries > t->key_rows ? queries : t->key_rows;
}

static int64_t scratch_bytes(const attention *t) {
    const int64_t rows = block_rows(t), strip = t->f->strip;
    return 4 * attention_panels_bytes(t) + 2 * rows * (t->deep + t->wide) * 4 + 4 * strip * t->tile * 4 +
           (2 * (rows + t->tile) + 2 * rows) * 4 + 16 * 64;
}

static room room_of(const attention *t, int member) {
    const int64_t rows = block_rows(t), tile = t->f->strip * t->tile * 4;
    char *next = cpu_scratch(t->c, member);
    room r = {0};
    for (int i = 0; i < 4; i++)
        r.panels[i] = attention_take(&next, attention_panels_bytes(t));
    for (int i = 0; i < 2; i++) {
        r.own[i] = attention_take(&next, rows * t->deep * 4);
        r.sums[i] = attention_take(&next, rows * t->wide * 4);
    }
    r.scores = attention_take(&next, tile);
    r.other = attention_take(&next, tile);
    r.p = attention_take(&next, tile);
    r.dz = attention_take(&next, tile);
    r.lse = attention_take(&next, (rows + t->tile) * 4);
    r.do_o = attention_take(&next, (rows + t->tile) * 4);
    r.from = attention_take(&next, rows * 4);
    r.to = attention_take(&next, rows * 4);
    return r;
}

/* A strip of own rows against a tile of others: what it sees of them, scores and dp of that in the tile's rooms. */
typedef struct {
    int32_t from[64], to[64];
    int64_t first;
    attention_tile tile;
} strip;

/* Own rows i.. against n packed others (panels 0 and 1) that begin at `origin`. 0: they see nothing. */
static int strip_scores(const attention *t, const room *r, int64_t i, int64_t rows, int64_t origin, int64_t n,
                        strip *s) {
    const attention_call *a = t->a;
    const int64_t at = i * t->deep * attention_bytes(t);
    const int64_t seen = attention_seen(t, r->from + i, r->to + i, rows, origin, n, s->from, s->to, &s->first);
    if (!seen) return 0;
    const int64_t columns = attention_scores(t, r->own[0] + at, rows, r->panels[0], n, s->first, seen, r->scores);
    attention_scores(t, r->own[1] + at, rows, r->panels[1], n, s->first, seen, r->other);
    s->tile = (attention_tile){.scores = r->scores,
                               .other = r->other,
                               .row = columns,
                               .rows = rows,
                               .n = seen,
                               .from = s->from,
                               .to = s->to,
                               .scale = (float)a->scale,
                               .softcap = (float)a->softcap,
                               .type = t->step,
                               .dz = r->dz,
                               .out_row = columns};
    return 1;
}

/* ---- dq ---- */

static void query_tiles(const attention *t, const room *r, const attention_block *b, const attention_span *keys,
                        int64_t head) {
    const int64_t count = keys ? keys->k_count : t->a->virtual_rows, own = b->count * t->group;
    int32_t first = INT32_MAX, end = 0;
    for (int64_t i = 0; i < own; i++) {
        attention_keys_of(t, keys, b->span->q0 + b->first + i % b->count, &r->from[i], &r->to[i]);
        if (r->from[i] < first) first = r->from[i];
        if (r->to[i] > end) end = r->to[i];
    }
    for (int64_t j = first / t->tile * t->tile; j < end && j < count; j += t->tile) {
        const int64_t n = attention_least(t->tile, count - j);
        int64_t k_stride, v_stride;
        const void *k = attention_key(t, keys, 0, j, head, &k_stride),
                   *v = attention_key(t, keys, 1, j, head, &v_stride);
        attention_pack_rows(t, k, k_stride, n, r->panels[0]);
        attention_pack_rows(t, v, v_stride, n, r->panels[1]);
        attention_pack_features(t, k, k_stride, n, r->panels[2]);
        for (int64_t i = 0; i < own; i += t->f->strip) {
            const int64_t rows = attention_least(t->f->strip, own - i);
            strip s;
            if (!strip_scores(t, r, i, rows, j, n, &s)) continue;
            t->c->f->attention_grad_rows(&s.tile, r->lse + i, r->do_o + i);
            attention_add(t, r->dz, s.tile.out_row, rows, r->panels[2], n, s.first, s.tile.n, r->sums[0] + i * t->wide);
        }
    }
}

static void query_part(const attention *t, const attention_block *b, int64_t head, int member) {
    const attention_call *a = t->a;
    const room r = room_of(t, member);
    const int64_t own = b->count * t->group, row0 = b->span->q0 + b->first;
    for (int64_t g = 0; g < t->group; g++) {
        const int64_t at = g * b->count * t->deep * attention_bytes(t), h = head * t->group + g;
        attention_copy(t, attention_at(t, a->q, a->q_stride, row0, h), a->q_stride, b->count, r.own[0] + at);
        attention_copy(t, attention_at(t, a->d_o, a->o_stride, row0, h), a->o_stride, b->count, r.own[1] + at);
        for (int64_t i = 0; i < b->count; i++) {
            r.lse[g * b->count + i] = ((const float *)a->lse)[(row0 + i) * a->heads + h];
            r.do_o[g * b->count + i] = t->do_o[(row0 + i) * a->heads + h];
        }
    }
    memset(r.sums[0], 0, (size_t)(own * t->wide) * sizeof(float));
    if (a->virtual_rows > 0) query_tiles(t, &r, b, NULL, head);
    query_tiles(t, &r, b, b->span, head);
    for (int64_t i = 0; i < own; i++) {
        const int64_t at = (row0 + i % b->count) * a->q_stride + (head * t->group + i / b->count) * a->head_dim;
        t->c->f->convert((char *)a->dq + at * dtype_bytes(a->type), a->type, r.sums[0] + i * t->wide, F32, a->head_dim,
                         (float)a->scale);
    }
}

/* ---- dk and dv ---- */

/* All tiles of the rows of span s that see keys of the block, of one query head. */
static void key_tiles(const attention *t, const room *r, const attention_block *b, const attention_span *s, int64_t h) {
    const attention_call *a = t->a;
    int32_t first = INT32_MAX, end = 0;
    for (int64_t j = 0; j < b->count; j++) {
        attention_rows_of(t, s, b->span == NULL, b->first + j, &r->from[j], &r->to[j]);
        if (r->from[j] < first) first = r->from[j];
        if (r->to[j] > end) end = r->to[j];
    }
    for (int64_t i = first / t->tile * t->tile; i < end; i += t->tile) {
        const int64_t n = attention_least(t->tile, s->q_count - i), row0 = s->q0 + i;
        const void *q = attention_at(t, a->q, a->q_stride, row0, h),
                   *d_o = attention_at(t, a->d_o, a->o_stride, row0, h);
        attention_pack_rows(t, q, a->q_stride, n, r->panels[0]);
        attention_pack_rows(t, d_o, a->o_stride, n, r->panels[1]);
        attention_pack_features(t, q, a->q_stride, n, r->panels[2]);
        attention_pack_features(t, d_o, a->o_stride, n, r->panels[3]);
        for (int64_t k = 0; k < n; k++) {
            r->lse[k] = ((const float *)a->lse)[(row0 + k) * a->heads + h];
            r->do_o[k] = t->do_o[(row0 + k) * a->heads + h];
        }
        for (int64_t j = 0; j < b->count; j += t->f->strip) {
            const int64_t rows = attention_least(t->f->strip, b->count - j);
            strip v;
            if (!strip_scores(t, r, j, rows, i, n, &v)) continue;
            v.tile.p = r->p;
            t->c->f->attention_grad_columns(&v.tile, r->lse + v.first, r->do_o + v.first);
            attention_add(t, r->dz, v.tile.out_row, rows, r->panels[2], n, v.first, v.tile.n, r->sums[0] + j * t->wide);
            attention_add(t, r->p, v.tile.out_row, rows, r->panels[3], n, v.first, v.tile.n, r->sums[1] + j * t->wide);
        }
    }
}

static void store_keys(const attention *t, const attention_block *b, int64_t head, const room *r) {
    const attention_call *a = t->a;
    const float factor[2] = {(float)a->scale, 1};
    for (int values = 0; values < 2; values++)
        for (int64_t j = 0; j < b->count; j++) {
            float *const sum = r->sums[values] + j * t->wide;
            if (b->span) {
                void *const to = values ? a->dv : a->dk;
                const int64_t at =
                    (b->span->k0 + b->first + j) * (values ? a->v_stride : a->k_stride) + head * a->head_dim;
                t->c->f->convert((char *)to + at * dtype_bytes(a->type), a->type, sum, F32, a->head_dim,
                                 factor[values]);
            } else if (values ? a->dvirtual_v : a->dvirtual_k) {
                float *const to = values ? a->dvirtual_v : a->dvirtual_k;
                t->c->f->add_scaled(to + (b->first + j) * a->kv_heads * a->head_dim + head * a->head_dim, sum, F32,
                                    a->head_dim, factor[values]);
            }
        }
}

static void key_part(const attention *t, const attention_block *b, int64_t head, int member) {
    const attention_call *a = t->a;
    const room r = room_of(t, member);
    for (int values = 0; values < 2; values++) {
        int64_t stride;
        const void *from = attention_key(t, b->span, values, b->first, head, &stride);
        attention_copy(t, from, stride, b->count, r.own[values]);
        memset(r.sums[values], 0, (size_t)(b->count * t->wide) * sizeof(float));
    }
    for (int64_t s = 0; s < a->span_count; s++)
        for (int64_t g = 0; g < t->group && (!b->span || b->span == &a->spans[s]); g++)
            key_tiles(t, &r, b, &a->spans[s], head * t->group + g);
    store_keys(t, b, head, &r);
}

/* ---- all ---- */

static void backward_part(void *context, int part, int member) {
    const attention *t = context;
    const int64_t head = part % t->a->kv_heads, block = part / t->a->kv_heads;
    if (t->f->begin) t->f->begin();
    if (block < t->key_blocks)
        key_part(t, &t->keys[block], head, member);
    else
        query_part(t, &t->queries[t->query_blocks - 1 - (block - t->key_blocks)], head, member);
    if (t->f->end) t->f->end();
}

static void do_o_part(void *context, int part, int member) {
    (void)member;
    const attention *t = context;
    const attention_call *a = t->a;
    for (int64_t h = 0; h < a->heads; h++)
        t->do_o[part * a->heads + h] = t->c->f->dot(attention_at(t, a->d_o, a->o_stride, part, h),
                                                    attention_at(t, a->o, a->o_stride, part, h), a->type, a->head_dim);
}

void cpu_attention_backward(kernels *k, const attention_call *a) {
    cpu *const c = k->state;
    if ((a->type != F32 && a->type != BF16) || a->head_dim == 0) {
        c->ref->attention_backward(c->ref, a);
        return;
    }
    attention t = attention_open(c, a, scratch_bytes);
    t.do_o = cpu_shared(c, (a->rows * a->heads + 1) * (int64_t)sizeof *t.do_o);
    attention_clear_outside(&t, a->dq, a->q_stride, NULL);
    team_run(c->threads, (int)a->rows, do_o_part, &t);
    team_run(c->threads, (int)((t.key_blocks + t.query_blocks) * a->kv_heads), backward_part, &t);
    attention_close(&t);
}
