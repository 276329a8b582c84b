/* say — errors of formulas: the message, the statement and a caret under the place that is meant. */
#include "formula/parts.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN = 140 /* columns of a statement */, SUGGESTIONS = 256 };

/* The part of the statement around `at`; what is not a plain character becomes one column. */
static void show(const statement *s, int32_t at, strbuf *b) {
    int32_t first = s->begin, last = s->end;
    if (last - first > SHOWN) {
        first = at - SHOWN / 2 > first ? at - SHOWN / 2 : first;
        last = last - first > SHOWN ? first + SHOWN : last;
    }
    const char *const front = first > s->begin ? "..." : "";
    strbuf_printf(b, "\n  %s", front);
    for (int32_t i = first; i < last; i++) {
        const char c = s->text[i];
        strbuf_add(b, c >= ' ' && c <= '~' ? &c : c == '\n' || c == '\t' || c == '\r' ? " " : "?", 1);
    }
    strbuf_printf(b, "%s\n  %*s^", last < s->end ? "..." : "", (int)(strlen(front) + (size_t)(at - first)), "");
}

int say(const statement *s, int32_t at, const char *format, ...) {
    char message[600];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    strbuf b = {0};
    if (s->scope->where) strbuf_printf(&b, "%.300s: ", s->scope->where);
    strbuf_puts(&b, message);
    show(s, at < s->begin ? s->begin : at > s->end ? s->end : at, &b);
    fail(s->err, GRAFT_FAILED, "%s", b.text);
    strbuf_free(&b);
    return GRAFT_FAILED;
}

int say_unknown(const statement *s, int32_t at, int32_t length, int32_t tensors) {
    const formula_scope *const scope = s->scope;
    const char *names[SUGGESTIONS];
    int32_t count = 0;
    for (int32_t i = 0; tensors && i < scope->tensor_count && count < SUGGESTIONS; i++)
        if (scope->tensors[i].name[0]) names[count++] = scope->tensors[i].name;
    for (int32_t i = 0; i < scope->number_count && count < SUGGESTIONS; i++)
        if (scope->numbers[i][0]) names[count++] = scope->numbers[i];
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)length, s->text + at);
    const char *const near = nearest_name(word, names, count);
    return say(s, at, "unknown %s '%s'%s%s%s", tensors ? "name" : "number", word, near ? ", did you mean '" : "",
               near ? near : "", near ? "'?" : "");
}

const char *say_extent(extent e, char text[24]) {
    if (e.power == 1 && e.n == 1)
        snprintf(text, 24, "rows");
    else
        snprintf(text, 24, "%lld", (long long)e.n);
    return text;
}

const char *index_name(const statement *s, int32_t index, char name[40]) {
    const index_info *const i = &s->index[index];
    if (i->length)
        snprintf(name, 40, "%.*s", (int)i->length, s->text + i->at);
    else
        snprintf(name, 40, "%d (by position)", (int)index + 1);
    return name;
}
