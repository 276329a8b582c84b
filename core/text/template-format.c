/* template-format — Python's two ways to put values into a text: "%s: %.2f" % (a, b), and "{}: {:.2f}".format(a, b). */
#include "text/template-builtins.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MOST = 10000, DIGITS_MOST = 200 };

typedef struct {
    const char *fill; /* one character */
    char align, sign, type;
    int alternate, comma;
    int64_t width, digits; /* digits: -1, not given */
} layout;

/* ---- one value ---- */

/* "-1234567.5" as sign, prefix and digits, with ',' between thousands when wanted. */
static void add_digits(strbuf *out, const char *digits, int comma) {
    const size_t whole = strspn(digits, "0123456789");
    for (size_t i = 0; digits[i]; i++) {
        if (comma && i && i < whole && (whole - i) % 3 == 0) strbuf_puts(out, ",");
        strbuf_add(out, digits + i, 1);
    }
}

static int whole_digits(strbuf *out, uint64_t x, char type) {
    char text[70];
    size_t at = sizeof text;
    const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    text[--at] = '\0';
    do {
        text[--at] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[x % base];
        x /= base;
    } while (x);
    strbuf_puts(out, text + at);
    return base != 10;
}

/* The digits of |v| without sign into *out; 0: the type does not fit. */
static int number_digits(rendering *r, value v, const layout *l, strbuf *out) {
    char pattern[] = "%.*f", text[600];
    if (l->type && strchr("bcdoxXn", l->type)) {
        if (v.kind == V_FLOAT) return 0;
        if (l->alternate && l->type != 'd' && l->type != 'n') strbuf_printf(out, "0%c", l->type);
        whole_digits(out, v.i < 0 ? -(uint64_t)v.i : (uint64_t)v.i, l->type);
        return 1;
    }
    const double x = fabs(value_real(v));
    if (!l->type && l->digits < 0) {
        value_repr(r, value_float(x), out);
        return 1;
    }
    pattern[3] = l->type == '%' ? 'f' : l->type ? l->type : 'g';
    if (!strchr("eEfFgG", pattern[3])) return 0;
    if (isfinite(x))
        snprintf(text, sizeof text, pattern, (int)(l->digits < 0 ? 6 : l->digits), l->type == '%' ? x * 100 : x);
    else
        snprintf(text, sizeof text, "%s", isnan(x) ? "nan" : "inf");
    strbuf_puts(out, text);
    if (!l->type && !strpbrk(text, ".en")) strbuf_puts(out, ".0");
    if (l->type == '%') strbuf_puts(out, "%");
    return 1;
}

static void add_padding(rendering *r, sink *out, const layout *l, int64_t count) {
    const value fill = value_words(l->fill);
    for (; count > 0 && !failed(r); count--)
        sink_add(r, out, fill);
}

static void add_laid(rendering *r, sink *out, const layout *l, char standard, const char *sign, value text) {
    const char align = l->align ? l->align : standard;
    const int64_t room = l->width - text_points(text.s.text, text.s.length) - (int64_t)strlen(sign);
    const int64_t left = align == '>' ? room : align == '^' ? room / 2 : 0;
    add_padding(r, out, l, left);
    sink_add(r, out, value_words(sign));
    if (align == '=') add_padding(r, out, l, room);
    sink_add(r, out, text);
    if (align == '<' || align == '^') add_padding(r, out, l, room - (left > 0 ? left : 0));
}

static void add_number(rendering *r, sink *out, const layout *own, value v) {
    strbuf digits = {0}, text = {0};
    layout l = *own;
    if (!l.type && v.kind != V_FLOAT) l.type = 'd';
    if (number_digits(r, v, &l, &digits)) {
        const int negative = v.kind == V_FLOAT ? signbit(v.f) != 0 && !isnan(v.f) : v.i < 0;
        const char *sign = negative ? "-" : l.sign == '+' ? "+" : l.sign == ' ' ? " " : "";
        add_digits(&text, digits.text, l.comma);
        add_laid(r, out, &l, '>', sign, value_copy(r, text.text, text.length));
    } else {
        render_fail(r, "unknown format code '%c' for object of type '%s'", l.type, value_kind_name(v));
    }
    strbuf_free(&digits);
    strbuf_free(&text);
}

static void add_text(rendering *r, sink *out, const layout *l, value v) {
    const size_t end = l->digits < 0 ? v.s.length : text_offset(v.s.text, v.s.length, l->digits);
    add_laid(r, out, l, '<', "", value_part(r, v, 0, end));
}

static value repr(rendering *r, value v) {
    strbuf text = {0};
    value_repr(r, v, &text);
    const value out = value_copy(r, text.text, text.length);
    strbuf_free(&text);
    return out;
}

/* A number of a pattern; -1: none stands there. */
static int64_t read_count(const char **at, const char *end) {
    int64_t n = -1;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        n = (n < 0 ? 0 : n > WIDTH_MOST ? n : 10 * n) + (**at - '0');
    return n;
}

static int too_wide(rendering *r, const layout *l) {
    if (l->width > WIDTH_MOST || l->digits > DIGITS_MOST)
        render_fail(r, "a format of more than %d columns or %d digits", WIDTH_MOST, DIGITS_MOST);
    return failed(r);
}

/* ---- % ---- */

/* One conversion, at the character behind '%'. */
static const char *add_percent(rendering *r, sink *out, const char *at, const char *end, value values, int64_t *next) {
    layout l = {.fill = " ", .digits = -1, .sign = '-', .align = '>'};
    const value *v = NULL;
    if (at < end && *at == '(') {
        const char *close = memchr(at, ')', (size_t)(end - at));
        if (close && values.kind == V_DICT) v = dict_get(values, value_text(at + 1, (size_t)(close - at - 1)));
        if (!v) render_fail(r, "format requires a mapping with the key it names");
        at = close ? close + 1 : end;
    }
    for (; at < end && strchr("-+ #0", *at); at++) {
        if (*at == '-') l.align = '<', l.fill = " ";
        if (*at == '0' && l.align != '<') l.align = '=', l.fill = "0";
        if (*at == '+' || (*at == ' ' && l.sign == '-')) l.sign = *at;
        l.alternate |= *at == '#';
    }
    l.width = read_count(&at, end);
    if (at < end && *at == '.') {
        at++;
        l.digits = read_count(&at, end);
        l.digits = l.digits < 0 ? 0 : l.digits;
    }
    if (at >= end) render_fail(r, "incomplete format");
    if (failed(r) || too_wide(r, &l)) return end;
    l.type = *at++;
    if (l.type == '%') {
        sink_add(r, out, value_words("%"));
        return at;
    }
    const int many = values.kind == V_TUPLE;
    if (!v && *next < (many ? values.list->count : 1)) v = many ? &values.list->at[*next] : &values;
    (*next)++;
    if (!v) render_fail(r, "not enough arguments for format string");
    if (failed(r)) return end;
    value one = *v;
    const int number = value_is_number(one);
    if (l.type == 's' || l.type == 'r') {
        l.align = l.align == '=' ? '>' : l.align, l.fill = " ";
        add_text(r, out, &l, l.type == 's' ? value_string(r, one) : repr(r, one));
    } else if (!number || !strchr("diuxXoeEfFgG", l.type)) {
        render_fail(r, "%%%c format: a real number is required, not %s", l.type, value_kind_name(one));
    } else if (strchr("diu", l.type)) {
        l.type = 'd';
        add_number(r, out, &l, value_int(one.kind == V_FLOAT && fabs(one.f) < 9e18 ? (int64_t)one.f : one.i));
    } else {
        add_number(r, out, &l, one);
    }
    return at;
}

value text_percent(rendering *r, value text, value values) {
    sink out = {0};
    int64_t next = 0;
    const char *at = text.s.text, *const end = at + text.s.length;
    while (at < end && !failed(r)) {
        const char *sign = memchr(at, '%', (size_t)(end - at));
        sink_add(r, &out, value_part(r, text, (size_t)(at - text.s.text), (size_t)((sign ? sign : end) - text.s.text)));
        at = sign ? add_percent(r, &out, sign + 1, end, values, &next) : end;
    }
    /* what has items may be left over */
    const int single = values.kind == V_STRING || values.kind == V_NONE || value_is_number(values);
    if (next < (values.kind == V_TUPLE ? values.list->count : single))
        render_fail(r, "not all arguments converted during string formatting");
    return sink_take(r, &out);
}

value filter_format(rendering *r, const invocation *c) {
    const value text = value_string(r, c->on);
    if (c->args->count && c->keywords->count)
        render_fail(r, "can't handle positional and keyword arguments at the same time");
    if (c->keywords->count)
        return text_percent(r, text, (value){.kind = V_DICT, .dict = (value_dict *)(uintptr_t)c->keywords});
    return text_percent(r, text, (value){.kind = V_TUPLE, .list = (value_list *)(uintptr_t)c->args});
}

/* ---- format ---- */

/* "[[fill]align][sign][#][0][width][,][.digits][type]" */
static layout read_layout(rendering *r, value spec) {
    layout l = {.fill = " ", .digits = -1, .sign = '-'};
    const char *at = spec.s.text, *const end = at + spec.s.length;
    const size_t one = text_offset(at, spec.s.length, 1);
    if (at + one < end && strchr("<>=^", at[one])) {
        l.fill = arena_copy(&r->memory, at, one);
        l.align = at[one];
        at += one + 1;
    } else if (at < end && strchr("<>=^", *at)) {
        l.align = *at++;
    }
    if (at < end && strchr("+- ", *at)) l.sign = *at++;
    if (at < end && *at == '#') l.alternate = 1, at++;
    if (at < end && *at == '0') {
        if (!l.align) l.align = '=', l.fill = "0";
        at++;
    }
    l.width = read_count(&at, end);
    if (at < end && *at == ',') l.comma = 1, at++;
    if (at < end && *at == '.') {
        at++;
        l.digits = read_count(&at, end);
        if (l.digits < 0) render_fail(r, "Format specifier missing precision");
    }
    if (at < end) l.type = *at++;
    if (at < end) render_fail(r, "Invalid format specifier");
    too_wide(r, &l);
    return l;
}

static void add_formatted(rendering *r, sink *out, value v, value spec) {
    const layout l = read_layout(r, spec);
    if (failed(r)) return;
    if (!spec.s.length)
        sink_add(r, out, value_string(r, v));
    else if (v.kind == V_STRING && (l.type == 's' || !l.type) && l.align != '=')
        add_text(r, out, &l, v);
    else if (value_is_number(v))
        add_number(r, out, &l, v);
    else
        render_fail(r, "unsupported format string passed to %s.__format__", value_kind_name(v));
}

/* The value of a field name: "", "0", "name", then .attribute and [key]. */
static value field_value(rendering *r, const invocation *c, value name, int64_t *next) {
    const value keywords = {.kind = V_DICT, .dict = (value_dict *)(uintptr_t)c->keywords};
    const char *at = name.s.text, *const end = at + name.s.length;
    while (at < end && *at != '.' && *at != '[')
        at++;
    const char *digits = name.s.text;
    const int64_t number = at == name.s.text ? (*next)++ : read_count(&digits, at);
    const value *found = digits == at || at == name.s.text
                             ? number >= 0 && number < c->args->count ? &c->args->at[number] : NULL
                             : dict_get(keywords, value_text(name.s.text, (size_t)(at - name.s.text)));
    if (!found) render_fail(r, "format: there is no argument '%.*s'", (int)name.s.length, name.s.text);
    value v = found ? *found : value_none();
    while (at < end && !failed(r)) {
        const char *from = at + 1;
        const char *stop = *at == '[' ? memchr(from, ']', (size_t)(end - from)) : from;
        while (*at == '.' && stop < end && *stop != '.' && *stop != '[')
            stop++;
        if (!stop || (*at != '.' && *at != '[')) {
            render_fail(r, "format: a field name that is not understood");
            return v;
        }
        const value key = value_copy(r, from, (size_t)(stop - from));
        const char *place = from;
        const int64_t index = read_count(&place, stop);
        v = *at == '.' ? value_attribute(r, v, key.s.text, key.s.length)
                       : value_item(r, v, place == stop && index >= 0 ? value_int(index) : key);
        at = *at == '[' ? stop + 1 : stop;
    }
    return v;
}

static value fill_fields(rendering *r, const invocation *c, value text, int64_t *next, int depth);

/* The inside of {...}. */
static void add_field(rendering *r, sink *out, const invocation *c, value field, int64_t *next, int depth) {
    size_t name = 0;
    for (int open = 0; name < field.s.length; name++) {
        open += field.s.text[name] == '[';
        open -= field.s.text[name] == ']';
        if (open <= 0 && (field.s.text[name] == ':' || field.s.text[name] == '!')) break;
    }
    value v = field_value(r, c, value_part(r, field, 0, name), next);
    if (name + 1 < field.s.length && field.s.text[name] == '!') {
        const char how = field.s.text[name + 1];
        if (how != 's' && how != 'r') render_fail(r, "format: !%c is not known", how);
        v = failed(r) ? v : how == 's' ? value_string(r, v) : repr(r, v);
        name += 2;
    }
    if (failed(r)) return;
    const value spec = name < field.s.length ? value_part(r, field, name + 1, field.s.length) : value_words("");
    add_formatted(r, out, v, depth ? spec : fill_fields(r, c, spec, next, 1));
}

static value fill_fields(rendering *r, const invocation *c, value text, int64_t *next, int depth) {
    sink out = {0};
    const char *const s = text.s.text;
    for (size_t at = 0, begin = 0; at <= text.s.length && !failed(r); at++) {
        const char sign = at < text.s.length ? s[at] : 0;
        if (at < text.s.length && sign != '{' && sign != '}') continue;
        const int doubled = at + 1 < text.s.length && s[at + 1] == sign && !depth;
        sink_add(r, &out, value_part(r, text, begin, at + (size_t)doubled));
        if (at == text.s.length) break;
        size_t end = at + 1;
        for (int open = 1; !doubled && sign == '{' && end < text.s.length; end++) {
            open += (s[end] == '{') - (s[end] == '}');
            if (open == 0) break;
        }
        if (!doubled && (sign == '}' || end >= text.s.length))
            render_fail(r, "Single '%c' encountered in format string", sign);
        else if (!doubled)
            add_field(r, &out, c, value_part(r, text, at + 1, end), next, depth);
        at = doubled ? at + 1 : end;
        begin = at + 1;
    }
    return sink_take(r, &out);
}

value method_format(rendering *r, const invocation *c) {
    int64_t next = 0;
    return fill_fields(r, c, c->on, &next, 0);
}
