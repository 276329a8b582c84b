/* pretokenize — see pretokenize.h. */
#include "text/pretokenize.h"
#include "base/memory.h"
#include "text/component.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

/* The expression that ByteLevel has built in (GPT-2). */
static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* Numbers of the reference's language, which knows a little more than Unicode 16. */
static const char digits[] = "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]";
/* Its punctuation is older than Unicode 9. */
static const char punctuation[] =
    "(?!["
    "\\x{61D}\\x{9FD}\\x{A76}\\x{C77}\\x{C84}\\x{1B4E}-\\x{1B4F}\\x{1B7D}-\\x{1B7F}\\x{2E43}-\\x{2E4F}"
    "\\x{2E52}-\\x{2E5D}\\x{10D6E}\\x{10EAD}\\x{10F55}-\\x{10F59}\\x{10F86}-\\x{10F89}\\x{113D4}-\\x{113D5}"
    "\\x{113D7}-\\x{113D8}\\x{1144B}-\\x{1144F}\\x{1145A}-\\x{1145B}\\x{1145D}\\x{11660}-\\x{1166C}\\x{116B9}"
    "\\x{1183B}\\x{11944}-\\x{11946}\\x{119E2}\\x{11A3F}-\\x{11A46}\\x{11A9A}-\\x{11A9C}\\x{11A9E}-\\x{11AA2}"
    "\\x{11B00}-\\x{11B09}\\x{11BE1}\\x{11C41}-\\x{11C45}\\x{11C70}-\\x{11C71}\\x{11EF7}-\\x{11EF8}"
    "\\x{11F43}-\\x{11F4F}\\x{11FFF}\\x{12FF1}-\\x{12FF2}\\x{16D6D}-\\x{16D6F}\\x{16E97}-\\x{16E9A}\\x{16FE2}"
    "\\x{1E5FF}\\x{1E95E}-\\x{1E95F}"
    "])[\\p{P}\\x{166D}\\x{111C9}!-/:-@\\[-`{-~]";

static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
enum { GROWTH = 16, SLACK = 1 << 20 }; /* ByteLevel after ByteLevel doubles the text each time */
enum { REMOVED, ISOLATED, WITH_PREVIOUS, WITH_NEXT, CONTIGUOUS, BEHAVIORS };

typedef struct {
    enum { SPLIT, FRONT, MAP } kind;
    pattern *pattern; /* SPLIT */
    int behavior, invert;
    char mark[5];    /* FRONT: put before a piece that does not begin with it, */
    int mark_length; /* and in place of every space where `spaces` is set      */
    int spaces, only_first, never;
} step;

struct pretokenizer {
    step *steps;
    int64_t count, capacity;
};

static step *add_step(pretokenizer *p, int kind) {
    mem_reserve(p->steps, p->count, p->capacity);
    step *const s = &p->steps[p->count++];
    *s = (step){.kind = kind};
    return s;
}

static int add_split(pretokenizer *p, const char *regex, int behavior, int invert, graft_error *err) {
    step *const s = add_step(p, SPLIT);
    s->behavior = behavior;
    s->invert = invert;
    return pattern_regex(regex, (int64_t)strlen(regex), &s->pattern, err);
}

static int load_behavior(const json_t *node, const char *what, const char *fallback, int *out, graft_error *err) {
    const char *name;
    const int rc = json_get_text(node, what, "behavior", fallback, &name, err);
    if (rc) return rc;
    for (*out = 0; *out < BEHAVIORS; ++*out)
        if (name && strcmp(name, behaviors[*out]) == 0) return 0;
    return fail(err, GRAFT_FAILED,
                "%s: \"behavior\" has to be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", what);
}

static int load_split(pretokenizer *p, const json_t *node, graft_error *err) {
    const char *const what = "the pre-tokenizer Split";
    step *const s = add_step(p, SPLIT);
    int rc = component_pattern(node, what, &s->pattern, err);
    if (!rc) rc = load_behavior(node, what, NULL, &s->behavior, err);
    return rc ? rc : json_get_bool(node, what, "invert", 0, &s->invert, err);
}

static int load_byte_level(pretokenizer *p, const json_t *node, graft_error *err) {
    const char *const what = "the pre-tokenizer ByteLevel";
    int space, regex;
    int rc = json_get_bool(node, what, "add_prefix_space", 1, &space, err);
    if (!rc) rc = json_get_bool(node, what, "use_regex", 1, &regex, err);
    if (rc) return rc;
    if (space) {
        step *const s = add_step(p, FRONT);
        s->mark[0] = ' ';
        s->mark_length = 1;
    }
    if (regex) rc = add_split(p, gpt2, ISOLATED, 0, err);
    add_step(p, MAP);
    return rc;
}

/* Older files say add_prefix_space: false for what prepend_scheme: "never" says now. */
static int load_metaspace(pretokenizer *p, const json_t *node, graft_error *err) {
    const char *const what = "the pre-tokenizer Metaspace";
    const char *mark, *scheme;
    int64_t length;
    int prefix, split;
    int rc = component_character(node, what, "replacement", "\xE2\x96\x81", &mark, &length, err);
    if (!rc) rc = json_get_text(node, what, "prepend_scheme", "always", &scheme, err);
    if (!rc) rc = json_get_bool(node, what, "add_prefix_space", 1, &prefix, err);
    if (!rc) rc = json_get_bool(node, what, "split", 1, &split, err);
    if (rc) return rc;
    const int first = strcmp(scheme, "first") == 0, never = strcmp(scheme, "never") == 0;
    if (!first && !never && strcmp(scheme, "always") != 0)
        return fail(err, GRAFT_FAILED, "%s: \"prepend_scheme\" has to be always, first or never", what);
    if (!prefix && first)
        return fail(err, GRAFT_FAILED, "%s: \"add_prefix_space\" contradicts \"prepend_scheme\"", what);
    step *const front = add_step(p, FRONT);
    memcpy(front->mark, mark, (size_t)length);
    front->mark_length = (int)length;
    front->spaces = 1;
    front->only_first = first;
    front->never = never || !prefix;
    if (!split) return 0;
    step *const s = add_step(p, SPLIT);
    s->behavior = WITH_NEXT;
    pattern_literal(mark, length, &s->pattern);
    return 0;
}

static int load(pretokenizer *p, json_t *node, int depth, graft_error *err) {
    const char *const type = component_type(node, "pre-tokenizer", err);
    if (!type) return GRAFT_FAILED;
    if (strcmp(type, "Sequence") == 0) {
        json_t *const list = component_list(node, "the pre-tokenizer Sequence", "pretokenizers", depth, err);
        int rc = list ? 0 : GRAFT_FAILED;
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = load(p, json_array_get(list, i), depth + 1, err);
        return rc;
    }
    if (strcmp(type, "Split") == 0) return load_split(p, node, err);
    if (strcmp(type, "ByteLevel") == 0) return load_byte_level(p, node, err);
    if (strcmp(type, "Metaspace") == 0) return load_metaspace(p, node, err);
    if (strcmp(type, "Digits") == 0) {
        int each;
        const int rc = json_get_bool(node, "the pre-tokenizer Digits", "individual_digits", 0, &each, err);
        return rc ? rc : add_split(p, digits, each ? ISOLATED : CONTIGUOUS, 0, err);
    }
    if (strcmp(type, "Punctuation") == 0) {
        int behavior;
        const int rc = load_behavior(node, "the pre-tokenizer Punctuation", "Isolated", &behavior, err);
        return rc ? rc : add_split(p, punctuation, behavior, 0, err);
    }
    if (strcmp(type, "Whitespace") == 0)
        return add_split(p, "[" PRETOKENIZER_WORDS "]+|[^" PRETOKENIZER_WORDS "\\s]+", REMOVED, 1, err);
    if (strcmp(type, "WhitespaceSplit") == 0) return add_split(p, "\\s", REMOVED, 0, err);
    return component_unknown(
        "pre-tokenizer", type,
        "Sequence, Split, ByteLevel, Digits, Metaspace, Punctuation, Whitespace and WhitespaceSplit", err);
}

int pretokenizer_load(json_t *node, pretokenizer **out, graft_error *err) {
    pretokenizer *const p = mem_new(1, sizeof *p);
    *out = p;
    if (!node || json_is_null(node)) return 0;
    const int rc = load(p, node, 0, err);
    if (rc) pretokenizer_free(p), *out = NULL;
    return rc;
}

void pretokenizer_free(pretokenizer *p) {
    if (!p) return;
    for (int64_t i = 0; i < p->count; i++)
        pattern_free(p->steps[i].pattern);
    free(p->steps);
    free(p);
}

int pretokenizer_leave_bytes(pretokenizer *p) {
    if (!p->count || p->steps[p->count - 1].kind != MAP) return 0;
    p->count--;
    return 1;
}

/* Pieces of one piece, in the making. `first` is where its own pieces begin in out. */
typedef struct {
    int behavior;
    pieces *out;
    int64_t first;
    int was_match;
    int64_t waiting; /* WITH_NEXT: begin of a match that the next part takes, -1: none */
} cutter;

static void join_or_add(cutter *c, int join, int64_t begin, int64_t end) {
    if (join && c->out->count > c->first)
        c->out->items[c->out->count - 1].end = end;
    else
        pieces_add(c->out, begin, end);
}

/* The next part of the piece, a match or what lies between matches. */
static void cut_part(cutter *c, int64_t begin, int64_t end, int match) {
    switch (c->behavior) {
    case REMOVED:
        if (!match) pieces_add(c->out, begin, end);
        break;
    case ISOLATED:
        pieces_add(c->out, begin, end);
        break;
    case CONTIGUOUS:
        join_or_add(c, match == c->was_match, begin, end);
        break;
    case WITH_PREVIOUS:
        join_or_add(c, match && !c->was_match, begin, end);
        break;
    default:
        if (match) {
            if (c->waiting >= 0) pieces_add(c->out, c->waiting, begin);
            c->waiting = begin;
        } else {
            pieces_add(c->out, c->waiting >= 0 ? c->waiting : begin, end);
            c->waiting = -1;
        }
    }
    c->was_match = match;
}

/* Takes away the empty pieces from `first` on: matches of nothing count while pieces are joined, not afterwards. */
static void drop_empty(pieces *p, int64_t first) {
    int64_t kept = first;
    for (int64_t i = first; i < p->count; i++)
        if (p->items[i].begin < p->items[i].end) p->items[kept++] = p->items[i];
    p->count = kept;
}

static int split(const step *s, pattern_scratch *scratch, const view *v, const pieces *in, pieces *out,
                 graft_error *err) {
    for (int64_t i = 0; i < in->count; i++) {
        const int64_t base = in->items[i].begin, length = in->items[i].end - base;
        cutter c = {s->behavior, out, out->count, 0, -1};
        pattern_walk walk = {.pattern = s->pattern, .scratch = scratch, .text = v->bytes + base, .length = length};
        int64_t done = 0, begin, end;
        int rc;
        while ((rc = pattern_next(&walk, &begin, &end, err)) == 1) {
            if (done != begin) cut_part(&c, base + done, base + begin, s->invert);
            cut_part(&c, base + begin, base + end, !s->invert);
            done = end;
        }
        if (rc < 0) return GRAFT_FAILED;
        if (done != length) cut_part(&c, base + done, base + length, s->invert);
        if (c.waiting >= 0) pieces_add(out, c.waiting, base + length);
        drop_empty(out, c.first);
    }
    return 0;
}

static void front(const step *s, const view *v, const pieces *in, aligned *to, pieces *out) {
    for (int64_t i = 0; i < in->count; i++) {
        const int64_t begin = in->items[i].begin, end = in->items[i].end, start = to->length;
        const char *const bytes = v->bytes + begin;
        const int there = (s->spaces && *bytes == ' ') ||
                          (end - begin >= s->mark_length && memcmp(bytes, s->mark, (size_t)s->mark_length) == 0);
        const span from = view_span(v, begin, begin + 1);
        if (!there && !s->never && (!s->only_first || from.begin == 0)) aligned_add(to, s->mark, s->mark_length, from);
        int64_t done = begin;
        for (int64_t at = begin; s->spaces && at < end; at++) {
            const char *const space = memchr(v->bytes + at, ' ', (size_t)(end - at));
            if (!space) break;
            at = space - v->bytes;
            aligned_copy(to, v, done, at);
            aligned_add(to, s->mark, s->mark_length, view_span(v, at, at + 1));
            done = at + 1;
        }
        aligned_copy(to, v, done, end);
        pieces_add(out, start, to->length);
    }
}

/* Printed bytes stand for themselves; the others, in order, are U+0100 and on: 00-20, 7F-A0, AD. */
static int is_printed(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
}

int pretokenizer_byte(unsigned char b, char out[UTF8_MAX]) {
    const uint32_t other = b <= 0x20 ? b : b <= 0xA0 ? b - 0x7Fu + 0x21 : 0x43;
    return utf8_encode(is_printed(b) ? b : 0x100 + other, out);
}

int pretokenizer_byte_of(uint32_t code) {
    if (code < 0x100) return is_printed(code) ? (int)code : -1;
    const uint32_t other = code - 0x100;
    return other <= 0x20 ? (int)other : other <= 0x42 ? (int)other - 0x21 + 0x7F : other == 0x43 ? 0xAD : -1;
}

static void map(const view *v, const pieces *in, aligned *to, pieces *out) {
    for (int64_t i = 0; i < in->count; i++) {
        const int64_t start = to->length;
        for (int64_t at = in->items[i].begin; at < in->items[i].end; at++) {
            char bytes[UTF8_MAX];
            const int n = pretokenizer_byte((unsigned char)v->bytes[at], bytes);
            aligned_add(to, bytes, n, view_span(v, at, at + 1));
        }
        pieces_add(out, start, to->length);
    }
}

int pretokenizer_run(const pretokenizer *p, text_workspace *w, view *v, const pieces **cut, graft_error *err) {
    const int64_t wanted = GROWTH * v->length + SLACK, most = wanted < ALIGNED_MOST ? wanted : ALIGNED_MOST;
    int which = 0, text = 0;
    w->cut[0].count = 0;
    if (v->length) pieces_add(&w->cut[0], 0, v->length);
    for (int64_t i = 0; i < p->count; i++) {
        const step *const s = &p->steps[i];
        const pieces *const in = &w->cut[which];
        pieces *const out = &w->cut[!which];
        aligned *const to = &w->pretokenized[text];
        out->count = 0;
        if (s->kind == SPLIT) {
            const int rc = split(s, &w->search, v, in, out, err);
            if (rc) return rc;
        } else {
            to->length = 0;
            if (s->kind == FRONT)
                front(s, v, in, to, out);
            else
                map(v, in, to, out);
            if (to->length > most) return fail(err, GRAFT_FAILED, "the pre-tokenizer makes the text too long");
            *v = aligned_view(to, v->origin);
            text = !text;
        }
        which = !which;
    }
    *cut = &w->cut[which];
    return 0;
}
