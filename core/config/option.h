/* option — the engine behind option tables (graft_option, graft.h): defaults, parsing, bounds, nearest names, origins.
 *
 * A section of the INI may be filled from several tables, each writing its own struct: the core's keys and a plugin's.
 * Tables of plugins come normalised from the plugin room; the core's own sections use the same rows on core structs. */
#ifndef GRAFT_CONFIG_OPTION_H
#define GRAFT_CONFIG_OPTION_H
#include "base/memory.h"
#include "config/ini.h"
#include <graft/graft.h>

/* Where a value came from. */
typedef struct {
    const char *file; /* NULL: the default; "--set"; else a file                   */
    int line;         /* 0 where a file has no lines worth naming (a JSON file)    */
} option_origin;

/* A table, the struct that its offsets point into, and one origin a row. Borrowed. */
typedef struct {
    const graft_option *rows;
    int count;
    void *into;
    option_origin *origins;
} option_set;

/* Checks a table as CONTRACT asks of it: known types, identifiers as keys, each once, inside `struct_bytes` without
 * overlap, defaults inside their bounds, a doc each. The error names the option. */
int option_check(const graft_option *rows, int count, int64_t struct_bytes, graft_error *err);
int option_is_identifier(const char *word); /* [A-Za-z_][A-Za-z0-9_]*, at most 49 characters */

/* Writes all defaults (texts are borrowed from the table) and clears the origins. */
void option_defaults(const option_set *set);
/* Parses `text` for one row and writes the field of `into`; texts are copied to `memory`. GRAFT_USAGE names value and bound. */
int option_parse(const graft_option *row, const char *text, void *into, arena *memory, graft_error *err);
/* The one section that has this key; NULL: none has it, or several. */
typedef const char *option_home(const char *key);
/* Defaults, then every entry of `section` (NULL: absent). An entry that no table has is a problem with the section where it
 * belongs, as `home` says (NULL: nobody knows), or the nearest key, unless `complete` is 0: then a table is missing, because its
 * plugin was not found. */
void option_fill(const ini_file *file, const ini_section *section, const option_set *sets, int set_count, int complete,
                 option_home *home, arena *memory, problems *p);

int option_find(const graft_option *rows, int count, const char *key); /* its place, -1: absent */
/* The value as a number: what the key stands for in formulas. 1 when the row is a number, a BOOL or a CHOICE. */
int option_number(const graft_option *row, const void *from, double *value);
const char *option_text(const graft_option *row, const void *from);    /* of a TEXT or PATH; never NULL */
void option_copy(const graft_option *row, const void *from, void *to); /* texts are shared */
/* The value as the INI writes it. */
void option_format(const graft_option *row, const void *from, strbuf *out);
int option_is_set(const option_set *set, const char *key); /* 1 when it does not stand at its default's word */

/* The table for people: key, default, what is allowed, doc. */
void option_help(const graft_option *rows, int count, strbuf *out);
/* The table as INI lines `key = default ; doc`. */
void option_ini(const graft_option *rows, int count, strbuf *out);

#endif
