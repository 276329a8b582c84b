/* token-model — the model of tokenizer.json: what turns one piece of text into tokens. Types: BPE, Unigram. */
#ifndef GRAFT_TEXT_TOKEN_MODEL_H
#define GRAFT_TEXT_TOKEN_MODEL_H
#include "base/error.h"
#include "base/json.h"
#include "text/jsonscan.h"
#include "text/vocab.h"
#include <stdint.h>

/* A token and the bytes of the word that it stands for. */
typedef struct {
    int32_t id, begin, end;
} word_token;
typedef struct {
    word_token *items;
    int64_t count, capacity;
} word_tokens;
void word_tokens_add(word_tokens *t, int32_t id, int64_t begin, int64_t end);

/* Memory of the models, one per thread. {0} is empty and valid. */
typedef struct {
    struct bpe_symbol *symbols;
    struct bpe_merge *heap;
    struct unigram_node *nodes;
    int64_t symbol_count, symbol_capacity, heap_count, heap_capacity, node_capacity;
    word_tokens path;
    strbuf text;
} model_scratch;
void model_scratch_free(model_scratch *s);

typedef struct token_model token_model; /* read-only once loaded */

/* The two long lists of the model, read where they stand in the file; absent ones are {NULL, NULL}. */
typedef struct {
    jsonscan vocab, merges;
} token_lists;

/* `node` has what else the model says. The lists are read in passing and can be thrown away after that. */
int token_model_load(const json_t *node, token_lists lists, token_model **out, graft_error *err);
void token_model_free(token_model *m);
const vocab *token_model_vocab(const token_model *m);

/* Adds the tokens of a word to `out`, their ranges counted from the begin of the word. */
int token_model_encode(const token_model *m, model_scratch *s, const char *word, int64_t length, word_tokens *out,
                       graft_error *err);

/* Where the word may be cut so that its parts, encoded apart, give the tokens of the whole: an end > begin, `length` when
 * it may not be cut. Not for models that look the whole word up first. */
int64_t token_model_cut(const token_model *m, const char *word, int64_t begin, int64_t length);

#endif
