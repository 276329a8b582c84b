/* cutting — one pass over the file, a small state for each unit. */
#include "text/cutting.h"
#include "base/memory.h"
#include "text/table.h"
#include <graft/graft.h>
#include <stdlib.h>
#include <string.h>

static void add(cutting *c, int64_t at) {
    mem_reserve(c->at, c->count + 1, c->capacity); /* + 1: where all end */
    c->at[c->count++] = at;
}

static void end(cutting *c, int64_t at) {
    mem_reserve(c->at, c->count, c->capacity);
    c->at[c->count] = at;
}

/* ---- lines and paragraphs ---- */

typedef struct {
    int64_t line;  /* where the line being read begins           */
    int has_text;  /* whether it holds more than white space yet */
    int paragraph; /* whether the line before had text           */
} line_state;

static void end_line(cutting *c, line_state *s, int64_t next) {
    const int goes_on =
        (c->unit == GRAFT_UNIT_PARAGRAPH && s->paragraph) || (c->unit == GRAFT_UNIT_FILE && c->count > 0);
    if (s->has_text && !goes_on) add(c, s->line);
    s->paragraph = s->has_text;
    s->line = next, s->has_text = 0;
}

static void cut_lines(cutting *c, line_state *s, const char *block, int64_t count, int64_t at) {
    for (int64_t i = 0; i < count;) {
        const char *const found = memchr(block + i, '\n', (size_t)(count - i));
        const int64_t stop = found ? found - block : count;
        while (i < stop && !s->has_text)
            s->has_text = !datafile_is_white(block[i++]);
        if (found) end_line(c, s, at + stop + 1);
        i = stop + 1;
    }
}

/* ---- a JSON array ---- */

/* What is expected next, outside of an element. */
enum { ARRAY_START, ARRAY_FIRST, ARRAY_NEXT, ARRAY_ELEMENT, ARRAY_DONE };

typedef struct {
    int state, string, escaped;
    int64_t depth; /* brackets open inside the element */
} array_state;

/* One byte; 0 when it cannot stand there. */
static int array_byte(cutting *c, array_state *s, char byte, int64_t at) {
    if (s->string) {
        if (s->escaped)
            s->escaped = 0;
        else if (byte == '\\')
            s->escaped = 1;
        else
            s->string = byte != '"';
        return 1;
    }
    if (datafile_is_white(byte)) return 1;
    switch (s->state) {
    case ARRAY_START:
        s->state = ARRAY_FIRST;
        return byte == '[';
    case ARRAY_DONE:
        return 0;
    case ARRAY_FIRST:
        if (byte == ']') {
            end(c, at);
            s->state = ARRAY_DONE;
            return 1;
        } /* fall through */
    case ARRAY_NEXT:
        if (byte == ',' || byte == ']') return 0;
        add(c, at);
        s->state = ARRAY_ELEMENT;
    }
    if (s->depth == 0 && byte == ',') {
        s->state = ARRAY_NEXT;
    } else if (s->depth == 0 && byte == ']') {
        end(c, at);
        s->state = ARRAY_DONE;
    } else if (byte == '[' || byte == '{') {
        s->depth++;
    } else if (s->depth > 0 && (byte == ']' || byte == '}')) {
        s->depth--;
    } else if (byte == '"') {
        s->string = 1;
    }
    return 1;
}

static int fail_at(const datafile *f, int64_t at, graft_error *err, const char *what) {
    return fail(err, GRAFT_FAILED, "%s:%lld: %s", f->path, (long long)datafile_line(f, at), what);
}

static int cut_array(cutting *c, const datafile *f, array_state *s, const char *block, int64_t count, int64_t at,
                     graft_error *err) {
    for (int64_t i = 0; i < count; i++)
        if (!array_byte(c, s, block[i], at + i))
            return fail_at(f, at + i, err,
                           s->state == ARRAY_DONE
                               ? "there is text behind the end of the JSON array"
                               : "an element of the JSON array is missing, or there is a comma too many");
    return GRAFT_OK;
}

static int end_array(const cutting *c, const datafile *f, const array_state *s, graft_error *err) {
    if (s->state == ARRAY_DONE) return GRAFT_OK;
    const int inside = s->state == ARRAY_ELEMENT && (s->depth > 0 || s->string);
    return fail_at(f, inside ? c->at[c->count - 1] : f->size, err,
                   inside ? "the file ends inside the JSON element that begins here"
                          : "the file ends inside the JSON array; its ']' is missing");
}

/* ---- a table ---- */

typedef struct {
    table_state row;
    int64_t begin; /* of the row being read */
    int has_text, has_header;
} rows_state;

static void end_row(cutting *c, rows_state *s, int64_t at, int64_t next) {
    if (s->has_text && s->has_header) add(c, s->begin);
    if (s->has_text && !s->has_header) c->header_begin = s->begin, c->header_end = at, s->has_header = 1;
    s->begin = next, s->has_text = 0;
}

static void cut_table(cutting *c, rows_state *s, const char *block, int64_t count, int64_t at) {
    for (int64_t i = 0; i < count; i++) {
        if (table_byte(&s->row, block[i], c->delimiter))
            end_row(c, s, at + i, at + i + 1);
        else
            s->has_text |= !datafile_is_white(block[i]);
    }
}

static int end_table(cutting *c, const datafile *f, rows_state *s, graft_error *err) {
    if (s->row.quoted == 1)
        return fail_at(f, s->begin, err, "a field in quotes of the row that begins here never ends");
    end_row(c, s, f->size, f->size);
    end(c, f->size);
    return GRAFT_OK;
}

/* The delimiter, when the file is a table. */
static int find_delimiter(cutting *c, const datafile *f, char *block, graft_error *err) {
    const int64_t count = f->size - f->begin < DATAFILE_BLOCK ? f->size - f->begin : DATAFILE_BLOCK;
    if (datafile_read(f, f->begin, count, block, err)) return err->code;
    const char *const line = memchr(block, '\n', (size_t)count);
    c->delimiter = table_delimiter(f->path, block, line ? line - block : count);
    return GRAFT_OK;
}

/* ---- all ---- */

/* Whether the first character of the file is '['. */
static int begins_array(const datafile *f, char *block, int *is_array, graft_error *err) {
    *is_array = 0;
    for (int64_t at = f->begin, count; at < f->size; at += count) {
        count = f->size - at < DATAFILE_BLOCK ? f->size - at : DATAFILE_BLOCK;
        if (datafile_read(f, at, count, block, err)) return err->code;
        for (int64_t i = 0; i < count; i++)
            if (!datafile_is_white(block[i])) {
                *is_array = block[i] == '[';
                return GRAFT_OK;
            }
    }
    return GRAFT_OK;
}

int cutting_make(const datafile *f, int32_t unit, cutting *out, graft_error *err) {
    *out = (cutting){.unit = unit};
    char *const block = mem_new(DATAFILE_BLOCK, 1);
    line_state lines = {.line = f->begin};
    array_state array = {0};
    int is_array = 0;
    rows_state rows = {.row.field_begins = 1, .begin = f->begin};
    if (unit == GRAFT_UNIT_JSON) find_delimiter(out, f, block, err);
    if (unit == GRAFT_UNIT_JSON && !out->delimiter && !err->code) begins_array(f, block, &is_array, err);
    if (!is_array && unit == GRAFT_UNIT_JSON) out->unit = GRAFT_UNIT_LINE;
    for (int64_t at = f->begin, count; at < f->size && !err->code; at += count) {
        count = f->size - at < DATAFILE_BLOCK ? f->size - at : DATAFILE_BLOCK;
        if (datafile_read(f, at, count, block, err)) break;
        if (out->delimiter)
            cut_table(out, &rows, block, count, at);
        else if (is_array)
            cut_array(out, f, &array, block, count, at, err);
        else
            cut_lines(out, &lines, block, count, at);
    }
    free(block);
    if (err->code) return err->code;
    if (out->delimiter) return end_table(out, f, &rows, err);
    if (is_array) return end_array(out, f, &array, err);
    end_line(out, &lines, f->size);
    if (unit == GRAFT_UNIT_FILE && out->count > 0) out->at[0] = f->begin;
    end(out, f->size);
    return GRAFT_OK;
}

void cutting_free(cutting *c) {
    free(c->at);
    *c = (cutting){0};
}

int64_t cutting_trim(const cutting *c, int64_t i, const char *text) {
    int64_t length = c->at[i + 1] - c->at[i];
    if (c->unit == GRAFT_UNIT_FILE) return length;
    if (c->delimiter) { /* white space may be a field */
        while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
            length--;
        return length;
    }
    while (length > 0 && datafile_is_white(text[length - 1]))
        length--;
    if (c->unit != GRAFT_UNIT_JSON || i + 1 == c->count || length == 0) return length;
    length--; /* the comma */
    while (length > 0 && datafile_is_white(text[length - 1]))
        length--;
    return length;
}
