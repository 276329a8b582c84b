/* error — how every fallible function of the core says what went wrong.
 *
 * A fallible function returns 0 or an exit code and takes `graft_error *err` last. The text names the thing, the value,
 * the bound and the fix. `fail` writes the first error only: a second call on the same object keeps the first text.
 * Threads: one object per thread. */
#ifndef GRAFT_BASE_ERROR_H
#define GRAFT_BASE_ERROR_H
#include <stdint.h>

enum { GRAFT_OK = 0, GRAFT_FAILED = 1, GRAFT_USAGE = 2 }; /* = the exit codes of the program */

typedef struct {
    int code;        /* GRAFT_OK while nothing failed */
    char text[2000]; /* one or more lines, no trailing newline */
} graft_error;

/* Sets code and text unless an error stands already; returns err->code (code when err is NULL). */
int fail(graft_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "CONTEXT: " in front of the text that stands, once, at a boundary; returns err->code. */
int fail_within(graft_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The name among `names` (count of them) nearest to `word` by edit distance, NULL when none is near enough to suggest. */
const char *nearest_name(const char *word, const char *const *names, int count);

const char *plural(int64_t count); /* "s", "" for one thing: behind the noun of a count */

#endif
