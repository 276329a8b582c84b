/* datafile — a file of training data: open for reading anywhere in it.
 *
 * gzip (RFC 1952) is decompressed once into a temporary file without a name ($TMPDIR, else /tmp); what is no regular file
 * (a pipe) is copied there. Checking reads all of it once: text is UTF-8 without NUL. Nothing of it stays in memory, so a
 * file may be larger than that. Threads: reading is safe from any number of them. */
#ifndef GRAFT_TEXT_DATAFILE_H
#define GRAFT_TEXT_DATAFILE_H
#include "base/error.h"
#include <stdint.h>

typedef struct {
    char *path;    /* as given, for messages                                      */
    int fd;        /* of the text                                                 */
    int packed;    /* 1: it is compressed                                         */
    int64_t begin; /* behind a byte order mark                                    */
    int64_t size;  /* where the text ends; places are counted from the file's start */
} datafile;

/* *out is closed by the caller after success. datafile_open checks the text too. */
int datafile_open_unchecked(const char *path, datafile *out, graft_error *err);
int datafile_open(const char *path, datafile *out, graft_error *err);
int datafile_check(const datafile *f,
                   graft_error *err); /* the error names the first byte that is no text, and its line */
void datafile_close(datafile *f);

/* Bytes at .. at + count - 1. A file that became shorter meanwhile is an error. */
int datafile_read(const datafile *f, int64_t at, int64_t count, char *into, graft_error *err);
/* Line ends in bytes from .. to - 1, -1: they cannot be read any more. */
int64_t datafile_lines(const datafile *f, int64_t from, int64_t to);
/* The line, from 1, of the byte at a place; 0 when it cannot be read any more. Reads the file from its start. */
int64_t datafile_line(const datafile *f, int64_t at);
/* SHA-256 of the text; compressing it does not change that. */
int datafile_digest(const datafile *f, char hex[65], graft_error *err);

enum { DATAFILE_BLOCK = 1 << 20 }; /* a good size for reading a file from end to end */

static inline int datafile_is_white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
