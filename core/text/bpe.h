/* bpe — byte pair encoding: Sennrich et al., 2016, arXiv:1508.07909, as `tokenizers` runs it.
 *
 * A word begins as its characters; then the adjacent pair of lowest rank, the leftmost among equals, becomes one symbol,
 * until no pair has a rank. A heap of candidate pairs makes that O(n log n): words can be whole texts. */
#ifndef GRAFT_TEXT_BPE_H
#define GRAFT_TEXT_BPE_H
#include "text/token-model.h"

typedef struct bpe bpe;

/* `words` outlives the model; it is filled from the file's vocab. */
int bpe_load(const json_t *node, token_lists lists, vocab *words, bpe **out, graft_error *err);
void bpe_free(bpe *b);
int bpe_encode(const bpe *b, model_scratch *s, const char *word, int64_t length, word_tokens *out, graft_error *err);
int64_t bpe_cut(const bpe *b, const char *word, int64_t begin, int64_t length);
int bpe_looks_up_words(const bpe *b); /* ignore_merges */

#endif
