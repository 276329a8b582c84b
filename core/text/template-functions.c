/* template-functions — the global functions of Jinja2 and Hugging Face's environment. */
#include "text/template-private.h"
#include <string.h>

static value range(rendering *r, const invocation *c) {
    const value out = value_new_list(r, V_VIEW);
    const int64_t step = whole_argument(r, c, 2, 1), first = whole_argument(r, c, 0, 0);
    const int64_t begin = c->given[1] ? first : 0, end = c->given[1] ? whole_argument(r, c, 1, 0) : first;
    if (step == 0) render_fail(r, "range() arg 3 must not be zero");
    out.list->view = "range(0, 0)";
    if (failed(r)) return out;
    out.list->view = step == 1 ? arena_format(&r->memory, "range(%lld, %lld)", (long long)begin, (long long)end)
                               : arena_format(&r->memory, "range(%lld, %lld, %lld)", (long long)begin, (long long)end,
                                              (long long)step);
    const double count = ((double)end - (double)begin) / (double)step;
    if (count > 100000) render_fail(r, "Range too big. The sandbox blocks ranges larger than 100000");
    for (int64_t i = 0; !failed(r) && (double)i < count; i++)
        list_add(r, out, value_int(begin + i * step));
    return out;
}

/* dict(...) and namespace(...): the members of a dict, or pairs, and the keyword arguments. */
static value members(rendering *r, const invocation *c) {
    const value out = value_new_dict(r, (value_kind)c->which);
    if (c->args->count > 1) render_fail(r, "%s expected at most 1 argument", c->name);
    for (int64_t n = 0; !failed(r) && n < c->args->count; n++) {
        const value from = c->args->at[n], items = value_items(r, from);
        for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
            const value pair = from.kind == V_DICT ? value_pair(r, from.dict->keys[i], from.dict->values[i])
                                                   : value_items(r, items.list->at[i]);
            if (!failed(r) && pair.list->count != 2) render_fail(r, "%s needs pairs", c->name);
            if (!failed(r) && value_hashable(r, pair.list->at[0])) dict_put(r, out, pair.list->at[0], pair.list->at[1]);
        }
    }
    for (int64_t i = 0; i < c->keywords->count; i++)
        dict_put(r, out, c->keywords->keys[i], c->keywords->values[i]);
    return out;
}

static value raise_exception(rendering *r, const invocation *c) {
    const value text = value_string(r, *c->given[0]);
    render_fail(r, "%.*s", (int)(text.s.length < 500 ? text.s.length : 500), text.s.text);
    return value_none();
}

static value strftime_now(rendering *r, const invocation *c) {
    const value format = *c->given[0];
    char text[1024] = "";
    struct tm fields;
    if (format.kind != V_STRING || format.s.length > 200) {
        render_fail(r, "strftime_now needs a format of at most 200 characters");
        return value_none();
    }
    localtime_r(&r->clock, &fields);
    const char *pattern = arena_copy(&r->memory, format.s.text, format.s.length);
    return value_copy(r, text, *pattern ? strftime(text, sizeof text, pattern, &fields) : 0);
}

static const method functions[] = {
    {"range",           "/start! stop step", range,           0          },
    {"dict",            NULL,                members,         V_DICT     },
    {"namespace",       NULL,                members,         V_NAMESPACE},
    {"raise_exception", "message!",          raise_exception, 0          },
    {"strftime_now",    "format!",           strftime_now,    0          },
};

int function_find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strlen(functions[i].name) == length && memcmp(functions[i].name, name, length) == 0) return (int)i;
    return -1;
}

value function_call(rendering *r, int function, const value_list *args, const value_dict *keywords) {
    const method *f = &functions[function];
    invocation c = {.name = f->name, .which = f->which, .args = args, .keywords = keywords};
    if (f->parameters && !bind_arguments(r, &c, f->parameters)) return value_none();
    return f->call(r, &c);
}
