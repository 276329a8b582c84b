/* template-eval — expressions to values. */
#include "text/template-private.h"
#include <string.h>

/* ---- names ---- */

void set_name(rendering *r, frame *in, const char *name, value v) {
    const value names = {.kind = V_NAMESPACE, .dict = &in->names};
    dict_put(r, names, value_words(name), v);
}

static value read_name(const rendering *r, const char *name) {
    for (frame *f = r->now; f; f = f->up) {
        const value names = {.kind = V_NAMESPACE, .dict = &f->names};
        const value *found = dict_word(names, name);
        if (found) return *found;
    }
    const int function = function_find(name, strlen(name));
    return function >= 0 ? (value){.kind = V_FUNCTION, .i = function} : value_undefined(name);
}

/* ---- calls ---- */

static void add_keyword(rendering *r, value keywords, value name, value v) {
    if (name.kind != V_STRING) render_fail(r, "keywords must be strings");
    if (dict_get(keywords, name)) render_fail(r, "a keyword argument is given twice");
    dict_put(r, keywords, name, v);
}

/* f(a, *list, b=c, **dict) */
void collect_arguments(rendering *r, const node *args, value *list, value *keywords) {
    *list = value_new_list(r, V_LIST);
    *keywords = value_new_dict(r, V_DICT);
    for (const node *a = args; a && !failed(r); a = a->next) {
        const int by_name = a->kind == N_UNPACK && a->op == OP_POWER;
        const value v = evaluate_node(r, a->kind == N_UNPACK || a->kind == N_KEYWORD ? a->a : a);
        if (by_name && v.kind != V_DICT && !failed(r))
            render_fail(r, "argument after ** must be a mapping, not %s", value_kind_name(v));
        if (failed(r)) return;
        if (by_name) {
            for (int64_t i = 0; i < v.dict->count; i++)
                add_keyword(r, *keywords, v.dict->keys[i], v.dict->values[i]);
        } else if (a->kind == N_UNPACK) {
            list_add_all(r, *list, value_items(r, v));
        } else if (a->kind == N_KEYWORD) {
            add_keyword(r, *keywords, value_words(a->name), v);
        } else {
            list_add(r, *list, v);
        }
    }
}

value evaluate_filters(rendering *r, const node *filters, const node *from, value text) {
    if (filters == from || failed(r)) return text;
    const value inner = evaluate_filters(r, filters->a, from, text);
    value list, keywords;
    collect_arguments(r, filters->args, &list, &keywords);
    return failed(r) ? text : filter_call(r, filters->op, inner, list.list, keywords.dict);
}

/* ---- expressions ---- */

static value evaluate_slice(rendering *r, const node *n) {
    const value of = evaluate_node(r, n->a);
    const node *const parts[] = {n->b, n->c, n->other};
    value bounds[3];
    for (int i = 0; i < 3; i++)
        bounds[i] = parts[i] ? evaluate_node(r, parts[i]) : value_none();
    return failed(r) ? value_none() : slice(r, of, bounds);
}

static value compare_chain(rendering *r, const node *n) {
    value left = evaluate_node(r, n->a);
    for (const node *link = n->args; link && !failed(r); link = link->next) {
        const value right = evaluate_node(r, link->a);
        if (failed(r) || !compare(r, link->op, left, right)) return value_bool(0);
        left = right;
    }
    return value_bool(1);
}

static value collection(rendering *r, const node *n) {
    value out = n->kind == N_DICT ? value_new_dict(r, V_DICT) : value_new_list(r, n->kind == N_LIST ? V_LIST : V_TUPLE);
    for (const node *item = n->args; item && !failed(r); item = item->next) {
        const value first = evaluate_node(r, n->kind == N_DICT ? item->a : item);
        if (n->kind != N_DICT)
            list_add(r, out, first);
        else if (value_hashable(r, first))
            dict_put(r, out, first, evaluate_node(r, item->b));
    }
    return out;
}

static value evaluate_kind(rendering *r, const node *n) {
    value a, list, keywords;
    switch (n->kind) {
    case N_CONST:
        return n->constant;
    case N_NAME:
        return read_name(r, n->name);
    case N_LIST:
    case N_TUPLE:
    case N_DICT:
        return collection(r, n);
    case N_UNARY:
        a = evaluate_node(r, n->a);
        return failed(r) ? a : negate(r, n->op, a);
    case N_BINARY:
        a = evaluate_node(r, n->a);
        list = evaluate_node(r, n->b);
        return failed(r) ? value_none() : operate(r, n->op, a, list);
    case N_COMPARE:
        return compare_chain(r, n);
    case N_AND:
        a = evaluate_node(r, n->a);
        return value_true(a) ? evaluate_node(r, n->b) : a;
    case N_OR:
        a = evaluate_node(r, n->a);
        return value_true(a) ? a : evaluate_node(r, n->b);
    case N_NOT:
        return value_bool(!value_true(evaluate_node(r, n->a)));
    case N_IF_ELSE:
        if (value_true(evaluate_node(r, n->a))) return evaluate_node(r, n->b);
        return n->c ? evaluate_node(r, n->c) : value_undefined("the inline if-expression");
    case N_ATTRIBUTE:
        a = evaluate_node(r, n->a);
        return failed(r) ? a : value_attribute(r, a, n->name, strlen(n->name));
    case N_ITEM:
        a = evaluate_node(r, n->a);
        list = evaluate_node(r, n->b);
        return failed(r) ? a : value_item(r, a, list);
    case N_SLICE:
        return evaluate_slice(r, n);
    case N_CALL:
        a = evaluate_node(r, n->a);
        collect_arguments(r, n->args, &list, &keywords);
        return failed(r) ? value_none() : call_value(r, a, list.list, keywords.dict);
    case N_FILTER:
        a = evaluate_node(r, n->a);
        collect_arguments(r, n->args, &list, &keywords);
        return failed(r) ? value_none() : filter_call(r, n->op, a, list.list, keywords.dict);
    case N_TEST:
        a = evaluate_node(r, n->a);
        collect_arguments(r, n->args, &list, &keywords);
        if (keywords.dict->count) render_fail(r, "the test '%s' takes no keyword argument", n->name);
        return failed(r) ? value_none() : value_bool(test_call(r, n->op, a, list.list));
    default:
        return value_none();
    }
}

value evaluate_node(rendering *r, const node *n) {
    if (failed(r)) return value_none();
    r->line = n->line;
    render_step(r, 1);
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "expressions nest more than %d deep", TEMPLATE_DEPTH);
    const value out = failed(r) ? value_none() : evaluate_kind(r, n);
    r->steps += out.kind == V_STRING ? (int64_t)(out.s.length / 128)
                                     : value_weight(out) / 64; /* who gets it walks through it */
    r->depth--;
    return failed(r) ? value_none() : out;
}
