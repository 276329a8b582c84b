/* optimizer-call — one callback of an optimizer: its formulas compiled per shape, run per parameter. */
#include "run/optimizer-private.h"
#include <stdlib.h>
#include <string.h>

/* What graft_call begins in memory: services find their way back through it. */
typedef struct {
    graft_call public;
    optimizer *o;
    optimizer_shape *at;
    int32_t param; /* -1: on shapes alone */
    int initializing;
    int64_t ordinal; /* of the statement within the call, for draws */
    graft_error *err;
} call;

/* ---- compiling ---- */

static formula_tensor tensor_of_slot(const optimizer *o, const optimizer_shape *c, int32_t s) {
    const graft_slot *const d = slot_at(o, s);
    formula_tensor t = {
        .name = d->role == GRAFT_NUMBER ? "" : d->name, .rank = c->slot_rank[s], .type = o->device->real};
    memcpy(t.shape, c->shape[s], sizeof t.shape);
    t.store = c->store[s];
    if (t.store != STORE_PLAIN) t.type = U8;
    if (d->role == GRAFT_NUMBER) return t;
    t.may = d->values ? FORMULA_READ : FORMULA_READ | FORMULA_WRITE;
    return t;
}

static formula *compile(optimizer *o, optimizer_shape *c, const char *text, int initializing, graft_error *err) {
    for (int32_t p = 0; p < c->program_count; p++)
        if (strcmp(c->programs[p].text, text) == 0) return c->programs[p].program;
    formula_tensor tensors[2 + OPTIMIZER_SLOTS] = {
        {.name = "p", .may = FORMULA_READ | (initializing ? 0 : FORMULA_WRITE), .rank = c->rank},
        {.name = "g", .may = initializing ? 0 : FORMULA_READ,                   .rank = c->rank},
    };
    for (int32_t t = 0; t < 2; t++) {
        tensors[t].type = o->device->real;
        memcpy(tensors[t].shape, c->own, sizeof c->own);
    }
    for (int32_t s = 0; s < o->component->slot_count; s++)
        tensors[2 + s] = tensor_of_slot(o, c, s);
    char *const where = mem_format("%s update", o->component->name);
    const formula_scope scope = {.tensors = tensors,
                                 .tensor_count = 2 + o->component->slot_count,
                                 .numbers = o->number_names,
                                 .number_count = o->number_count,
                                 .where = where};
    formula *program = NULL;
    formula_compile(text, &scope, &program, err);
    free(where);
    if (!program) return NULL;
    mem_reserve(c->programs, c->program_count, c->program_capacity);
    c->programs[c->program_count++] = (optimizer_program){mem_copy_text(text), program};
    return program;
}

/* ---- services ---- */

static void service_run(graft_call *g, const char *text) {
    call *const c = (call *)g;
    if (c->err->code) return;
    optimizer *const o = c->o;
    const formula *const program = compile(o, c->at, text, c->initializing, c->err);
    if (!program || c->param < 0) return;
    const int32_t slots = o->component->slot_count;
    formula_binding bindings[2 + OPTIMIZER_SLOTS] = {{.data = o->params[c->param].data},
                                                     {.data = o->params[c->param].grad}};
    for (int32_t s = 0; s < slots; s++) {
        const optimizer_slot *const h =
            slot_at(o, s)->role == GRAFT_TEMP ? &o->temp[s] : &o->slots[c->param * slots + s];
        if (c->at->slot_count[s] > 0) bindings[2 + s] = (formula_binding){.data = h->data, .scale = h->scale};
    }
    const formula_run_call run = {.device = o->device,
                                  .bindings = bindings,
                                  .numbers = c->at->numbers,
                                  .activation = o->device->real,
                                  .scratch = o->scratch,
                                  .seed = o->seed,
                                  .stream =
                                      (uint64_t)c->param << 40 ^ (uint64_t)o->updates << 8 ^ (uint64_t)c->ordinal++,
                                  .err = c->err};
    formula_run(program, &run);
}

static void service_fail(graft_call *g, const char *why) {
    call *const c = (call *)g;
    fail(c->err, GRAFT_FAILED, "%s: %s", c->o->component->name, why);
}

static void refuse_service(graft_call *g, const char *name) {
    call *const c = (call *)g;
    fail(c->err, GRAFT_FAILED, "%s: an optimizer computes with run() alone; it called %s()", c->o->component->name,
         name);
}
static void service_set(graft_call *g, const char *slot, double value) {
    (void)slot, (void)value;
    refuse_service(g, "set");
}
static void service_refuse(graft_call *g, const char *why) {
    (void)why;
    refuse_service(g, "refuse");
}
static void service_read(graft_call *g, const char *slot, double *values) {
    (void)slot, (void)values;
    refuse_service(g, "read");
}
static void service_write(graft_call *g, const char *slot, const double *values) {
    (void)slot, (void)values;
    refuse_service(g, "write");
}
static int64_t service_slot_size(graft_call *g, const char *slot) {
    (void)slot;
    refuse_service(g, "slot_size");
    return 0;
}
static void service_svd(graft_call *g, const char *m, const char *u, const char *s, const char *vt) {
    (void)m, (void)u, (void)s, (void)vt;
    refuse_service(g, "svd");
}
static void service_qr(graft_call *g, const char *m, const char *q, const char *r) {
    (void)m, (void)q, (void)r;
    refuse_service(g, "qr");
}
static void service_quantize(graft_call *g, const char *from, const char *to) {
    (void)from, (void)to;
    refuse_service(g, "quantize");
}
static void service_rank(const double *values, int64_t count, int64_t *order) {
    (void)values;
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
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

/* The update of one parameter (or of its shape alone, param -1), or the init formula of one of its slots. */
int optimizer_call(optimizer *o, int32_t shape, int32_t param, const char *init, graft_error *err) {
    optimizer_shape *const at = &o->shapes[shape];
    const graft_site site = {.size = sizeof site,
                             .name = param < 0 ? "" : o->names[param],
                             .kind = GRAFT_TENSOR,
                             .layer = -1,
                             .in = at->rank == 1 ? 0 : at->own[1],
                             .out = at->own[0],
                             .site = param < 0 ? 0 : param,
                             .sites = o->param_count};
    call c = {
        .public =
            {.size = sizeof(graft_call), .services = &services, .self = o->config, .site = &site, .step = o->updates},
        .o = o,
        .at = at,
        .param = param,
        .initializing = init != NULL,
        .err = err
    };
    if (init)
        service_run(&c.public, init);
    else
        o->component->optimizer.update(&c.public);
    return err->code;
}
