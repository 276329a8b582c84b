/* postprocess — see postprocess.h. */
#include "text/postprocess.h"
#include "base/memory.h"
#include "text/component.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { TEXT_HERE = -1, LONGEST = 1 << 16 }; /* items of a template: an id, or the text */

typedef struct {
    enum { TRIM, TEMPLATE } kind;
    int prefix_space; /* TRIM: a single space before the first token was put there and stays */
    int32_t *items;   /* TEMPLATE */
    int64_t count, capacity;
} step;

struct postprocessor {
    step *steps;
    int64_t count, capacity, ids;
};

static step *add_step(postprocessor *p, int kind) {
    mem_reserve(p->steps, p->count, p->capacity);
    step *const s = &p->steps[p->count++];
    *s = (step){.kind = kind};
    return s;
}

static int add_item(postprocessor *p, step *s, const char *what, const json_t *id, graft_error *err) {
    const json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value >= VOCAB_IDS)
        return fail(err, GRAFT_FAILED, "%s: the id of a special token has to be a whole number below %d", what,
                    VOCAB_IDS);
    if (s->count >= LONGEST) return fail(err, GRAFT_FAILED, "%s adds more than %d tokens", what, LONGEST);
    mem_reserve(s->items, s->count, s->capacity);
    s->items[s->count++] = (int32_t)value;
    if (value >= p->ids) p->ids = value + 1;
    return 0;
}

static void add_text(step *s) {
    mem_reserve(s->items, s->count, s->capacity);
    s->items[s->count++] = TEXT_HERE;
}

static int has_text(const step *s) {
    for (int64_t i = 0; i < s->count; i++)
        if (s->items[i] == TEXT_HERE) return 1;
    return 0;
}

/* {"SpecialToken": {"id": NAME}}: the ids stand in special_tokens[NAME].ids. {"Sequence": {"id": "A"}}: the text. */
static int load_piece(postprocessor *p, step *s, const json_t *piece, const json_t *specials, graft_error *err) {
    const char *const what = "the post-processor TemplateProcessing";
    const json_t *const special = json_object_get(piece, "SpecialToken");
    const char *const name = json_string_value(json_object_get(special, "id"));
    if (name) {
        const json_t *const ids = json_object_get(json_object_get(specials, name), "ids");
        if (!json_is_array(ids))
            return fail(err, GRAFT_FAILED, "%s: \"special_tokens\" has no ids for \"%s\"", what, name);
        int rc = 0;
        for (size_t i = 0; !rc && i < json_array_size(ids); i++)
            rc = add_item(p, s, what, json_array_get(ids, i), err);
        return rc;
    }
    const char *const sequence = json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));
    if (!sequence || strcmp(sequence, "A") != 0 || has_text(s))
        return fail(err, GRAFT_FAILED, "%s: \"single\" has to be a list of SpecialToken and one Sequence A", what);
    add_text(s);
    return 0;
}

static int load_template(postprocessor *p, const json_t *node, graft_error *err) {
    const json_t *const single = json_object_get(node, "single");
    if (!json_is_array(single))
        return fail(err, GRAFT_FAILED, "the post-processor TemplateProcessing has no list \"single\"");
    step *const s = add_step(p, TEMPLATE);
    int rc = 0;
    for (size_t i = 0; !rc && i < json_array_size(single); i++)
        rc = load_piece(p, s, json_array_get(single, i), json_object_get(node, "special_tokens"), err);
    return rc;
}

static int load_trim(postprocessor *p, const json_t *node, const char *what, graft_error *err) {
    int trim, space;
    int rc = json_get_bool(node, what, "trim_offsets", 1, &trim, err);
    if (!rc) rc = json_get_bool(node, what, "add_prefix_space", 1, &space, err);
    if (!rc && trim) add_step(p, TRIM)->prefix_space = space;
    return rc;
}

/* {"sep": [text, id], "cls": [text, id]}: cls, the text, sep. */
static int load_pair(postprocessor *p, const json_t *node, const char *what, graft_error *err) {
    step *const s = add_step(p, TEMPLATE);
    int rc = add_item(p, s, what, json_array_get(json_object_get(node, "cls"), 1), err);
    if (!rc) add_text(s);
    return rc ? rc : add_item(p, s, what, json_array_get(json_object_get(node, "sep"), 1), err);
}

static int load(postprocessor *p, json_t *node, int depth, graft_error *err) {
    const char *const type = component_type(node, "post-processor", err);
    if (!type) return GRAFT_FAILED;
    if (strcmp(type, "Sequence") == 0) {
        json_t *const list = component_list(node, "the post-processor Sequence", "processors", depth, err);
        int rc = list ? 0 : GRAFT_FAILED;
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = load(p, json_array_get(list, i), depth + 1, err);
        return rc;
    }
    if (strcmp(type, "TemplateProcessing") == 0) return load_template(p, node, err);
    if (strcmp(type, "ByteLevel") == 0) return load_trim(p, node, "the post-processor ByteLevel", err);
    if (strcmp(type, "BertProcessing") == 0) return load_pair(p, node, "the post-processor BertProcessing", err);
    if (strcmp(type, "RobertaProcessing") == 0) {
        const int rc = load_trim(p, node, "the post-processor RobertaProcessing", err);
        return rc ? rc : load_pair(p, node, "the post-processor RobertaProcessing", err);
    }
    return component_unknown("post-processor", type,
                             "Sequence, TemplateProcessing, ByteLevel, RobertaProcessing and BertProcessing", err);
}

int postprocessor_load(json_t *node, postprocessor **out, graft_error *err) {
    postprocessor *const p = mem_new(1, sizeof *p);
    *out = p;
    if (!node || json_is_null(node)) return 0;
    const int rc = load(p, node, 0, err);
    if (rc) postprocessor_free(p), *out = NULL;
    return rc;
}

void postprocessor_free(postprocessor *p) {
    if (!p) return;
    for (int64_t i = 0; i < p->count; i++)
        free(p->steps[i].items);
    free(p->steps);
    free(p);
}

int64_t postprocessor_ids(const postprocessor *p) {
    return p->ids;
}

int postprocessor_trims(const postprocessor *p) {
    for (int64_t i = 0; i < p->count; i++)
        if (p->steps[i].kind == TRIM) return 1;
    return 0;
}

static int counts_as_space(uint32_t code) {
    return code == 0x120 || unicode_is_space(code);
}

void postprocessor_spaces(const char *text, int64_t length, int32_t *lead, int32_t *trail) {
    uint32_t code;
    *lead = *trail = 0;
    for (int64_t at = 0; at < length; ++*lead) {
        at += utf8_decode(text + at, length - at, &code);
        if (!counts_as_space(code)) break;
    }
    for (int64_t end = length; end > 0; ++*trail) {
        int64_t at = end - 1;
        while (at > 0 && utf8_continues(text[at]))
            at--;
        utf8_decode(text + at, end - at, &code);
        if (!counts_as_space(code)) break;
        end = at;
    }
}

/* The reference moves offsets, in characters, by the number of spaces in the token's string, whatever the text there is.
 * `first` is the index of the text's first token. */
static void trim(const step *s, const vocab *words, const char *text, int64_t first, text_tokens *tokens) {
    for (int64_t i = 0; i < tokens->count; i++) {
        text_token *const t = &tokens->items[i];
        int32_t lead = t->lead, trail = t->trail;
        if (lead < 0) {
            int64_t length = 0;
            const char *const token = vocab_text(words, t->id, &length);
            postprocessor_spaces(token, token ? length : 0, &lead, &trail);
        }
        if (lead == 1 && s->prefix_space && (i == first || t->begin == 0)) lead = 0;
        for (; lead > 0 && t->begin < t->end; lead--)
            t->begin += utf8_size(text[t->begin]);
        int32_t end = t->end;
        for (; trail > 0 && end > 0; trail--)
            for (end--; end > 0 && utf8_continues(text[end]);)
                end--;
        if (trail == 0) t->end = end > t->begin ? end : t->begin;
    }
}

static void add(text_tokens *to, text_token t) {
    mem_reserve(to->items, to->count, to->capacity);
    to->items[to->count++] = t;
}

static void fill(const step *s, int add_special, int64_t *first, text_tokens *tokens, text_tokens *other) {
    other->count = 0;
    for (int64_t i = 0; i < s->count; i++) {
        if (s->items[i] == TEXT_HERE) {
            *first += other->count;
            for (int64_t k = 0; k < tokens->count; k++)
                add(other, tokens->items[k]);
        } else if (add_special) {
            add(other, (text_token){s->items[i], 0, 0, 0, 0});
        }
    }
    const text_tokens swap = *tokens;
    *tokens = *other;
    *other = swap;
}

void postprocessor_run(const postprocessor *p, const vocab *words, const char *text, int add_special,
                       text_tokens *tokens, text_tokens *other) {
    int64_t first = 0;
    for (int64_t i = 0; i < p->count; i++) {
        if (p->steps[i].kind == TRIM)
            trim(&p->steps[i], words, text, first, tokens);
        else
            fill(&p->steps[i], add_special, &first, tokens, other);
    }
}
