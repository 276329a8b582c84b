/* template-run — runs the statements. Scopes as in Jinja: what is set in a loop's round, a block, a macro ends with it, an `if`
 * has no scope, namespaces keep what is set in them. Macros and call blocks see the scope that they are written in. */
#include "text/template-private.h"
#include <string.h>

frame *frame_new(rendering *r, frame *up) {
    frame *f = arena_new(&r->memory, 1, sizeof *f);
    count_items(r, 1);
    f->up = up;
    return f;
}

/* Runs `body` in a scope of its own. */
static void run_inside(rendering *r, const node *body, frame *own) {
    frame *const outer = r->now;
    r->now = own;
    run_body(r, body);
    r->now = outer;
}

/* What `body` writes, as a string with its marks. */
static value capture(rendering *r, const node *body, frame *own) {
    sink text = {0}, *const outer = r->out;
    r->out = &text;
    run_inside(r, body, own);
    r->out = outer;
    return sink_take(r, &text);
}

/* ---- macros ---- */

static value closure_of(rendering *r, const node *n) {
    closure *c = arena_new(&r->memory, 1, sizeof *c);
    count_items(r, 1);
    *c = (closure){n, r->now};
    for (frame *f = r->now; f; f = f->up)
        f->kept = 1;
    return (value){.kind = V_MACRO, .macro = c};
}

/* What no parameter takes: `varargs` and `kwargs` where the macro names them, else an error. */
static void take_rest(rendering *r, const node *m, frame *own, const value_list *args, const value_dict *keywords,
                      const value *caller) {
    const value list = value_new_list(r, V_TUPLE), dict = value_new_dict(r, V_DICT);
    int64_t at = 0;
    for (const node *p = m->args; p; p = p->next)
        at++;
    for (; at < args->count; at++)
        list_add(r, list, args->at[at]);
    for (int64_t i = 0; i < keywords->count; i++) {
        const node *p = m->args;
        while (p && !text_is(&keywords->keys[i], p->name))
            p = p->next;
        if (!p) dict_put(r, dict, keywords->keys[i], keywords->values[i]);
    }
    if (caller && !(m->op & USES_CALLER)) dict_put(r, dict, value_words("caller"), *caller);
    if (list.list->count && !(m->op & USES_VARARGS)) render_fail(r, "macro '%s' takes fewer arguments", m->name);
    if (dict.dict->count && !(m->op & USES_KWARGS))
        render_fail(r, "macro '%s' takes no such keyword argument", m->name);
    if (m->op & USES_VARARGS) set_name(r, own, "varargs", list);
    if (m->op & USES_KWARGS) set_name(r, own, "kwargs", dict);
}

value call_macro(rendering *r, const closure *c, const value_list *args, const value_dict *keywords,
                 const value *caller) {
    const node *const m = c->n;
    const value names = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
    frame *const own = frame_new(r, c->scope), *const outer = r->now;
    int64_t at = 0;
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "calls nest more than %d deep", TEMPLATE_DEPTH);
    r->now = own;
    for (const node *p = m->args; p && !failed(r); p = p->next, at++) {
        const value *named = dict_word(names, p->name);
        if (named && at < args->count) render_fail(r, "macro '%s' got two values for '%s'", m->name, p->name);
        set_name(r, own, p->name,
                 at < args->count ? args->at[at]
                 : named          ? *named
                 : p->a           ? evaluate_node(r, p->a)
                                  : value_undefined(p->name));
    }
    take_rest(r, m, own, args, keywords, caller);
    if (m->op & USES_CALLER) set_name(r, own, "caller", caller ? *caller : value_undefined("caller"));
    const value out = failed(r) ? value_words("") : capture(r, m->body, own);
    r->now = outer;
    r->depth--;
    return out;
}

static void run_call_block(rendering *r, const node *n) {
    const value callee = evaluate_node(r, n->b->a), caller = closure_of(r, n);
    value list, keywords;
    collect_arguments(r, n->b->args, &list, &keywords);
    if (!failed(r) && callee.kind != V_MACRO) render_fail(r, "{%% call %%} needs a macro");
    if (!failed(r)) sink_add(r, r->out, call_macro(r, callee.macro, list.list, keywords.dict, &caller));
}

/* ---- set ---- */

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

/* ---- loops ---- */

/* The scope of the next round: the last one again, unless a macro holds on to it. */
static frame *next_round(rendering *r, frame *last, frame *up) {
    if (!last || last->kept) return frame_new(r, up);
    last->names.count = 0;
    return last;
}

/* for x in y if z */
static value kept_items(rendering *r, const node *n, value items) {
    frame *const outer = r->now, *own = NULL;
    const value kept = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
        r->now = own = next_round(r, own, outer);
        assign(r, n->a, items.list->at[i]);
        const int take = value_true(evaluate_node(r, n->c));
        r->now = outer;
        if (take) list_add(r, kept, items.list->at[i]);
    }
    return kept;
}

static void run_loop(rendering *r, const node *n, value items, int64_t depth) {
    frame *const outer = r->now, *own = NULL;
    if (n->c && !failed(r)) items = kept_items(r, n, items);
    loop *const state = arena_new(&r->memory, 1, sizeof *state); /* one for all rounds, as in Jinja */
    *state = (loop){.n = n, .scope = outer, .items = items, .depth = depth, .changed = value_undefined("changed")};
    count_items(r, 2);
    const int64_t count = failed(r) ? 0 : items.list->count;
    for (; state->at < count && !failed(r) && r->leave != N_BREAK; state->at++) {
        render_step(r, 1);
        r->now = own = next_round(r, own, outer);
        set_name(r, own, "loop", (value){.kind = V_LOOP, .loop = state});
        assign(r, n->a, items.list->at[state->at]);
        run_body(r, n->body);
        r->now = outer;
        if (r->leave == N_CONTINUE) r->leave = 0;
    }
    r->leave = 0;
    if (!count && n->other) run_inside(r, n->other, frame_new(r, outer));
}

value call_loop(rendering *r, loop *l, value items) {
    frame *const outer = r->now;
    sink text = {0}, *const out = r->out;
    if (!l->n->op) render_fail(r, "the loop must have the 'recursive' marker to be called");
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "calls nest more than %d deep", TEMPLATE_DEPTH);
    r->out = &text;
    r->now = l->scope;
    if (!failed(r)) run_loop(r, l->n, value_items(r, items), l->depth + 1);
    r->now = outer;
    r->out = out;
    r->depth--;
    return sink_take(r, &text);
}

/* ---- blocks ---- */

static void run_generation(rendering *r, const node *n) {
    const int64_t begin = (int64_t)r->out->text.length;
    template_rendering *to = r->result;
    run_inside(r, n->body, frame_new(r, r->now));
    if (r->out != r->outer) return; /* inside something captured: its place is not known */
    mem_reserve(to->generation, to->generation_count, to->generation_capacity);
    to->generation[to->generation_count++] = (template_span){begin, (int64_t)r->out->text.length, -1};
}

static void run_with(rendering *r, const node *n) {
    frame *const own = frame_new(r, r->now), *const outer = r->now;
    for (const node *k = n->args; k && !failed(r); k = k->next) { /* values see the outer scope */
        const value v = evaluate_node(r, k->b);
        r->now = own;
        assign(r, k->a, v);
        r->now = outer;
    }
    run_inside(r, n->body, own);
}

static void run_statement(rendering *r, const node *n) {
    value v;
    r->line = n->line;
    switch (n->kind) {
    case N_TEXT:
        sink_add(r, r->out, n->constant);
        break;
    case N_OUTPUT:
        v = evaluate_node(r, n->a);
        if (!failed(r)) sink_add(r, r->out, value_string(r, v));
        break;
    case N_IF:
        run_body(r, value_true(evaluate_node(r, n->a)) ? n->body : n->other);
        break;
    case N_FOR:
        v = value_items(r, evaluate_node(r, n->b));
        run_loop(r, n, v, 0);
        break;
    case N_SET:
        assign(r, n->a, evaluate_node(r, n->b));
        break;
    case N_SET_BLOCK:
        v = capture(r, n->body, frame_new(r, r->now));
        assign(r, n->a, evaluate_filters(r, n->b, n->c, v));
        break;
    case N_FILTER_BLOCK:
        v = evaluate_filters(r, n->b, n->c, capture(r, n->body, frame_new(r, r->now)));
        if (v.kind != V_STRING) render_fail(r, "a filtered block is no text, but '%s'", value_kind_name(v));
        if (!failed(r)) sink_add(r, r->out, v);
        break;
    case N_MACRO:
        set_name(r, r->now, n->name, closure_of(r, n));
        break;
    case N_CALL_BLOCK:
        run_call_block(r, n);
        break;
    case N_GENERATION:
        run_generation(r, n);
        break;
    case N_WITH:
        run_with(r, n);
        break;
    default: /* N_BREAK, N_CONTINUE */
        r->leave = (int)n->kind;
        break;
    }
}

void run_body(rendering *r, const node *body) {
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "tags nest more than %d deep", TEMPLATE_DEPTH);
    for (const node *n = body; n && !failed(r) && !r->leave; n = n->next) {
        render_step(r, 1);
        if (!failed(r)) run_statement(r, n);
    }
    r->depth--;
}
