/* template-methods — attributes and items of values, and the methods of strings, lists and dicts that Python has. */
#include "text/template-private.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char *const text_methods[] = {
    "strip",        "lstrip",     "rstrip", "split",   "rsplit",  "startswith", "endswith",   "replace", "upper",
    "lower",        "capitalize", "title",  "find",    "count",   "join",       "splitlines", "isdigit", "removeprefix",
    "removesuffix", "isspace",    "index",  "isalpha", "isupper", "islower",    NULL};
enum {
    M_STRIP,
    M_LSTRIP,
    M_RSTRIP,
    M_SPLIT,
    M_RSPLIT,
    M_STARTS,
    M_ENDS,
    M_REPLACE,
    M_UPPER,
    M_LOWER,
    M_CAPITALIZE,
    M_TITLE,
    M_FIND,
    M_COUNT,
    M_JOIN,
    M_LINES,
    M_ISDIGIT,
    M_PREFIX,
    M_SUFFIX,
    M_ISSPACE,
    M_INDEX,
    M_ISALPHA,
    M_ISUPPER,
    M_ISLOWER
};
static const char *const dict_methods[] = {"items", "get", "keys", "values", "copy", NULL};
enum { D_ITEMS, D_GET, D_KEYS, D_VALUES, D_COPY };
static const char *const list_methods[] = {"index", "count", "copy", NULL};
/* Known to Python, refused by the immutable sandbox. */
static const char *const changing[] = {"append", "extend", "insert", "remove",     "sort",    "reverse",
                                       "clear",  "pop",    "update", "setdefault", "popitem", NULL};

static int place(const char *const *names, const char *name, size_t length) {
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return i;
    return -1;
}

static const char *const *methods_of(value v) {
    static const char *const none[] = {NULL};
    return v.kind == V_STRING                      ? text_methods
           : v.kind == V_DICT                      ? dict_methods
           : v.kind == V_LIST || v.kind == V_TUPLE ? list_methods
                                                   : none;
}

int method_exists(value on, const char *name, size_t length) {
    return place(methods_of(on), name, length) >= 0 ||
           ((on.kind == V_LIST || on.kind == V_DICT) && place(changing, name, length) >= 0);
}

static value bind(rendering *r, value on, const char *name, size_t length) {
    value *self = arena_new(&r->memory, 1, sizeof *self);
    *self = on;
    return (value){
        .kind = V_METHOD, .s = {name, length, NULL},
             .self = self
    };
}

static value missing(rendering *r, value on, const char *name, size_t length) {
    return value_undefined(
        arena_format(&r->memory, "%s object' has no attribute '%.*s", value_kind_name(on), (int)length, name));
}

/* x.name: attribute, then item. */
value value_attribute(rendering *r, value on, const char *name, size_t length) {
    if (on.kind == V_UNDEFINED) {
        render_fail(r, "'%s' is undefined", on.s.text);
        return value_none();
    }
    if (method_exists(on, name, length)) return bind(r, on, name, length);
    if (on.kind == V_DICT || on.kind == V_NAMESPACE) {
        const value *found = dict_get(on, value_text(name, length));
        if (found) return *found;
    }
    return missing(r, on, name, length);
}

/* x[key]: item, then attribute. */
value value_item(rendering *r, value on, value key) {
    if (on.kind == V_UNDEFINED) {
        render_fail(r, "'%s' is undefined", on.s.text);
        return value_none();
    }
    if (on.kind == V_DICT || on.kind == V_NAMESPACE) {
        const value *found = dict_get(on, key);
        if (found) return *found;
    }
    if ((on.kind == V_LIST || on.kind == V_TUPLE || on.kind == V_STRING) && (key.kind == V_INT || key.kind == V_BOOL)) {
        const int64_t length = value_length(r, on), at = key.i < 0 ? key.i + length : key.i;
        if (at < 0 || at >= length) return value_undefined("an item behind the end");
        if (on.kind != V_STRING) return on.list->at[at];
        const size_t begin = text_offset(on.s.text, on.s.length, at);
        return value_part(r, on, begin, begin + text_offset(on.s.text + begin, on.s.length - begin, 1));
    }
    if (key.kind == V_STRING && method_exists(on, key.s.text, key.s.length))
        return bind(r, on, arena_copy(&r->memory, key.s.text, key.s.length), key.s.length);
    return key.kind == V_STRING ? missing(r, on, key.s.text, key.s.length) : value_undefined("an item");
}

/* ---- strings ---- */

static int in_set(value set, const char *text, size_t length) {
    return set.s.length && memmem(set.s.text, set.s.length, text, length) != NULL;
}

static value strip(rendering *r, value v, const value *set, int left, int right) {
    size_t begin = 0, end = v.s.length;
    while (left && begin < end) {
        const size_t n = text_offset(v.s.text + begin, end - begin, 1);
        if (set ? !in_set(*set, v.s.text + begin, n) : !space_at(v.s.text, end, begin)) break;
        begin += n;
    }
    while (right && end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)v.s.text[at] & 0xC0) == 0x80)
            at--;
        if (set ? !in_set(*set, v.s.text + at, end - at) : !space_at(v.s.text, end, at)) break;
        end = at;
    }
    return value_part(r, v, begin, end);
}

static size_t find(value v, value part, size_t from) {
    const char *at = from <= v.s.length && part.s.length
                         ? memmem(v.s.text + from, v.s.length - from, part.s.text, part.s.length)
                         : NULL;
    return at ? (size_t)(at - v.s.text) : SIZE_MAX;
}

static value split_spaces(rendering *r, value v, int64_t most) {
    value out = value_new_list(r, V_LIST);
    size_t at = 0;
    while (!failed(r)) {
        for (int n; at < v.s.length && (n = space_at(v.s.text, v.s.length, at)) > 0;)
            at += (size_t)n;
        if (at >= v.s.length) break;
        size_t end = at;
        if (most >= 0 && out.list->count >= most) {
            list_add(r, out, strip(r, value_part(r, v, at, v.s.length), NULL, 0, 1));
            break;
        }
        while (end < v.s.length && !space_at(v.s.text, v.s.length, end))
            end += text_offset(v.s.text + end, v.s.length - end, 1);
        list_add(r, out, value_part(r, v, at, end));
        at = end;
    }
    return out;
}

static value split(rendering *r, value v, const value_list *args, const value_dict *keywords, int from_right) {
    const value names = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)keywords};
    const value *limit = args->count > 1 ? &args->at[1] : keywords ? dict_word(names, "maxsplit") : NULL;
    const int64_t most = limit && limit->kind == V_INT ? limit->i : -1;
    if (!args->count || args->at[0].kind == V_NONE) return split_spaces(r, v, most);
    const value by = args->at[0];
    value out = value_new_list(r, V_LIST);
    if (by.kind != V_STRING || !by.s.length) {
        render_fail(r, by.kind == V_STRING ? "empty separator" : "split needs a string");
        return out;
    }
    int64_t parts = 1, passed = 0;
    for (size_t at = 0; (at = find(v, by, at)) != SIZE_MAX; at += by.s.length)
        parts++;
    const int64_t skip = from_right && most >= 0 && parts - 1 > most ? parts - 1 - most : 0;
    size_t begin = 0;
    for (size_t at = 0; !failed(r) && (at = find(v, by, at)) != SIZE_MAX; at += by.s.length) {
        if (passed++ < skip || (!from_right && most >= 0 && out.list->count >= most)) continue;
        list_add(r, out, value_part(r, v, begin, at));
        begin = at + by.s.length;
    }
    list_add(r, out, value_part(r, v, begin, v.s.length));
    return out;
}

static value split_lines(rendering *r, value v, int keep) {
    value out = value_new_list(r, V_LIST);
    for (size_t at = 0; at < v.s.length && !failed(r);) {
        size_t end = at;
        while (end < v.s.length && v.s.text[end] != '\n' && v.s.text[end] != '\r')
            end++;
        const size_t next = end < v.s.length
                                ? end + 1 + (v.s.text[end] == '\r' && end + 1 < v.s.length && v.s.text[end + 1] == '\n')
                                : end;
        list_add(r, out, value_part(r, v, at, keep ? next : end));
        at = next;
    }
    return out;
}

static value replace(rendering *r, value v, const value_list *args) {
    if (args->count < 2 || args->at[0].kind != V_STRING || args->at[1].kind != V_STRING) {
        render_fail(r, "replace needs two strings");
        return v;
    }
    const value old = args->at[0], new = args->at[1];
    int64_t left = args->count > 2 && args->at[2].kind == V_INT && args->at[2].i >= 0 ? args->at[2].i : INT64_MAX;
    value out = value_words("");
    if (!old.s.length) { /* between all characters */
        for (size_t at = 0; at <= v.s.length && !failed(r);) {
            if (left-- > 0) out = value_join(r, out, new);
            if (at == v.s.length) break;
            const size_t n = text_offset(v.s.text + at, v.s.length - at, 1);
            out = value_join(r, out, value_part(r, v, at, at + n));
            at += n;
        }
        return out;
    }
    size_t begin = 0;
    for (size_t at = 0; left-- > 0 && !failed(r) && (at = find(v, old, at)) != SIZE_MAX; at += old.s.length) {
        out = value_join(r, value_join(r, out, value_part(r, v, begin, at)), new);
        begin = at + old.s.length;
    }
    return begin ? value_join(r, out, value_part(r, v, begin, v.s.length)) : v;
}

static int is_letter(utf8proc_int32_t c) {
    const utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

/* upper and lower letter by letter; capitalize and title by place. */
static value turn_case(rendering *r, value v, int method) {
    strbuf out = {0};
    int inside = 0;
    for (size_t at = 0; at < v.s.length;) {
        utf8proc_int32_t c = 0;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)v.s.text + at, (utf8proc_ssize_t)(v.s.length - at), &c);
        utf8proc_uint8_t bytes[4];
        if (n < 1) {
            strbuf_add(&out, v.s.text + at++, 1);
            continue;
        }
        const int first = method == M_CAPITALIZE ? at == 0 : method == M_TITLE && !inside;
        const int up = method == M_UPPER || first;
        if (up && c == 0xDF)
            strbuf_puts(&out, method == M_UPPER ? "SS" : "Ss");
        else
            strbuf_add(&out, (const char *)bytes,
                       (size_t)utf8proc_encode_char(up ? method == M_UPPER ? utf8proc_toupper(c) : utf8proc_totitle(c)
                                                       : utf8proc_tolower(c),
                                                    bytes));
        inside = is_letter(c);
        at += (size_t)n;
    }
    value turned = value_copy(r, out.text, out.length);
    if (out.length == v.s.length) turned.s.marks = v.s.marks;
    strbuf_free(&out);
    return turned;
}

static value affix(rendering *r, value v, const value_list *args, int method) {
    const value_list *options = args;
    value_list one = {0};
    if (args->count && args->at[0].kind == V_TUPLE) one = *args->at[0].list, options = &one;
    for (int64_t i = 0; i < options->count && (i == 0 || options == &one); i++) {
        const value p = options->at[i];
        if (p.kind != V_STRING) {
            render_fail(r, "startswith, endswith and remove... need strings");
            return v;
        }
        const int fits = p.s.length <= v.s.length;
        const int head = fits && memcmp(v.s.text, p.s.text, p.s.length) == 0;
        const int tail = fits && memcmp(v.s.text + v.s.length - p.s.length, p.s.text, p.s.length) == 0;
        if (method == M_PREFIX) return head ? value_part(r, v, p.s.length, v.s.length) : v;
        if (method == M_SUFFIX) return tail && p.s.length ? value_part(r, v, 0, v.s.length - p.s.length) : v;
        if (method == M_STARTS ? head : tail) return value_bool(1);
    }
    if (!args->count) render_fail(r, "startswith, endswith and remove... need a string");
    return method == M_PREFIX || method == M_SUFFIX ? v : value_bool(0);
}

static value all_of(value v, int method) {
    int cased = 0;
    if (!v.s.length) return value_bool(0);
    for (size_t at = 0; at < v.s.length;) {
        utf8proc_int32_t c = 0;
        const utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)v.s.text + at, (utf8proc_ssize_t)(v.s.length - at), &c);
        if (n < 1) return value_bool(0);
        const utf8proc_category_t k = utf8proc_category(c);
        if (method == M_ISDIGIT && k != UTF8PROC_CATEGORY_ND) return value_bool(0);
        if (method == M_ISALPHA && !is_letter(c)) return value_bool(0);
        if (method == M_ISSPACE && !space_at(v.s.text, v.s.length, at)) return value_bool(0);
        if ((method == M_ISUPPER && k == UTF8PROC_CATEGORY_LL) || (method == M_ISLOWER && k == UTF8PROC_CATEGORY_LU))
            return value_bool(0);
        cased |= k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LU;
        at += (size_t)n;
    }
    return value_bool((method != M_ISUPPER && method != M_ISLOWER) || cased);
}

static value search(rendering *r, value v, const value_list *args, int method) {
    if (!args->count || args->at[0].kind != V_STRING) {
        render_fail(r, "find, index and count need a string");
        return value_none();
    }
    const value part = args->at[0];
    if (method == M_COUNT) {
        int64_t n = part.s.length ? 0 : text_points(v.s.text, v.s.length) + 1;
        for (size_t at = 0; (at = find(v, part, at)) != SIZE_MAX; at += part.s.length)
            n++;
        return value_int(n);
    }
    const size_t at = part.s.length ? find(v, part, 0) : 0;
    if (at == SIZE_MAX && method == M_INDEX) render_fail(r, "substring not found");
    return value_int(at == SIZE_MAX ? -1 : text_points(v.s.text, at));
}

static value text_call(rendering *r, value v, int method, const value_list *args, const value_dict *keywords) {
    const value *set = args->count && args->at[0].kind == V_STRING ? &args->at[0] : NULL;
    switch (method) {
    case M_STRIP:
        return strip(r, v, set, 1, 1);
    case M_LSTRIP:
        return strip(r, v, set, 1, 0);
    case M_RSTRIP:
        return strip(r, v, set, 0, 1);
    case M_SPLIT:
    case M_RSPLIT:
        return split(r, v, args, keywords, method == M_RSPLIT);
    case M_STARTS:
    case M_ENDS:
    case M_PREFIX:
    case M_SUFFIX:
        return affix(r, v, args, method);
    case M_REPLACE:
        return replace(r, v, args);
    case M_FIND:
    case M_COUNT:
    case M_INDEX:
        return search(r, v, args, method);
    case M_JOIN: {
        const value items = args->count ? value_items(r, args->at[0]) : value_new_list(r, V_LIST);
        value out = value_words("");
        for (int64_t i = 0; !failed(r) && i < items.list->count; i++) {
            if (items.list->at[i].kind != V_STRING) {
                render_fail(r, "sequence item %lld: expected str instance, %s found", (long long)i,
                            value_kind_name(items.list->at[i]));
                break;
            }
            out = value_join(r, i ? value_join(r, out, v) : out, items.list->at[i]);
        }
        return out;
    }
    case M_LINES:
        return split_lines(r, v, args->count && value_true(args->at[0]));
    case M_ISDIGIT:
    case M_ISSPACE:
    case M_ISALPHA:
    case M_ISUPPER:
    case M_ISLOWER:
        return all_of(v, method);
    default:
        return turn_case(r, v, method);
    }
}

/* ---- dicts and lists ---- */

static value dict_call(rendering *r, value v, int method, const value_list *args) {
    value out = value_new_list(r, V_LIST);
    if (method == D_COPY) return v;
    if (method == D_GET) {
        const value *found = args->count ? dict_get(v, args->at[0]) : NULL;
        if (!args->count) render_fail(r, "get needs a key");
        return found ? *found : args->count > 1 ? args->at[1] : value_none();
    }
    for (int64_t i = 0; i < v.dict->count && !failed(r); i++) {
        if (method == D_ITEMS) {
            value pair = value_new_list(r, V_TUPLE);
            list_add(r, pair, v.dict->keys[i]);
            list_add(r, pair, v.dict->values[i]);
            list_add(r, out, pair);
        } else {
            list_add(r, out, method == D_KEYS ? v.dict->keys[i] : v.dict->values[i]);
        }
    }
    return out;
}

static value list_call(rendering *r, value v, int method, const value_list *args) {
    if (method == 2) return v;
    int64_t count = 0, at = -1;
    for (int64_t i = 0; args->count && i < v.list->count; i++)
        if (value_equal(v.list->at[i], args->at[0])) {
            count++;
            at = at < 0 ? i : at;
        }
    if (method == 0 && at < 0) render_fail(r, "the list has no such item");
    return value_int(method == 0 ? at : count);
}

value method_call(rendering *r, value method, const value_list *args, const value_dict *keywords) {
    const value self = *method.self;
    const int which = place(methods_of(self), method.s.text, method.s.length);
    if (which < 0) {
        render_fail(r, "a template cannot change a list or dict (%.*s)", (int)method.s.length, method.s.text);
        return value_none();
    }
    if (self.kind == V_STRING) return text_call(r, self, which, args, keywords);
    return self.kind == V_DICT ? dict_call(r, self, which, args) : list_call(r, self, which, args);
}
