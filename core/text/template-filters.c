/* template-filters — the filters of Jinja2 that chat templates can want, and those about numbers and single values. */
#include "text/template-builtins.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static value of_method(rendering *r, const invocation *c) {
    return method_call(r, value_string(r, c->on), c->name);
}

static value filter_trim(rendering *r, const invocation *c) {
    const value text = value_string(r, c->on), strip = value_attribute(r, text, "strip", 5);
    return failed(r) ? text : call_value(r, strip, c->args, c->keywords);
}

static value filter_length(rendering *r, const invocation *c) {
    return value_int(value_length(r, c->on));
}

static value filter_items(rendering *r, const invocation *c) {
    const value out = value_new_list(r, V_GENERATOR);
    if (c->on.kind != V_DICT && c->on.kind != V_UNDEFINED) render_fail(r, "Can only get item pairs from a mapping.");
    for (int64_t i = 0; c->on.kind == V_DICT && i < c->on.dict->count && !failed(r); i++)
        list_add(r, out, value_pair(r, c->on.dict->keys[i], c->on.dict->values[i]));
    return out;
}

static value filter_list(rendering *r, const invocation *c) {
    const value out = value_new_list(r, V_LIST);
    list_add_all(r, out, value_items(r, c->on));
    return out;
}

static value filter_default(rendering *r, const invocation *c) {
    const int falsy = c->given[1] && value_true(*c->given[1]) && !value_true(c->on);
    (void)r;
    if (c->on.kind != V_UNDEFINED && !falsy) return c->on;
    return c->given[0] ? *c->given[0] : value_words("");
}

static value filter_string(rendering *r, const invocation *c) {
    return value_string(r, c->on);
}

static value filter_escape(rendering *r, const invocation *c) {
    return text_escape(r, value_string(r, c->on));
}

static value filter_safe(rendering *r, const invocation *c) {
    value text = value_string(r, c->on);
    text.s.safe = 1;
    return text;
}

static value filter_first(rendering *r, const invocation *c) {
    if (c->on.kind == V_GENERATOR && c->on.list->taken < c->on.list->count) return c->on.list->at[c->on.list->taken++];
    const value items = value_items(r, c->on);
    return !failed(r) && items.list->count ? items.list->at[0] : value_undefined("the first item of nothing");
}

static value filter_last(rendering *r, const invocation *c) {
    if (c->on.kind == V_GENERATOR) render_fail(r, "'generator' object is not reversible");
    const value items = value_items(r, c->on);
    return !failed(r) && items.list->count ? items.list->at[items.list->count - 1]
                                           : value_undefined("the last item of nothing");
}

/* ---- numbers ---- */

/* What Python's int() and float() take: white space around, '_' between digits; 0: no number. */
static int read_number(value text, int base, int whole, double *real, int64_t *out) {
    char plain[80];
    size_t n = 0, begin = 0, end = text.s.length;
    for (int space; begin < end && (space = space_at(text.s.text, end, begin)) > 0;)
        begin += (size_t)space;
    while (end > begin && strchr(" \t\n\r\v\f", text.s.text[end - 1]))
        end--;
    for (size_t i = begin; i < end; i++) {
        const char c = text.s.text[i];
        const int inside = i > begin && i + 1 < end && text.s.text[i - 1] != '_';
        if (n + 1 >= sizeof plain || (c == '_' && !inside) || !c || strchr(" \t\n\r\v\f(", c)) return 0;
        if (c != '_') plain[n++] = c;
    }
    plain[n] = '\0';
    char *stop;
    errno = 0;
    if (whole)
        *out = strtoll(plain, &stop, base);
    else
        *real = strtod(plain, &stop);
    return n > 0 && *stop == '\0' && !(whole && errno) && (whole || !strpbrk(plain, "xX"));
}

static value filter_int(rendering *r, const invocation *c) {
    const value otherwise = c->given[0] ? *c->given[0] : value_int(0), on = c->on;
    double real = on.f;
    int64_t whole = 0;
    if (on.kind == V_UNDEFINED) render_fail(r, "'%s' is undefined", on.s.text);
    if (on.kind == V_INT || on.kind == V_BOOL) return value_int(on.i);
    if (on.kind == V_STRING && read_number(on, (int)whole_argument(r, c, 1, 10), 1, NULL, &whole))
        return value_int(whole);
    if (on.kind != V_FLOAT && !(on.kind == V_STRING && read_number(on, 10, 0, &real, NULL))) return otherwise;
    return fabs(real) < 9e18 ? value_int((int64_t)real) : otherwise;
}

static value filter_float(rendering *r, const invocation *c) {
    double real = 0;
    if (c->on.kind == V_UNDEFINED) render_fail(r, "'%s' is undefined", c->on.s.text);
    if (value_is_number(c->on)) return value_float(value_real(c->on));
    if (c->on.kind == V_STRING && read_number(c->on, 10, 0, &real, NULL)) return value_float(real);
    return c->given[0] ? *c->given[0] : value_float(0);
}

/* Python's round(): the nearest decimal, ties to even, as printf rounds. */
static value filter_round(rendering *r, const invocation *c) {
    const int64_t digits = whole_argument(r, c, 0, 0);
    const value *how = c->given[1];
    char text[400];
    if (!value_is_number(c->on)) render_fail(r, "round of '%s'", value_kind_name(c->on));
    if (digits < -15 || digits > 15) render_fail(r, "round to %lld digits", (long long)digits);
    if (how && !text_is(how, "common") && !text_is(how, "ceil") && !text_is(how, "floor"))
        render_fail(r, "method must be common, ceil or floor");
    if (failed(r)) return value_none();
    const double scale = pow(10, (double)(digits < 0 ? -digits : digits)), x = value_real(c->on);
    if (how && !text_is(how, "common")) {
        const double scaled = digits < 0 ? x / scale : x * scale;
        const double turned = text_is(how, "ceil") ? ceil(scaled) : floor(scaled);
        return value_float(digits < 0 ? turned * scale : turned / scale);
    }
    if (c->on.kind != V_FLOAT && digits >= 0) return value_int(c->on.i);
    if (digits < 0) {
        const double turned = nearbyint(x / scale) * scale;
        return c->on.kind == V_FLOAT ? value_float(turned) : value_int((int64_t)turned);
    }
    snprintf(text, sizeof text, "%.*f", (int)digits, x);
    return value_float(strtod(text, NULL));
}

static value filter_abs(rendering *r, const invocation *c) {
    if (c->on.kind == V_FLOAT) return value_float(fabs(c->on.f));
    return value_is_number(c->on) && c->on.i >= 0 ? value_int(c->on.i) : negate(r, '-', c->on);
}

static value filter_attr(rendering *r, const invocation *c) {
    const value name = *c->given[0];
    if (name.kind != V_STRING) render_fail(r, "attribute name must be string, not '%s'", value_kind_name(name));
    if (failed(r)) return value_none();
    const value found = value_attribute(r, c->on, arena_copy(&r->memory, name.s.text, name.s.length), name.s.length);
    return c->on.kind == V_DICT && found.kind != V_METHOD ? value_undefined("attr") : found; /* no items */
}

/* ---- the table ---- */

static const method filters[] = {
    {"abs",        "/",                                        filter_abs,       0                             },
    {"attr",       "name!",                                    filter_attr,      0                             },
    {"batch",      "linecount! fill_with",                     filter_batch,     0                             },
    {"capitalize", "/",                                        of_method,        0                             },
    {"center",     "width",                                    filter_center,    0                             },
    {"count",      "/",                                        filter_length,    0                             },
    {"d",          "default_value boolean",                    filter_default,   0                             },
    {"default",    "default_value boolean",                    filter_default,   0                             },
    {"dictsort",   "case_sensitive by reverse",                filter_dictsort,  0                             },
    {"e",          "/",                                        filter_escape,    0                             },
    {"escape",     "/",                                        filter_escape,    0                             },
    {"first",      "/",                                        filter_first,     0                             },
    {"float",      "default",                                  filter_float,     0                             },
    {"format",     NULL,                                       filter_format,    0                             },
    {"groupby",    "attribute! default case_sensitive",        filter_groupby,   0                             },
    {"indent",     "width first blank",                        filter_indent,    0                             },
    {"int",        "default base",                             filter_int,       0                             },
    {"items",      "/",                                        filter_items,     0                             },
    {"join",       "d attribute",                              filter_join,      0                             },
    {"last",       "/",                                        filter_last,      0                             },
    {"length",     "/",                                        filter_length,    0                             },
    {"list",       "/",                                        filter_list,      0                             },
    {"lower",      "/",                                        of_method,        0                             },
    {"map",        NULL,                                       filter_map,       0                             },
    {"max",        "case_sensitive attribute",                 filter_extreme,   1                             },
    {"min",        "case_sensitive attribute",                 filter_extreme,   0                             },
    {"reject",     NULL,                                       filter_choose,    0                             },
    {"rejectattr", NULL,                                       filter_choose,    CHOOSE_ATTRIBUTE              },
    {"replace",    "old! new! count",                          filter_replace,   0                             },
    {"reverse",    "/",                                        filter_reverse,   0                             },
    {"round",      "precision method",                         filter_round,     0                             },
    {"safe",       "/",                                        filter_safe,      0                             },
    {"select",     NULL,                                       filter_choose,    CHOOSE_KEEP                   },
    {"selectattr", NULL,                                       filter_choose,    CHOOSE_KEEP | CHOOSE_ATTRIBUTE},
    {"slice",      "slices! fill_with",                        filter_slice,     0                             },
    {"sort",       "reverse case_sensitive attribute",         filter_sort,      0                             },
    {"string",     "/",                                        filter_string,    0                             },
    {"sum",        "attribute start",                          filter_sum,       0                             },
    {"title",      "/",                                        filter_title,     0                             },
    {"tojson",     "ensure_ascii indent separators sort_keys", filter_json,      0                             },
    {"trim",       NULL,                                       filter_trim,      0                             },
    {"truncate",   "length killwords end leeway",              filter_truncate,  0                             },
    {"unique",     "case_sensitive attribute",                 filter_unique,    0                             },
    {"upper",      "/",                                        of_method,        0                             },
    {"wordcount",  "/",                                        filter_wordcount, 0                             },
};

int filter_find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == length && memcmp(filters[i].name, name, length) == 0) return (int)i;
    return -1;
}

value filter_call(rendering *r, int filter, value on, const value_list *args, const value_dict *keywords) {
    const method *f = &filters[filter];
    invocation c = {.on = on, .name = f->name, .which = f->which, .args = args, .keywords = keywords};
    if (failed(r) || (f->parameters && !bind_arguments(r, &c, f->parameters))) return value_none();
    return f->call(r, &c);
}
