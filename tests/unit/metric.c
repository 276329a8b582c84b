/* What the metrics promise beyond the reference numbers: words, several references, empty texts, intervals. */
#include "metric/bleu.h"
#include "metric/bootstrap.h"
#include "metric/rouge.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(metric, .timeout = 60);

static const metric *find(const char *name) {
    const metric *list[32];
    int32_t count = 0;
    graft_error err = {0};
    cr_assert_eq(metric_choose(name, list, &count, &err), 0, "%s", err.text);
    return list[0];
}

static metric_text text_of(const char *text) {
    return (metric_text){text, (int64_t)strlen(text)};
}

static double score(const char *name, const char *answer, const char *reference, const char *other) {
    graft_error err = {0};
    double s[METRIC_STATISTICS];
    const metric *m = find(name);
    const metric_text references[] = {text_of(reference), text_of(other ? other : "")};
    const metric_record r = {text_of(answer), references, other ? 2 : 1, NULL};
    cr_assert_eq(m->add(m, &r, s, &err), 0, "%s", err.text);
    return metric_of_record(m, s);
}

static void expect_words(int32_t how, const char *text, const char *words) {
    pieces p = {0};
    bleu_words(how, text, (int64_t)strlen(text), &p);
    cr_expect_str_eq(p.text.text ? p.text.text : "", words);
    pieces_free(&p);
}

/* Expected words: sacreBLEU 2.6. */
Test(metric, texts_are_cut_into_words_as_sacrebleu_cuts_them) {
    expect_words(BLEU_13A, "It's 1,000.5 m, or so-called (50%)! 3-4.\n",
                 "It's 1,000.5 m , or so-called ( 50 % ) ! 3 - 4 .");
    expect_words(BLEU_13A, "&quot;a&quot; &amp;lt; <skipped>b-\nc", "\" a \" < bc");
    expect_words(BLEU_13A, "안녕하세요. 你好，世界", "안녕하세요 . 你好，世界");
    expect_words(BLEU_INTL, "你好，世界 €5 a.b 1.5 5.", "你好 ， 世界 € 5 a . b 1.5 5.");
    expect_words(BLEU_ZH, "你好，world 1.5。", "你 好 ， world 1.5 。");
    expect_words(BLEU_CHAR, "한 국a", "한 국 a");
    expect_words(BLEU_NONE,
                 " a\u00a0b,  c\x1c"
                 "d ",
                 "a b, c d");
    expect_words(BLEU_13A, " \n", "");
}

Test(metric, of_several_references_the_fitting_one_counts) {
    cr_expect_float_eq(score("exact_match", " b\n", "a", "b"), 1, 0);
    cr_expect_float_eq(score("rougeL", "x y", "a b c", "x y"), 1, 0);
    cr_expect_float_eq(score("chrf", "xy", "abc", "xy"), 100, 1e-9);
    cr_expect_float_eq(score("bleu", "a b c d e", "x", "a b c d e"), 100, 1e-9);
    cr_expect_float_eq(score("gsm8k_flexible", "so it is $72.", "71", "#### 72"), 1, 0);
}

Test(metric, empty_texts_have_a_value) {
    for (int32_t i = 0; i < metric_count; i++)
        if (metrics[i].source == METRIC_OF_TEXT) {
            const double both = score(metrics[i].name, "", "", NULL), one = score(metrics[i].name, "", "a", NULL);
            cr_expect(isfinite(both) && one == 0, "%s: %g, %g", metrics[i].name, both, one);
        }
}

/* The example of the paper, section 3.2: the union of the subsequences "w1 w2" and "w1 w3 w5" is 4 of 5 words. */
Test(metric, rouge_lsum_unites_lines_as_the_paper_does) {
    const metric_text answer = text_of("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"), reference = text_of("w1 w2 w3 w4 w5");
    graft_error err = {0};
    rouge_score s;
    cr_assert_eq(rouge(ROUGE_LSUM, &answer, &reference, &s, &err), 0);
    cr_expect_float_eq(s.recall, 4. / 5, 1e-12);
    cr_expect_float_eq(s.precision, 4. / 10, 1e-12);
}

Test(metric, a_line_too_long_for_rouge_lsum_is_an_error) {
    enum { WORDS = 17000 };
    char *long_line = mem_new(2 * WORDS + 1, 1);
    for (int i = 0; i < WORDS; i++)
        memcpy(long_line + 2 * i, "a ", 2);
    const metric_text t = text_of(long_line);
    graft_error err = {0};
    rouge_score s;
    cr_expect_eq(rouge(ROUGE_LSUM, &t, &t, &s, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "17000 and 17000 words"), "%s", err.text);
    free(long_line);
}

Test(metric, names_stand_for_families_and_unknown_ones_list_what_there_is) {
    const metric *list[32];
    int32_t count = 0;
    graft_error err = {0};
    cr_assert_eq(metric_choose("rouge,gsm8k,rougeL,bleu", list, &count, &err), 0);
    cr_expect_eq(count, 7, "each once");
    cr_expect_eq(metric_choose("bleu,,chrf", list, &count, &err), GRAFT_USAGE);
    err = (graft_error){0};
    cr_expect_eq(metric_choose("ble", list, &count, &err), GRAFT_USAGE);
    cr_expect(strstr(err.text, "no metric \"ble\"; there are loss, "), "%s", err.text);
}

Test(metric, intervals_hold_the_value_and_a_model_does_not_differ_from_itself) {
    enum { RECORDS = 200 };
    const metric *m = find("acc");
    double statistics[2 * RECORDS], better[2 * RECORDS];
    for (int i = 0; i < RECORDS; i++) {
        statistics[2 * i] = i % 4 == 0;
        better[2 * i] = i % 4 != 3;
        statistics[2 * i + 1] = better[2 * i + 1] = 1;
    }
    const interval of_value = bootstrap(m, statistics, NULL, RECORDS);
    /* 1.96 · sqrt(p·(1-p)/n) = 0.06 */
    cr_expect_float_eq(of_value.low, 0.25 - 0.06, 0.015);
    cr_expect_float_eq(of_value.high, 0.25 + 0.06, 0.015);
    const interval again = bootstrap(m, statistics, NULL, RECORDS),
                   none = bootstrap(m, statistics, statistics, RECORDS);
    cr_expect(again.low == of_value.low && again.high == of_value.high);
    cr_expect(none.low == 0 && none.high == 0);
    const interval change = bootstrap(m, better, statistics, RECORDS);
    cr_expect(change.low > 0.4 && change.high < 0.6, "[%g, %g]", change.low, change.high);
    cr_expect(isnan(bootstrap(m, statistics, NULL, 0).low));
}
