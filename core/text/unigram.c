/* unigram — see unigram.h. */
#include "text/unigram.h"
#include "base/memory.h"
#include "text/trie.h"
#include "text/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN_PENALTY 10.0 /* below the lowest score: what a character without a piece costs */

struct unigram {
    const vocab *words;
    trie pieces;
    double *scores;
    int64_t count;
    double unknown_score;
    int32_t unknown; /* -1: none */
    int32_t bytes[256];
    int byte_fallback;
};

/* The best way from the begin of the word to a byte of it. */
struct unigram_node {
    double score;
    int32_t id, from; /* the last token of that way and where it begins, -1: no way yet */
};

/* Of equal pieces the last one counts, as in the reference. */
static int add_piece(unigram *u, vocab *words, const char *text, int64_t length, double score, graft_error *err) {
    const int64_t id = u->count++;
    vocab_put_again(words, (int32_t)id, text, length);
    u->scores[id] = score;
    return length ? trie_add(&u->pieces, text, length, (int32_t)id, err) : 0;
}

/* How many pieces the list has, so that room can be made; what is damaged is found by reading. */
static int64_t count_pieces(jsonscan s) {
    int64_t count = 0;
    for (int first = 1; jsonscan_next(&s, ']', &first) > 0 && jsonscan_skip(&s);)
        count++;
    return count;
}

/* The list of [text, score]. Scores are read as the reference reads them: their last bits decide between ways of equal score
 * (which of the pieces of a run of spaces is the short one). */
static int load_pieces(unigram *u, jsonscan list, vocab *words, graft_error *err) {
    const int64_t count = jsonscan_byte(&list, '[') ? count_pieces(list) : -1;
    if (count < 0 || count >= VOCAB_IDS)
        return fail(err, GRAFT_FAILED, "the model Unigram has no list \"vocab\" of fewer than %d pieces", VOCAB_IDS);
    vocab_reserve(words, count, count);
    u->scores = mem_new((size_t)count + 1, sizeof *u->scores);
    double lowest = count ? 1e300 : 0;
    int first = 1, more;
    while ((more = jsonscan_next(&list, ']', &first)) > 0 && u->count < count) {
        const char *text;
        int64_t length;
        jsonscan_number n;
        double score = 0;
        const int read = jsonscan_byte(&list, '[') && jsonscan_string(&list, &text, &length) &&
                         jsonscan_byte(&list, ',') && jsonscan_take_number(&list, &n) && jsonscan_byte(&list, ']');
        if (read) score = jsonscan_real(&n);
        if (!read || !isfinite(score))
            return fail(err, GRAFT_FAILED, "piece %lld of the model Unigram has to be [text, score]",
                        (long long)u->count);
        if (add_piece(u, words, text, length, score, err)) return err->code;
        if (score < lowest) lowest = score;
    }
    u->unknown_score = lowest - UNKNOWN_PENALTY;
    return more ? fail(err, GRAFT_FAILED, "the \"vocab\" of the model Unigram is damaged") : GRAFT_OK;
}

int unigram_load(const json_t *node, jsonscan pieces, vocab *words, unigram **out, graft_error *err) {
    unigram *const u = mem_new(1, sizeof *u);
    int64_t unknown;
    *out = NULL;
    u->words = words;
    int rc = load_pieces(u, pieces, words, err);
    if (!rc) rc = json_get_bool(node, "the model Unigram", "byte_fallback", 0, &u->byte_fallback, err);
    if (!rc) rc = json_get_int(node, "the model Unigram", "unk_id", -1, &unknown, err);
    if (!rc && (unknown < -1 || unknown >= words->count))
        rc = fail(err, GRAFT_FAILED, "the model Unigram: \"unk_id\" %lld is not among its %lld pieces",
                  (long long)unknown, (long long)words->count);
    if (rc) {
        unigram_free(u);
        return rc;
    }
    u->unknown = (int32_t)unknown;
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        u->bytes[i] = vocab_find(words, name, 6);
    }
    *out = u;
    return 0;
}

void unigram_free(unigram *u) {
    if (!u) return;
    trie_free(&u->pieces);
    free(u->scores);
    free(u);
}

/* Whether the node was reached with a better score than before. */
static int reach(struct unigram_node *node, double score, int32_t id, int64_t from) {
    if (node->from >= 0 && score <= node->score) return 0;
    *node = (struct unigram_node){score, id, (int32_t)from};
    return 1;
}

/* Viterbi: the best way to every place of the word, from left to right. */
static int find_ways(const unigram *u, model_scratch *s, const char *word, int64_t length, graft_error *err) {
    if (s->node_capacity < length + 1) {
        s->node_capacity = 2 * length + 64;
        s->nodes = mem_grow(s->nodes, (size_t)s->node_capacity, sizeof *s->nodes);
    }
    for (int64_t i = 0; i <= length; i++)
        s->nodes[i] = (struct unigram_node){0, -1, -1};
    for (int64_t at = 0; at < length;) {
        const int size = utf8_size(word[at]);
        const double score = s->nodes[at].score;
        int single = 0;
        int32_t node = 0;
        for (int64_t end = at; end < length && u->pieces.nodes;) {
            node = trie_step(&u->pieces, node, (unsigned char)word[end++]);
            if (!node) break;
            const int32_t id = u->pieces.values[node];
            if (id < 0) continue;
            reach(&s->nodes[end], score + u->scores[id], id, at);
            single |= end == at + size;
        }
        if (!single && reach(&s->nodes[at + size], score + u->unknown_score, u->unknown, at) && u->unknown < 0)
            return fail(err, GRAFT_FAILED, "the text has a character without a piece, and \"unk_id\" is not set");
        at += size;
    }
    return 0;
}

/* Adds what the bytes begin..end become: their piece, the bytes one by one, or the unknown token. */
static void add_part(const unigram *u, const char *word, int64_t begin, int64_t end, word_tokens *out) {
    const int32_t id = vocab_find(u->words, word + begin, end - begin);
    if (id >= 0) {
        word_tokens_add(out, id, begin, end);
        return;
    }
    int bytes = u->byte_fallback;
    for (int64_t i = begin; bytes && i < end; i++)
        bytes = u->bytes[(unsigned char)word[i]] >= 0;
    for (int64_t i = begin; bytes && i < end; i++)
        word_tokens_add(out, u->bytes[(unsigned char)word[i]], begin, end);
    if (!bytes) word_tokens_add(out, u->unknown, begin, end);
}

int unigram_encode(const unigram *u, model_scratch *s, const char *word, int64_t length, word_tokens *out,
                   graft_error *err) {
    const int rc = find_ways(u, s, word, length, err);
    if (rc) return rc;
    s->path.count = 0; /* the tokens of the best way, the last one first; unknown neighbours as one */
    for (int64_t end = length; end > 0; end = s->nodes[end].from) {
        const struct unigram_node *const n = &s->nodes[end];
        word_token *const later = s->path.count ? &s->path.items[s->path.count - 1] : NULL;
        if (later && n->id == u->unknown && later->id == u->unknown)
            later->begin = n->from;
        else
            word_tokens_add(&s->path, n->id, n->from, end);
    }
    for (int64_t i = s->path.count - 1; i >= 0; i--)
        add_part(u, word, s->path.items[i].begin, s->path.items[i].end, out);
    return 0;
}
