/* pattern-quick — see pattern-quick.h. The alternatives of the expressions are tried in their order; each reads on until a byte
 * decides. */
#include "text/pattern-quick.h"
#include <string.h>

enum { NONE, GPT2, LLAMA3, QWEN2 };
enum {
    OTHER,
    LETTER,
    DIGIT,
    SPACE,
    LINE,
    WIDE
}; /* LINE: white space that ends a line; WIDE: not ASCII, or behind the end */

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define HEAD         "(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
#define TAIL         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

int pattern_quick_kind(const char *source, int64_t length) {
    static const char *const sources[] = {
        [GPT2] = CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        [LLAMA3] = HEAD "{1,3}" TAIL,
        [QWEN2] = HEAD TAIL,
    };
    for (int kind = GPT2; kind <= QWEN2; kind++)
        if (length == (int64_t)strlen(sources[kind]) && memcmp(source, sources[kind], (size_t)length) == 0) return kind;
    return NONE;
}

static int class_of(char byte) {
    const unsigned char c = (unsigned char)byte;
    if (c >= 0x80) return WIDE;
    if ((unsigned char)((c | 0x20) - 'a') < 26) return LETTER;
    if ((unsigned char)(c - '0') < 10) return DIGIT;
    if (c == '\n' || c == '\r') return LINE;
    return c == ' ' || c == '\t' || c == '\v' || c == '\f' ? SPACE : OTHER;
}

typedef struct {
    const char *text;
    int64_t length;
} subject;

static int class_at(const subject *s, int64_t at) {
    return at < s->length ? class_of(s->text[at]) : WIDE;
}

/* The end of the run of a class, at most `most` bytes; -1: a wide byte ends it, so it may go on. */
static int64_t run(const subject *s, int64_t at, int class, int64_t most) {
    const int64_t end = s->length - at > most ? at + most : s->length;
    while (at < end && class_of(s->text[at]) == class)
        at++;
    return at < end && class_of(s->text[at]) == WIDE ? -1 : at;
}

/* 's and the like; `at` when there is none, -1 where a wide letter might fold to one. */
static int64_t contraction(const subject *s, int64_t at, int fold) {
    if (s->text[at] != '\'' || at + 1 >= s->length) return at;
    const char bit = fold ? 0x20 : 0, one = (char)(s->text[at + 1] | bit);
    const char two = at + 2 < s->length ? (char)(s->text[at + 2] | bit) : '\0';
    if (class_of(s->text[at + 1]) == WIDE) return -1;
    if (one == 's' || one == 't' || one == 'm' || one == 'd') return at + 2;
    if ((one == 'r' && two == 'e') || (one == 'v' && two == 'e') || (one == 'l' && two == 'l')) return at + 3;
    return at;
}

/* White space from `at` on: up to its last line end (`lines`), or all but the character in front of what follows. */
static int64_t white(const subject *s, int64_t at, int lines) {
    int64_t end = at, line = -1;
    for (int class; end < s->length && ((class = class_of(s->text[end])) == SPACE || class == LINE); end++)
        if (class == LINE) line = end + 1;
    if (end < s->length && class_of(s->text[end]) == WIDE) return -1;
    if (lines && line >= 0) return line;
    return end == s->length || end - at == 1 ? end : end - 1;
}

int64_t pattern_quick_match(int kind, const char *text, int64_t at, int64_t length) {
    const subject s = {text, length};
    const int class = class_at(&s, at);
    if (class == WIDE) return -1;
    const int64_t short_form = contraction(&s, at, kind != GPT2);
    if (short_form != at) return short_form;
    const int next = class_at(&s, at + 1), wide = next == WIDE && at + 1 < length;
    const int spaced = text[at] == ' '; /* " ?" in front of what follows */
    if (kind == GPT2) {
        if (spaced && wide) return -1;
        const int begins = spaced && next <= DIGIT ? next : class; /* OTHER, LETTER, DIGIT */
        if (begins <= DIGIT) return run(&s, at + spaced, begins, length);
        return white(&s, at, 0);
    }
    if (class == LETTER) return run(&s, at, LETTER, length);
    if (class == DIGIT) return run(&s, at, DIGIT, kind == LLAMA3 ? 3 : 1);
    if (class != LINE && wide) return -1;
    if (class != LINE && next == LETTER) return run(&s, at + 1, LETTER, length);
    if (class == OTHER || (spaced && next == OTHER)) {
        int64_t end = run(&s, at + spaced, OTHER, length);
        while (end >= 0 && end < length && class_of(text[end]) == LINE)
            end++;
        return end;
    }
    return white(&s, at, 1);
}
