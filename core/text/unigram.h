/* unigram — the unigram language model of SentencePiece: Kudo, 2018, arXiv:1804.10959, as `tokenizers` runs it.
 *
 * The tokens of a word are the pieces that cover it with the largest sum of scores. */
#ifndef GRAFT_TEXT_UNIGRAM_H
#define GRAFT_TEXT_UNIGRAM_H
#include "text/token-model.h"

typedef struct unigram unigram;

int unigram_load(const json_t *node, jsonscan pieces, vocab *words, unigram **out, graft_error *err);
void unigram_free(unigram *u);
int unigram_encode(const unigram *u, model_scratch *s, const char *word, int64_t length, word_tokens *out,
                   graft_error *err);

#endif
