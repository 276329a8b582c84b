/* jsontext — JSON byte for byte as Python's json.dumps writes it (and its strings as serde_json does): what the files
 * of PEFT, transformers and bitsandbytes look like. jansson's own writer differs in reals, spaces and escapes. */
#ifndef GRAFT_FORMATS_JSONTEXT_H
#define GRAFT_FORMATS_JSONTEXT_H
#include "base/json.h"
#include "base/memory.h"

/* Adds the quoted text, which is valid UTF-8. `ascii`: everything above 0x7e is escaped, as Python's default does. */
void jsontext_quote(strbuf *out, const char *text, int ascii);

/* Adds a finite number as Python's repr: the shortest digits that read back, "16.0", "1e-05", "0.0370941162109375". */
void jsontext_real(strbuf *out, double value);

/* Adds the value as json.dumps(value, indent = indent) does; indent 0: one line, ", " and ": ". Keys keep order. */
void jsontext_add(strbuf *out, json_t *value, int indent);

/* A new object with the members of `object` sorted by key (sort_keys = True for one level). */
json_t *jsontext_sorted(json_t *object);

#endif
