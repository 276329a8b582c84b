/* template-text — strings: what str() and repr() make of values; pieces of UTF-8 that remember which message they came from (marks).
 * Cutting and joining carry the marks along. */
#include "formats/jsontext.h"
#include "text/template-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- characters ---- */

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

size_t text_next(const char *text, size_t length, size_t at, int32_t *c) {
    utf8proc_int32_t code = 0;
    const utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &code);
    *c = n < 1 ? (unsigned char)text[at] : code;
    return n < 1 ? 1 : (size_t)n;
}

int space_at(const char *text, size_t length, size_t at) {
    int32_t c;
    const size_t n = text_next(text, length, at, &c);
    if (c >= 0x80 && n == 1) return 0; /* no UTF-8 */
    const int space = (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
                      (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
                      c == 0x3000;
    return space ? (int)n : 0;
}

int text_is(const value *v, const char *word) {
    return v && v->kind == V_STRING && v->s.length == strlen(word) && memcmp(v->s.text, word, v->s.length) == 0;
}

/* ---- str and repr ---- */

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
    if (v.s.safe) strbuf_puts(out, "Markup(");
    strbuf_add(out, &quote, 1);
    for (size_t at = 0; at < v.s.length;) {
        int32_t c;
        const size_t n = text_next(v.s.text, v.s.length, at, &c);
        if (c == '\\' || c == quote)
            strbuf_printf(out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            strbuf_puts(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (printable(c))
            strbuf_add(out, v.s.text + at, n);
        else
            strbuf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        at += n;
    }
    strbuf_add(out, &quote, 1);
    if (v.s.safe) strbuf_puts(out, ")");
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
    if (v.kind == V_VIEW && value_is_sequence(v)) {
        strbuf_puts(out, v.list->view);
        return;
    }
    if (v.kind == V_VIEW) strbuf_printf(out, "dict_%s([", v.list->view);
    if (v.kind != V_VIEW) strbuf_puts(out, v.kind == V_LIST ? "[" : "(");
    for (int64_t i = 0; i < v.list->count; i++) {
        if (i) strbuf_puts(out, ", ");
        value_repr(r, v.list->at[i], out);
    }
    strbuf_puts(out, v.kind == V_VIEW ? "])" : v.kind == V_LIST ? "]" : v.list->count == 1 ? ",)" : ")");
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
    case V_VIEW:
        repr_list(r, v, out);
        break;
    case V_DICT:
        repr_dict(r, v, out);
        break;
    case V_NAMESPACE:
        strbuf_puts(out, "<Namespace>");
        break;
    case V_MACRO:
        if (v.macro->n->kind == N_CALL_BLOCK)
            strbuf_puts(out, "<Macro anonymous>");
        else
            strbuf_printf(out, "<Macro '%s'>", v.macro->n->name);
        break;
    case V_LOOP:
        strbuf_printf(out, "<LoopContext %lld/%lld>", (long long)v.loop->at + 1, (long long)v.loop->items.list->count);
        break;
    case V_GENERATOR:
    case V_METHOD:
    case V_FUNCTION:
        strbuf_printf(out, "<%s>", value_kind_name(v));
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

/* ---- cutting and joining ---- */

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
    count_items(r, 1 + (int64_t)((a.s.length + b.s.length) / sizeof(value)));
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
    out.s.safe = s.s.safe;
    if (s.s.marks) out.s.marks = moved(r, s.s.marks, begin, end, 0, NULL);
    return out;
}

void sink_add(rendering *r, sink *to, value string) {
    if (to->text.length + string.s.length > TEMPLATE_OUTPUT) {
        render_fail(r, "a text is longer than %d MB", TEMPLATE_OUTPUT >> 20);
        return;
    }
    for (const mark *m = string.s.marks; m; m = m->next) {
        count_items(r, 1);
        mark *own = arena_new(&r->memory, 1, sizeof *own);
        *own = (mark){m->begin + to->text.length, m->end + to->text.length, m->message, NULL};
        if (to->last)
            to->last->next = own;
        else
            to->marks = own;
        to->last = own;
    }
    strbuf_add(&to->text, string.s.text ? string.s.text : "", string.s.length);
}

value sink_take(rendering *r, sink *from) {
    value out = value_copy(r, from->text.text, from->text.length);
    out.s.marks = from->marks;
    strbuf_free(&from->text);
    *from = (sink){0};
    return out;
}

value text_marked(rendering *r, value text, int32_t message) {
    if (message < 0) return text;
    mark *m = arena_new(&r->memory, 1, sizeof *m);
    *m = (mark){0, text.s.length, message, NULL};
    text.s.marks = m;
    return text;
}

value text_escape(rendering *r, value text) {
    if (text.s.safe) return text;
    sink out = {0};
    size_t from = 0;
    for (size_t i = 0; i < text.s.length && !failed(r); i++) {
        const char *word = NULL;
        switch (text.s.text[i]) {
        case '&':
            word = "&amp;";
            break;
        case '<':
            word = "&lt;";
            break;
        case '>':
            word = "&gt;";
            break;
        case '"':
            word = "&#34;";
            break;
        case '\'':
            word = "&#39;";
            break;
        default:
            continue;
        }
        sink_add(r, &out, value_part(r, text, from, i));
        sink_add(r, &out, value_words(word));
        from = i + 1;
    }
    sink_add(r, &out, value_part(r, text, from, text.s.length));
    value escaped = sink_take(r, &out);
    escaped.s.safe = 1;
    return escaped;
}
