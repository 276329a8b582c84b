/* attention-forward — softmax attention in tiles with a running maximum and sum. Dao et al., 2022, arXiv:2205.14135.
 *
 *   for every tile of keys:  S = Q·Kᵀ   P = exp(t(S) - m)   O = O·exp(m_old - m) + P·V   l = l·exp(m_old - m) + Σ P
 *   o = O / l    lse = m + log l
 * Equals kernels/ref/attention.h with sums in f32 and, for bf16, P rounded to bf16 before it meets V:
 * |error of o| <= (2^-8 + (head_dim + keys)·2^-24)·max|v|, before o is rounded.
 * A part is a block of query rows with all query heads of one key head, which share the packed keys; tiles that no row of
 * the block sees are skipped. */
#include "kernels/cpu/attention.h"
#include <math.h>
#include <string.h>

typedef struct {
    int64_t rows;        /* query rows times heads of the group    */
    char *keys, *values; /* packed tiles                          */
    char *q, *p;
    float *o, *scores, *most, *sum;
    int32_t *from, *to; /* of every row in the block: of the tile's own keys while a tile is at work */
} room;

static int64_t query_rows(const attention *t) {
    return t->query_rows * t->group;
}

static int64_t scratch_bytes(const attention *t) {
    const int64_t rows = query_rows(t), strip = t->f->strip;
    return 2 * attention_panels_bytes(t) + rows * (t->deep + t->wide) * 4 + 2 * strip * t->tile * 4 + rows * 32 + 4096;
}

static room room_of(const attention *t, int member) {
    const int64_t rows = query_rows(t), strip = t->f->strip;
    char *next = cpu_scratch(t->c, member);
    room r = {0};
    r.keys = attention_take(&next, attention_panels_bytes(t));
    r.values = attention_take(&next, attention_panels_bytes(t));
    r.q = attention_take(&next, rows * t->deep * 4);
    r.o = attention_take(&next, rows * t->wide * 4);
    r.scores = attention_take(&next, strip * t->tile * 4);
    r.p = attention_take(&next, strip * t->tile * 4);
    r.most = attention_take(&next, rows * 4);
    r.sum = attention_take(&next, rows * 4);
    r.from = attention_take(&next, rows * 4);
    r.to = attention_take(&next, rows * 4);
    return r;
}

/* One strip against the packed tile of `packed` keys, of which it sees n from `first` on. */
static void strip_step(const attention *t, const room *r, int64_t i, int64_t rows, int64_t packed, int64_t first,
                       int64_t n, const int32_t *from, const int32_t *to) {
    const attention_call *a = t->a;
    float rescale[64];
    const int64_t columns =
        attention_scores(t, r->q + i * t->deep * attention_bytes(t), rows, r->keys, packed, first, n, r->scores);
    const attention_tile tile = {.scores = r->scores,
                                 .row = columns,
                                 .rows = rows,
                                 .n = n,
                                 .from = from,
                                 .to = to,
                                 .scale = (float)a->scale,
                                 .softcap = (float)a->softcap,
                                 .type = t->step,
                                 .p = r->p,
                                 .out_row = columns};
    t->c->f->attention_softmax(&tile, r->most + i, r->sum + i, rescale);
    for (int64_t k = 0; k < rows; k++)
        if (rescale[k] != 1) t->c->f->scale(r->o + (i + k) * t->wide, F32, t->wide, rescale[k]);
    attention_add(t, r->p, columns, rows, r->values, packed, first, n, r->o + i * t->wide);
}

/* All tiles of the keys of a span, or of the virtual rows (NULL). */
static void key_tiles(const attention *t, const room *r, const attention_block *b, const attention_span *keys,
                      int64_t head) {
    const int64_t count = keys ? keys->k_count : t->a->virtual_rows;
    int32_t first = INT32_MAX, end = 0;
    for (int64_t i = 0; i < r->rows; i++) {
        attention_keys_of(t, keys, b->span->q0 + b->first + i % b->count, &r->from[i], &r->to[i]);
        if (r->from[i] < first) first = r->from[i];
        if (r->to[i] > end) end = r->to[i];
    }
    for (int64_t j = first / t->tile * t->tile; j < end && j < count; j += t->tile) {
        const int64_t n = attention_least(t->tile, count - j);
        int64_t stride;
        const void *k = attention_key(t, keys, 0, j, head, &stride);
        attention_pack_rows(t, k, stride, n, r->keys);
        const void *v = attention_key(t, keys, 1, j, head, &stride);
        attention_pack_features(t, v, stride, n, r->values);
        for (int64_t i = 0; i < r->rows; i += t->f->strip) {
            const int64_t rows = attention_least(t->f->strip, r->rows - i);
            int32_t from[64], to[64];
            int64_t seen_from;
            const int64_t seen = attention_seen(t, r->from + i, r->to + i, rows, j, n, from, to, &seen_from);
            if (seen) strip_step(t, r, i, rows, n, seen_from, seen, from, to);
        }
    }
}

static void forward_part(void *context, int part, int member) {
    const attention *t = context;
    const attention_call *a = t->a;
    const int64_t head = part % a->kv_heads;
    const attention_block *b = &t->queries[t->query_blocks - 1 - part / a->kv_heads]; /* the longest rows first */
    room r = room_of(t, member);
    r.rows = b->count * t->group;
    if (t->f->begin) t->f->begin();
    for (int64_t g = 0; g < t->group; g++)
        attention_copy(t, attention_at(t, a->q, a->q_stride, b->span->q0 + b->first, head * t->group + g), a->q_stride,
                       b->count, r.q + g * b->count * t->deep * attention_bytes(t));
    memset(r.o, 0, (size_t)(r.rows * t->wide) * sizeof *r.o);
    for (int64_t i = 0; i < r.rows; i++)
        r.most[i] = -INFINITY, r.sum[i] = 0;
    if (a->virtual_rows > 0) key_tiles(t, &r, b, NULL, head);
    key_tiles(t, &r, b, b->span, head);
    if (t->f->end) t->f->end();
    for (int64_t i = 0; i < r.rows; i++) {
        const int64_t row = b->span->q0 + b->first + i % b->count, h = head * t->group + i / b->count;
        t->c->f->convert((char *)a->o + (row * a->o_stride + h * a->head_dim) * dtype_bytes(a->type), a->type,
                         r.o + i * t->wide, F32, a->head_dim, r.sum[i] > 0 ? 1 / r.sum[i] : 0);
        if (a->lse) ((float *)a->lse)[row * a->heads + h] = r.most[i] + logf(r.sum[i]);
    }
}

void cpu_attention_forward(kernels *k, const attention_call *a) {
    cpu *const c = k->state;
    if ((a->type != F32 && a->type != BF16) || a->head_dim == 0) {
        c->ref->attention_forward(c->ref, a);
        return;
    }
    attention t = attention_open(c, a, scratch_bytes);
    attention_clear_outside(&t, a->o, a->o_stride, a->lse);
    team_run(c->threads, (int)(t.query_blocks * a->kv_heads), forward_part, &t);
    attention_close(&t);
}
