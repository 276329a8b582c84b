/* template-value — Python's values as far as templates use them. Strings are pieces of UTF-8 that remember which message they
 * came from (marks); cutting and joining carry the marks along. */
#include "formats/jsontext.h"
#include "text/template-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

value value_none(void) {
    return (value){.kind = V_NONE};
}
value value_bool(int truth) {
    return (value){.kind = V_BOOL, .i = truth != 0};
}
value value_int(int64_t i) {
    return (value){.kind = V_INT, .i = i};
}
value value_float(double f) {
    return (value){.kind = V_FLOAT, .f = f};
}
value value_text(const char *text, size_t length) {
    return (value){
        .kind = V_STRING, .s = {text, length, NULL}
    };
}
value value_words(const char *text) {
    return value_text(text, strlen(text));
}
value value_undefined(const char *name) {
    return (value){
        .kind = V_UNDEFINED, .s = {name, strlen(name), NULL}
    };
}
/* Memory is counted in items of the size of a value. */
enum { TEXT_ITEM = sizeof(value) };

static void count_items(rendering *r, int64_t count) {
    r->items += count;
    if (r->items > TEMPLATE_VALUES)
        render_fail(r, "the template makes more than %d MB of values", (int)((TEMPLATE_VALUES * sizeof(value)) >> 20));
}

int64_t value_weight(value v) {
    switch (v.kind) {
    case V_STRING:
        return 1 + (int64_t)(v.s.length / TEXT_ITEM);
    case V_LIST:
    case V_TUPLE:
        return 1 + v.list->weight;
    case V_DICT:
        return 1 + v.dict->weight;
    default:
        return 1;
    }
}

/* A value that holds another one many times is as large as if it were written out. */
static void add_weight(rendering *r, int64_t *weight, value item) {
    *weight += value_weight(item);
    if (*weight > TEMPLATE_VALUES) render_fail(r, "a value holds more than %d others", TEMPLATE_VALUES);
}

value value_copy(rendering *r, const char *text, size_t length) {
    count_items(r, 1 + (int64_t)length / TEXT_ITEM);
    return failed(r) ? value_words("") : value_text(arena_copy(&r->memory, text ? text : "", length), length);
}

value value_new_list(rendering *r, value_kind kind) {
    return (value){.kind = kind, .list = arena_new(&r->memory, 1, sizeof(value_list))};
}
value value_new_dict(rendering *r, value_kind kind) {
    return (value){.kind = kind, .dict = arena_new(&r->memory, 1, sizeof(value_dict))};
}

/* Arena arrays grow by copying into twice the room. */
static value *grow(rendering *r, value *old, int64_t count, int64_t capacity) {
    value *wide = arena_new(&r->memory, (size_t)capacity, sizeof *wide);
    if (count) memcpy(wide, old, (size_t)count * sizeof *wide);
    return wide;
}

void list_add(rendering *r, value list, value item) {
    value_list *l = list.list;
    if (failed(r)) return;
    if (l->count == l->capacity) {
        count_items(r, l->capacity + 8);
        if (failed(r)) return;
        l->capacity = l->capacity ? 2 * l->capacity : 8;
        l->at = grow(r, l->at, l->count, l->capacity);
    }
    l->at[l->count++] = item;
    add_weight(r, &l->weight, item);
}

static int64_t dict_place(const value_dict *d, value key) {
    for (int64_t i = 0; i < d->count; i++)
        if (value_equal(d->keys[i], key)) return i;
    return -1;
}

void dict_put(rendering *r, value dict, value key, value item) {
    value_dict *d = dict.dict;
    const int64_t place = dict_place(d, key);
    if (dict.kind == V_DICT) add_weight(r, &d->weight, item);
    if (place >= 0) {
        d->values[place] = item;
        return;
    }
    r->steps += d->count / 8; /* keys are searched one by one */
    if (failed(r)) return;
    if (d->count == d->capacity) {
        count_items(r, 2 * (d->capacity + 8));
        if (failed(r)) return;
        d->capacity = d->capacity ? 2 * d->capacity : 8;
        d->keys = grow(r, d->keys, d->count, d->capacity);
        d->values = grow(r, d->values, d->count, d->capacity);
    }
    if (dict.kind == V_DICT) add_weight(r, &d->weight, key);
    d->keys[d->count] = key;
    d->values[d->count++] = item;
}

const value *dict_get(value dict, value key) {
    const int64_t place = dict_place(dict.dict, key);
    return place >= 0 ? &dict.dict->values[place] : NULL;
}

const value *dict_word(value dict, const char *key) {
    return dict_get(dict, value_words(key));
}

value value_from_json(rendering *r, const json_t *j, int32_t message) {
    if (failed(r)) return value_none();
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "values nest more than %d deep", TEMPLATE_DEPTH);
    value v = value_none();
    if (json_is_boolean(j)) v = value_bool(json_is_true(j));
    if (json_is_integer(j)) v = value_int(json_integer_value(j));
    if (json_is_real(j)) v = value_float(json_real_value(j));
    if (json_is_string(j)) {
        v = value_text(json_string_value(j), json_string_length(j));
        mark *m = arena_new(&r->memory, 1, sizeof *m);
        *m = (mark){0, v.s.length, message, NULL};
        if (message >= 0) v.s.marks = m;
    }
    if (json_is_array(j)) {
        v = value_new_list(r, V_LIST);
        size_t i;
        json_t *item;
        json_array_foreach(j, i, item) list_add(r, v, value_from_json(r, item, message));
    }
    if (json_is_object(j)) {
        v = value_new_dict(r, V_DICT);
        const char *key;
        json_t *item;
        json_object_foreach((json_t *)(uintptr_t)j, key, item)
            dict_put(r, v, value_words(key), value_from_json(r, item, strcmp(key, "role") == 0 ? -1 : message));
    }
    r->depth--;
    return v;
}

/* ---- truth, equality, order ---- */

int value_true(value v) {
    switch (v.kind) {
    case V_UNDEFINED:
    case V_NONE:
        return 0;
    case V_BOOL:
    case V_INT:
        return v.i != 0;
    case V_FLOAT:
        return v.f != 0;
    case V_STRING:
        return v.s.length > 0;
    case V_LIST:
    case V_TUPLE:
        return v.list->count > 0;
    case V_DICT:
        return v.dict->count > 0;
    default:
        return 1;
    }
}

static int is_number(value v) {
    return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}
static double as_double(value v) {
    return v.kind == V_FLOAT ? v.f : (double)v.i;
}
static int compare_text(value a, value b) {
    const size_t n = a.s.length < b.s.length ? a.s.length : b.s.length;
    const int order = n ? memcmp(a.s.text, b.s.text, n) : 0;
    return order ? order : (a.s.length > b.s.length) - (a.s.length < b.s.length);
}

int value_equal(value a, value b) {
    if (is_number(a) && is_number(b))
        return a.kind == V_FLOAT || b.kind == V_FLOAT ? as_double(a) == as_double(b) : a.i == b.i;
    if (a.kind != b.kind) return 0;
    switch (a.kind) {
    case V_UNDEFINED:
    case V_NONE:
        return 1;
    case V_STRING:
        return compare_text(a, b) == 0;
    case V_LIST:
    case V_TUPLE:
        if (a.list == b.list) return 1;
        if (a.list->count != b.list->count) return 0;
        for (int64_t i = 0; i < a.list->count; i++)
            if (!value_equal(a.list->at[i], b.list->at[i])) return 0;
        return 1;
    case V_DICT:
        if (a.dict == b.dict) return 1;
        if (a.dict->count != b.dict->count) return 0;
        for (int64_t i = 0; i < a.dict->count; i++) {
            const value *other = dict_get(b, a.dict->keys[i]);
            if (!other || !value_equal(a.dict->values[i], *other)) return 0;
        }
        return 1;
    case V_NAMESPACE:
        return a.dict == b.dict;
    case V_MACRO:
        return a.macro == b.macro;
    default:
        return 0;
    }
}

int value_less(rendering *r, value a, value b) {
    if (is_number(a) && is_number(b)) return as_double(a) < as_double(b);
    if (a.kind == V_STRING && b.kind == V_STRING) return compare_text(a, b) < 0;
    if ((a.kind == V_LIST || a.kind == V_TUPLE) && a.kind == b.kind) {
        for (int64_t i = 0; i < a.list->count && i < b.list->count; i++)
            if (!value_equal(a.list->at[i], b.list->at[i])) return value_less(r, a.list->at[i], b.list->at[i]);
        return a.list->count < b.list->count;
    }
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED)
        render_fail(r, "'%s' is undefined", a.kind == V_UNDEFINED ? a.s.text : b.s.text);
    else
        render_fail(r, "'<' not supported between instances of '%s' and '%s'", value_kind_name(a), value_kind_name(b));
    return 0;
}

int value_in(rendering *r, value item, value whole) {
    switch (whole.kind) {
    case V_UNDEFINED:
        return 0;
    case V_STRING:
        if (item.kind != V_STRING) {
            render_fail(r, "'in <string>' requires string as left operand, not %s", value_kind_name(item));
            return 0;
        }
        return item.s.length == 0 ||
               (whole.s.length && memmem(whole.s.text, whole.s.length, item.s.text, item.s.length));
    case V_LIST:
    case V_TUPLE:
        for (int64_t i = 0; i < whole.list->count; i++)
            if (value_equal(whole.list->at[i], item)) return 1;
        return 0;
    case V_DICT:
        return dict_get(whole, item) != NULL;
    default:
        render_fail(r, "argument of type '%s' is not iterable", value_kind_name(whole));
        return 0;
    }
}

/* ---- text ---- */

const char *value_kind_name(value v) {
    static const char *const names[] = {"Undefined", "NoneType", "bool",      "int",   "float",  "str",     "list",
                                        "tuple",     "dict",     "Namespace", "Macro", "method", "function"};
    return names[v.kind];
}

static int printable(utf8proc_int32_t c) {
    if (c == ' ') return 1;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return 0;
    default:
        return 1;
    }
}

static void repr_text(value v, strbuf *out) {
    const int single = v.s.length && memchr(v.s.text, '\'', v.s.length) != NULL;
    const char quote = single && !memchr(v.s.text, '"', v.s.length) ? '"' : '\'';
    strbuf_add(out, &quote, 1);
    for (size_t at = 0; at < v.s.length;) {
        utf8proc_int32_t c = 0;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)v.s.text + at, (utf8proc_ssize_t)(v.s.length - at), &c);
        if (n < 1) n = 1, c = (unsigned char)v.s.text[at];
        if (c == '\\' || c == quote)
            strbuf_printf(out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            strbuf_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (printable(c))
            strbuf_add(out, v.s.text + at, (size_t)n);
        else
            strbuf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        at += (size_t)n;
    }
    strbuf_add(out, &quote, 1);
}

static void repr_float(double f, strbuf *out) {
    if (isnan(f))
        strbuf_puts(out, "nan");
    else if (isinf(f))
        strbuf_puts(out, f > 0 ? "inf" : "-inf");
    else
        jsontext_real(out, f);
}

static void repr_list(rendering *r, value v, strbuf *out) {
    strbuf_puts(out, v.kind == V_LIST ? "[" : "(");
    for (int64_t i = 0; i < v.list->count; i++) {
        if (i) strbuf_puts(out, ", ");
        value_repr(r, v.list->at[i], out);
    }
    strbuf_puts(out, v.kind == V_LIST ? "]" : v.list->count == 1 ? ",)" : ")");
}

static void repr_dict(rendering *r, value v, strbuf *out) {
    strbuf_puts(out, "{");
    for (int64_t i = 0; i < v.dict->count; i++) {
        if (i) strbuf_puts(out, ", ");
        value_repr(r, v.dict->keys[i], out);
        strbuf_puts(out, ": ");
        value_repr(r, v.dict->values[i], out);
    }
    strbuf_puts(out, "}");
}

void value_repr(rendering *r, value v, strbuf *out) {
    if (failed(r)) return;
    if (++r->depth > TEMPLATE_DEPTH || out->length > TEMPLATE_OUTPUT)
        render_fail(r, "a value is too deep or too long to print");
    switch (v.kind) {
    case V_UNDEFINED:
        strbuf_puts(out, "Undefined");
        break;
    case V_NONE:
        strbuf_puts(out, "None");
        break;
    case V_BOOL:
        strbuf_puts(out, v.i ? "True" : "False");
        break;
    case V_INT:
        strbuf_printf(out, "%lld", (long long)v.i);
        break;
    case V_FLOAT:
        repr_float(v.f, out);
        break;
    case V_STRING:
        repr_text(v, out);
        break;
    case V_LIST:
    case V_TUPLE:
        repr_list(r, v, out);
        break;
    case V_DICT:
        repr_dict(r, v, out);
        break;
    case V_NAMESPACE:
        strbuf_puts(out, "<Namespace>");
        break;
    case V_MACRO:
        strbuf_printf(out, "<Macro '%s'>", v.macro->name);
        break;
    case V_METHOD:
    case V_FUNCTION:
        strbuf_puts(out, "<function>");
        break;
    }
    r->depth--;
}

value value_string(rendering *r, value v) {
    if (v.kind == V_STRING) return v;
    if (v.kind == V_UNDEFINED) return value_words("");
    strbuf text = {0};
    value_repr(r, v, &text);
    const value out = value_copy(r, text.text, text.length);
    strbuf_free(&text);
    return out;
}

/* The marks of bytes begin .. end - 1, moved to `to`, in front of `rest`. An empty text of a message keeps its mark: it says where
 * the message would stand. */
static const mark *moved(rendering *r, const mark *from, size_t begin, size_t end, size_t to, const mark *rest) {
    const mark *first = rest;
    const mark **tail = &first;
    for (; from; from = from->next) {
        const size_t a = from->begin > begin ? from->begin : begin, b = from->end < end ? from->end : end;
        if (a > b || (a == b && from->begin < from->end && begin < end)) continue;
        count_items(r, 1);
        mark *m = arena_new(&r->memory, 1, sizeof *m);
        *m = (mark){a - begin + to, b - begin + to, from->message, rest};
        *tail = m;
        tail = (const mark **)(uintptr_t)&m->next;
    }
    return first;
}

value value_join(rendering *r, value a, value b) {
    if (!a.s.length && !a.s.marks) return b;
    if (!b.s.length && !b.s.marks) return a;
    if (a.s.length + b.s.length > TEMPLATE_OUTPUT) render_fail(r, "a text is longer than %d MB", TEMPLATE_OUTPUT >> 20);
    count_items(r, 1 + (int64_t)(a.s.length + b.s.length) / TEXT_ITEM);
    if (failed(r)) return a;
    char *text = arena_new(&r->memory, a.s.length + b.s.length + 1, 1);
    if (a.s.length) memcpy(text, a.s.text, a.s.length);
    if (b.s.length) memcpy(text + a.s.length, b.s.text, b.s.length);
    value out = value_text(text, a.s.length + b.s.length);
    const mark *behind = moved(r, b.s.marks, 0, b.s.length, a.s.length, NULL);
    out.s.marks = moved(r, a.s.marks, 0, a.s.length, 0, behind);
    return out;
}

value value_part(rendering *r, value s, size_t begin, size_t end) {
    value out = value_text(s.s.text + begin, end - begin);
    if (s.s.marks) out.s.marks = moved(r, s.s.marks, begin, end, 0, NULL);
    return out;
}

int64_t text_points(const char *text, size_t length) {
    int64_t n = 0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

size_t text_offset(const char *text, size_t length, int64_t points) {
    size_t at = 0;
    for (; at < length && points > 0; points--) {
        at++;
        while (at < length && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
    }
    return at;
}

int space_at(const char *text, size_t length, size_t at) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &c);
    if (n < 1) return 0;
    const int space = (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
                      (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
                      c == 0x3000;
    return space ? (int)n : 0;
}

int64_t value_length(rendering *r, value v) {
    switch (v.kind) {
    case V_UNDEFINED:
        return 0;
    case V_STRING:
        return text_points(v.s.text, v.s.length);
    case V_LIST:
    case V_TUPLE:
        return v.list->count;
    case V_DICT:
        return v.dict->count;
    default:
        render_fail(r, "object of type '%s' has no len()", value_kind_name(v));
        return 0;
    }
}

value value_items(rendering *r, value v) {
    if (v.kind == V_LIST || v.kind == V_TUPLE) return v;
    value out = value_new_list(r, V_LIST);
    if (v.kind == V_DICT)
        for (int64_t i = 0; i < v.dict->count; i++)
            list_add(r, out, v.dict->keys[i]);
    else if (v.kind == V_STRING)
        for (size_t at = 0; at < v.s.length && !failed(r);) {
            const size_t end = at + text_offset(v.s.text + at, v.s.length - at, 1);
            list_add(r, out, value_part(r, v, at, end));
            at = end;
        }
    else if (v.kind != V_UNDEFINED)
        render_fail(r, "'%s' object is not iterable", value_kind_name(v));
    return out;
}
