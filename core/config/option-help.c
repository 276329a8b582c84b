/* option-help — an option table as text for people and as lines of an INI file. */
#include "config/option.h"

static void put_default(const graft_option *row, strbuf *out) {
    graft_option alone = *row;
    alone.offset = 0;
    union {
        int64_t whole;
        double real;
        const char *text;
    } field;
    option_origin origin;
    option_defaults(&(option_set){&alone, 1, &field, &origin});
    option_format(&alone, &field, out);
}

/* What may stand there: "whole number, 1 to 65536". */
static void put_allowed(const graft_option *row, strbuf *out) {
    switch (row->type) {
    case GRAFT_INT:
        strbuf_printf(out, "whole number, %.15g to %.15g", row->low, row->high);
        break;
    case GRAFT_REAL:
        strbuf_printf(out, "number, %.15g to %.15g", row->low, row->high);
        break;
    case GRAFT_BOOL:
        strbuf_puts(out, "yes | no");
        break;
    case GRAFT_PATH:
        strbuf_puts(out, "path");
        break;
    case GRAFT_TEXT:
        strbuf_puts(out, "text");
        break;
    default:
        for (const char *c = row->text; *c; c++)
            strbuf_puts(out, *c == '|' ? " | " : (const char[]){*c, '\0'});
    }
}

/* Widest text that `put` writes of any row. */
static int widest(const graft_option *rows, int count, void (*put)(const graft_option *, strbuf *)) {
    size_t width = 0;
    for (int i = 0; i < count; i++) {
        strbuf text = {0};
        put(&rows[i], &text);
        if (text.length > width) width = text.length;
        strbuf_free(&text);
    }
    return (int)width;
}

static void put_key(const graft_option *row, strbuf *out) {
    strbuf_puts(out, row->key);
}

static void put_line(const graft_option *row, strbuf *out) {
    strbuf_printf(out, "%s = ", row->key);
    put_default(row, out);
}

static void put_padded(const graft_option *row, void (*put)(const graft_option *, strbuf *), int width, strbuf *out) {
    const size_t begin = out->length;
    put(row, out);
    strbuf_printf(out, "%*s", width - (int)(out->length - begin), "");
}

void option_help(const graft_option *rows, int count, strbuf *out) {
    const int keys = widest(rows, count, put_key), defaults = widest(rows, count, put_default);
    for (int i = 0; i < count; i++) {
        strbuf_puts(out, "  ");
        put_padded(&rows[i], put_key, keys + 2, out);
        put_padded(&rows[i], put_default, defaults + 2, out);
        strbuf_printf(out, "%s (", rows[i].doc);
        put_allowed(&rows[i], out);
        strbuf_puts(out, ")\n");
    }
}

void option_ini(const graft_option *rows, int count, strbuf *out) {
    const int width = widest(rows, count, put_line);
    for (int i = 0; i < count; i++) {
        put_padded(&rows[i], put_line, width + 2, out);
        strbuf_printf(out, "; %s (", rows[i].doc);
        put_allowed(&rows[i], out);
        strbuf_puts(out, ")\n");
    }
}
