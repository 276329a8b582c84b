/* decode — the decoder of tokenizer.json: token strings to text, one token at a time.
 *
 * Types: Sequence, ByteLevel, ByteFallback, Replace, Fuse, Strip, Metaspace; none joins the tokens with spaces.
 * There is one path: decoding a list is pushing its tokens and ending. */
#ifndef GRAFT_TEXT_DECODE_H
#define GRAFT_TEXT_DECODE_H
#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include <stdint.h>

typedef struct decoder decoder; /* read-only once loaded */

int decoder_load(json_t *node, decoder **out, graft_error *err);
void decoder_free(decoder *d);

typedef struct decoding decoding; /* belongs to one thread */
decoding *decoding_new(const decoder *d);

/* Appends to `out` what is certain by now: whole characters that no later token can change. */
int decoding_push(decoding *d, const char *token, int64_t length, strbuf *out, graft_error *err);
int decoding_end(decoding *d, strbuf *out, graft_error *err); /* the rest; `d` is at its beginning again */
void decoding_free(decoding *d);

#endif
