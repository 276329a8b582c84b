/* mask — a conversation as tokens, and which of them are trained on.
 *
 * The conversation is rendered once and encoded once, without the tokenizer's own begin and end tokens: the template writes
 * them. What is trained on are byte ranges (spans) of that text:
 *   templates with {% generation %} tags    what stands inside of them
 *   others                                  what came out of the strings of an assistant message, from behind the header
 *                                           that a generation prompt would write, up to and with the token that ends the
 *                                           turn: the next added token (<|im_end|>, </s>)
 * A token is trained on when its bytes meet a span. Rendering turn by turn is not used to find borders: many templates write
 * an earlier turn otherwise than a last one (specs/models.md D.4). The one exception is TRAIN_COMPLETION: if the ids of all but the
 * last message, with generation prompt, are a prefix of the whole, all behind that prefix is trained on.
 * Threads: a masker serves one at a time; the chat and the tokenizer are borrowed. */
#ifndef GRAFT_TEXT_MASK_H
#define GRAFT_TEXT_MASK_H
#include "text/chat.h"
#include "text/conversation.h"
#include "text/tokenizer.h"

enum {
    TRAIN_ASSISTANT,  /* every answer, with its end of turn                      */
    TRAIN_COMPLETION, /* what follows the prompt: all messages but the last      */
    TRAIN_LAST,       /* the last answer                                         */
    TRAIN_ALL         /* everything but the BOS token                            */
};

typedef struct {
    int64_t begin, end; /* bytes of the text */
} mask_span;

typedef struct masker masker;
int masker_new(const chat *c, const tokenizer *words, masker **out, graft_error *err); /* owned by the caller */
void masker_free(masker *m);                                                           /* NULL allowed */

/* What the last call made; borrowed until the next one. */
typedef struct {
    const char *text;
    int64_t length;
    const int32_t *ids;
    const uint8_t *trained;     /* (count) 1: the token is trained on           */
    const int64_t *begin, *end; /* (count) bytes of the text                    */
    int64_t count;
    const mask_span *spans; /* what is trained on, in order; none when TRAIN_COMPLETION found a prefix */
    int64_t span_count;
    int32_t fell_back; /* 1: TRAIN_COMPLETION, but the prompt is no prefix: the last answer's spans are used */
} masked;

/* The added token with which the template ends an answer; -1: it has none, or cannot write a question with its answer. */
int32_t mask_turn_end(masker *m);

int mask_conversation(masker *m, const json_t *conversation, int32_t train_on, masked *out, graft_error *err);

#endif
