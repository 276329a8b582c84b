/* bpe-load — the model BPE of tokenizer.json. A list of half a million merges needs three look-ups each, so merges are read some
 * at a time: the memory of one look-up is fetched while others are prepared. */
#include "text/bpe-private.h"
#include "text/utf8.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 32, MERGES_MOST = 1 << 26 }; /* look-ups under way at once */

/* ---- vocabulary ---- */

typedef struct {
    const char *text;
    int64_t length;
    int32_t id;
} entry;

typedef struct {
    entry *items;
    int64_t count, capacity, ids;
} entries;

static int read_entries(jsonscan *s, entries *e, graft_error *err) {
    int first = 1, more;
    while ((more = jsonscan_next(s, '}', &first)) > 0) {
        entry got = {0};
        jsonscan_number n;
        if (!jsonscan_string(s, &got.text, &got.length) || !jsonscan_byte(s, ':')) break;
        if (!jsonscan_take_number(s, &n) || !n.whole || n.negative || n.significand >= VOCAB_IDS)
            return fail(err, GRAFT_FAILED, "the id of the token \"%.*s\" has to be a whole number below %d",
                        (int)got.length, got.text, VOCAB_IDS);
        got.id = (int32_t)n.significand;
        if (got.id >= e->ids) e->ids = got.id + 1;
        mem_reserve(e->items, e->count, e->capacity);
        e->items[e->count++] = got;
    }
    return more ? fail(err, GRAFT_FAILED, "the \"vocab\" of the model BPE is damaged") : GRAFT_OK;
}

static int load_vocab(jsonscan list, vocab *words, graft_error *err) {
    entries e = {0};
    if (!jsonscan_byte(&list, '{')) return fail(err, GRAFT_FAILED, "the model BPE has no object \"vocab\"");
    if (read_entries(&list, &e, err)) goto done;
    vocab_reserve(words, e.ids, e.count);
    for (int64_t i = 0; i < e.count; i++) {
        const entry *const now = &e.items[i], *const later = now + AHEAD;
        if (i + AHEAD < e.count) vocab_expect(words, vocab_hash(later->text, later->length));
        const int clash = vocab_put(words, now->id, now->text, now->length);
        if (!clash) continue;
        if (clash == 1)
            fail(err, GRAFT_FAILED, "the token \"%.*s\" is there twice", (int)now->length, now->text);
        else
            fail(err, GRAFT_FAILED, "the tokens \"%s\" and \"%.*s\" have the same id %d", words->tokens[now->id].text,
                 (int)now->length, now->text, now->id);
        break;
    }
done:
    free(e.items);
    return err->code;
}

/* ---- merges ---- */

/* One merge, and what it makes inside `joined` of the batch. */
typedef struct {
    const char *part[2];
    int64_t length[2];
    size_t made, made_length;
    uint32_t hash[3]; /* of both parts and of what they make */
    int64_t index;    /* in the file */
} merge_text;

typedef struct {
    merge_text at[AHEAD];
    int count;
    strbuf joined;
} merge_batch;

/* "a b" or ["a", "b"]. 1: a comment, to be skipped; -1: neither. */
static int read_parts(jsonscan *s, merge_text *m) {
    if (jsonscan_byte(s, '['))
        return jsonscan_string(s, &m->part[0], &m->length[0]) && jsonscan_byte(s, ',') &&
                       jsonscan_string(s, &m->part[1], &m->length[1]) && jsonscan_byte(s, ']')
                   ? 0
                   : -1;
    const char *text;
    int64_t length;
    if (!jsonscan_string(s, &text, &length)) return -1;
    if (length >= 8 && memcmp(text, "#version", 8) == 0) return 1;
    const char *const space = memchr(text, ' ', (size_t)length);
    if (!space || memchr(space + 1, ' ', (size_t)(text + length - space - 1))) return -1;
    m->part[0] = text, m->length[0] = space - text;
    m->part[1] = space + 1, m->length[1] = length - m->length[0] - 1;
    return 0;
}

/* Joins the parts and asks for the memory that finding the three texts will need. */
static int prepare_merge(const bpe *b, merge_batch *batch, graft_error *err) {
    merge_text *const m = &batch->at[batch->count];
    const int64_t skip = (int64_t)b->prefix.length;
    if (m->length[1] < skip)
        return fail(err, GRAFT_FAILED, "merge %lld: \"%.*s\" lacks the subword prefix", (long long)m->index,
                    (int)m->length[1], m->part[1]);
    m->made = batch->joined.length;
    strbuf_add(&batch->joined, m->part[0], (size_t)m->length[0]);
    strbuf_add(&batch->joined, m->part[1] + skip, (size_t)(m->length[1] - skip));
    m->made_length = batch->joined.length - m->made;
    for (int i = 0; i < 2; i++)
        m->hash[i] = vocab_hash(m->part[i], m->length[i]);
    m->hash[2] = vocab_hash(batch->joined.text + m->made, (int64_t)m->made_length);
    for (int i = 0; i < 3; i++)
        vocab_expect(b->words, m->hash[i]);
    batch->count++;
    return GRAFT_OK;
}

/* Notes that the last character of the left part and the first of the right one meet. */
static void note_join(bpe *b, const merge_text *m) {
    int64_t at = m->length[0] - 1;
    while (at > 0 && utf8_continues(m->part[0][at]))
        at--;
    uint32_t last, first;
    utf8_decode(m->part[0] + at, m->length[0] - at, &last);
    utf8_decode(m->part[1], m->length[1], &first);
    const uint64_t bit = bpe_join_bit(last, first);
    b->joins[bit / 64] |= 1ull << bit % 64;
}

/* The merges in the order of the file. */
typedef struct {
    merge_slot *items;
    int64_t count, capacity;
} merge_list;

static int add_merge(bpe *b, const merge_text *m, const char *made_text, merge_list *out, graft_error *err) {
    merge_slot got = {.rank = (int32_t)out->count};
    for (int i = 0; i < 2; i++) {
        const int32_t id = vocab_find_hashed(b->words, m->part[i], m->length[i], m->hash[i]);
        if (id < 0 || !m->length[i])
            return fail(err, GRAFT_FAILED, "merge %lld: the token \"%.*s\" is not in the vocabulary",
                        (long long)m->index, (int)m->length[i], m->part[i]);
        *(i ? &got.right : &got.left) = id;
    }
    got.made = vocab_find_hashed(b->words, made_text, (int64_t)m->made_length, m->hash[2]);
    if (got.made < 0)
        return fail(err, GRAFT_FAILED, "merge %lld: its result \"%.*s\" is not in the vocabulary", (long long)m->index,
                    (int)m->made_length, made_text);
    note_join(b, m);
    mem_reserve(out->items, out->count, out->capacity);
    out->items[out->count++] = got;
    return GRAFT_OK;
}

static int add_batch(bpe *b, merge_batch *batch, merge_list *out, graft_error *err) {
    for (int k = 0; k < batch->count && b->words->slots; k++)
        for (int i = 0; i < 3; i++)
            vocab_expect_text(b->words, batch->at[k].hash[i]);
    for (int k = 0; k < batch->count && !err->code; k++)
        add_merge(b, &batch->at[k], batch->joined.text + batch->at[k].made, out, err);
    batch->count = 0, batch->joined.length = 0;
    return err->code;
}

static int read_merges(bpe *b, jsonscan *s, merge_list *out, graft_error *err) {
    merge_batch batch = {0};
    int first = 1, more;
    int64_t index = 0;
    while (!err->code && (more = jsonscan_next(s, ']', &first)) > 0) {
        merge_text *const m = &batch.at[batch.count];
        m->index = index++;
        const int kind = read_parts(s, m);
        if (kind < 0 || index > MERGES_MOST)
            fail(err, GRAFT_FAILED,
                 kind < 0 ? "merge %lld has to be two tokens, \"a b\" or [\"a\", \"b\"]" : "merge %lld is one too many",
                 (long long)m->index);
        else if (kind == 0 && prepare_merge(b, &batch, err) == GRAFT_OK && batch.count == AHEAD)
            add_batch(b, &batch, out, err);
    }
    if (!err->code && more) fail(err, GRAFT_FAILED, "the \"merges\" of the model BPE are damaged");
    if (!err->code) add_batch(b, &batch, out, err);
    strbuf_free(&batch.joined);
    return err->code;
}

static int load_merges(bpe *b, jsonscan list, graft_error *err) {
    merge_list merges = {0};
    uint64_t slots = 64;
    if (!jsonscan_byte(&list, '[')) return fail(err, GRAFT_FAILED, "the model BPE has no list \"merges\"");
    b->joins = mem_new(BPE_JOIN_BITS / 64, sizeof *b->joins);
    if (read_merges(b, &list, &merges, err) == GRAFT_OK) {
        while (slots * 2 < (uint64_t)merges.count * 3)
            slots *= 2;
        b->merges = mem_new(slots, sizeof *b->merges);
        memset(b->merges, 0xFF, slots * sizeof *b->merges);
        b->mask = slots - 1;
        for (int64_t i = 0; i < merges.count; i++) /* of duplicates the last one counts */
            *bpe_merge_of(b, merges.items[i].left, merges.items[i].right) = merges.items[i];
    }
    free(merges.items);
    return err->code;
}

/* ---- the rest ---- */

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
        if (t->text && t->length && utf8_decode(t->text, t->length, &code) == t->length && code < BPE_PLANE)
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

int bpe_load(const json_t *node, token_lists lists, vocab *words, bpe **out, graft_error *err) {
    bpe *const b = mem_new(1, sizeof *b);
    *out = NULL;
    b->words = words;
    b->unknown = -1;
    int rc = load_vocab(lists.vocab, words, err);
    if (!rc) rc = load_settings(b, node, err);
    if (!rc) rc = load_merges(b, lists.merges, err);
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
