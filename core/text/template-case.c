/* template-case — upper and lower case, and what kind of characters a string holds, as Python's str has it. */
#include "text/template-builtins.h"
#include <string.h>
#include <utf8proc.h>

static int is_category(int32_t c, int from, int to) {
    const utf8proc_category_t k = utf8proc_category(c);
    return (int)k >= from && (int)k <= to;
}
static int is_upper(int32_t c) {
    return utf8proc_isupper(c);
}
static int is_lower(int32_t c) {
    return utf8proc_islower(c);
}
static int is_cased(int32_t c) {
    return is_upper(c) || is_lower(c) || is_category(c, UTF8PROC_CATEGORY_LT, UTF8PROC_CATEGORY_LT);
}

static void add_character(strbuf *out, int32_t c) {
    utf8proc_uint8_t bytes[4];
    strbuf_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(c, bytes));
}

/* Letters without a capital of their own are written as several (Unicode's SpecialCasing): ss, ligatures, letters with marks. */
static void add_upper(strbuf *out, int32_t c, int title) {
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const int32_t up = title ? utf8proc_totitle(c) : utf8proc_toupper(c);
    if (c == 0xDF) {
        strbuf_puts(out, title ? "Ss" : "SS");
        return;
    }
    const utf8proc_ssize_t n =
        up != c || c < 0x80 ? 0 : utf8proc_decompose_char(c, parts, 8, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    if (n < 2 || n > 8 || !is_lower(c) || is_category(c, UTF8PROC_CATEGORY_LM, UTF8PROC_CATEGORY_LO)) {
        add_character(out, up);
        return;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++)
        add_character(out, i && title ? parts[i] : utf8proc_toupper(parts[i]));
}

/* `inside`: behind a letter; next: what follows. 'Σ' at the end of a word is 'ς'. */
static void add_lower(strbuf *out, int32_t c, int inside, value v, size_t next) {
    int32_t behind = 0;
    if (next < v.s.length) text_next(v.s.text, v.s.length, next, &behind);
    if (c == 0x3A3)
        add_character(out, inside && !is_cased(behind) ? 0x3C2 : 0x3C3);
    else
        add_character(out, utf8proc_tolower(c));
    if (c == 0x130) add_character(out, 0x307);
}

value method_case(rendering *r, const invocation *c) {
    const value v = c->on;
    strbuf out = {0};
    int inside = 0;
    for (size_t at = 0, next; at < v.s.length; at = next) {
        int32_t code;
        next = at + text_next(v.s.text, v.s.length, at, &code);
        const int first = c->which == CASE_CAPITALIZE ? at == 0 : c->which == CASE_TITLE && !inside;
        if (next == at + 1 && code >= 0x80)
            strbuf_add(&out, v.s.text + at, 1); /* no UTF-8 */
        else if (c->which == CASE_UPPER || first || (c->which == CASE_SWAP && is_lower(code)))
            add_upper(&out, code, first);
        else if (c->which != CASE_SWAP || is_upper(code))
            add_lower(&out, code, inside, v, next);
        else
            add_character(&out, code);
        inside = is_cased(code);
    }
    value turned = value_copy(r, out.text, out.length);
    if (out.length == v.s.length)
        turned.s.marks = v.s.marks;
    else if (v.s.marks)
        turned = text_marked(r, turned, v.s.marks->message);
    turned.s.safe = v.s.safe;
    strbuf_free(&out);
    return turned;
}

/* Whether one character is of the kinds in `which`. */
static int is_of(value v, size_t at, int32_t c, int which) {
    return (which & LETTERS && is_category(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO)) ||
           (which & DIGITS && is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_ND)) ||
           (which & NUMBERS && is_category(c, UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_NO)) ||
           (which & SPACES && space_at(v.s.text, v.s.length, at)) || (which & ASCII && c < 0x80);
}

value method_is(rendering *r, const invocation *c) {
    const value v = c->on;
    const int by_case = c->which & (UPPER | LOWER);
    int cased = 0;
    (void)r;
    for (size_t at = 0, next; at < v.s.length; at = next) {
        int32_t code;
        next = at + text_next(v.s.text, v.s.length, at, &code);
        if (!by_case && !is_of(v, at, code, c->which)) return value_bool(0);
        if (by_case && is_cased(code) && !(c->which == UPPER ? is_upper(code) : is_lower(code))) return value_bool(0);
        cased |= is_cased(code);
    }
    return value_bool(by_case ? cased : v.s.length > 0 || c->which == ASCII);
}
