/* quantize-formula — a quantizer's own formulas: the textbook that fused kernels must equal.
 *
 * `w` is seen as (size / block_size, block_size) when the component has an option block_size, else as (out, in); padding up
 * to whole blocks is zero. BUFFER slots named codes and absmax are the weight's data and scale. */
#include "model/quantize-private.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    graft_call public;
    quantize *q;
    kernels *k; /* NULL: checking on shapes */
    formula_tensor names[1 + QUANTIZE_SLOTS];
    formula_binding bindings[1 + QUANTIZE_SLOTS];
    void *temps[QUANTIZE_SLOTS];
    double numbers[64];
    int32_t names_count, quantizing;
    graft_error *err;
} call;

static void service_run(graft_call *g, const char *text) {
    call *c = (call *)g;
    if (c->err->code) return;
    const formula_scope scope = {.tensors = c->names,
                                 .tensor_count = c->names_count,
                                 .numbers = c->q->number_names,
                                 .number_count = c->q->number_count,
                                 .where = c->q->in.component->name};
    formula *f = NULL;
    if (formula_compile(text, &scope, &f, c->err)) return;
    if (c->k) {
        void *scratch = c->k->alloc(c->k, formula_scratch(f, 0));
        const formula_run_call run = {.device = c->k,
                                      .bindings = c->bindings,
                                      .numbers = c->numbers,
                                      .activation = c->k->real,
                                      .scratch = scratch,
                                      .err = c->err};
        formula_run(f, &run);
        c->k->release(c->k, scratch);
    }
    formula_free(f);
}

static void service_fail(graft_call *g, const char *why) {
    fail(((call *)g)->err, GRAFT_FAILED, "%s: %s", ((call *)g)->q->in.component->name, why);
}

static void service_none_set(graft_call *g, const char *slot, double value) {
    (void)value;
    (void)slot;
    service_fail(g, "a quantizer has run() and fail() only");
}

static const graft_services services = {
    .size = sizeof services, .run = service_run, .fail = service_fail, .set = service_none_set, .refuse = service_fail};

static store_kind store_of(const graft_slot *s) {
    return strcmp(s->store, "u4") == 0              ? STORE_U4
           : strcmp(s->store, "u4-high-first") == 0 ? STORE_U4_HIGH
                                                    : STORE_PLAIN;
}

/* Shapes of w and of the slots for a weight of `out` x `in`. */
static int make_names(call *c, int64_t out, int64_t in, dtype real) {
    quantize *q = c->q;
    const plugin_component *comp = q->in.component;
    const int64_t size = q->block ? (out * in + q->block - 1) / q->block * q->block : out * in;
    static const char *const extra[] = {"size", "in", "out"};
    const double values[] = {(double)size, (double)in, (double)out};
    int32_t n = q->number_count;
    for (int32_t e = 0; e < 3; e++) { /* behind the options, once */
        int32_t at = 0;
        while (at < n && strcmp(q->number_names[at], extra[e]) != 0)
            at++;
        if (at == n) q->number_names[n++] = extra[e];
        q->numbers[at] = values[e];
    }
    q->number_count = n;
    memcpy(c->numbers, q->numbers, sizeof c->numbers);
    if (comp->slot_count > QUANTIZE_SLOTS)
        return fail(c->err, GRAFT_FAILED, "%s: %d slots, at most %d", comp->name, (int)comp->slot_count,
                    QUANTIZE_SLOTS);
    c->names[0] = (formula_tensor){
        .name = "w",
        .may = FORMULA_READ | (c->quantizing ? 0 : FORMULA_WRITE),
        .rank = 2,
        .shape = {q->block ? size / q->block : out, q->block ? q->block : in},
        .type = real
    };
    for (int32_t s = 0; s < comp->slot_count; s++) {
        const graft_slot *d = &comp->slots[s];
        formula_tensor *t = &c->names[1 + s];
        *t = (formula_tensor){.name = d->name, .type = real, .store = store_of(d), .may = FORMULA_READ};
        if (d->role == GRAFT_TEMP || (d->role == GRAFT_BUFFER && !d->values && c->quantizing)) t->may |= FORMULA_WRITE;
        if (t->store != STORE_PLAIN)
            t->type = U8;
        else if (strcmp(d->store, "i8") == 0)
            t->type = I8;
        if (formula_shape(d->shape, q->number_names, q->numbers, n, t->shape, &t->rank, c->err))
            return fail_within(c->err, "%s: shape of %s", comp->name, d->name);
    }
    c->names_count = 1 + comp->slot_count;
    return GRAFT_OK;
}

static call call_make(quantize *q, kernels *k, int32_t quantizing, graft_error *err) {
    return (call){
        .public = {.size = sizeof(graft_call), .services = &services, .self = q->in.config},
        .q = q,
        .k = k,
        .quantizing = quantizing,
        .err = err
    };
}

int quantize_check(quantize *q, int64_t out, int64_t in, graft_error *err) {
    for (int32_t quantizing = 1; quantizing >= 0 && !err->code; quantizing--) {
        call c = call_make(q, NULL, quantizing, err);
        if (make_names(&c, out, in, F32) == GRAFT_OK)
            (quantizing ? q->in.component->quantizer.quantize : q->in.component->quantizer.dequantize)(&c.public);
    }
    return err->code;
}

int quantize_by_formulas(quantize *q, kernels *k, weight *w, const void *values, graft_error *err) {
    call c = call_make(q, k, 1, err);
    if (make_names(&c, w->out, w->in, k->real)) return err->code;
    const plugin_component *comp = q->in.component;
    const int64_t size = c.names[0].shape[0] * c.names[0].shape[1], wide = dtype_bytes(k->real);
    const int64_t blocks = q->block ? size / q->block : w->out;
    void *padded = k->alloc(k, size * wide), *scale = k->alloc(k, blocks * wide);
    k->copy(k, padded, values, w->out * w->in * wide);
    c.bindings[0].data = padded;
    for (int32_t s = 0; s < comp->slot_count; s++) {
        const graft_slot *d = &comp->slots[s];
        int64_t count = 1;
        for (int32_t r = 0; r < c.names[1 + s].rank; r++)
            count *= c.names[1 + s].shape[r];
        if (strcmp(d->name, "codes") == 0) {
            c.bindings[1 + s].data = w->data;
        } else if (strcmp(d->name, "absmax") == 0) {
            c.bindings[1 + s].data = scale;
        } else {
            c.bindings[1 + s].data = c.temps[s] = k->alloc(k, count * wide);
            void *raw = mem_new((size_t)count, (size_t)wide);
            if (d->values) dtype_convert(raw, k->real, d->values, F64, count);
            k->upload(k, c.temps[s], raw, count * wide);
            free(raw);
        }
    }
    comp->quantizer.quantize(&c.public);
    k->convert(k, w->scale, F32, scale, k->real, blocks);
    for (int32_t s = 0; s < comp->slot_count; s++)
        k->release(k, c.temps[s]);
    k->release(k, padded);
    k->release(k, scale);
    return err->code;
}
