/* bpe — see bpe.h.
 *
 * Two things make it quick. A pair is looked up by its two ids in a hash table. And a word is cut before it is merged:
 * where the last character of no merge's left side meets the first character of its right side, no merge can ever cross,
 * so the parts are independent; a text whose spaces are part of its words falls into words. */
#include "text/bpe.h"
#include "base/memory.h"
#include "text/hash.h"
#include "text/utf8.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t left, right; /* ids */
    int32_t rank;        /* -1: the slot is free */
    int32_t made;        /* id of the merged symbol */
} merge_slot;

enum { PLANE = 0x10000, JOIN_BITS = 1 << 21 };

struct bpe {
    const vocab *words;
    merge_slot *merges;
    uint64_t mask;
    int32_t characters[PLANE]; /* ids of the tokens of one character, -1: none */
    int32_t bytes[256];        /* ids of <0x00> ... <0xFF>, -1: none */
    uint64_t *joins;           /* one bit for the hash of every two characters that meet in a merge */
    strbuf prefix, suffix;     /* of symbols that do not begin, and of the one that ends a word */
    char *unknown_text;        /* unk_token, NULL: unknown characters are dropped */
    int32_t unknown;
    int fuse_unknown, byte_fallback, look_up_words, cuts;
};

struct bpe_symbol {
    int32_t id, length;
    int32_t previous, next; /* -1: none */
    int32_t made;           /* what it makes with the next one, -1: nothing */
};
struct bpe_merge {
    uint64_t order; /* rank, then place */
    int32_t made;
};

/* ---- loading ---- */

static uint64_t pair_hash(int32_t left, int32_t right) {
    return hash_mix((uint64_t)(uint32_t)left << 32, (uint32_t)right);
}

static merge_slot *merge_of(const bpe *b, int32_t left, int32_t right) {
    uint64_t slot = pair_hash(left, right) & b->mask;
    while (b->merges[slot].rank >= 0 && (b->merges[slot].left != left || b->merges[slot].right != right))
        slot = (slot + 1) & b->mask;
    return &b->merges[slot];
}

static uint64_t join_bit(uint32_t left, uint32_t right) {
    return hash_mix((uint64_t)left << 32, right) & (JOIN_BITS - 1);
}

/* Notes that the last character of `left` and the first of `right` meet in a merge. */
static void note_join(bpe *b, const char *left, int64_t left_length, const char *right, int64_t right_length) {
    int64_t at = left_length - 1;
    while (at > 0 && utf8_continues(left[at]))
        at--;
    uint32_t last, first;
    utf8_decode(left + at, left_length - at, &last);
    utf8_decode(right, right_length, &first);
    const uint64_t bit = join_bit(last, first);
    b->joins[bit / 64] |= 1ull << bit % 64;
}

static int load_vocab(json_t *node, vocab *words, graft_error *err) {
    json_t *const list = json_object_get(node, "vocab");
    if (!json_is_object(list)) return fail(err, GRAFT_FAILED, "the model BPE has no object \"vocab\"");
    const char *text;
    json_t *value;
    int64_t count = 0;
    json_object_foreach(list, text, value) {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= VOCAB_IDS)
            return fail(err, GRAFT_FAILED, "the id of the token \"%s\" has to be a whole number below %d", text,
                        VOCAB_IDS);
        if (id >= count) count = id + 1;
    }
    vocab_reserve(words, count, (int64_t)json_object_size(list));
    json_object_foreach(list, text, value) {
        const int32_t id = (int32_t)json_integer_value(value);
        if (vocab_put(words, id, text, (int64_t)strlen(text)))
            return fail(err, GRAFT_FAILED, "the tokens \"%s\" and \"%s\" have the same id %d", words->tokens[id].text,
                        text, id);
    }
    return 0;
}

/* One merge: "a b" or ["a", "b"]. The texts are borrowed. 1: a comment, to be skipped. */
static int read_merge(const json_t *item, size_t index, const char *part[2], int64_t length[2], graft_error *err) {
    if (json_is_string(item)) {
        const char *const text = json_string_value(item), *const space = strchr(text, ' ');
        const size_t n = json_string_length(item);
        if (strncmp(text, "#version", 8) == 0) return 1;
        if (space && !memchr(space + 1, ' ', n - (size_t)(space + 1 - text))) {
            part[0] = text, length[0] = space - text;
            part[1] = space + 1, length[1] = (int64_t)n - length[0] - 1;
            return 0;
        }
    } else if (json_array_size(item) == 2 && json_is_string(json_array_get(item, 0)) &&
               json_is_string(json_array_get(item, 1))) {
        for (size_t i = 0; i < 2; i++) {
            part[i] = json_string_value(json_array_get(item, i));
            length[i] = (int64_t)json_string_length(json_array_get(item, i));
        }
        return 0;
    }
    fail(err, GRAFT_FAILED, "merge %zu has to be two tokens, \"a b\" or [\"a\", \"b\"]", index);
    return -1;
}

/* `joined` is memory for the text of the merged symbol. */
static int add_merge(bpe *b, int32_t rank, size_t index, const char *part[2], const int64_t length[2], strbuf *joined,
                     graft_error *err) {
    int32_t ids[2];
    for (int i = 0; i < 2; i++) {
        ids[i] = vocab_find(b->words, part[i], length[i]);
        if (ids[i] < 0 || !length[i])
            return fail(err, GRAFT_FAILED, "merge %zu: the token \"%.*s\" is not in the vocabulary", index,
                        (int)length[i], part[i]);
    }
    const int64_t skip = (int64_t)b->prefix.length;
    if (length[1] < skip) return fail(err, GRAFT_FAILED, "merge %zu: \"%s\" lacks the subword prefix", index, part[1]);
    joined->length = 0;
    strbuf_add(joined, part[0], (size_t)length[0]);
    strbuf_add(joined, part[1] + skip, (size_t)(length[1] - skip));
    const int32_t made = vocab_find(b->words, joined->text, (int64_t)joined->length);
    if (made < 0)
        return fail(err, GRAFT_FAILED, "merge %zu: its result \"%s\" is not in the vocabulary", index, joined->text);
    *merge_of(b, ids[0], ids[1]) = (merge_slot){ids[0], ids[1], rank, made}; /* of duplicates the last one counts */
    note_join(b, part[0], length[0], part[1], length[1]);
    return 0;
}

static int load_merges(bpe *b, const json_t *node, graft_error *err) {
    const json_t *const list = json_object_get(node, "merges");
    if (!json_is_array(list)) return fail(err, GRAFT_FAILED, "the model BPE has no list \"merges\"");
    const size_t count = json_array_size(list);
    if (count > INT_MAX / 4) return fail(err, GRAFT_FAILED, "the model BPE has too many merges");
    uint64_t slots = 64;
    while (slots * 2 < count * 3)
        slots *= 2;
    b->merges = mem_new(slots, sizeof *b->merges);
    memset(b->merges, 0xFF, slots * sizeof *b->merges);
    b->mask = slots - 1;
    b->joins = mem_new(JOIN_BITS / 64, sizeof *b->joins);
    strbuf joined = {0};
    int32_t rank = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        const char *part[2];
        int64_t length[2];
        const int kind = read_merge(json_array_get(list, i), i, part, length, err);
        if (kind == 0) rc = add_merge(b, rank++, i, part, length, &joined, err);
        if (kind < 0) rc = GRAFT_FAILED;
    }
    strbuf_free(&joined);
    return rc;
}

static int load_affix(const json_t *node, const char *key, strbuf *out, graft_error *err) {
    const char *text;
    const int rc = json_get_text(node, "the model BPE", key, "", &text, err);
    if (!rc) strbuf_puts(out, text);
    return rc;
}

static int load_settings(bpe *b, const json_t *node, graft_error *err) {
    const char *const what = "the model BPE";
    const char *unknown;
    double dropout;
    int rc = json_get_real(node, what, "dropout", 0, &dropout, err);
    if (!rc && dropout != 0)
        rc = fail(err, GRAFT_FAILED, "%s: \"dropout\" is %g, but ids must not depend on chance (set it to null)", what,
                  dropout);
    if (!rc) rc = json_get_text(node, what, "unk_token", NULL, &unknown, err);
    if (!rc) rc = json_get_bool(node, what, "fuse_unk", 0, &b->fuse_unknown, err);
    if (!rc) rc = json_get_bool(node, what, "byte_fallback", 0, &b->byte_fallback, err);
    if (!rc) rc = json_get_bool(node, what, "ignore_merges", 0, &b->look_up_words, err);
    if (!rc) rc = load_affix(node, "continuing_subword_prefix", &b->prefix, err);
    if (!rc) rc = load_affix(node, "end_of_word_suffix", &b->suffix, err);
    if (rc) return rc;
    if (unknown) {
        b->unknown_text = mem_copy_text(unknown);
        b->unknown = vocab_find(b->words, unknown, (int64_t)strlen(unknown));
    }
    return 0;
}

/* Tables of what single characters and bytes are, and whether words may be cut: never with affixes, which depend on the
 * place in the word, nor where characters may be dropped, which moves the offsets of all that follow in the word. */
static void prepare(bpe *b) {
    memset(b->characters, 0xFF, sizeof b->characters);
    for (int64_t id = 0; id < b->words->count; id++) {
        const vocab_token *const t = &b->words->tokens[id];
        uint32_t code;
        if (t->text && t->length && utf8_decode(t->text, t->length, &code) == t->length && code < PLANE)
            b->characters[code] = (int32_t)id;
    }
    int all = 1;
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        b->bytes[i] = vocab_find(b->words, name, 6);
        all &= b->bytes[i] >= 0;
    }
    b->cuts = !b->prefix.length && !b->suffix.length && (b->unknown >= 0 || (b->byte_fallback && all));
}

int bpe_load(json_t *node, vocab *words, bpe **out, graft_error *err) {
    bpe *const b = mem_new(1, sizeof *b);
    *out = NULL;
    b->words = words;
    b->unknown = -1;
    int rc = load_vocab(node, words, err);
    if (!rc) rc = load_settings(b, node, err);
    if (!rc) rc = load_merges(b, node, err);
    if (rc) {
        bpe_free(b);
        return rc;
    }
    prepare(b);
    *out = b;
    return 0;
}

void bpe_free(bpe *b) {
    if (!b) return;
    free(b->merges);
    free(b->joins);
    free(b->unknown_text);
    strbuf_free(&b->prefix);
    strbuf_free(&b->suffix);
    free(b);
}

int bpe_looks_up_words(const bpe *b) {
    return b->look_up_words;
}

/* ---- encoding ---- */

static int32_t character_id(const bpe *b, const char *bytes, int size, uint32_t code) {
    return code < PLANE ? b->characters[code] : vocab_find(b->words, bytes, size);
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
            const uint64_t bit = join_bit(last, code);
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
    const merge_slot *const m = merge_of(b, left->id, s->symbols[left->next].id);
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
