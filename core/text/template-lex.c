/* template-lex — the source as tokens, with Jinja's handling of white space (jinja2/lexer.py): trim_blocks drops the newline
 * behind a block or comment, lstrip_blocks the blanks in front of one at the beginning of a line, '-' all white space. */
#include "text/template-lex.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    chat_template *t;
    const char *source;
    size_t length, at;
    int line, line_starting;
    token *tokens;
    size_t count, capacity;
    graft_error *err;
} lexer;

static int lex_fail(lexer *l, const char *what) {
    return fail(l->err, GRAFT_FAILED, "%s line %d: %s", l->t->name, l->line, what);
}

static token *add(lexer *l, token_kind kind, const char *text, size_t length) {
    mem_reserve(l->tokens, l->count, l->capacity);
    token *k = &l->tokens[l->count++];
    *k = (token){.kind = kind, .line = l->line};
    k->text = arena_copy(&l->t->memory, text, length);
    k->length = length;
    return k;
}

static int looking_at(const lexer *l, size_t at, const char *word) {
    const size_t n = strlen(word);
    return at + n <= l->length && memcmp(l->source + at, word, n) == 0;
}

static void advance(lexer *l, size_t to) {
    for (; l->at < to; l->at++)
        l->line += l->source[l->at] == '\n';
}

static size_t skip_space(const lexer *l, size_t at) {
    for (int n; at < l->length && (n = space_at(l->source, l->length, at)) > 0;)
        at += (size_t)n;
    return at;
}

/* End of text[0..length) once trailing white space is gone. */
static size_t trim_end(const char *text, size_t length) {
    while (length > 0) {
        size_t start = length - 1;
        while (start > 0 && ((unsigned char)text[start] & 0xC0) == 0x80)
            start--;
        if (!space_at(text, length, start)) break;
        length = start;
    }
    return length;
}

/* Text in front of a tag; `sign` is the character behind its opening. */
static void add_text(lexer *l, size_t begin, size_t end, int is_block, char sign) {
    const char *text = l->source + begin;
    size_t length = end - begin;
    if (sign == '-') {
        length = trim_end(text, length);
    } else if (is_block && sign != '+') {
        size_t line = length;
        while (line > 0 && text[line - 1] != '\n')
            line--;
        if ((line > 0 || l->line_starting) && line < length) {
            size_t at = begin + line;
            while (at < end && space_at(l->source, end, at))
                at += (size_t)space_at(l->source, end, at);
            if (at == end) length = line;
        }
    }
    if (length) add(l, T_TEXT, text, length);
}

/* Behind the closing of a tag. */
static void close_tag(lexer *l, int is_block, int minus, int plus) {
    const size_t before = l->at;
    if (minus)
        advance(l, skip_space(l, l->at));
    else if (is_block && !plus && l->at < l->length && l->source[l->at] == '\n')
        advance(l, l->at + 1);
    l->line_starting = l->at > before && l->source[l->at - 1] == '\n';
}

static void add_character(strbuf *out, uint32_t c) {
    const char bytes[4] = {(char)(c < 0x80      ? c
                                  : c < 0x800   ? 0xC0 | c >> 6
                                  : c < 0x10000 ? 0xE0 | c >> 12
                                                : 0xF0 | c >> 18),
                           (char)(0x80 | (c >> (c < 0x800     ? 0
                                                : c < 0x10000 ? 6
                                                              : 12) &
                                          63)),
                           (char)(0x80 | (c >> (c < 0x10000 ? 0 : 6) & 63)), (char)(0x80 | (c & 63))};
    strbuf_add(out, bytes, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
}

/* The character number of up to `most` digits at `at`; *used: how many there were. */
static uint32_t escaped_number(const lexer *l, size_t at, size_t most, int base, size_t *used) {
    char digits[9] = {0}, *end;
    memcpy(digits, l->source + at, most < l->length - at ? most : l->length - at);
    digits[strspn(digits, base == 8 ? "01234567" : "0123456789abcdefABCDEF")] = '\0';
    const unsigned long code = strtoul(digits, &end, base);
    *used = (size_t)(end - digits);
    return (uint32_t)code;
}

/* The escape behind a backslash at `at`, as Python's; the bytes it takes, 0: a character number that is none. */
static size_t lex_escape(const lexer *l, size_t at, strbuf *text) {
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    const char c = l->source[at], *known = memchr(from, c, sizeof from - 1);
    const size_t most = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : c >= '0' && c <= '7' ? 3 : 0;
    size_t used = 0;
    if (most) {
        const int octal = most == 3;
        const uint32_t code = escaped_number(l, at + !octal, most, octal ? 8 : 16, &used);
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) || (!octal && used < most)) return 0;
        add_character(text, code);
        return used + !octal;
    }
    if (known)
        strbuf_add(text, &to[known - from], 1);
    else if (c != '\n') /* a line that goes on */
        strbuf_printf(text, "\\%c", c);
    return 1;
}

static int lex_string(lexer *l) {
    const char quote = l->source[l->at];
    strbuf text = {0};
    size_t at = l->at + 1, bytes = 1;
    for (; bytes && at < l->length && l->source[at] != quote; at += bytes) {
        bytes = 1;
        if (l->source[at] == '\\' && at + 1 < l->length)
            bytes = lex_escape(l, ++at, &text);
        else
            strbuf_add(&text, l->source + at, 1);
    }
    if (!bytes || at >= l->length) {
        strbuf_free(&text);
        return lex_fail(l, bytes ? "a string does not end" : "a character number that is none");
    }
    token *k = add(l, T_STRING, text.text ? text.text : "", text.length);
    k->constant = value_text(k->text, k->length);
    strbuf_free(&text);
    advance(l, at + 1);
    return GRAFT_OK;
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}
static int is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c) || (unsigned char)c >= 0x80;
}

static size_t digits_end(const lexer *l, size_t at) {
    while (at < l->length && (is_digit(l->source[at]) || l->source[at] == '_'))
        at++;
    return at;
}

/* 12, 1_000, 0x1f, 0o17, 0b1, 1.5, 1e-3 */
static int lex_number(lexer *l) {
    const char kind = l->at + 1 < l->length ? l->source[l->at + 1] | 32 : 0;
    const int base = l->source[l->at] != '0' ? 10 : kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    size_t end = digits_end(l, l->at);
    int real = 0;
    if (base != 10) {
        end = l->at + 2;
        while (end < l->length && is_name(l->source[end]))
            end++;
    } else if (end + 1 < l->length && l->source[end] == '.' && is_digit(l->source[end + 1])) {
        real = 1;
        end = digits_end(l, end + 1);
    }
    if (base == 10 && end < l->length && (l->source[end] | 32) == 'e') {
        size_t digits = end + 1;
        digits += digits < l->length && (l->source[digits] == '+' || l->source[digits] == '-');
        if (digits < l->length && is_digit(l->source[digits])) {
            real = 1;
            end = digits_end(l, digits);
        }
    }
    token *k = add(l, T_NUMBER, l->source + l->at, end - l->at);
    strbuf text = {0};
    for (size_t i = base == 10 ? 0 : 2; i < k->length; i++)
        if (k->text[i] != '_') strbuf_add(&text, k->text + i, 1);
    strbuf_add(&text, "", 0);
    char *stop;
    errno = 0;
    k->constant = real ? value_float(strtod(text.text, &stop)) : value_int(strtoll(text.text, &stop, base));
    const int whole = *text.text && !*stop && (real || !errno);
    strbuf_free(&text);
    advance(l, end);
    return whole ? GRAFT_OK : lex_fail(l, "a number that is none, or too large");
}

static int lex_operator(lexer *l) {
    static const struct {
        const char *text;
        int op;
    } doubles[] = {
        {"==", OP_EQ   },
        {"!=", OP_NE   },
        {"<=", OP_LE   },
        {">=", OP_GE   },
        {"//", OP_FLOOR},
        {"**", OP_POWER}
    };
    for (size_t d = 0; d < sizeof doubles / sizeof *doubles; d++)
        if (looking_at(l, l->at, doubles[d].text)) {
            add(l, T_OPERATOR, doubles[d].text, 2)->op = doubles[d].op;
            advance(l, l->at + 2);
            return GRAFT_OK;
        }
    const char c = l->source[l->at];
    if (!strchr("+-*/%~<>=.,:|()[]{}", c) || !c) return lex_fail(l, "a character that means nothing here");
    add(l, T_OPERATOR, l->source + l->at, 1)->op = c;
    advance(l, l->at + 1);
    return GRAFT_OK;
}

/* The inside of {{ }} or {% %}, to its closing. Brackets protect a "}}" of nested dicts. */
static int lex_inside(lexer *l, const char *closing, int is_block) {
    for (int open = 0;;) {
        advance(l, skip_space(l, l->at));
        if (l->at >= l->length) return lex_fail(l, is_block ? "a {% does not end" : "a {{ does not end");
        const char c = l->source[l->at];
        const int minus = c == '-' && looking_at(l, l->at + 1, closing),
                  plus = is_block && c == '+' && looking_at(l, l->at + 1, closing);
        if (!open && (minus || plus || looking_at(l, l->at, closing))) {
            advance(l, l->at + 2 + (size_t)(minus || plus));
            add(l, is_block ? T_BLOCK_END : T_OUTPUT_END, "", 0);
            close_tag(l, is_block, minus, plus);
            return GRAFT_OK;
        }
        open += c == '(' || c == '[' || c == '{';
        open -= c == ')' || c == ']' || c == '}';
        if (c == '\'' || c == '"') {
            if (lex_string(l)) return l->err->code;
        } else if (is_digit(c)) {
            if (lex_number(l)) return l->err->code;
        } else if (is_name(c)) {
            size_t end = l->at;
            while (end < l->length && is_name(l->source[end]))
                end++;
            add(l, T_NAME, l->source + l->at, end - l->at);
            advance(l, end);
        } else if (lex_operator(l)) {
            return l->err->code;
        }
    }
}

/* A tag of one word, from behind its opening: how it closes, and where. */
typedef struct {
    int found, minus, plus;
    size_t end;
} word_tag;

static word_tag find_word_tag(const lexer *l, size_t at, const char *word) {
    word_tag t = {0};
    at += at < l->length && (l->source[at] == '-' || l->source[at] == '+');
    at = skip_space(l, at);
    if (!looking_at(l, at, word)) return t;
    at = skip_space(l, at + strlen(word));
    t.minus = looking_at(l, at, "-%}");
    t.plus = looking_at(l, at, "+%}");
    at += (size_t)(t.minus || t.plus);
    t.found = looking_at(l, at, "%}");
    t.end = at + 2;
    return t;
}

/* {% raw %} ... {% endraw %} right behind an opening; 1 when it was one. */
static int lex_raw(lexer *l) {
    const word_tag raw = find_word_tag(l, l->at, "raw");
    if (!raw.found || raw.plus) return 0;
    advance(l, raw.end);
    close_tag(l, 0, raw.minus, 0);
    for (size_t end = l->at; end + 2 < l->length; end++) {
        const word_tag last = looking_at(l, end, "{%") ? find_word_tag(l, end + 2, "endraw") : (word_tag){0};
        if (!last.found) continue;
        add_text(l, l->at, end, 1, l->source[end + 2]);
        advance(l, last.end);
        close_tag(l, 1, last.minus, last.plus);
        return 1;
    }
    lex_fail(l, "{% raw %} does not end");
    return 1;
}

static int lex_all(lexer *l) {
    while (!l->err->code) {
        size_t open = l->at;
        while (open + 1 < l->length && !(l->source[open] == '{' && strchr("{%#", l->source[open + 1])))
            open++;
        if (open + 1 >= l->length) {
            if (l->at < l->length) add(l, T_TEXT, l->source + l->at, l->length - l->at);
            break;
        }
        const char which = l->source[open + 1], sign = open + 2 < l->length ? l->source[open + 2] : 0;
        add_text(l, l->at, open, which != '{', sign);
        advance(l, open + 2);
        if (which == '#') {
            size_t end = l->at + (sign == '-' || sign == '+');
            l->at = end;
            while (end + 1 < l->length && !looking_at(l, end, "#}"))
                end++;
            if (end + 1 >= l->length) return lex_fail(l, "a comment does not end");
            const int minus = end > l->at && l->source[end - 1] == '-', plus = end > l->at && l->source[end - 1] == '+';
            advance(l, end + 2);
            close_tag(l, 1, minus, plus);
            continue;
        }
        if (which == '%' && lex_raw(l)) continue;
        add(l, which == '{' ? T_OUTPUT : T_BLOCK, "", 0);
        if (sign == '-' || sign == '+') advance(l, l->at + 1);
        lex_inside(l, which == '{' ? "}}" : "%}", which == '%');
    }
    return l->err->code;
}

token *template_lex(chat_template *t, const char *source, size_t length, graft_error *err) {
    /* newlines are one character; the last one of the source is dropped */
    char *plain = mem_new(length + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n') continue;
        plain[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n && plain[n - 1] == '\n') n--;
    lexer l = {.t = t, .source = plain, .length = n, .line = 1, .line_starting = 1, .err = err};
    lex_all(&l);
    add(&l, T_EOF, "", 0);
    free(plain);
    if (!err->code) return l.tokens;
    free(l.tokens);
    return NULL;
}
