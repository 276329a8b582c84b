/* bleu-words — the tokenizers of sacreBLEU 2.6 (sacrebleu/tokenizers), which follow mteval-v13a.pl and mteval-v14.pl.
 *
 * Their rules replace text from left to right, each over the whole text before the next one: a rule is a function from one buffer to
 * another here. Rules that look at ASCII alone work on bytes: no byte of another character is ASCII. */
#include "metric/bleu.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

static void put(strbuf *to, const char *bytes, int64_t length) {
    strbuf_add(to, bytes, (size_t)length);
}

/* What a rule reads, and what it writes. */
typedef struct {
    strbuf from, to;
} stage;

/* The rule is done: what it wrote is read by the next one. */
static void next_rule(stage *s) {
    const strbuf read = s->from;
    s->from = s->to;
    s->to = read;
    s->to.length = 0;
}

static void replace(stage *s, const char *what, const char *by) {
    const size_t length = strlen(what);
    size_t at = 0;
    for (; at < s->from.length; at++) {
        if (s->from.length - at >= length && memcmp(s->from.text + at, what, length) == 0) {
            strbuf_puts(&s->to, by);
            at += length - 1;
        } else {
            strbuf_add(&s->to, s->from.text + at, 1);
        }
    }
    next_rule(s);
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_stop(char c) {
    return c == '.' || c == ',';
}

/* ASCII that is no letter, digit or control: but for ' , - and the full stop. */
static int is_mark(char c) {
    return (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || c == '/' || (c >= ':' && c <= '@') ||
           (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

static void spaced(strbuf *to, char c) {
    const char word[] = {' ', c, ' '};
    strbuf_add(to, word, sizeof word);
}

/* The last steps of 13a and zh: marks, stops that no digit is before, stops that no digit follows, dashes behind a digit. */
static void western(stage *s) {
    for (size_t i = 0; i < s->from.length; i++)
        if (is_mark(s->from.text[i]))
            spaced(&s->to, s->from.text[i]);
        else
            put(&s->to, s->from.text + i, 1);
    next_rule(s);
    for (size_t i = 0; i < s->from.length; i++) {
        put(&s->to, s->from.text + i, 1);
        if (!is_digit(s->from.text[i]) && i + 1 < s->from.length && is_stop(s->from.text[i + 1]))
            spaced(&s->to, s->from.text[++i]);
    }
    next_rule(s);
    for (size_t i = 0; i < s->from.length; i++) {
        const char c = s->from.text[i];
        if (is_stop(c) && i + 1 < s->from.length && !is_digit(s->from.text[i + 1])) {
            spaced(&s->to, c);
            i++;
        }
        put(&s->to, s->from.text + i, 1);
    }
    next_rule(s);
    for (size_t i = 0; i < s->from.length; i++) {
        put(&s->to, s->from.text + i, 1);
        if (is_digit(s->from.text[i]) && i + 1 < s->from.length && s->from.text[i + 1] == '-')
            spaced(&s->to, s->from.text[++i]);
    }
    next_rule(s);
}

static void cut_13a(stage *s) {
    replace(s, "<skipped>", "");
    replace(s, "-\n", "");
    replace(s, "\n", " ");
    replace(s, "&quot;", "\"");
    replace(s, "&amp;", "&");
    replace(s, "&lt;", "<");
    replace(s, "&gt;", ">");
    put(&s->to, " ", 1);
    put(&s->to, s->from.text, (int64_t)s->from.length);
    put(&s->to, " ", 1);
    next_rule(s);
    western(s);
}

/* The ranges of sacreBLEU's tokenizer_zh. Those it writes for U+20000 to 2A6D6 and U+2F800 to 2FA1D are, as it writes them, U+2001
 * to 2A6D and U+2F81 to 2FA1. */
static int is_chinese(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {0x2001, 0x2A6D},
        {0x2E80, 0x2EFF},
        {0x2F00, 0x2FDF},
        {0x2FF0, 0x303F},
        {0x3100, 0x312F},
        {0x31A0, 0x31BF},
        {0x31C0, 0x31EF},
        {0x3200, 0x33FF},
        {0x3400, 0x4DB5},
        {0x4E00, 0x9FBB},
        {0xF900, 0xFA2D},
        {0xFA30, 0xFA6A},
        {0xFA70, 0xFAD9},
        {0xFE10, 0xFE1F},
        {0xFE30, 0xFE4F},
        {0xFF00, 0xFFEF},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1]) return 1;
    return 0;
}

static void cut_zh(stage *s) {
    int64_t size;
    for (size_t at = 0; at < s->from.length; at += (size_t)size) {
        uint32_t code;
        size = utf8_decode(s->from.text + at, (int64_t)(s->from.length - at), &code);
        const int apart = is_chinese(code);
        if (apart) put(&s->to, " ", 1);
        put(&s->to, s->from.text + at, size);
        if (apart) put(&s->to, " ", 1);
    }
    next_rule(s);
    western(s);
}

typedef struct {
    const char *text;
    int64_t size;
    char category; /* first letter of the general category; 0: the text is over */
} letter;

static letter letter_at(const strbuf *text, size_t at) {
    letter l = {.text = text->text + at};
    uint32_t code;
    if (at >= text->length) return l;
    l.size = utf8_decode(l.text, (int64_t)(text->length - at), &code);
    l.category = unicode_category(code);
    return l;
}

/* Two characters that fit are parted: `behind`: (\P{N})(\p{P}) becomes "\1 \2 ", else (\p{P})(\P{N}) becomes " \1 \2". */
static void part_punctuation(stage *s, int behind) {
    for (size_t at = 0; at < s->from.length;) {
        const letter a = letter_at(&s->from, at), b = letter_at(&s->from, at + (size_t)a.size);
        const int fits =
            b.category && (behind ? a.category != 'N' && b.category == 'P' : a.category == 'P' && b.category != 'N');
        if (fits && !behind) put(&s->to, " ", 1);
        put(&s->to, a.text, a.size);
        if (fits) {
            put(&s->to, " ", 1);
            put(&s->to, b.text, b.size);
            if (behind) put(&s->to, " ", 1);
        }
        at += (size_t)(a.size + (fits ? b.size : 0));
    }
    next_rule(s);
}

static void cut_intl(stage *s) {
    part_punctuation(s, 1);
    part_punctuation(s, 0);
    for (size_t at = 0; at < s->from.length;) {
        const letter a = letter_at(&s->from, at);
        if (a.category == 'S') put(&s->to, " ", 1);
        put(&s->to, a.text, a.size);
        if (a.category == 'S') put(&s->to, " ", 1);
        at += (size_t)a.size;
    }
    next_rule(s);
}

static void cut_characters(stage *s) {
    for (size_t at = 0; at < s->from.length;) {
        const letter a = letter_at(&s->from, at);
        put(&s->to, a.text, a.size);
        put(&s->to, " ", 1);
        at += (size_t)a.size;
    }
    next_rule(s);
}

void bleu_words(int32_t how, const char *text, int64_t length, pieces *out) {
    stage s = {0};
    put(&s.from, text, grams_trim_end(text, length));
    strbuf_add(&s.to, "", 0);
    if (how == BLEU_13A) cut_13a(&s);
    if (how == BLEU_INTL) cut_intl(&s);
    if (how == BLEU_ZH) cut_zh(&s);
    if (how == BLEU_CHAR) cut_characters(&s);
    pieces_words(out, s.from.text, (int64_t)s.from.length);
    strbuf_free(&s.from);
    strbuf_free(&s.to);
}
