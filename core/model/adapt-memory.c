/* adapt-memory — the device memory of slots, their first values, and the hooks between passes. */
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

static int held(int32_t role) {
    return role == GRAFT_PARAM || role == GRAFT_BUFFER || role == GRAFT_STEP;
}

/* KEPT bytes of one row, in the real type even where the slot is as narrow as the activations: one layout for every precision. */
static int64_t kept_bytes(const adapt *a, const instance *i, dtype real) {
    const technique *t = &a->techniques[i->spec];
    int64_t bytes = 0;
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->role == GRAFT_KEPT) bytes += i->slots[s].count * dtype_bytes(real);
    return bytes;
}

int64_t adapt_kept_row(const adapt *a, int64_t layer, dtype activation, const kernels *device) {
    (void)activation;
    int64_t bytes = 0;
    for (int32_t p = 0; a && p < a->point_count; p++)
        for (int32_t n = 0; a->points[p].layer == layer && a->at[p] && a->at[p][n]; n++)
            bytes += kept_bytes(a, a->at[p][n], device->real);
    return bytes;
}

/* Places every KEPT slot inside its block's area: points in order, adapters in order, slots in order. */
static void lay_out_kept(adapt *a) {
    int32_t layers = 0;
    for (int32_t p = 0; p < a->point_count; p++)
        layers = a->points[p].layer + 2 > layers ? (int32_t)a->points[p].layer + 2 : layers;
    int64_t *before = mem_new((size_t)layers, sizeof *before);
    for (int32_t p = 0; p < a->point_count; p++)
        for (int32_t n = 0; a->at[p] && a->at[p][n]; n++) {
            instance *i = a->at[p][n];
            const technique *t = &a->techniques[i->spec];
            int64_t *at = &before[a->points[p].layer + 1];
            for (int32_t s = 0; s < slot_count(t); s++)
                if (slot_of(t, s)->role == GRAFT_KEPT) {
                    i->slots[s].kept_at = *at;
                    *at += i->slots[s].count * dtype_bytes(a->device->real);
                }
        }
    free(before);
}

/* 1: the slot's memory is this instance's: SHARED slots are held by the widest one, which holds nothing else. */
static int is_own(const technique *t, const instance *i, int32_t slot) {
    return ((slot_of(t, slot)->flags & GRAFT_SHARED) != 0) == (i == t->widest);
}

static int64_t slot_bytes(const slot_state *s, int64_t wide) {
    return s->mask ? (s->count + 7) / 8 : s->count * wide;
}

static void add_size(const technique *t, const instance *i, int64_t wide, adapt_bytes *out) {
    for (int32_t k = 0; k < slot_count(t); k++) {
        const int32_t role = slot_of(t, k)->role;
        const int64_t bytes = round_up(slot_bytes(&i->slots[k], wide));
        if (!held(role) || !is_own(t, i, k)) continue;
        if (role != GRAFT_PARAM) {
            out->buffers += bytes;
            continue;
        }
        out->parameters += bytes;
        out->gradients += bytes;
    }
}

void adapt_size(const adapt *a, const kernels *device, adapt_bytes *out) {
    *out = (adapt_bytes){0};
    const int64_t wide = dtype_bytes(device->real);
    for (int32_t s = 0; a && s < a->count; s++) {
        const technique *t = &a->techniques[s];
        for (int32_t n = 0; n < t->count; n++) {
            const instance *i = t->instances[n];
            add_size(t, i, wide, out);
            if (i->site.kind & (GRAFT_KV | GRAFT_EMBED))
                out->buffers += 2 * round_up(adapt_virtual_rows(a, i) * i->site.out * wide);
        }
        if (t->widest) add_size(t, t->widest, wide, out);
    }
    for (int32_t p = 0; a && p < a->param_count; p++)
        out->trainable += a->params[p].count;
}

int64_t adapt_virtual_rows(const adapt *a, const instance *i) {
    const technique *t = &a->techniques[i->spec];
    for (int32_t n = 0; n < t->number_count - BUILTIN_COUNT; n++)
        if (strcmp(t->number_names[n], "rows") == 0) return (int64_t)i->numbers[n];
    return 0;
}

static int allocate_slot(adapt *a, instance *i, int32_t s, graft_error *err) {
    const graft_slot *d = slot_of(&a->techniques[i->spec], s);
    slot_state *state = &i->slots[s];
    kernels *k = a->device;
    if (!held(d->role) || state->count == 0 || !is_own(&a->techniques[i->spec], i, s)) return GRAFT_OK;
    const int64_t bytes = slot_bytes(state, dtype_bytes(k->real));
    state->data = k->alloc(k, bytes);
    if (d->role == GRAFT_PARAM) state->grad = k->alloc(k, bytes);
    if (!state->data || (d->role == GRAFT_PARAM && !state->grad))
        return fail(err, GRAFT_FAILED, "no memory for %lld bytes of slot %s at %s", (long long)bytes, d->name,
                    i->site.name);
    if (d->values) {
        void *raw = mem_new((size_t)state->count, (size_t)dtype_bytes(k->real));
        dtype_convert(raw, k->real, d->values, F64, state->count);
        k->upload(k, state->data, raw, bytes);
        free(raw);
    }
    return GRAFT_OK;
}

/* The SHARED slots of a technique: memory, first values, and where each site sees its corner. */
static int allocate_shared(adapt *a, technique *t, graft_error *err) {
    const call_tensors none = {0};
    for (int32_t s = 0; t->widest && s < slot_count(t) && !err->code; s++) {
        if (!is_own(t, t->widest, s) || allocate_slot(a, t->widest, s, err)) continue;
        adapt_slot_init(a, t->widest, s, &none, err);
        for (int32_t n = 0; n < t->count; n++)
            t->instances[n]->slots[s].data = t->widest->slots[s].data;
    }
    return err->code;
}

int adapt_allocate(adapt *a, kernels *device, uint64_t seed, graft_error *err) {
    a->device = device;
    a->seed = seed;
    if (strcmp(device->name, "cpu") != 0) /* the references run what the plugins wrote */
        a->textbook = 1;
    lay_out_kept(a);
    for (int32_t t = 0; t < a->count && !err->code; t++)
        for (int32_t n = 0; n < a->techniques[t].count && !err->code; n++) {
            instance *i = a->techniques[t].instances[n];
            for (int32_t s = 0; s < slot_count(&a->techniques[t]) && !err->code; s++)
                allocate_slot(a, i, s, err);
            if (i->site.kind & (GRAFT_KV | GRAFT_EMBED)) {
                const int64_t bytes = adapt_virtual_rows(a, i) * i->site.out * dtype_bytes(device->real);
                i->virtual_rows = device->alloc(device, bytes);
                i->virtual_grad = device->alloc(device, bytes);
            }
        }
    for (int32_t t = 0; t < a->count && !err->code; t++)
        allocate_shared(a, &a->techniques[t], err);
    for (int32_t p = 0; p < a->param_count; p++)
        adapt_point_param(&a->params[p]);
    for (int32_t p = 0; p < a->buffer_count; p++)
        adapt_point_param(&a->buffers[p]);
    return err->code;
}

/* Where a listed tensor lies: its slot, or the base tensor's master (there once the model is loaded). */
void adapt_point_param(adapt_param *p) {
    if (p->site) {
        p->data = p->site->slots[p->slot].data;
        p->grad = p->site->slots[p->slot].grad;
    } else {
        p->data = p->base->master;
        p->grad = p->base->grad;
    }
}

static void release_instance(kernels *k, const technique *t, instance *i) {
    for (int32_t s = 0; s < slot_count(t); s++) {
        if (!is_own(t, i, s)) continue;
        k->release(k, i->slots[s].data);
        k->release(k, i->slots[s].grad);
    }
    k->release(k, i->virtual_rows);
    k->release(k, i->virtual_grad);
}

void adapt_release_device(adapt *a) {
    for (int32_t t = 0; a->device && t < a->count; t++) {
        for (int32_t n = 0; n < a->techniques[t].count; n++)
            release_instance(a->device, &a->techniques[t], a->techniques[t].instances[n]);
        if (a->techniques[t].widest) release_instance(a->device, &a->techniques[t], a->techniques[t].widest);
    }
}

/* ---- first values ---- */

static int init_uses_weight(const instance *i) {
    for (int32_t p = 0; p < i->program_count; p++) {
        uint64_t reads = 0, writes = 0;
        formula_uses(i->programs[p].program, &reads, &writes);
        if (i->programs[p].at == HOOK_INIT && ((reads | writes) >> NAME_W & 1)) return 1;
    }
    return 0;
}

int32_t adapt_reads_weight(const adapt *a, int32_t point) {
    for (int32_t n = 0; a && a->at[point] && a->at[point][n]; n++) {
        const instance *i = a->at[point][n];
        const technique *t = &a->techniques[i->spec];
        if (init_uses_weight(i)) return 1;
        if (t->functions->init && i->site.kind == GRAFT_LINEAR && !i->site.onehot)
            return 1; /* it may read W through the host services */
    }
    return 0;
}

/* Whether observe filled it: then its init ran before. */
static int is_observed(const instance *i, int32_t slot) {
    return i->observed >> (NAMES_FIXED + slot) & 1;
}

/* First values are made from the weight that the run multiplies, which is behind the quantizer (DoRA's lengths); an init hook sees
 * it before, and has the quantizer as a service. A copy on the device, NULL where `w` itself will do. */
static void *quantized_copy(adapt *a, const instance *i, const void *w, graft_error *err) {
    kernels *k = a->device;
    const int64_t bytes = i->site.out * i->site.in * dtype_bytes(k->real);
    if (!w || !a->round_trip || a->techniques[i->spec].functions->init || !init_uses_weight(i)) return NULL;
    void *copy = k->alloc(k, bytes);
    if (!copy) {
        fail(err, GRAFT_FAILED, "no memory for a copy of %s", i->site.name);
        return NULL;
    }
    k->copy(k, copy, w, bytes);
    a->round_trip(a->round_trip_context, a->points[i->point].tensor, copy, err);
    return copy;
}

static int init_instance(adapt *a, instance *i, void *w, int32_t *replaced, graft_error *err) {
    if (i->initialized) return GRAFT_OK;
    void *copy = quantized_copy(a, i, w, err);
    const call_tensors t = {.w_tensor = copy ? copy : w};
    i->initialized = 1;
    for (int32_t s = 0; s < slot_count(&a->techniques[i->spec]) && !err->code; s++)
        if (held(slot_of(&a->techniques[i->spec], s)->role) && is_own(&a->techniques[i->spec], i, s) &&
            !is_observed(i, s))
            adapt_slot_init(a, i, s, &t, err);
    if (copy) a->device->release(a->device, copy);
    if (err->code || adapt_call_init(a, i, i->init_rounds - 1, w, replaced, err)) return err->code;
    if (w) adapt_mask(a, i, w, replaced, err);
    i->mask_new = 0;
    return err->code;
}

int adapt_init_at(adapt *a, int32_t point, void *w, int32_t *replaced, graft_error *err) {
    for (int32_t n = 0; a->at[point] && a->at[point][n] && !err->code; n++)
        init_instance(a, a->at[point][n], w, replaced, err);
    return err->code;
}

int32_t adapt_init_rounds(const adapt *a, int32_t point) {
    int32_t most = 1;
    for (int32_t n = 0; a && a->at[point] && a->at[point][n]; n++)
        most = a->at[point][n]->init_rounds > most ? a->at[point][n]->init_rounds : most;
    return most;
}

int adapt_init_round(adapt *a, int32_t point, int64_t round, void *w, graft_error *err) {
    int32_t replaced = 0;
    for (int32_t n = 0; a->at[point] && a->at[point][n] && !err->code; n++)
        if (round < a->at[point][n]->init_rounds - 1) adapt_call_init(a, a->at[point][n], round, w, &replaced, err);
    if (replaced) fail(err, GRAFT_FAILED, "%s: W is written in the last round of init alone", a->points[point].name);
    return err->code;
}

int adapt_ready(adapt *a, graft_error *err) {
    int32_t replaced = 0;
    for (int32_t t = 0; t < a->count && !err->code; t++)
        for (int32_t n = 0; n < a->techniques[t].count && !err->code; n++)
            init_instance(a, a->techniques[t].instances[n], NULL, &replaced, err);
    for (int32_t p = 0; p < a->param_count; p++)
        adapt_point_param(&a->params[p]);
    return err->code ? err->code : adapt_prepare(a, err);
}

/* ---- between passes ---- */

static int each(adapt *a, hook h, const call_tensors *t, int64_t step, int64_t steps, graft_error *err) {
    for (int32_t s = 0; s < a->count && !err->code; s++)
        for (int32_t n = 0; n < a->techniques[s].count && !err->code; n++)
            adapt_call(a, a->techniques[s].instances[n], h, NULL, t, step, steps, NULL, err);
    return err->code;
}

/* The hooks of virtual rows see no pass: their rows are the run's own, computed once per change of parameters. */
static int virtual_call(adapt *a, hook h, graft_error *err) {
    for (int32_t s = 0; s < a->count && !err->code; s++)
        for (int32_t n = 0; n < a->techniques[s].count && !err->code; n++) {
            instance *i = a->techniques[s].instances[n];
            if (!(i->site.kind & (GRAFT_KV | GRAFT_EMBED))) continue;
            kernels *k = a->device;
            const int64_t rows = adapt_virtual_rows(a, i);
            adapt_pass p = {.device = k, .activation = k->real, .rows = rows, .capacity = rows};
            p.scratch = k->alloc(k, adapt_instance_scratch(a, i, rows, k->real, k->real));
            const call_tensors t = {.y = i->virtual_rows, .dy = i->virtual_grad};
            adapt_call(a, i, h, &p, &t, 0, 0, NULL, err);
            if (h == HOOK_BACKWARD) k->zero(k, i->virtual_grad, rows * i->site.out * dtype_bytes(k->real));
            k->release(k, p.scratch);
        }
    return err->code;
}

int adapt_prepare(adapt *a, graft_error *err) {
    const call_tensors none = {0};
    if (!a) return GRAFT_OK;
    for (int32_t s = 0; s < a->count && !err->code; s++)
        for (int32_t n = 0; n < a->techniques[s].count && !err->code; n++) {
            instance *i = a->techniques[s].instances[n];
            call_tensors t = none;
            if (a->points[i->point].tensor && i->site.kind == GRAFT_LINEAR && !i->site.onehot)
                t.w = &a->points[i->point].tensor->w;
            adapt_call(a, i, HOOK_PREPARE, NULL, &t, 0, 0, NULL, err);
        }
    return err->code ? err->code : virtual_call(a, HOOK_FORWARD, err);
}

int adapt_regularize(adapt *a, int64_t step, int64_t steps, double *loss, graft_error *err) {
    if (!a || virtual_call(a, HOOK_BACKWARD, err) || steps == 0) return err->code;
    kernels *k = a->device;
    void *sum = k->alloc(k, 8);
    const call_tensors t = {.loss = sum};
    each(a, HOOK_REGULARIZE, &t, step, steps, err);
    double value = 0;
    float narrow = 0;
    k->download(k, k->real == F64 ? (void *)&value : (void *)&narrow, sum, dtype_bytes(k->real));
    *loss += k->real == F64 ? value : (double)narrow;
    k->release(k, sum);
    return err->code;
}

/* The optimizer moved every entry of the trained weights: those that masks hold go back to zero, before the techniques look at
 * them, and once more where these wrote other masks. */
int adapt_after_step(adapt *a, int64_t step, int64_t steps, graft_error *err) {
    int32_t rounds = 0;
    if (!a || adapt_mask_trained(a, 0, err)) return err->code;
    a->step = step;
    a->steps = steps;
    for (int32_t s = 0; s < a->count; s++)
        rounds = a->techniques[s].rounds > rounds ? a->techniques[s].rounds : rounds;
    for (int64_t round = 0; round < rounds; round++)
        for (int32_t s = 0; s < a->count; s++)
            for (int32_t n = 0; round < a->techniques[s].rounds && n < a->techniques[s].count && !err->code; n++)
                adapt_call_round(a, a->techniques[s].instances[n], round, err);
    return err->code ? err->code : adapt_mask_trained(a, 1, err);
}

int adapt_check_length(adapt *a, int64_t steps, graft_error *err) {
    a->steps = steps;
    for (int32_t s = 0; s < a->count; s++)
        for (int32_t n = 0; n < a->techniques[s].count && !err->code; n++)
            adapt_check(a, a->techniques[s].instances[n], HOOK_AFTER_STEP, NULL, err);
    a->steps = 0;
    return err->code;
}

int32_t adapt_goes_by_length(const adapt *a, int32_t spec) {
    const technique *const t = &a->techniques[spec];
    int32_t goes = t->functions->regularize != NULL;
    for (int32_t n = 0; n < t->count; n++)
        goes |= t->instances[n]->steps_on;
    return goes;
}

void adapt_enable(adapt *a, int32_t spec, int32_t on) {
    for (int32_t s = 0; a && s < a->count; s++)
        if (spec < 0 || s == spec) a->techniques[s].enabled = on;
}

/* ---- what others ask ---- */

int32_t adapt_replaces(const adapt *a, int32_t spec) {
    for (int32_t s = 0; a && s < a->count; s++)
        for (int32_t n = 0; (spec < 0 || s == spec) && n < a->techniques[s].count; n++)
            if (a->techniques[s].instances[n]->replaces) return 1;
    return 0;
}

static int64_t virtual_of(const adapt *a, int32_t kind, const void **rows, void **gradient) {
    for (int32_t s = 0; a && s < a->count; s++)
        for (int32_t n = 0; a->techniques[s].enabled && n < a->techniques[s].count; n++) {
            const instance *i = a->techniques[s].instances[n];
            if (i->site.kind != kind) continue;
            *rows = i->virtual_rows;
            *gradient = i->virtual_grad;
            return adapt_virtual_rows(a, i);
        }
    return 0;
}

int64_t adapt_virtual_kv(const adapt *a, const void **rows, void **gradient) {
    return virtual_of(a, GRAFT_KV, rows, gradient);
}

int64_t adapt_virtual_embed(const adapt *a, const void **rows, void **gradient) {
    return virtual_of(a, GRAFT_EMBED, rows, gradient);
}

int64_t adapt_lowest_layer(const adapt *a) {
    int64_t lowest = INT64_MAX;
    for (int32_t p = 0; a && p < a->param_count; p++) {
        const adapt_param *param = &a->params[p];
        const int64_t layer = param->base ? param->base->layer : a->points[param->site->point].layer;
        const int32_t whole = param->site && param->site->site.kind & (GRAFT_KV | GRAFT_EMBED);
        /* outside blocks: the final norm and the head (layer -1) lie above all of them; an embedding below */
        const int32_t table =
            param->base ? param->base->in > 0 && strcmp(param->base->module, "lm_head") != 0 : param->site->site.onehot;
        const int32_t above = layer < 0 && !whole && !table;
        if (above) continue;
        lowest = layer < lowest ? layer : lowest;
    }
    return lowest;
}

const adapt_param *adapt_params(const adapt *a, int32_t *count) {
    *count = a ? a->param_count : 0;
    return a ? a->params : NULL;
}

const adapt_param *adapt_buffers(const adapt *a, int32_t *count) {
    *count = a ? a->buffer_count : 0;
    return a ? a->buffers : NULL;
}

int32_t adapt_at(const adapt *a, int32_t point) {
    int32_t n = 0;
    while (a && a->at[point] && a->at[point][n])
        n++;
    return n;
}

int32_t adapt_site_kind(const adapt *a, int32_t spec, int32_t n) {
    return a->techniques[spec].instances[n]->site.kind;
}

int32_t adapt_site(const adapt *a, int32_t spec, int32_t n) {
    return n < a->techniques[spec].count ? a->techniques[spec].instances[n]->point : -1;
}

const plugin_component *adapt_component(const adapt *a, int32_t spec) {
    return a->techniques[spec].in.component;
}

int adapt_is_lowrank(const adapt *a, const instance *i) {
    const technique *const t = &a->techniques[i->spec];
    for (int32_t s = 0; s < slot_count(t) && t->lowrank[0] >= 0; s++)
        if (slot_of(t, s)->role == GRAFT_PARAM && i->slots[s].count > 0 && s != t->lowrank[0] && s != t->lowrank[1])
            return 0;
    return t->lowrank[0] >= 0;
}

int32_t adapt_lowrank_site(const adapt *a, int32_t spec, int32_t n, const adapt_param **A, const adapt_param **B,
                           double *s) {
    const technique *const t = &a->techniques[spec];
    if (n >= t->count || !adapt_is_lowrank(a, t->instances[n])) return 0;
    *A = *B = NULL;
    for (int32_t p = 0; p < a->param_count; p++) {
        if (a->params[p].site != t->instances[n]) continue;
        if (a->params[p].slot == t->lowrank[0]) *A = &a->params[p];
        if (a->params[p].slot == t->lowrank[1]) *B = &a->params[p];
    }
    *s = t->instances[n]->numbers[t->lowrank[2]];
    return *A && *B;
}

void adapt_set_round_trip(adapt *a, void (*round_trip)(void *, const base_tensor *, void *, graft_error *),
                          void *context) {
    a->round_trip = round_trip;
    a->round_trip_context = context;
}

int32_t adapt_needs_quantizer(const adapt *a, int32_t spec) {
    return a->techniques[spec].quantizes;
}

void adapt_set_textbook(adapt *a, int32_t on) {
    a->textbook = on;
}

void adapt_describe(const adapt *a, FILE *to) {
    for (int32_t s = 0; a && s < a->count; s++) {
        const technique *t = &a->techniques[s];
        strbuf left = {0};
        int64_t held_weights = 0;
        for (int32_t n = 0; n < t->count; n++)
            for (int32_t k = 0; k < slot_count(t); k++)
                held_weights += t->instances[n]->slots[k].mask ? t->instances[n]->slots[k].count : 0;
        fprintf(to, "%s%s%s: %d sites", t->in.name, *t->in.name ? " = " : "", t->in.component->name, (int)t->count);
        if (held_weights)
            fprintf(to, ", masks over %lld weights, %lld bytes", (long long)held_weights, (long long)held_weights / 8);
        fputc('\n', to);
        adapt_say_left_out(t, &left);
        if (left.text) fputs(left.text, to);
        strbuf_free(&left);
    }
}
