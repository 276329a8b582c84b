/* template-prose — filters that lay out a text: indent, title, truncate, wordcount. */
#include "text/template-builtins.h"
#include <string.h>
#include <utf8proc.h>

static value part_of(rendering *r, value text, int64_t from, int64_t to) {
    const size_t begin = text_offset(text.s.text, text.s.length, from);
    return value_part(r, text, begin, begin + text_offset(text.s.text + begin, text.s.length - begin, to - from));
}

/* Lines are put together with '\n', whatever ended them. */
value filter_indent(rendering *r, const invocation *c) {
    const value *width = c->given[0];
    const int first = c->given[1] && value_true(*c->given[1]), blank = c->given[2] && value_true(*c->given[2]);
    if (c->on.kind != V_STRING) render_fail(r, "indent of '%s'", value_kind_name(c->on));
    if (failed(r)) return value_none();
    const value gap = width && width->kind == V_STRING
                          ? *width
                          : operate(r, '*', value_words(" "), value_int(whole_argument(r, c, 0, 4)));
    const value lines = method_call(r, value_join(r, c->on, value_words("\n")), "splitlines");
    sink out = {0};
    for (int64_t i = 0; !failed(r) && i < lines.list->count; i++) {
        const value line = lines.list->at[i];
        if (i) sink_add(r, &out, value_words("\n"));
        if (i ? blank || line.s.length : first) sink_add(r, &out, gap);
        sink_add(r, &out, line);
    }
    value text = sink_take(r, &out);
    text.s.safe = c->on.s.safe;
    return text;
}

/* Words begin behind white space, '-' and opening brackets. */
value filter_title(rendering *r, const invocation *c) {
    const value text = value_string(r, c->on);
    sink out = {0};
    for (size_t at = 0; at < text.s.length && !failed(r);) {
        size_t word = at, end;
        for (int n; word < text.s.length; word += (size_t)n) {
            n = space_at(text.s.text, text.s.length, word);
            if (!n && !strchr("-({[<", text.s.text[word])) break;
            n = n ? n : 1;
        }
        sink_add(r, &out, value_part(r, text, at, word));
        for (end = word; end < text.s.length; end += text_offset(text.s.text + end, text.s.length - end, 1))
            if (space_at(text.s.text, text.s.length, end) || strchr("-({[<", text.s.text[end])) break;
        const size_t head = word + text_offset(text.s.text + word, end - word, 1);
        sink_add(r, &out, method_call(r, value_part(r, text, word, head), "upper"));
        sink_add(r, &out, method_call(r, value_part(r, text, head, end), "lower"));
        at = end;
    }
    return sink_take(r, &out);
}

static int in_word(int32_t c) {
    const utf8proc_category_t k = utf8proc_category(c);
    return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

value filter_wordcount(rendering *r, const invocation *c) {
    const value text = value_string(r, c->on);
    int64_t words = 0;
    int inside = 0;
    for (size_t at = 0; at < text.s.length;) {
        int32_t code;
        at += text_next(text.s.text, text.s.length, at, &code);
        words += in_word(code) && !inside;
        inside = in_word(code);
    }
    return value_int(words);
}

value filter_truncate(rendering *r, const invocation *c) {
    const value end = c->given[2] ? value_string(r, *c->given[2]) : value_words("...");
    const int64_t length = whole_argument(r, c, 0, 255), marked = text_points(end.s.text, end.s.length);
    const int64_t leeway = c->given[3] && c->given[3]->kind != V_NONE ? whole_argument(r, c, 3, 5) : 5;
    if (length < marked || leeway < 0) render_fail(r, "truncate: the length is at least that of the end mark");
    if (failed(r) || value_length(r, c->on) <= length + leeway) return c->on;
    if (c->on.kind != V_STRING) {
        render_fail(r, "truncate of '%s'", value_kind_name(c->on));
        return c->on;
    }
    value text = part_of(r, c->on, 0, length - marked);
    if (!c->given[1] || !value_true(*c->given[1])) {
        const char *space = memrchr(text.s.text, ' ', text.s.length);
        if (space) text = value_part(r, text, 0, (size_t)(space - text.s.text));
    }
    return operate(r, '+', text, end);
}
