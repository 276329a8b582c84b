/* answer — exact match, and the answer of a GSM8K problem. Cobbe et al., 2021, arXiv:2110.14168; rules of lm-evaluation-harness
 * (tasks/gsm8k):
 *
 *   strict     the first match of   #### (\-?[0-9\.\,]+)
 *   flexible   the last match of    (-?[$0-9.,]{2,})|(-?[0-9]+)
 * "[invalid]" without one. Before they are compared both sides lose every "," and "$", all up to the last "#### ", and one "." at
 * the end (or in front of a last line break), and are written in lower case. "#### $80" is invalid under strict: that is the rule. */
#include "metric/answer.h"
#include "metric/grams.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include <string.h>

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static metric_text invalid(void) {
    return (metric_text){"[invalid]", 9};
}

static metric_text strict(const metric_text *t) {
    for (int64_t i = 0; i + 5 < t->length; i++) {
        if (memcmp(t->text + i, "#### ", 5) != 0) continue;
        const int64_t begin = i + 5, digits = begin + (t->text[begin] == '-');
        int64_t end = digits;
        while (end < t->length && (is_digit(t->text[end]) || t->text[end] == '.' || t->text[end] == ','))
            end++;
        if (end > digits) return (metric_text){t->text + begin, end - begin};
    }
    return invalid();
}

static metric_text flexible(const metric_text *t) {
    metric_text last = invalid();
    for (int64_t i = 0; i < t->length;) {
        const int64_t first = i + (t->text[i] == '-');
        int64_t end = first;
        while (end < t->length && (is_digit(t->text[end]) || (t->text[end] && strchr("$.,", t->text[end]))))
            end++;
        if (end - first >= 2 || (end - first == 1 && is_digit(t->text[first]))) {
            last = (metric_text){t->text + i, end - i};
            i = end;
        } else {
            i++;
        }
    }
    return last;
}

metric_text answer_extract(int32_t how, const metric_text *text) {
    return how == ANSWER_STRICT ? strict(text) : flexible(text);
}

void answer_plain(const metric_text *text, strbuf *out) {
    strbuf bare = {0};
    size_t begin = 0;
    for (int64_t i = 0; i < text->length; i++)
        if (text->text[i] != ',' && text->text[i] != '$') strbuf_add(&bare, text->text + i, 1);
    for (size_t i = 5; i <= bare.length; i++)
        if (memcmp(bare.text + i - 5, "#### ", 5) == 0) begin = i;
    const size_t line = bare.length > begin && bare.text[bare.length - 1] == '\n';
    const size_t stop =
        bare.length - begin > line && bare.text[bare.length - line - 1] == '.' ? bare.length - line - 1 : bare.length;
    for (size_t i = begin; i < bare.length;) {
        uint32_t code, small[2];
        const int size = utf8_decode(bare.text + i, (int64_t)(bare.length - i), &code);
        const int count = unicode_lower(code, small);
        for (int k = 0; k < count && i != stop; k++)
            utf8_add(out, small[k]);
        i += (size_t)size;
    }
    strbuf_free(&bare);
}

/* Without white space around it. */
static metric_text trimmed(metric_text t) {
    uint32_t code;
    t.length = grams_trim_end(t.text, t.length);
    for (int size; t.length && (size = utf8_decode(t.text, t.length, &code), grams_is_space(code));) {
        t.text += size;
        t.length -= size;
    }
    return t;
}

static int same(const char *a, size_t a_length, const char *b, size_t b_length) {
    return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

static int is_right(int32_t how, const metric_text *prediction, const metric_text *reference) {
    if (how == ANSWER_EXACT) {
        const metric_text a = trimmed(*prediction), b = trimmed(*reference);
        return same(a.text, (size_t)a.length, b.text, (size_t)b.length);
    }
    const metric_text found = answer_extract(how, prediction);
    strbuf a = {0}, b = {0};
    answer_plain(&found, &a);
    answer_plain(reference, &b);
    const int right = same(a.text, a.length, b.text, b.length);
    strbuf_free(&a);
    strbuf_free(&b);
    return right;
}

int answer_add(const metric *m, const metric_record *r, double *statistics, graft_error *err) {
    statistics[0] = 0;
    statistics[1] = 1;
    for (int64_t i = 0; i < r->count; i++)
        if (is_right(m->variant, &r->prediction, &r->references[i])) statistics[0] = 1;
    return err->code;
}
