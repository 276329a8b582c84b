/* template-eval — runs the tree: expressions to values, statements to text. Scopes as in Jinja: a loop's `set` ends with its
 * round, an `if` has no scope, namespaces keep what is set in them. */
#include "text/template-lex.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void render_fail(rendering *r, const char *format, ...) {
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fail(r->err, GRAFT_FAILED, "%s line %d: %s", r->t->name, r->line, text);
}

/* ---- scopes ---- */

static void set_name(rendering *r, frame *in, const char *name, value v) {
    const value names = {.kind = V_NAMESPACE, .dict = &in->names};
    dict_put(r, names, value_words(name), v);
}

static const value *find_name(const rendering *r, const char *name) {
    for (frame *f = r->now; f; f = f->up) {
        const value names = {.kind = V_NAMESPACE, .dict = &f->names};
        const value *found = dict_word(names, name);
        if (found) return found;
    }
    return NULL;
}

static value read_name(rendering *r, const char *name) {
    const value *found = find_name(r, name);
    if (found) return *found;
    const int function = function_find(name, strlen(name));
    return function >= 0 ? (value){.kind = V_FUNCTION, .i = function} : value_undefined(name);
}

/* ---- output ---- */

static void add_marks(rendering *r, sink *to, const mark *m, size_t at) {
    for (; m; m = m->next) {
        mark *own = arena_new(&r->memory, 1, sizeof *own);
        *own = (mark){m->begin + at, m->end + at, m->message, NULL};
        if (to->last)
            to->last->next = own;
        else
            to->marks = own;
        to->last = own;
    }
}

void sink_add(rendering *r, value string) {
    if (r->out->text.length + string.s.length > TEMPLATE_OUTPUT) {
        render_fail(r, "the output is longer than %d MB", TEMPLATE_OUTPUT >> 20);
        return;
    }
    add_marks(r, r->out, string.s.marks, r->out->text.length);
    strbuf_add(&r->out->text, string.s.text ? string.s.text : "", string.s.length);
}

/* What `body` writes, as a string with its marks. */
static void run_body(rendering *r, const node *body);
static value capture(rendering *r, const node *body) {
    sink own = {0}, *const outer = r->out;
    r->out = &own;
    run_body(r, body);
    r->out = outer;
    value out = value_copy(r, own.text.text, own.text.length);
    out.s.marks = own.marks;
    strbuf_free(&own.text);
    return out;
}

/* ---- calls ---- */

static value call_macro(rendering *r, const node *m, const value_list *args, const value_dict *keywords,
                        const value *caller) {
    frame own = {.up = r->root}, *const outer = r->now;
    int64_t at = 0;
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "calls nest more than %d deep", TEMPLATE_DEPTH);
    for (const node *p = m->args; p && !failed(r); p = p->next) {
        const value names = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
        const value *named = keywords ? dict_word(names, p->name) : NULL;
        value v = value_undefined(p->name);
        if (at < args->count)
            v = args->at[at];
        else if (named)
            v = *named;
        else if (p->a) {
            r->now = &own;
            v = evaluate_node(r, p->a);
            r->now = outer;
        }
        at++;
        set_name(r, &own, p->name, v);
    }
    if (at < args->count && !failed(r))
        render_fail(r, "macro '%s' takes not more than %lld arguments", m->name, (long long)at);
    if (caller) set_name(r, &own, "caller", *caller);
    r->now = &own;
    const value out = failed(r) ? value_words("") : capture(r, m->body);
    r->now = outer;
    r->leave = 0;
    r->depth--;
    return out;
}

value call_value(rendering *r, value callee, const value_list *args, const value_dict *keywords) {
    switch (callee.kind) {
    case V_MACRO:
        return call_macro(r, callee.macro, args, keywords, NULL);
    case V_METHOD:
        return method_call(r, callee, args, keywords);
    case V_FUNCTION:
        return function_call(r, (int)callee.i, args, keywords);
    case V_UNDEFINED:
        render_fail(r, "'%s' is undefined", callee.s.text);
        return value_none();
    default:
        render_fail(r, "'%s' object is not callable", value_kind_name(callee));
        return value_none();
    }
}

static void collect(rendering *r, const node *args, value *list, value *keywords) {
    *list = value_new_list(r, V_LIST);
    *keywords = value_new_dict(r, V_DICT);
    for (const node *a = args; a && !failed(r); a = a->next) {
        const value spread = a->kind == N_UNPACK ? evaluate_node(r, a->a) : value_none();
        if (failed(r)) return;
        if (a->kind == N_UNPACK && a->op == OP_POWER && spread.kind == V_DICT) {
            for (int64_t i = 0; i < spread.dict->count; i++)
                dict_put(r, *keywords, spread.dict->keys[i], spread.dict->values[i]);
        } else if (a->kind == N_UNPACK) {
            const value items = value_items(r, spread);
            for (int64_t i = 0; i < items.list->count && !failed(r); i++)
                list_add(r, *list, items.list->at[i]);
        } else if (a->kind == N_KEYWORD)
            dict_put(r, *keywords, value_words(a->name), evaluate_node(r, a->a));
        else
            list_add(r, *list, evaluate_node(r, a));
    }
}

/* ---- operators ---- */

static int numeric(value v) {
    return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}
static double real_of(value v) {
    return v.kind == V_FLOAT ? v.f : (double)v.i;
}

static value bad_operands(rendering *r, const char *op, value a, value b) {
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED)
        render_fail(r, "'%s' is undefined", a.kind == V_UNDEFINED ? a.s.text : b.s.text);
    else
        render_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op, value_kind_name(a), value_kind_name(b));
    return value_none();
}

static value whole_operation(rendering *r, int op, int64_t x, int64_t y) {
    int64_t out = 0;
    int over = 0;
    if ((op == OP_FLOOR || op == '%' || op == '/') && y == 0) {
        render_fail(r, "division by zero");
        return value_none();
    }
    switch (op) {
    case '+':
        over = __builtin_add_overflow(x, y, &out);
        break;
    case '-':
        over = __builtin_sub_overflow(x, y, &out);
        break;
    case '*':
        over = __builtin_mul_overflow(x, y, &out);
        break;
    case '/':
        return value_float((double)x / (double)y);
    case OP_FLOOR:
    case '%': {
        if (y == -1) return op == '%' ? value_int(0) : x == INT64_MIN ? value_float(-(double)x) : value_int(-x);
        const int64_t q = x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
        return value_int(op == '%' ? x - q * y : q);
    }
    default: { /* ** */
        if (y < 0) return value_float(pow((double)x, (double)y));
        out = 1;
        for (int64_t n = y; n > 0 && !over; n--)
            over = __builtin_mul_overflow(out, x, &out) || n > 64 * 64;
    }
    }
    if (over) render_fail(r, "a whole number is too large");
    return value_int(out);
}

static value binary(rendering *r, int op, value a, value b) {
    static const char *const names[] = {"//", "**"};
    const char word[2] = {(char)op, 0};
    if (op == '~') return value_join(r, value_string(r, a), value_string(r, b));
    if (numeric(a) && numeric(b)) {
        if (a.kind != V_FLOAT && b.kind != V_FLOAT) return whole_operation(r, op, a.i, b.i);
        const double x = real_of(a), y = real_of(b);
        if ((op == '/' || op == OP_FLOOR || op == '%') && y == 0) {
            render_fail(r, "float division by zero");
            return value_none();
        }
        switch (op) {
        case '+':
            return value_float(x + y);
        case '-':
            return value_float(x - y);
        case '*':
            return value_float(x * y);
        case '/':
            return value_float(x / y);
        case OP_FLOOR:
            return value_float(floor(x / y));
        case '%':
            return value_float(x - floor(x / y) * y);
        default:
            return value_float(pow(x, y));
        }
    }
    if (op == '+' && a.kind == V_STRING && b.kind == V_STRING) return value_join(r, a, b);
    if (op == '+' && a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        value out = value_new_list(r, a.kind);
        for (int64_t i = 0; i < a.list->count; i++)
            list_add(r, out, a.list->at[i]);
        for (int64_t i = 0; i < b.list->count; i++)
            list_add(r, out, b.list->at[i]);
        return out;
    }
    if (op == '*' && ((a.kind == V_STRING && numeric(b) && b.kind != V_FLOAT) ||
                      (b.kind == V_STRING && numeric(a) && a.kind != V_FLOAT))) {
        const value text = a.kind == V_STRING ? a : b;
        value out = value_words("");
        for (int64_t n = a.kind == V_STRING ? b.i : a.i; n > 0 && text.s.length && !failed(r); n--)
            out = value_join(r, out, text);
        return out;
    }
    if (op == '+' && a.kind == V_STRING && b.kind != V_UNDEFINED) {
        render_fail(r, "can only concatenate str (not \"%s\") to str", value_kind_name(b));
        return value_none();
    }
    return bad_operands(r, op >= OP_EQ ? names[op - OP_FLOOR] : word, a, b);
}

static int compare(rendering *r, int op, value a, value b) {
    switch (op) {
    case OP_EQ:
        return value_equal(a, b);
    case OP_NE:
        return !value_equal(a, b);
    case '<':
        return value_less(r, a, b);
    case '>':
        return value_less(r, b, a);
    case OP_LE:
        return !value_less(r, b, a);
    case OP_GE:
        return !value_less(r, a, b);
    case OP_IN:
        return value_in(r, a, b);
    default:
        return !value_in(r, a, b);
    }
}

static value slice(rendering *r, const node *n) {
    const value of = evaluate_node(r, n->a);
    const node *const parts[] = {n->b, n->c, n->other};
    int64_t bounds[3] = {0}, given[3] = {0};
    for (int i = 0; i < 3 && !failed(r); i++) {
        const value v = parts[i] ? evaluate_node(r, parts[i]) : value_none();
        if (v.kind == V_NONE) continue;
        if (v.kind != V_INT && v.kind != V_BOOL) render_fail(r, "slice indices must be integers or None");
        bounds[i] = v.i;
        given[i] = 1;
    }
    const int64_t step = given[2] ? bounds[2] : 1;
    if (!failed(r) && of.kind == V_UNDEFINED) render_fail(r, "'%s' is undefined", of.s.text);
    if (!failed(r) && of.kind != V_STRING && of.kind != V_LIST && of.kind != V_TUPLE)
        render_fail(r, "'%s' object is not subscriptable", value_kind_name(of));
    if (!failed(r) && step == 0) render_fail(r, "slice step cannot be zero");
    if (failed(r)) return value_none();
    const int64_t length = value_length(r, of), low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    for (int i = 0; i < 2; i++) {
        if (!given[i]) bounds[i] = (i == 0) == (step > 0) ? low : high;
        if (given[i] && bounds[i] < 0) bounds[i] += length;
        bounds[i] = bounds[i] < low ? low : bounds[i] > high ? high : bounds[i];
    }
    if (of.kind == V_STRING && step == 1) {
        const int64_t end = bounds[1] > bounds[0] ? bounds[1] : bounds[0];
        return value_part(r, of, text_offset(of.s.text, of.s.length, bounds[0]),
                          text_offset(of.s.text, of.s.length, end));
    }
    const value from = value_items(r, of);
    value out = value_new_list(r, of.kind == V_TUPLE ? V_TUPLE : V_LIST), text = value_words("");
    for (int64_t i = bounds[0]; (step > 0 ? i < bounds[1] : i > bounds[1]) && !failed(r); i += step) {
        if (of.kind == V_STRING)
            text = value_join(r, text, from.list->at[i]);
        else
            list_add(r, out, from.list->at[i]);
    }
    return of.kind == V_STRING ? text : out;
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
        if (n->kind == N_DICT)
            dict_put(r, out, evaluate_node(r, item->a), evaluate_node(r, item->b));
        else
            list_add(r, out, evaluate_node(r, item));
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
        if (!failed(r) && !numeric(a)) return bad_operands(r, "unary", a, a);
        if (n->op == '+') return a;
        return a.kind == V_FLOAT ? value_float(-a.f) : whole_operation(r, '-', 0, a.i);
    case N_BINARY:
        a = evaluate_node(r, n->a);
        list = evaluate_node(r, n->b);
        return failed(r) ? value_none() : binary(r, n->op, a, list);
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
        return slice(r, n);
    case N_CALL:
        a = evaluate_node(r, n->a);
        collect(r, n->args, &list, &keywords);
        return failed(r) ? value_none() : call_value(r, a, list.list, keywords.dict);
    case N_FILTER:
        a = evaluate_node(r, n->a);
        collect(r, n->args, &list, &keywords);
        return failed(r) ? value_none() : filter_call(r, n->op, a, list.list, keywords.dict);
    case N_TEST:
        a = evaluate_node(r, n->a);
        collect(r, n->args, &list, &keywords);
        return failed(r) ? value_none() : value_bool(test_call(r, n->op, a, list.list));
    default:
        return value_none();
    }
}

value evaluate_node(rendering *r, const node *n) {
    if (failed(r)) return value_none();
    r->line = n->line;
    if (++r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "expressions nest more than %d deep", TEMPLATE_DEPTH);
    const value out = failed(r) ? value_none() : evaluate_kind(r, n);
    r->steps += out.kind == V_STRING ? (int64_t)(out.s.length / 128)
                                     : value_weight(out) / 64; /* who gets it walks through it */
    r->depth--;
    return failed(r) ? value_none() : out;
}

/* ---- statements ---- */

static void assign(rendering *r, const node *target, value v) {
    if (failed(r)) return;
    if (target->kind == N_NAME) {
        set_name(r, r->now, target->name, v);
    } else if (target->kind == N_ATTRIBUTE) {
        const value of = evaluate_node(r, target->a);
        if (failed(r)) return;
        if (of.kind != V_NAMESPACE)
            render_fail(r, "cannot assign attribute on non-namespace object");
        else
            dict_put(r, of, value_words(target->name), v);
    } else {
        const value items = value_items(r, v);
        int64_t wanted = 0;
        for (const node *n = target->args; n; n = n->next)
            wanted++;
        if (!failed(r) && items.list->count != wanted)
            render_fail(r, "%s values to unpack (expected %lld)",
                        items.list->count > wanted ? "too many" : "not enough", (long long)wanted);
        int64_t at = 0;
        for (const node *n = target->args; n && !failed(r); n = n->next)
            assign(r, n, items.list->at[at++]);
    }
}

static void run_for(rendering *r, const node *n) {
    value items = value_items(r, evaluate_node(r, n->b));
    frame own = {.up = r->now}, *const outer = r->now;
    if (n->c && !failed(r)) { /* for x in y if z */
        value kept = value_new_list(r, V_LIST);
        for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
            own = (frame){.up = outer};
            r->now = &own;
            assign(r, n->a, items.list->at[i]);
            const int take = value_true(evaluate_node(r, n->c));
            r->now = outer;
            if (take) list_add(r, kept, items.list->at[i]);
        }
        items = kept;
    }
    const int64_t count = failed(r) ? 0 : items.list->count;
    const value loop = value_new_dict(r, V_NAMESPACE); /* one for all rounds, as in Jinja */
    for (int64_t i = 0; i < count && !failed(r) && r->leave != N_BREAK; i++) {
        if (++r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
        own = (frame){.up = outer};
        r->now = &own;
        const struct {
            const char *name;
            value v;
        } members[] = {
            {"index",     value_int(i + 1)                                                                },
            {"index0",    value_int(i)                                                                    },
            {"first",     value_bool(i == 0)                                                              },
            {"last",      value_bool(i == count - 1)                                                      },
            {"length",    value_int(count)                                                                },
            {"revindex",  value_int(count - i)                                                            },
            {"revindex0", value_int(count - i - 1)                                                        },
            {"previtem",  i ? items.list->at[i - 1] : value_undefined("there is no previous item")        },
            {"nextitem",  i + 1 < count ? items.list->at[i + 1] : value_undefined("there is no next item")}
        };
        for (size_t m = 0; m < sizeof members / sizeof *members; m++)
            dict_put(r, loop, value_words(members[m].name), members[m].v);
        set_name(r, &own, "loop", loop);
        assign(r, n->a, items.list->at[i]);
        run_body(r, n->body);
        r->now = outer;
        if (r->leave == N_CONTINUE) r->leave = 0;
    }
    r->leave = 0;
    r->now = outer;
    if (!count && n->other) run_body(r, n->other);
}

/* Filters of a captured block begin at the node whose constant is the text. */
static value filtered(rendering *r, const node *filters, const node *from, value text) {
    if (filters == from) return text;
    const value inner = filtered(r, filters->a, from, text);
    value list, keywords;
    collect(r, filters->args, &list, &keywords);
    return failed(r) ? text : filter_call(r, filters->op, inner, list.list, keywords.dict);
}

static void add_generation(rendering *r, const node *n) {
    const int64_t begin = (int64_t)r->out->text.length;
    run_body(r, n->body);
    template_rendering *to = r->result;
    if (r->out != r->outer) return; /* inside something captured: its place is not known */
    mem_reserve(to->generation, to->generation_count, to->generation_capacity);
    to->generation[to->generation_count++] = (template_span){begin, (int64_t)r->out->text.length, -1};
}

static void run_block(rendering *r, const node *n) {
    frame own = {.up = r->now}, *const outer = r->now;
    value list, keywords;
    switch (n->kind) {
    case N_GENERATION:
        add_generation(r, n);
        break;
    case N_WITH:
        for (const node *k = n->args; k && !failed(r); k = k->next)
            set_name(r, &own, k->name, evaluate_node(r, k->a));
        r->now = &own;
        run_body(r, n->body);
        r->now = outer;
        break;
    case N_FILTER_BLOCK: {
        const value text = filtered(r, n->b, n->c, capture(r, n->body));
        if (!failed(r)) sink_add(r, value_string(r, text));
        break;
    }
    case N_CALL_BLOCK: {
        const value callee = evaluate_node(r, n->b->a), caller = {.kind = V_MACRO, .macro = n};
        collect(r, n->b->args, &list, &keywords);
        if (!failed(r) && callee.kind != V_MACRO) render_fail(r, "{%% call %%} needs a macro");
        if (!failed(r)) sink_add(r, call_macro(r, callee.macro, list.list, keywords.dict, &caller));
        break;
    }
    default:
        break;
    }
}

static void run_statement(rendering *r, const node *n) {
    r->line = n->line;
    switch (n->kind) {
    case N_TEXT:
        sink_add(r, n->constant);
        break;
    case N_OUTPUT: {
        const value v = evaluate_node(r, n->a);
        if (!failed(r)) sink_add(r, value_string(r, v));
        break;
    }
    case N_IF:
        run_body(r, value_true(evaluate_node(r, n->a)) ? n->body : n->other);
        break;
    case N_FOR:
        run_for(r, n);
        break;
    case N_SET:
        assign(r, n->a, evaluate_node(r, n->b));
        break;
    case N_SET_BLOCK: {
        const value text = capture(r, n->body);
        if (!failed(r)) assign(r, n->a, filtered(r, n->b, n->c, text));
        break;
    }
    case N_MACRO:
        set_name(r, r->now, n->name, (value){.kind = V_MACRO, .macro = n});
        break;
    case N_BREAK:
    case N_CONTINUE:
        r->leave = n->kind;
        break;
    default:
        run_block(r, n);
        break;
    }
}

static void run_body(rendering *r, const node *body) {
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "tags nest more than %d deep", TEMPLATE_DEPTH);
    for (const node *n = body; n && !failed(r) && !r->leave; n = n->next) {
        if (++r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
        if (!failed(r)) run_statement(r, n);
    }
    r->depth--;
}

/* ---- the public part ---- */

int template_compile(const char *source, size_t length, const char *name, chat_template **out, graft_error *err) {
    chat_template *t = mem_new(1, sizeof *t);
    t->name = arena_copy(&t->memory, name, strlen(name));
    if (length > TEMPLATE_OUTPUT)
        fail(err, GRAFT_FAILED, "%s: a template of %zu bytes; at most %d MB", name, length, TEMPLATE_OUTPUT >> 20);
    else
        t->body = template_parse(t, source, length, err);
    if (err->code) {
        template_free(t);
        return err->code;
    }
    *out = t;
    return GRAFT_OK;
}

void template_free(chat_template *t) {
    if (!t) return;
    arena_free(&t->memory);
    free(t);
}

int template_has_generation(const chat_template *t) {
    return t->generation;
}

static void read_context(rendering *r, const json_t *context) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)context, key, item) {
        value v;
        if (strcmp(key, "messages") == 0 && json_is_array(item)) {
            size_t i;
            json_t *message;
            v = value_new_list(r, V_LIST);
            json_array_foreach(item, i, message) list_add(r, v, value_from_json(r, message, (int32_t)i));
        } else {
            v = value_from_json(r, item, -1);
        }
        set_name(r, r->root, key, v);
    }
}

int template_render(const chat_template *t, const json_t *context, time_t now, template_rendering *out,
                    graft_error *err) {
    frame root = {0}, top = {.up = &root};
    sink main_sink = {0};
    rendering r = {
        .t = t, .root = &root, .now = &top, .out = &main_sink, .outer = &main_sink, .result = out, .err = err};
    r.clock = now ? now : time(NULL);
    out->text.length = 0;
    out->generation_count = out->said_count = 0;
    read_context(&r, context);
    r.root = &top; /* macros see what the template sets at its top */
    run_body(&r, t->body);
    strbuf_add(&out->text, main_sink.text.text ? main_sink.text.text : "", main_sink.text.length);
    for (const mark *m = main_sink.marks; m; m = m->next) {
        mem_reserve(out->said, out->said_count, out->said_capacity);
        out->said[out->said_count++] = (template_span){(int64_t)m->begin, (int64_t)m->end, m->message};
    }
    strbuf_free(&main_sink.text);
    arena_free(&r.memory);
    return err->code;
}

void template_rendering_free(template_rendering *r) {
    strbuf_free(&r->text);
    free(r->generation);
    free(r->said);
    *r = (template_rendering){0};
}
