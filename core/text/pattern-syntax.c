/* pattern-syntax — Oniguruma's Ruby syntax to PCRE2's, so that both find the same.
 *
 *   \p{L} \s \d \w   the property of PCRE2 and the ranges that Unicode 16 added to it; white space and words spelled out
 *   [^\S\n]          a class with a negated part becomes look-aheads: (?:(?![\n])(?=[spaces])(?s:.))
 *   (a)              no captures: (?:a)
 *   {,3}             {0,3}
 *   (?m:a)           (?s:a): Ruby's m lets the dot match a newline
 *   \b               boundaries between the word characters above
 * Refused by name, because the two read them differently: nested classes and &&, \X \R \G \K and other letters, possessive
 * and reluctant {n}, named groups, back references, options in the middle, extended mode. */
#include "text/pattern.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1 << 20 }; /* bytes of a translated expression */

#define SPACES "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

typedef struct {
    const char *source, *at, *end;
    strbuf *out;
    graft_error *err;
} translation;

/* What one escape means. */
typedef struct {
    enum { CODE, SET, NOT_SET, ASSERTION } kind;
    uint32_t code;
    strbuf text; /* inside of a class, or the assertion */
} meaning;

static int refuse(translation *t, const char *what, const char *from) {
    const int shown = (int)(t->end - from < 16 ? t->end - from : 16);
    return fail(t->err, GRAFT_FAILED, "the regular expression \"%.*s\" uses %s at \"%.*s\", which graft does not read",
                (int)(t->end - t->source), t->source, what, shown, from);
}

static int starts(const translation *t, const char *with) {
    const size_t n = strlen(with);
    return (size_t)(t->end - t->at) >= n && memcmp(t->at, with, n) == 0;
}

/* \w: Oniguruma counts superscripts and fractions of Latin-1 outside brackets only. */
static void add_words(strbuf *out, int in_class) {
    static const char *const parts[] = {"L", "M", "Nd", "Nl", "Pc"};
    for (int i = 0; i < 5; i++)
        unicode_property(parts[i], out);
    strbuf_puts(out, "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}");
    if (!in_class) strbuf_puts(out, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}");
}

static void add_boundary(strbuf *out, int inside) {
    strbuf words = {0};
    add_words(&words, 0);
    const char *const w = words.text;
    if (inside)
        strbuf_printf(out, "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))", w, w, w, w);
    else
        strbuf_printf(out, "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))", w, w, w, w);
    strbuf_free(&words);
}

/* \p{Name}, \p{^Name}, \P{Name}; t->at stands behind the p. */
static int read_property(translation *t, int negated, const char *from, meaning *m) {
    const char *const close = t->at < t->end ? memchr(t->at, '}', (size_t)(t->end - t->at)) : NULL;
    if (!close || *t->at != '{') return refuse(t, "a property without braces", from);
    char name[40];
    size_t n = 0;
    for (const char *c = t->at + 1; c < close; c++) {
        if (c == t->at + 1 && *c == '^')
            negated = !negated;
        else if (*c != ' ' && *c != '_' && *c != '-' && n + 1 < sizeof name)
            name[n++] = *c;
    }
    name[n] = '\0';
    m->kind = negated ? NOT_SET : SET;
    if (!unicode_property(name, &m->text)) return refuse(t, "a character property", from);
    t->at = close + 1;
    return 0;
}

/* Up to `most` hexadecimal digits, at least one. */
static int read_hex(translation *t, int most, const char *from, meaning *m) {
    int digits = 0;
    m->code = 0;
    for (; digits < most && t->at < t->end && isxdigit((unsigned char)*t->at); digits++, t->at++)
        m->code = m->code * 16 + (uint32_t)(isdigit((unsigned char)*t->at) ? *t->at - '0' : (*t->at | 32) - 'a' + 10);
    if (!digits || m->code > 0x10FFFF || (m->code >= 0xD800 && m->code < 0xE000))
        return refuse(t, "a character code", from);
    return 0;
}

/* One escape; t->at stands on the backslash and ends behind it. m->text is released by the caller. */
static int read_escape(translation *t, int in_class, meaning *m) {
    const char *const from = t->at++;
    *m = (meaning){.kind = CODE};
    if (t->at >= t->end) return refuse(t, "a backslash", from);
    const char c = *t->at;
    if ((unsigned char)c >= 0x80 || ispunct((unsigned char)c) || c == ' ') {
        t->at += utf8_decode(t->at, t->end - t->at, &m->code);
        return 0;
    }
    static const char letters[] = "tnrfvae";
    static const uint32_t codes[] = {9, 10, 13, 12, 11, 7, 27};
    t->at++;
    const char *const letter = memchr(letters, c, sizeof letters - 1);
    if (letter) {
        m->code = codes[letter - letters];
        return 0;
    }
    m->kind = isupper((unsigned char)c) ? NOT_SET : SET;
    switch (c) {
    case 'p':
    case 'P':
        return read_property(t, c == 'P', from, m);
    case 's':
    case 'S':
        strbuf_puts(&m->text, SPACES);
        return 0;
    case 'd':
    case 'D':
        unicode_property("Nd", &m->text);
        return 0;
    case 'w':
    case 'W':
        add_words(&m->text, in_class);
        return 0;
    case 'h':
    case 'H':
        strbuf_puts(&m->text, "0-9A-Fa-f");
        return 0;
    case 'u':
    case 'x': {
        m->kind = CODE;
        const int braces = c == 'x' && t->at < t->end && *t->at == '{';
        t->at += braces;
        const int rc = read_hex(t, c == 'u' ? 4 : braces ? 8 : 2, from, m);
        if (rc || !braces) return rc;
        return t->at < t->end && *t->at++ == '}' ? 0 : refuse(t, "a character code", from);
    }
    default:
        break;
    }
    m->kind = ASSERTION;
    if (in_class || !strchr("bBAzZ", c)) return refuse(t, "an escape", from);
    if (c == 'b' || c == 'B')
        add_boundary(&m->text, c == 'B');
    else
        strbuf_printf(&m->text, "\\%c", c);
    return 0;
}

static int translate_escape(translation *t) {
    meaning m;
    const int rc = read_escape(t, 0, &m);
    if (!rc) {
        if (m.kind == CODE)
            strbuf_printf(t->out, "\\x{%X}", m.code);
        else if (m.kind == ASSERTION)
            strbuf_add(t->out, m.text.text, m.text.length);
        else
            strbuf_printf(t->out, m.kind == SET ? "[%s]" : "[^%s]", m.text.text);
    }
    strbuf_free(&m.text);
    return rc;
}

/* The parts of a class up to its bracket: `plain` collects what a class of PCRE2 holds as it is, `nots` one alternative
 * [^..] or one look-ahead (?=[..]) for each negated part. */
static int read_class(translation *t, int negated, const char *from, strbuf *plain, strbuf *nots) {
    const char *const first = t->at;
    int after_set = 0;
    while (t->at < t->end && *t->at != ']') {
        const char c = *t->at;
        if (c == '[') return refuse(t, "a class inside a class", t->at);
        if (starts(t, "&&")) return refuse(t, "an intersection of classes", t->at);
        if (c != '\\') {
            if (c == '-' && after_set) strbuf_puts(plain, "\\");
            strbuf_add(plain, t->at++, 1);
            after_set = 0;
            continue;
        }
        meaning m;
        const int rc = read_escape(t, 1, &m);
        if (!rc && m.kind == CODE) strbuf_printf(plain, "\\x{%X}", m.code);
        if (!rc && m.kind == SET) strbuf_add(plain, m.text.text, m.text.length);
        if (!rc && m.kind == NOT_SET) strbuf_printf(nots, negated ? "(?=[%s])" : "|[^%s]", m.text.text);
        after_set = m.kind != CODE;
        strbuf_free(&m.text);
        if (rc) return rc;
    }
    if (t->at >= t->end || t->at == first) return refuse(t, "a class without an end", from);
    t->at++;
    return 0;
}

static int translate_class(translation *t) {
    const char *const from = t->at++;
    const int negated = t->at < t->end && *t->at == '^';
    t->at += negated;
    strbuf plain = {0}, nots = {0};
    const int rc = read_class(t, negated, from, &plain, &nots);
    if (!rc && !nots.length)
        strbuf_printf(t->out, negated ? "[^%s]" : "[%s]", plain.text);
    else if (!rc && negated && plain.length)
        strbuf_printf(t->out, "(?:(?![%s])%s(?s:.))", plain.text, nots.text);
    else if (!rc && negated)
        strbuf_printf(t->out, "(?:%s(?s:.))", nots.text);
    else if (!rc && plain.length)
        strbuf_printf(t->out, "(?:[%s]%s)", plain.text, nots.text);
    else if (!rc)
        strbuf_printf(t->out, "(?:%s)", nots.text + 1);
    strbuf_free(&plain);
    strbuf_free(&nots);
    return rc;
}

static int translate_group(translation *t) {
    static const char *const openings[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    const char *const from = t->at;
    for (int i = 0; i < 6; i++) {
        if (!starts(t, openings[i])) continue;
        strbuf_puts(t->out, openings[i]);
        t->at += strlen(openings[i]);
        return 0;
    }
    if (starts(t, "(*")) return refuse(t, "a verb", from);
    if (!starts(t, "(?")) {
        strbuf_puts(t->out, "(?:");
        t->at++;
        return 0;
    }
    const int first = from == t->source;
    strbuf_puts(t->out, "(?");
    for (t->at += 2; t->at < t->end && strchr("im-", *t->at); t->at++)
        strbuf_puts(t->out, *t->at == 'm' ? "s" : *t->at == 'i' ? "i" : "-");
    if (t->at >= t->end || (*t->at != ':' && !(*t->at == ')' && first))) return refuse(t, "a group", from);
    strbuf_add(t->out, t->at++, 1);
    return 0;
}

/* {n} {n,} {,m} {n,m}; anything else in braces stands for itself. */
static int translate_interval(translation *t) {
    const char *const from = t->at, *c = t->at + 1;
    const char *const low = c;
    while (c < t->end && isdigit((unsigned char)*c))
        c++;
    const int low_digits = (int)(c - low), comma = c < t->end && *c == ',';
    c += comma;
    const char *const high = c;
    while (c < t->end && isdigit((unsigned char)*c))
        c++;
    const int high_digits = (int)(c - high);
    if (c >= t->end || *c != '}' || !(low_digits || high_digits)) {
        strbuf_puts(t->out, "\\{");
        t->at++;
        return 0;
    }
    t->at = c + 1;
    if (t->at < t->end && (*t->at == '+' || (*t->at == '?' && !comma))) return refuse(t, "a quantifier", from);
    strbuf_printf(t->out, "{%.*s%s%.*s}", low_digits ? low_digits : 1, low_digits ? low : "0", comma ? "," : "",
                  high_digits, high);
    return 0;
}

int pattern_translate(const char *source, int64_t length, strbuf *out, graft_error *err) {
    translation t = {source, source, source + length, out, err};
    if (memchr(source, '\0', (size_t)length)) return refuse(&t, "a NUL", source);
    while (t.at < t.end) {
        int rc = 0;
        switch (*t.at) {
        case '\\':
            rc = translate_escape(&t);
            break;
        case '[':
            rc = translate_class(&t);
            break;
        case '(':
            rc = translate_group(&t);
            break;
        case '{':
            rc = translate_interval(&t);
            break;
        default:
            strbuf_add(out, t.at++, 1);
        }
        if (rc) return rc;
        if (out->length > LONGEST)
            return fail(err, GRAFT_FAILED, "the regular expression \"%.40s...\" is too long", source);
    }
    return 0;
}
