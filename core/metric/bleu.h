/* bleu — how texts are cut into words for BLEU. The names are sacreBLEU's. */
#ifndef GRAFT_METRIC_BLEU_H
#define GRAFT_METRIC_BLEU_H
#include "metric/grams.h"

enum { BLEU_13A, BLEU_INTL, BLEU_ZH, BLEU_CHAR, BLEU_NONE };
enum { BLEU_ORDER = 4, BLEU_STATISTICS = 2 + 2 * BLEU_ORDER }; /* words, reference words, matched 1..4, runs 1..4 */

/* Adds the words of a text to `out`, which is {0}. */
void bleu_words(int32_t how, const char *text, int64_t length, pieces *out);

#endif
