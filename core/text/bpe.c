/* bpe — see bpe.h.
 *
 * Two things make it quick. A pair is looked up by its two ids in a hash table. And a word is cut before it is merged:
 * where the last character of no merge's left side meets the first character of its right side, no merge can ever cross,
 * so the parts are independent; a text whose spaces are part of its words falls into words. */
#include "text/bpe-private.h"
#include "text/utf8.h"
#include <stdlib.h>

struct bpe_symbol {
    int32_t id, length;
    int32_t previous, next; /* -1: none */
    int32_t made;           /* what it makes with the next one, -1: nothing */
};
struct bpe_merge {
    uint64_t order; /* rank, then place */
    int32_t made;
};

int bpe_looks_up_words(const bpe *b) {
    return b->look_up_words;
}

static int32_t character_id(const bpe *b, const char *bytes, int size, uint32_t code) {
    return code < BPE_PLANE ? b->characters[code] : vocab_find(b->words, bytes, size);
}

int64_t bpe_cut(const bpe *b, const char *word, int64_t begin, int64_t length) {
    if (!b->cuts) return length;
    uint32_t last = 0;
    int last_known = 0;
    for (int64_t at = begin; at < length;) {
        uint32_t code;
        const int size = utf8_decode(word + at, length - at, &code);
        const int known = character_id(b, word + at, size, code) >= 0;
        if (known && last_known) {
            const uint64_t bit = bpe_join_bit(last, code);
            if (!(b->joins[bit / 64] >> bit % 64 & 1)) return at;
        }
        last = code;
        last_known = known;
        at += size;
    }
    return length;
}

static void add_symbol(model_scratch *s, int32_t id, int64_t length) {
    mem_reserve(s->symbols, s->symbol_count, s->symbol_capacity);
    s->symbols[s->symbol_count] =
        (struct bpe_symbol){id, (int32_t)length, (int32_t)s->symbol_count - 1, (int32_t)s->symbol_count + 1, -1};
    s->symbol_count++;
}

/* The symbols of the characters begin..end of the word. An unknown one waits until a known one comes (so that it can be
 * fused with others); bytes that stand for a character overtake it. */
static int start_symbols(const bpe *b, model_scratch *s, const char *word, int64_t begin, int64_t end, int64_t length,
                         graft_error *err) {
    const int affixes = b->prefix.length || b->suffix.length;
    int64_t waiting = 0; /* bytes of unknown characters not yet added */
    s->symbol_count = 0;
    for (int64_t at = begin, next; at < end; at = next) {
        uint32_t code;
        const int size = utf8_decode(word + at, end - at, &code);
        next = at + size;
        const char *text = word + at;
        int64_t text_length = size;
        if (affixes) {
            s->text.length = 0;
            if (at > 0) strbuf_add(&s->text, b->prefix.text, b->prefix.length);
            strbuf_add(&s->text, text, (size_t)size);
            if (next == length) strbuf_add(&s->text, b->suffix.text, b->suffix.length);
            text = s->text.text, text_length = (int64_t)s->text.length;
        }
        const int32_t id = affixes ? vocab_find(b->words, text, text_length) : character_id(b, text, size, code);
        if (id >= 0) {
            if (waiting) add_symbol(s, b->unknown, waiting), waiting = 0;
            add_symbol(s, id, size);
            continue;
        }
        int bytes = b->byte_fallback;
        for (int64_t i = 0; bytes && i < text_length; i++)
            bytes = b->bytes[(unsigned char)text[i]] >= 0;
        if (bytes) {
            for (int64_t i = 0; i < text_length; i++)
                add_symbol(s, b->bytes[(unsigned char)text[i]], 1);
            continue;
        }
        if (!b->unknown_text) continue;
        if (b->unknown < 0)
            return fail(err, GRAFT_FAILED, "U+%04X is not in the vocabulary, and neither is the unknown token \"%s\"",
                        code, b->unknown_text);
        if (waiting && !b->fuse_unknown) add_symbol(s, b->unknown, waiting), waiting = 0;
        waiting += size;
    }
    if (waiting) add_symbol(s, b->unknown, waiting);
    return 0;
}

static void push(model_scratch *s, struct bpe_merge m) {
    mem_reserve(s->heap, s->heap_count, s->heap_capacity);
    int64_t at = s->heap_count++;
    for (; at > 0 && s->heap[(at - 1) / 2].order > m.order; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = m;
}

static struct bpe_merge pop(model_scratch *s) {
    const struct bpe_merge top = s->heap[0], last = s->heap[--s->heap_count];
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && s->heap[child + 1].order < s->heap[child].order) child++;
        if (s->heap[child].order >= last.order) break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

/* Puts the pair of symbol `at` and its next one on the heap, if it has a rank. */
static void consider(const bpe *b, model_scratch *s, int32_t at) {
    struct bpe_symbol *const left = &s->symbols[at];
    left->made = -1;
    if (left->next < 0) return;
    const merge_slot *const m = bpe_merge_of(b, left->id, s->symbols[left->next].id);
    if (m->rank < 0) return;
    left->made = m->made;
    push(s, (struct bpe_merge){(uint64_t)m->rank << 32 | (uint32_t)at, m->made});
}

static void merge_symbols(const bpe *b, model_scratch *s) {
    s->heap_count = 0;
    s->symbols[s->symbol_count - 1].next = -1;
    for (int32_t i = 0; i + 1 < s->symbol_count; i++)
        consider(b, s, i);
    while (s->heap_count) {
        const struct bpe_merge m = pop(s);
        const int32_t at = (int32_t)(uint32_t)m.order;
        struct bpe_symbol *const left = &s->symbols[at];
        if (left->made != m.made) continue; /* one of the two has been merged since */
        struct bpe_symbol *const right = &s->symbols[left->next];
        left->id = m.made;
        left->length += right->length;
        left->next = right->next;
        right->made = -1;
        if (left->next >= 0) s->symbols[left->next].previous = at;
        consider(b, s, at);
        if (left->previous >= 0) consider(b, s, left->previous);
    }
}

int bpe_encode(const bpe *b, model_scratch *s, const char *word, int64_t length, word_tokens *out, graft_error *err) {
    if (b->look_up_words) {
        const int32_t id = vocab_find(b->words, word, length);
        if (id >= 0) {
            word_tokens_add(out, id, 0, length);
            return 0;
        }
    }
    int64_t place = 0; /* dropped characters take no place, the bytes of an affix do: as in the reference */
    for (int64_t begin = 0, end; begin < length; begin = end) {
        end = bpe_cut(b, word, begin, length);
        const int rc = start_symbols(b, s, word, begin, end, length, err);
        if (rc) return rc;
        if (!s->symbol_count) continue;
        merge_symbols(b, s);
        for (int32_t i = 0; i >= 0; i = s->symbols[i].next) {
            const int64_t from = place < length ? place : length - 1;
            place += s->symbols[i].length;
            word_tokens_add(out, s->symbols[i].id, from, place < length ? place : length);
        }
    }
    return 0;
}
