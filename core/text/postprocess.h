/* postprocess — the post-processor of tokenizer.json: begin and end tokens, and offsets without white space.
 *
 * Types: Sequence, TemplateProcessing, ByteLevel, RobertaProcessing, BertProcessing. */
#ifndef GRAFT_TEXT_POSTPROCESS_H
#define GRAFT_TEXT_POSTPROCESS_H
#include "base/error.h"
#include "base/json.h"
#include "text/vocab.h"
#include <stdint.h>

/* A token of the text. lead and trail: how many white space characters its string begins and ends with, -1: those of its
 * string in the vocabulary (an added token's string is what it matched). */
typedef struct {
    int32_t id, begin, end, lead, trail;
} text_token;
typedef struct {
    text_token *items;
    int64_t count, capacity;
} text_tokens;

typedef struct postprocessor postprocessor; /* read-only once loaded */

int postprocessor_load(json_t *node, postprocessor **out, graft_error *err); /* null gives one that adds nothing */
void postprocessor_free(postprocessor *p);
int64_t postprocessor_ids(const postprocessor *p); /* one more than the largest id that it adds, 0 without any */
int postprocessor_trims(const postprocessor *p);   /* whether lead and trail are looked at */

/* Replaces `tokens`, which were found in the valid UTF-8 `text`; `other` is memory for the next use. */
void postprocessor_run(const postprocessor *p, const vocab *words, const char *text, int add_special,
                       text_tokens *tokens, text_tokens *other);

/* White space characters, and U+0120 for the byte-level space, that a string begins and ends with. */
void postprocessor_spaces(const char *text, int64_t length, int32_t *lead, int32_t *trail);

#endif
