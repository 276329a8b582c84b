/* tokenizer-encode — text to ids: the steps that tokenizer.h names, one function each. */
#include "text/tokenizer-private.h"
#include "text/utf8.h"
#include "text/word-cache.h"
#include <stdlib.h>
#include <string.h>

enum { TEXT_MOST = 256 << 20 };
#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

struct tokenizer_state {
    const tokenizer *owner;
    text_workspace work;
    model_scratch model;
    word_cache cache;
    word_tokens word; /* of the word being encoded */
    strbuf mapped;    /* the word in byte characters, */
    int32_t *sources; /* and the byte of the word for each of its bytes */
    int64_t source_capacity;
    added_parts raw, normalized;
    text_tokens tokens, other; /* of the text, in bytes of the text that is encoded */
    aligned repaired;          /* the text with U+FFFD for what is not UTF-8 */
    int32_t *characters;       /* the number of characters before each byte of the text */
    int64_t character_capacity;
};

static void free_state(struct tokenizer_state *s) {
    if (!s) return;
    text_workspace_free(&s->work);
    model_scratch_free(&s->model);
    word_cache_free(&s->cache);
    free(s->word.items);
    strbuf_free(&s->mapped);
    free(s->sources);
    free(s->raw.items);
    free(s->normalized.items);
    free(s->tokens.items);
    free(s->other.items);
    aligned_free(&s->repaired);
    free(s->characters);
    free(s);
}

void tokenizer_encoding_free(tokenizer_encoding *e) {
    free_state(e->state);
    free(e->ids);
    free(e->begin);
    free(e->end);
    *e = (tokenizer_encoding){0};
}

static void add_token(struct tokenizer_state *s, text_token t) {
    mem_reserve(s->tokens.items, s->tokens.count, s->tokens.capacity);
    s->tokens.items[s->tokens.count++] = t;
}

/* Tokens of a word given in bytes, for a model that knows byte characters. */
static int encode_bytes(const tokenizer *t, struct tokenizer_state *s, const char *word, int64_t length,
                        graft_error *err) {
    if (s->source_capacity < 2 * length) {
        s->source_capacity = 4 * length;
        s->sources = mem_grow(s->sources, (size_t)s->source_capacity, sizeof *s->sources);
    }
    s->mapped.length = 0;
    for (int64_t i = 0; i < length; i++) {
        char character[UTF8_MAX];
        const int size = pretokenizer_byte((unsigned char)word[i], character);
        for (int k = 0; k < size; k++)
            s->sources[s->mapped.length + (size_t)k] = (int32_t)i;
        strbuf_add(&s->mapped, character, (size_t)size);
    }
    const int rc = token_model_encode(t->model, &s->model, s->mapped.text, (int64_t)s->mapped.length, &s->word, err);
    for (int64_t i = 0; i < s->word.count; i++) {
        word_token *const w = &s->word.items[i];
        w->begin = s->sources[w->begin];
        w->end = s->sources[w->end - 1] + 1;
    }
    return rc;
}

/* Adds the tokens of bytes begin..end of v, one word for the model. */
static int encode_word(const tokenizer *t, struct tokenizer_state *s, const view *v, int64_t begin, int64_t end,
                       graft_error *err) {
    const char *const word = v->bytes + begin;
    const int64_t length = end - begin;
    int64_t count = 0;
    const word_token *tokens = length <= CACHE_WORD ? word_cache_find(&s->cache, word, length, &count) : NULL;
    if (!tokens) {
        s->word.count = 0;
        const int rc = t->maps_bytes ? encode_bytes(t, s, word, length, err)
                                     : token_model_encode(t->model, &s->model, word, length, &s->word, err);
        if (rc) return rc;
        tokens = s->word.items, count = s->word.count;
        if (length <= CACHE_WORD) word_cache_put(&s->cache, word, length, tokens, count);
    }
    for (int64_t i = 0; i < count; i++) {
        const span from = view_span(v, begin + tokens[i].begin, begin + tokens[i].end);
        add_token(s, (text_token){tokens[i].id, from.begin, from.end, -1, -1});
    }
    return 0;
}

/* Adds the tokens of a text without added tokens, in its normalized form. */
static int encode_plain(const tokenizer *t, struct tokenizer_state *s, view v, graft_error *err) {
    const pieces *cut;
    int rc = pretokenizer_run(t->pretokenizer, &s->work, &v, &cut, err);
    for (int64_t i = 0; !rc && i < cut->count; i++) {
        const piece p = cut->items[i];
        if (t->maps_bytes) {
            rc = encode_word(t, s, &v, p.begin, p.end, err);
            continue;
        }
        for (int64_t begin = p.begin, end; !rc && begin < p.end; begin = end) {
            end = p.begin + token_model_cut(t->model, v.bytes + p.begin, begin - p.begin, p.end - p.begin);
            rc = encode_word(t, s, &v, begin, end, err);
        }
    }
    return rc;
}

/* Adds an added token; its string is the text it matched, with the white space it swallowed. */
static void add_added(const tokenizer *t, struct tokenizer_state *s, const view *v, const added_part *part) {
    const span from = view_span(v, part->begin, part->end);
    text_token token = {part->token->id, from.begin, from.end, 0, 0};
    if (postprocessor_trims(t->postprocessor))
        postprocessor_spaces(v->bytes + part->begin, part->end - part->begin, &token.lead, &token.trail);
    add_token(s, token);
}

/* Adds the tokens of a text as given, between two added tokens of the raw text. */
static int encode_raw(const tokenizer *t, struct tokenizer_state *s, view v, graft_error *err) {
    int rc = normalizer_run(t->normalizer, &s->work, &v, err);
    if (!rc) rc = added_split(t->added, 1, v.bytes, v.length, &s->work.search, &s->normalized, err);
    for (int64_t i = 0; !rc && i < s->normalized.count; i++) {
        const added_part *const part = &s->normalized.items[i];
        if (part->token)
            add_added(t, s, &v, part);
        else
            rc = encode_plain(t, s, view_part(&v, part->begin, part->end), err);
    }
    return rc;
}

static int encode_text(const tokenizer *t, struct tokenizer_state *s, view v, graft_error *err) {
    int rc = added_split(t->added, 0, v.bytes, v.length, &s->work.search, &s->raw, err);
    for (int64_t i = 0; !rc && i < s->raw.count; i++) {
        const added_part *const part = &s->raw.items[i];
        if (part->token)
            add_added(t, s, &v, part);
        else
            rc = encode_raw(t, s, view_part(&v, part->begin, part->end), err);
    }
    return rc;
}

/* The text with one U+FFFD for each maximal ill-formed part. */
static void repair(aligned *out, const char *text, int64_t length) {
    const view v = {text, NULL, length, 0};
    out->length = 0;
    for (int64_t at = 0; at < length;) {
        const int64_t valid = utf8_valid(text + at, length - at);
        aligned_copy(out, &v, at, at + valid);
        at += valid;
        if (at >= length) break;
        uint32_t code;
        const int size = utf8_decode(text + at, length - at, &code);
        aligned_add(out, REPLACEMENT, 3, (span){(int32_t)at, (int32_t)at + size});
        at += size;
    }
}

/* The tokens as the caller gets them. `from`: where the bytes of the encoded text come from, NULL: they are the caller's. */
static void write_tokens(const text_tokens *tokens, const aligned *from, tokenizer_encoding *e) {
    if (e->capacity < tokens->count) {
        e->capacity = tokens->capacity;
        e->ids = mem_grow(e->ids, (size_t)e->capacity, sizeof *e->ids);
        e->begin = mem_grow(e->begin, (size_t)e->capacity, sizeof *e->begin);
        e->end = mem_grow(e->end, (size_t)e->capacity, sizeof *e->end);
    }
    e->count = tokens->count;
    for (int64_t i = 0; i < tokens->count; i++) {
        const text_token *const t = &tokens->items[i];
        int32_t begin = t->begin, end = t->end;
        if (from) {
            begin = begin < from->length ? from->from[begin].begin : from->from[from->length - 1].end;
            end = end > t->begin ? from->from[end - 1].end : begin;
        }
        e->ids[i] = t->id;
        e->begin[i] = begin;
        e->end[i] = end;
    }
}

int tokenizer_encode(const tokenizer *t, const char *text, int64_t length, int add_special, tokenizer_encoding *e,
                     graft_error *err) {
    e->count = 0;
    if (length > TEXT_MOST)
        return fail(err, GRAFT_FAILED, "a text of %lld bytes is too long to encode at once (at most %d)",
                    (long long)length, TEXT_MOST);
    if (e->state && e->state->owner != t) {
        free_state(e->state);
        e->state = NULL;
    }
    if (!e->state) {
        e->state = mem_new(1, sizeof *e->state);
        e->state->owner = t;
    }
    struct tokenizer_state *const s = e->state;
    const int valid = utf8_valid(text, length) == length;
    if (!valid) repair(&s->repaired, text, length);
    const view v = valid ? (view){text, NULL, length, 0} : (view){s->repaired.bytes, NULL, s->repaired.length, 0};
    s->tokens.count = 0;
    const int rc = encode_text(t, s, v, err);
    if (rc) return rc;
    postprocessor_run(t->postprocessor, token_model_vocab(t->model), v.bytes, add_special, &s->tokens, &s->other);
    write_tokens(&s->tokens, valid ? NULL : &s->repaired, e);
    return 0;
}

void tokenizer_encoding_characters(tokenizer_encoding *e, const char *text, int64_t length) {
    struct tokenizer_state *const s = e->state;
    if (!e->count || !s) return;
    if (s->character_capacity < length + 1) {
        s->character_capacity = 2 * length + 64;
        s->characters = mem_grow(s->characters, (size_t)s->character_capacity, sizeof *s->characters);
    }
    int32_t count = 0;
    for (int64_t at = 0; at < length; count++) {
        uint32_t code;
        const int size = utf8_decode(text + at, length - at, &code);
        for (int k = 0; k < size; k++)
            s->characters[at++] = count;
    }
    s->characters[length] = count;
    for (int64_t i = 0; i < e->count; i++) {
        e->begin[i] = s->characters[e->begin[i]];
        e->end[i] = s->characters[e->end[i]];
    }
}
