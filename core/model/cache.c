/* cache — keys and values of one growing sequence. A full layer keeps all of them; a layer with a window of W needs the last
 * W - 1 in front of new rows, and keeps them at the end of a buffer of twice that: when it is full, they move to its front.
 * So the rows are always contiguous and increasing, as attention wants them. Keys are kept behind norm and rope.
 *
 * Where rotary tables grow with the length (dynamic), old keys keep the frequencies they were made with, as in the reference;
 * where they switch (longrope), the sequence is computed anew. */
#include "model/pass.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *k, *v;         /* dev (rows, kv width) */
    int64_t rows;        /* of the buffer */
    int64_t first, used; /* index in the sequence of the first row held; rows held */
} layer_cache;

struct kv_cache {
    workspace *w;
    int64_t capacity, length; /* rows, virtual embedding rows included */
    int64_t virtual_embed;
    layer_cache *layers;
    int32_t *positions; /* dev (capacity): position of row i */
    int32_t *ids;       /* host: the tokens so far */
    int64_t tokens;
    void *memory;
};

static int64_t width_of(const model *m) {
    return m->shape.kv_heads * m->shape.head_dim * dtype_bytes(m->activation);
}

static int64_t buffer_rows(const kv_cache *c, int64_t layer) {
    const int64_t window = c->w->m->shape.window[layer], rows = 2 * (window - 1) + c->w->rows;
    return window > 0 && rows < c->capacity ? rows : c->capacity;
}

int cache_create(workspace *w, int64_t capacity, kv_cache **out, graft_error *err) {
    model *m = w->m;
    kernels *k = m->device;
    const void *rows;
    void *gradient;
    const int64_t virtual_kv = adapt_virtual_kv(w->a, &rows, &gradient);
    kv_cache *c = mem_new(1, sizeof *c);
    *out = NULL;
    *c = (kv_cache){.w = w, .virtual_embed = adapt_virtual_embed(w->a, &rows, &gradient)};
    c->capacity = (capacity < 1 ? 1 : capacity) + c->virtual_embed;
    c->layers = mem_new((size_t)m->shape.layers, sizeof *c->layers);
    c->ids = mem_new((size_t)c->capacity, sizeof *c->ids);
    int64_t bytes = 0;
    for (int64_t l = 0; l < m->shape.layers; l++)
        bytes += 2 * (c->layers[l].rows = buffer_rows(c, l)) * width_of(m);
    c->memory = k->alloc(k, bytes);
    c->positions = k->alloc(k, c->capacity * 4);
    if (!c->memory || !c->positions) {
        cache_free(c);
        return fail(err, GRAFT_FAILED, "no memory for %lld bytes of keys and values (%lld tokens)", (long long)bytes,
                    (long long)capacity);
    }
    char *at = c->memory;
    for (int64_t l = 0; l < m->shape.layers; l++) {
        c->layers[l].k = at;
        c->layers[l].v = at + c->layers[l].rows * width_of(m);
        at += 2 * c->layers[l].rows * width_of(m);
    }
    int32_t *positions = mem_new((size_t)c->capacity, sizeof *positions);
    for (int64_t i = 0; i < c->capacity; i++)
        positions[i] = (int32_t)(virtual_kv + i);
    k->upload(k, c->positions, positions, c->capacity * 4);
    free(positions);
    *out = c;
    return GRAFT_OK;
}

void cache_free(kv_cache *c) {
    if (!c) return;
    kernels *k = c->w->m->device;
    k->release(k, c->memory);
    k->release(k, c->positions);
    free(c->layers);
    free(c->ids);
    free(c);
}

static void forget(kv_cache *c) {
    c->length = 0;
    for (int64_t l = 0; l < c->w->m->shape.layers; l++)
        c->layers[l].first = c->layers[l].used = 0;
}

void cache_clear(kv_cache *c) {
    forget(c);
    c->tokens = 0;
}

int64_t cache_length(const kv_cache *c) {
    return c->tokens;
}

int64_t cache_vocab(const kv_cache *c) {
    return c->w->m->shape.vocab;
}

static void append(kernels *k, dtype type, char *to, const void *from, int64_t stride, int64_t rows, int64_t cols) {
    if (stride == cols)
        k->copy(k, to, from, rows * cols * dtype_bytes(type));
    else
        copy_columns(k, (columns){to, type, cols}, (columns){(void *)(uintptr_t)from, type, stride}, rows, cols, 0);
}

void cache_extend(kv_cache *c, int64_t layer, const pass *p, attention_call *a, attention_span *span) {
    layer_cache *l = &c->layers[layer];
    const int64_t bytes = width_of(p->m), cols = a->kv_heads * a->head_dim;
    if (l->used + p->rows > l->rows) {
        const int64_t keep = a->window - 1, gone = l->used - keep; /* used > 2·keep here: the ranges do not overlap */
        p->k->copy(p->k, l->k, l->k + gone * bytes, keep * bytes);
        p->k->copy(p->k, l->v, l->v + gone * bytes, keep * bytes);
        l->first += gone;
        l->used = keep;
    }
    append(p->k, p->type, l->k + l->used * bytes, a->k, a->k_stride, p->rows, cols);
    append(p->k, p->type, l->v + l->used * bytes, a->v, a->v_stride, p->rows, cols);
    l->used += p->rows;
    a->k = l->k;
    a->v = l->v;
    a->k_stride = a->v_stride = cols;
    a->k_pos = c->positions + l->first;
    *span = (attention_span){0, p->rows, 0, l->used};
    a->spans = span;
    a->span_count = 1;
}

/* Rows ids[0..count), of a sequence whose tables are those for `longest` rows. */
static int run(kv_cache *c, const int32_t *ids, int64_t count, int64_t longest, float *logits, graft_error *err) {
    for (int64_t done = 0; done < count;) {
        const int64_t n = count - done < c->w->real_rows ? count - done : c->w->real_rows;
        pass p;
        if (pass_begin_cached(c->w, c, ids + done, n, c->length, longest, &p, err)) return err->code;
        const void *x = forward(&p, NULL, NULL);
        c->length += p.rows;
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

int cache_append(kv_cache *c, const int32_t *ids, int64_t count, float *logits, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    const int64_t longest = c->virtual_embed + c->tokens + count;
    if (count < 1) return fail(err, GRAFT_FAILED, "no token to append: a sequence begins with at least one");
    if (longest > c->capacity)
        return fail(err, GRAFT_FAILED, "%lld tokens; the cache was made for %lld", (long long)(c->tokens + count),
                    (long long)(c->capacity - c->virtual_embed));
    memcpy(c->ids + c->tokens, ids, (size_t)count * sizeof *ids);
    if (switches(c, c->length, longest)) {
        forget(c);
        run(c, c->ids, c->tokens + count, longest, logits, err);
    } else {
        run(c, ids, count, longest, logits, err);
    }
    if (!err->code) c->tokens += count;
    return err->code;
}
