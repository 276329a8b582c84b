/* grams — see grams.h. */
#include "metric/grams.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>

void pieces_free(pieces *p) {
    strbuf_free(&p->text);
    free(p->begin);
    free(p->end);
    *p = (pieces){0};
}

static void add(pieces *p, const char *bytes, int64_t length) {
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->begin = mem_grow(p->begin, (size_t)p->capacity, sizeof *p->begin);
        p->end = mem_grow(p->end, (size_t)p->capacity, sizeof *p->end);
    }
    p->begin[p->count] = (int64_t)p->text.length;
    strbuf_add(&p->text, bytes, (size_t)length);
    p->end[p->count++] = (int64_t)p->text.length;
}

void pieces_add_word(pieces *p, const char *bytes, int64_t length) {
    if (p->count) strbuf_add(&p->text, " ", 1);
    add(p, bytes, length);
}

int grams_is_space(uint32_t code) {
    return unicode_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

int64_t grams_trim_end(const char *text, int64_t length) {
    int64_t end = 0;
    uint32_t code;
    for (int64_t at = 0; at < length;) {
        at += utf8_decode(text + at, length - at, &code);
        if (!grams_is_space(code)) end = at;
    }
    return end;
}

void pieces_words(pieces *p, const char *text, int64_t length) {
    int64_t begin = 0, size;
    uint32_t code;
    for (int64_t at = 0; at < length; at += size) {
        size = utf8_decode(text + at, length - at, &code);
        if (!grams_is_space(code)) continue;
        if (at > begin) pieces_add_word(p, text + begin, at - begin);
        begin = at + size;
    }
    if (length > begin) pieces_add_word(p, text + begin, length - begin);
}

void pieces_characters(pieces *p, const char *text, int64_t length) {
    int64_t size;
    uint32_t code;
    for (int64_t at = 0; at < length; at += size) {
        size = utf8_decode(text + at, length - at, &code);
        if (!grams_is_space(code)) add(p, text + at, size);
    }
}

/* How often the run of n pieces from i on was met, this time included. */
static int64_t meet(strmap *met, const pieces *p, int64_t i, int64_t n, const char **run, size_t *length) {
    int64_t times = 0;
    *run = p->text.text + p->begin[i];
    *length = (size_t)(p->end[i + n - 1] - p->begin[i]);
    strmap_get(met, *run, *length, &times);
    strmap_put(met, *run, *length, ++times);
    return times;
}

void grams_raise(strmap *most, const pieces *p, int64_t n) {
    strmap met = {0};
    const char *run;
    size_t length;
    for (int64_t i = 0; i < grams_count(p, n); i++) {
        const int64_t times = meet(&met, p, i, n, &run, &length);
        int64_t before = 0;
        strmap_get(most, run, length, &before);
        if (times > before) strmap_put(most, run, length, times);
    }
    strmap_free(&met);
}

int64_t grams_matched(const strmap *most, const pieces *p, int64_t n) {
    strmap met = {0};
    const char *run;
    size_t length;
    int64_t matched = 0;
    for (int64_t i = 0; i < grams_count(p, n); i++) {
        const int64_t times = meet(&met, p, i, n, &run, &length);
        int64_t allowed = 0;
        strmap_get(most, run, length, &allowed);
        matched += times <= allowed;
    }
    strmap_free(&met);
    return matched;
}
