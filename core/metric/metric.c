/* metric — the table of metrics. */
#include "metric/metric.h"
#include "metric/answer.h"
#include "metric/bleu.h"
#include "metric/rouge.h"
#include <math.h>
#include <string.h>

double metric_mean(const metric *m, const double *sums) {
    (void)m;
    return sums[1] > 0 ? sums[0] / sums[1] : NAN;
}

static double perplexity(const metric *m, const double *sums) {
    return exp(metric_mean(m, sums));
}

double metric_of_record(const metric *m, const double *statistics) {
    return (m->record_value ? m->record_value : m->value)(m, statistics);
}

/* clang-format off */
#define BLEU(name, words, brief) {name, brief, METRIC_OF_TEXT, 0, words, BLEU_STATISTICS, bleu_add, bleu_value, bleu_record_value}
#define MEAN(name, add, variant, brief) {name, brief, METRIC_OF_TEXT, 0, variant, 2, add, metric_mean, NULL}
#define CHOICE(name, by, brief) {name, brief, METRIC_OF_CHOICE, 0, by, 2, NULL, metric_mean, NULL}
const metric metrics[] = {
    {"loss", "-log p of an answer's tokens, mean over all of them", METRIC_OF_TOKENS, 1, 0, 2, NULL, metric_mean, NULL},
    {"perplexity", "exp(loss)", METRIC_OF_TOKENS, 1, 0, 2, NULL, perplexity, NULL},
    MEAN("exact_match", answer_add, ANSWER_EXACT, "the answer is a reference, white space around both aside"),
    MEAN("gsm8k_strict", answer_add, ANSWER_STRICT, "the number behind #### is the reference's (lm-evaluation-harness)"),
    MEAN("gsm8k_flexible", answer_add, ANSWER_FLEXIBLE, "the last number is the reference's (lm-evaluation-harness)"),
    MEAN("rouge1", rouge_add, 1, "F1 of shared words, mean over records (rouge-score)"),
    MEAN("rouge2", rouge_add, 2, "F1 of shared pairs of words"),
    MEAN("rougeL", rouge_add, ROUGE_L, "F1 of the longest common subsequence of words"),
    MEAN("rougeLsum", rouge_add, ROUGE_LSUM, "the same line by line, united over the lines"),
    BLEU("bleu", BLEU_13A, "BLEU of all records together, 0 to 100 (sacreBLEU: 13a, exp)"),
    BLEU("bleu-intl", BLEU_INTL, "with words cut at Unicode punctuation and symbols (sacreBLEU: intl)"),
    BLEU("bleu-zh", BLEU_ZH, "with Chinese characters as words (sacreBLEU: zh)"),
    BLEU("bleu-char", BLEU_CHAR, "with characters as words (sacreBLEU: char)"),
    BLEU("bleu-none", BLEU_NONE, "with words as white space cuts them (sacreBLEU: none)"),
    {"chrf", "chrF2: F of shared character n-grams, 0 to 100 (sacreBLEU)", METRIC_OF_TEXT, 0, 0, 18, chrf_add, chrf_value, NULL},
    {"chrf++", "the same with words and pairs of words", METRIC_OF_TEXT, 0, 2, 24, chrf_add, chrf_value, NULL},
    CHOICE("acc", CHOICE_BY_NOTHING, "the right choice is the most likely one"),
    CHOICE("acc_norm", CHOICE_BY_CHARACTERS, "... when each is divided by its characters (lm-evaluation-harness)"),
    CHOICE("acc_bytes", CHOICE_BY_BYTES, "... by its bytes"),
};
/* clang-format on */
const int32_t metric_count = sizeof metrics / sizeof *metrics;

static int refuse(const char *name, size_t length, graft_error *err) {
    strbuf list = {0};
    for (int32_t m = 0; m < metric_count; m++)
        strbuf_printf(&list, "%s%s", m ? ", " : "", metrics[m].name);
    fail(err, GRAFT_USAGE, "there is no metric \"%.*s\"; there are %s; rouge and gsm8k stand for all of theirs",
         (int)(length < 100 ? length : 100), name, list.text);
    strbuf_free(&list);
    return err->code;
}

static void add(const metric *m, const metric **list, int32_t *count) {
    for (int32_t i = 0; i < *count; i++)
        if (list[i] == m) return;
    list[(*count)++] = m;
}

int metric_choose(const char *names, const metric **list, int32_t *count, graft_error *err) {
    for (const char *at = names;; at++) {
        const size_t length = strcspn(at, ",");
        const int all = (length == 5 && strncmp(at, "rouge", 5) == 0) || (length == 5 && strncmp(at, "gsm8k", 5) == 0);
        int found = 0;
        for (int32_t m = 0; m < metric_count; m++)
            if (strncmp(metrics[m].name, at, length) == 0 && (all || strlen(metrics[m].name) == length)) {
                add(&metrics[m], list, count);
                found = 1;
            }
        if (!found || !length) return refuse(at, length, err);
        at += length;
        if (!*at) return GRAFT_OK;
    }
}

int64_t choice_best(const double *scores, const int64_t *lengths, int64_t count) {
    int64_t best = 0;
    double most = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        const double score = !lengths ? scores[i] : lengths[i] > 0 ? scores[i] / (double)lengths[i] : -INFINITY;
        if (score > most) {
            most = score;
            best = i;
        }
    }
    return best;
}
