/* jsontext — a small writer in Python's style. */
#include "formats/jsontext.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reads one character of valid UTF-8 and moves on. */
static uint32_t next_character(const unsigned char **p) {
    const unsigned char first = *(*p)++;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    uint32_t c = more ? first & (0x3fu >> more) : first;
    for (int i = 0; i < more && (**p & 0xc0) == 0x80; i++)
        c = c << 6 | (*(*p)++ & 0x3fu);
    return c;
}

void jsontext_quote(strbuf *out, const char *text, int ascii) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    strbuf_puts(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const unsigned char *const start = p;
        const uint32_t c = next_character(&p);
        const char *const short_form = c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (short_form)
            strbuf_printf(out, "\\%c", letters[short_form - plain]);
        else if (c >= 0x10000 && ascii) /* a surrogate pair */
            strbuf_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        else if (c < 0x20 || (c >= 0x7f && ascii))
            strbuf_printf(out, "\\u%04x", c);
        else
            strbuf_add(out, (const char *)start, (size_t)(p - start));
    }
    strbuf_puts(out, "\"");
}

void jsontext_real(strbuf *out, double value) {
    char text[40];
    int digits = 0;
    do
        snprintf(text, sizeof text, "%.*e", digits, value); /* d.ddde±xx, the shortest that reads back */
    while (strtod(text, NULL) != value && ++digits < 17);
    char *const e = strchr(text, 'e');
    const int exponent = atoi(e + 1);
    if (exponent < -4 || exponent >= 16) {
        strbuf_puts(out, text);
        return;
    }
    const int fraction = digits > exponent ? digits - exponent : 0;
    strbuf_printf(out, "%.*f", fraction > 0 ? fraction : 1, value);
}

static void new_line(strbuf *out, int indent, int depth) {
    if (indent) strbuf_printf(out, "\n%*s", indent * depth, "");
}

static void add(strbuf *out, json_t *value, int indent, int depth);

static void add_array(strbuf *out, json_t *array, int indent, int depth) {
    const size_t count = json_array_size(array);
    strbuf_puts(out, "[");
    for (size_t i = 0; i < count; i++) {
        if (i) strbuf_puts(out, indent ? "," : ", ");
        new_line(out, indent, depth + 1);
        add(out, json_array_get(array, i), indent, depth + 1);
    }
    if (count) new_line(out, indent, depth);
    strbuf_puts(out, "]");
}

static void add_object(strbuf *out, json_t *object, int indent, int depth) {
    const char *key;
    json_t *member;
    int first = 1;
    strbuf_puts(out, "{");
    json_object_foreach(object, key, member) {
        if (!first) strbuf_puts(out, indent ? "," : ", ");
        first = 0;
        new_line(out, indent, depth + 1);
        jsontext_quote(out, key, 1);
        strbuf_puts(out, ": ");
        add(out, member, indent, depth + 1);
    }
    if (!first) new_line(out, indent, depth);
    strbuf_puts(out, "}");
}

static void add(strbuf *out, json_t *value, int indent, int depth) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        add_object(out, value, indent, depth);
        break;
    case JSON_ARRAY:
        add_array(out, value, indent, depth);
        break;
    case JSON_STRING:
        jsontext_quote(out, json_string_value(value), 1);
        break;
    case JSON_INTEGER:
        strbuf_printf(out, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        jsontext_real(out, json_real_value(value));
        break;
    case JSON_TRUE:
        strbuf_puts(out, "true");
        break;
    case JSON_FALSE:
        strbuf_puts(out, "false");
        break;
    case JSON_NULL:
        strbuf_puts(out, "null");
        break;
    }
}

void jsontext_add(strbuf *out, json_t *value, int indent) {
    add(out, value, indent, 0);
}

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

json_t *jsontext_sorted(json_t *object) {
    const size_t count = json_object_size(object);
    const char **const keys = mem_new(count + 1, sizeof *keys);
    json_t *const sorted = json_object(), *member;
    const char *key;
    size_t n = 0;
    json_object_foreach(object, key, member) {
        keys[n++] = key;
    }
    qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 0; i < n; i++)
        json_object_set(sorted, keys[i], json_object_get(object, keys[i]));
    free(keys);
    return sorted;
}
