/* adapt-host — the services of a callback that compute on the host, in double: reading and writing slots, SVD, QR, the round
 * trip through a quantizer, ranking, and what an adapter folder gets in place of a slot. */
#include "config/option.h"
#include "formats/targets.h"
#include "model/adapt-private.h"
#include "model/linalg.h"
#include <stdlib.h>
#include <string.h>

static const char *name_of(const adapt_calling *c) {
    return c->a->techniques[c->i->spec].in.component->name;
}

static int fail_here(const adapt_calling *c, const char *service, const char *why) {
    return fail(c->err, GRAFT_FAILED, "%s %s at %s: %s: %s", name_of(c), adapt_hook_names[c->h], c->i->site.name,
                service, why);
}

/* ---- slots ---- */

/* The dev pointer and element count of a slot (or of "W", "dA") that a host service may touch in this hook. */
static void *host_slot(adapt_calling *c, const char *name, int writes, int64_t *count) {
    formula_tensor names[ADAPT_BINDINGS];
    const int32_t n = adapt_fill_names(c->a, c->i, c->h, names);
    const int allowed = c->h == HOOK_INIT || c->h == HOOK_OBSERVE || c->h == HOOK_AFTER_STEP || c->h == HOOK_SAVE;
    *count = 0;
    for (int32_t t = 0; t < n; t++) {
        if (strcmp(names[t].name, name) != 0) continue;
        if (!allowed || !names[t].may || (writes && !(names[t].may & FORMULA_WRITE)) ||
            names[t].shape[0] == FORMULA_ROWS || names[t].kind == FORMULA_WEIGHT || names[t].stride[0])
            break;
        int64_t elements = 1;
        for (int32_t d = 0; d < names[t].rank; d++)
            elements *= names[t].shape[d];
        *count = elements;
        if (t == NAME_W && writes) c->wrote_w = 1;
        c->asked = 1;
        return adapt_open(c, UINT64_C(1) << t, writes ? UINT64_C(1) << t : 0) ? NULL : c->bindings[t].data;
    }
    fail(c->err, GRAFT_FAILED, "%s %s at %s: no slot \"%s\" that the host may %s here", name_of(c),
         adapt_hook_names[c->h], c->i->site.name, name, writes ? "write" : "read");
    return NULL;
}

static double *slot_doubles(adapt_calling *c, const char *name, int64_t *count) {
    void *data = host_slot(c, name, 0, count);
    double *values = mem_new((size_t)*count + 1, sizeof *values);
    if (!data || c->checking) return values;
    const dtype real = c->a->device->real;
    void *raw = mem_new((size_t)*count + 1, (size_t)dtype_bytes(real));
    c->a->device->download(c->a->device, raw, data, *count * dtype_bytes(real));
    dtype_convert(values, F64, raw, real, *count);
    free(raw);
    return values;
}

static void store_doubles(adapt_calling *c, const char *name, const double *values) {
    int64_t count;
    void *data = host_slot(c, name, 1, &count);
    if (!data || c->checking) return;
    const dtype real = c->a->device->real;
    void *raw = mem_new((size_t)count + 1, (size_t)dtype_bytes(real));
    dtype_convert(raw, real, values, F64, count);
    c->a->device->upload(c->a->device, data, raw, count * dtype_bytes(real));
    free(raw);
}

void adapt_read_slot(graft_call *g, const char *name, double *values) {
    adapt_calling *c = (adapt_calling *)g;
    if (c->err->code) return;
    int64_t count;
    double *own = slot_doubles(c, name, &count);
    memcpy(values, own, (size_t)count * sizeof *values);
    free(own);
}

void adapt_write_slot(graft_call *g, const char *name, const double *values) {
    adapt_calling *c = (adapt_calling *)g;
    if (!c->err->code) store_doubles(c, name, values);
}

int64_t adapt_slot_size(graft_call *g, const char *name) {
    adapt_calling *c = (adapt_calling *)g;
    int64_t count = 0;
    if (!c->err->code) host_slot(c, name, 0, &count);
    return count;
}

/* ---- linear algebra ---- */

/* rows and columns of a 2-D name */
static int shape_of(adapt_calling *c, const char *name, int64_t *m, int64_t *n) {
    formula_tensor names[ADAPT_BINDINGS];
    const int32_t total = adapt_fill_names(c->a, c->i, c->h, names);
    for (int32_t t = 0; t < total; t++)
        if (strcmp(names[t].name, name) == 0 && names[t].rank >= 1) {
            *m = names[t].shape[0];
            *n = names[t].rank > 1 ? names[t].shape[1] : 1;
            return 1;
        }
    return 0;
}

void adapt_svd(graft_call *g, const char *of, const char *u, const char *s, const char *vt) {
    adapt_calling *c = (adapt_calling *)g;
    int64_t m = 0, n = 0, r = 0, one = 0, count;
    if (c->err->code) return;
    if (!shape_of(c, of, &m, &n) || !shape_of(c, s, &r, &one)) {
        fail_here(c, "svd", "unknown slot");
        return;
    }
    double *a = slot_doubles(c, of, &count);
    double *us = mem_new((size_t)(m * r) + 1, sizeof *us), *ss = mem_new((size_t)r + 1, sizeof *ss);
    double *vs = mem_new((size_t)(r * n) + 1, sizeof *vs);
    if (!c->checking && !c->err->code) linalg_svd(a, m, n, r, us, ss, vs, c->err);
    store_doubles(c, u, us);
    store_doubles(c, s, ss);
    store_doubles(c, vt, vs);
    free(a);
    free(us);
    free(ss);
    free(vs);
}

void adapt_qr(graft_call *g, const char *of, const char *q, const char *r) {
    adapt_calling *c = (adapt_calling *)g;
    int64_t m = 0, n = 0, count;
    if (c->err->code) return;
    if (!shape_of(c, of, &m, &n)) {
        fail_here(c, "qr", "unknown slot");
        return;
    }
    const int64_t k = m < n ? m : n;
    double *a = slot_doubles(c, of, &count);
    double *qs = mem_new((size_t)(m * k) + 1, sizeof *qs), *rs = mem_new((size_t)(k * n) + 1, sizeof *rs);
    if (!c->checking && !c->err->code) linalg_qr(a, m, n, qs, rs, c->err);
    store_doubles(c, q, qs);
    store_doubles(c, r, rs);
    free(a);
    free(qs);
    free(rs);
}

void adapt_quantize(graft_call *g, const char *from, const char *to) {
    adapt_calling *c = (adapt_calling *)g;
    int64_t count, count_to;
    if (c->err->code) return;
    void *source = host_slot(c, from, 0, &count), *target = host_slot(c, to, 1, &count_to);
    c->a->techniques[c->i->spec].quantizes = 1;
    if (c->err->code || c->checking) return;
    if (count != count_to || count != c->i->site.out * c->i->site.in) {
        fail_here(c, "quantize", "both slots must have the shape of W");
        return;
    }
    if (source != target) c->a->device->copy(c->a->device, target, source, count * dtype_bytes(c->a->device->real));
    if (c->a->round_trip) c->a->round_trip(c->a->round_trip_context, c->a->points[c->i->point].tensor, target, c->err);
}

/* Unsigned numbers in the order of the values; -0 is 0. */
static uint64_t sort_key(double value) {
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

typedef struct {
    uint64_t key;
    int64_t place;
} ranked;

/* Few are compared each with each. */
static void rank_few(const double *values, int64_t count, int64_t *order) {
    for (int64_t i = 0; i < count; i++) {
        order[i] = 0;
        for (int64_t k = 0; k < count; k++)
            order[i] += values[k] < values[i] || (k < i && values[k] == values[i]);
    }
}

/* By one byte of the key after the other, the last first; a byte that all share is passed over. */
void adapt_rank(const double *values, int64_t count, int64_t *order) {
    enum { FEW = 32 };
    if (count <= FEW) {
        rank_few(values, count, order);
        return;
    }
    ranked *from = mem_new((size_t)count + 1, sizeof *from), *to = mem_new((size_t)count + 1, sizeof *to);
    for (int64_t i = 0; i < count; i++)
        from[i] = (ranked){sort_key(values[i]), i};
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t start[257] = {0};
        for (int64_t i = 0; i < count; i++)
            start[(from[i].key >> shift & 255) + 1]++;
        if (start[(from[0].key >> shift & 255) + 1] == count) continue;
        for (int b = 0; b < 256; b++)
            start[b + 1] += start[b];
        for (int64_t i = 0; i < count; i++)
            to[start[from[i].key >> shift & 255]++] = from[i];
        ranked *const sorted = to;
        to = from;
        from = sorted;
    }
    for (int64_t i = 0; i < count; i++)
        order[from[i].place] = i;
    free(from);
    free(to);
}

/* ---- what a folder gets ---- */

static saved_slot *saved_of(instance *i, const technique *t, int32_t slot) {
    if (!i->saved) i->saved = mem_new((size_t)slot_count(t) + 1, sizeof *i->saved);
    return &i->saved[slot];
}

void adapt_forget_saved(instance *i, int32_t slots) {
    for (int32_t s = 0; i->saved && s < slots; s++) {
        free(i->saved[s].values);
        free(i->saved[s].kept);
    }
    free(i->saved);
    i->saved = NULL;
}

void adapt_keep(graft_call *g, const char *name, int32_t dimension, const double *mask) {
    adapt_calling *c = (adapt_calling *)g;
    const technique *t = &c->a->techniques[c->i->spec];
    int32_t slot = 0, named = 1;
    if (c->err->code) return;
    while (slot < slot_count(t) && (strcmp(slot_of(t, slot)->name, name) != 0 || slot_of(t, slot)->role != GRAFT_PARAM))
        slot++;
    if (c->h != HOOK_SAVE || slot == slot_count(t) || dimension < 0 || dimension >= c->i->slots[slot].rank) {
        fail_here(c, "keep", "is for dimensions of PARAM slots, in save");
        return;
    }
    if (c->checking) return;
    for (int32_t s = 0; c->i->saved && s < slot_count(t); s++)
        named &= !c->i->saved[s].kept;
    const int64_t count = c->i->slots[slot].shape[dimension];
    saved_slot *saved = saved_of(c->i, t, slot);
    saved->dimension = dimension;
    saved->named = named;
    saved->kept = mem_grow(saved->kept, (size_t)count + 1, 1);
    for (int64_t k = 0; k < count; k++)
        saved->kept[k] = mask[k] != 0;
}

/* Where the file keeps this key of a site that a pattern names: its place among the patterns' values; NULL: it is the file's own. */
static double *pattern_value(const adapt_calling *c, const char *key) {
    technique *t = &c->a->techniques[c->i->spec];
    const plugin_component *p = t->in.component;
    const struct {
        const char *option;
        const char *const *names;
        int32_t count;
        double *values;
    } kinds[] = {
        {"rank",  t->in.rank_patterns,  t->in.rank_pattern_count,  t->saved_ranks },
        {"alpha", t->in.alpha_patterns, t->in.alpha_pattern_count, t->saved_alphas}
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const int row = option_find(p->options, p->option_count, kinds[k].option);
        const int32_t found = targets_pattern(kinds[k].names, kinds[k].count, c->i->site.name);
        if (row >= 0 && found >= 0 && p->options[row].file && strcmp(p->options[row].file, key) == 0)
            return &kinds[k].values[found];
    }
    return NULL;
}

void adapt_field(graft_call *g, const char *key, const char *value) {
    adapt_calling *c = (adapt_calling *)g;
    technique *t = &c->a->techniques[c->i->spec];
    if (c->err->code) return;
    if (c->h != HOOK_SAVE) {
        fail_here(c, "field", "is for save");
        return;
    }
    double *const in_pattern = c->checking ? NULL : pattern_value(c, key);
    if (in_pattern) {
        *in_pattern = strtod(value, NULL);
        return;
    }
    int32_t f = 0;
    while (f < t->field_count && strcmp(t->fields[f].key, key) != 0)
        f++;
    if (c->checking || (f < t->field_count && strcmp(t->fields[f].value, value) == 0)) return;
    if (f < t->field_count) {
        fail_here(c, "field", "two sites gave one key two values");
        return;
    }
    mem_reserve(t->fields, t->field_count, t->field_capacity);
    t->fields[t->field_count++] = (graft_field){.key = arena_copy(&c->a->names, key, strlen(key)),
                                                .value = arena_copy(&c->a->names, value, strlen(value))};
}

/* The slot of another role with the same file name; -1: none. */
static int32_t replaced_by(const technique *t, int32_t temp) {
    const char *const file = slot_of(t, temp)->file;
    for (int32_t s = 0; file && s < slot_count(t); s++)
        if (s != temp && slot_of(t, s)->file && strcmp(slot_of(t, s)->file, file) == 0) return s;
    return -1;
}

int32_t adapt_converts(const adapt *a, int32_t spec) {
    const technique *t = &a->techniques[spec];
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->role == GRAFT_TEMP && replaced_by(t, s) >= 0) return 1;
    return 0;
}

void adapt_take_saved(adapt_calling *c) {
    const technique *t = &c->a->techniques[c->i->spec];
    kernels *k = c->a->device;
    for (int32_t s = 0; s < slot_count(t) && !c->err->code; s++) {
        const int64_t count = c->i->slots[s].count;
        const int32_t slot = slot_of(t, s)->role == GRAFT_TEMP ? replaced_by(t, s) : -1;
        if (slot < 0 || count == 0) continue;
        void *raw = mem_new((size_t)count, (size_t)dtype_bytes(k->real));
        saved_slot *saved = saved_of(c->i, t, slot);
        saved->from = s;
        saved->values = mem_grow(saved->values, (size_t)count, sizeof *saved->values);
        k->download(k, raw, c->bindings[NAMES_FIXED + s].data, count * dtype_bytes(k->real));
        dtype_convert(saved->values, F32, raw, k->real, count);
        free(raw);
    }
}
