/* pattern-syntax — Oniguruma's Ruby syntax to PCRE2's, so that both find the same.
 *
 *   \p{L} \s \d \w   the property of PCRE2 and the ranges that Unicode 16 added to it; white space and words spelled out
 *   [^\S\n]          a class with a negated part becomes look-aheads: (?:(?![\n])(?=[spaces])(?s:.))
 *   (a)              no captures: (?:a)
 *   {,3}  a{2}+      {0,3}  (?:a{2})+: an interval is never possessive, nor reluctant when it has one number
 *   (?m:a)           (?s:a): Ruby's m lets the dot match a newline
 *   \b               boundaries between the word characters above
 * Refused by name, because the two read them differently: nested classes and &&, \X \R \G \K and other letters, named
 * groups, back references, options in the middle, extended mode; and where case does not count, what Oniguruma expands to
 * several characters: letters that are not ASCII, properties of case, and "ss", "st", "ff", "fi", "fl". */
#include "text/pattern.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1 << 20, DEEPEST = 100 }; /* bytes of a translated expression; groups in groups */

#define SPACES "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

typedef struct {
    const char *source, *at, *end;
    int32_t with_added; /* to classes: characters that PCRE2's tables lack */
    strbuf *out;
    graft_error *err;
    size_t atom; /* where in out the last thing begins that a quantifier can follow */
    struct {
        size_t begin;
        int caseless;
    } groups[DEEPEST]; /* that are open; 0: the whole */
    int depth;
    char before; /* the last literal character, 0 when the last thing was another */
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

static int caseless(const translation *t) {
    return t->groups[t->depth].caseless;
}

/* A literal where case may not count: 0, or refused. */
static int check_literal(translation *t, uint32_t code, const char *from) {
    static const char *const folds[] = {"ss", "st", "ff", "fi", "fl"};
    const char before = t->before;
    t->before = code < 0x80 ? (char)tolower((int)code) : 0;
    if (!caseless(t)) return 0;
    if (code >= 0x80) return refuse(t, "a letter regardless of case", from);
    for (int i = 0; i < 5; i++)
        if (before == folds[i][0] && t->before == folds[i][1]) return refuse(t, "a ligature regardless of case", from);
    return 0;
}

/* \w: Oniguruma counts superscripts and fractions of Latin-1 outside brackets only. */
static void add_words(const translation *t, strbuf *out, int in_class) {
    static const char *const parts[] = {"L", "M", "Nd", "Nl", "Pc"};
    for (int i = 0; i < 5; i++)
        unicode_property(parts[i], t->with_added, out);
    strbuf_puts(out, "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}");
    if (!in_class) strbuf_puts(out, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}");
}

static void add_boundary(const translation *t, strbuf *out, int inside) {
    strbuf words = {0};
    add_words(t, &words, 0);
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
    if (!unicode_property(name, t->with_added, &m->text)) return refuse(t, "a character property", from);
    if (caseless(t) && m->text.text[3] == 'L' && strchr("ult", m->text.text[4]))
        return refuse(t, "a property regardless of case", from);
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
        unicode_property("Nd", t->with_added, &m->text);
        return 0;
    case 'w':
    case 'W':
        add_words(t, &m->text, in_class);
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
        add_boundary(t, &m->text, c == 'B');
    else
        strbuf_printf(&m->text, "\\%c", c);
    return 0;
}

static int translate_escape(translation *t) {
    const char *const from = t->at;
    meaning m;
    int rc = read_escape(t, 0, &m);
    if (m.kind != CODE)
        t->before = 0;
    else if (!rc)
        rc = check_literal(t, m.code, from);
    t->atom = t->out->length;
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
        if (caseless(t) && (unsigned char)c >= 0x80) return refuse(t, "a letter regardless of case", t->at);
        if (c != '\\') {
            if ((c == '-' && after_set) || strchr(".:=", c))
                strbuf_puts(plain, "\\"); /* [.a.] has a meaning of its own */
            strbuf_add(plain, t->at++, 1);
            after_set = 0;
            continue;
        }
        meaning m;
        int rc = read_escape(t, 1, &m);
        if (!rc && m.kind == CODE && m.code >= 0x80 && caseless(t)) rc = refuse(t, "a letter regardless of case", from);
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
    t->before = 0;
    t->atom = t->out->length;
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

static int open_group(translation *t, int ignores_case) {
    if (t->depth + 1 >= DEEPEST) return refuse(t, "groups nested too deeply", t->at);
    t->groups[++t->depth].begin = t->out->length;
    t->groups[t->depth].caseless = ignores_case;
    t->before = 0;
    return 0;
}

static int close_group(translation *t) {
    if (!t->depth) return refuse(t, "a closing bracket", t->at);
    t->atom = t->groups[t->depth--].begin;
    t->before = 0;
    strbuf_add(t->out, t->at++, 1);
    return 0;
}

/* (?im-im: ... or, at the very beginning, (?im) for the whole. */
static int translate_options(translation *t) {
    const char *const from = t->at;
    const size_t begin = t->out->length;
    int ignores_case = caseless(t), on = 1;
    strbuf_puts(t->out, "(?");
    for (t->at += 2; t->at < t->end && strchr("im-", *t->at); t->at++) {
        if (*t->at == '-') on = 0;
        if (*t->at == 'i') ignores_case = on;
        strbuf_puts(t->out, *t->at == 'm' ? "s" : *t->at == 'i' ? "i" : "-");
    }
    const char last = t->at < t->end ? *t->at++ : 0;
    strbuf_add(t->out, &last, 1);
    if (last == ')' && from == t->source) {
        t->groups[0].caseless = ignores_case;
        return 0;
    }
    if (last != ':') return refuse(t, "a group", from);
    const int rc = open_group(t, ignores_case);
    t->groups[t->depth].begin = begin;
    return rc;
}

static int translate_group(translation *t) {
    static const char *const openings[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    const char *opening = NULL;
    for (int i = 0; i < 6; i++)
        if (starts(t, openings[i])) opening = openings[i];
    if (starts(t, "(*")) return refuse(t, "a verb", t->at);
    if (!opening && starts(t, "(?")) return translate_options(t);
    const int rc = open_group(t, caseless(t));
    strbuf_puts(t->out, opening ? opening : "(?:");
    t->at += opening ? strlen(opening) : 1;
    return rc;
}

/* {n} {n,} {,m} {n,m}; anything else in braces stands for itself. */
static int translate_interval(translation *t) {
    const char *c = t->at + 1, *const low = c;
    while (c < t->end && isdigit((unsigned char)*c))
        c++;
    const int low_digits = (int)(c - low), comma = c < t->end && *c == ',';
    c += comma;
    const char *const high = c;
    while (c < t->end && isdigit((unsigned char)*c))
        c++;
    const int high_digits = (int)(c - high);
    if (c >= t->end || *c != '}' || !(low_digits || high_digits)) {
        const int rc = check_literal(t, '{', t->at++);
        t->atom = t->out->length;
        strbuf_puts(t->out, "\\{");
        return rc;
    }
    t->at = c + 1;
    t->before = 0;
    const int again = t->at < t->end && (*t->at == '+' || *t->at == '*' || (*t->at == '?' && !comma));
    if (again) { /* what follows repeats the whole */
        strbuf tail = {0};
        strbuf_add(&tail, t->out->text + t->atom, t->out->length - t->atom);
        t->out->length = t->atom;
        strbuf_printf(t->out, "(?:%s", tail.text ? tail.text : "");
        strbuf_free(&tail);
    }
    strbuf_printf(t->out, "{%.*s%s%.*s}%s", low_digits ? low_digits : 1, low_digits ? low : "0", comma ? "," : "",
                  high_digits, high, again ? ")" : "");
    return 0;
}

static int translate_literal(translation *t) {
    uint32_t code;
    const int size = utf8_decode(t->at, t->end - t->at, &code);
    const int quantifier = strchr("*+?|^$.", *t->at) != NULL;
    const int rc = quantifier ? 0 : check_literal(t, code, t->at);
    if (quantifier) t->before = 0;
    if (!strchr("*+?", *t->at)) t->atom = t->out->length;
    strbuf_add(t->out, t->at, (size_t)size);
    t->at += size;
    return rc;
}

int pattern_translate(const char *source, int64_t length, int32_t with_added, strbuf *out, graft_error *err) {
    translation t = {
        .source = source, .at = source, .end = source + length, .with_added = with_added, .out = out, .err = err};
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
        case ')':
            rc = close_group(&t);
            break;
        case '{':
            rc = translate_interval(&t);
            break;
        default:
            rc = translate_literal(&t);
        }
        if (rc) return rc;
        if (out->length > LONGEST)
            return fail(err, GRAFT_FAILED, "the regular expression \"%.40s...\" is too long", source);
    }
    return 0;
}
