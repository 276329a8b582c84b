/* samples — from the parts of a record to token ids and labels, and how those too long are cut.
 *
 * A record of messages is a conversation: text/mask.h says what of it is trained on. Its parts are joined to one JSON text; a
 * completion behind them is the answer, and all in front of it the prompt. For any other record:
 *
 * The parts are encoded as one text, so tokens are those that a model will see. A token is trained on when its first byte
 * lies in a part that is: a completion, or a text in a record without a completion. Tokens that the tokenizer puts in
 * front (BOS) never are; the end token that is written behind is, else the model would not learn to stop. A BOS that stands
 * in the text already is not doubled. Threads: an encoder serves one at a time. */
#ifndef GRAFT_TEXT_SAMPLES_H
#define GRAFT_TEXT_SAMPLES_H
#include "text/ends.h"
#include "text/mask.h"
#include "text/source.h"
#include "text/tokenizer.h"

enum { SAMPLE_NO_LABEL = -100 };

/* What is done with a record that is longer than max_length. */
enum { SAMPLE_CUT_RIGHT, SAMPLE_CUT_LEFT, SAMPLE_DROP, SAMPLE_SPLIT, SAMPLE_CUT_MIDDLE };

typedef struct {
    const tokenizer *words; /* borrowed */
    text_ends ends;
    int64_t max_length; /* tokens, at least 1 */
    int32_t truncation; /* SAMPLE_CUT_RIGHT ... */
    int32_t write_end;  /* 1: a record that ends with something trained on gets an end token */
    int32_t train_on;   /* TRAIN_ASSISTANT ...: of conversations; TRAIN_ALL also of prompts  */
    const chat *chat;   /* borrowed; NULL: records of messages are refused, as `no_chat` says */
    const char *no_chat;
    int32_t skip_bad; /* 1: records that cannot be read are left out and counted           */
    int32_t unknown;  /* id of the token for what the vocabulary lacks, -1: none           */
} sample_rules;

/* A whole record. {0} is empty and valid; meant to be used again and again. */
typedef struct {
    int32_t *ids, *labels; /* (count) labels are not shifted */
    int64_t *begin, *end;  /* (count) bytes of the text; 0, 0: a token that does not stand in it */
    int64_t count, capacity;
    const char *text; /* what was encoded; borrowed from record and encoder until the next call */
    int64_t length;
    int64_t lead;        /* tokens in front that every piece of the record begins with                        */
    int32_t straddles;   /* 1: a token begins in front of a trained part and ends in it; it is not trained on */
    int32_t is_chat;     /* 1: a conversation                                                                 */
    int32_t is_pair;     /* 1: prompt and completion                                                          */
    int32_t fell_back;   /* 1: its prompt is no prefix of it, so that the last answer's text is trained on    */
    int32_t doubled_bos; /* 1: two BOS tokens in front                                                        */
} text_sample;

typedef struct sample_encoder sample_encoder;

int sample_encoder_new(const sample_rules *rules, sample_encoder **out, graft_error *err); /* owned by the caller */
void sample_encoder_free(sample_encoder *e);                                               /* e may be NULL */
/* Replaces the contents of `out`. A record without text gives 0 tokens. */
int sample_encode(sample_encoder *e, const text_record *r, text_sample *out, graft_error *err);
void sample_free(text_sample *s); /* and leaves {0} */

/* ---- cutting: pure ---- */

/* How many pieces of at most `most` tokens become of `count` tokens, of which `lead` in front stand in each: 0 or 1, or any
 * number by SAMPLE_SPLIT. */
int64_t sample_pieces(int32_t truncation, int64_t count, int64_t lead, int64_t most);
/* Tokens 0 .. front - 1 and begin .. end - 1 of a record. */
typedef struct {
    int64_t front, begin, end;
    int32_t gap; /* 1: the middle between them was cut out, so the first token behind it is not learned */
} sample_cut;
/* Piece `piece`. In front are the lead and, where the middle is cut, half of what is kept (the larger one). */
sample_cut sample_piece(int32_t truncation, int64_t count, int64_t lead, int64_t most, int64_t piece);

static inline int64_t sample_cut_tokens(const sample_cut *c) {
    return c->front + c->end - c->begin;
}
/* Which token of the record is token i of the piece, and its label. */
static inline int64_t sample_cut_at(const sample_cut *c, int64_t i) {
    return i < c->front ? i : c->begin + i - c->front;
}
static inline int32_t sample_cut_label(const sample_cut *c, const int32_t *labels, int64_t i) {
    return c->gap && i == c->front ? SAMPLE_NO_LABEL : labels[sample_cut_at(c, i)];
}
/* Labels that are predicted from a token before them: those that are set, without the first. */
int64_t sample_targets(const int32_t *labels, int64_t count);

#endif
