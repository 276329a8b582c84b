/* jsonscan — see jsonscan.h. */
#include "text/jsonscan.h"
#include "text/utf8.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void skip_white(jsonscan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
}

int jsonscan_byte(jsonscan *s, char wanted) {
    skip_white(s);
    if (s->at >= s->end || *s->at != wanted) return 0;
    s->at++;
    return 1;
}

int jsonscan_next(jsonscan *s, char close, int *first) {
    const int begins = *first;
    *first = 0;
    if (jsonscan_byte(s, close)) return 0;
    if (!begins && !jsonscan_byte(s, ',')) return -1;
    skip_white(s);
    return s->at < s->end ? 1 : -1;
}

/* ---- strings ---- */

/* The value of four hexadecimal digits, -1: they are none. The text has a NUL behind it. */
static int32_t read_hex(const char *at) {
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        const char c = at[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* Writes what the escape at `from` (behind its backslash) means; the place behind it, NULL: it is none. */
static const char *unescape(const char *from, char **to) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *const name = *from ? strchr(names, *from) : NULL;
    if (name) {
        *(*to)++ = meant[name - names];
        return from + 1;
    }
    if (*from++ != 'u') return NULL;
    int32_t code = read_hex(from);
    if (code < 0 || (code >= 0xDC00 && code < 0xE000)) return NULL;
    from += 4;
    if (code >= 0xD800 && code < 0xDC00) {
        const int32_t low = from[0] == '\\' && from[1] == 'u' ? read_hex(from + 2) : -1;
        if (low < 0xDC00 || low >= 0xE000) return NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        from += 6;
    }
    *to += utf8_encode((uint32_t)code, *to);
    return from;
}

int jsonscan_string(jsonscan *s, const char **text, int64_t *length) {
    if (!jsonscan_byte(s, '"')) return 0;
    const char *from = s->at;
    char *to = s->at;
    *text = s->at;
    for (;;) {
        const char *const run = from;
        while (from < s->end && *from != '"' && *from != '\\' && (unsigned char)*from >= 0x20)
            from++;
        if (to != run) memmove(to, run, (size_t)(from - run));
        to += from - run;
        if (from >= s->end || (unsigned char)*from < 0x20) return 0;
        if (*from++ == '"') break;
        from = unescape(from, &to); /* never writes more than it read */
        if (!from) return 0;
    }
    *length = to - *text;
    s->at += from - s->at;
    return 1;
}

/* ---- numbers ---- */

/* Takes digits; how many. Those that do not fit are counted in *left_out. */
static int64_t take_digits(jsonscan *s, uint64_t *value, int64_t *left_out) {
    const char *const begin = s->at;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        const uint64_t digit = (uint64_t)(*s->at - '0');
        if (*left_out || *value > (UINT64_MAX - digit) / 10)
            ++*left_out;
        else
            *value = *value * 10 + digit;
    }
    return s->at - begin;
}

int jsonscan_take_number(jsonscan *s, jsonscan_number *out) {
    enum { EXPONENT_MOST = 1 << 20 };
    int64_t left_out = 0, before;
    *out = (jsonscan_number){.negative = jsonscan_byte(s, '-'), .whole = 1};
    const char *const begin = s->at;
    const int64_t digits = take_digits(s, &out->significand, &left_out);
    if (!digits || (digits > 1 && *begin == '0')) return 0;
    out->exponent = left_out;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        out->whole = 0, before = left_out;
        const int64_t fraction = take_digits(s, &out->significand, &left_out);
        if (!fraction) return 0;
        out->exponent -= fraction - (left_out - before);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        uint64_t power = 0;
        int64_t beyond = 0;
        s->at++;
        out->whole = 0;
        const int down = s->at < s->end && *s->at == '-';
        if (down || (s->at < s->end && *s->at == '+')) s->at++;
        if (!take_digits(s, &power, &beyond)) return 0;
        const int64_t most = beyond || power > EXPONENT_MOST ? EXPONENT_MOST : (int64_t)power;
        out->exponent += down ? -most : most;
    }
    out->whole &= !left_out;
    return 1;
}

double jsonscan_real(const jsonscan_number *n) {
    double value = (double)n->significand;
    char power[16] = "1e";
    int64_t exponent = n->exponent;
    for (; exponent < -308 && value != 0; exponent += 308)
        value /= 1e308;
    if (exponent > 308 && value != 0) return n->negative ? -HUGE_VAL : HUGE_VAL;
    if (exponent != 0 && value != 0) {
        const int64_t size = exponent < 0 ? -exponent : exponent;
        power[2] = (char)('0' + size / 100), power[3] = (char)('0' + size / 10 % 10);
        power[4] = (char)('0' + size % 10);
        const double ten = strtod(power, NULL);
        value = exponent < 0 ? value / ten : value * ten;
    }
    return n->negative ? -value : value;
}

/* ---- stepping over ---- */

/* Steps over a string whose quote was taken. */
static int skip_string(jsonscan *s) {
    for (; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            s->at++;
            return 1;
        }
        if (*s->at == '\\' && ++s->at == s->end) break;
    }
    return 0;
}

int jsonscan_skip(jsonscan *s) {
    int64_t depth = 0;
    skip_white(s);
    const char *const begin = s->at;
    do {
        const char c = s->at < s->end ? *s->at++ : '\0';
        if (c == '"') {
            if (!skip_string(s)) return 0;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth-- == 0) return 0;
        } else if (depth == 0) { /* a number or a word */
            s->at = s->at - 1 + strcspn(s->at - 1, ",]} \t\n\r");
            return s->at > begin;
        } else if (!c) {
            return 0;
        }
    } while (depth > 0);
    return 1;
}
