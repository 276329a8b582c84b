/* normalize — the normalizer of tokenizer.json.
 *
 * Types: Sequence, Replace (String, Regex), Prepend, NFC, NFD, NFKC, NFKD, Lowercase, Strip. */
#ifndef GRAFT_TEXT_NORMALIZE_H
#define GRAFT_TEXT_NORMALIZE_H
#include "base/error.h"
#include "base/json.h"
#include "text/text-workspace.h"

typedef struct normalizer normalizer; /* read-only once loaded */

int normalizer_load(json_t *node, normalizer **out, graft_error *err); /* null gives one that changes nothing */
void normalizer_free(normalizer *n);

/* Replaces *v by its normalized text, held by w until the next run. */
int normalizer_run(const normalizer *n, text_workspace *w, view *v, graft_error *err);

#endif
