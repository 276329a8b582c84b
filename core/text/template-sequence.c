/* template-sequence — the filters over many items: choosing, mapping, joining, sorting, grouping. */
#include "text/template-builtins.h"
#include <string.h>

/* Rest of an argument list. */
static value_list rest_of(const value_list *args, int64_t from) {
    if (args->count <= from) return (value_list){0};
    return (value_list){.at = args->at + from, .count = args->count - from};
}

/* The items that maps and choices walk over: as Jinja, nothing of what is false. */
static value items_of(rendering *r, value on) {
    return value_true(on) ? value_items(r, on) : value_new_list(r, V_LIST);
}

/* select, reject and their ...attr forms. */
value filter_choose(rendering *r, const invocation *c) {
    const value items = items_of(r, c->on), out = value_new_list(r, V_GENERATOR);
    const int64_t name = c->which & CHOOSE_ATTRIBUTE ? 1 : 0;
    if (c->args->count < name) render_fail(r, "%s needs the name of an attribute", c->name);
    if (c->keywords->count) render_fail(r, "%s takes no keyword argument", c->name);
    int test = -1;
    if (!failed(r) && c->args->count > name) {
        const value word = c->args->at[name];
        test = word.kind == V_STRING ? test_find(word.s.text, word.s.length) : -1;
        if (test < 0) render_fail(r, "%s: no such test", c->name);
    }
    const value_list rest = rest_of(c->args, name + 1);
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        const value item = name ? value_member(r, items.list->at[i], c->args->at[0]) : items.list->at[i];
        const int passes = test >= 0 ? test_call(r, test, item, &rest) : value_true(item);
        if (!failed(r) && passes == (c->which & CHOOSE_KEEP)) list_add(r, out, items.list->at[i]);
    }
    return out;
}

value filter_map(rendering *r, const invocation *c) {
    const value names = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)c->keywords};
    const value *attribute = c->args->count ? NULL : dict_word(names, "attribute"),
                *otherwise = attribute ? dict_word(names, "default") : NULL;
    const value items = items_of(r, c->on), out = value_new_list(r, V_GENERATOR);
    const value_list rest = rest_of(c->args, 1);
    int filter = -1;
    if (c->args->count && c->args->at[0].kind == V_STRING)
        filter = filter_find(c->args->at[0].s.text, c->args->at[0].s.length);
    if (!attribute && filter < 0) render_fail(r, "map needs attribute= or the name of a filter");
    if (attribute && c->keywords->count > 1 + (otherwise != NULL)) render_fail(r, "map has no such keyword argument");
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        value v = attribute ? value_member(r, items.list->at[i], *attribute)
                            : filter_call(r, filter, items.list->at[i], &rest, c->keywords);
        if (v.kind == V_UNDEFINED && otherwise) v = *otherwise;
        list_add(r, out, v);
    }
    return out;
}

value filter_join(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), gap = c->given[0] ? value_string(r, *c->given[0]) : value_words("");
    sink out = {0};
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        const value item = items.list->at[i];
        if (i) sink_add(r, &out, gap);
        sink_add(
            r, &out,
            value_string(r, c->given[1] && c->given[1]->kind != V_NONE ? value_member(r, item, *c->given[1]) : item));
    }
    return sink_take(r, &out);
}

/* ---- order ---- */

/* What an item is ordered by: an attribute, strings without case unless told otherwise. */
static value key_of(rendering *r, value item, const value *attribute, int exact) {
    const value v = attribute && attribute->kind != V_NONE ? value_member(r, item, *attribute) : item;
    return v.kind == V_STRING && !exact ? method_call(r, v, "lower") : v;
}

static int is_true(const value *v) {
    return v && value_true(*v);
}

/* Merges at[0..half) and at[half..count), both in order, through `room`; equal keys keep their order. */
static void merge(rendering *r, value *keys, value *items, int64_t half, int64_t count, int reverse, value *room) {
    int64_t left = 0, right = half, n = 0;
    for (; n < count && !failed(r); n++) {
        int take_right = left == half;
        if (left < half && right < count)
            take_right = reverse ? value_less(r, keys[left], keys[right]) : value_less(r, keys[right], keys[left]);
        const int64_t from = take_right ? right++ : left++;
        room[2 * n] = keys[from];
        room[2 * n + 1] = items[from];
    }
    for (int64_t i = 0; i < n; i++)
        keys[i] = room[2 * i], items[i] = room[2 * i + 1];
    render_step(r, count);
}

static void sort_by(rendering *r, value *keys, value *items, int64_t count, int reverse, value *room) {
    if (count < 2 || failed(r)) return;
    sort_by(r, keys, items, count / 2, reverse, room);
    sort_by(r, keys + count / 2, items + count / 2, count - count / 2, reverse, room);
    merge(r, keys, items, count / 2, count, reverse, room);
}

/* A new list of the items, sorted by the keys in turn. */
static value sorted(rendering *r, value items, value keys, int reverse) {
    const value out = value_new_list(r, V_LIST);
    list_add_all(r, out, items);
    const int64_t count = out.list->count;
    count_items(r, 2 * count);
    if (!failed(r) && count)
        sort_by(r, keys.list->at, out.list->at, count, reverse,
                arena_new(&r->memory, 2 * (size_t)count, sizeof(value)));
    return out;
}

/* "a,b.c" as keys in turn; always a list, whose equal members are not asked for their order. */
static value sort_key(rendering *r, value item, const value *attribute, int exact) {
    const value key = value_new_list(r, V_LIST);
    const int named = attribute && attribute->kind == V_STRING;
    if (!named) list_add(r, key, key_of(r, item, attribute, exact));
    for (size_t at = 0; named && at <= attribute->s.length && !failed(r);) {
        const char *comma = memchr(attribute->s.text + at, ',', attribute->s.length - at);
        const size_t end = comma ? (size_t)(comma - attribute->s.text) : attribute->s.length;
        const value part = value_text(attribute->s.text + at, end - at);
        list_add(r, key, key_of(r, item, &part, exact));
        at = end + 1;
    }
    return key;
}

value filter_sort(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), keys = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < items.list->count && !failed(r); i++)
        list_add(r, keys, sort_key(r, items.list->at[i], c->given[2], is_true(c->given[1])));
    return sorted(r, items, keys, is_true(c->given[0]));
}

value filter_dictsort(rendering *r, const invocation *c) {
    const value pairs = value_new_list(r, V_LIST), keys = value_new_list(r, V_LIST);
    const int by_value = text_is(c->given[1], "value");
    if (c->on.kind != V_DICT) render_fail(r, "dictsort of '%s'", value_kind_name(c->on));
    if (c->given[1] && !by_value && !text_is(c->given[1], "key"))
        render_fail(r, "You can only sort by either \"key\" or \"value\"");
    for (int64_t i = 0; !failed(r) && i < c->on.dict->count; i++) {
        list_add(r, pairs, value_pair(r, c->on.dict->keys[i], c->on.dict->values[i]));
        list_add(r, keys, key_of(r, pairs.list->at[i].list->at[by_value], NULL, is_true(c->given[0])));
    }
    return sorted(r, pairs, keys, is_true(c->given[2]));
}

value filter_unique(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), out = value_new_list(r, V_GENERATOR), seen = value_new_dict(r, V_DICT);
    for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
        const value key = key_of(r, items.list->at[i], c->given[1], is_true(c->given[0]));
        if (!value_hashable(r, key) || dict_get(seen, key)) continue;
        dict_put(r, seen, key, key);
        list_add(r, out, items.list->at[i]);
        render_step(r, seen.dict->count / 8);
    }
    return out;
}

/* min and max: the first of the smallest, of the largest. */
value filter_extreme(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), keys = value_new_list(r, V_LIST);
    int64_t best = 0;
    for (int64_t i = 0; i < items.list->count && !failed(r); i++)
        list_add(r, keys, key_of(r, items.list->at[i], c->given[1], is_true(c->given[0])));
    if (!failed(r) && !items.list->count) return value_undefined("the extreme of nothing");
    for (int64_t i = 1; i < items.list->count && !failed(r); i++) {
        const value at = keys.list->at[i], so_far = keys.list->at[best];
        if (c->which ? value_less(r, so_far, at) : value_less(r, at, so_far)) best = i;
    }
    return failed(r) ? value_none() : items.list->at[best];
}

value filter_sum(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on);
    value sum = c->given[1] ? *c->given[1] : value_int(0);
    if (sum.kind == V_STRING) render_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (int64_t i = 0; i < items.list->count && !failed(r); i++)
        sum = operate(r, '+', sum,
                      c->given[0] && c->given[0]->kind != V_NONE ? value_member(r, items.list->at[i], *c->given[0])
                                                                 : items.list->at[i]);
    return sum;
}

/* ---- groups ---- */

/* [(key, [items]), ...] by key. */
value filter_groupby(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), keys = value_new_list(r, V_LIST);
    const value pairs = value_new_list(r, V_LIST), out = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < items.list->count && !failed(r); i++) {
        value key = value_member(r, items.list->at[i], *c->given[0]);
        if (key.kind == V_UNDEFINED && c->given[1]) key = *c->given[1];
        list_add(r, pairs, value_pair(r, key, items.list->at[i]));
        list_add(r, keys, key_of(r, key, NULL, is_true(c->given[2])));
    }
    if (failed(r)) return out;
    const value order = sorted(r, pairs, keys, 0); /* sorts the keys too */
    for (int64_t i = 0, next; !failed(r) && i < order.list->count; i = next) {
        const value group = value_new_list(r, V_LIST);
        for (next = i; next < order.list->count && value_equal(keys.list->at[i], keys.list->at[next]); next++)
            list_add(r, group, order.list->at[next].list->at[1]);
        list_add(r, out, value_pair(r, order.list->at[i].list->at[0], group));
    }
    return out;
}

value filter_batch(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), out = value_new_list(r, V_GENERATOR);
    const int64_t size = whole_argument(r, c, 0, 1), count = items.list->count;
    value part = value_new_list(r, V_LIST);
    for (int64_t i = 0; i < count && !failed(r); i++) {
        if (part.list->count == size) {
            list_add(r, out, part);
            part = value_new_list(r, V_LIST);
        }
        list_add(r, part, items.list->at[i]);
    }
    if (!part.list->count) return out;
    while (c->given[1] && c->given[1]->kind != V_NONE && part.list->count < size && !failed(r))
        list_add(r, part, *c->given[1]);
    list_add(r, out, part);
    return out;
}

value filter_slice(rendering *r, const invocation *c) {
    const value items = value_items(r, c->on), out = value_new_list(r, V_GENERATOR);
    const int64_t slices = whole_argument(r, c, 0, 1), count = items.list->count;
    if (slices == 0) render_fail(r, "integer division or modulo by zero");
    for (int64_t i = 0, at = 0; i < slices && !failed(r); i++) {
        const value part = value_new_list(r, V_LIST);
        for (int64_t n = count / slices + (i < count % slices); n > 0 && !failed(r); n--)
            list_add(r, part, items.list->at[at++]);
        if (c->given[1] && c->given[1]->kind != V_NONE && i >= count % slices) list_add(r, part, *c->given[1]);
        list_add(r, out, part);
        render_step(r, 1);
    }
    return out;
}

value filter_reverse(rendering *r, const invocation *c) {
    const value_kind kind = c->on.kind == V_GENERATOR ? V_LIST : V_GENERATOR; /* what cannot be walked back is copied */
    const value items = value_items(r, c->on), out = value_new_list(r, kind);
    sink text = {0};
    for (int64_t i = failed(r) ? 0 : items.list->count; i > 0 && !failed(r); i--) {
        if (c->on.kind == V_STRING)
            sink_add(r, &text, items.list->at[i - 1]);
        else
            list_add(r, out, items.list->at[i - 1]);
    }
    if (c->on.kind != V_STRING) return out;
    value turned = sink_take(r, &text);
    turned.s.safe = c->on.s.safe;
    return turned;
}
