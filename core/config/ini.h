/* ini — an INI file as ordered sections of entries that know their line.
 *
 *   ; comment        # comment        [section]        key = value        ; comment behind a blank
 *
 * Keys and section names have at most 49 characters, a line at most 64 KiB, a file at most 4 MiB. Indentation has no
 * meaning, a UTF-8 byte order mark and CRLF are accepted. A section or a key that stands twice, a line that is none of
 * the above, and bytes that are no text are problems; reading goes on behind them, so all are found in one go. */
#ifndef GRAFT_CONFIG_INI_H
#define GRAFT_CONFIG_INI_H
#include "base/memory.h"
#include "config/problems.h"

enum { INI_NAME_MAX = 49, INI_LINE_MAX = 64 << 10, INI_FILE_MAX = 4 << 20 };

typedef struct {
    const char *key, *value;
    int line; /* 0: given by --set */
} ini_entry;

typedef struct {
    const char *name; /* "model", "adapter.main" */
    int line;         /* 0: exists by --set alone */
    ini_entry *entries;
    int count, capacity;
} ini_section;

typedef struct {
    const char *path;
    ini_section *sections; /* in the order of the file */
    int count, capacity;
    arena memory; /* owns all texts */
} ini_file;

/* Reads `path`. What is wrong goes to `p`; *out holds what could be read and is freed by the caller in any case.
 * Returns 1, or 0 when there is no such file to look into. */
int ini_read(const char *path, ini_file *out, problems *p);
/* The same from memory; `path` names it in messages. */
void ini_read_text(const char *path, const char *text, int64_t size, ini_file *out, problems *p);
/* Applies "section.key=value"; the key begins behind the last dot before '=': adapter.main.rank=8. Replaces or adds. */
void ini_override(ini_file *f, const char *assignment, problems *p);

const ini_section *ini_find(const ini_file *f, const char *name);           /* NULL: absent */
const ini_entry *ini_entry_of(const ini_section *section, const char *key); /* NULL: absent, or section is NULL */
/* Adds a problem at the entry: "run.ini:12: ..." or "--set SECTION.KEY: ...". */
void ini_problem(const ini_file *f, const ini_section *section, const ini_entry *entry, problems *p, const char *format,
                 ...) __attribute__((format(printf, 5, 6)));
void ini_free(ini_file *f);

#endif
