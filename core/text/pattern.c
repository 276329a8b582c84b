/* pattern — see pattern.h. Literal texts are found with memmem. Expressions run through PCRE2's JIT; where it has none or
 * its stack is full, through the interpreter. Text is known to be valid UTF-8: the check per call, which makes a search
 * over all matches quadratic, is off. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_START = 64 << 10, STACK_MOST = 4 << 20, MATCH_LIMIT = 10000000, HEAP_LIMIT_KIB = 256 << 10 };

struct pattern {
    char *literal;     /* NULL: an expression */
    int64_t length;    /* of the literal or of the source */
    pcre2_code *code;  /* with the characters that the engine's tables lack: long classes, several times slower */
    pcre2_code *plain; /* without them, for texts that have none; NULL: there is no difference */
};

void pattern_free(pattern *p) {
    if (!p) return;
    free(p->literal);
    pcre2_code_free(p->code);
    pcre2_code_free(p->plain);
    free(p);
}

static int compile(const char *source, int64_t length, const strbuf *text, pcre2_code **out, graft_error *err) {
    pcre2_compile_context *const context = pcre2_compile_context_create(NULL);
    int code;
    PCRE2_SIZE at;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)(text->text ? text->text : ""), text->length,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (*out) {
        pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without machine code it is interpreted */
        return GRAFT_OK;
    }
    char why[200] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return fail(err, GRAFT_FAILED, "the regular expression \"%.*s\" does not compile: %s", (int)length, source, why);
}

int pattern_regex(const char *source, int64_t length, pattern **out, graft_error *err) {
    strbuf text = {0}, plain = {0};
    pattern *const p = mem_new(1, sizeof *p);
    p->length = length;
    *out = NULL;
    if (pattern_translate(source, length, 1, &text, err) == GRAFT_OK &&
        pattern_translate(source, length, 0, &plain, err) == GRAFT_OK &&
        compile(source, length, &text, &p->code, err) == GRAFT_OK && plain.length != text.length)
        compile(source, length, &plain, &p->plain, err);
    if (err->code)
        pattern_free(p);
    else
        *out = p;
    strbuf_free(&text);
    strbuf_free(&plain);
    return err->code;
}

void pattern_literal(const char *text, int64_t length, pattern **out) {
    pattern *const p = mem_new(1, sizeof *p);
    p->literal = mem_new((size_t)length + 1, 1);
    memcpy(p->literal, text, (size_t)length);
    p->length = length;
    *out = p;
}

int pattern_is_empty(const pattern *p) {
    return p->length == 0;
}

void pattern_scratch_free(pattern_scratch *s) {
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    *s = (pattern_scratch){0};
}

static void prepare(pattern_scratch *s) {
    if (s->data) return;
    s->data = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(STACK_START, STACK_MOST, NULL);
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
}

static int has_added(const char *text, int64_t length) {
    for (int64_t at = 0; (at += utf8_ascii(text + at, length - at)) < length;) {
        uint32_t code;
        at += utf8_decode(text + at, length - at, &code);
        if (unicode_is_added(code)) return 1;
    }
    return 0;
}

/* The expression for this text. */
static const pcre2_code *code_for(pattern_walk *w) {
    enum { PLAIN = 1, ADDED };
    if (!w->pattern->plain) return w->pattern->code;
    if (!w->looked) w->looked = has_added(w->text, w->length) ? ADDED : PLAIN;
    return w->looked == PLAIN ? w->pattern->plain : w->pattern->code;
}

static int search(pattern_walk *w, int64_t *begin, int64_t *end, graft_error *err) {
    const pcre2_code *const code = code_for(w);
    pattern_scratch *const s = w->scratch;
    prepare(s);
    const PCRE2_SPTR text = (PCRE2_SPTR)w->text;
    const size_t length = (size_t)w->length, at = (size_t)w->at;
    int rc = pcre2_jit_match(code, text, length, at, 0, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT || rc == PCRE2_ERROR_JIT_BADOPTION) /* the latter: no machine code */
        rc = pcre2_match(code, text, length, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data, s->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) {
        char why[200] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        fail(err, GRAFT_FAILED, "a regular expression of the tokenizer gives up on this text at byte %lld: %s",
             (long long)w->at, why);
        return -1;
    }
    const PCRE2_SIZE *const found = pcre2_get_ovector_pointer(s->data);
    *begin = (int64_t)found[0], *end = (int64_t)found[1];
    return 1;
}

int pattern_next(pattern_walk *w, int64_t *begin, int64_t *end, graft_error *err) {
    const pattern *const p = w->pattern;
    while (w->at <= w->length) {
        if (p->literal) {
            const char *const hit = memmem(w->text + w->at, (size_t)(w->length - w->at), p->literal, (size_t)p->length);
            if (!hit) return 0;
            *begin = hit - w->text, *end = *begin + p->length;
        } else {
            const int rc = search(w, begin, end, err);
            if (rc <= 0) return rc;
        }
        if (*begin != *end || !w->matched || w->last_end != *end) {
            w->at = w->last_end = *end;
            w->matched = 1;
            return 1;
        }
        w->at += w->at < w->length ? utf8_size(w->text[w->at]) : 1;
    }
    return 0;
}
