/* added — see added.h. */
#include "text/added.h"
#include "base/log.h"
#include "base/memory.h"
#include "text/component.h"
#include "text/pretokenize.h"
#include "text/trie.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *text;
    int64_t length;
} shown;

struct added {
    tokenizer_added *items; /* each content once */
    shown *shown;           /* by item: what decoding shows of it */
    int64_t count, capacity;
    strmap by_content;
    int32_t *by_id; /* index + 1 */
    int64_t ids;
    arena texts;
    trie tries[2]; /* by the flag `normalized`, index of the item */
    pattern *word; /* a word character; NULL when no token is single_word */
};

static int read_item(const json_t *node, size_t index, tokenizer_added *out, int64_t *stated, graft_error *err) {
    char what[40];
    snprintf(what, sizeof what, "added token %zu", index);
    *out = (tokenizer_added){0};
    int rc = json_is_object(node) ? 0 : fail(err, GRAFT_FAILED, "%s is not an object", what);
    if (!rc) rc = component_text(node, what, "content", NULL, &out->content, &out->length, err);
    if (!rc) rc = json_get_int(node, what, "id", -1, stated, err);
    if (!rc) rc = json_get_bool(node, what, "special", 0, &out->special, err);
    if (!rc) rc = json_get_bool(node, what, "single_word", 0, &out->single_word, err);
    if (!rc) rc = json_get_bool(node, what, "lstrip", 0, &out->lstrip, err);
    if (!rc) rc = json_get_bool(node, what, "rstrip", 0, &out->rstrip, err);
    return rc ? rc : json_get_bool(node, what, "normalized", !out->special, &out->normalized, err);
}

/* The item of this content, new or the one that is there: its flags become the last ones given, special stays. */
static int put_item(added *a, tokenizer_added item, const vocab *words, graft_error *err) {
    int64_t index;
    if (strmap_get(&a->by_content, item.content, (size_t)item.length, &index)) {
        tokenizer_added *const old = &a->items[index];
        item.content = old->content;
        item.id = old->id;
        item.special |= old->special;
        *old = item;
        return 0;
    }
    item.id = vocab_find(words, item.content, item.length);
    if (item.id < 0) {
        const int64_t next = a->ids > words->used ? a->ids : words->used;
        if (next >= VOCAB_IDS) return fail(err, GRAFT_FAILED, "there are more than %d tokens", VOCAB_IDS);
        item.id = (int32_t)next;
    }
    if (item.id >= a->ids) a->ids = item.id + 1;
    item.content = arena_copy(&a->texts, item.content, (size_t)item.length);
    strmap_put(&a->by_content, item.content, (size_t)item.length, a->count);
    mem_reserve(a->items, a->count, a->capacity);
    a->items[a->count++] = item;
    return 0;
}

/* The string that is looked for and shown. */
static int add_string(added *a, int64_t index, const normalizer *n, text_workspace *w, graft_error *err) {
    const tokenizer_added *const item = &a->items[index];
    view v = {item->content, NULL, item->length, 0};
    const int rc = item->normalized ? normalizer_run(n, w, &v, err) : 0;
    if (rc) return rc;
    a->shown[index] = (shown){arena_copy(&a->texts, v.bytes, (size_t)v.length), v.length};
    return v.length ? trie_add(&a->tries[item->normalized], v.bytes, v.length, (int32_t)index, err) : 0;
}

static int load(added *a, json_t *list, const vocab *words, const normalizer *n, text_workspace *w, graft_error *err) {
    int rc = 0, single = 0, warned = 0;
    for (size_t i = 0; !rc && i < json_array_size(list); i++) {
        tokenizer_added item;
        int64_t stated;
        rc = read_item(json_array_get(list, i), i, &item, &stated, err);
        if (!rc && item.length) rc = put_item(a, item, words, err);
        if (rc || !item.length || warned || stated < 0) continue;
        const int32_t id = added_find(a, item.content, item.length)->id;
        warned = id != stated;
        if (warned)
            log_warn("the added token \"%s\" has the id %d, not %lld as the tokenizer file says", item.content, id,
                     (long long)stated);
    }
    a->shown = mem_new((size_t)a->count + 1, sizeof *a->shown);
    a->by_id = mem_new((size_t)a->ids + 1, sizeof *a->by_id);
    for (int64_t i = 0; i < a->count; i++) {
        a->by_id[a->items[i].id] = (int32_t)i + 1;
        single |= a->items[i].single_word;
    }
    for (int64_t id = a->ids - 1; !rc && id >= 0; id--) /* of equal strings the one of the lowest id is found */
        if (a->by_id[id]) rc = add_string(a, a->by_id[id] - 1, n, w, err);
    static const char word[] = "[" PRETOKENIZER_WORDS "]";
    return rc || !single ? rc : pattern_regex(word, sizeof word - 1, &a->word, err);
}

int added_load(json_t *list, const vocab *words, const normalizer *n, added **out, graft_error *err) {
    *out = NULL;
    if (list && !json_is_null(list) && !json_is_array(list))
        return fail(err, GRAFT_FAILED, "\"added_tokens\" is not a list");
    added *const a = mem_new(1, sizeof *a);
    text_workspace w = {0};
    const int rc = load(a, list, words, n, &w, err);
    text_workspace_free(&w);
    if (rc) {
        added_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void added_free(added *a) {
    if (!a) return;
    free(a->items);
    free(a->shown);
    free(a->by_id);
    strmap_free(&a->by_content);
    arena_free(&a->texts);
    trie_free(&a->tries[0]);
    trie_free(&a->tries[1]);
    pattern_free(a->word);
    free(a);
}

int64_t added_count(const added *a) {
    return a->count;
}

const tokenizer_added *added_at(const added *a, int64_t index) {
    return index >= 0 && index < a->count ? &a->items[index] : NULL;
}

const tokenizer_added *added_find(const added *a, const char *content, int64_t length) {
    int64_t index;
    return strmap_get(&a->by_content, content, (size_t)length, &index) ? &a->items[index] : NULL;
}

const tokenizer_added *added_of_id(const added *a, int32_t id) {
    return id >= 0 && id < a->ids && a->by_id[id] ? &a->items[a->by_id[id] - 1] : NULL;
}

const char *added_shown(const added *a, int32_t id, int64_t *length) {
    const tokenizer_added *const item = added_of_id(a, id);
    if (!item) return NULL;
    const shown *const s = &a->shown[item - a->items];
    *length = s->length;
    return s->text;
}

int64_t added_ids(const added *a) {
    return a->ids;
}

/* The begin of the character that ends at `end`. */
static int64_t character_before(const char *text, int64_t end) {
    for (end--; end > 0 && utf8_continues(text[end]);)
        end--;
    return end;
}

static int space_at(const char *text, int64_t at, int64_t length) {
    uint32_t code;
    utf8_decode(text + at, length - at, &code);
    return unicode_is_space(code);
}

/* Whether the character begin..end is a word character; -1 on error. An empty range is none. */
static int is_word(const added *a, const char *text, int64_t begin, int64_t end, pattern_scratch *s, graft_error *err) {
    int64_t from, to;
    pattern_walk walk = {.pattern = a->word, .scratch = s, .text = text + begin, .length = end - begin};
    return begin < end ? pattern_next(&walk, &from, &to, err) : 0;
}

/* Whether word characters touch begin..end; -1 on error. */
static int inside_word(const added *a, const char *text, int64_t length, int64_t begin, int64_t end, pattern_scratch *s,
                       graft_error *err) {
    const int before = is_word(a, text, begin ? character_before(text, begin) : 0, begin, s, err);
    if (before) return before;
    return is_word(a, text, end, end < length ? end + utf8_size(text[end]) : end, s, err);
}

static void add_part(added_parts *out, int64_t begin, int64_t end, const tokenizer_added *token) {
    mem_reserve(out->items, out->count, out->capacity);
    out->items[out->count++] = (added_part){begin, end, token};
}

int added_split(const added *a, int normalized, const char *text, int64_t length, pattern_scratch *s, added_parts *out,
                graft_error *err) {
    const trie *const t = &a->tries[normalized];
    int64_t done = 0;               /* the next part begins here */
    int64_t spaces = -1, until = 0; /* a run of white space that was walked through once */
    out->count = 0;
    for (int64_t at = 0; t->nodes && at < length;) {
        int64_t end = at, stop = 0;
        int32_t node = 0, found = -1;
        while (end < length && (node = trie_step(t, node, (unsigned char)text[end]))) {
            end++;
            if (t->values[node] >= 0) found = t->values[node], stop = end;
        }
        if (found < 0) {
            at++;
            continue;
        }
        int64_t start = at;
        const tokenizer_added *const token = &a->items[found];
        at = stop;
        if (token->single_word) {
            const int inside = inside_word(a, text, length, start, stop, s, err);
            if (inside < 0) return GRAFT_FAILED;
            if (inside) continue;
        }
        if (token->lstrip) {
            while (start > done && space_at(text, character_before(text, start), length))
                start = character_before(text, start);
            if (start < done) start = done;
        }
        if (token->rstrip) {
            if (spaces < 0 || stop < spaces || stop > until) {
                spaces = until = stop;
                while (until < length && space_at(text, until, length))
                    until += utf8_size(text[until]);
            }
            stop = until;
        }
        if (done < start) add_part(out, done, start, NULL);
        if (start < stop) add_part(out, start, stop, token);
        done = stop;
    }
    if (done < length) add_part(out, done, length, NULL);
    return 0;
}
