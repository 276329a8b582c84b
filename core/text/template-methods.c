/* template-methods — which methods strings, lists, dicts and loops have, as Python and Jinja; those of dicts, lists and loops. */
#include "text/template-builtins.h"
#include <string.h>

/* ---- dicts, lists, loops ---- */

static value get(rendering *r, const invocation *c) {
    const value *found = value_hashable(r, *c->given[0]) ? dict_get(c->on, *c->given[0]) : NULL;
    return found ? *found : c->given[1] ? *c->given[1] : value_none();
}

static value view(rendering *r, const invocation *c) {
    const value out = value_new_list(r, V_VIEW);
    out.list->view = c->name;
    for (int64_t i = 0; i < c->on.dict->count && !failed(r); i++) {
        const value key = c->on.dict->keys[i], item = c->on.dict->values[i];
        list_add(r, out, *c->name == 'i' ? value_pair(r, key, item) : *c->name == 'k' ? key : item);
    }
    return out;
}

static value copy(rendering *r, const invocation *c) {
    (void)r;
    return c->on;
}

/* index, and with which = 1 count. */
static value place_in_list(rendering *r, const invocation *c) {
    int64_t count = 0, first = -1;
    for (int64_t i = 0; i < c->on.list->count; i++)
        if (value_equal(c->on.list->at[i], *c->given[0])) {
            first = first < 0 ? i : first;
            count++;
        }
    if (!c->which && first < 0) render_fail(r, "the list has no such item");
    return value_int(c->which ? count : first);
}

static value cycle(rendering *r, const invocation *c) {
    if (!c->args->count) render_fail(r, "no items for cycling given");
    return failed(r) ? value_none() : c->args->at[c->on.loop->at % c->args->count];
}

/* Whether the arguments are others than at the last call. */
static value changed(rendering *r, const invocation *c) {
    const value now = value_new_list(r, V_TUPLE);
    list_add_all(r, now, (value){.kind = V_LIST, .list = (value_list *)(uintptr_t)c->args});
    const int differs = !value_equal(now, c->on.loop->changed);
    c->on.loop->changed = now;
    return value_bool(differs);
}

/* ---- the tables ---- */

static const method text_methods[] = {
    {"strip",               "/chars", text_strip, LEFT | RIGHT},
    {"lstrip",           "/chars", text_strip, LEFT},
    {"rstrip",                     "/chars", text_strip, RIGHT},
    {"split",   "sep maxsplit", text_split, 0},
    {"rsplit",                 "sep maxsplit", text_split, 1},
    {"splitlines",              "keepends", text_split_lines, 0},
    {"partition",           "/sep!", text_partition, 0},
    {"rpartition",                     "/sep!", text_partition, 1},
    {"startswith",     "/prefix! start end", text_affix, AFFIX_STARTS},
    {"endswith",                    "/suffix! start end", text_affix, AFFIX_ENDS},
    {"removeprefix",              "/prefix!", text_remove_affix, AFFIX_STARTS},
    {"removesuffix",           "/suffix!", text_remove_affix, AFFIX_ENDS},
    {"replace",                     "/old! new! count", text_replace, 0},
    {"find","/sub! start end", text_search, SEARCH_FIND},
    {"rfind",                    "/sub! start end", text_search, SEARCH_LAST},
    {"index",           "/sub! start end", text_search, SEARCH_MUST},
    {"rindex",       "/sub! start end", text_search, SEARCH_MUST | SEARCH_LAST},
    {"count",                     "/sub! start end", text_search, SEARCH_COUNT},
    {"join","/iterable!", text_join, 0},
    {"format",                    NULL, method_format, 0},
    {"ljust",          "/width! fillchar", text_pad, PAD_RIGHT},
    {"rjust",           "/width! fillchar", text_pad, PAD_LEFT},
    {"center",                     "/width! fillchar", text_pad, PAD_BOTH},
    {"zfill","/width!", text_pad, PAD_ZEROS},
    {"upper",           "/", method_case, CASE_UPPER},
    {"lower",        "/", method_case, CASE_LOWER},
    {"capitalize",    "/", method_case, CASE_CAPITALIZE},
    {"title",                     "/", method_case, CASE_TITLE},
    {"swapcase", "/", method_case, CASE_SWAP},
    {"isalpha",           "/", method_is, LETTERS},
    {"isalnum",             "/", method_is, LETTERS | DIGITS | NUMBERS},
    {"isdecimal",         "/", method_is, DIGITS},
    {"isdigit",                     "/", method_is, DIGITS},
    {"isnumeric",       "/", method_is, DIGITS | NUMBERS},
    {"isspace",          "/", method_is, SPACES},
    {"isascii",               "/", method_is, ASCII},
    {"isupper",          "/", method_is, UPPER},
    {"islower",                     "/", method_is, LOWER},
    {0}
};
static const method dict_methods[] = {
    {"items",  "/", view, 0},
    {"keys",    "/", view, 0},
    {"values",        "/", view, 0},
    {"get",  "/key! default", get, 0},
    {"copy",       "/", copy, 0},
    {0}
};
static const method list_methods[] = {
    {"index",        "/value!", place_in_list, 0},
    {"count", "/value!", place_in_list, 1},
    {"copy",              "/", copy, 0},
    {0    }
};
static const method loop_methods[] = {
    {"cycle", NULL, cycle, 0},
    {"changed",  NULL, changed, 0},
    {0      }
};

const method *method_find(value on, const char *name, size_t length) {
    const method *m = on.kind == V_STRING                       ? text_methods
                      : on.kind == V_DICT                       ? dict_methods
                      : on.kind == V_LIST || on.kind == V_TUPLE ? list_methods
                      : on.kind == V_LOOP                       ? loop_methods
                                                                : NULL;
    for (; m && m->name; m++)
        if (strlen(m->name) == length && memcmp(m->name, name, length) == 0) return m;
    return NULL;
}
