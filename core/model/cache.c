/* cache — keys and values of growing sequences. A full layer keeps all of them; a layer with a window of W needs the last
 * W - 1 in front of new rows, and keeps them at the end of a buffer of twice that: when it is full, they move to its front.
 * So the rows of a sequence are always contiguous and increasing, as attention wants them. Keys are kept behind norm and rope.
 * The buffers of all sequences lie side by side, so that one pass may add a token to each.
 *
 * Where rotary tables grow with the length (dynamic), old keys keep the frequencies they were made with, as in the reference;
 * where they switch (longrope), the sequence is computed anew. */
#include "model/pass.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *k, *v;        /* dev (sequences, rows, kv width) */
    int32_t *positions; /* dev (sequences, rows) of the rows held */
    int64_t rows;       /* of one sequence */
} layer_cache;

/* What a layer holds of a sequence: rows first .. first + used - 1 of it. */
typedef struct {
    int64_t first, used;
} held_rows;

typedef struct {
    int64_t length; /* rows, virtual embedding rows included */
    int64_t tokens;
    int32_t *ids;    /* host: the tokens so far */
    held_rows *held; /* (layers) */
} sequence_cache;

struct kv_cache {
    workspace *w;
    int64_t sequences, capacity; /* rows of a sequence */
    int64_t virtual_kv, virtual_embed;
    layer_cache *layers;
    sequence_cache *all, *now; /* now: the one selected */
    int32_t *positions;        /* dev (capacity): position of row i of a sequence */
    void *memory;
    const int32_t *passing; /* which sequence each document of the pass belongs to */
};

static int64_t width_of(const model *m) {
    return m->shape.kv_heads * m->shape.head_dim * dtype_bytes(m->activation);
}

static int64_t buffer_rows(const kv_cache *c, int64_t layer) {
    const int64_t window = c->w->m->shape.window[layer], rows = 2 * (window - 1) + c->w->rows;
    return window > 0 && rows < c->capacity ? rows : c->capacity;
}

/* Lays the buffers out, or counts their bytes while there is no memory. */
static int64_t lay_out(kv_cache *c) {
    char *at = c->memory;
    int64_t bytes = 0;
    for (int64_t l = 0; l < c->w->m->shape.layers; l++) {
        layer_cache *to = &c->layers[l];
        to->rows = buffer_rows(c, l);
        const int64_t rows = c->sequences * to->rows, half = rows * width_of(c->w->m);
        const int64_t places = (rows * (int64_t)sizeof *to->positions + 63) / 64 * 64;
        if (at) *to = (layer_cache){at + bytes, at + bytes + half, (void *)(at + bytes + 2 * half), to->rows};
        bytes += 2 * half + places;
    }
    return bytes;
}

/* The buffer of a layer begins with row `first` of a sequence. */
static void place(kv_cache *c, int64_t layer, int64_t sequence, int64_t first) {
    const layer_cache *l = &c->layers[layer];
    kernels *k = c->w->m->device;
    const int64_t rows = l->rows < c->capacity - first ? l->rows : c->capacity - first;
    c->all[sequence].held[layer].first = first;
    k->copy(k, l->positions + sequence * l->rows, c->positions + first, rows * (int64_t)sizeof *l->positions);
}

static void forget(kv_cache *c, int64_t sequence) {
    c->all[sequence].length = 0;
    for (int64_t l = 0; l < c->w->m->shape.layers; l++) {
        c->all[sequence].held[l].used = 0;
        place(c, l, sequence, 0);
    }
}

static int64_t virtual_embed(const kv_cache *c) {
    const void *rows;
    void *gradient;
    return adapt_virtual_embed(c->w->a, &rows, &gradient);
}

/* Which adapters are enabled may change between two sequences, and with them the virtual rows in front. */
static void meet_adapters(kv_cache *c) {
    kernels *k = c->w->m->device;
    const void *rows;
    void *gradient;
    const int64_t virtual_kv = adapt_virtual_kv(c->w->a, &rows, &gradient);
    int32_t *positions = mem_new((size_t)c->capacity, sizeof *positions);
    for (int64_t i = 0; i < c->capacity; i++)
        positions[i] = (int32_t)(virtual_kv + i);
    k->upload(k, c->positions, positions, c->capacity * 4);
    free(positions);
    c->virtual_kv = virtual_kv;
    c->virtual_embed = virtual_embed(c);
}

int cache_create_many(workspace *w, int64_t sequences, int64_t capacity, kv_cache **out, graft_error *err) {
    model *m = w->m;
    kernels *k = m->device;
    kv_cache *c = mem_new(1, sizeof *c);
    *out = NULL;
    *c = (kv_cache){.w = w, .sequences = sequences};
    c->capacity = (capacity < 1 ? 1 : capacity) + virtual_embed(c);
    c->layers = mem_new((size_t)m->shape.layers, sizeof *c->layers);
    c->all = c->now = mem_new((size_t)sequences, sizeof *c->all);
    const int64_t bytes = lay_out(c);
    c->memory = k->alloc(k, bytes);
    c->positions = k->alloc(k, c->capacity * 4);
    if (!c->memory || !c->positions) {
        cache_free(c);
        return fail(err, GRAFT_FAILED, "no memory for %lld bytes of keys and values (%lld times %lld tokens)",
                    (long long)bytes, (long long)sequences, (long long)capacity);
    }
    lay_out(c);
    meet_adapters(c);
    for (int64_t s = 0; s < sequences; s++) {
        c->all[s].ids = mem_new((size_t)c->capacity, sizeof *c->all->ids);
        c->all[s].held = mem_new((size_t)m->shape.layers, sizeof *c->all->held);
        forget(c, s);
    }
    *out = c;
    return GRAFT_OK;
}

int cache_create(workspace *w, int64_t capacity, kv_cache **out, graft_error *err) {
    return cache_create_many(w, 1, capacity, out, err);
}

void cache_free(kv_cache *c) {
    if (!c) return;
    kernels *k = c->w->m->device;
    k->release(k, c->memory);
    k->release(k, c->positions);
    for (int64_t s = 0; s < c->sequences; s++) {
        free(c->all[s].ids);
        free(c->all[s].held);
    }
    free(c->all);
    free(c->layers);
    free(c);
}

void cache_select(kv_cache *c, int64_t sequence) {
    c->now = &c->all[sequence];
}

void cache_clear(kv_cache *c) {
    const void *rows;
    void *gradient;
    if (adapt_virtual_kv(c->w->a, &rows, &gradient) != c->virtual_kv || virtual_embed(c) != c->virtual_embed)
        meet_adapters(c);
    forget(c, c->now - c->all);
    c->now->tokens = 0;
}

/* Whether the rows of a sequence of `before` rows are rotated as in one of `after` rows that is computed anew. */
static int same_tables(const kv_cache *c, int64_t before, int64_t after) {
    for (int t = 0; t < MODEL_ROPES; t++) {
        const rope_table *r = &c->w->m->shape.rope[t];
        const int grown = after > r->original;
        if ((r->inv_freq_long && grown != (before > r->original)) || (r->dynamic && (grown || before > r->original)))
            return 0;
    }
    return 1;
}

/* Whether every layer still holds what a row behind the first `rows` looks at. */
static int can_cut(const kv_cache *c, int64_t rows) {
    for (int64_t l = 0; l < c->w->m->shape.layers; l++) {
        const int64_t window = c->w->m->shape.window[l], seen = window > 0 && rows >= window ? rows - window + 1 : 0;
        if (c->now->held[l].first > seen) return 0;
    }
    return 1;
}

int64_t cache_keep(kv_cache *c, const int32_t *ids, int64_t count) {
    sequence_cache *s = c->now;
    int64_t same = 0;
    while (same < s->tokens && same < count - 1 && s->ids[same] == ids[same])
        same++;
    const int64_t rows = c->virtual_embed + same;
    if (same == 0 || !same_tables(c, s->length, c->virtual_embed + count) || !can_cut(c, rows)) {
        cache_clear(c);
        return 0;
    }
    s->tokens = same;
    s->length = rows;
    for (int64_t l = 0; l < c->w->m->shape.layers; l++)
        s->held[l].used = rows - s->held[l].first;
    return same;
}

int64_t cache_length(const kv_cache *c) {
    return c->now->tokens;
}

int64_t cache_sequences(const kv_cache *c) {
    return c->sequences;
}

int64_t cache_vocab(const kv_cache *c) {
    return c->w->m->shape.vocab;
}

int64_t cache_room(const kv_cache *c) {
    const int64_t positions = model_longest(c->w->m, c->w->a), made = c->capacity - c->virtual_embed;
    return made < positions ? made : positions;
}

static void append(kernels *k, dtype type, char *to, const void *from, int64_t stride, int64_t rows, int64_t cols) {
    if (stride == cols)
        k->copy(k, to, from, rows * cols * dtype_bytes(type));
    else
        copy_columns(k, (columns){to, type, cols}, (columns){(void *)(uintptr_t)from, type, stride}, rows, cols, 0);
}

/* Rows row .. row + rows - 1 of the pass behind what the layer holds of the sequence. */
static void extend(kv_cache *c, int64_t layer, int64_t sequence, const attention_call *a, int64_t row, int64_t rows) {
    const layer_cache *l = &c->layers[layer];
    held_rows *h = &c->all[sequence].held[layer];
    kernels *kernel = c->w->m->device;
    const dtype type = c->w->m->activation;
    const int64_t bytes = width_of(c->w->m), cols = a->kv_heads * a->head_dim;
    char *k = l->k + sequence * l->rows * bytes, *v = l->v + sequence * l->rows * bytes;
    if (h->used + rows > l->rows) {
        const int64_t keep = a->window - 1, gone = h->used - keep; /* used > 2·keep here: the ranges do not overlap */
        kernel->copy(kernel, k, k + gone * bytes, keep * bytes);
        kernel->copy(kernel, v, v + gone * bytes, keep * bytes);
        place(c, layer, sequence, h->first + gone);
        h->used = keep;
    }
    append(kernel, type, k + h->used * bytes, (const char *)a->k + row * a->k_stride * dtype_bytes(type), a->k_stride,
           rows, cols);
    append(kernel, type, v + h->used * bytes, (const char *)a->v + row * a->v_stride * dtype_bytes(type), a->v_stride,
           rows, cols);
    h->used += rows;
}

void cache_extend(kv_cache *c, int64_t layer, const pass *p, attention_call *a) {
    const layer_cache *l = &c->layers[layer];
    for (int64_t d = 0; d < p->documents; d++) {
        const int64_t s = c->passing[d], row = p->w->first[d], rows = p->w->first[d + 1] - row;
        extend(c, layer, s, a, row, rows);
        p->w->spans[d] = (attention_span){row, rows, s * l->rows, c->all[s].held[layer].used};
    }
    a->k = l->k;
    a->v = l->v;
    a->k_stride = a->v_stride = a->kv_heads * a->head_dim;
    a->k_pos = l->positions;
}

/* Rows ids[0..count) of the selected sequence, whose tables are those for `longest` rows. */
static int run(kv_cache *c, const int32_t *ids, int64_t count, int64_t longest, float *logits, graft_error *err) {
    const int32_t own = (int32_t)(c->now - c->all);
    for (int64_t done = 0; done < count;) {
        const int64_t n = count - done < c->w->real_rows ? count - done : c->w->real_rows;
        const cache_piece piece = {ids + done, n, c->now->length, longest};
        pass p;
        if (pass_begin_cached(c->w, c, &piece, 1, &p, err)) return err->code;
        c->passing = &own;
        const void *x = forward(&p, NULL, NULL);
        c->now->length += p.rows;
        done += n;
        const int32_t last = (int32_t)(p.rows - 1);
        if (done == count && logits) head_logits(&p, x, &last, 1, logits);
    }
    return GRAFT_OK;
}

/* Whether a table switches between these two lengths. */
static int switches(const kv_cache *c, int64_t before, int64_t after) {
    for (int t = 0; t < MODEL_ROPES; t++) {
        const rope_table *r = &c->w->m->shape.rope[t];
        if (r->inv_freq_long && before > 0 && before <= r->original && after > r->original) return 1;
    }
    return 0;
}

static int check_room(const kv_cache *c, const sequence_cache *s, int64_t count, graft_error *err) {
    if (c->virtual_embed + s->tokens + count <= c->capacity)
        return model_check_length(c->w->m, c->w->a, s->tokens + count, err);
    return fail(err, GRAFT_FAILED, "%lld tokens; the cache was made for %lld", (long long)(s->tokens + count),
                (long long)(c->capacity - c->virtual_embed));
}

int cache_append(kv_cache *c, const int32_t *ids, int64_t count, float *logits, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    sequence_cache *s = c->now;
    const int64_t longest = c->virtual_embed + s->tokens + count;
    if (count < 1) return fail(err, GRAFT_FAILED, "no token to append: a sequence begins with at least one");
    if (check_room(c, s, count, err)) return err->code;
    memcpy(s->ids + s->tokens, ids, (size_t)count * sizeof *ids);
    if (switches(c, s->length, longest)) {
        forget(c, s - c->all);
        run(c, s->ids, s->tokens + count, longest, logits, err);
    } else {
        run(c, ids, count, longest, logits, err);
    }
    if (!err->code) s->tokens += count;
    return err->code;
}

/* One pass with a row for each. */
static int step(kv_cache *c, const int32_t *sequences, const int32_t *ids, int64_t count, float *logits,
                graft_error *err) {
    cache_piece *pieces = mem_new((size_t)count, sizeof *pieces);
    int32_t *list = mem_new((size_t)count, sizeof *list);
    pass p;
    for (int64_t i = 0; i < count; i++) {
        const int64_t length = c->all[sequences[i]].length;
        pieces[i] = (cache_piece){ids + i, 1, length, length + 1};
        list[i] = (int32_t)i;
    }
    if (pass_begin_cached(c->w, c, pieces, count, &p, err) == GRAFT_OK) {
        c->passing = sequences;
        head_logits(&p, forward(&p, NULL, NULL), list, count, logits);
        for (int64_t i = 0; i < count; i++) {
            sequence_cache *s = &c->all[sequences[i]];
            s->ids[s->tokens++] = ids[i];
            s->length++;
        }
    }
    free(pieces);
    free(list);
    return err->code;
}

int cache_step(kv_cache *c, const int32_t *sequences, const int32_t *ids, int64_t count, float *logits,
               graft_error *err) {
    int apart = 0; /* a sequence that begins or is computed anew takes more than a row */
    for (int64_t i = 0; i < count; i++) {
        const sequence_cache *s = &c->all[sequences[i]];
        if (check_room(c, s, 1, err)) return err->code;
        apart |= !s->length || switches(c, s->length, s->length + 1);
    }
    const int64_t most = apart ? 1 : c->w->real_rows < c->w->c.documents ? c->w->real_rows : c->w->c.documents;
    for (int64_t i = 0; i < count && !err->code; i += most) {
        const int64_t n = count - i < most ? count - i : most;
        cache_select(c, sequences[i]);
        if (apart)
            cache_append(c, ids + i, 1, logits + i * cache_vocab(c), err);
        else
            step(c, sequences + i, ids + i, n, logits + i * cache_vocab(c), err);
    }
    return err->code;
}
