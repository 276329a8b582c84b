/* adapt-mask — GRAFT_MASK slots: a bit a weight, opened to elements while a callback or the core looks at them, and W held at
 * zero where they are 0. */
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 12 }; /* elements that pass through host memory at once; whole bytes of bits */

/* ---- bits and elements ---- */

static int64_t piece_at(const slot_state *s, int64_t at) {
    return s->count - at < CHUNK ? s->count - at : CHUNK;
}

/* The bits as elements of the device's real type. */
static void expand(kernels *k, const slot_state *s, void *dense) {
    uint8_t bits[CHUNK / 8];
    double values[CHUNK];
    float narrow[CHUNK];
    const int64_t wide = dtype_bytes(k->real);
    for (int64_t at = 0; at < s->count; at += CHUNK) {
        const int64_t n = piece_at(s, at);
        k->download(k, bits, (const char *)s->data + at / 8, (n + 7) / 8);
        for (int64_t e = 0; e < n; e++)
            values[e] = narrow[e] = (float)(bits[e / 8] >> e % 8 & 1);
        k->upload(k, (char *)dense + at * wide, k->real == F64 ? (const void *)values : narrow, n * wide);
    }
}

/* And back; the zeros are counted. */
static void contract(kernels *k, slot_state *s, const void *dense) {
    uint8_t bits[CHUNK / 8];
    double values[CHUNK];
    char raw[CHUNK * sizeof(double)];
    const int64_t wide = dtype_bytes(k->real);
    s->zeros = s->count;
    for (int64_t at = 0; at < s->count; at += CHUNK) {
        const int64_t n = piece_at(s, at);
        k->download(k, raw, (const char *)dense + at * wide, n * wide);
        dtype_convert(values, F64, raw, k->real, n);
        memset(bits, 0, sizeof bits);
        for (int64_t e = 0; e < n; e++) {
            const int one = values[e] != 0;
            bits[e / 8] = (uint8_t)(bits[e / 8] | one << e % 8);
            s->zeros -= one;
        }
        k->upload(k, (char *)s->data + at / 8, bits, (n + 7) / 8);
    }
}

static void count_zeros(kernels *k, slot_state *s) {
    uint8_t bits[CHUNK / 8];
    s->zeros = s->count;
    for (int64_t at = 0; at < s->count; at += CHUNK) {
        const int64_t n = piece_at(s, at);
        k->download(k, bits, (const char *)s->data + at / 8, (n + 7) / 8);
        for (int64_t e = 0; e < n; e++)
            s->zeros -= bits[e / 8] >> e % 8 & 1;
    }
}

/* ---- in a call ---- */

static int fail_room(adapt_calling *c, int64_t elements) {
    return fail(c->err, GRAFT_FAILED, "no memory for the %lld elements of a matrix of %s at %s", (long long)elements,
                c->a->techniques[c->i->spec].in.component->name, c->i->site.name);
}

/* W of a site behind a step: the master where it is trained, else read from what the layer multiplies with. */
static int open_weight(adapt_calling *c) {
    kernels *const k = c->a->device;
    const base_tensor *const t = c->a->points[c->i->point].tensor;
    formula_binding *const w = &c->bindings[NAME_W];
    if (w->data || t->trained) {
        w->data = w->data ? w->data : t->master;
        return GRAFT_OK;
    }
    c->own_w = w->data = k->alloc(k, t->out * t->in * dtype_bytes(k->real));
    if (!w->data) return fail_room(c, t->out * t->in);
    k->weight_read(k, &t->w, 0, t->out, w->data, k->real);
    return GRAFT_OK;
}

int adapt_open(adapt_calling *c, uint64_t names, uint64_t writes) {
    const technique *const t = &c->a->techniques[c->i->spec];
    kernels *const k = c->a->device;
    for (int32_t s = 0; s < slot_count(t); s++) {
        slot_state *const state = &c->i->slots[s];
        if (!state->mask || !(names >> (NAMES_FIXED + s) & 1)) continue;
        if (writes >> (NAMES_FIXED + s) & 1) c->wrote_mask |= 1 << s;
        if (c->checking || c->dense[s]) continue;
        c->dense[s] = c->bindings[NAMES_FIXED + s].data = k->alloc(k, state->count * dtype_bytes(k->real));
        if (!c->dense[s]) return fail_room(c, state->count);
        expand(k, state, c->dense[s]);
    }
    return !c->checking && c->h == HOOK_AFTER_STEP && names >> NAME_W & 1 ? open_weight(c) : GRAFT_OK;
}

void adapt_close(adapt_calling *c) {
    kernels *const k = c->a->device;
    for (int32_t s = 0; s < ADAPT_SLOTS; s++) {
        if (c->dense[s] && c->wrote_mask >> s & 1) {
            contract(k, &c->i->slots[s], c->dense[s]);
            c->i->mask_new = 1;
        }
        k->release(k, c->dense[s]);
    }
    k->release(k, c->own_w);
}

int adapt_mask(adapt *a, instance *i, void *w, int32_t *wrote, graft_error *err) {
    const technique *const t = &a->techniques[i->spec];
    const call_tensors tensors = {.w_tensor = w};
    for (int32_t s = 0; s < slot_count(t) && !err->code; s++) {
        if (!i->slots[s].mask) continue;
        char *const text = mem_format("W *= %s", slot_of(t, s)->name);
        adapt_run_init(a, i, text, &tensors, err);
        free(text);
        *wrote = 1;
    }
    return err->code;
}

/* ---- between passes ---- */

/* The gradients of trained weights, or their masters; only_new: where a mask was written since. */
static int mask_trained(adapt *a, int gradients, int only_new, graft_error *err) {
    int32_t wrote = 0;
    for (int32_t s = 0; s < a->count; s++)
        for (int32_t n = 0; n < a->techniques[s].count && !err->code; n++) {
            instance *const i = a->techniques[s].instances[n];
            const base_tensor *const t = a->points[i->point].tensor;
            if (!t || !t->trained || !t->in || (only_new && !i->mask_new)) continue;
            adapt_mask(a, i, gradients ? t->grad : t->master, &wrote, err);
            if (!gradients) i->mask_new = 0;
        }
    return err->code;
}

int adapt_mask_gradients(adapt *a, graft_error *err) {
    return a ? mask_trained(a, 1, 0, err) : GRAFT_OK;
}

int adapt_mask_trained(adapt *a, int32_t only_new, graft_error *err) {
    return mask_trained(a, 0, only_new, err);
}

int32_t adapt_mask_is_new(const adapt *a, int32_t point) {
    int32_t is = 0;
    for (int32_t n = 0; a && a->at[point] && a->at[point][n]; n++)
        is |= a->at[point][n]->mask_new;
    return is;
}

int adapt_mask_at(adapt *a, int32_t point, void *w, graft_error *err) {
    int32_t wrote = 0;
    for (int32_t n = 0; a->at[point] && a->at[point][n] && !err->code; n++)
        if (adapt_mask(a, a->at[point][n], w, &wrote, err) == GRAFT_OK) a->at[point][n]->mask_new = 0;
    return err->code;
}

int adapt_masks_read(adapt *a, graft_error *err) {
    for (int32_t s = 0; a && s < a->count; s++)
        for (int32_t n = 0; n < a->techniques[s].count; n++)
            for (int32_t k = 0; k < slot_count(&a->techniques[s]); k++) {
                instance *const i = a->techniques[s].instances[n];
                if (!i->slots[k].mask) continue;
                count_zeros(a->device, &i->slots[k]);
                i->mask_new = 1;
            }
    return a ? mask_trained(a, 0, 1, err) : GRAFT_OK;
}

int32_t adapt_masked(const adapt *a, int32_t spec, int32_t n, adapt_mask_report *out) {
    const technique *const t = &a->techniques[spec];
    if (n >= t->count) return 0;
    const instance *const i = t->instances[n];
    *out = (adapt_mask_report){.name = i->site.name, .layer = i->site.layer, .changes = i->remasks};
    for (int32_t k = 0; k < slot_count(t); k++)
        if (i->slots[k].mask) out->zeros += i->slots[k].zeros, out->all += i->slots[k].count;
    return 1;
}
