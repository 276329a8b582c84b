/* file — reading whole files, and writing so that a crash leaves either the old file or the new one.
 *
 * Writers of regular files write PATH.tmp.PID beside the target, fsync, rename and fsync the folder; symbolic links are
 * resolved first, so a link stays a link. What exists and is not a regular file (/dev/null, a pipe) is written in place.
 * All errors name the path and the system's reason. */
#ifndef GRAFT_BASE_FILE_H
#define GRAFT_BASE_FILE_H
#include "error.h"
#include <stdint.h>
#include <stdio.h>

/* Reads at most `limit` bytes (an error if the file is larger); NUL added behind; *out owned by the caller. */
int file_read(const char *path, int64_t limit, char **out, int64_t *size, graft_error *err);

typedef struct file_writer file_writer;
int file_create(const char *path, file_writer **out, graft_error *err);
int file_put(file_writer *w, const void *bytes, int64_t count, graft_error *err); /* buffered */
int file_commit(file_writer *w,
                graft_error *err); /* fsync + rename; releases w in any case; on error the old file stays */
void file_abandon(file_writer *w); /* removes the temporary file; w may be NULL */
int file_write(const char *path, const void *bytes, int64_t count, graft_error *err); /* create + put + commit */

int file_exists(const char *path);
int file_is_folder(const char *path);
int file_make_folders(const char *path, graft_error *err); /* mkdir -p */
/* GRAFT_USAGE unless `path` is a folder that one may write into, or can be made; changes nothing. */
int file_check_folder(const char *path, graft_error *err);
/* Bytes free where `path` lies or would be made; -1: the system does not say. */
int64_t file_room(const char *path);
int file_remove_tree(const char *path, graft_error *err); /* rm -r; a missing path is no error */
char *path_join(const char *folder, const char *name);    /* owned by the caller; an absolute name stands alone */
char *path_folder(const char *path);                      /* "a/b" -> "a", "b" -> "."; owned by the caller */
char *path_absolute(const char *path);       /* against the current folder, links kept; owned by the caller */
int path_same(const char *a, const char *b); /* 1: both exist and are one place, links followed */

#endif
