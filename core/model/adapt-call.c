/* adapt-call — one hook of one technique at one site: on shapes alone (checking) or on the device (running).
 *
 * A plugin's callback only hands over formulas; what it may write in which hook (CONTRACT section 3) is the `may` of each
 * name here, and the formula room refuses the rest. */
#include "model/adapt-private.h"
#include "model/linalg.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const adapt_builtin_names[BUILTIN_COUNT] = {"in",    "out",    "layers", "site",   "sites", "step",
                                                        "steps", "linear", "input",  "onehot", "rows"};

static const char *const hook_names[HOOK_COUNT] = {"bind",     "observe",    "init",       "prepare", "forward",
                                                   "backward", "regularize", "after_step", "save"};

/* What graft_call begins in memory: services find their way back through it. */
typedef struct {
    graft_call public;
    adapt *a;
    instance *i;
    hook h;
    int checking;
    const char *refused;
    const adapt_pass *pass;
    formula_binding bindings[ADAPT_BINDINGS];
    int64_t rows;
    char *scratch; /* behind the temporaries of this call */
    int32_t wrote_w;
    graft_error *err;
} call;

static technique *technique_of(const call *c) {
    return &c->a->techniques[c->i->spec];
}

/* ---- what each name is and may be in a hook ---- */

static int32_t slot_may(int32_t role, hook h) {
    static const int32_t writes[] = {
        /* which hooks may write a slot of this role; all others read */
        [GRAFT_PARAM] = 1 << HOOK_INIT | 1 << HOOK_AFTER_STEP,
        [GRAFT_ALIAS] = 0,
        [GRAFT_BUFFER] = 1 << HOOK_OBSERVE | 1 << HOOK_INIT | 1 << HOOK_AFTER_STEP,
        [GRAFT_STEP] = 1 << HOOK_PREPARE,
        [GRAFT_KEPT] = 1 << HOOK_FORWARD,
        [GRAFT_TEMP] = ~0,
    };
    if (role == GRAFT_KEPT && h != HOOK_FORWARD && h != HOOK_BACKWARD) return 0;
    return FORMULA_READ | (writes[role] >> h & 1 ? FORMULA_WRITE : 0);
}

static int32_t gradient_may(int32_t role, hook h) {
    if (role == GRAFT_PARAM)
        return h == HOOK_BACKWARD || h == HOOK_REGULARIZE ? FORMULA_ADD : h == HOOK_AFTER_STEP ? FORMULA_READ : 0;
    return role == GRAFT_KEPT && h == HOOK_BACKWARD ? FORMULA_READ | FORMULA_WRITE : 0;
}

static void name_fixed(formula_tensor *t, const graft_site *site, hook h, dtype real) {
    static const char *const names[NAMES_FIXED] = {"x", "y", "dx", "dy", "W", "loss"};
    const int changes_dy = site->kind == GRAFT_LINEAR || site->kind == GRAFT_BRANCH;
    const int32_t may[NAMES_FIXED] = {
        [NAME_X] = h == HOOK_FORWARD || h == HOOK_BACKWARD || h == HOOK_OBSERVE ? FORMULA_READ : 0,
        [NAME_Y] = h == HOOK_FORWARD ? FORMULA_READ | FORMULA_WRITE : 0,
        [NAME_DX] = h == HOOK_BACKWARD ? FORMULA_READ | FORMULA_WRITE : 0,
        [NAME_DY] = h == HOOK_BACKWARD  ? FORMULA_READ | (changes_dy ? FORMULA_WRITE : 0)
                    : h == HOOK_OBSERVE ? FORMULA_READ
                                        : 0,
        [NAME_W] = h == HOOK_INIT ? FORMULA_READ | FORMULA_WRITE : FORMULA_READ,
        [NAME_LOSS] = h == HOOK_REGULARIZE ? FORMULA_READ | FORMULA_WRITE : 0,
    };
    for (int32_t n = 0; n < NAMES_FIXED; n++)
        t[n] = (formula_tensor){.name = names[n], .may = may[n], .rank = 2, .type = real, .activation = n <= NAME_DY};
    t[NAME_X].shape[0] = t[NAME_DX].shape[0] = t[NAME_Y].shape[0] = t[NAME_DY].shape[0] = FORMULA_ROWS;
    t[NAME_X].shape[1] = t[NAME_DX].shape[1] = site->in;
    t[NAME_Y].shape[1] = t[NAME_DY].shape[1] = site->kind == GRAFT_INPUT ? site->in : site->out;
    t[NAME_W].shape[0] = site->out;
    t[NAME_W].shape[1] = site->in;
    t[NAME_LOSS].rank = 1;
    t[NAME_LOSS].shape[0] = 1;
    if (site->onehot) t[NAME_X].kind = FORMULA_ONEHOT;
    if (h != HOOK_INIT) t[NAME_W].kind = FORMULA_WEIGHT;
    if (site->onehot || site->kind != GRAFT_LINEAR) /* the table of an embedding lies the other way round: no handle */
        t[NAME_W].may = h == HOOK_INIT && site->kind == GRAFT_LINEAR ? t[NAME_W].may : 0;
    if (site->kind == GRAFT_KV || site->kind == GRAFT_EMBED) t[NAME_X].may = t[NAME_DX].may = 0;
}

static int32_t fill_names(const adapt *a, const instance *i, hook h, formula_tensor *t) {
    const technique *tech = &a->techniques[i->spec];
    const dtype real = a->device ? a->device->real : F32;
    const int32_t n = slot_count(tech);
    name_fixed(t, &i->site, h, real);
    for (int32_t s = 0; s < n; s++) {
        const graft_slot *d = slot_of(tech, s);
        formula_tensor *own = &t[NAMES_FIXED + s], *gradient = &t[NAMES_FIXED + n + s];
        *own = (formula_tensor){.name = d->role == GRAFT_NUMBER ? "" : d->name, .rank = i->slots[s].rank, .type = real};
        memcpy(own->shape, i->slots[s].shape, sizeof own->shape);
        own->activation = i->slots[s].activation;
        own->may = d->role == GRAFT_NUMBER ? 0 : slot_may(d->role, h);
        *gradient = *own;
        gradient->name = d->role == GRAFT_PARAM || d->role == GRAFT_KEPT ? tech->gradient_names[s] : "";
        gradient->may = d->role == GRAFT_NUMBER ? 0 : gradient_may(d->role, h);
    }
    return NAMES_FIXED + 2 * n;
}

/* ---- compiled formulas, once per instance, hook and text ---- */

static uint64_t hash_text(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

static const formula *program_of(call *c, const char *text) {
    instance *i = c->i;
    const uint64_t key = hash_text(text);
    for (int32_t p = 0; p < i->program_count; p++)
        if (i->programs[p].at == c->h && i->programs[p].key == key) return i->programs[p].program;
    formula_tensor names[ADAPT_BINDINGS];
    const technique *t = technique_of(c);
    char *where = mem_format("%s %s at %s", t->in.component->name, hook_names[c->h], i->site.name);
    const formula_scope scope = {.tensors = names,
                                 .tensor_count = fill_names(c->a, i, c->h, names),
                                 .numbers = t->number_names,
                                 .number_count = t->number_count,
                                 .where = where,
                                 .real = c->a->device ? c->a->device->real : F64};
    formula *program = NULL;
    formula_compile(text, &scope, &program, c->err);
    free(where);
    if (!program) return NULL;
    mem_reserve(i->programs, i->program_count, i->program_capacity);
    i->programs[i->program_count++] = (compiled){c->h, key, program};
    return program;
}

/* ---- services ---- */

static void service_run(graft_call *g, const char *text) {
    call *c = (call *)g;
    if (c->err->code || c->refused) return;
    const formula *f = program_of(c, text);
    if (!f) return;
    const technique *t = technique_of(c);
    if (c->h == HOOK_INIT) {
        uint64_t reads = 0, writes = 0;
        formula_uses(f, &reads, &writes);
        c->wrote_w |= (int32_t)(writes >> NAME_W & 1);
    }
    if (c->checking) return;
    double *numbers = c->i->numbers;
    const int32_t first = t->number_count - BUILTIN_COUNT;
    numbers[first + BUILTIN_STEP] = (double)g->step;
    numbers[first + BUILTIN_STEPS] = (double)g->steps;
    numbers[first + BUILTIN_ROWS] = (double)c->rows;
    const formula_run_call run = {.device = c->a->device,
                                  .bindings = c->bindings,
                                  .numbers = numbers,
                                  .rows = c->rows,
                                  .activation = c->pass ? c->pass->activation : c->a->device->real,
                                  .scratch = c->scratch,
                                  .seed = c->a->seed,
                                  .stream = hash_text(c->i->site.name) ^ (uint64_t)c->i->spec << 32,
                                  .err = c->err};
    formula_run(f, &run);
}

static int32_t find_slot(const call *c, const char *name) {
    const technique *t = technique_of(c);
    for (int32_t s = 0; s < slot_count(t); s++)
        if (strcmp(slot_of(t, s)->name, name) == 0) return s;
    return -1;
}

static void service_set(graft_call *g, const char *name, double value) {
    call *c = (call *)g;
    const technique *t = technique_of(c);
    const int32_t s = find_slot(c, name);
    if (c->h != HOOK_BIND || s < 0 || slot_of(t, s)->role != GRAFT_NUMBER) {
        fail(c->err, GRAFT_FAILED, "%s: set(\"%s\") is for NUMBER slots in bind", t->in.component->name, name);
        return;
    }
    for (int32_t n = 0; n < t->number_count; n++)
        if (strcmp(t->number_names[n], name) == 0) {
            c->i->numbers[n] = value;
            c->i->number_set[n] = 1;
        }
}

static void service_refuse(graft_call *g, const char *why) {
    call *c = (call *)g;
    if (c->h != HOOK_BIND)
        fail(c->err, GRAFT_FAILED, "%s: refuse(\"%s\") outside bind", technique_of(c)->in.component->name, why);
    else if (!c->refused)
        c->refused = why;
}

static void service_fail(graft_call *g, const char *why) {
    call *c = (call *)g;
    fail(c->err, GRAFT_FAILED, "%s at %s: %s", technique_of(c)->in.component->name, c->i->site.name, why);
}

/* The dev pointer and element count of a slot (or of "W", "dA") that a host service may touch in this hook. */
static void *host_slot(call *c, const char *name, int writes, int64_t *count) {
    formula_tensor names[ADAPT_BINDINGS];
    const int32_t n = fill_names(c->a, c->i, c->h, names);
    const int allowed = c->h == HOOK_INIT || c->h == HOOK_OBSERVE || c->h == HOOK_AFTER_STEP || c->h == HOOK_SAVE;
    *count = 0;
    for (int32_t t = 0; t < n; t++) {
        if (strcmp(names[t].name, name) != 0) continue;
        if (!allowed || !names[t].may || (writes && !(names[t].may & FORMULA_WRITE)) ||
            names[t].shape[0] == FORMULA_ROWS || names[t].kind == FORMULA_WEIGHT)
            break;
        int64_t elements = 1;
        for (int32_t d = 0; d < names[t].rank; d++)
            elements *= names[t].shape[d];
        *count = elements;
        if (t == NAME_W && writes) c->wrote_w = 1;
        return c->bindings[t].data;
    }
    fail(c->err, GRAFT_FAILED, "%s %s at %s: no slot \"%s\" that the host may %s here",
         technique_of(c)->in.component->name, hook_names[c->h], c->i->site.name, name, writes ? "write" : "read");
    return NULL;
}

static double *slot_doubles(call *c, const char *name, int64_t *count) {
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

static void store_doubles(call *c, const char *name, const double *values) {
    int64_t count;
    void *data = host_slot(c, name, 1, &count);
    if (!data || c->checking) return;
    const dtype real = c->a->device->real;
    void *raw = mem_new((size_t)count + 1, (size_t)dtype_bytes(real));
    dtype_convert(raw, real, values, F64, count);
    c->a->device->upload(c->a->device, data, raw, count * dtype_bytes(real));
    free(raw);
}

static void service_read(graft_call *g, const char *name, double *values) {
    call *c = (call *)g;
    if (c->err->code) return;
    int64_t count;
    double *own = slot_doubles(c, name, &count);
    memcpy(values, own, (size_t)count * sizeof *values);
    free(own);
}

static void service_write(graft_call *g, const char *name, const double *values) {
    call *c = (call *)g;
    if (!c->err->code) store_doubles(c, name, values);
}

static int64_t service_slot_size(graft_call *g, const char *name) {
    call *c = (call *)g;
    int64_t count = 0;
    if (!c->err->code) host_slot(c, name, 0, &count);
    return count;
}

/* rows and columns of a 2-D name, for svd and qr */
static int shape_of(call *c, const char *name, int64_t *m, int64_t *n) {
    formula_tensor names[ADAPT_BINDINGS];
    const int32_t total = fill_names(c->a, c->i, c->h, names);
    for (int32_t t = 0; t < total; t++)
        if (strcmp(names[t].name, name) == 0 && names[t].rank >= 1) {
            *m = names[t].shape[0];
            *n = names[t].rank > 1 ? names[t].shape[1] : 1;
            return 1;
        }
    return 0;
}

static void service_svd(graft_call *g, const char *of, const char *u, const char *s, const char *vt) {
    call *c = (call *)g;
    int64_t m = 0, n = 0, r = 0, one = 0, count;
    if (c->err->code) return;
    if (!shape_of(c, of, &m, &n) || !shape_of(c, s, &r, &one)) {
        service_fail(g, "svd: unknown slot");
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

static void service_qr(graft_call *g, const char *of, const char *q, const char *r) {
    call *c = (call *)g;
    int64_t m = 0, n = 0, count;
    if (c->err->code) return;
    if (!shape_of(c, of, &m, &n)) {
        service_fail(g, "qr: unknown slot");
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

static void service_quantize(graft_call *g, const char *from, const char *to) {
    call *c = (call *)g;
    int64_t count, count_to;
    if (c->err->code) return;
    void *source = host_slot(c, from, 0, &count), *target = host_slot(c, to, 1, &count_to);
    technique_of(c)->quantizes = 1;
    if (c->err->code || c->checking) return;
    if (count != count_to || count != c->i->site.out * c->i->site.in) {
        service_fail(g, "quantize: both slots must have the shape of W");
        return;
    }
    if (source != target) c->a->device->copy(c->a->device, target, source, count * dtype_bytes(c->a->device->real));
    if (c->a->round_trip) c->a->round_trip(c->a->round_trip_context, c->a->points[c->i->point].tensor, target, c->err);
}

typedef struct {
    double value;
    int64_t place;
} ranked;

static int by_value(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static void service_rank(const double *values, int64_t count, int64_t *order) {
    ranked *r = mem_new((size_t)count + 1, sizeof *r);
    for (int64_t i = 0; i < count; i++)
        r[i] = (ranked){values[i], i};
    qsort(r, (size_t)count, sizeof *r, by_value);
    for (int64_t i = 0; i < count; i++)
        order[r[i].place] = i;
    free(r);
}

static const graft_services services = {
    .size = sizeof services,
    .run = service_run,
    .set = service_set,
    .refuse = service_refuse,
    .fail = service_fail,
    .read = service_read,
    .write = service_write,
    .slot_size = service_slot_size,
    .svd = service_svd,
    .qr = service_qr,
    .quantize = service_quantize,
    .rank = service_rank,
};

/* ---- calling ---- */

int64_t adapt_slot_bytes(const slot_state *s, int64_t rows, dtype activation, dtype real) {
    return s->count * (s->has_rows ? rows : 1) * dtype_bytes(s->activation ? activation : real);
}

void *adapt_kept(const instance *i, int32_t slot, const adapt_pass *p) {
    return (char *)p->kept + i->slots[slot].kept_at * p->capacity;
}

/* Whether a hook touches a TEMP slot: by its formulas, or, where host services may, always. */
static int touches(const instance *i, hook h, int32_t slot) {
    if (h == HOOK_INIT || h == HOOK_OBSERVE || h == HOOK_AFTER_STEP || h == HOOK_SAVE) return 1;
    for (int32_t p = 0; p < i->program_count; p++) {
        uint64_t reads = 0, writes = 0;
        if (i->programs[p].at != h) continue;
        formula_uses(i->programs[p].program, &reads, &writes);
        if ((reads | writes) >> (NAMES_FIXED + slot) & 1) return 1;
    }
    return 0;
}

/* Points every name at its memory; temporaries are carved off the front of the pass's scratch. */
static void bind_names(call *c, const call_tensors *t) {
    const technique *tech = technique_of(c);
    const dtype real = c->a->device->real, activation = c->pass ? c->pass->activation : real;
    const int32_t n = slot_count(tech);
    char *scratch = c->pass ? c->pass->scratch : NULL;
    c->bindings[NAME_X] =
        (formula_binding){.data = c->i->site.onehot ? NULL : (void *)(uintptr_t)t->x, .onehot = t->onehot};
    c->bindings[NAME_Y].data = t->y;
    c->bindings[NAME_DX].data = t->dx;
    c->bindings[NAME_DY].data = t->dy;
    c->bindings[NAME_LOSS].data = t->loss;
    c->bindings[NAME_W] = (formula_binding){.w = t->w, .data = t->w_tensor};
    for (int32_t s = 0; s < n; s++) {
        const slot_state *state = &c->i->slots[s];
        const int32_t role = slot_of(tech, s)->role;
        formula_binding *own = &c->bindings[NAMES_FIXED + s], *gradient = &c->bindings[NAMES_FIXED + n + s];
        if (role == GRAFT_NUMBER || state->count == 0) continue;
        own->data = state->data;
        gradient->data = state->grad;
        const int64_t bytes = round_up(adapt_slot_bytes(state, c->rows, activation, real));
        if (role == GRAFT_KEPT && c->pass && c->pass->kept) {
            own->data = adapt_kept(c->i, s, c->pass);
        } else if (role == GRAFT_KEPT || (role == GRAFT_TEMP && touches(c->i, c->h, s))) {
            own->data = scratch;
            scratch += bytes;
        }
        if (role == GRAFT_KEPT && c->h == HOOK_BACKWARD) {
            gradient->data = scratch;
            scratch += bytes;
        }
    }
    c->scratch = scratch;
}

static void (*hook_of(const graft_adapter *f, hook h))(graft_call *) {
    switch (h) {
    case HOOK_BIND:
        return f->bind;
    case HOOK_OBSERVE:
        return f->observe;
    case HOOK_INIT:
        return f->init;
    case HOOK_PREPARE:
        return f->prepare;
    case HOOK_FORWARD:
        return f->forward;
    case HOOK_BACKWARD:
        return f->backward;
    case HOOK_REGULARIZE:
        return f->regularize;
    case HOOK_AFTER_STEP:
        return f->after_step;
    case HOOK_SAVE:
        return f->save;
    case HOOK_COUNT:
        break;
    }
    return NULL;
}

static call call_make(adapt *a, instance *i, hook h, graft_error *err) {
    return (call){
        .public = {.size = sizeof(graft_call), .services = &services, .self = i->config, .site = &i->site},
        .a = a,
        .i = i,
        .h = h,
        .err = err
    };
}

/* The bytes of temporaries of one hook of this instance for `rows` rows (formulas compiled so far). */
static int64_t call_scratch(const adapt *a, const instance *i, hook h, int64_t rows, dtype activation, dtype real) {
    const technique *t = &a->techniques[i->spec];
    int64_t bytes = 0, formulas = 0;
    for (int32_t s = 0; s < slot_count(t); s++) {
        const int32_t role = slot_of(t, s)->role;
        const int64_t one = round_up(adapt_slot_bytes(&i->slots[s], rows, activation, real));
        bytes += role == GRAFT_KEPT ? 2 * one : role == GRAFT_TEMP && touches(i, h, s) ? one : 0;
    }
    for (int32_t p = 0; p < i->program_count; p++) {
        const int64_t need = formula_scratch(i->programs[p].program, rows);
        formulas = need > formulas ? need : formulas;
    }
    return bytes + round_up(formulas);
}

int64_t adapt_instance_scratch(const adapt *a, const instance *i, int64_t rows, dtype activation, dtype real) {
    const int64_t forward = call_scratch(a, i, HOOK_FORWARD, rows, activation, real);
    const int64_t backward = call_scratch(a, i, HOOK_BACKWARD, rows, activation, real);
    return forward > backward ? forward : backward;
}

int adapt_call(adapt *a, instance *i, hook h, const adapt_pass *p, const call_tensors *t, int64_t step, int64_t steps,
               int32_t *wrote_w, graft_error *err) {
    void (*const callback)(graft_call *) = hook_of(a->techniques[i->spec].functions, h);
    if (!callback || err->code) return err->code;
    call c = call_make(a, i, h, err);
    adapt_pass own = {.device = a->device, .activation = a->device->real};
    if (!p) { /* outside passes temporaries have memory of their own */
        own.scratch = a->device->alloc(a->device, call_scratch(a, i, h, 1, a->device->real, a->device->real));
        own.rows = own.capacity = 0;
    }
    c.pass = p ? p : &own;
    c.rows = c.pass->rows;
    c.public.step = step;
    c.public.steps = steps;
    bind_names(&c, t);
    callback(&c.public);
    if (!p) a->device->release(a->device, own.scratch);
    if (wrote_w) *wrote_w |= c.wrote_w;
    return err->code;
}

int adapt_check(adapt *a, instance *i, hook h, const char **refused, graft_error *err) {
    void (*const callback)(graft_call *) = hook_of(a->techniques[i->spec].functions, h);
    if (!callback || err->code) return err->code;
    call c = call_make(a, i, h, err);
    c.checking = 1;
    callback(&c.public);
    if (refused && c.refused) *refused = c.refused;
    return err->code;
}

int adapt_slot_init(adapt *a, instance *i, int32_t slot, const call_tensors *t, graft_error *err) {
    const graft_slot *d = slot_of(&a->techniques[i->spec], slot);
    if (!d->init || err->code || i->slots[slot].count == 0) return err->code;
    call c = call_make(a, i, HOOK_INIT, err);
    const adapt_pass none = {
        .device = a->device,
        .activation = a->device->real,
        .scratch = a->device->alloc(a->device, call_scratch(a, i, HOOK_INIT, 1, a->device->real, a->device->real))};
    c.pass = &none;
    bind_names(&c, t);
    service_run(&c.public, d->init);
    a->device->release(a->device, none.scratch);
    return err->code;
}

int adapt_slot_init_check(adapt *a, instance *i, int32_t slot, graft_error *err) {
    const graft_slot *d = slot_of(&a->techniques[i->spec], slot);
    if (!d->init || err->code) return err->code;
    call c = call_make(a, i, HOOK_INIT, err);
    c.checking = 1;
    service_run(&c.public, d->init);
    return err->code;
}
