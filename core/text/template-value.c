/* template-value — Python's values as far as templates use them, what is true, equal and less among them, and what they hold. */
#include "text/template-private.h"
#include <string.h>

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
        .kind = V_STRING, .s = {.text = text, .length = length}
    };
}
value value_words(const char *text) {
    return value_text(text, strlen(text));
}
value value_undefined(const char *name) {
    return (value){
        .kind = V_UNDEFINED, .s = {.text = name, .length = strlen(name)}
    };
}

void count_items(rendering *r, int64_t count) {
    r->items += count;
    if (r->items > TEMPLATE_VALUES)
        render_fail(r, "the template makes more than %d MB of values", (int)((TEMPLATE_VALUES * sizeof(value)) >> 20));
}

int64_t value_weight(value v) {
    if (v.kind == V_STRING) return 1 + (int64_t)(v.s.length / sizeof v);
    if (value_is_list(v)) return 1 + v.list->load.weight;
    return v.kind == V_DICT ? 1 + v.dict->load.weight : 1;
}

/* A value that holds another one many times is as large as if it were written out. */
static void add_load(rendering *r, load *l, value item) {
    const int64_t depth = 1 + (value_is_list(item)   ? item.list->load.depth
                               : item.kind == V_DICT ? item.dict->load.depth
                                                     : 0);
    l->weight += value_weight(item);
    l->depth = l->depth < depth ? depth : l->depth;
    if (l->weight > TEMPLATE_VALUES) render_fail(r, "a value holds more than %d others", TEMPLATE_VALUES);
    if (l->depth > TEMPLATE_NESTING) render_fail(r, "values nest more than %d deep", TEMPLATE_NESTING);
}

value value_copy(rendering *r, const char *text, size_t length) {
    count_items(r, 1 + (int64_t)(length / sizeof(value)));
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
    add_load(r, &l->load, item);
}

void list_add_all(rendering *r, value list, value items) {
    for (int64_t i = 0; i < items.list->count && !failed(r); i++)
        list_add(r, list, items.list->at[i]);
}

value value_pair(rendering *r, value a, value b) {
    const value pair = value_new_list(r, V_TUPLE);
    list_add(r, pair, a);
    list_add(r, pair, b);
    return pair;
}

static int64_t dict_place(const value_dict *d, value key) {
    for (int64_t i = 0; i < d->count; i++)
        if (value_equal(d->keys[i], key)) return i;
    return -1;
}

void dict_put(rendering *r, value dict, value key, value item) {
    value_dict *d = dict.dict;
    const int64_t place = dict_place(d, key);
    if (dict.kind == V_DICT) add_load(r, &d->load, item);
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
    if (dict.kind == V_DICT) add_load(r, &d->load, key);
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

int value_hashable(rendering *r, value key) {
    if (key.kind == V_LIST || key.kind == V_DICT) render_fail(r, "unhashable type: '%s'", value_kind_name(key));
    for (int64_t i = 0; key.kind == V_TUPLE && i < key.list->count; i++)
        if (!value_hashable(r, key.list->at[i])) return 0;
    return !failed(r);
}

value value_from_json(rendering *r, const json_t *j, int32_t message) {
    if (failed(r)) return value_none();
    if (++r->depth > TEMPLATE_DEPTH) render_fail(r, "values nest more than %d deep", TEMPLATE_DEPTH);
    value v = value_none();
    if (json_is_boolean(j)) v = value_bool(json_is_true(j));
    if (json_is_integer(j)) v = value_int(json_integer_value(j));
    if (json_is_real(j)) v = value_float(json_real_value(j));
    if (json_is_string(j)) v = text_marked(r, value_text(json_string_value(j), json_string_length(j)), message);
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
    case V_VIEW:
        return v.list->count > 0;
    case V_DICT:
        return v.dict->count > 0;
    default:
        return 1;
    }
}

int value_is_number(value v) {
    return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}
int value_is_list(value v) {
    return v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_VIEW || v.kind == V_GENERATOR;
}
int value_is_sequence(value v) {
    return v.kind == V_LIST || v.kind == V_TUPLE || (v.kind == V_VIEW && *v.list->view == 'r');
}
double value_real(value v) {
    return v.kind == V_FLOAT ? v.f : (double)v.i;
}
static int compare_text(value a, value b) {
    const size_t n = a.s.length < b.s.length ? a.s.length : b.s.length;
    const int order = n ? memcmp(a.s.text, b.s.text, n) : 0;
    return order ? order : (a.s.length > b.s.length) - (a.s.length < b.s.length);
}

int value_equal(value a, value b) {
    if (value_is_number(a) && value_is_number(b))
        return a.kind == V_FLOAT || b.kind == V_FLOAT ? value_real(a) == value_real(b) : a.i == b.i;
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
    case V_VIEW:
    case V_GENERATOR:
        return a.list == b.list;
    case V_NAMESPACE:
        return a.dict == b.dict;
    case V_LOOP:
        return a.loop == b.loop;
    case V_FUNCTION:
        return a.i == b.i;
    case V_MACRO:
        return a.macro == b.macro;
    default:
        return 0;
    }
}

int value_less(rendering *r, value a, value b) {
    if (value_is_number(a) && value_is_number(b)) return value_real(a) < value_real(b);
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
    case V_VIEW:
        for (int64_t i = 0; i < whole.list->count; i++)
            if (value_equal(whole.list->at[i], item)) return 1;
        return 0;
    case V_GENERATOR: /* walked up to the item */
        while (whole.list->taken < whole.list->count)
            if (value_equal(whole.list->at[whole.list->taken++], item)) return 1;
        return 0;
    case V_DICT:
        return value_hashable(r, item) && dict_get(whole, item) != NULL;
    default:
        render_fail(r, "argument of type '%s' is not iterable", value_kind_name(whole));
        return 0;
    }
}

/* ---- kind, length, items ---- */

const char *value_kind_name(value v) {
    static const char *const names[] = {"Undefined",   "NoneType", "bool",      "int",       "float", "str",
                                        "list",        "tuple",    "dict_view", "generator", "dict",  "Namespace",
                                        "LoopContext", "Macro",    "method",    "function"};
    return names[v.kind];
}

int64_t value_length(rendering *r, value v) {
    switch (v.kind) {
    case V_UNDEFINED:
        return 0;
    case V_STRING:
        return text_points(v.s.text, v.s.length);
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        return v.list->count;
    case V_DICT:
        return v.dict->count;
    default:
        render_fail(r, "object of type '%s' has no len()", value_kind_name(v));
        return 0;
    }
}

value value_items(rendering *r, value v) {
    if (v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_VIEW) return v;
    value out = value_new_list(r, V_LIST);
    if (v.kind == V_GENERATOR)
        while (v.list->taken < v.list->count && !failed(r))
            list_add(r, out, v.list->at[v.list->taken++]);
    else if (v.kind == V_DICT)
        for (int64_t i = 0; i < v.dict->count; i++)
            list_add(r, out, v.dict->keys[i]);
    else if (v.kind == V_STRING)
        for (size_t at = 0; at < v.s.length && !failed(r);) {
            const size_t end = at + text_offset(v.s.text + at, v.s.length - at, 1);
            value character = value_part(r, v, at, end);
            character.s.safe = 0;
            list_add(r, out, character);
            at = end;
        }
    else if (v.kind != V_UNDEFINED)
        render_fail(r, "'%s' object is not iterable", value_kind_name(v));
    return out;
}
