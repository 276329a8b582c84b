/* decode — see decode.h. The steps of the decoder stand in a row and hand tokens on; each holds back what a later token may
 * still change. Behind Fuse or ByteLevel there is but one token, which comes in parts. */
#include "text/decode.h"
#include "text/component.h"
#include "text/pattern.h"
#include "text/pretokenize.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { GROWTH = 32, SLACK = 1 << 20, STEPS = 64 }; /* replacements, one after the other, would fill any memory */
#define REPLACEMENT "\xEF\xBF\xBD"                 /* U+FFFD */

typedef struct {
    enum { JOIN, BYTES, FALLBACK, REPLACE, FUSE, STRIP, METASPACE } kind;
    int fused;        /* what comes in are parts of one token */
    pattern *pattern; /* REPLACE */
    char *content;    /* REPLACE: what to put; STRIP, METASPACE: the character */
    int64_t length;
    int64_t start, stop; /* STRIP: how many to take off at most */
    int keep_first;      /* METASPACE: the first token keeps its spaces */
} step;

struct decoder {
    step *steps;
    int64_t count, capacity;
};

/* ---- loading ---- */

static step *add_step(decoder *d, int kind) {
    mem_reserve(d->steps, d->count, d->capacity);
    step *const s = &d->steps[d->count];
    *s = (step){.kind = kind};
    for (int64_t i = 0; i < d->count; i++)
        s->fused |= d->steps[i].kind == FUSE || d->steps[i].kind == BYTES;
    d->count++;
    return s;
}

static void set_content(step *s, const char *text, int64_t length) {
    s->content = mem_new((size_t)length + 1, 1);
    memcpy(s->content, text, (size_t)length);
    s->length = length;
}

static int load_replace(decoder *d, const json_t *node, graft_error *err) {
    const char *const what = "the decoder Replace";
    step *const s = add_step(d, REPLACE);
    const char *text;
    int64_t length;
    int rc = component_pattern(node, what, &s->pattern, err);
    if (!rc && pattern_is_empty(s->pattern)) rc = fail(err, GRAFT_FAILED, "%s looks for an empty text", what);
    if (!rc) rc = component_text(node, what, "content", NULL, &text, &length, err);
    if (!rc) set_content(s, text, length);
    return rc;
}

static int load_strip(decoder *d, const json_t *node, graft_error *err) {
    const char *const what = "the decoder Strip";
    step *const s = add_step(d, STRIP);
    const char *text;
    int64_t length;
    int rc = component_character(node, what, "content", " ", &text, &length, err);
    if (!rc) rc = json_get_int(node, what, "start", 0, &s->start, err);
    if (!rc) rc = json_get_int(node, what, "stop", 0, &s->stop, err);
    if (!rc && (s->start < 0 || s->stop < 0))
        rc = fail(err, GRAFT_FAILED, "%s: \"start\" and \"stop\" must not be negative", what);
    if (!rc) set_content(s, text, length);
    return rc;
}

static int load_metaspace(decoder *d, const json_t *node, graft_error *err) {
    const char *const what = "the decoder Metaspace";
    step *const s = add_step(d, METASPACE);
    const char *text, *scheme;
    int64_t length;
    int prefix = 1;
    int rc = component_character(node, what, "replacement", "\xE2\x96\x81", &text, &length, err);
    if (!rc) rc = json_get_text(node, what, "prepend_scheme", "always", &scheme, err);
    if (!rc) rc = json_get_bool(node, what, "add_prefix_space", 1, &prefix, err);
    if (rc) return rc;
    s->keep_first = !prefix || strcmp(scheme, "never") == 0;
    set_content(s, text, length);
    return 0;
}

static int load(decoder *d, json_t *node, int depth, graft_error *err) {
    const char *const type = component_type(node, "decoder", err);
    if (!type) return GRAFT_FAILED;
    if (strcmp(type, "Sequence") == 0) {
        json_t *const list = component_list(node, "the decoder Sequence", "decoders", depth, err);
        int rc = list ? 0 : GRAFT_FAILED;
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = load(d, json_array_get(list, i), depth + 1, err);
        return rc;
    }
    if (strcmp(type, "Replace") == 0) return load_replace(d, node, err);
    if (strcmp(type, "Strip") == 0) return load_strip(d, node, err);
    if (strcmp(type, "Metaspace") == 0) return load_metaspace(d, node, err);
    static const char *const plain[] = {"ByteLevel", "ByteFallback", "Fuse"};
    static const int kinds[] = {BYTES, FALLBACK, FUSE};
    for (int i = 0; i < 3; i++) {
        if (strcmp(type, plain[i]) != 0) continue;
        add_step(d, kinds[i]);
        return 0;
    }
    return component_unknown("decoder", type, "Sequence, ByteLevel, ByteFallback, Replace, Fuse, Strip and Metaspace",
                             err);
}

int decoder_load(json_t *node, decoder **out, graft_error *err) {
    decoder *const d = mem_new(1, sizeof *d);
    *out = d;
    int rc = 0;
    if (!node || json_is_null(node))
        add_step(d, JOIN);
    else
        rc = load(d, node, 0, err);
    if (!rc && d->count > STEPS) rc = fail(err, GRAFT_FAILED, "the decoder has more than %d steps", STEPS);
    if (rc) decoder_free(d), *out = NULL;
    return rc;
}

void decoder_free(decoder *d) {
    if (!d) return;
    for (int64_t i = 0; i < d->count; i++) {
        pattern_free(d->steps[i].pattern);
        free(d->steps[i].content);
    }
    free(d->steps);
    free(d);
}

/* ---- decoding ---- */

typedef struct {
    strbuf held;   /* what the step has not handed on yet */
    int64_t taken; /* STRIP of one token in parts: characters taken off its begin */
    int begun;     /* a token, or a character that stays, has come */
} step_state;

struct decoding {
    const decoder *decoder;
    step_state *states;
    pattern_scratch search;
    int64_t pushed; /* bytes of all tokens so far */
    strbuf *out;    /* during a call */
    graft_error *err;
};

static int feed(decoding *d, int64_t at, const char *text, int64_t length);

/* How many of the characters `content` stand at the begin (or the end) of a text, `most` at most. */
static int64_t count_content(const step *s, const char *text, int64_t length, int64_t most, int at_end) {
    int64_t n = 0;
    while (n < most && (n + 1) * s->length <= length &&
           memcmp(at_end ? text + length - (n + 1) * s->length : text + n * s->length, s->content, (size_t)s->length) ==
               0)
        n++;
    return n;
}

static int join(decoding *d, int64_t at, const char *text, int64_t length) {
    const int rc = d->states[at].begun ? feed(d, at + 1, " ", 1) : 0;
    d->states[at].begun = 1;
    return rc ? rc : feed(d, at + 1, text, length);
}

/* Bytes that are held become characters as far as they are complete; with `all` an incomplete rest becomes U+FFFD. */
static int hand_on_bytes(decoding *d, int64_t at, int all) {
    strbuf *const held = &d->states[at].held;
    const int64_t length = (int64_t)held->length;
    int64_t done = 0;
    int rc = 0;
    while (!rc && done < length) {
        const int64_t valid = utf8_valid(held->text + done, length - done);
        if (valid) rc = feed(d, at + 1, held->text + done, valid);
        done += valid;
        if (rc || done >= length) break;
        uint32_t code;
        const int size = utf8_decode(held->text + done, length - done, &code);
        if (code == UTF8_CUT && !all) break;
        rc = feed(d, at + 1, REPLACEMENT, 3);
        done += size;
    }
    if (done) memmove(held->text, held->text + done, (size_t)(length - done));
    held->length = (size_t)(length - done);
    return rc;
}

/* A token of byte characters becomes those bytes; one with any other character stays as it is. */
static int bytes(decoding *d, int64_t at, const char *text, int64_t length) {
    strbuf *const held = &d->states[at].held;
    const size_t before = held->length;
    for (int64_t i = 0; i < length;) {
        uint32_t code;
        i += utf8_decode(text + i, length - i, &code);
        const int byte = pretokenizer_byte_of(code);
        if (byte < 0) {
            held->length = before;
            strbuf_add(held, text, (size_t)length);
            break;
        }
        const char c = (char)byte;
        strbuf_add(held, &c, 1);
    }
    return hand_on_bytes(d, at, 0);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte of a token <0xHH>, -1 for another token. */
static int byte_of_token(const char *text, int64_t length) {
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const int high = text[3] == '+' ? 0 : hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of byte tokens is a text as a whole, or nothing but U+FFFD: so it is held until it ends. */
static int end_run(decoding *d, int64_t at) {
    strbuf *const held = &d->states[at].held;
    const int64_t length = (int64_t)held->length;
    held->length = 0;
    if (!length) return 0;
    if (utf8_valid(held->text, length) == length) return feed(d, at + 1, held->text, length);
    int rc = 0;
    for (int64_t i = 0; !rc && i < length; i++)
        rc = feed(d, at + 1, REPLACEMENT, 3);
    return rc;
}

static int fallback(decoding *d, int64_t at, const char *text, int64_t length) {
    const int byte = byte_of_token(text, length);
    if (byte >= 0) {
        const char c = (char)byte;
        strbuf_add(&d->states[at].held, &c, 1);
        return 0;
    }
    const int rc = end_run(d, at);
    return rc ? rc : feed(d, at + 1, text, length);
}

static int replace(decoding *d, int64_t at, const char *text, int64_t length) {
    const step *const s = &d->decoder->steps[at];
    pattern_walk walk = {.pattern = s->pattern, .scratch = &d->search, .text = text, .length = length};
    strbuf made = {0};
    int64_t done = 0, begin, end;
    int rc;
    while ((rc = pattern_next(&walk, &begin, &end, d->err)) == 1) {
        strbuf_add(&made, text + done, (size_t)(begin - done));
        strbuf_add(&made, s->content, (size_t)s->length);
        done = end;
        if ((int64_t)made.length <= GROWTH * d->pushed + SLACK) continue;
        rc = fail(d->err, GRAFT_FAILED, "the decoder Replace makes the text too long");
        break;
    }
    if (rc == 0) {
        strbuf_add(&made, text + done, (size_t)(length - done));
        rc = feed(d, at + 1, made.text ? made.text : "", (int64_t)made.length);
    } else {
        rc = GRAFT_FAILED;
    }
    strbuf_free(&made);
    return rc;
}

static int strip(decoding *d, int64_t at, const char *text, int64_t length) {
    const step *const s = &d->decoder->steps[at];
    const int64_t start = count_content(s, text, length, s->start, 0) * s->length;
    const int64_t stop = count_content(s, text + start, length - start, s->stop, 1) * s->length;
    return feed(d, at + 1, text + start, length - start - stop);
}

/* The same for a part of the one token there is: its end may be the end of all, so what could be taken off is held. */
static int strip_part(decoding *d, int64_t at, const char *text, int64_t length) {
    const step *const s = &d->decoder->steps[at];
    step_state *const state = &d->states[at];
    if (!state->begun) {
        const int64_t n = count_content(s, text, length, s->start - state->taken, 0);
        state->taken += n;
        text += n * s->length, length -= n * s->length;
        state->begun = length > 0 || state->taken == s->start;
    }
    strbuf_add(&state->held, text, (size_t)length);
    const int64_t all = (int64_t)state->held.length;
    const int64_t keep = count_content(s, state->held.text, all, s->stop, 1) * s->length;
    const int rc = all > keep ? feed(d, at + 1, state->held.text, all - keep) : 0;
    if (all > keep) memmove(state->held.text, state->held.text + all - keep, (size_t)keep);
    state->held.length = (size_t)keep;
    return rc;
}

static int metaspace(decoding *d, int64_t at, const char *text, int64_t length) {
    const step *const s = &d->decoder->steps[at];
    const int drop = !s->keep_first && (s->fused || !d->states[at].begun);
    d->states[at].begun = 1;
    strbuf made = {0};
    for (int64_t i = 0; i < length;) {
        const int size = utf8_size(text[i]);
        if (size == s->length && memcmp(text + i, s->content, (size_t)size) == 0)
            strbuf_add(&made, " ", !drop);
        else
            strbuf_add(&made, text + i, (size_t)size);
        i += size;
    }
    const int rc = feed(d, at + 1, made.text ? made.text : "", (int64_t)made.length);
    strbuf_free(&made);
    return rc;
}

static int run_step(decoding *d, int64_t at, const char *text, int64_t length) {
    switch (d->decoder->steps[at].kind) {
    case JOIN:
        return join(d, at, text, length);
    case BYTES:
        return bytes(d, at, text, length);
    case FALLBACK:
        return fallback(d, at, text, length);
    case REPLACE:
        return replace(d, at, text, length);
    case STRIP:
        return strip(d, at, text, length);
    case METASPACE:
        return metaspace(d, at, text, length);
    default:
        return feed(d, at + 1, text, length);
    }
}

/* Whether a step needs the whole of a token that comes in parts. */
static int needs_all(const step *s) {
    return s->fused && (s->kind == REPLACE || s->kind == FALLBACK || s->kind == BYTES);
}

/* A token, or a part of the one token, for step `at`. */
static int feed(decoding *d, int64_t at, const char *text, int64_t length) {
    if (at == d->decoder->count) {
        strbuf_add(d->out, text, (size_t)length);
        return 0;
    }
    const step *const s = &d->decoder->steps[at];
    if (needs_all(s)) {
        strbuf_add(&d->states[at].held, text, (size_t)length);
        return 0;
    }
    return s->kind == STRIP && s->fused ? strip_part(d, at, text, length) : run_step(d, at, text, length);
}

/* The end of all tokens for step `at`: it hands on what it holds. */
static int finish(decoding *d, int64_t at) {
    const step *const s = &d->decoder->steps[at];
    step_state *const state = &d->states[at];
    int rc = 0;
    if (needs_all(s)) {
        const strbuf all = state->held;
        state->held = (strbuf){0};
        rc = run_step(d, at, all.text ? all.text : "", (int64_t)all.length);
        free(all.text);
    }
    if (!rc && s->kind == BYTES) rc = hand_on_bytes(d, at, 1);
    if (!rc && s->kind == FALLBACK) rc = end_run(d, at);
    state->held.length = 0; /* STRIP: what was held is what it takes off */
    state->taken = 0;
    state->begun = 0;
    return rc;
}

decoding *decoding_new(const decoder *d) {
    decoding *const new = mem_new(1, sizeof *new);
    new->decoder = d;
    new->states = mem_new((size_t)d->count + 1, sizeof *new->states);
    return new;
}

int decoding_push(decoding *d, const char *token, int64_t length, strbuf *out, graft_error *err) {
    d->out = out;
    d->err = err;
    d->pushed += length;
    return feed(d, 0, token, length);
}

int decoding_end(decoding *d, strbuf *out, graft_error *err) {
    d->out = out;
    d->err = err;
    int rc = 0;
    for (int64_t at = 0; at < d->decoder->count; at++) {
        const int failed = finish(d, at);
        if (!rc) rc = failed;
    }
    d->pushed = 0;
    return rc;
}

void decoding_free(decoding *d) {
    if (!d) return;
    for (int64_t i = 0; i < d->decoder->count; i++)
        strbuf_free(&d->states[i].held);
    free(d->states);
    pattern_scratch_free(&d->search);
    free(d);
}
