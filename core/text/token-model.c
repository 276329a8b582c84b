/* token-model — see token-model.h. */
#include "text/token-model.h"
#include "text/bpe.h"
#include "text/component.h"
#include "text/unigram.h"
#include <stdlib.h>
#include <string.h>

struct token_model {
    vocab words;
    bpe *bpe; /* one of the two */
    unigram *unigram;
};

void word_tokens_add(word_tokens *t, int32_t id, int64_t begin, int64_t end) {
    mem_reserve(t->items, t->count, t->capacity);
    t->items[t->count++] = (word_token){id, (int32_t)begin, (int32_t)end};
}

void model_scratch_free(model_scratch *s) {
    free(s->symbols);
    free(s->heap);
    free(s->nodes);
    free(s->path.items);
    strbuf_free(&s->text);
    *s = (model_scratch){0};
}

int token_model_load(const json_t *node, token_lists lists, token_model **out, graft_error *err) {
    const char *type;
    *out = NULL;
    if (!json_is_object(node)) return fail(err, GRAFT_FAILED, "it has no object \"model\"");
    int rc = json_get_text(node, "the model", "type", NULL, &type, err);
    if (rc) return rc;
    if (!type) type = lists.merges.at ? "BPE" : "Unigram"; /* old files leave it out */
    token_model *const m = mem_new(1, sizeof *m);
    if (strcmp(type, "BPE") == 0)
        rc = bpe_load(node, lists, &m->words, &m->bpe, err);
    else if (strcmp(type, "Unigram") == 0)
        rc = unigram_load(node, lists.vocab, &m->words, &m->unigram, err);
    else
        rc = component_unknown("model", type, "BPE and Unigram", err);
    if (rc)
        token_model_free(m);
    else
        *out = m;
    return rc;
}

void token_model_free(token_model *m) {
    if (!m) return;
    bpe_free(m->bpe);
    unigram_free(m->unigram);
    vocab_free(&m->words);
    free(m);
}

const vocab *token_model_vocab(const token_model *m) {
    return &m->words;
}

int token_model_encode(const token_model *m, model_scratch *s, const char *word, int64_t length, word_tokens *out,
                       graft_error *err) {
    if (!length) return 0;
    return m->bpe ? bpe_encode(m->bpe, s, word, length, out, err)
                  : unigram_encode(m->unigram, s, word, length, out, err);
}

int64_t token_model_cut(const token_model *m, const char *word, int64_t begin, int64_t length) {
    return m->bpe && !bpe_looks_up_words(m->bpe) ? bpe_cut(m->bpe, word, begin, length) : length;
}
