/* template-builtins — filters, tests and global functions, as Jinja2 and Hugging Face's environment have them. */
#include "formats/jsontext.h"
#include "text/template-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int place(const char *const *names, const char *name, size_t length) {
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return i;
    return -1;
}

/* The argument at a position or under a name; NULL: not given. */
static const value *argument(const value_list *args, const value_dict *keywords, int64_t at, const char *name) {
    if (at < args->count) return &args->at[at];
    const value dict = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
    return keywords ? dict_word(dict, name) : NULL;
}

static value need_text(rendering *r, value v, const char *what) {
    if (v.kind == V_STRING) return v;
    if (v.kind == V_UNDEFINED || v.kind == V_NONE || v.kind == V_INT || v.kind == V_FLOAT || v.kind == V_BOOL)
        return value_string(r, v);
    render_fail(r, "%s needs a string, not '%s'", what, value_kind_name(v));
    return value_words("");
}

/* ---- tojson ---- */

typedef struct {
    int indent, ascii, sort;
    const char *item, *key; /* separators */
} json_style;

static void json_break(strbuf *out, const json_style *s, int level) {
    if (!s->indent) return;
    strbuf_puts(out, "\n");
    for (int i = 0; i < s->indent * level; i++)
        strbuf_puts(out, " ");
}

static int by_key(const void *a, const void *b) {
    const value *const *x = a, *const *y = b;
    const size_t n = (*x)->s.length < (*y)->s.length ? (*x)->s.length : (*y)->s.length;
    const int order = memcmp((*x)->s.text, (*y)->s.text, n);
    return order ? order : ((*x)->s.length > (*y)->s.length) - ((*x)->s.length < (*y)->s.length);
}

static void json_quote(strbuf *out, value v, int ascii) {
    char *text = mem_new(v.s.length + 1, 1);
    memcpy(text, v.s.text, v.s.length);
    jsontext_quote(out, text, ascii);
    free(text);
}

static void json_add(rendering *r, strbuf *out, value v, const json_style *s, int level);

static void json_object_add(rendering *r, strbuf *out, value v, const json_style *s, int level) {
    const value_dict *d = v.dict;
    const value **order = mem_new((size_t)d->count + 1, sizeof *order);
    int texts = 1;
    for (int64_t i = 0; i < d->count; i++) {
        order[i] = &d->keys[i];
        texts &= d->keys[i].kind == V_STRING;
    }
    if (s->sort && texts) qsort(order, (size_t)d->count, sizeof *order, by_key);
    strbuf_puts(out, "{");
    for (int64_t i = 0; i < d->count && !failed(r); i++) {
        if (i) strbuf_puts(out, s->item);
        json_break(out, s, level + 1);
        if (order[i]->kind == V_STRING) {
            json_quote(out, *order[i], s->ascii);
        } else {
            strbuf_puts(out, "\"");
            json_add(r, out, *order[i], s, level + 1);
            strbuf_puts(out, "\"");
        }
        strbuf_puts(out, s->key);
        json_add(r, out, d->values[order[i] - d->keys], s, level + 1);
    }
    if (d->count) json_break(out, s, level);
    strbuf_puts(out, "}");
    free(order);
}

static void json_add(rendering *r, strbuf *out, value v, const json_style *s, int level) {
    if (level > TEMPLATE_DEPTH || out->length > TEMPLATE_OUTPUT) render_fail(r, "tojson: too deep or too long");
    if (failed(r)) return;
    switch (v.kind) {
    case V_NONE:
        strbuf_puts(out, "null");
        break;
    case V_BOOL:
        strbuf_puts(out, v.i ? "true" : "false");
        break;
    case V_INT:
        strbuf_printf(out, "%lld", (long long)v.i);
        break;
    case V_FLOAT:
        if (isfinite(v.f))
            jsontext_real(out, v.f);
        else
            strbuf_puts(out, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
        break;
    case V_STRING:
        json_quote(out, v, s->ascii);
        break;
    case V_LIST:
    case V_TUPLE:
        strbuf_puts(out, "[");
        for (int64_t i = 0; i < v.list->count && !failed(r); i++) {
            if (i) strbuf_puts(out, s->item);
            json_break(out, s, level + 1);
            json_add(r, out, v.list->at[i], s, level + 1);
        }
        if (v.list->count) json_break(out, s, level);
        strbuf_puts(out, "]");
        break;
    case V_DICT:
        json_object_add(r, out, v, s, level);
        break;
    default:
        render_fail(r, "Object of type %s is not JSON serializable", value_kind_name(v));
    }
}

/* The first message a value holds text of, -1: none. */
static int32_t message_of(value v) {
    int32_t found = v.kind == V_STRING && v.s.marks ? v.s.marks->message : -1;
    if (v.kind == V_LIST || v.kind == V_TUPLE)
        for (int64_t i = 0; i < v.list->count && found < 0; i++)
            found = message_of(v.list->at[i]);
    if (v.kind == V_DICT)
        for (int64_t i = 0; i < v.dict->count && found < 0; i++)
            found = message_of(v.dict->values[i]);
    return found;
}

static value to_json(rendering *r, value v, const value_list *args, const value_dict *keywords) {
    const value *ascii = argument(args, keywords, 0, "ensure_ascii"), *indent = argument(args, keywords, 1, "indent");
    const value *separators = argument(args, keywords, 2, "separators"),
                *sort = argument(args, keywords, 3, "sort_keys");
    json_style s = {.ascii = ascii && value_true(*ascii), .sort = sort && value_true(*sort), .item = ", ", .key = ": "};
    if (indent && indent->kind == V_INT && indent->i > 0 && indent->i < 100) {
        s.indent = (int)indent->i;
        s.item = ",";
    }
    if (separators && (separators->kind == V_LIST || separators->kind == V_TUPLE) && separators->list->count == 2 &&
        separators->list->at[0].kind == V_STRING && separators->list->at[1].kind == V_STRING) {
        s.item = arena_copy(&r->memory, separators->list->at[0].s.text, separators->list->at[0].s.length);
        s.key = arena_copy(&r->memory, separators->list->at[1].s.text, separators->list->at[1].s.length);
    }
    strbuf text = {0};
    json_add(r, &text, v, &s, 0);
    value out = value_copy(r, text.text, text.length);
    const int32_t message = message_of(v);
    if (message >= 0 && out.s.length) {
        mark *m = arena_new(&r->memory, 1, sizeof *m);
        *m = (mark){0, out.s.length, message, NULL};
        out.s.marks = m;
    }
    strbuf_free(&text);
    return out;
}

/* ---- tests ---- */

static const char *const test_names[] = {"defined",     "undefined", "none",    "string", "mapping", "iterable",
                                         "sequence",    "number",    "integer", "float",  "boolean", "true",
                                         "false",       "equalto",   "eq",      "==",     "ne",      "in",
                                         "lt",          "gt",        "le",      "ge",     "odd",     "even",
                                         "divisibleby", "callable",  "sameas",  "lower",  "upper",   "lessthan",
                                         "greaterthan", NULL};
enum {
    IS_DEFINED,
    IS_UNDEFINED,
    IS_NONE,
    IS_STRING,
    IS_MAPPING,
    IS_ITERABLE,
    IS_SEQUENCE,
    IS_NUMBER,
    IS_INTEGER,
    IS_FLOAT,
    IS_BOOLEAN,
    IS_TRUE,
    IS_FALSE,
    IS_EQUALTO,
    IS_EQ,
    IS_EQ_SIGN,
    IS_NE,
    IS_IN,
    IS_LT,
    IS_GT,
    IS_LE,
    IS_GE,
    IS_ODD,
    IS_EVEN,
    IS_DIVISIBLE,
    IS_CALLABLE,
    IS_SAME,
    IS_LOWER,
    IS_UPPER,
    IS_LESS,
    IS_GREATER
};

int test_find(const char *name, size_t length) {
    return place(test_names, name, length);
}

static int is_case(rendering *r, value v, const char *method) {
    const value text = value_string(r, v), self = text;
    const value m = {
        .kind = V_METHOD, .s = {method, strlen(method), NULL},
             .self = &self
    };
    const value_list none = {0};
    const value turned = method_call(r, m, &none, NULL);
    return !failed(r) && value_equal(turned, text) && text.s.length > 0;
}

int test_call(rendering *r, int test, value on, const value_list *args) {
    const value arg = args->count ? args->at[0] : value_none();
    if (args->count == 0 &&
        ((test >= IS_EQUALTO && test <= IS_GE) || test == IS_DIVISIBLE || test == IS_SAME || test >= IS_LESS)) {
        render_fail(r, "the test '%s' needs an argument", test_names[test]);
        return 0;
    }
    switch (test) {
    case IS_DEFINED:
        return on.kind != V_UNDEFINED;
    case IS_UNDEFINED:
        return on.kind == V_UNDEFINED;
    case IS_NONE:
        return on.kind == V_NONE;
    case IS_STRING:
        return on.kind == V_STRING;
    case IS_MAPPING:
        return on.kind == V_DICT;
    case IS_ITERABLE:
        return on.kind == V_STRING || on.kind == V_LIST || on.kind == V_TUPLE || on.kind == V_DICT ||
               on.kind == V_UNDEFINED;
    case IS_SEQUENCE:
        return on.kind == V_STRING || on.kind == V_LIST || on.kind == V_TUPLE || on.kind == V_DICT ||
               on.kind == V_UNDEFINED;
    case IS_NUMBER:
        return on.kind == V_INT || on.kind == V_FLOAT || on.kind == V_BOOL;
    case IS_INTEGER:
        return on.kind == V_INT;
    case IS_FLOAT:
        return on.kind == V_FLOAT;
    case IS_BOOLEAN:
        return on.kind == V_BOOL;
    case IS_TRUE:
        return on.kind == V_BOOL && on.i;
    case IS_FALSE:
        return on.kind == V_BOOL && !on.i;
    case IS_EQUALTO:
    case IS_EQ:
    case IS_EQ_SIGN:
        return value_equal(on, arg);
    case IS_NE:
        return !value_equal(on, arg);
    case IS_IN:
        return value_in(r, on, arg);
    case IS_LT:
    case IS_LESS:
        return value_less(r, on, arg);
    case IS_GT:
    case IS_GREATER:
        return value_less(r, arg, on);
    case IS_LE:
        return !value_less(r, arg, on);
    case IS_GE:
        return !value_less(r, on, arg);
    case IS_ODD:
    case IS_EVEN:
    case IS_DIVISIBLE: {
        const int64_t by = test == IS_DIVISIBLE ? arg.i : 2;
        if (on.kind != V_INT || (test == IS_DIVISIBLE && (arg.kind != V_INT || by == 0 || by == -1))) {
            render_fail(r, "the test '%s' needs whole numbers", test_names[test]);
            return 0;
        }
        return (on.i % by != 0) == (test == IS_ODD);
    }
    case IS_CALLABLE:
        return on.kind == V_MACRO || on.kind == V_METHOD || on.kind == V_FUNCTION;
    case IS_SAME:
        return on.kind == arg.kind && value_equal(on, arg);
    case IS_LOWER:
        return is_case(r, on, "lower");
    default:
        return is_case(r, on, "upper");
    }
}

/* ---- filters ---- */

static const char *const filter_names[] = {
    "trim",     "tojson", "length",  "count", "items",  "list",    "join",  "selectattr", "rejectattr", "select",
    "reject",   "map",    "default", "d",     "string", "safe",    "upper", "lower",      "capitalize", "title",
    "dictsort", "first",  "last",    "int",   "float",  "replace", "sort",  "unique",     "reverse",    "round",
    "abs",      "sum",    "min",     "max",   "indent", "escape",  "e",     "wordcount",  "attr",       NULL};
enum {
    F_TRIM,
    F_TOJSON,
    F_LENGTH,
    F_COUNT,
    F_ITEMS,
    F_LIST,
    F_JOIN,
    F_SELECTATTR,
    F_REJECTATTR,
    F_SELECT,
    F_REJECT,
    F_MAP,
    F_DEFAULT,
    F_D,
    F_STRING,
    F_SAFE,
    F_UPPER,
    F_LOWER,
    F_CAPITALIZE,
    F_TITLE,
    F_DICTSORT,
    F_FIRST,
    F_LAST,
    F_INT,
    F_FLOAT,
    F_REPLACE,
    F_SORT,
    F_UNIQUE,
    F_REVERSE,
    F_ROUND,
    F_ABS,
    F_SUM,
    F_MIN,
    F_MAX,
    F_INDENT,
    F_ESCAPE,
    F_E,
    F_WORDCOUNT,
    F_ATTR
};

int filter_find(const char *name, size_t length) {
    return place(filter_names, name, length);
}

/* "a.b" as Jinja's attribute arguments: members, and whole numbers as places. */
static value member(rendering *r, value of, value path) {
    if (path.kind == V_INT) return value_item(r, of, path);
    if (path.kind != V_STRING) return value_undefined("attribute");
    for (size_t at = 0; at <= path.s.length && !failed(r);) {
        size_t end = at;
        while (end < path.s.length && path.s.text[end] != '.')
            end++;
        const value part = value_part(r, path, at, end);
        int digits = end > at;
        for (size_t i = at; i < end; i++)
            digits &= path.s.text[i] >= '0' && path.s.text[i] <= '9';
        if (of.kind == V_UNDEFINED) return of;
        of = value_item(
            r, of, digits ? value_int(strtoll(path.s.text + at, NULL, 10)) : value_copy(r, part.s.text, part.s.length));
        at = end + 1;
    }
    return of;
}

static value choose(rendering *r, value on, const value_list *args, int filter) {
    const value items = value_true(on) ? value_items(r, on) : value_new_list(r, V_LIST); /* as Jinja: `if seq` */
    value out = value_new_list(r, V_LIST);
    const int attribute = filter == F_SELECTATTR || filter == F_REJECTATTR,
              keep = filter == F_SELECTATTR || filter == F_SELECT;
    if (attribute && !args->count) render_fail(r, "%s needs the name of an attribute", filter_names[filter]);
    const int64_t name = attribute ? 1 : 0;
    int test = -1;
    if (!failed(r) && args->count > name) {
        const value word = args->at[name];
        test = word.kind == V_STRING ? test_find(word.s.text, word.s.length) : -1;
        if (test < 0) render_fail(r, "%s: no such test", filter_names[filter]);
    }
    const value_list rest = {.at = args->at ? args->at + (name + 1 < args->count ? name + 1 : 0) : NULL,
                             .count = args->count > name + 1 ? args->count - name - 1 : 0};
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        const value item = attribute ? member(r, items.list->at[i], args->at[0]) : items.list->at[i];
        const int passes = test >= 0 ? test_call(r, test, item, &rest) : value_true(item);
        if (!failed(r) && passes == keep) list_add(r, out, items.list->at[i]);
    }
    return out;
}

static value map_items(rendering *r, value on, const value_list *args, const value_dict *keywords) {
    const value items = value_true(on) ? value_items(r, on) : value_new_list(r, V_LIST);
    value out = value_new_list(r, V_LIST);
    const value dict = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
    const value *attribute = keywords ? dict_word(dict, "attribute") : NULL,
                *fallback = keywords ? dict_word(dict, "default") : NULL;
    int filter = -1;
    if (!attribute) {
        if (args->count && args->at[0].kind == V_STRING) filter = filter_find(args->at[0].s.text, args->at[0].s.length);
        if (filter < 0) render_fail(r, "map needs attribute= or the name of a filter");
    }
    const value_list rest = {.at = args->count ? args->at + 1 : NULL, .count = args->count ? args->count - 1 : 0};
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        value v = attribute ? member(r, items.list->at[i], *attribute)
                            : filter_call(r, filter, items.list->at[i], &rest, NULL);
        if (attribute && v.kind == V_UNDEFINED && fallback) v = *fallback;
        list_add(r, out, v);
    }
    return out;
}

static value join(rendering *r, value on, const value_list *args, const value_dict *keywords) {
    const value *between = argument(args, keywords, 0, "d"), *attribute = argument(args, keywords, 1, "attribute");
    const value items = value_items(r, on), gap = between ? value_string(r, *between) : value_words("");
    value out = value_words("");
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        const value v = attribute ? member(r, items.list->at[i], *attribute) : items.list->at[i];
        if (i) out = value_join(r, out, gap);
        out = value_join(r, out, value_string(r, v));
    }
    return out;
}

/* Stable merge of values by key; case is ignored for strings unless told otherwise. */
static int sort_less(rendering *r, value a, value b, int exact) {
    if (!exact && a.kind == V_STRING && b.kind == V_STRING) {
        const value_list none = {0};
        const value m = {
            .kind = V_METHOD, .s = {"lower", 5, NULL}
        };
        value x = m, y = m;
        x.self = &a;
        y.self = &b;
        return value_less(r, method_call(r, x, &none, NULL), method_call(r, y, &none, NULL));
    }
    return value_less(r, a, b);
}

static value sort_items(rendering *r, value items, const value *attribute, int exact, int reverse, int64_t pair) {
    value out = value_new_list(r, V_LIST);
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++)
        list_add(r, out, items.list->at[i]);
    value *at = out.list->at;
    for (int64_t i = 1; !failed(r) && i < out.list->count;
         i++) { /* insertion: lists of a template are short, steps bounded */
        const value moving = at[i];
        int64_t to = i;
        for (; to > 0 && !failed(r); to--) {
            value a = moving, b = at[to - 1];
            if (attribute) a = member(r, a, *attribute), b = member(r, b, *attribute);
            if (pair >= 0) a = a.list->at[pair], b = b.list->at[pair];
            if (!(reverse ? sort_less(r, b, a, exact) : sort_less(r, a, b, exact))) break;
            at[to] = at[to - 1];
            if (++r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
        }
        at[to] = moving;
    }
    return out;
}

static value dict_items(rendering *r, value on) {
    value out = value_new_list(r, V_LIST);
    if (on.kind == V_UNDEFINED) return out;
    if (on.kind != V_DICT) {
        render_fail(r, "Can only get item pairs from a mapping.");
        return out;
    }
    for (int64_t i = 0; i < on.dict->count && !failed(r); i++) {
        value pair = value_new_list(r, V_TUPLE);
        list_add(r, pair, on.dict->keys[i]);
        list_add(r, pair, on.dict->values[i]);
        list_add(r, out, pair);
    }
    return out;
}

static value to_number(rendering *r, value on, const value_list *args, int whole) {
    const value fallback = args->count ? args->at[0] : whole ? value_int(0) : value_float(0);
    if (on.kind == V_FLOAT) return whole ? fabs(on.f) < 9e18 ? value_int((int64_t)on.f) : fallback : on;
    if (on.kind == V_INT || on.kind == V_BOOL) return whole ? value_int(on.i) : value_float((double)on.i);
    if (on.kind != V_STRING || on.s.length > 400) return fallback;
    const char *text = arena_copy(&r->memory, on.s.text, on.s.length);
    char *end;
    const double f = strtod(text, &end);
    if (end == text || end[strspn(end, " \t\r\n")]) return fallback;
    return whole ? fabs(f) < 9e18 ? value_int((int64_t)f) : fallback : value_float(f);
}

static value indent_text(rendering *r, value on, const value_list *args, const value_dict *keywords) {
    const value *width = argument(args, keywords, 0, "width"), *first = argument(args, keywords, 1, "first");
    const value *blank = argument(args, keywords, 2, "blank");
    const value text = value_string(r, on);
    value gap = width && width->kind == V_STRING ? *width : value_words("");
    for (int64_t n = width && width->kind == V_INT ? width->i
                     : width                       ? 0
                                                   : 4;
         n > 0 && n < 1000 && gap.s.length < 1000; n--)
        gap = value_join(r, gap, value_words(" "));
    value out = first && value_true(*first) ? gap : value_words("");
    for (size_t at = 0; at < text.s.length && !failed(r);) {
        const char *line = memchr(text.s.text + at, '\n', text.s.length - at);
        const size_t end = line ? (size_t)(line - text.s.text) + 1 : text.s.length;
        if (at > 0 && (text.s.text[at] != '\n' || (blank && value_true(*blank)))) out = value_join(r, out, gap);
        out = value_join(r, out, value_part(r, text, at, end));
        at = end;
    }
    return out;
}

static value extreme(rendering *r, value on, int filter, const value_dict *keywords) {
    const value dict = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
    const value *attribute = keywords ? dict_word(dict, "attribute") : NULL;
    const value items = value_items(r, on);
    if (failed(r)) return value_none();
    if (filter == F_SUM) {
        double sum = 0;
        int whole = 1;
        for (int64_t i = 0; i < items.list->count; i++) {
            const value v = attribute ? member(r, items.list->at[i], *attribute) : items.list->at[i];
            if (v.kind != V_INT && v.kind != V_BOOL && v.kind != V_FLOAT)
                render_fail(r, "sum of '%s'", value_kind_name(v));
            whole &= v.kind != V_FLOAT;
            sum += v.kind == V_FLOAT ? v.f : (double)v.i;
        }
        return whole ? value_int((int64_t)sum) : value_float(sum);
    }
    if (!items.list->count) return value_undefined("an empty sequence");
    const value sorted = sort_items(r, items, attribute, 0, filter == F_MAX, -1);
    return failed(r) ? value_none() : sorted.list->at[0];
}

static value by_method(rendering *r, value on, const char *name, const value_list *args) {
    const value self = need_text(r, on, name);
    const value m = {
        .kind = V_METHOD, .s = {name, strlen(name), NULL},
             .self = &self
    };
    return method_call(r, m, args, NULL);
}

static value escape(rendering *r, value on) {
    const value text = value_string(r, on);
    value out = value_words("");
    for (size_t i = 0, from = 0; i <= text.s.length && !failed(r); i++) {
        const char c = i < text.s.length ? text.s.text[i] : 0;
        const char *word = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '"'  ? "&#34;"
                           : c == '\'' ? "&#39;"
                                       : NULL;
        if (!word && i < text.s.length) continue;
        out = value_join(r, out, value_part(r, text, from, i));
        if (word) out = value_join(r, out, value_words(word));
        from = i + 1;
    }
    return out;
}

static value unique(rendering *r, value items) {
    value out = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
        int seen = 0;
        for (int64_t k = 0; k < out.list->count && !seen; k++)
            seen = !sort_less(r, out.list->at[k], items.list->at[i], 0) &&
                   !sort_less(r, items.list->at[i], out.list->at[k], 0);
        r->steps += out.list->count;
        if (r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
        if (!seen) list_add(r, out, items.list->at[i]);
    }
    return out;
}

static value reversed(rendering *r, value on) {
    const value items = value_items(r, on);
    value out = value_new_list(r, V_LIST), text = value_words("");
    for (int64_t i = failed(r) ? 0 : items.list->count; i > 0 && !failed(r); i--) {
        if (on.kind == V_STRING)
            text = value_join(r, text, items.list->at[i - 1]);
        else
            list_add(r, out, items.list->at[i - 1]);
    }
    return on.kind == V_STRING ? text : out;
}

static value rounded(rendering *r, value on, const value_list *args, const value_dict *keywords) {
    const value *digits = argument(args, keywords, 0, "precision"), *method = argument(args, keywords, 1, "method");
    if (on.kind != V_INT && on.kind != V_FLOAT && on.kind != V_BOOL)
        render_fail(r, "round of '%s'", value_kind_name(on));
    const double scale = pow(10, digits && digits->kind == V_INT ? (double)digits->i : 0),
                 x = on.kind == V_FLOAT ? on.f : (double)on.i;
    if (method && method->kind == V_STRING && method->s.length == 4 && memcmp(method->s.text, "ceil", 4) == 0)
        return value_float(ceil(x * scale) / scale);
    if (method && method->kind == V_STRING && method->s.length == 5 && memcmp(method->s.text, "floor", 5) == 0)
        return value_float(floor(x * scale) / scale);
    return value_float(nearbyint(x * scale) / scale);
}

value filter_call(rendering *r, int filter, value on, const value_list *args, const value_dict *keywords) {
    static const value_list none = {0};
    const value *given;
    switch (filter) {
    case F_TRIM:
        return by_method(r, on, "strip", args);
    case F_TOJSON:
        return to_json(r, on, args, keywords);
    case F_LENGTH:
    case F_COUNT:
        return value_int(value_length(r, on));
    case F_ITEMS:
        return dict_items(r, on);
    case F_LIST: {
        const value items = value_items(r, on);
        value copy = value_new_list(r, V_LIST);
        for (int64_t i = 0; !failed(r) && i < items.list->count; i++)
            list_add(r, copy, items.list->at[i]);
        return copy;
    }
    case F_JOIN:
        return join(r, on, args, keywords);
    case F_SELECTATTR:
    case F_REJECTATTR:
    case F_SELECT:
    case F_REJECT:
        return choose(r, on, args, filter);
    case F_MAP:
        return map_items(r, on, args, keywords);
    case F_DEFAULT:
    case F_D: {
        const value *fallback = argument(args, keywords, 0, "default_value"),
                    *falsy = argument(args, keywords, 1, "boolean");
        const int replace = on.kind == V_UNDEFINED || (falsy && value_true(*falsy) && !value_true(on));
        return replace ? fallback ? *fallback : value_words("") : on;
    }
    case F_STRING:
    case F_SAFE:
        return value_string(r, on);
    case F_UPPER:
        return by_method(r, on, "upper", &none);
    case F_LOWER:
        return by_method(r, on, "lower", &none);
    case F_CAPITALIZE:
        return by_method(r, on, "capitalize", &none);
    case F_TITLE:
        return by_method(r, on, "title", &none);
    case F_DICTSORT: {
        const value *by = argument(args, keywords, 1, "by"), *exact = argument(args, keywords, 0, "case_sensitive");
        const int64_t pair = by && by->kind == V_STRING && by->s.length == 5 && memcmp(by->s.text, "value", 5) == 0;
        given = argument(args, keywords, 2, "reverse");
        return sort_items(r, dict_items(r, on), NULL, exact && value_true(*exact), given && value_true(*given), pair);
    }
    case F_FIRST:
    case F_LAST: {
        const value items = value_items(r, on);
        if (failed(r) || !items.list->count) return value_undefined("an empty sequence has no first or last item");
        return items.list->at[filter == F_FIRST ? 0 : items.list->count - 1];
    }
    case F_INT:
        return to_number(r, on, args, 1);
    case F_FLOAT:
        return to_number(r, on, args, 0);
    case F_REPLACE:
        return by_method(r, on, "replace", args);
    case F_SORT: {
        const value *reverse = argument(args, keywords, 0, "reverse"),
                    *exact = argument(args, keywords, 1, "case_sensitive");
        given = argument(args, keywords, 2, "attribute");
        return sort_items(r, value_items(r, on), given, exact && value_true(*exact), reverse && value_true(*reverse),
                          -1);
    }
    case F_UNIQUE:
        return unique(r, value_items(r, on));
    case F_REVERSE:
        return reversed(r, on);
    case F_ROUND:
        return rounded(r, on, args, keywords);
    case F_ABS:
        if (on.kind == V_FLOAT) return value_float(fabs(on.f));
        if (on.kind != V_INT && on.kind != V_BOOL) render_fail(r, "abs of '%s'", value_kind_name(on));
        return value_int(on.i < 0 && on.i > INT64_MIN ? -on.i : on.i);
    case F_SUM:
    case F_MIN:
    case F_MAX:
        return extreme(r, on, filter, keywords);
    case F_INDENT:
        return indent_text(r, on, args, keywords);
    case F_ESCAPE:
    case F_E:
        return escape(r, on);
    case F_WORDCOUNT: {
        const value words = by_method(r, on, "split", &none);
        return failed(r) ? words : value_int(words.list->count);
    }
    default:
        given = argument(args, keywords, 0, "name");
        if (!given || given->kind != V_STRING) return value_undefined("attr");
        return value_attribute(r, on, arena_copy(&r->memory, given->s.text, given->s.length), given->s.length);
    }
}

/* ---- global functions ---- */

static const char *const function_names[] = {"range", "dict", "namespace", "raise_exception", "strftime_now", NULL};
enum { CALL_RANGE, CALL_DICT, CALL_NAMESPACE, CALL_RAISE, CALL_STRFTIME };

int function_find(const char *name, size_t length) {
    return place(function_names, name, length);
}

static value range(rendering *r, const value_list *args) {
    int64_t bounds[3] = {0, 0, 1};
    value out = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < args->count && i < 3; i++) {
        if (args->at[i].kind != V_INT) render_fail(r, "range needs whole numbers");
        bounds[i] = args->at[i].i;
    }
    if (args->count == 1) bounds[1] = bounds[0], bounds[0] = 0;
    if (args->count < 1 || args->count > 3 || bounds[2] == 0)
        render_fail(r, "range takes 1 to 3 numbers, the step not 0");
    if (failed(r)) return out;
    const double count = ((double)bounds[1] - (double)bounds[0]) / (double)bounds[2];
    if (count > 100000) render_fail(r, "Range too big. The sandbox blocks ranges larger than 100000");
    for (int64_t i = bounds[0]; !failed(r) && (bounds[2] > 0 ? i < bounds[1] : i > bounds[1]); i += bounds[2])
        list_add(r, out, value_int(i));
    return out;
}

value function_call(rendering *r, int function, const value_list *args, const value_dict *keywords) {
    switch (function) {
    case CALL_RANGE:
        return range(r, args);
    case CALL_DICT:
    case CALL_NAMESPACE: {
        value out = value_new_dict(r, function == CALL_DICT ? V_DICT : V_NAMESPACE);
        if (args->count && args->at[0].kind == V_DICT)
            for (int64_t i = 0; i < args->at[0].dict->count; i++)
                dict_put(r, out, args->at[0].dict->keys[i], args->at[0].dict->values[i]);
        for (int64_t i = 0; keywords && i < keywords->count; i++)
            dict_put(r, out, keywords->keys[i], keywords->values[i]);
        return out;
    }
    case CALL_RAISE: {
        const value text = args->count ? value_string(r, args->at[0]) : value_words("the template raised an exception");
        render_fail(r, "%.*s", (int)(text.s.length < 500 ? text.s.length : 500), text.s.text);
        return value_none();
    }
    default: {
        const value *format = argument(args, keywords, 0, "format");
        char text[256] = "";
        struct tm fields;
        if (!format || format->kind != V_STRING || format->s.length > 200) {
            render_fail(r, "strftime_now needs a format");
            return value_none();
        }
        localtime_r(&r->clock, &fields);
        const char *pattern = arena_copy(&r->memory, format->s.text, format->s.length);
        const size_t length = *pattern ? strftime(text, sizeof text, pattern, &fields) : 0;
        return value_copy(r, text, length);
    }
    }
}
