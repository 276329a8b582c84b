/* bleu — n-gram precision with a penalty for brevity. Papineni et al., 2002, "BLEU: a method for automatic evaluation of machine
 * translation"; numbers of sacreBLEU (Post, 2018, arXiv:1804.08771) with exponential smoothing.
 *
 *   BLEU = 100 · min(1, exp(1 - R/L)) · (p1 p2 p3 p4)^(1/4)       pn = matched runs of n words / runs of n words
 * summed over all records before the division. L: words of the answers, R: of the nearest reference of each. An order without a
 * match counts as half a match, the next one as a quarter ...: mteval-v13a's smoothing. */
#include "metric/bleu.h"
#include "metric/metric.h"
#include <math.h>
#include <stdlib.h>

/* Nearest to `length`, the shorter of two equally near. */
static int64_t nearer(int64_t length, int64_t a, int64_t b) {
    const int64_t da = llabs(a - length), db = llabs(b - length);
    return da < db || (da == db && a < b) ? a : b;
}

int bleu_add(const metric *m, const metric_record *r, double *statistics, graft_error *err) {
    pieces answer = {0};
    strmap most = {0};
    int64_t near = 0;
    bleu_words(m->variant, r->prediction.text, r->prediction.length, &answer);
    for (int64_t i = 0; i < r->count; i++) {
        pieces reference = {0};
        bleu_words(m->variant, r->references[i].text, r->references[i].length, &reference);
        near = i ? nearer(answer.count, near, reference.count) : reference.count;
        for (int64_t n = 1; n <= BLEU_ORDER; n++)
            grams_raise(&most, &reference, n);
        pieces_free(&reference);
    }
    statistics[0] = (double)answer.count;
    statistics[1] = (double)near;
    for (int64_t n = 1; n <= BLEU_ORDER; n++) {
        statistics[1 + n] = (double)grams_matched(&most, &answer, n);
        statistics[1 + BLEU_ORDER + n] = (double)grams_count(&answer, n);
    }
    strmap_free(&most);
    pieces_free(&answer);
    return err->code;
}

/* effective: only orders that the answer is long enough for. */
static double score(const double *s, int effective) {
    const double *matched = s + 2, *all = s + 2 + BLEU_ORDER;
    if (!(matched[0] + matched[1] + matched[2] + matched[3] > 0)) return 0;
    double logs = 0, smooth = 1;
    int orders = 0;
    for (; orders < BLEU_ORDER && all[orders] > 0; orders++)
        logs += log(matched[orders] > 0 ? 100 * matched[orders] / all[orders] : 100 / ((smooth *= 2) * all[orders]));
    if (!effective && orders < BLEU_ORDER) return 0;
    return (s[0] < s[1] ? exp(1 - s[1] / s[0]) : 1) * exp(logs / orders);
}

double bleu_value(const metric *m, const double *sums) {
    (void)m;
    return score(sums, 0);
}

double bleu_record_value(const metric *m, const double *statistics) {
    (void)m;
    return score(statistics, 1);
}
