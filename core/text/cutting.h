/* cutting — where the pieces of a data file begin: elements of a JSON array, rows of a table, lines,
 * paragraphs. 8 bytes a piece. */
#ifndef GRAFT_TEXT_CUTTING_H
#define GRAFT_TEXT_CUTTING_H
#include "text/datafile.h"

typedef struct {
    int32_t unit; /* GRAFT_UNIT_JSON ... (graft.h)                          */
    int64_t *at;  /* (count + 1) first byte of each piece, and where all end */
    int64_t count, capacity;
    char delimiter;                   /* of a table (text/table.h), 0: it is none */
    int64_t header_begin, header_end; /* its first row                            */
} cutting;

/* Reads the file once. A JSON array is looked at from outside only: strings, brackets and commas; what stands between them
 * is for the reader of the piece. A file called .csv or .tsv is a table instead, whose first row is no piece. Errors name file and line. *out is freed by the caller in any case. */
int cutting_make(const datafile *f, int32_t unit, cutting *out, graft_error *err);
void cutting_free(cutting *c); /* and leaves {0} */

/* The text of piece i inside the bytes at[i] .. at[i + 1], `text`: their number without what separates it from the next. */
int64_t cutting_trim(const cutting *c, int64_t i, const char *text);

#endif
