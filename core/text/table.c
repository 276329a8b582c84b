/* table — see table.h. */
#include "text/table.h"
#include "base/memory.h"
#include <string.h>
#include <strings.h>

static int ends_in(const char *path, size_t length, const char *end) {
    const size_t n = strlen(end);
    return length > n && strncasecmp(path + length - n, end, n) == 0;
}

char table_delimiter(const char *path, const char *line, int64_t length) {
    size_t n = strlen(path);
    if (ends_in(path, n, ".gz")) n -= 3;
    if (ends_in(path, n, ".tsv")) return '\t';
    if (!ends_in(path, n, ".csv")) return 0;
    return !memchr(line, ',', (size_t)length) && memchr(line, ';', (size_t)length) ? ';' : ',';
}

int table_byte(table_state *s, char byte, char delimiter) {
    if (s->quoted == 1) {
        if (byte == '"') s->quoted = 2;
        return 0;
    }
    if (s->quoted == 2 && byte == '"') {
        s->quoted = 1;
        return 0;
    }
    const int opens = s->field_begins && s->quoted == 0 && byte == '"';
    s->quoted = opens;
    s->field_begins = byte == delimiter || byte == '\n';
    return byte == '\n';
}

json_t *table_row(const char *text, int64_t length, char delimiter) {
    json_t *const row = json_array();
    strbuf field = {0};
    table_state s = {.field_begins = 1};
    int was_quoted = 0;
    for (int64_t i = 0; i <= length; i++) {
        const table_state before = s;
        const int ends = i == length || (before.quoted != 1 && text[i] == delimiter);
        if (i < length) table_byte(&s, text[i], delimiter);
        if (ends) {
            json_array_append_new(row, field.length || was_quoted
                                           ? json_stringn(field.text ? field.text : "", field.length)
                                           : json_null());
            field.length = 0, was_quoted = 0;
        } else if (before.field_begins && s.quoted == 1) {
            was_quoted = 1;
        } else if (!(before.quoted == 1 && s.quoted == 2)) { /* the closing quote, or the first of two */
            strbuf_add(&field, text + i, 1);
        }
    }
    strbuf_free(&field);
    return row;
}

int table_record(const json_t *names, const char *text, int64_t length, char delimiter, json_t **out,
                 graft_error *err) {
    json_t *const row = table_row(text, length, delimiter);
    const size_t count = json_array_size(names);
    *out = NULL;
    if (json_array_size(row) == count) {
        *out = json_object();
        for (size_t i = 0; i < count; i++)
            json_object_set(*out, json_string_value(json_array_get(names, i)), json_array_get(row, i));
    } else {
        fail(err, GRAFT_FAILED, "the row has %zu fields, the first row names %zu", json_array_size(row), count);
    }
    json_decref(row);
    return err->code;
}
