/* rouge — words that answer and reference share. Lin, 2004, "ROUGE: a package for automatic evaluation of summaries"; numbers of
 * rouge-score (google-research/rouge) without a stemmer.
 *
 *   P = shared / words of the answer      R = shared / words of the reference      F = 2·P·R / (P + R)
 * shared: runs of n words (ROUGE-n), the longest common subsequence (L), or line by line of the reference the union of its
 * subsequences with every line of the answer (Lsum), where no word counts more often than it stands in either text.
 * Words are runs of [a-z0-9] in lower case, so texts in other scripts have none. Of several references the best F counts. */
#include "metric/rouge.h"
#include "metric/grams.h"
#include <stdlib.h>
#include <string.h>

enum { CELLS_MOST = 1 << 28 };

/* U+212A, the Kelvin sign, and U+0130, I with a dot, are the two others whose lower case has an ASCII letter. */
static char lower(const char *at, int64_t left, int *size) {
    const unsigned char c = (unsigned char)*at;
    *size = 1;
    if (c >= 'A' && c <= 'Z') return (char)(c + 32);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) return (char)c;
    if (left >= 3 && memcmp(at, "\xE2\x84\xAA", 3) == 0) return *size = 3, 'k';
    if (left >= 2 && memcmp(at, "\xC4\xB0", 2) == 0) return *size = 2, 'i';
    return 0;
}

static void cut(const char *text, int64_t length, pieces *out) {
    strbuf word = {0};
    int size;
    for (int64_t at = 0; at < length; at += size) {
        const int dotted = length - at >= 2 && memcmp(text + at, "\xC4\xB0", 2) == 0; /* its dot ends the word */
        const char c = lower(text + at, length - at, &size);
        if (c) strbuf_add(&word, &c, 1);
        if ((!c || dotted || at + size >= length) && word.length) {
            pieces_add_word(out, word.text, (int64_t)word.length);
            word.length = 0;
        }
    }
    strbuf_free(&word);
}

static rouge_score score_of(int64_t shared, int64_t answer, int64_t reference) {
    rouge_score s = {.precision = (double)shared / (double)(answer ? answer : 1),
                     .recall = (double)shared / (double)(reference ? reference : 1)};
    if (s.precision + s.recall > 0) s.f = 2 * s.precision * s.recall / (s.precision + s.recall);
    return s;
}

static int64_t shared_runs(const pieces *answer, const pieces *reference, int64_t n) {
    strmap most = {0};
    grams_raise(&most, reference, n);
    const int64_t shared = grams_matched(&most, answer, n);
    strmap_free(&most);
    return shared;
}

/* Every word as a number, the same for the same word. */
static int32_t *numbers_of(strmap *known, const pieces *p) {
    int32_t *out = mem_new((size_t)p->count + 1, sizeof *out);
    for (int64_t i = 0; i < p->count; i++) {
        const char *word = p->text.text + p->begin[i];
        const size_t length = (size_t)(p->end[i] - p->begin[i]);
        int64_t number = (int64_t)known->count;
        if (!strmap_get(known, word, length, &number)) strmap_put(known, word, length, number);
        out[i] = (int32_t)number;
    }
    return out;
}

/* Length of the longest common subsequence. left (a_count, b_count), may be NULL: 1 where the way back from a cell without a match
 * drops the word of b. */
static int64_t subsequence(const int32_t *a, int64_t a_count, const int32_t *b, int64_t b_count, uint8_t *left) {
    int32_t *row = mem_new((size_t)b_count + 1, sizeof *row);
    for (int64_t i = 0; i < a_count; i++) {
        int32_t corner = 0;
        for (int64_t j = 0; j < b_count; j++) {
            const int32_t above = row[j + 1], before = row[j];
            if (left) left[i * b_count + j] = before > above;
            row[j + 1] = a[i] == b[j] ? corner + 1 : before > above ? before : above;
            corner = above;
        }
    }
    const int64_t length = row[b_count];
    free(row);
    return length;
}

/* The texts line by line, all words known by number. */
typedef struct {
    int32_t **words;
    int64_t *counts;
    int64_t lines, total;
} line_words;

static line_words lines_of(strmap *known, const metric_text *t) {
    line_words l = {0};
    int64_t capacity = 0, more = 0;
    for (const char *at = t->text, *end = t->text + t->length; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        pieces p = {0};
        cut(at, stop - at, &p);
        mem_reserve(l.words, l.lines, capacity);
        mem_reserve(l.counts, l.lines, more);
        l.words[l.lines] = numbers_of(known, &p);
        l.counts[l.lines++] = p.count;
        l.total += p.count;
        pieces_free(&p);
        at = stop + 1;
    }
    return l;
}

static void lines_free(line_words *l) {
    for (int64_t i = 0; i < l->lines; i++)
        free(l->words[i]);
    free(l->words);
    free(l->counts);
}

/* Marks the words of line `a` that stand in its longest common subsequence with `b`. */
static int mark(const int32_t *a, int64_t a_count, const int32_t *b, int64_t b_count, uint8_t *in, graft_error *err) {
    if (b_count && a_count > CELLS_MOST / b_count)
        return fail(err, GRAFT_FAILED, "rougeLsum: lines of %lld and %lld words; their product must not exceed %d",
                    (long long)a_count, (long long)b_count, CELLS_MOST);
    uint8_t *left = mem_new((size_t)(a_count * b_count) + 1, 1);
    subsequence(a, a_count, b, b_count, left);
    for (int64_t i = a_count - 1, j = b_count - 1; i >= 0 && j >= 0;)
        if (a[i] == b[j])
            in[i] = 1, i--, j--;
        else if (left[i * b_count + j])
            j--;
        else
            i--;
    free(left);
    return GRAFT_OK;
}

static int64_t *counts_of(const line_words *l, size_t known) {
    int64_t *counts = mem_new(known + 1, sizeof *counts);
    for (int64_t i = 0; i < l->lines; i++)
        for (int64_t k = 0; k < l->counts[i]; k++)
            counts[l->words[i][k]]++;
    return counts;
}

static int line_by_line(const metric_text *answer, const metric_text *reference, rouge_score *out, graft_error *err) {
    strmap known = {0};
    line_words a = lines_of(&known, answer), r = lines_of(&known, reference);
    int64_t *in_answer = counts_of(&a, known.count), *in_reference = counts_of(&r, known.count), shared = 0;
    for (int64_t i = 0; i < r.lines && !err->code; i++) {
        uint8_t *in = mem_new((size_t)r.counts[i] + 1, 1);
        for (int64_t j = 0; j < a.lines && !err->code; j++)
            mark(r.words[i], r.counts[i], a.words[j], a.counts[j], in, err);
        for (int64_t k = 0; k < r.counts[i]; k++) {
            const int32_t word = r.words[i][k];
            if (!in[k] || in_answer[word] < 1 || in_reference[word] < 1) continue;
            in_answer[word]--;
            in_reference[word]--;
            shared++;
        }
        free(in);
    }
    *out = score_of(shared, a.total, r.total);
    free(in_answer);
    free(in_reference);
    lines_free(&a);
    lines_free(&r);
    strmap_free(&known);
    return err->code;
}

int rouge(int32_t variant, const metric_text *answer, const metric_text *reference, rouge_score *out,
          graft_error *err) {
    if (variant == ROUGE_LSUM) return line_by_line(answer, reference, out, err);
    pieces a = {0}, r = {0};
    strmap known = {0};
    cut(answer->text, answer->length, &a);
    cut(reference->text, reference->length, &r);
    if (variant == ROUGE_L) {
        int32_t *of_a = numbers_of(&known, &a), *of_r = numbers_of(&known, &r);
        *out = score_of(subsequence(of_r, r.count, of_a, a.count, NULL), a.count, r.count);
        free(of_a);
        free(of_r);
    } else {
        *out = score_of(shared_runs(&a, &r, variant), grams_count(&a, variant), grams_count(&r, variant));
    }
    strmap_free(&known);
    pieces_free(&a);
    pieces_free(&r);
    return GRAFT_OK;
}

int rouge_add(const metric *m, const metric_record *r, double *statistics, graft_error *err) {
    statistics[0] = 0;
    statistics[1] = 1;
    for (int64_t i = 0; i < r->count && !err->code; i++) {
        rouge_score s = {0};
        if (rouge(m->variant, &r->prediction, &r->references[i], &s, err) == GRAFT_OK && s.f > statistics[0])
            statistics[0] = s.f;
    }
    return err->code;
}
