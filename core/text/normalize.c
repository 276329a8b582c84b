/* normalize — see normalize.h. A Sequence is loaded flat: one step after the other, each from one buffer to the next; a
 * step that changes nothing costs no copy. */
#include "text/normalize.h"
#include "base/memory.h"
#include "text/component.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

/* What a normalizer may make of a text: steps that double it, one after the other, would fill any memory. The longest
 * decomposition is eleven times as long as its character. */
enum { GROWTH = 32, SLACK = 1 << 20 };

typedef struct {
    enum { REPLACE, PREPEND, FORM, LOWERCASE, STRIP } kind;
    pattern *pattern; /* Replace */
    char *content;    /* Replace, Prepend */
    int64_t content_length;
    int form;        /* NFC ... */
    int left, right; /* Strip */
} step;

struct normalizer {
    step *steps;
    int64_t count, capacity;
};

static step *add_step(normalizer *n, int kind) {
    mem_reserve(n->steps, n->count, n->capacity);
    step *const s = &n->steps[n->count++];
    *s = (step){.kind = kind};
    return s;
}

static int load_content(step *s, const json_t *node, const char *what, const char *key, graft_error *err) {
    const char *text;
    const int rc = component_text(node, what, key, NULL, &text, &s->content_length, err);
    if (rc) return rc;
    s->content = mem_new((size_t)s->content_length + 1, 1);
    memcpy(s->content, text, (size_t)s->content_length);
    return 0;
}

static int load_replace(step *s, const json_t *node, graft_error *err) {
    const char *const what = "the normalizer Replace";
    int rc = component_pattern(node, what, &s->pattern, err);
    if (!rc && pattern_is_empty(s->pattern)) rc = fail(err, GRAFT_FAILED, "%s looks for an empty text", what);
    return rc ? rc : load_content(s, node, what, "content", err);
}

static int load(normalizer *n, json_t *node, int depth, graft_error *err) {
    static const char *const forms[] = {"NFD", "NFC", "NFKD", "NFKC"};
    const char *const type = component_type(node, "normalizer", err);
    if (!type) return GRAFT_FAILED;
    if (strcmp(type, "Sequence") == 0) {
        json_t *const list = component_list(node, "the normalizer Sequence", "normalizers", depth, err);
        int rc = list ? 0 : GRAFT_FAILED;
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = load(n, json_array_get(list, i), depth + 1, err);
        return rc;
    }
    if (strcmp(type, "Replace") == 0) return load_replace(add_step(n, REPLACE), node, err);
    if (strcmp(type, "Prepend") == 0)
        return load_content(add_step(n, PREPEND), node, "the normalizer Prepend", "prepend", err);
    if (strcmp(type, "Lowercase") == 0) {
        add_step(n, LOWERCASE);
        return 0;
    }
    if (strcmp(type, "Strip") == 0) {
        step *const s = add_step(n, STRIP);
        const int rc = json_get_bool(node, "the normalizer Strip", "strip_left", 1, &s->left, err);
        return rc ? rc : json_get_bool(node, "the normalizer Strip", "strip_right", 1, &s->right, err);
    }
    for (int form = 0; form < 4; form++) {
        if (strcmp(type, forms[form]) != 0) continue;
        add_step(n, FORM)->form = form;
        return 0;
    }
    return component_unknown("normalizer", type,
                             "Sequence, Replace, Prepend, NFC, NFD, NFKC, NFKD, Lowercase and Strip", err);
}

int normalizer_load(json_t *node, normalizer **out, graft_error *err) {
    normalizer *const n = mem_new(1, sizeof *n);
    *out = n;
    if (!node || json_is_null(node)) return 0;
    const int rc = load(n, node, 0, err);
    if (rc) normalizer_free(n), *out = NULL;
    return rc;
}

void normalizer_free(normalizer *n) {
    if (!n) return;
    for (int64_t i = 0; i < n->count; i++) {
        pattern_free(n->steps[i].pattern);
        free(n->steps[i].content);
    }
    free(n->steps);
    free(n);
}

/* The content of a replacement stands for the last character that it replaces. -1 on error, 1 when something changed. */
static int replace(const step *s, pattern_scratch *scratch, const view *v, int64_t most, aligned *out,
                   graft_error *err) {
    pattern_walk walk = {.pattern = s->pattern, .scratch = scratch, .text = v->bytes, .length = v->length};
    int64_t done = 0, begin, end;
    int rc;
    while ((rc = pattern_next(&walk, &begin, &end, err)) == 1) {
        aligned_copy(out, v, done, begin);
        const span from = end > 0 ? view_span(v, end - 1, end) : (span){v->origin, v->origin};
        aligned_add(out, s->content, s->content_length, from);
        if (out->length > most) break;
        done = end;
    }
    if (rc < 0 || out->length > most)
        return fail(err, GRAFT_FAILED, "the normalizer Replace makes the text too long"), -1;
    if (!walk.matched) return 0;
    aligned_copy(out, v, done, v->length);
    return 1;
}

static int prepend(const step *s, const view *v, aligned *out) {
    if (!v->length) return 0;
    aligned_add(out, s->content, s->content_length, view_span(v, 0, 1));
    aligned_copy(out, v, 0, v->length);
    return 1;
}

static int lowercase(const view *v, aligned *out) {
    int64_t done = 0;
    for (int64_t at = 0, next; at < v->length; at = next) {
        uint32_t code, lower[2];
        next = at + utf8_decode(v->bytes + at, v->length - at, &code);
        const int n = unicode_lower(code, lower);
        if (n == 1 && lower[0] == code) continue;
        aligned_copy(out, v, done, at);
        for (int i = 0; i < n; i++) {
            char bytes[UTF8_MAX];
            aligned_add(out, bytes, utf8_encode(lower[i], bytes), view_span(v, at, at + 1));
        }
        done = next;
    }
    if (!done) return 0;
    aligned_copy(out, v, done, v->length);
    return 1;
}

static int strip(const step *s, const view *v, aligned *out) {
    int64_t begin = 0, end = v->length;
    uint32_t code;
    while (s->left && begin < end) {
        const int size = utf8_decode(v->bytes + begin, end - begin, &code);
        if (!unicode_is_space(code)) break;
        begin += size;
    }
    while (s->right && begin < end) {
        int64_t last = end - 1;
        while (utf8_continues(v->bytes[last]))
            last--;
        utf8_decode(v->bytes + last, end - last, &code);
        if (!unicode_is_space(code)) break;
        end = last;
    }
    if (begin == 0 && end == v->length) return 0;
    aligned_copy(out, v, begin, end);
    return 1;
}

int normalizer_run(const normalizer *n, text_workspace *w, view *v, graft_error *err) {
    const int64_t wanted = GROWTH * v->length + SLACK, most = wanted < ALIGNED_MOST ? wanted : ALIGNED_MOST;
    int which = 0;
    for (int64_t i = 0; i < n->count; i++) {
        const step *const s = &n->steps[i];
        aligned *const out = &w->normalized[which];
        out->length = 0;
        int changed = 0;
        switch (s->kind) {
        case REPLACE:
            changed = replace(s, &w->search, v, most, out, err);
            break;
        case PREPEND:
            changed = prepend(s, v, out);
            break;
        case FORM:
            changed = normalform_apply(s->form, v, out, &w->forms);
            break;
        case LOWERCASE:
            changed = lowercase(v, out);
            break;
        case STRIP:
            changed = strip(s, v, out);
            break;
        }
        if (changed < 0) return GRAFT_FAILED;
        if (out->length > most) return fail(err, GRAFT_FAILED, "the normalizer makes the text too long");
        if (!changed) continue;
        *v = aligned_view(out, v->origin);
        which = !which;
    }
    return 0;
}
