/* chrf — chrF2 and chrF++: F-score of character n-grams, and of words. Popović, 2015, "chrF: character n-gram F-score for automatic
 * MT evaluation"; 2017, "chrF++"; numbers of sacreBLEU.
 *
 *   P, R = mean over the orders of matched / n-grams of the answer, of the reference      F = 5·P·R / (4·P + R)      (beta 2)
 * Orders 1 to 6 of characters without white space; `variant` orders of words, with punctuation at an end of a word a word of its own.
 * Orders that either side is too short for are left out. Of several references the one with the best F of the record counts. */
#include "metric/grams.h"
#include "metric/metric.h"
#include "text/utf8.h"
#include <string.h>

enum { CHARACTERS = 6, ORDERS_MOST = 8 };

static int is_mark(char c) {
    return c > ' ' && c < 127 && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z');
}

/* "(hi)" becomes "(hi" and ")", "(hi" becomes "(" and "hi". */
static void part_words(pieces *to, const char *text, int64_t length) {
    pieces words = {0};
    pieces_words(&words, text, length);
    for (int64_t i = 0; i < words.count; i++) {
        const char *word = words.text.text + words.begin[i];
        const int64_t size = words.end[i] - words.begin[i];
        const int64_t first = utf8_size(*word) == size  ? size /* one character */
                              : is_mark(word[size - 1]) ? size - 1
                              : is_mark(*word)          ? 1
                                                        : size;
        pieces_add_word(to, word, first);
        if (first < size) pieces_add_word(to, word + first, size - first);
    }
    pieces_free(&words);
}

typedef struct {
    pieces of[2]; /* characters, words */
} text_pieces;

static text_pieces cut(const metric *m, const metric_text *t) {
    text_pieces p = {0};
    pieces_characters(&p.of[0], t->text, t->length);
    if (m->variant) part_words(&p.of[1], t->text, t->length);
    return p;
}

static void cut_free(text_pieces *p) {
    pieces_free(&p->of[0]);
    pieces_free(&p->of[1]);
}

/* Answer, reference and matched n-grams of every order. */
static void compare(const metric *m, const text_pieces *answer, const text_pieces *reference, double *s) {
    for (int order = 0; order < CHARACTERS + m->variant; order++, s += 3) {
        const int words = order >= CHARACTERS, n = 1 + order - (words ? CHARACTERS : 0);
        const int64_t there = grams_count(&reference->of[words], n);
        strmap most = {0};
        grams_raise(&most, &reference->of[words], n);
        s[0] = there ? (double)grams_count(&answer->of[words], n) : 0;
        s[1] = (double)there;
        s[2] = (double)grams_matched(&most, &answer->of[words], n);
        strmap_free(&most);
    }
}

int chrf_add(const metric *m, const metric_record *r, double *statistics, graft_error *err) {
    text_pieces answer = cut(m, &r->prediction);
    double best = -1;
    for (int64_t i = 0; i < r->count; i++) {
        text_pieces reference = cut(m, &r->references[i]);
        double s[3 * ORDERS_MOST];
        compare(m, &answer, &reference, s);
        const double value = chrf_value(m, s);
        if (value > best) {
            best = value;
            memcpy(statistics, s, (size_t)m->statistics * sizeof *s);
        }
        cut_free(&reference);
    }
    cut_free(&answer);
    return err->code;
}

double chrf_value(const metric *m, const double *s) {
    double precision = 0, recall = 0;
    int orders = 0;
    for (int order = 0; order < CHARACTERS + m->variant; order++, s += 3) {
        if (!(s[0] > 0 && s[1] > 0)) continue;
        precision += s[2] / s[0];
        recall += s[2] / s[1];
        orders++;
    }
    if (!(precision + recall > 0)) return 0;
    precision /= orders;
    recall /= orders;
    return 100 * (5 * precision * recall / (4 * precision + recall));
}
