/* template-call — how things built in are called: arguments brought to their parameters, methods and attributes found. */
#include "text/template-private.h"
#include <stdlib.h>
#include <string.h>

int place_of(const char *const *names, const char *name, size_t length) {
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return i;
    return -1;
}

/* ---- arguments ---- */

int bind_arguments(rendering *r, invocation *c, const char *parameters) {
    const int positional = *parameters == '/';
    int64_t known = 0, used = 0;
    const value names = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)c->keywords};
    memset(c->given, 0, sizeof c->given);
    for (const char *at = parameters + positional; *at && !failed(r); known++) {
        const size_t length = strcspn(at, " !");
        const int needed = at[length] == '!';
        const value *named = positional ? NULL : dict_get(names, value_text(at, length));
        const int by_place = known < c->args->count;
        if (named && by_place) render_fail(r, "%s: %.*s is given twice", c->name, (int)length, at);
        c->given[known] = by_place ? &c->args->at[known] : named;
        if (needed && !c->given[known]) render_fail(r, "%s needs its argument %.*s", c->name, (int)length, at);
        used += named != NULL;
        at += length + (size_t)needed;
        at += *at == ' ';
    }
    if (c->args->count > known)
        render_fail(r, "%s takes at most %lld arguments, not %lld", c->name, (long long)known,
                    (long long)c->args->count);
    if (c->keywords->count > used) render_fail(r, "%s has no such keyword argument", c->name);
    return !failed(r);
}

int64_t whole_argument(rendering *r, const invocation *c, int at, int64_t otherwise) {
    const value *given = c->given[at];
    if (!given) return otherwise;
    if (given->kind != V_INT && given->kind != V_BOOL)
        render_fail(r, "%s: '%s' object cannot be interpreted as an integer", c->name, value_kind_name(*given));
    return given->kind == V_INT || given->kind == V_BOOL ? given->i : otherwise;
}

static value call_method(rendering *r, value self, const method *m, const value_list *args,
                         const value_dict *keywords) {
    invocation c = {.on = self, .name = m->name, .which = m->which, .args = args, .keywords = keywords};
    if (m->parameters && !bind_arguments(r, &c, m->parameters)) return value_none();
    return m->call(r, &c);
}

value method_call(rendering *r, value on, const char *name) {
    static const value_list none = {0};
    static const value_dict nothing = {0};
    return failed(r) ? on : call_method(r, on, method_find(on, name, strlen(name)), &none, &nothing);
}

value call_value(rendering *r, value callee, const value_list *args, const value_dict *keywords) {
    switch (callee.kind) {
    case V_MACRO:
        return call_macro(r, callee.macro, args, keywords, NULL);
    case V_METHOD:
        return call_method(r, *callee.self, callee.method, args, keywords);
    case V_FUNCTION:
        return function_call(r, (int)callee.i, args, keywords);
    case V_LOOP:
        if (args->count != 1 || keywords->count) render_fail(r, "loop() takes the items of the next level");
        return failed(r) ? value_none() : call_loop(r, callee.loop, args->at[0]);
    case V_UNDEFINED:
        render_fail(r, "'%s' is undefined", callee.s.text);
        return value_none();
    default:
        render_fail(r, "'%s' object is not callable", value_kind_name(callee));
        return value_none();
    }
}

/* ---- attributes and items ---- */

/* Known to Python, refused by the immutable sandbox. */
static int changes(value on, const char *name, size_t length) {
    static const char *const list[] = {"append", "extend", "insert", "remove", "sort", "reverse", "clear", "pop", NULL};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    return (on.kind == V_LIST && place_of(list, name, length) >= 0) ||
           (on.kind == V_DICT && place_of(dict, name, length) >= 0);
}

static value missing(rendering *r, value on, const char *name, size_t length) {
    return value_undefined(
        arena_format(&r->memory, "%s object' has no attribute '%.*s", value_kind_name(on), (int)length, name));
}

static value loop_member(rendering *r, const loop *l, const char *name, size_t length) {
    static const char *const names[] = {"index",     "index0", "first",    "last",     "length", "revindex",
                                        "revindex0", "depth",  "previtem", "nextitem", "depth0", NULL};
    const int64_t count = l->items.list->count;
    switch (place_of(names, name, length)) {
    case 0:
        return value_int(l->at + 1);
    case 1:
        return value_int(l->at);
    case 2:
        return value_bool(l->at == 0);
    case 3:
        return value_bool(l->at == count - 1);
    case 4:
        return value_int(count);
    case 5:
        return value_int(count - l->at);
    case 6:
        return value_int(count - l->at - 1);
    case 7:
        return value_int(l->depth + 1);
    case 8:
        return l->at > 0 ? l->items.list->at[l->at - 1] : value_undefined("there is no previous item");
    case 9:
        return l->at + 1 < count ? l->items.list->at[l->at + 1] : value_undefined("there is no next item");
    case 10:
        return value_int(l->depth);
    default:
        return missing(r, (value){.kind = V_LOOP}, name, length);
    }
}

/* What the object has without its items; 0: nothing of that name. */
static int own_attribute(rendering *r, value on, const char *name, size_t length, value *out) {
    const method *m = method_find(on, name, length);
    if (m) {
        value *self = arena_new(&r->memory, 1, sizeof *self);
        count_items(r, 1);
        *self = on;
        *out = (value){.kind = V_METHOD, .method = m, .self = self};
    } else if (changes(on, name, length)) {
        *out = value_undefined(
            arena_format(&r->memory, "%.*s (a template cannot change a list or dict)", (int)length, name));
    }
    return m || changes(on, name, length);
}

/* x.name: attribute, then item. */
value value_attribute(rendering *r, value on, const char *name, size_t length) {
    value out;
    if (on.kind == V_UNDEFINED) {
        render_fail(r, "'%s' is undefined", on.s.text);
        return value_none();
    }
    if (own_attribute(r, on, name, length, &out)) return out;
    if (on.kind == V_LOOP) return loop_member(r, on.loop, name, length);
    if (on.kind == V_DICT || on.kind == V_NAMESPACE) {
        const value *found = dict_get(on, value_text(name, length));
        if (found) return *found;
    }
    return missing(r, on, name, length);
}

/* x[key]: item, then attribute. */
value value_item(rendering *r, value on, value key) {
    value out;
    if (on.kind == V_UNDEFINED) {
        render_fail(r, "'%s' is undefined", on.s.text);
        return value_none();
    }
    if (on.kind == V_DICT) {
        const value *found = dict_get(on, key);
        if (found) return *found;
    }
    if ((value_is_sequence(on) || on.kind == V_STRING) && (key.kind == V_INT || key.kind == V_BOOL)) {
        const int64_t length = value_length(r, on), at = key.i < 0 ? key.i + length : key.i;
        if (at < 0 || at >= length) return value_undefined("an item behind the end");
        if (on.kind != V_STRING) return on.list->at[at];
        const size_t begin = text_offset(on.s.text, on.s.length, at);
        return value_part(r, on, begin, begin + text_offset(on.s.text + begin, on.s.length - begin, 1));
    }
    if (key.kind != V_STRING) return value_undefined("an item");
    const char *name = arena_copy(&r->memory, key.s.text, key.s.length);
    if (on.kind == V_NAMESPACE || on.kind == V_LOOP) return value_attribute(r, on, name, key.s.length);
    return own_attribute(r, on, name, key.s.length, &out) ? out : missing(r, on, name, key.s.length);
}

value value_member(rendering *r, value of, value path) {
    if (path.kind != V_STRING) return value_item(r, of, path);
    for (size_t at = 0; at <= path.s.length && !failed(r);) {
        size_t end = at;
        int digits = 1;
        for (; end < path.s.length && path.s.text[end] != '.'; end++)
            digits &= path.s.text[end] >= '0' && path.s.text[end] <= '9';
        digits &= end > at && end - at < 18;
        of = value_item(
            r, of, digits ? value_int(strtoll(path.s.text + at, NULL, 10)) : value_text(path.s.text + at, end - at));
        at = end + 1;
    }
    return of;
}
