/* map — builds one map step: code from the tree, each operand once, neighbouring indices merged where strides allow. */
#include "formula/lower.h"
#include <string.h>

static const double elements_max = 0x1p60; /* that one map visits */

static int too_much(const map_build *b, const char *what, int32_t limit) {
    return say(b->l->s, b->l->s->begin, "the statement needs more than %d %s at once; split it", limit, what);
}

void map_begin(map_build *b, lowering *l, const output *to, uint32_t reduced, map_store store) {
    b->l = l, b->store = store;
    b->count = b->depth = b->length = b->numbers = 0;
    b->valued = 0, b->twister = -1;
    for (int32_t i = 0; i < to->count; i++)
        b->order[b->count++] = to->order[i];
    b->kept = b->count;
    for (; reduced; reduced &= reduced - 1)
        b->order[b->count++] = __builtin_ctz(reduced);
    for (int32_t p = 0; p < b->count; p++)
        b->place_of[b->order[p]] = p, b->size[p] = l->s->index[b->order[p]].size;
    b->operand[0] = (map_source){.at = to->at};
    memcpy(b->operand[0].stride, to->stride, sizeof to->stride);
    b->operands = 1;
}

/* ---- code ---- */

static int put(map_build *b, map_op op, int32_t arg, int32_t pushes) {
    if (b->length == MAP_CODE) return too_much(b, "operations", MAP_CODE);
    b->code[b->length++] = (map_instruction){(int16_t)op, (int16_t)arg};
    b->depth += pushes;
    return b->depth > MAP_STACK ? too_much(b, "values", MAP_STACK) : 0;
}

int map_number(map_build *b, int32_t number) {
    if (number < 0) return GRAFT_FAILED;
    if (b->numbers == FORMULA_NUMBERS) return too_much(b, "numbers", FORMULA_NUMBERS);
    b->number[b->numbers++] = number;
    return put(b, MAP_NUMBER, b->numbers - 1, 1);
}

int map_operation(map_build *b, map_op op) {
    if (op == MAP_MT19937) b->twister = b->numbers - 2; /* its arguments are numbers, pushed just now */
    return put(b, op, 0, 1 - op_arguments(op));
}

/* The operand that reads `source`; a new one unless it is there. -1: too many. */
static int32_t operand(map_build *b, const map_source *source) {
    for (int32_t o = 0; o < b->operands; o++) {
        const map_source *const have = &b->operand[o];
        if (have->at.tensor == source->at.tensor && !have->at.picks && !source->at.picks &&
            !memcmp(have->stride, source->stride, sizeof have->stride) && extent_equal(have->gather, source->gather) &&
            extent_equal(have->gather_extent, source->gather_extent))
            return o;
    }
    if (b->operands == MAP_OPERANDS) {
        too_much(b, "tensors", MAP_OPERANDS);
        return -1;
    }
    b->operand[b->operands] = *source;
    return b->operands++;
}

static int load(map_build *b, int32_t number) {
    lowering *const l = b->l;
    const access *const a = &l->s->access[l->s->node[number].name];
    const formula_kind kind = l->s->scope->tensors[a->tensor].kind;
    if (kind != FORMULA_TENSOR) return say_handle(l, &(piece){.node = number, .handle = (int32_t)kind});
    map_source source = {.at = access_place(l, a)};
    if (l->s->err->code) return GRAFT_FAILED;
    memcpy(source.stride, a->stride, sizeof source.stride);
    if (a->gather >= 0) {
        const item *const it = &a->items[a->gather];
        source.gather = it->stride, source.gather_extent = it->size;
        if (map_node(b, it->node)) return GRAFT_FAILED;
    }
    const int32_t o = operand(b, &source);
    return o < 0 ? GRAFT_FAILED : a->gather >= 0 ? put(b, MAP_GATHER, o, 0) : put(b, MAP_LOAD, o, 1);
}

int map_node(map_build *b, int32_t number) {
    const node *const n = &b->l->s->node[number];
    if (n->number) return map_number(b, number_add(b->l->f, b->l->s, number));
    if (n->kind == NODE_TENSOR) return load(b, number);
    if (n->kind == NODE_INDEX) {
        b->valued |= 1u << b->place_of[n->name];
        return put(b, MAP_INDEX, b->place_of[n->name], 1);
    }
    for (int32_t i = 0; i < n->arguments; i++)
        if (map_node(b, n->argument[i])) return GRAFT_FAILED;
    return map_operation(b, n->op);
}

static int piece_value(map_build *b, const piece *p) {
    if (p->node >= 0) return map_node(b, p->node);
    map_source source = {.at = p->at};
    memcpy(source.stride, p->stride, sizeof source.stride);
    const int32_t o = operand(b, &source);
    return o < 0 ? GRAFT_FAILED : put(b, MAP_LOAD, o, 1);
}

int map_pieces(map_build *b, uint32_t pieces) {
    int32_t any = 0;
    for (int32_t inverse = 0; inverse < 2; inverse++)
        for (uint32_t rest = pieces; rest; rest &= rest - 1) {
            const piece *const p = &b->l->piece[__builtin_ctz(rest)];
            if (p->inverse != inverse) continue;
            if (inverse && !any && map_number(b, number_constant(b->l->f, 1))) return GRAFT_FAILED;
            any |= inverse;
            if (piece_value(b, p) || (any && map_operation(b, inverse ? MAP_DIV : MAP_MUL))) return GRAFT_FAILED;
            any = 1;
        }
    return 0;
}

/* ---- indices ---- */

static void remove_place(map_build *b, int32_t p) {
    for (int32_t i = p; i + 1 < b->count; i++) {
        b->size[i] = b->size[i + 1];
        for (int32_t o = 0; o < b->operands; o++)
            b->operand[o].stride[i] = b->operand[o].stride[i + 1];
    }
    for (int32_t i = 0; i < b->length; i++)
        if (b->code[i].op == MAP_INDEX && b->code[i].arg > p) b->code[i].arg--;
    const uint32_t below = (1u << p) - 1;
    b->valued = (b->valued & below) | (b->valued >> 1 & ~below);
    b->kept -= p < b->kept;
    b->count--;
}

/* Places p and p+1 are one longer dimension to every operand. */
static int can_merge(const map_build *b, int32_t p) {
    if ((b->valued >> p & 3) || p + 1 == b->kept) return 0;
    for (int32_t o = 0; o < b->operands; o++) {
        const extent *const stride = b->operand[o].stride;
        if (!extent_equal(stride[p], extent_times(stride[p + 1], b->size[p + 1]))) return 0;
    }
    return 1;
}

/* Strides from the statement's indices to places; then places of one element go, and neighbours merge. */
static void arrange(map_build *b) {
    for (int32_t o = 0; o < b->operands; o++) {
        extent by_index[FORMULA_INDICES];
        memcpy(by_index, b->operand[o].stride, sizeof by_index);
        for (int32_t p = 0; p < b->count; p++)
            b->operand[o].stride[p] = by_index[b->order[p]];
    }
    for (int32_t p = b->count - 1; p >= 0; p--)
        if (extent_equal(b->size[p], (extent){1, 0}) && !(b->valued >> p & 1)) remove_place(b, p);
    for (int32_t p = b->count - 2; p >= 0; p--)
        if (can_merge(b, p)) {
            b->size[p + 1] = extent_times(b->size[p], b->size[p + 1]);
            remove_place(b, p);
        }
    if (b->count) return;
    b->count = b->kept = 1; /* a scalar has one element */
    b->size[0] = (extent){1, 0};
    for (int32_t o = 0; o < b->operands; o++)
        b->operand[o].stride[0] = (extent){0};
}

static void *copied(arena *a, const void *from, int32_t count, size_t size) {
    void *const to = arena_new(a, (size_t)(count ? count : 1), size);
    memcpy(to, from, (size_t)count * size);
    return to;
}

int map_end(map_build *b) {
    arrange(b);
    double elements = 1;
    for (int32_t p = 0; p < b->count; p++)
        elements *= extent_cost(b->size[p]);
    if (b->count > MAP_INDICES) return too_much(b, "indices", MAP_INDICES);
    if (elements > elements_max) return say(b->l->s, b->l->s->begin, "the statement visits too many elements");
    arena *const memory = &b->l->f->memory;
    step *const st = step_new(b->l, STEP_MAP);
    map_step *const m = &st->map;
    m->operand = arena_new(memory, (size_t)b->operands, sizeof *m->operand);
    for (int32_t o = 0; o < b->operands; o++) {
        m->operand[o] = (map_place){
            .at = b->operand[o].at, .gather = b->operand[o].gather, .gather_extent = b->operand[o].gather_extent};
        memcpy(m->operand[o].stride, b->operand[o].stride, sizeof m->operand[o].stride);
    }
    memcpy(m->size, b->size, sizeof m->size);
    m->twister = b->twister;
    m->number = copied(memory, b->number, b->numbers, sizeof *b->number);
    m->program = (map_program){.indices = b->count,
                               .kept = b->kept,
                               .reduce_max = b->store == MAP_MAXIMUM,
                               .store = b->store,
                               .operands = b->operands,
                               .numbers = b->numbers,
                               .length = b->length,
                               .code = copied(memory, b->code, b->length, sizeof *b->code)};
    step_append(b->l, st);
    return 0;
}
