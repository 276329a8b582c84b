/* template-strings — what strings are asked for: parts cut off and split, places found, pieces joined, replaced, padded. */
#include "text/template-builtins.h"
#include <string.h>

static value taken(rendering *r, sink *from, int safe) {
    value text = sink_take(r, from);
    text.s.safe = safe;
    return text;
}

/* ---- cutting ---- */

static int in_set(value set, const char *text, size_t length) {
    return set.s.length && memmem(set.s.text, set.s.length, text, length) != NULL;
}

static value strip_sides(rendering *r, value v, const value *set, int sides) {
    size_t begin = 0, end = v.s.length;
    while (sides & LEFT && begin < end) {
        const size_t n = text_offset(v.s.text + begin, end - begin, 1);
        if (set ? !in_set(*set, v.s.text + begin, n) : !space_at(v.s.text, end, begin)) break;
        begin += n;
    }
    while (sides & RIGHT && end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)v.s.text[at] & 0xC0) == 0x80)
            at--;
        if (set ? !in_set(*set, v.s.text + at, end - at) : !space_at(v.s.text, end, at)) break;
        end = at;
    }
    return value_part(r, v, begin, end);
}

/* The argument, a string; NULL when it is none or None. */
static const value *text_argument(rendering *r, const invocation *c, int at) {
    const value *given = c->given[at];
    if (!given || given->kind == V_NONE) return NULL;
    if (given->kind != V_STRING) render_fail(r, "%s needs a string, not '%s'", c->name, value_kind_name(*given));
    return given->kind == V_STRING ? given : NULL;
}

value text_strip(rendering *r, const invocation *c) {
    const value *set = text_argument(r, c, 0);
    return failed(r) ? c->on : strip_sides(r, c->on, set, c->which);
}

/* ---- searching ---- */

static size_t find(value v, value part, size_t from) {
    if (!part.s.length || from > v.s.length) return SIZE_MAX;
    const char *const text = v.s.text + from;
    const size_t length = v.s.length - from;
    const char *at =
        part.s.length == 1 ? memchr(text, *part.s.text, length) : memmem(text, length, part.s.text, part.s.length);
    return at ? (size_t)(at - v.s.text) : SIZE_MAX;
}

static size_t find_last(rendering *r, value v, value part) {
    if (part.s.length > v.s.length) return SIZE_MAX;
    for (size_t at = v.s.length - part.s.length + 1; at-- > 0 && !failed(r);) {
        if (part.s.length && v.s.text[at] != *part.s.text) continue;
        if (memcmp(v.s.text + at, part.s.text, part.s.length) == 0) return at;
        render_step(r, (int64_t)(part.s.length / 64));
    }
    return SIZE_MAX;
}

value text_search(rendering *r, const invocation *c) {
    const value *part = text_argument(r, c, 0);
    if (!part) render_fail(r, "%s needs a string", c->name);
    const int64_t length = value_length(r, c->on);
    int64_t bounds[2] = {whole_argument(r, c, 1, 0), whole_argument(r, c, 2, length)};
    if (failed(r)) return value_none();
    for (int i = 0; i < 2; i++) {
        bounds[i] += bounds[i] < 0 ? length : 0;
        bounds[i] = bounds[i] < 0 ? 0 : bounds[i];
    }
    bounds[1] = bounds[1] > length ? length : bounds[1];
    size_t at = SIZE_MAX;
    int64_t count = 0;
    if (bounds[0] <= bounds[1]) {
        const size_t begin = text_offset(c->on.s.text, c->on.s.length, bounds[0]);
        const value in = value_text(c->on.s.text + begin,
                                    text_offset(c->on.s.text + begin, c->on.s.length - begin, bounds[1] - bounds[0]));
        at = c->which & SEARCH_LAST ? find_last(r, in, *part) : part->s.length ? find(in, *part, 0) : 0;
        if (c->which == SEARCH_COUNT) {
            count = part->s.length ? 0 : bounds[1] - bounds[0] + 1;
            for (size_t k = 0; (k = find(in, *part, k)) != SIZE_MAX; k += part->s.length)
                count++;
        }
        if (at != SIZE_MAX) at += begin;
    }
    if (c->which == SEARCH_COUNT) return value_int(count);
    if (at == SIZE_MAX && c->which & SEARCH_MUST) render_fail(r, "substring not found");
    return value_int(at == SIZE_MAX ? -1 : text_points(c->on.s.text, at));
}

static int affix_fits(value v, value part, int end) {
    return part.s.length <= v.s.length &&
           memcmp(v.s.text + (end ? v.s.length - part.s.length : 0), part.s.text, part.s.length) == 0;
}

value text_affix(rendering *r, const invocation *c) {
    const value given = *c->given[0];
    const value_list one = {.at = (value *)(uintptr_t)c->given[0], .count = 1},
                     *options = given.kind == V_TUPLE ? given.list : &one;
    int fits = 0;
    const value part =
        c->given[1] ? slice(r, c->on, (value[]){*c->given[1], c->given[2] ? *c->given[2] : value_none(), value_none()})
                    : c->on;
    for (int64_t i = 0; i < options->count && !failed(r); i++) {
        if (options->at[i].kind != V_STRING)
            render_fail(r, "%s first arg must be str or a tuple of str, not %s", c->name,
                        value_kind_name(options->at[i]));
        fits |= !failed(r) && affix_fits(part, options->at[i], c->which);
    }
    return value_bool(fits);
}

value text_remove_affix(rendering *r, const invocation *c) {
    const value *part = text_argument(r, c, 0);
    if (!part) render_fail(r, "%s needs a string", c->name);
    if (failed(r) || !affix_fits(c->on, *part, c->which)) return c->on;
    return c->which ? value_part(r, c->on, 0, c->on.s.length - part->s.length)
                    : value_part(r, c->on, part->s.length, c->on.s.length);
}

/* ---- splitting and joining ---- */

static value split_spaces(rendering *r, value v, int64_t most, int from_right) {
    const value out = value_new_list(r, V_LIST), all = value_new_list(r, V_LIST);
    for (size_t at = 0, end; at < v.s.length && !failed(r); at = end) { /* pairs of begin and end */
        for (int n; at < v.s.length && (n = space_at(v.s.text, v.s.length, at)) > 0;)
            at += (size_t)n;
        for (end = at; end < v.s.length && !space_at(v.s.text, v.s.length, end);)
            end += text_offset(v.s.text + end, v.s.length - end, 1);
        if (end > at) list_add(r, all, value_pair(r, value_int((int64_t)at), value_int((int64_t)end)));
    }
    if (failed(r)) return out;
    const int64_t words = all.list->count, rest = most >= 0 && words > most ? words - most : 0;
    const int64_t first = from_right && rest ? rest - 1 : 0, last = !from_right && rest ? most : words - 1;
    for (int64_t i = first; i <= last && i < words && !failed(r); i++) {
        size_t begin = (size_t)all.list->at[i].list->at[0].i, end = (size_t)all.list->at[i].list->at[1].i;
        if (rest && from_right && i == first) begin = 0;
        if (rest && !from_right && i == last) end = v.s.length;
        list_add(r, out,
                 strip_sides(r, value_part(r, v, begin, end), NULL, LEFT * (begin > 0) | RIGHT * (end < v.s.length)));
    }
    return out;
}

value text_split(rendering *r, const invocation *c) {
    const value v = c->on, *given = text_argument(r, c, 0);
    const int64_t most = whole_argument(r, c, 1, -1);
    if (failed(r) || !given) return split_spaces(r, v, most, c->which);
    const value by = *given, out = value_new_list(r, V_LIST);
    if (!by.s.length) render_fail(r, "empty separator");
    int64_t parts = 1, passed = 0;
    for (size_t at = 0; (at = find(v, by, at)) != SIZE_MAX; at += by.s.length)
        parts++;
    const int64_t skip = c->which && most >= 0 && parts - 1 > most ? parts - 1 - most : 0;
    size_t begin = 0;
    for (size_t at = 0; !failed(r) && (at = find(v, by, at)) != SIZE_MAX; at += by.s.length) {
        if (passed++ < skip || (!c->which && most >= 0 && out.list->count >= most)) continue;
        list_add(r, out, value_part(r, v, begin, at));
        begin = at + by.s.length;
    }
    list_add(r, out, value_part(r, v, begin, v.s.length));
    return out;
}

/* (head, separator, tail); which: from the right. */
value text_partition(rendering *r, const invocation *c) {
    const value *by = text_argument(r, c, 0), out = value_new_list(r, V_TUPLE);
    if (!by || !by->s.length) render_fail(r, "%s needs a separator", c->name);
    if (failed(r)) return out;
    const size_t length = c->on.s.length, at = c->which ? find_last(r, c->on, *by) : find(c->on, *by, 0);
    const size_t begin = at != SIZE_MAX ? at : c->which ? 0 : length;
    const size_t end = at != SIZE_MAX ? at + by->s.length : begin;
    list_add(r, out, value_part(r, c->on, 0, begin));
    list_add(r, out, value_part(r, c->on, begin, end));
    list_add(r, out, value_part(r, c->on, end, length));
    return out;
}

/* Bytes of the line break that begins at `at`, 0: none. */
static size_t break_at(value v, size_t at) {
    int32_t c;
    const size_t n = text_next(v.s.text, v.s.length, at, &c);
    if (c == '\r') return at + 1 < v.s.length && v.s.text[at + 1] == '\n' ? 2 : 1;
    return (c >= '\n' && c <= '\f') || (c >= 0x1C && c <= 0x1E) || (n > 1 && c == 0x85) || c == 0x2028 || c == 0x2029
               ? n
               : 0;
}

value text_split_lines(rendering *r, const invocation *c) {
    const value out = value_new_list(r, V_LIST);
    const int keep = c->given[0] && value_true(*c->given[0]);
    for (size_t at = 0, next; at < c->on.s.length && !failed(r); at = next) {
        size_t end = at;
        while (end < c->on.s.length && !break_at(c->on, end))
            end++;
        next = end < c->on.s.length ? end + break_at(c->on, end) : end;
        list_add(r, out, value_part(r, c->on, at, keep ? next : end));
    }
    return out;
}

value text_join(rendering *r, const invocation *c) {
    const value items = value_items(r, *c->given[0]);
    const int safe = c->on.s.safe;
    sink out = {0};
    for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
        if (items.list->at[i].kind != V_STRING)
            render_fail(r, "sequence item %lld: expected str instance, %s found", (long long)i,
                        value_kind_name(items.list->at[i]));
        if (i) sink_add(r, &out, c->on);
        if (!failed(r)) sink_add(r, &out, safe ? text_escape(r, items.list->at[i]) : items.list->at[i]);
    }
    return taken(r, &out, safe);
}

static value replace_all(rendering *r, value v, value old, value new, int64_t most) {
    int64_t left = most < 0 ? INT64_MAX : most;
    size_t begin = 0;
    sink out = {0};
    for (size_t at = 0; left > 0 && at <= v.s.length && !failed(r); left--) {
        /* nothing stands in front of every character, and at the end */
        const size_t found = old.s.length ? find(v, old, at) : at;
        if (found == SIZE_MAX) break;
        render_step(r, 1);
        sink_add(r, &out, value_part(r, v, begin, found));
        sink_add(r, &out, new);
        begin = found + old.s.length;
        at = old.s.length         ? begin
             : found < v.s.length ? found + text_offset(v.s.text + found, v.s.length - found, 1)
                                  : found + 1;
    }
    sink_add(r, &out, value_part(r, v, begin, v.s.length));
    return sink_take(r, &out);
}

value text_replace(rendering *r, const invocation *c) {
    const value *old = text_argument(r, c, 0), *new = text_argument(r, c, 1);
    if (!old || !new) render_fail(r, "replace needs two strings");
    const int64_t most = whole_argument(r, c, 2, -1);
    if (failed(r)) return c->on;
    value out = c->on.s.safe ? replace_all(r, c->on, text_escape(r, *old), text_escape(r, *new), most)
                             : replace_all(r, c->on, *old, *new, most);
    out.s.safe = c->on.s.safe;
    return out;
}

value filter_replace(rendering *r, const invocation *c) {
    const int64_t most = c->given[2] && c->given[2]->kind != V_NONE ? whole_argument(r, c, 2, -1) : -1;
    const value old = value_string(r, *c->given[0]), new = value_string(r, *c->given[1]);
    return failed(r) ? c->on : replace_all(r, value_string(r, c->on), old, new, most);
}

/* ---- padding ---- */

value text_pad(rendering *r, const invocation *c) {
    const value *given = text_argument(r, c, 1);
    const value fill = given ? *given : value_words(c->which == PAD_ZEROS ? "0" : " ");
    const int64_t width = whole_argument(r, c, 0, 80);
    if (!failed(r) && value_length(r, fill) != 1)
        render_fail(r, "The fill character must be exactly one character long");
    const value text = value_string(r, c->on);
    const int64_t room = failed(r) ? 0 : width - value_length(r, text);
    if (room <= 0) return text;
    const int64_t left = c->which == PAD_RIGHT ? 0 : c->which == PAD_BOTH ? room / 2 + (room & width & 1) : room;
    const int sign = c->which == PAD_ZEROS && text.s.length && strchr("+-", *text.s.text);
    sink out = {0};
    sink_add(r, &out, value_part(r, text, 0, (size_t)sign));
    sink_add(r, &out, operate(r, '*', fill, value_int(left)));
    sink_add(r, &out, value_part(r, text, (size_t)sign, text.s.length));
    sink_add(r, &out, operate(r, '*', fill, value_int(room - left)));
    return taken(r, &out, text.s.safe);
}

value filter_center(rendering *r, const invocation *c) {
    invocation own = *c;
    own.which = PAD_BOTH;
    own.given[1] = NULL;
    return text_pad(r, &own);
}
