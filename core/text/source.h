/* source — a data file through the eyes of a loader plugin: the host side of graft_source_services (graft.h).
 *
 * The loader cuts the file into records and describes each by parts; what it needs for that (text, JSON fields) is read from
 * the file when it asks. In memory are 8 bytes a piece, and one record. A record is a pure function of its number.
 * Threads: one caller at a time. */
#ifndef GRAFT_TEXT_SOURCE_H
#define GRAFT_TEXT_SOURCE_H
#include "base/error.h"
#include "base/memory.h"
#include "text/fields.h"
#include <graft/graft.h>

typedef struct source source;

/* One record: its parts joined, and where each begins. {0} is empty and valid; meant to be used again and again. */
typedef struct {
    int32_t part; /* GRAFT_PART_TEXT ... */
    int64_t begin, end;
} record_part;
typedef struct {
    strbuf text;
    record_part *parts;
    int64_t count, capacity;
} text_record;
void record_free(text_record *r); /* and leaves {0} */

enum {
    SOURCE_PIECE_MOST = 64 << 20
}; /* bytes of one piece, and of the parts of one record: encoding takes up to 100 a byte */

/* `config` is the loader's options struct; both are borrowed. The file is checked, cut and counted. It must hold a record. A
 * record that is no UTF-8 text is an error when it is asked for, the others can be had.
 * *out is owned by the caller. All errors name the file, and the line where there is one. */
int source_open(const graft_loader *loader, const void *config, const char *path, source **out, graft_error *err);
void source_close(source *s); /* s may be NULL */

const char *source_path(const source *s);
int64_t source_count(const source *s);
/* Replaces the contents of `out` by record i < count. It may have no parts. */
int source_get(source *s, int64_t i, text_record *out, graft_error *err);
/* The error that the record got last is bad, named with file and line. */
int source_blame(source *s, const char *why, graft_error *err);
/* From now on source_get notes the fields of each record; `into` is borrowed, NULL ends it. */
void source_report_fields(source *s, field_report *into);
/* "JSONL", "JSON array", "CSV", "TSV", "lines of text" ... Static. */
const char *source_format(const source *s);
int source_is_packed(const source *s);                              /* 1: it is compressed with gzip */
int source_digest(const source *s, char hex[65], graft_error *err); /* of the text of the file */

#endif
