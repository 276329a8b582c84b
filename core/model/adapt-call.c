/* adapt-call — one hook of one technique at one site: on shapes alone (checking) or on the device (running).
 *
 * A plugin's callback only hands over formulas; what it may write in which hook (CONTRACT section 3) is the `may` of each
 * name here, and the formula room refuses the rest. */
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

const char *const adapt_builtin_names[BUILTIN_COUNT] = {"in",    "out",    "layers", "site",   "sites", "step",
                                                        "steps", "linear", "input",  "onehot", "rows"};

const char *const adapt_hook_names[HOOK_COUNT] = {"bind",     "observe",    "init",       "prepare", "forward",
                                                  "backward", "regularize", "after_step", "save"};

static technique *technique_of(const adapt_calling *c) {
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

static void name_fixed(formula_tensor *t, const graft_site *site, hook h, dtype real, int64_t virtual_rows) {
    static const char *const names[NAMES_FIXED] = {"x", "y", "dx", "dy", "W", "loss", "bias", "dbias"};
    const int changes_dy = site->kind == GRAFT_LINEAR || site->kind == GRAFT_BRANCH;
    const int32_t may[NAMES_FIXED] = {
        [NAME_X] = h == HOOK_FORWARD || h == HOOK_BACKWARD || h == HOOK_OBSERVE ? FORMULA_READ : 0,
        [NAME_Y] = h == HOOK_FORWARD ? FORMULA_READ | FORMULA_WRITE : 0,
        [NAME_DX] = h == HOOK_BACKWARD ? FORMULA_READ | FORMULA_WRITE : 0,
        [NAME_DY] = h == HOOK_BACKWARD                ? FORMULA_READ | (changes_dy ? FORMULA_WRITE : 0)
                    : h == HOOK_OBSERVE && changes_dy ? FORMULA_READ
                                                      : 0,
        [NAME_W] = h == HOOK_INIT ? FORMULA_READ | FORMULA_WRITE : FORMULA_READ,
        [NAME_LOSS] = h == HOOK_REGULARIZE ? FORMULA_READ | FORMULA_WRITE : 0,
        [NAME_BIAS] = changes_dy && (h == HOOK_FORWARD || h == HOOK_BACKWARD) ? FORMULA_READ : 0,
        [NAME_DBIAS] = changes_dy && h == HOOK_BACKWARD ? FORMULA_ADD : 0,
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
    t[NAME_BIAS].rank = t[NAME_DBIAS].rank = 1;
    t[NAME_BIAS].shape[0] = t[NAME_DBIAS].shape[0] = site->out;
    if (site->onehot) t[NAME_X].kind = FORMULA_ONEHOT;
    if (h != HOOK_INIT && h != HOOK_AFTER_STEP) t[NAME_W].kind = FORMULA_WEIGHT;
    if (site->onehot || site->kind != GRAFT_LINEAR) /* the table of an embedding lies the other way round: no handle */
        t[NAME_W].may = h == HOOK_INIT && site->kind == GRAFT_LINEAR ? t[NAME_W].may : 0;
    if (virtual_rows >= 0) { /* KV and EMBED: as many rows as the technique said, and nothing goes in */
        t[NAME_X].may = t[NAME_DX].may = 0;
        t[NAME_Y].shape[0] = t[NAME_DY].shape[0] = virtual_rows;
    }
}

int32_t adapt_fill_names(const adapt *a, const instance *i, hook h, formula_tensor *t) {
    const technique *tech = &a->techniques[i->spec];
    const dtype real = a->device ? a->device->real : F32;
    const int32_t n = slot_count(tech);
    const int is_virtual = (i->site.kind & (GRAFT_KV | GRAFT_EMBED)) != 0;
    name_fixed(t, &i->site, h, real, is_virtual ? adapt_virtual_rows(a, i) : -1);
    for (int32_t s = 0; s < n; s++) {
        const graft_slot *d = slot_of(tech, s);
        formula_tensor *own = &t[NAMES_FIXED + s], *gradient = &t[NAMES_FIXED + n + s];
        *own = (formula_tensor){.name = d->role == GRAFT_NUMBER ? "" : d->name, .rank = i->slots[s].rank, .type = real};
        memcpy(own->shape, i->slots[s].shape, sizeof own->shape);
        memcpy(own->stride, i->slots[s].stride, sizeof own->stride);
        own->activation = i->slots[s].activation;
        own->may = d->role == GRAFT_NUMBER || (i->slots[s].mask && h != HOOK_INIT && h != HOOK_AFTER_STEP)
                       ? 0
                       : slot_may(d->role, h);
        *gradient = *own;
        gradient->name = d->role == GRAFT_PARAM || d->role == GRAFT_KEPT ? tech->gradient_names[s] : "";
        gradient->may = d->role == GRAFT_NUMBER ? 0 : gradient_may(d->role, h);
    }
    return NAMES_FIXED + 2 * n;
}

/* ---- compiled formulas, once per instance, hook and text ---- */

/* Hooks that may work on the host, and choose by what they find there. */
static int is_host_hook(hook h) {
    return h == HOOK_OBSERVE || h == HOOK_INIT || h == HOOK_AFTER_STEP || h == HOOK_SAVE;
}

static uint64_t hash_text(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

static const formula *program_of(adapt_calling *c, const char *text) {
    instance *i = c->i;
    const uint64_t key = hash_text(text);
    for (int32_t p = 0; p < i->program_count; p++)
        if (i->programs[p].at == c->h && i->programs[p].key == key) return i->programs[p].program;
    if (!c->checking && (c->room < 0 || !is_host_hook(c->h))) {
        fail(c->err, GRAFT_FAILED,
             "%s %s at %s: \"%s\" was not there when the formulas were checked; what runs here may depend on options "
             "and "
             "on the site alone",
             technique_of(c)->in.component->name, adapt_hook_names[c->h], i->site.name, text);
        return NULL;
    }
    formula_tensor names[ADAPT_BINDINGS];
    const technique *t = technique_of(c);
    char *where = mem_format("%s %s at %s", t->in.component->name, adapt_hook_names[c->h], i->site.name);
    const formula_scope scope = {.tensors = names,
                                 .tensor_count = adapt_fill_names(c->a, i, c->h, names),
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

/* Outside passes temporaries grow with what a callback runs; in a pass they were planned. */
static int make_room(adapt_calling *c, const formula *f) {
    kernels *k = c->a->device;
    const int64_t bytes = c->room < 0 ? 0 : formula_scratch(f, c->rows);
    if (bytes <= c->room || c->room < 0) return GRAFT_OK;
    k->release(k, c->own_room);
    c->scratch = c->own_room = k->alloc(k, bytes);
    c->room = c->own_room ? bytes : 0;
    return c->own_room ? GRAFT_OK
                       : fail(c->err, GRAFT_FAILED, "no memory for %lld bytes of temporaries of %s at %s",
                              (long long)bytes, technique_of(c)->in.component->name, c->i->site.name);
}

static void service_run(graft_call *g, const char *text) {
    adapt_calling *c = (adapt_calling *)g;
    if (c->err->code || c->refused) return;
    const formula *f = program_of(c, text);
    if (!f) return;
    const technique *t = technique_of(c);
    uint64_t reads = 0, writes = 0;
    formula_uses(f, &reads, &writes);
    c->asked = 1;
    c->wrote_w |= c->h == HOOK_INIT && (writes >> NAME_W & 1);
    if (adapt_open(c, reads | writes, writes) || c->checking || make_room(c, f)) return;
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

static int32_t find_slot(const adapt_calling *c, const char *name) {
    const technique *t = technique_of(c);
    for (int32_t s = 0; s < slot_count(t); s++)
        if (strcmp(slot_of(t, s)->name, name) == 0) return s;
    return -1;
}

static void service_set(graft_call *g, const char *name, double value) {
    adapt_calling *c = (adapt_calling *)g;
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
    adapt_calling *c = (adapt_calling *)g;
    if (c->h != HOOK_BIND)
        fail(c->err, GRAFT_FAILED, "%s: refuse(\"%s\") outside bind", technique_of(c)->in.component->name, why);
    else if (!c->refused)
        c->refused = why;
}

static void service_fail(graft_call *g, const char *why) {
    adapt_calling *c = (adapt_calling *)g;
    fail(c->err, GRAFT_FAILED, "%s at %s: %s", technique_of(c)->in.component->name, c->i->site.name, why);
}

static const graft_services services = {
    .size = sizeof services,
    .run = service_run,
    .set = service_set,
    .refuse = service_refuse,
    .fail = service_fail,
    .read = adapt_read_slot,
    .write = adapt_write_slot,
    .slot_size = adapt_slot_size,
    .svd = adapt_svd,
    .qr = adapt_qr,
    .quantize = adapt_quantize,
    .rank = adapt_rank,
    .keep = adapt_keep,
    .field = adapt_field,
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
    if (is_host_hook(h)) return 1;
    for (int32_t p = 0; p < i->program_count; p++) {
        uint64_t reads = 0, writes = 0;
        if (i->programs[p].at != h) continue;
        formula_uses(i->programs[p].program, &reads, &writes);
        if ((reads | writes) >> (NAMES_FIXED + slot) & 1) return 1;
    }
    return 0;
}

static int takes_scratch(const instance *i, hook h, int32_t role, int32_t slot) {
    return role == GRAFT_KEPT ? h == HOOK_FORWARD || h == HOOK_BACKWARD : role == GRAFT_TEMP && touches(i, h, slot);
}

/* Points every name at its memory; temporaries are carved off the front of the pass's scratch. */
static void bind_names(adapt_calling *c, const call_tensors *t) {
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
    c->bindings[NAME_BIAS].data = (void *)(uintptr_t)t->bias;
    c->bindings[NAME_DBIAS].data = t->dbias;
    c->bindings[NAME_W] = (formula_binding){.w = t->w, .data = t->w_tensor};
    for (int32_t s = 0; s < n; s++) {
        const slot_state *state = &c->i->slots[s];
        const int32_t role = slot_of(tech, s)->role;
        formula_binding *own = &c->bindings[NAMES_FIXED + s], *gradient = &c->bindings[NAMES_FIXED + n + s];
        if (role == GRAFT_NUMBER || state->count == 0 || state->mask) continue; /* a mask is opened when it is named */
        own->data = state->data;
        gradient->data = state->grad;
        const int64_t bytes = round_up(adapt_slot_bytes(state, c->rows, activation, real));
        if (role == GRAFT_KEPT && c->pass && c->pass->kept) {
            own->data = adapt_kept(c->i, s, c->pass);
        } else if (takes_scratch(c->i, c->h, role, s)) {
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

static adapt_calling call_make(adapt *a, instance *i, hook h, graft_error *err) {
    return (adapt_calling){
        .public = {.size = sizeof(graft_call), .services = &services, .self = i->config, .site = &i->site},
        .a = a,
        .i = i,
        .h = h,
        .err = err
    };
}

/* Bytes of temporaries of one hook for `rows` rows: its slots, and what its formulas need as far as they were seen. */
static int64_t slot_scratch(const adapt *a, const instance *i, hook h, int64_t rows, dtype activation, dtype real) {
    int64_t bytes = 0;
    for (int32_t s = 0; s < slot_count(&a->techniques[i->spec]); s++) {
        const int32_t role = slot_of(&a->techniques[i->spec], s)->role;
        const int64_t one = round_up(adapt_slot_bytes(&i->slots[s], rows, activation, real));
        if (takes_scratch(i, h, role, s)) bytes += one;
        if (role == GRAFT_KEPT && h == HOOK_BACKWARD) bytes += one; /* its gradient */
    }
    return bytes;
}

static int64_t formulas_scratch(const instance *i, hook h, int64_t rows) {
    int64_t most = 0;
    for (int32_t p = 0; p < i->program_count; p++) {
        const int64_t need = i->programs[p].at == h ? formula_scratch(i->programs[p].program, rows) : 0;
        most = need > most ? need : most;
    }
    return round_up(most);
}

int64_t adapt_instance_scratch(const adapt *a, const instance *i, int64_t rows, dtype activation, dtype real) {
    int64_t most = 0;
    const hook passes[] = {HOOK_FORWARD, HOOK_BACKWARD, HOOK_OBSERVE};
    for (int n = 0; n < (i->observed ? 3 : 2); n++) {
        const hook h = passes[n];
        const int64_t bytes = slot_scratch(a, i, h, rows, activation, real) + formulas_scratch(i, h, rows);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Outside passes temporaries have memory of their own, which own_end gives back. */
static int own_begin(adapt_calling *c, adapt_pass *own, const call_tensors *t) {
    const dtype real = c->a->device->real;
    c->room = formulas_scratch(c->i, c->h, 0);
    *own = (adapt_pass){.device = c->a->device, .activation = real};
    own->scratch = c->a->device->alloc(c->a->device, slot_scratch(c->a, c->i, c->h, 0, real, real) + c->room + 1);
    c->pass = own;
    bind_names(c, t);
    return own->scratch ? GRAFT_OK
                        : fail(c->err, GRAFT_FAILED, "no memory for the temporaries of %s at %s",
                               technique_of(c)->in.component->name, c->i->site.name);
}

static void own_end(adapt_calling *c, adapt_pass *own) {
    adapt_close(c);
    c->a->device->release(c->a->device, own->scratch);
    c->a->device->release(c->a->device, c->own_room);
}

static int call_now(adapt_calling *c, const adapt_pass *p, const call_tensors *t) {
    void (*const callback)(graft_call *) = hook_of(technique_of(c)->functions, c->h);
    adapt_pass own;
    if (!callback || c->err->code) return c->err->code;
    if (p) {
        c->pass = p;
        c->rows = p->rows;
        c->room = -1;
        bind_names(c, t);
        callback(&c->public);
        return c->err->code;
    }
    if (own_begin(c, &own, t) == GRAFT_OK) callback(&c->public);
    if (c->h == HOOK_SAVE) adapt_take_saved(c);
    own_end(c, &own);
    return c->err->code;
}

int adapt_call(adapt *a, instance *i, hook h, const adapt_pass *p, const call_tensors *t, int64_t step, int64_t steps,
               int32_t *wrote_w, graft_error *err) {
    adapt_calling c = call_make(a, i, h, err);
    c.public.step = step;
    c.public.steps = steps;
    call_now(&c, p, t);
    if (wrote_w) *wrote_w |= c.wrote_w;
    return err->code;
}

int adapt_call_init(adapt *a, instance *i, int64_t round, void *w, int32_t *wrote_w, graft_error *err) {
    const call_tensors t = {.w_tensor = w};
    adapt_calling c = call_make(a, i, HOOK_INIT, err);
    c.public.round = round;
    call_now(&c, NULL, &t);
    *wrote_w |= c.wrote_w;
    return err->code;
}

int adapt_call_round(adapt *a, instance *i, int64_t round, graft_error *err) {
    const call_tensors none = {0};
    adapt_calling c = call_make(a, i, HOOK_AFTER_STEP, err);
    c.public.step = a->step;
    c.public.steps = a->steps;
    c.public.round = round;
    return call_now(&c, NULL, &none);
}

static int32_t rounds_of(const technique *t, hook h) {
    const int32_t of_init = t->functions->rounds > 0 ? t->functions->rounds : 1;
    return h == HOOK_INIT ? of_init : h == HOOK_AFTER_STEP ? t->rounds : 1;
}

int adapt_check(adapt *a, instance *i, hook h, const char **refused, graft_error *err) {
    const technique *const t = &a->techniques[i->spec];
    void (*const callback)(graft_call *) = hook_of(t->functions, h);
    for (int32_t round = 0; callback && round < rounds_of(t, h) && !err->code; round++) {
        adapt_calling c = call_make(a, i, h, err);
        c.checking = 1;
        c.public.steps = a->steps;
        c.public.round = round;
        callback(&c.public);
        i->replaces |= c.wrote_w;
        if (h == HOOK_INIT && c.asked) i->init_rounds = round + 1;
        if (h == HOOK_AFTER_STEP) i->steps_on |= c.asked, i->remasks |= c.wrote_mask != 0;
        if (refused && c.refused) *refused = c.refused;
    }
    return err->code;
}

int adapt_run_init(adapt *a, instance *i, const char *text, const call_tensors *t, graft_error *err) {
    if (!text || err->code) return err->code;
    adapt_calling c = call_make(a, i, HOOK_INIT, err);
    adapt_pass own;
    if (own_begin(&c, &own, t) == GRAFT_OK) service_run(&c.public, text);
    own_end(&c, &own);
    return err->code;
}

int adapt_slot_init(adapt *a, instance *i, int32_t slot, const call_tensors *t, graft_error *err) {
    const graft_slot *d = slot_of(&a->techniques[i->spec], slot);
    return i->slots[slot].count == 0 ? err->code : adapt_run_init(a, i, d->init, t, err);
}

int adapt_slot_init_check(adapt *a, instance *i, int32_t slot, graft_error *err) {
    const graft_slot *d = slot_of(&a->techniques[i->spec], slot);
    if (!d->init || err->code) return err->code;
    adapt_calling c = call_make(a, i, HOOK_INIT, err);
    c.checking = 1;
    service_run(&c.public, d->init);
    return err->code;
}
