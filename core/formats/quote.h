/* quote — a text as a JSON string, byte for byte as serde_json (Rust) and json.dumps (Python) write it; jansson's own
 * writer differs in the case of its hexadecimal digits. */
#ifndef GRAFT_FORMATS_QUOTE_H
#define GRAFT_FORMATS_QUOTE_H
#include "base/memory.h"

/* Adds the quoted text. `text` is valid UTF-8. QUOTE_ASCII escapes everything above 0x7e as Python's default does. */
enum { QUOTE_UTF8 = 0, QUOTE_ASCII = 1 };
void quote_add(strbuf *out, const char *text, int ascii);

#endif
