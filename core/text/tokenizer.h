/* tokenizer — text to token ids and back, exactly as the Hugging Face library `tokenizers` (0.23) reads tokenizer.json.
 *
 * Steps of encoding (specs: the file's own components, in this order):
 *   added tokens in the raw text | per remaining piece: normalizer, added tokens in the normalized text,
 *   pre-tokenizer, model (BPE or Unigram) | post-processor (begin and end tokens, trimmed offsets).
 * Components that graft does not have are refused by their type name when the file is loaded.
 *
 * Threads: a tokenizer is read-only after loading and may be shared; an encoding and a stream belong to one thread. */
#ifndef GRAFT_TEXT_TOKENIZER_H
#define GRAFT_TEXT_TOKENIZER_H
#include "base/error.h"
#include "base/memory.h"
#include <stdint.h>

typedef struct tokenizer tokenizer;

/* Reads FOLDER/tokenizer.json, or the file itself. Nothing else is read: truncation and padding of the file are ignored.
 * *out is owned by the caller. Errors name the file, the component and what is wrong with it. */
int tokenizer_load(const char *folder_or_file, tokenizer **out, graft_error *err);
void tokenizer_free(tokenizer *t); /* t may be NULL */

/* One more than the largest id: every id that encoding can give is below this. */
int64_t tokenizer_vocab_size(const tokenizer *t);

/* The id of a token string (added tokens first, then the vocabulary), -1 when there is none. */
int32_t tokenizer_id(const tokenizer *t, const char *token, int64_t length);

/* The token string of an id as the file spells it ("Ġworld", "▁a", "<0x0A>"), borrowed from t, NUL behind it;
 * NULL for an id without a token. `length` may be NULL. */
const char *tokenizer_token(const tokenizer *t, int32_t id, int64_t *length);

/* Whether the file calls the token special. Decoding with skip_special drops it, except (as in the reference) a token that
 * is looked for in normalized text and whose normalized form is not the content of a special token. */
int tokenizer_is_special(const tokenizer *t, int32_t id);

typedef struct {
    const char *content; /* borrowed from the tokenizer */
    int64_t length;
    int32_t id;
    int special, single_word, lstrip, rstrip, normalized;
} tokenizer_added;

/* Added tokens in the order of the file, each content once; `index` from 0 to tokenizer_added_count - 1. */
int64_t tokenizer_added_count(const tokenizer *t);
const tokenizer_added *tokenizer_added_at(const tokenizer *t, int64_t index);

/* The result of encoding. {0} is empty and valid. It is meant to be used again and again: buffers and the cache of words
 * grow with use. An encoding serves one tokenizer; with another one its cache starts anew, and it must not outlive the
 * tokenizer it served last unless it is only freed. */
typedef struct {
    int32_t *ids;
    int64_t *begin, *end; /* bytes of the text, end exclusive; 0, 0 for tokens that the post-processor added */
    int64_t count;
    int64_t capacity;
    struct tokenizer_state *state; /* private */
} tokenizer_encoding;

/* Replaces the contents of `e`. Text is at most 256 MiB. Invalid UTF-8 is read as if each maximal ill-formed part were
 * one U+FFFD; offsets point into the text as given. `add_special`: whether the post-processor adds its tokens.
 * Offsets are those of the reference: tokens that share the bytes of one character share its range, ranges of
 * byte-level tokens are trimmed where the file asks for it, text swallowed by an added token belongs to that token. */
int tokenizer_encode(const tokenizer *t, const char *text, int64_t length, int add_special, tokenizer_encoding *e,
                     graft_error *err);

/* Turns begin and end from bytes into characters (code points), the unit of the reference. `text` as it was encoded. */
void tokenizer_encoding_characters(tokenizer_encoding *e, const char *text, int64_t length);
void tokenizer_encoding_free(tokenizer_encoding *e); /* leaves {0} */

/* Appends the text of n ids to `out`. Ids without a token are skipped, as in the reference. The result is valid UTF-8:
 * broken byte runs become U+FFFD. */
int tokenizer_decode(const tokenizer *t, const int32_t *ids, int64_t n, int skip_special, strbuf *out,
                     graft_error *err);

/* Decoding one id at a time. What all pushes and the end append, joined, is what tokenizer_decode gives for the same ids;
 * nothing appended ends inside a character. The end leaves the stream at its beginning. */
typedef struct tokenizer_stream tokenizer_stream;
tokenizer_stream *tokenizer_stream_new(const tokenizer *t, int skip_special); /* owned by the caller */
int tokenizer_stream_push(tokenizer_stream *s, int32_t id, strbuf *out, graft_error *err);
int tokenizer_stream_end(tokenizer_stream *s, strbuf *out, graft_error *err);
void tokenizer_stream_free(tokenizer_stream *s); /* s may be NULL */

#endif
