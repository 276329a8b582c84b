/* template-json — the filter tojson: Python's json.dumps without ASCII escapes, as Hugging Face replaces Jinja's own. */
#include "formats/jsontext.h"
#include "text/template-builtins.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int ascii, sort;
    const char *indent;     /* NULL: all in one line */
    const char *item, *key; /* separators */
} json_style;

static void json_break(strbuf *out, const json_style *s, int level) {
    if (!s->indent) return;
    strbuf_puts(out, "\n");
    for (int i = 0; i < level; i++)
        strbuf_puts(out, s->indent);
}

static void json_quote(rendering *r, strbuf *out, value v, int ascii) {
    char *text = arena_copy(&r->memory, v.s.text, v.s.length);
    count_items(r, 1 + (int64_t)(v.s.length / sizeof v));
    if (strlen(text) != v.s.length) render_fail(r, "tojson: a text holds the character NUL");
    jsontext_quote(out, text, ascii);
}

static void json_add(rendering *r, strbuf *out, value v, const json_style *s, int level);

/* The keys of a dict as a list, sorted when wanted. */
static value keys_of(rendering *r, value v, int sort) {
    static const value_dict none = {0};
    value exact[] = {value_bool(0), value_bool(1)}; /* reverse, case_sensitive */
    const value_list args = {.at = exact, .count = 2};
    const value keys = value_items(r, v);
    return sort ? filter_call(r, filter_find("sort", 4), keys, &args, &none) : keys;
}

static void json_object_add(rendering *r, strbuf *out, value v, const json_style *s, int level) {
    const value keys = keys_of(r, v, s->sort);
    strbuf_puts(out, "{");
    for (int64_t i = 0; !failed(r) && i < keys.list->count; i++) {
        const value key = keys.list->at[i];
        const int plain = key.kind == V_NONE || value_is_number(key); /* written as a string */
        if (i) strbuf_puts(out, s->item);
        json_break(out, s, level + 1);
        if (!plain && key.kind != V_STRING) render_fail(r, "tojson: a key cannot be a %s", value_kind_name(key));
        if (plain) strbuf_puts(out, "\"");
        json_add(r, out, key, s, level + 1);
        strbuf_puts(out, plain ? "\"" : "");
        strbuf_puts(out, s->key);
        json_add(r, out, s->sort ? *dict_get(v, key) : v.dict->values[i], s, level + 1);
    }
    if (v.dict->count) json_break(out, s, level);
    strbuf_puts(out, "}");
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
        json_quote(r, out, v, s->ascii);
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

/* What one level is indented by; NULL: no lines. */
static const char *indent_of(rendering *r, const value *given) {
    if (!given || given->kind == V_NONE) return NULL;
    if (given->kind == V_STRING) return arena_copy(&r->memory, given->s.text, given->s.length);
    if ((given->kind != V_INT && given->kind != V_BOOL) || given->i > 100) {
        render_fail(r, "tojson: indent is a text or a number up to 100");
        return NULL;
    }
    return arena_format(&r->memory, "%*s", given->i > 0 ? (int)given->i : 0, "");
}

static const char *separator(rendering *r, value pair, int which) {
    if ((pair.kind != V_LIST && pair.kind != V_TUPLE) || pair.list->count != 2 ||
        pair.list->at[which].kind != V_STRING) {
        render_fail(r, "tojson: separators are two strings");
        return "";
    }
    return arena_copy(&r->memory, pair.list->at[which].s.text, pair.list->at[which].s.length);
}

value filter_json(rendering *r, const invocation *c) {
    const value *ascii = c->given[0], *separators = c->given[2], *sort = c->given[3];
    json_style s = {.ascii = ascii && value_true(*ascii),
                    .sort = sort && value_true(*sort),
                    .indent = indent_of(r, c->given[1]),
                    .key = ": "};
    s.item = s.indent ? "," : ", ";
    if (separators && separators->kind != V_NONE)
        s.item = separator(r, *separators, 0), s.key = separator(r, *separators, 1);
    strbuf text = {0};
    json_add(r, &text, c->on, &s, 0);
    const value out = text_marked(r, value_copy(r, text.text, text.length), message_of(c->on));
    strbuf_free(&text);
    return out;
}
