/* optimizer — the state of everything that is trained, and its steps. */
#include "config/option.h"
#include "run/optimizer-private.h"
#include <stdlib.h>
#include <string.h>

static void name_numbers(optimizer *o) {
    static const char *const fixed_names[NUMBERS_FIXED] = {"size", "matrix", "out", "in", "lr", "t"};
    const plugin_component *const c = o->component;
    double unused;
    o->number_names = mem_new((size_t)(c->option_count + c->slot_count + NUMBERS_FIXED), sizeof *o->number_names);
    for (int32_t i = 0; i < c->option_count; i++)
        if (option_number(&c->options[i], o->config, &unused)) o->number_names[o->number_count++] = c->options[i].key;
    for (int32_t s = 0; s < c->slot_count; s++)
        if (c->slots[s].role == GRAFT_NUMBER) o->number_names[o->number_count++] = c->slots[s].name;
    o->first_fixed = o->number_count;
    for (int32_t f = 0; f < NUMBERS_FIXED; f++)
        o->number_names[o->number_count++] = fixed_names[f];
}

int optimizer_create(const plugin_component *component, const void *config, const optimizer_settings *settings,
                     const adapt_param *params, int32_t count, kernels *device, optimizer **out, graft_error *err) {
    optimizer *const o = mem_new(1, sizeof *o);
    *o = (optimizer){.component = component,
                     .config = config,
                     .device = device,
                     .seed = settings->seed,
                     .state_bits = settings->state_bits,
                     .param_count = count};
    *out = o;
    if (component->slot_count > OPTIMIZER_SLOTS)
        return fail(err, GRAFT_FAILED, "%s: %d slots, at most %d", component->name, (int)component->slot_count,
                    OPTIMIZER_SLOTS);
    name_numbers(o);
    o->shape_of = mem_new((size_t)count + 1, sizeof *o->shape_of);
    o->names = mem_new((size_t)count + 1, sizeof *o->names);
    o->slots = mem_new((size_t)count * (size_t)component->slot_count + 1, sizeof *o->slots);
    optimizer_group *const groups = mem_new((size_t)count + 1, sizeof *groups);
    optimizer_groups(component, settings, params, count, groups, err);
    for (int32_t p = 0; p < count && !err->code; p++) {
        o->names[p] = params[p].name;
        o->shape_of[p] = optimizer_shape_of(o, &params[p], &groups[p], err);
    }
    free(groups);
    return err->code;
}

/* ---- memory ---- */

static int64_t slot_bytes(const optimizer *o, const optimizer_shape *c, int32_t s) {
    return c->store[s] == STORE_PLAIN ? c->slot_count[s] * dtype_bytes(o->device->real) : c->slot_count[s];
}

static int64_t scale_count(const optimizer_shape *c, int32_t s) {
    return c->store[s] == STORE_PLAIN ? 0 : (c->slot_count[s] + BLOCKS8_BLOCK - 1) / BLOCKS8_BLOCK;
}

/* Bytes of the buffer that parameters take turns to use: of a TEMP slot, or of the widened form of an 8-bit state. */
static int64_t shared_bytes(const optimizer *o, int32_t s) {
    int64_t most = 0;
    for (int32_t c = 0; c < o->shape_count; c++)
        if (slot_at(o, s)->role == GRAFT_TEMP || o->shapes[c].store[s] != STORE_PLAIN)
            most = optimizer_seen(&o->shapes[c], s) > most ? optimizer_seen(&o->shapes[c], s) : most;
    return most * dtype_bytes(o->device->real);
}

static int64_t scratch_bytes(const optimizer *o) {
    int64_t most = 0;
    for (int32_t c = 0; c < o->shape_count; c++)
        for (int32_t p = 0; p < o->shapes[c].program_count; p++) {
            const int64_t bytes =
                formula_scratch(o->shapes[c].programs[p].program, o->shapes[c].tiled ? OPTIMIZER_TILE : 0);
            if (bytes > most) most = bytes;
        }
    return most;
}

int64_t optimizer_bytes(const optimizer *o) {
    int64_t bytes = scratch_bytes(o);
    for (int32_t s = 0; s < o->component->slot_count; s++) {
        bytes += shared_bytes(o, s);
        for (int32_t p = 0; slot_at(o, s)->role == GRAFT_BUFFER && p < o->param_count; p++) {
            const optimizer_shape *const c = &o->shapes[o->shape_of[p]];
            bytes += slot_bytes(o, c, s) + scale_count(c, s) * (int64_t)sizeof(float);
        }
    }
    return bytes;
}

static int fail_memory(const optimizer *o, int32_t s, int64_t bytes, graft_error *err) {
    return fail(err, GRAFT_FAILED, "no memory for %lld bytes of the state %s of %s", (long long)bytes,
                slot_at(o, s)->name, o->component->name);
}

static int allocate_slot(optimizer *o, const optimizer_shape *c, int32_t s, optimizer_slot *out, graft_error *err) {
    kernels *const k = o->device;
    const int64_t bytes = slot_bytes(o, c, s), scales = scale_count(c, s) * (int64_t)sizeof(float);
    out->data = k->alloc(k, bytes);
    out->scale = scales ? k->alloc(k, scales) : NULL;
    if (!out->data || (scales && !out->scale)) return fail_memory(o, s, bytes + scales, err);
    if (!slot_at(o, s)->values) return GRAFT_OK;
    void *const raw = mem_new((size_t)c->slot_count[s], (size_t)dtype_bytes(k->real));
    dtype_convert(raw, k->real, slot_at(o, s)->values, F64, c->slot_count[s]);
    k->upload(k, out->data, raw, bytes);
    free(raw);
    return GRAFT_OK;
}

static void list_state(optimizer *o, const optimizer_shape *c, int32_t p, int32_t s) {
    const graft_slot *const d = slot_at(o, s);
    const optimizer_slot *const h = &o->slots[p * o->component->slot_count + s];
    const char *const name = d->file ? d->file : d->name;
    const optimizer_state values = {name, p, c->store[s] == STORE_PLAIN ? o->device->real : U8, c->slot_count[s],
                                    h->data};
    mem_reserve(o->states, o->state_count, o->state_capacity);
    o->states[o->state_count++] = values;
    if (!h->scale) return;
    mem_reserve(o->states, o->state_count, o->state_capacity);
    o->states[o->state_count++] =
        (optimizer_state){arena_format(&o->memory, "%s.absmax", name), p, F32, scale_count(c, s), h->scale};
}

int optimizer_allocate(optimizer *o, graft_error *err) {
    const int32_t slots = o->component->slot_count;
    o->scratch = o->device->alloc(o->device, scratch_bytes(o));
    if (!o->scratch) return fail(err, GRAFT_FAILED, "no memory for the scratch of %s", o->component->name);
    for (int32_t s = 0; s < slots; s++) {
        const int64_t bytes = shared_bytes(o, s);
        if (bytes > 0 && !(o->shared[s] = o->device->alloc(o->device, bytes))) return fail_memory(o, s, bytes, err);
    }
    for (int32_t p = 0; p < o->param_count; p++)
        for (int32_t s = 0; s < slots; s++) {
            const graft_slot *const d = slot_at(o, s);
            const optimizer_shape *const c = &o->shapes[o->shape_of[p]];
            if (d->role != GRAFT_BUFFER || c->slot_count[s] == 0) continue;
            if (allocate_slot(o, c, s, &o->slots[p * slots + s], err)) return err->code;
            if (!d->values) list_state(o, c, p, s);
        }
    return GRAFT_OK;
}

void optimizer_free(optimizer *o) {
    if (!o) return;
    kernels *const k = o->device;
    for (int32_t c = 0; c < o->shape_count; c++) {
        for (int32_t p = 0; p < o->shapes[c].program_count; p++) {
            formula_free(o->shapes[c].programs[p].program);
            free(o->shapes[c].programs[p].text);
        }
        free(o->shapes[c].programs);
        free(o->shapes[c].numbers);
        free(o->shapes[c].config);
    }
    for (int32_t i = 0; o->slots && i < o->param_count * o->component->slot_count; i++) {
        k->release(k, o->slots[i].data);
        k->release(k, o->slots[i].scale);
    }
    for (int32_t s = 0; s < OPTIMIZER_SLOTS; s++)
        k->release(k, o->shared[s]);
    k->release(k, o->scratch);
    free(o->shapes);
    free(o->number_names);
    free(o->shape_of);
    free(o->names);
    free(o->slots);
    free(o->states);
    arena_free(&o->memory);
    free(o);
}

/* ---- steps ---- */

/* The init formulas may read p, so they run when there are parameters: before the first update. */
static int initialize(optimizer *o, graft_error *err) {
    for (int32_t p = 0; p < o->param_count; p++)
        for (int32_t s = 0; s < o->component->slot_count; s++) {
            const graft_slot *const d = slot_at(o, s);
            if (d->role == GRAFT_BUFFER && d->init && optimizer_call(o, o->shape_of[p], p, d->init, err))
                return err->code;
        }
    return GRAFT_OK;
}

int optimizer_step(optimizer *o, const adapt_param *params, double lr, graft_error *err) {
    o->params = params;
    if (o->updates == 0 && initialize(o, err)) return err->code;
    o->updates++;
    for (int32_t c = 0; c < o->shape_count; c++) {
        o->shapes[c].numbers[o->first_fixed + NUMBER_LR] = lr * o->shapes[c].group.lr_scale;
        o->shapes[c].numbers[o->first_fixed + NUMBER_T] = (double)o->updates;
    }
    for (int32_t p = 0; p < o->param_count; p++)
        if (optimizer_call(o, o->shape_of[p], p, NULL, err)) return err->code;
    return GRAFT_OK;
}

const optimizer_state *optimizer_states(const optimizer *o, int64_t *count) {
    *count = o->state_count;
    return o->states;
}

int64_t optimizer_updates(const optimizer *o) {
    return o->updates;
}

void optimizer_set_updates(optimizer *o, int64_t updates) {
    o->updates = updates;
}
