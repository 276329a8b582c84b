/* problems — a list of texts kept in the order of the file's lines. */
#include "config/problems.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

enum { PROBLEMS_MAX = 200 };

void problems_add(problems *p, const char *place, int line, const char *format, ...) {
    if (p->count == PROBLEMS_MAX) {
        p->left_out++;
        return;
    }
    strbuf text = {0};
    if (place && line > 0)
        strbuf_printf(&text, "%s:%d: ", place, line);
    else if (place)
        strbuf_printf(&text, "%s: ", place);
    va_list args;
    va_start(args, format);
    char said[2000];
    vsnprintf(said, sizeof said, format, args);
    va_end(args);
    strbuf_puts(&text, said);

    mem_reserve(p->at, p->count, p->capacity);
    int i = p->count++;
    for (; i > 0 && line > 0 && (p->at[i - 1].line == 0 || p->at[i - 1].line > line); i--)
        p->at[i] = p->at[i - 1];
    p->at[i] = (problem){line, text.text};
}

void problems_print(const problems *p, FILE *to) {
    for (int i = 0; i < p->count; i++)
        fprintf(to, "%s\n", p->at[i].text);
    if (p->left_out) fprintf(to, "... and %d more\n", p->left_out);
}

int problems_fail(const problems *p, graft_error *err) {
    enum { ROOM = sizeof err->text - 64 }; /* for the last line below */
    if (p->count == 0) return GRAFT_OK;
    strbuf all = {0};
    int shown = 0;
    for (; shown < p->count; shown++) {
        if (shown > 0 && all.length + strlen(p->at[shown].text) + 1 > ROOM) break;
        strbuf_printf(&all, "%s%s", shown ? "\n" : "", p->at[shown].text);
    }
    const int rest = p->count - shown + p->left_out;
    if (rest > 0) strbuf_printf(&all, "\n... and %d more", rest);
    fail(err, GRAFT_USAGE, "%s", all.text);
    strbuf_free(&all);
    return GRAFT_USAGE;
}

void problems_free(problems *p) {
    for (int i = 0; i < p->count; i++)
        free(p->at[i].text);
    free(p->at);
    *p = (problems){0};
}
