/* quantize-formula — the callbacks of a quantizer run once, on shapes: every formula is compiled for any number of blocks. */
#include "model/quantize-private.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    graft_call public;
    quantize *q;
    quantize_program *p;
    quantize_steps *to;
    graft_error *err;
} call;

static void service_run(graft_call *g, const char *text) {
    call *c = (call *)g;
    if (c->err->code) return;
    const formula_scope scope = {.tensors = c->p->names,
                                 .tensor_count = 1 + c->q->in.component->slot_count,
                                 .numbers = c->q->number_names,
                                 .number_count = c->q->number_count,
                                 .where = c->q->in.component->name};
    if (c->to->count == QUANTIZE_STEPS)
        fail(c->err, GRAFT_FAILED, "%s: more than %d formulas in one callback", c->q->in.component->name,
             QUANTIZE_STEPS);
    else if (formula_compile(text, &scope, &c->to->step[c->to->count], c->err) == GRAFT_OK)
        c->to->count++;
}

static void service_fail(graft_call *g, const char *why) {
    fail(((call *)g)->err, GRAFT_FAILED, "%s: %s", ((call *)g)->q->in.component->name, why);
}

static void service_set(graft_call *g, const char *slot, double value) {
    (void)value;
    (void)slot;
    service_fail(g, "a quantizer has run() and fail() only");
}

static const graft_services services = {
    .size = sizeof services, .run = service_run, .fail = service_fail, .set = service_set, .refuse = service_fail};

/* ---- shapes ---- */

/* How a slot is stored: "" and "u4" ...; "u(bits)" takes the bits from a number. */
static int slot_store(const quantize *q, const graft_slot *s, formula_tensor *t, graft_error *err) {
    static const struct {
        const char *name;
        dtype type;
        store_kind store;
    } known[] = {
        {"u2",            U8,   STORE_U2     },
        {"u3",            U8,   STORE_U3     },
        {"u4",            U8,   STORE_U4     },
        {"u4-high-first", U8,   STORE_U4_HIGH},
        {"u8",            U8,   STORE_PLAIN  },
        {"i8",            I8,   STORE_PLAIN  },
        {"f16",           F16,  STORE_PLAIN  },
        {"bf16",          BF16, STORE_PLAIN  },
        {"",              F32,  STORE_PLAIN  }
    };
    char *name = mem_copy_text(s->store);
    if (strncmp(name, "u(", 2) == 0) {
        char *const close = strrchr(name, ')');
        double bits = 0;
        if (close) *close = '\0';
        formula_number(name + 2, q->number_names, q->numbers, q->number_count, &bits, err);
        free(name);
        name = mem_format("u%g", bits);
    }
    int found = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known && !err->code; i++)
        if (strcmp(name, known[i].name) == 0) t->type = known[i].type, t->store = known[i].store, found = 1;
    if (!found && !err->code)
        fail(err, GRAFT_USAGE, "%s: slot %s: store \"%s\" asks for %s; there are u2 u3 u4 u4-high-first u8 i8 f16 bf16",
             q->in.component->name, s->name, s->store, name);
    free(name);
    /* computed values have the device's own type; what stays has the same everywhere */
    t->activation = !*s->store && !quantize_is_stored(s);
    return err->code;
}

int quantize_slot_bits(const formula_tensor *t) {
    return t->store == STORE_U2 ? 2 : t->store == STORE_U3 ? 3 : t->store == STORE_PLAIN ? 8 * dtype_bytes(t->type) : 4;
}

/* Values of the numbers for a tile of so many blocks. */
void quantize_set_sizes(const quantize *q, const quantize_program *p, double *numbers, int64_t blocks) {
    numbers[q->size_number] = (double)(blocks * p->width);
    numbers[q->in_number] = (double)p->in;
    numbers[q->out_number] = (double)(blocks * p->width) / (double)p->pitch;
}

/* The shape for two prime numbers of blocks tells which dimension counts them. */
static int slot_shape(const quantize *q, quantize_program *p, int32_t slot, graft_error *err) {
    static const int64_t primes[2] = {1009, 1013};
    const graft_slot *s = &q->in.component->slots[slot];
    formula_tensor *t = &p->names[1 + slot];
    int64_t shape[2][FORMULA_RANK], elements = 1;
    const int64_t unit = q->block ? 1 : p->pitch / p->width;
    double numbers[QUANTIZE_NUMBERS];
    for (int i = 0; i < 2; i++) {
        memcpy(numbers, q->numbers, sizeof numbers);
        quantize_set_sizes(q, p, numbers, primes[i] * unit);
        if (formula_shape(s->shape, q->number_names, numbers, q->number_count, shape[i], &t->rank, err))
            return fail_within(err, "%s: shape of %s", q->in.component->name, s->name);
    }
    const int grows = t->rank > 0 && shape[0][0] == primes[0] * unit && shape[1][0] == primes[1] * unit;
    for (int32_t d = grows; d < t->rank; d++) {
        if (shape[0][d] != shape[1][d])
            return fail(err, GRAFT_FAILED,
                        "%s: slot %s: only its first dimension may grow with w, and counts its blocks; \"%s\" does not",
                        q->in.component->name, s->name, s->shape);
        elements *= shape[0][d];
    }
    memcpy(t->shape, shape[0], sizeof t->shape);
    if (grows) t->shape[0] = FORMULA_ROWS;
    if (!grows && elements && quantize_is_stored(s))
        return fail(err, GRAFT_FAILED, "%s: slot %s must hold something for every block; \"%s\" has a fixed size",
                    q->in.component->name, s->name, s->shape);
    p->per_block[1 + slot] = grows ? elements : 0;
    while (grows && quantize_is_stored(s) && elements * quantize_slot_bits(t) * p->align % 8)
        p->align *= 2;
    return GRAFT_OK;
}

static int make_names(quantize *q, quantize_program *p, graft_error *err) {
    const plugin_component *comp = q->in.component;
    p->align = 1;
    p->width = q->block ? q->block : q->group ? q->group : p->in;
    p->pitch = q->group ? (p->in + q->group - 1) / q->group * q->group : p->in;
    p->per_block[0] = p->width;
    p->names[0] = (formula_tensor){
        .name = "w", .rank = 2, .shape = {FORMULA_ROWS, p->width},
                .type = F32, .activation = 1
    };
    for (int32_t s = 0; s < comp->slot_count; s++) {
        const int number = comp->slots[s].role == GRAFT_NUMBER; /* found among the numbers */
        p->names[1 + s] = (formula_tensor){.name = number ? "" : comp->slots[s].name, .type = F32};
        if (number) continue;
        if (slot_store(q, &comp->slots[s], &p->names[1 + s], err) || slot_shape(q, p, s, err)) return err->code;
    }
    return GRAFT_OK;
}

int64_t quantize_blocks(const quantize_program *p, int64_t out) {
    return (out * p->pitch + p->width - 1) / p->width;
}

int64_t quantize_slot_elements(const quantize_program *p, int32_t slot, int64_t blocks) {
    const formula_tensor *t = &p->names[1 + slot];
    if (p->per_block[1 + slot]) return p->per_block[1 + slot] * blocks;
    int64_t elements = t->rank > 0;
    for (int32_t d = 0; d < t->rank; d++)
        elements *= t->shape[d];
    return elements;
}

int64_t quantize_slot_bytes(const quantize_program *p, int32_t slot, int64_t blocks) {
    return (quantize_slot_elements(p, slot, blocks) * quantize_slot_bits(&p->names[1 + slot]) + 7) / 8;
}

/* ---- programs ---- */

/* quantize writes what is stored, dequantize writes w. */
static void compile(quantize *q, quantize_program *p, int quantizing, graft_error *err) {
    const plugin_component *comp = q->in.component;
    p->names[0].may = FORMULA_READ | (quantizing ? 0 : FORMULA_WRITE);
    for (int32_t s = 0; s < comp->slot_count; s++) {
        const graft_slot *d = &comp->slots[s];
        const int writes = d->role == GRAFT_TEMP || (quantizing && quantize_is_stored(d));
        p->names[1 + s].may = FORMULA_READ | (writes ? FORMULA_WRITE : 0);
    }
    call c = {
        .public = {.size = sizeof(graft_call), .services = &services, .self = q->in.config},
        .q = q,
        .p = p,
        .to = quantizing ? &p->quantize : &p->dequantize,
        .err = err
    };
    (quantizing ? comp->quantizer.quantize : comp->quantizer.dequantize)(&c.public);
}

static void program_free(quantize_program *p) {
    for (int32_t i = 0; i < p->quantize.count; i++)
        formula_free(p->quantize.step[i]);
    for (int32_t i = 0; i < p->dequantize.count; i++)
        formula_free(p->dequantize.step[i]);
    if (p->device) {
        p->device->release(p->device, p->w);
        p->device->release(p->device, p->scratch);
        for (int32_t s = 0; s < QUANTIZE_SLOTS; s++)
            p->device->release(p->device, p->temps[s]);
    }
    free(p);
}

quantize_program *quantize_program_for(quantize *q, int64_t in, graft_error *err) {
    for (quantize_program *p = q->programs; p; p = p->next)
        if (p->in == in) return p;
    quantize_program *p = mem_new(1, sizeof *p);
    p->in = in;
    if (make_names(q, p, err) == GRAFT_OK) compile(q, p, 1, err);
    if (!err->code) compile(q, p, 0, err);
    if (err->code) {
        program_free(p);
        return NULL;
    }
    p->next = q->programs;
    return q->programs = p;
}

void quantize_programs_free(quantize *q) {
    while (q->programs) {
        quantize_program *const next = q->programs->next;
        program_free(q->programs);
        q->programs = next;
    }
}
