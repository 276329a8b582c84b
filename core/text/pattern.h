/* pattern — what Replace and Split look for: a literal text or a regular expression.
 *
 * Expressions are written for Oniguruma (Ruby syntax, Unicode 16) and run by PCRE2: pattern-syntax.c translates them and
 * refuses what the two read differently. */
#ifndef GRAFT_TEXT_PATTERN_H
#define GRAFT_TEXT_PATTERN_H
#include "base/error.h"
#include "base/memory.h"
#include <stdint.h>

typedef struct pattern pattern; /* read-only once made; shared between threads */

int pattern_regex(const char *source, int64_t length, pattern **out, graft_error *err);
void pattern_literal(const char *text, int64_t length, pattern **out); /* text is copied */
void pattern_free(pattern *p);                                         /* p may be NULL */
int pattern_is_empty(const pattern *p);                                /* whether the source is the empty text */

/* Memory that a search needs, one per thread. {0} is empty and valid. */
typedef struct {
    struct pcre2_real_match_data_8 *data;
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *stack;
} pattern_scratch;
void pattern_scratch_free(pattern_scratch *s);

/* All matches from left to right, not overlapping; an empty match is not given right behind another match. */
typedef struct {
    const pattern *pattern;
    pattern_scratch *scratch;
    const char *text; /* valid UTF-8 */
    int64_t length;
    int64_t at, last_end; /* where to go on; end of the last match */
    int matched;          /* whether there was one */
    int looked;           /* private, 0 at first: whether the text has characters that the engine's tables lack */
} pattern_walk;

/* 1 and the match in *begin, *end; 0 at the end; -1 with an error when the expression backtracks beyond the limit. */
int pattern_next(pattern_walk *w, int64_t *begin, int64_t *end, graft_error *err);

/* The expression in PCRE2's syntax, added to `out`. with_added: 1 with the characters that its tables lack (unicode.h). */
int pattern_translate(const char *source, int64_t length, int32_t with_added, strbuf *out, graft_error *err);

#endif
