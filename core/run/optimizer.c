/* optimizer — shapes and state of everything that is trained.
 *
 * Parameters of equal shape share their compiled programs. A callback is run once per shape on shapes alone, then for every
 * parameter in every step: the text it hands over finds its program by its characters. */
#include "config/option.h"
#include "run/optimizer-private.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK8 = 256, BLOCKS8_LEAST = 4096 };
static const char *const fixed_names[NUMBERS_FIXED] = {"size", "matrix", "out", "in", "lr", "t"};

/* ---- shapes ---- */

static int check_slot(const optimizer *o, const graft_slot *d, graft_error *err) {
    const char *const name = o->component->name;
    if (d->role != GRAFT_BUFFER && d->role != GRAFT_TEMP && d->role != GRAFT_NUMBER)
        return fail(err, GRAFT_FAILED, "%s: slot %s: the slots of an optimizer are BUFFER, TEMP and NUMBER", name,
                    d->name);
    if (*d->store && strcmp(d->store, "blocks8") != 0)
        return fail(err, GRAFT_FAILED,
                    "%s: slot %s is stored as \"%s\"; the states of an optimizer are plain or blocks8", name, d->name,
                    d->store);
    return GRAFT_OK;
}

static int set_slot(optimizer *o, optimizer_shape *c, int32_t s, int32_t *number, graft_error *err) {
    const graft_slot *const d = slot_at(o, s);
    const double *const numbers = c->numbers;
    const int32_t known = o->number_count - 2; /* not lr and t, which change */
    if (check_slot(o, d, err)) return err->code;
    if (d->role == GRAFT_NUMBER)
        return formula_number(d->init ? d->init : "0", o->number_names, numbers, known, &c->numbers[(*number)++], err);
    if (formula_shape(d->shape, o->number_names, numbers, known, c->shape[s], &c->slot_rank[s], err)) return err->code;
    if (strstr(d->shape, "size") && c->slot_rank[s] == 1) { /* lies like p, or is absent: "centered ? size : 0" */
        const int64_t absent[FORMULA_RANK] = {0};
        memcpy(c->shape[s], c->shape[s][0] == c->count ? c->own : absent, sizeof c->shape[s]);
        c->slot_rank[s] = c->rank;
    }
    c->slot_count[s] = 1;
    for (int32_t r = 0; r < c->slot_rank[s]; r++)
        c->slot_count[s] *= c->shape[s][r];
    if (c->slot_count[s] < 0) /* FORMULA_ROWS */
        return fail(err, GRAFT_FAILED, "shape \"%s\": an optimizer has no rows", d->shape);
    if (*d->store && c->slot_count[s] >= BLOCKS8_LEAST)
        c->store[s] = d->flags & GRAFT_UNSIGNED ? STORE_BLOCKS8_UNSIGNED : STORE_BLOCKS8;
    return GRAFT_OK;
}

static int make_shape(optimizer *o, const adapt_param *p, graft_error *err) {
    mem_reserve(o->shapes, o->shape_count, o->shape_capacity);
    optimizer_shape *const c = &o->shapes[o->shape_count++];
    *c = (optimizer_shape){.rank = p->rank >= 2 ? 2 : 1, .count = p->count};
    c->own[0] = c->rank == 2 ? p->rows : p->count;
    c->own[1] = c->rank == 2 ? p->cols : 0;
    c->numbers = mem_new((size_t)o->number_count, sizeof *c->numbers);
    int32_t number = 0;
    for (int32_t i = 0; i < o->component->option_count; i++)
        number += option_number(&o->component->options[i], o->config, &c->numbers[number]);
    double *const fixed = c->numbers + o->first_fixed;
    fixed[NUMBER_SIZE] = (double)c->count;
    fixed[NUMBER_MATRIX] = c->rank == 2;
    fixed[NUMBER_OUT] = c->rank == 2 ? (double)c->own[0] : 0;
    fixed[NUMBER_IN] = c->rank == 2 ? (double)c->own[1] : 0;
    fixed[NUMBER_T] = 1;
    const int32_t number_of_shape = o->shape_count - 1;
    for (int32_t s = 0; s < o->component->slot_count && !err->code; s++)
        if (set_slot(o, c, s, &number, err))
            return fail_within(err, "%s: slot %s for %s", o->component->name, slot_at(o, s)->name, p->name);
    for (int32_t s = 0; s < o->component->slot_count && !err->code; s++)
        if (slot_at(o, s)->init && slot_at(o, s)->role != GRAFT_NUMBER)
            optimizer_call(o, number_of_shape, -1, slot_at(o, s)->init, err);
    return optimizer_call(o, number_of_shape, -1, NULL, err);
}

static int32_t find_shape(const optimizer *o, const adapt_param *p) {
    for (int32_t c = 0; c < o->shape_count; c++) {
        const optimizer_shape *const at = &o->shapes[c];
        if (at->rank == (p->rank >= 2 ? 2 : 1) && at->count == p->count && (at->rank == 1 || at->own[0] == p->rows))
            return c;
    }
    return -1;
}

int optimizer_create(const plugin_component *component, const void *config, const adapt_param *params, int32_t count,
                     kernels *device, uint64_t seed, optimizer **out, graft_error *err) {
    optimizer *const o = mem_new(1, sizeof *o);
    *o = (optimizer){.component = component, .config = config, .device = device, .seed = seed, .param_count = count};
    *out = o;
    if (component->slot_count > OPTIMIZER_SLOTS)
        return fail(err, GRAFT_FAILED, "%s: %d slots, at most %d", component->name, (int)component->slot_count,
                    OPTIMIZER_SLOTS);
    o->number_names =
        mem_new((size_t)(component->option_count + component->slot_count + NUMBERS_FIXED), sizeof *o->number_names);
    double unused;
    for (int32_t i = 0; i < component->option_count; i++)
        if (option_number(&component->options[i], config, &unused))
            o->number_names[o->number_count++] = component->options[i].key;
    for (int32_t s = 0; s < component->slot_count; s++)
        if (component->slots[s].role == GRAFT_NUMBER) o->number_names[o->number_count++] = component->slots[s].name;
    o->first_fixed = o->number_count;
    for (int32_t f = 0; f < NUMBERS_FIXED; f++)
        o->number_names[o->number_count++] = fixed_names[f];
    o->shape_of = mem_new((size_t)count + 1, sizeof *o->shape_of);
    o->names = mem_new((size_t)count + 1, sizeof *o->names);
    o->slots = mem_new((size_t)count * (size_t)component->slot_count + 1, sizeof *o->slots);
    for (int32_t p = 0; p < count; p++) {
        o->names[p] = params[p].name;
        o->shape_of[p] = find_shape(o, &params[p]);
        if (o->shape_of[p] >= 0) continue;
        o->shape_of[p] = o->shape_count;
        if (make_shape(o, &params[p], err)) return err->code;
    }
    return GRAFT_OK;
}

/* ---- memory ---- */

static int64_t slot_bytes(const optimizer *o, const optimizer_shape *c, int32_t s) {
    return c->store[s] == STORE_PLAIN ? c->slot_count[s] * dtype_bytes(o->device->real) : c->slot_count[s];
}

static int64_t scale_count(const optimizer_shape *c, int32_t s) {
    return c->store[s] == STORE_PLAIN ? 0 : (c->slot_count[s] + BLOCK8 - 1) / BLOCK8;
}

/* The shape for which the TEMP slot is largest, -1 when it is nowhere. */
static int32_t largest_shape(const optimizer *o, int32_t s) {
    int32_t largest = -1;
    for (int32_t c = 0; c < o->shape_count; c++)
        if (o->shapes[c].slot_count[s] > (largest < 0 ? 0 : o->shapes[largest].slot_count[s])) largest = c;
    return largest;
}

static int64_t scratch_bytes(const optimizer *o) {
    int64_t most = 0;
    for (int32_t c = 0; c < o->shape_count; c++)
        for (int32_t p = 0; p < o->shapes[c].program_count; p++) {
            const int64_t bytes = formula_scratch(o->shapes[c].programs[p].program, 0);
            if (bytes > most) most = bytes;
        }
    return most;
}

int64_t optimizer_bytes(const optimizer *o) {
    int64_t bytes = scratch_bytes(o);
    for (int32_t s = 0; s < o->component->slot_count; s++) {
        const int32_t role = slot_at(o, s)->role, largest = largest_shape(o, s);
        if (role == GRAFT_TEMP && largest >= 0) bytes += slot_bytes(o, &o->shapes[largest], s);
        for (int32_t p = 0; role == GRAFT_BUFFER && p < o->param_count; p++) {
            const optimizer_shape *const c = &o->shapes[o->shape_of[p]];
            bytes += slot_bytes(o, c, s) + scale_count(c, s) * (int64_t)sizeof(float);
        }
    }
    return bytes;
}

static int allocate_slot(optimizer *o, const optimizer_shape *c, int32_t s, optimizer_slot *out, graft_error *err) {
    kernels *const k = o->device;
    const int64_t bytes = slot_bytes(o, c, s), scales = scale_count(c, s) * (int64_t)sizeof(float);
    out->data = k->alloc(k, bytes);
    out->scale = scales ? k->alloc(k, scales) : NULL;
    if (!out->data || (scales && !out->scale))
        return fail(err, GRAFT_FAILED, "no memory for %lld bytes of the state %s of %s", (long long)(bytes + scales),
                    slot_at(o, s)->name, o->component->name);
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
        const int32_t largest = slot_at(o, s)->role == GRAFT_TEMP ? largest_shape(o, s) : -1;
        if (largest >= 0 && allocate_slot(o, &o->shapes[largest], s, &o->temp[s], err)) return err->code;
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
    }
    for (int32_t i = 0; o->slots && i < o->param_count * o->component->slot_count; i++) {
        k->release(k, o->slots[i].data);
        k->release(k, o->slots[i].scale);
    }
    for (int32_t s = 0; s < OPTIMIZER_SLOTS; s++) {
        k->release(k, o->temp[s].data);
        k->release(k, o->temp[s].scale);
    }
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
        o->shapes[c].numbers[o->first_fixed + NUMBER_LR] = lr;
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
