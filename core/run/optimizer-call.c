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
    int scanning, elementwise; /* scanning: only sets elementwise to 0 at the first formula that is not */
    int64_t begin, count;      /* elements of the parameter that are updated: all, or one tile          */
    int64_t ordinal;           /* of the statement within the call, for draws                           */
    graft_error *err;
} call;

/* ---- compiling ---- */

/* What formulas know of a tensor of this shape: of one that lies like p, in tiles, a run of elements. */
static void set_extents(const optimizer_shape *c, const int64_t *shape, int32_t rank, formula_tensor *t) {
    const int64_t elements[FORMULA_RANK] = {FORMULA_ROWS};
    t->rank = c->tiled ? 1 : rank;
    memcpy(t->shape, c->tiled && shape[0] > 0 ? elements : shape, sizeof t->shape);
}

static formula_tensor tensor_of_slot(const optimizer *o, const optimizer_shape *c, int32_t s) {
    const graft_slot *const d = slot_at(o, s);
    formula_tensor t = {.name = d->role == GRAFT_NUMBER ? "" : d->name, .type = o->device->real};
    set_extents(c, c->shape[s], c->slot_rank[s], &t);
    if (d->role == GRAFT_NUMBER) return t;
    t.may = d->values ? FORMULA_READ : FORMULA_READ | FORMULA_WRITE;
    return t;
}

static formula *compile(optimizer *o, optimizer_shape *c, const char *text, int initializing, graft_error *err) {
    for (int32_t p = 0; p < c->program_count; p++)
        if (strcmp(c->programs[p].text, text) == 0) return c->programs[p].program;
    formula_tensor tensors[2 + OPTIMIZER_SLOTS] = {
        {.name = "p", .may = FORMULA_READ | (initializing ? 0 : FORMULA_WRITE)},
        {.name = "g", .may = initializing ? 0 : FORMULA_READ                  },
    };
    for (int32_t t = 0; t < 2; t++) {
        tensors[t].type = o->device->real;
        set_extents(c, c->own, c->rank, &tensors[t]);
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

/* Draws count elements from the beginning of the tensor, so they do not go in tiles. */
static int is_elementwise(const char *text) {
    return !strchr(text, '[') && !strstr(text, "uniform") && !strstr(text, "normal") && !strstr(text, "mt19937");
}

static void *behind(const call *c, void *data) {
    return (char *)data + c->begin * dtype_bytes(c->o->device->real);
}

static void bind(const call *c, formula_binding *bindings) {
    optimizer *const o = c->o;
    const int32_t slots = o->component->slot_count;
    bindings[0].data = behind(c, o->params[c->param].data);
    bindings[1].data = behind(c, o->params[c->param].grad);
    for (int32_t s = 0; s < slots; s++) {
        if (c->at->slot_count[s] == 0) continue;
        const int shared = slot_at(o, s)->role == GRAFT_TEMP || c->at->store[s] != STORE_PLAIN;
        bindings[2 + s].data = shared ? o->shared[s] : behind(c, o->slots[c->param * slots + s].data);
    }
}

static void service_run(graft_call *g, const char *text) {
    call *const c = (call *)g;
    if (c->err->code) return;
    optimizer *const o = c->o;
    if (c->scanning) {
        if (!is_elementwise(text)) c->elementwise = 0;
        return;
    }
    const formula *const program = compile(o, c->at, text, c->initializing, c->err);
    if (!program || c->param < 0) return;
    formula_binding bindings[2 + OPTIMIZER_SLOTS] = {0};
    bind(c, bindings);
    const formula_run_call run = {.device = o->device,
                                  .bindings = bindings,
                                  .numbers = c->at->numbers,
                                  .rows = c->count,
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

/* ---- states of 8 bits ---- */

enum { WIDEN, PACK };

/* Moves what this call updates of every 8-bit state between its codes and the buffer that formulas see. */
static void convert(const call *c, int direction) {
    static const map_instruction load = {MAP_LOAD, 1};
    static const map_program program = {
        .indices = 1, .kept = 1, .store = MAP_SET, .operands = 2, .length = 1, .code = &load};
    optimizer *const o = c->o;
    const int32_t slots = o->component->slot_count;
    for (int32_t s = 0; s < slots; s++) {
        if (c->at->store[s] == STORE_PLAIN) continue;
        const optimizer_slot *const h = &o->slots[c->param * slots + s];
        const map_operand wide = {.data = o->shared[s], .type = o->device->real, .stride = {1}};
        const map_operand codes = {.data = (char *)h->data + c->begin,
                                   .scale = (float *)h->scale + c->begin / BLOCKS8_BLOCK,
                                   .type = U8,
                                   .store = c->at->store[s],
                                   .stride = {1}};
        map_call both = {0};
        both.extent[0] = c->at->tiled ? c->count : c->at->slot_count[s];
        both.operand[direction == WIDEN] = codes;
        both.operand[direction == PACK] = wide;
        o->device->map(o->device, &program, &both);
    }
}

/* ---- calls ---- */

static void call_component(call *c, const char *init) {
    if (init)
        service_run(&c->public, init);
    else
        c->o->component->optimizer.update(&c->public);
}

static call begin_call(optimizer *o, int32_t shape, int32_t param, const char *init, const graft_site *site,
                       graft_error *err) {
    optimizer_shape *const at = &o->shapes[shape];
    return (call){
        .public =
            {.size = sizeof(graft_call), .services = &services, .self = at->config, .site = site, .step = o->updates},
        .o = o,
        .at = at,
        .param = param,
        .initializing = init != NULL,
        .elementwise = 1,
        .err = err
    };
}

static graft_site site_of(const optimizer *o, int32_t shape, int32_t param) {
    const optimizer_shape *const at = &o->shapes[shape];
    return (graft_site){.size = sizeof(graft_site),
                        .name = param < 0 ? "" : o->names[param],
                        .kind = GRAFT_TENSOR,
                        .layer = -1,
                        .in = at->rank == 1 ? 0 : at->own[1],
                        .out = at->own[0],
                        .site = param < 0 ? 0 : param,
                        .sites = o->param_count};
}

int optimizer_is_elementwise(optimizer *o, int32_t shape, graft_error *err) {
    const graft_site site = site_of(o, shape, -1);
    call c = begin_call(o, shape, -1, NULL, &site, err);
    c.scanning = 1;
    for (int32_t s = 0; s < o->component->slot_count; s++)
        if (slot_at(o, s)->init) call_component(&c, slot_at(o, s)->init);
    call_component(&c, NULL);
    return c.elementwise;
}

int optimizer_call(optimizer *o, int32_t shape, int32_t param, const char *init, graft_error *err) {
    const graft_site site = site_of(o, shape, param);
    call c = begin_call(o, shape, param, init, &site, err);
    if (param < 0) {
        call_component(&c, init);
        return err->code;
    }
    const int64_t all = c.at->count, tile = c.at->tiled ? OPTIMIZER_TILE : all;
    for (c.begin = 0; c.begin < all && !err->code; c.begin += tile) {
        c.count = all - c.begin < tile ? all - c.begin : tile;
        convert(&c, WIDEN);
        call_component(&c, init);
        convert(&c, PACK);
    }
    return err->code;
}
