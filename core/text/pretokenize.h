/* pretokenize — the pre-tokenizer of tokenizer.json: cuts text into the pieces that the model sees one by one.
 *
 * Types: Sequence, Split (every behavior, invert), ByteLevel, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit.
 * All are made of three steps: split at a pattern, put a character in front, and map bytes to characters. */
#ifndef GRAFT_TEXT_PRETOKENIZE_H
#define GRAFT_TEXT_PRETOKENIZE_H
#include "base/error.h"
#include "base/json.h"
#include "text/text-workspace.h"
#include "text/utf8.h"

/* The inside of a class: word characters of the reference's language. Joiners count, other numbers do not. */
#define PRETOKENIZER_WORDS                                                                                             \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}" \
    "\\x{1F170}-\\x{1F189}"

typedef struct pretokenizer pretokenizer; /* read-only once loaded */

int pretokenizer_load(json_t *node, pretokenizer **out, graft_error *err); /* null gives one that cuts nothing */
void pretokenizer_free(pretokenizer *p);

/* Takes away a last step that maps bytes to characters and returns 1, or returns 0 when the last step is another: the
 * caller then maps the words that its cache does not know. */
int pretokenizer_leave_bytes(pretokenizer *p);

/* Replaces *v by the text it is cut from and sets *cut to its pieces, both held by w until the next run. */
int pretokenizer_run(const pretokenizer *p, text_workspace *w, view *v, const pieces **cut, graft_error *err);

/* The byte that a character stands for in byte-level vocabularies, -1 for a character that stands for none. */
int pretokenizer_byte_of(uint32_t code);

/* Byte b as the character that byte-level vocabularies write for it: one or two bytes of UTF-8, and their number. */
int pretokenizer_byte(unsigned char b, char out[UTF8_MAX]);

#endif
