/* normalform — see normalform.h. Text is handled in segments: a character that may change, the starter before it and all
 * that may join them. Everything between segments is copied. */
#include "text/normalform.h"
#include "base/memory.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    DECOMPOSITION = 32,
    HANGUL_FIRST = 0xAC00,
    HANGUL_LAST = 0xD7A3
}; /* the longest decomposition has 18 characters */

void normalform_scratch_free(normalform_scratch *s) {
    free(s->items);
    free(s->sorted);
    *s = (normalform_scratch){0};
}

static int combining_class(uint32_t code) {
    return unicode_normalizes(code) ? utf8proc_get_property((utf8proc_int32_t)code)->combining_class : 0;
}

static int decompose(int form, uint32_t code, int32_t out[DECOMPOSITION]) {
    out[0] = (int32_t)code;
    if (!unicode_normalizes(code)) return 1;
    const int compatible = form & NORMALFORM_COMPATIBLE ? UTF8PROC_COMPAT : 0;
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, out, DECOMPOSITION,
                                                       (utf8proc_option_t)(UTF8PROC_DECOMPOSE | compatible), &boundary);
    return n >= 1 && n <= DECOMPOSITION ? (int)n : 1;
}

/* The composition of two characters, 0 when there is none. */
static uint32_t compose(uint32_t first, uint32_t second) {
    if (!unicode_normalizes(second)) return 0;
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)first, (utf8proc_int32_t)second};
    const utf8proc_option_t options = (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return utf8proc_normalize_utf32(pair, 2, options) == 1 ? (uint32_t)pair[0] : 0;
}

static void add(normalform_scratch *s, uint32_t code, int change, int combining) {
    mem_reserve(s->items, s->count, s->capacity);
    s->items[s->count++] = (normal_char){code, change, (uint8_t)combining};
}

/* Whether the character may be other than itself in this form, or may join the one before it. */
static int may_change(int form, uint32_t code) {
    if (code < 0x80 || (form == NORMALFORM_COMPOSE && code < 0x300)) return 0;
    if (!unicode_normalizes(code)) return 0;
    const int composes = form & NORMALFORM_COMPOSE;
    if (composes && code >= HANGUL_FIRST && code <= HANGUL_LAST) return 0;
    if (combining_class(code) || (composes && unicode_is_second(code))) return 1;
    int32_t parts[DECOMPOSITION];
    const int n = decompose(form, code, parts);
    if (n == 1) return parts[0] != (int32_t)code;
    if (!composes) return 1;
    uint32_t whole = (uint32_t)parts[0];
    for (int i = 1; i < n && whole; i++)
        whole = compose(whole, (uint32_t)parts[i]);
    return whole != code;
}

/* Canonical ordering: each run of combining characters is sorted by class, stably. Runs can be as long as the text, so
 * they are sorted by counting. */
static void order(normalform_scratch *s) {
    for (int64_t begin = 0, end; begin < s->count; begin = end + (end == begin)) {
        int sorted = 1;
        for (end = begin; end < s->count && s->items[end].combining; end++)
            sorted &= end == begin || s->items[end - 1].combining <= s->items[end].combining;
        if (sorted) continue;
        int64_t place[257] = {0};
        for (int64_t i = begin; i < end; i++)
            place[s->items[i].combining + 1]++;
        for (int c = 0; c < 256; c++)
            place[c + 1] += place[c];
        if (s->sorted_capacity < s->capacity) {
            s->sorted_capacity = s->capacity;
            s->sorted = mem_grow(s->sorted, (size_t)s->capacity, sizeof *s->sorted);
        }
        for (int64_t i = begin; i < end; i++)
            s->sorted[place[s->items[i].combining]++] = s->items[i];
        memcpy(s->items + begin, s->sorted, (size_t)(end - begin) * sizeof *s->items);
    }
}

/* Canonical composition, in place. A character joins the last starter unless one of its class or above stands between.
 * A join replaces what both stood for: its change is the sum of theirs less one. */
static void recompose(normalform_scratch *s) {
    int64_t starter = -1, kept = 0;
    int between = 0; /* class of the last kept character behind the starter; 0: none */
    for (int64_t i = 0; i < s->count; i++) {
        const normal_char c = s->items[i];
        if (starter >= 0 && (between == 0 || between < c.combining)) {
            const uint32_t joined = compose(s->items[starter].code, c.code);
            if (joined) {
                s->items[starter].code = joined;
                s->items[starter].change += c.change - 1;
                continue;
            }
        }
        if (c.combining == 0)
            starter = kept, between = 0;
        else
            between = c.combining;
        s->items[kept++] = c;
    }
    s->count = kept;
}

/* Adds the new characters of the segment begin..end of v to out, with the alignment their changes tell. */
static void write_segment(const view *v, int64_t begin, int64_t end, const normalform_scratch *s, aligned *out) {
    int64_t at = begin;
    for (int64_t i = 0; i < s->count; i++) {
        const normal_char *const c = &s->items[i];
        span from;
        if (c->change > 0 || at >= end) {
            from = at > 0 ? view_span(v, at - 1, at) : (span){v->origin, v->origin};
        } else {
            from = view_span(v, at, at + 1);
            for (int skip = c->change; skip <= 0 && at < end; skip++)
                at += utf8_size(v->bytes[at]);
        }
        char bytes[UTF8_MAX];
        aligned_add(out, bytes, utf8_encode(c->code, bytes), from);
    }
}

static uint32_t code_at(const view *v, int64_t at, int64_t *next) {
    uint32_t code;
    *next = at + utf8_decode(v->bytes + at, v->length - at, &code);
    return code;
}

int normalform_apply(int form, const view *v, aligned *out, normalform_scratch *s) {
    int64_t done = 0, before = 0, at = 0, next;
    out->length = 0;
    while (at < v->length) {
        const int64_t plain = utf8_ascii(v->bytes + at, v->length - at);
        if (plain > 0) { /* each of them a starter that stays */
            at += plain;
            before = at - 1;
            continue;
        }
        if (!may_change(form, code_at(v, at, &next))) {
            before = at; /* a starter: what follows may join it */
            at = next;
            continue;
        }
        const int64_t begin = before < done ? done : before;
        s->count = 0;
        int64_t end = begin;
        for (;;) {
            int32_t parts[DECOMPOSITION];
            const int n = decompose(form, code_at(v, end, &next), parts);
            for (int i = 0; i < n; i++)
                add(s, (uint32_t)parts[i], i > 0, combining_class((uint32_t)parts[i]));
            end = next;
            if (end >= v->length || (end > at && !may_change(form, code_at(v, end, &next)))) break;
        }
        order(s);
        if (form & NORMALFORM_COMPOSE) recompose(s);
        aligned_copy(out, v, done, begin);
        write_segment(v, begin, end, s, out);
        done = before = at = end;
    }
    if (done == 0) return 0;
    aligned_copy(out, v, done, v->length);
    return 1;
}
