/* number — expressions of numbers: kept in reverse Polish order and evaluated in double at every run, since a number (the
 * learning rate, the step) changes from run to run. */
#include "formula/parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef double real;
#include "kernels/map-numbers.h"

static const double extent_max = 0x1p48;

/* ---- making ---- */

static void put(formula *f, map_op op, int32_t arg) {
    mem_reserve(f->code, f->code_count, f->code_capacity);
    f->code[f->code_count++] = (map_instruction){(int16_t)op, (int16_t)arg};
}

static int32_t close_code(formula *f, int32_t first) {
    mem_reserve(f->numbers, f->numbers_count, f->numbers_capacity);
    f->numbers[f->numbers_count] = (number_code){first, f->code_count - first};
    return f->numbers_count++;
}

static void put_constant(formula *f, double value) {
    int32_t at = 0;
    while (at < f->constant_count && memcmp(&f->constants[at], &value, sizeof value))
        at++;
    if (at == f->constant_count) {
        mem_reserve(f->constants, f->constant_count, f->constant_capacity);
        f->constants[f->constant_count++] = value;
    }
    put(f, MAP_NUMBER, ~at);
}

/* Returns how many values the stack holds at most. */
static int32_t put_node(formula *f, const statement *s, int32_t number) {
    const node *const n = &s->node[number];
    if (n->kind == NODE_VALUE) put_constant(f, n->value);
    if (n->kind == NODE_NUMBER) put(f, MAP_NUMBER, n->name);
    if (n->kind != NODE_CALL) return 1;
    int32_t deepest = 1;
    for (int32_t i = 0; i < n->arguments; i++) {
        const int32_t depth = i + put_node(f, s, n->argument[i]);
        deepest = depth > deepest ? depth : deepest;
    }
    put(f, n->op, 0);
    return deepest;
}

static int too_deep(const statement *s, int32_t at, int32_t depth) {
    if (depth <= FORMULA_STACK) return 0;
    say(s, at, "too deep an expression of numbers: it holds %d values at once, %d are possible", depth, FORMULA_STACK);
    return 1;
}

int32_t number_constant(formula *f, double value) {
    const int32_t first = f->code_count;
    put_constant(f, value);
    return close_code(f, first);
}

int32_t number_add(formula *f, const statement *s, int32_t at_node) {
    const int32_t first = f->code_count;
    if (too_deep(s, s->node[at_node].at, put_node(f, s, at_node))) return -1;
    return close_code(f, first);
}

int32_t number_product(formula *f, const statement *s, int32_t sign, const int16_t *up, int32_t ups,
                       const int16_t *down, int32_t downs) {
    const int32_t first = f->code_count;
    if (!ups) put_constant(f, sign);
    for (int32_t i = 0; i < ups; i++) {
        if (too_deep(s, s->node[up[i]].at, 1 + put_node(f, s, up[i]))) return -1;
        if (i) put(f, MAP_MUL, 0);
    }
    for (int32_t i = 0; i < downs; i++) {
        if (too_deep(s, s->node[down[i]].at, 1 + put_node(f, s, down[i]))) return -1;
        put(f, MAP_DIV, 0);
    }
    if (ups && sign < 0) put(f, MAP_NEG, 0);
    return close_code(f, first);
}

int number_same(const statement *s, int32_t a, int32_t b) {
    const node *const x = &s->node[a], *const y = &s->node[b];
    if (x->kind != y->kind) return 0;
    if (x->kind == NODE_VALUE) return x->value == y->value;
    if (x->kind != NODE_CALL) return x->kind == NODE_NUMBER && x->name == y->name;
    if (x->op != y->op) return 0;
    for (int32_t i = 0; i < x->arguments; i++)
        if (!number_same(s, x->argument[i], y->argument[i])) return 0;
    return 1;
}

/* ---- evaluating ---- */

int32_t op_arguments(map_op op) {
    switch (op) {
    case MAP_LOAD:
    case MAP_NUMBER:
    case MAP_INDEX:
    case MAP_NORMAL:
        return 0;
    case MAP_SELECT:
        return 3;
    case MAP_ADD:
    case MAP_SUB:
    case MAP_MUL:
    case MAP_DIV:
    case MAP_LT:
    case MAP_LE:
    case MAP_GT:
    case MAP_GE:
    case MAP_EQ:
    case MAP_NE:
    case MAP_AND:
    case MAP_OR:
    case MAP_MAX:
    case MAP_MIN:
    case MAP_POW:
    case MAP_UNIFORM:
    case MAP_MT19937:
        return 2;
    default:
        return 1;
    }
}

double number_value(const formula *f, int32_t number, const double *values) {
    const number_code code = f->numbers[number];
    double stack[FORMULA_STACK + 2] = {0};
    int32_t top = 0;
    for (int32_t i = code.first; i < code.first + code.length; i++) {
        const map_instruction in = f->code[i];
        if (in.op == MAP_NUMBER) {
            stack[top++] = in.arg < 0 ? f->constants[~in.arg] : values[in.arg];
            continue;
        }
        top -= op_arguments((map_op)in.op) - 1;
        double *const at = &stack[top - 1];
        *at = in.op == MAP_SELECT                ? at[0] != 0 ? at[1] : at[2]
                             : op_arguments((map_op)in.op) == 1 ? map_unary(in.op, *at)
                                                 : map_binary(in.op, at[0], at[1]);
    }
    return stack[0];
}

/* ---- number formulas and shapes ---- */

static statement *open_text(const char *text, const formula_scope *scope, graft_error *err) {
    statement *const s = mem_grow(NULL, 1, sizeof *s);
    const size_t length = strlen(text);
    statement_open(s, text, 0, length < FORMULA_TEXT ? (int32_t)length : FORMULA_TEXT, scope, err);
    if (length >= FORMULA_TEXT) say(s, 0, "the text is longer than %d bytes", FORMULA_TEXT);
    return s;
}

static double evaluate(const statement *s, int32_t root, const double *values) {
    formula f = {0};
    const int32_t code = number_add(&f, s, root);
    const double value = code < 0 ? 0 : number_value(&f, code, values);
    free(f.code), free(f.numbers), free(f.constants);
    if (!isfinite(value)) say(s, s->node[root].at, "the value is %g, not a finite number", value);
    return value;
}

int formula_number(const char *text, const char *const *names, const double *values, int32_t count, double *out,
                   graft_error *err) {
    const formula_scope scope = {.numbers = names, .number_count = count};
    graft_error local = {0};
    statement *const s = open_text(text, &scope, err ? err : &local);
    int32_t root, one;
    if (!s->err->code && !parse_numbers(s, &root, 1, &one) && !check_numbers(s)) *out = evaluate(s, root, values);
    const int code = s->err->code;
    free(s);
    return code;
}

/* `rows` as a whole extent becomes FORMULA_ROWS; within an expression its value would be that of one call. */
static int take_rows(statement *s, const int32_t *nodes, int32_t count, int32_t *is_rows) {
    for (int32_t i = 0; i < s->nodes; i++) {
        node *const n = &s->node[i];
        if (n->kind != NODE_WORD || n->length != 4 || memcmp(s->text + n->at, "rows", 4)) continue;
        int32_t e = 0;
        while (e < count && nodes[e] != i)
            e++;
        if (e == count) return say(s, n->at, "'rows' stands alone in a shape: it changes from call to call");
        is_rows[e] = 1;
        *n = (node){.kind = NODE_VALUE, .at = n->at};
    }
    return 0;
}

static int64_t whole_extent(const statement *s, int32_t root, const double *values) {
    const double value = evaluate(s, root, values);
    const int32_t at = s->node[root].at;
    if (s->err->code) return 0;
    if (value < 0) say(s, at, "the extent is %g; it may not be negative", value);
    if (value != floor(value)) say(s, at, "the extent is %.6g; it must be a whole number", value);
    if (value > extent_max) say(s, at, "the extent %g is too large", value);
    return s->err->code ? 0 : (int64_t)value;
}

int formula_shape(const char *text, const char *const *names, const double *values, int32_t count,
                  int64_t shape[FORMULA_RANK], int32_t *rank, graft_error *err) {
    const formula_scope scope = {.numbers = names, .number_count = count};
    graft_error local = {0};
    statement *const s = open_text(text, &scope, err ? err : &local);
    int32_t nodes[FORMULA_RANK], is_rows[FORMULA_RANK] = {0};
    double elements = 1;
    if (!s->err->code && !parse_numbers(s, nodes, FORMULA_RANK, rank) && !take_rows(s, nodes, *rank, is_rows) &&
        !check_numbers(s))
        for (int32_t d = 0; d < *rank && !s->err->code; d++) {
            shape[d] = is_rows[d] ? FORMULA_ROWS : whole_extent(s, nodes[d], values);
            elements *= is_rows[d] ? 1 : (double)shape[d];
        }
    if (!s->err->code && elements > extent_max) say(s, 0, "a tensor of %g elements is too large", elements);
    const int code = s->err->code;
    free(s);
    return code;
}
