/* Metrics against sacrebleu, rouge-score and the rules of lm-evaluation-harness. */
#include "metric/answer.h"
#include "metric/bleu.h"
#include "metric/bootstrap.h"
#include "metric/rouge.h"
#include "objectives.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(metrics, .timeout = 60);

static metric_text text_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return (metric_text){json_string_value(value), (int64_t)json_string_length(value)};
}

static const metric *find(const char *name) {
    const metric *list[32];
    int32_t count = 0;
    graft_error err = {0};
    cr_assert_eq(metric_choose(name, list, &count, &err), 0, "%s", err.text);
    return list[0];
}

static int near(double a, double b) {
    return fabs(a - b) <= 1e-10 * fmax(1, fabs(b));
}

static void check_rouge(const json_t *row, size_t i, const char *name, int32_t variant, const metric_record *r) {
    graft_error err = {0};
    rouge_score s;
    const json_t *wanted = json_object_get(row, name);
    cr_assert_eq(rouge(variant, &r->prediction, r->references, &s, &err), 0, "%s", err.text);
    const double mine[] = {s.precision, s.recall, s.f};
    for (size_t k = 0; k < 3; k++)
        cr_expect(near(mine[k], json_number_value(json_array_get(wanted, k))), "row %zu, %s: %.17g", i, name, mine[k]);
}

Test(metrics, overlap_of_words_and_characters_is_that_of_the_reference_tools) {
    graft_error err = {0};
    json_t *g = golden("eval_text_overlap.json"), *row;
    const metric *bleu = find("bleu"), *chrf = find("chrf");
    double bleu_sums[METRIC_STATISTICS] = {0}, chrf_sums[METRIC_STATISTICS] = {0};
    size_t i;
    json_array_foreach(json_object_get(g, "rows"), i, row) {
        double s[METRIC_STATISTICS];
        const metric_text reference = text_of(row, "reference");
        const metric_record r = {text_of(row, "hypothesis"), &reference, 1, NULL};
        check_rouge(row, i, "rouge1", 1, &r);
        check_rouge(row, i, "rouge2", 2, &r);
        check_rouge(row, i, "rougeL", ROUGE_L, &r);
        cr_assert_eq(bleu->add(bleu, &r, s, &err), 0);
        cr_expect(near(metric_of_record(bleu, s), number(row, "sentence_bleu")), "row %zu", i);
        for (int k = 0; k < bleu->statistics; k++)
            bleu_sums[k] += s[k];
        cr_assert_eq(chrf->add(chrf, &r, s, &err), 0);
        cr_expect(near(metric_of_record(chrf, s), number(row, "sentence_chrf")), "row %zu", i);
        for (int k = 0; k < chrf->statistics; k++)
            chrf_sums[k] += s[k];
    }
    cr_expect_gt(i, 0);
    cr_expect(near(bleu->value(bleu, bleu_sums), number(g, "corpus_bleu")));
    cr_expect(near(chrf->value(chrf, chrf_sums), number(g, "corpus_chrf")));
    cr_expect_float_eq(bleu_sums[0], number(g, "sys_len"), 0);
    cr_expect_float_eq(bleu_sums[1], number(g, "ref_len"), 0);
    json_decref(g);
}

static void check_number(const json_t *row, const char *what, int32_t how, double *right) {
    graft_error err = {0};
    char name[32];
    double s[2];
    const metric_text response = text_of(row, "response"), answer = text_of(row, "answer"),
                      found = answer_extract(how, &response), wanted = text_of(row, what);
    const metric_record r = {response, &answer, 1, NULL};
    const metric *m = find(how == ANSWER_STRICT ? "gsm8k_strict" : "gsm8k_flexible");
    snprintf(name, sizeof name, "%s_match", what);
    cr_expect(found.length == wanted.length && memcmp(found.text, wanted.text, (size_t)found.length) == 0,
              "%s of \"%s\": \"%.*s\"", what, response.text, (int)found.length, found.text);
    cr_assert_eq(m->add(m, &r, s, &err), 0);
    cr_expect_eq((int)s[0], json_is_true(json_object_get(row, name)), "%s of \"%s\"", name, response.text);
    *right += s[0];
}

Test(metrics, answers_of_gsm8k_are_found_and_compared_as_lm_evaluation_harness_does) {
    json_t *g = golden("eval_numbers.json"), *row;
    const json_t *rows = json_object_get(g, "rows");
    const double count = (double)json_array_size(rows);
    double strict = 0, flexible = 0;
    size_t i;
    json_array_foreach(rows, i, row) {
        check_number(row, "strict", ANSWER_STRICT, &strict);
        check_number(row, "flexible", ANSWER_FLEXIBLE, &flexible);
    }
    cr_expect(near(strict / count, number(g, "strict_accuracy")));
    cr_expect(near(flexible / count, number(g, "flexible_accuracy")));
    json_decref(g);
}

static void check_choices(const char *model, const json_t *of_model, const json_t *questions) {
    double right[3] = {0}, count = 0;
    const char *const pred[] = {"pred", "pred_norm_chars", "pred_norm_bytes"}, *const acc[] = {"acc", "acc_norm_chars",
                                                                                               "acc_norm_bytes"};
    json_t *question;
    size_t q;
    json_array_foreach(questions, q, question) {
        const json_t *result = json_array_get(json_object_get(of_model, "results"), q),
                     *scored = json_object_get(result, "choices"), *texts = json_object_get(question, "choices");
        const int64_t n = (int64_t)json_array_size(texts);
        double scores[16];
        int64_t bytes[16], characters[16];
        for (int64_t c = 0; c < n; c++) {
            const json_t *t = json_array_get(texts, (size_t)c);
            scores[c] = number(json_array_get(scored, (size_t)c), "loglikelihood");
            bytes[c] = (int64_t)json_string_length(t);
            characters[c] = 0;
            for (const char *at = json_string_value(t); *at; at++)
                characters[c] += (*at & 0xC0) != 0x80;
        }
        const int64_t *const by[] = {NULL, characters, bytes};
        for (int k = 0; k < 3; k++) {
            const int64_t best = choice_best(scores, by[k], n);
            cr_expect_eq(best, json_integer_value(json_object_get(result, pred[k])), "%s, question %zu, %s", model, q,
                         pred[k]);
            right[k] += best == json_integer_value(json_object_get(question, "gold"));
        }
        count++;
    }
    for (int k = 0; k < 3; k++)
        cr_expect(near(right[k] / count, number(of_model, acc[k])), "%s, %s", model, acc[k]);
}

Test(metrics, the_best_choice_is_that_of_lm_evaluation_harness) {
    json_t *g = golden("eval_choice.json"), *model;
    const char *name;
    json_object_foreach(json_object_get(g, "models"), name, model)
        check_choices(name, model, json_object_get(g, "questions"));
    json_decref(g);
}
