/* component — reading the parts of tokenizer.json: normalizers, pre-tokenizers, post-processors, decoders.
 * `what` names the part in error texts ("the normalizer Replace"); the caller puts the file in front. */
#ifndef GRAFT_TEXT_COMPONENT_H
#define GRAFT_TEXT_COMPONENT_H
#include "base/error.h"
#include "base/json.h"
#include "text/pattern.h"

enum { COMPONENT_DEPTH = 16 }; /* sequences inside sequences */

/* The "type" of a component, NULL with an error when it has none. `kind`: "normalizer". */
const char *component_type(const json_t *node, const char *kind, graft_error *err);

/* The error for a type that graft does not have. */
int component_unknown(const char *kind, const char *type, const char *known, graft_error *err);

/* The array of components of a Sequence, NULL with an error when it is missing or nested too deeply. */
json_t *component_list(const json_t *node, const char *what, const char *key, int depth, graft_error *err);

/* The text at `key`, which may hold NUL bytes; missing: an error, or the fallback where one is given. */
int component_text(const json_t *node, const char *what, const char *key, const char *fallback, const char **text,
                   int64_t *length, graft_error *err);

/* A text of exactly one character. */
int component_character(const json_t *node, const char *what, const char *key, const char *fallback, const char **text,
                        int64_t *length, graft_error *err);

/* {"pattern": {"String": ...} or {"Regex": ...}}. */
int component_pattern(const json_t *node, const char *what, pattern **out, graft_error *err);

#endif
