/* map — one statement, element by element: a program for a small stack is run at every index.
 *
 *   target[kept]  =  Σ_reduced  program(kept, reduced)         (= += -= *= /= max=;  Σ or the maximum)
 * An operand is read at offset + Σ_d index[d]·stride[d]; a stride of 0 broadcasts. */
#include "kernels/map-numbers.h"

typedef struct {
    const map_program *program;
    const map_call *call;
    const ref_state *state;
    int64_t index[MAP_INDICES];
    int64_t flat; /* of the target element */
    mt19937 twister;
} map_run;

static int64_t map_place(const map_run *r, const map_operand *o) {
    int64_t at = o->offset;
    for (int d = 0; d < r->program->indices; d++)
        at += r->index[d] * o->stride[d];
    return at;
}

static const float *map_values8(const map_run *r, const map_operand *o) {
    return o->store == STORE_BLOCKS8 ? r->state->map_signed : r->state->map_unsigned;
}

/* Bit position of 4-bit element `at` in its byte. */
static int map_nibble(const map_operand *o, int64_t at) {
    return (at % 2 == 0) == (o->store == STORE_U4) ? 0 : 4;
}

static real map_load(const map_run *r, const map_operand *o, int64_t at) {
    const uint8_t *bytes = o->data;
    switch (o->store) {
    case STORE_PLAIN:
        return load(o->data, o->type, at);
    case STORE_U4:
    case STORE_U4_HIGH:
        return bytes[at / 2] >> map_nibble(o, at) & 15;
    case STORE_U2:
    case STORE_U3:
        return (real)bits_get(bytes, at, o->store == STORE_U2 ? 2 : 3);
    default:
        return map_values8(r, o)[bytes[at]] * ((const float *)o->scale)[at / BLOCKS8_BLOCK];
    }
}

/* PLAIN and few bits; blocks8 targets are stored by the block. */
static void map_store_element(const map_operand *o, int64_t at, real v) {
    if (o->store == STORE_PLAIN) {
        store(o->data, o->type, at, v);
        return;
    }
    if (o->store == STORE_U2 || o->store == STORE_U3) {
        const int bits = o->store == STORE_U2 ? 2 : 3;
        bits_put(o->data, at, bits, (unsigned)whole(v, 0, (1 << bits) - 1));
        return;
    }
    uint8_t *byte = (uint8_t *)o->data + at / 2;
    const int shift = map_nibble(o, at);
    *byte = (uint8_t)((*byte & ~(15 << shift)) | (int)whole(v, 0, 15) << shift);
}

static real map_gather(const map_run *r, const map_operand *o, real k) {
    if (!(k >= 0 && k < (real)o->gather_extent)) return 0;
    return map_load(r, o, map_place(r, o) + (int64_t)k * o->gather);
}

static real map_draw(map_run *r, int32_t pc, real low, real high) {
    const map_instruction *code = r->program->code;
    const map_call *c = r->call;
    if (code[pc].op == MAP_UNIFORM)
        return (real)(low + ((double)high - low) * philox_uniform(c->seed, c->stream, (uint64_t)r->flat));
    /* seed and first may exceed what a float holds: they are taken from the numbers themselves */
    assert(pc >= 2 && code[pc - 1].op == MAP_NUMBER && code[pc - 2].op == MAP_NUMBER);
    const uint32_t seed = (uint32_t)c->numbers[code[pc - 2].arg];
    return mt19937_uniform(&r->twister, seed, (uint64_t)c->numbers[code[pc - 1].arg] + (uint64_t)r->flat);
}

/* The program's value at the current indices. */
static real map_value(map_run *r) {
    const map_program *p = r->program;
    const map_call *c = r->call;
    real stack[MAP_STACK + 1]; /* the last place only catches a program that is too deep */
    int top = -1;
    for (int32_t pc = 0; pc < p->length; pc++) {
        const int op = p->code[pc].op, arg = p->code[pc].arg;
        switch (op) {
        case MAP_LOAD:
            stack[++top] = map_load(r, &c->operand[arg], map_place(r, &c->operand[arg]));
            break;
        case MAP_GATHER:
            stack[top] = map_gather(r, &c->operand[arg], stack[top]);
            break;
        case MAP_NUMBER:
            stack[++top] = (real)c->numbers[arg];
            break;
        case MAP_INDEX:
            stack[++top] = (real)r->index[arg];
            break;
        case MAP_NORMAL:
            stack[++top] = (real)philox_normal(c->seed, c->stream, (uint64_t)r->flat);
            break;
        case MAP_SELECT:
            top -= 2;
            stack[top] = stack[top] != 0 ? stack[top + 1] : stack[top + 2];
            break;
        case MAP_NEG:
        case MAP_NOT:
        case MAP_SQRT:
        case MAP_EXP:
        case MAP_LOG:
        case MAP_ABS:
        case MAP_SIGN:
        case MAP_TANH:
        case MAP_SIGMOID:
        case MAP_ERF:
        case MAP_COS:
        case MAP_FLOOR:
        case MAP_ROUND:
            stack[top] = map_unary(op, stack[top]);
            break;
        case MAP_UNIFORM:
        case MAP_MT19937:
            top--;
            stack[top] = map_draw(r, pc, stack[top], stack[top + 1]);
            break;
        default:
            top--;
            stack[top] = map_binary(op, stack[top], stack[top + 1]);
        }
        assert(top >= 0 && top < MAP_STACK);
    }
    assert(top == 0);
    return stack[0];
}

/* Steps the indices first..end-1, the last one fastest; 0 when they are through (and all 0 again). */
static int map_advance(map_run *r, int first, int end) {
    for (int d = end - 1; d >= first; d--) {
        if (++r->index[d] < r->call->extent[d]) return 1;
        r->index[d] = 0;
    }
    return 0;
}

/* Sum or maximum over the reduced indices. */
static real map_reduced(map_run *r) {
    const map_program *p = r->program;
    if (p->kept == p->indices) return map_value(r);
    for (int d = p->kept; d < p->indices; d++)
        if (r->call->extent[d] == 0) return p->reduce_max ? -(real)INFINITY : 0;
    wide sum = 0;
    real most = -(real)INFINITY;
    do {
        const real v = map_value(r);
        sum += v;
        most = v > most ? v : most;
    } while (map_advance(r, p->kept, p->indices));
    return p->reduce_max ? most : (real)sum;
}

static real map_combined(map_store how, real old, real v) {
    switch (how) {
    case MAP_PLUS:
        return old + v;
    case MAP_MINUS:
        return old - v;
    case MAP_TIMES:
        return old * v;
    case MAP_OVER:
        return old / v;
    case MAP_MAXIMUM:
        return v > old ? v : old;
    default:
        return v;
    }
}

static void ref_map(kernels *k, const map_program *p, const map_call *c) {
    map_run r = {.program = p, .call = c, .state = k->state};
    const map_operand *target = &c->operand[0];
    const int blocks = target->store == STORE_BLOCKS8 || target->store == STORE_BLOCKS8_UNSIGNED;
    int64_t elements = 1;
    for (int d = 0; d < p->kept; d++)
        elements *= c->extent[d];
    assert(!blocks || target->offset == 0);
    float block[BLOCKS8_BLOCK];
    for (r.flat = 0; r.flat < elements; r.flat++) {
        const int64_t at = map_place(&r, target);
        real v = map_reduced(&r);
        if (p->store != MAP_SET) v = map_combined(p->store, map_load(&r, target, at), v);
        if (blocks) {
            const int64_t in_block = r.flat % BLOCKS8_BLOCK, first = r.flat - in_block;
            block[in_block] = (float)v;
            if (in_block == BLOCKS8_BLOCK - 1 || r.flat == elements - 1)
                blocks8_quantize(map_values8(&r, target), target->store == STORE_BLOCKS8, block, in_block + 1,
                                 (uint8_t *)target->data + first, (float *)target->scale + first / BLOCKS8_BLOCK);
        } else
            map_store_element(target, at, v);
        map_advance(&r, 0, p->kept);
    }
}
