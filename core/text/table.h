/* table — rows of a CSV or TSV file (RFC 4180): fields between delimiters, in quotes where they hold a delimiter, a quote (written
 * twice) or a line break. A quote counts as one at the begin of a field only. */
#ifndef GRAFT_TEXT_TABLE_H
#define GRAFT_TEXT_TABLE_H
#include "base/error.h"
#include "base/json.h"

/* The delimiter of a file by its name ("data.csv", "data.tsv.gz") and first line: a comma (or semicolon) or a tab; 0: no table. */
char table_delimiter(const char *path, const char *line, int64_t length);

/* Finds the ends of rows byte by byte. {.field_begins = 1} is the begin of a file. */
typedef struct {
    int quoted;       /* 1: inside of quotes; 2: behind a quote inside of them */
    int field_begins; /* the next byte is the first of a field                 */
} table_state;
/* 1: the byte ends a row. */
int table_byte(table_state *s, char byte, char delimiter);

/* The fields of a row, without the line break, as a JSON list of texts; an empty field without quotes is null. */
json_t *table_row(const char *text, int64_t length, char delimiter);
/* {"name": field, ...}; the names are the first row's. The error tells of a row with fewer or more fields. *out is owned by the
 * caller. */
int table_record(const json_t *names, const char *text, int64_t length, char delimiter, json_t **out, graft_error *err);

#endif
