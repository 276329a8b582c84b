/* Processed scores against transformers' processors: which tokens stay, their scores, their probabilities. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/sample.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(sampling, .timeout = 60);

static float *floats_of(const json_t *list, int64_t *n) {
    float *out = mem_new(json_array_size(list) + 1, sizeof *out);
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        out[i] = json_is_null(v) ? -INFINITY : (float)json_number_value(v);
    }
    return out;
}

static int32_t *ids_of(const json_t *list, int64_t *n) {
    int32_t *out = mem_new(json_array_size(list) + 1, sizeof *out);
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return out;
}

static void bad_words(sampler *s, const json_t *list, const sample_history *h, float *scores) {
    const int32_t count = (int32_t)json_array_size(list);
    int32_t **words = mem_new((size_t)count, sizeof *words), *lengths = mem_new((size_t)count, sizeof *lengths);
    for (int32_t w = 0; w < count; w++) {
        int64_t n;
        words[w] = ids_of(json_array_get(list, (size_t)w), &n);
        lengths[w] = (int32_t)n;
    }
    const sample_settings o = {
        .bad_words = (const int32_t *const *)words, .bad_word_lengths = lengths, .bad_word_count = count};
    sample_bad_words(s, scores, &o, h);
    for (int32_t w = 0; w < count; w++)
        free(words[w]);
    free(words);
    free(lengths);
}

static void apply(sampler *s, const json_t *step, const int32_t *ids, int64_t count, float *scores) {
    const char *name = json_string_value(json_array_get(step, 0));
    const json_t *value = json_array_get(step, 1);
    const double x = json_number_value(value);
    const int32_t zero = 0;
    const sample_history h = {.ids = ids, .count = count, .stops = &zero, .stop_count = 1};
    if (!strcmp(name, "repetition_penalty")) return sample_repetition_penalty(s, scores, ids, count, x);
    if (!strcmp(name, "no_repeat_ngram")) return sample_no_repeat_ngram(s, scores, ids, count, (int64_t)x);
    if (!strcmp(name, "temperature")) return sample_temperature(s, scores, x);
    if (!strcmp(name, "top_h")) return sample_top_h(s, scores, x);
    if (!strcmp(name, "top_k")) return sample_top_k(s, scores, (int64_t)x);
    if (!strcmp(name, "top_p")) return sample_top_p(s, scores, x);
    if (!strcmp(name, "min_p")) return sample_min_p(s, scores, x);
    if (!strcmp(name, "typical_p")) return sample_typical_p(s, scores, x);
    if (!strcmp(name, "epsilon")) return sample_epsilon(s, scores, x);
    if (!strcmp(name, "eta")) return sample_eta(s, scores, x);
    if (!strcmp(name, "bad_words")) return bad_words(s, value, &h, scores);
    int64_t n;
    int32_t *list = ids_of(value, &n);
    if (!strcmp(name, "suppress")) {
        sample_suppress(s, scores, list, (int32_t)n);
    } else {
        cr_assert_str_eq(name, "min_new_tokens");
        const sample_settings o = {.repetition_penalty = 1, .min_new_tokens = list[1]};
        const sample_history at = {.ids = ids, .count = count, .prompt = list[0], .stops = &list[2], .stop_count = 1};
        sample_process(s, &o, &at, scores);
    }
    free(list);
}

static int holds(const int32_t *ids, int64_t n, int32_t id) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] == id) return 1;
    return 0;
}

static int by_value(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Of equal logits it is anyone's choice which stay: what is kept must be the same as values. */
static int has_ties(const float *logits, int64_t vocab) {
    float *all = mem_new((size_t)vocab, sizeof *all);
    memcpy(all, logits, (size_t)vocab * sizeof *all);
    qsort(all, (size_t)vocab, sizeof *all, by_value);
    int ties = 0;
    for (int64_t i = 1; i < vocab; i++)
        ties |= all[i] == all[i - 1] && all[i] > -INFINITY;
    free(all);
    return ties;
}

static void check_values(const json_t *c, const float *scores, int64_t vocab, int line) {
    int64_t n;
    float *expected = floats_of(json_object_get(c, "scores"), &n), *mine = mem_new((size_t)vocab, sizeof *mine);
    const int rounding = json_object_get(c, "kept_min") != NULL; /* may decide about the last token */
    int64_t kept = 0;
    for (int64_t i = 0; i < vocab; i++)
        if (scores[i] > -INFINITY) mine[kept++] = scores[i];
    cr_expect_leq(llabs(kept - n), rounding, "line %d: %lld tokens stay, %lld expected", line, (long long)kept,
                  (long long)n);
    qsort(expected, (size_t)n, sizeof *expected, by_value);
    qsort(mine, (size_t)kept, sizeof *mine, by_value);
    for (int64_t i = 1; i <= n && i <= kept; i++)
        cr_expect_float_eq((double)mine[kept - i], (double)expected[n - i],
                           1e-6 * fabs((double)expected[n - i]) + 1e-12, "line %d", line);
    free(expected);
    free(mine);
}

/* What stays lies between kept_min and kept_max where a rounding of the reference decides. */
static void check_range(const json_t *c, const float *scores, int64_t vocab, int line) {
    int64_t least, most;
    int32_t *low = ids_of(json_object_get(c, "kept_min"), &least),
            *high = ids_of(json_object_get(c, "kept_max"), &most);
    const int all = json_is_null(json_object_get(c, "kept_max"));
    for (int32_t i = 0; i < vocab; i++) {
        const int kept = scores[i] > -INFINITY;
        cr_expect(!holds(low, least, i) || kept, "line %d: token %d went", line, i);
        cr_expect(all || holds(high, most, i) || !kept, "line %d: token %d stayed", line, i);
    }
    free(low);
    free(high);
}

static void check_exact(const json_t *c, const float *scores, int64_t vocab, int line) {
    int64_t kept, n;
    int32_t *ids = ids_of(json_object_get(c, "kept"), &kept);
    float *values = floats_of(json_object_get(c, "scores"), &n), *probs = floats_of(json_object_get(c, "probs"), &n);
    const int all = json_is_null(json_object_get(c, "kept"));
    double sum = 0, most = -INFINITY;
    int64_t best = 0;
    for (int64_t i = 0; i < vocab; i++)
        if ((double)scores[i] > most) most = (double)scores[best = i];
    for (int64_t i = 0; i < vocab; i++)
        sum += exp((double)scores[i] - most);
    cr_expect_eq(best, json_integer_value(json_object_get(c, "argmax")), "line %d: argmax", line);
    for (int64_t i = 0, at = 0; i < vocab; i++) {
        const int expected = all || holds(ids, kept, (int32_t)i);
        cr_expect_eq(scores[i] > -INFINITY, expected, "line %d: token %lld", line, (long long)i);
        if (!expected || !(scores[i] > -INFINITY)) continue;
        const double p = exp((double)scores[i] - most) / sum;
        cr_expect_float_eq((double)scores[i], (double)values[at], 1e-6 * fabs((double)values[at]) + 1e-12, "line %d",
                           line);
        cr_expect_float_eq(p, (double)probs[at], 1e-6 + 1e-5 * (double)probs[at], "line %d", line);
        at++;
    }
    free(ids);
    free(values);
    free(probs);
}

Test(sampling, every_processor_keeps_what_transformers_keeps) {
    graft_error err = {0};
    char *text = NULL;
    int64_t size;
    json_t *logits = NULL;
    if (!file_exists(SHARED_DIR "/golden/sampling/cases.jsonl")) {
        fprintf(stderr, "skipped: the shared sampling cases are not there\n");
        cr_skip_test("the shared sampling cases are not there");
    }
    cr_assert_eq(json_read_file(SHARED_DIR "/golden/sampling/logits.json", 0, &logits, &err), 0, "%s", err.text);
    cr_assert_eq(file_read(SHARED_DIR "/golden/sampling/cases.jsonl", 1 << 26, &text, &size, &err), 0, "%s", err.text);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *c = NULL;
        lines++;
        cr_assert_eq(json_read_text(line, strlen(line), "case", 0, &c, &err), 0, "%s", err.text);
        int64_t vocab, count;
        const size_t which = (size_t)json_integer_value(json_object_get(c, "logits"));
        const json_t *vector = json_array_get(json_object_get(logits, "vectors"), which);
        float *scores = floats_of(json_object_get(vector, "logits"), &vocab);
        int32_t *ids = ids_of(json_object_get(c, "ids"), &count);
        sampler *s = sampler_create(vocab);
        const int ties = has_ties(scores, vocab);
        const json_t *steps = json_object_get(c, "processors");
        for (size_t i = 0; i < json_array_size(steps); i++)
            apply(s, json_array_get(steps, i), ids, count, scores);
        if (ties)
            check_values(c, scores, vocab, lines);
        else if (json_object_get(c, "kept_min"))
            check_range(c, scores, vocab, lines);
        else
            check_exact(c, scores, vocab, lines);
        sampler_free(s);
        free(scores);
        free(ids);
        json_decref(c);
    }
    cr_expect_gt(lines, 600);
    free(text);
    json_decref(logits);
}

static float four[4] = {0.5f, 2.0f, 1.0f, -1.0f};

Test(sampling, greedy_takes_the_lowest_id_of_equals) {
    float scores[3] = {1, 3, 3};
    const sample_settings o = sample_greedy();
    sampler *s = sampler_create(3);
    const sample_history h = {0};
    cr_expect_eq(sample_next(s, &o, &h, scores), 1);
    sampler_free(s);
}

/* 4000 draws: each share within five standard deviations. */
Test(sampling, draws_follow_the_distribution_and_repeat_with_the_seed) {
    enum { DRAWS = 4000 };
    sample_settings o = sample_greedy();
    o.sample = 1;
    o.seed = 7;
    sampler *s = sampler_create(4);
    int seen[4] = {0};
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += exp((double)four[i]);
    for (int64_t n = 0; n < DRAWS; n++) {
        float a[4], b[4];
        const sample_history h = {.count = n};
        memcpy(a, four, sizeof a);
        memcpy(b, four, sizeof b);
        const int32_t id = sample_next(s, &o, &h, a);
        cr_assert(id >= 0 && id < 4);
        cr_expect_eq(id, sample_next(s, &o, &h, b));
        seen[id]++;
    }
    for (int i = 0; i < 4; i++) {
        const double p = exp((double)four[i]) / sum;
        cr_expect_float_eq(seen[i] / (double)DRAWS, p, 5 * sqrt(p * (1 - p) / DRAWS), "token %d: %d", i, seen[i]);
    }
    sampler_free(s);
}

Test(sampling, a_stop_id_waits_for_the_fewest_tokens) {
    sample_settings o = sample_greedy();
    o.min_new_tokens = 2;
    const int32_t stop = 1, ids[] = {0, 0, 0};
    sampler *s = sampler_create(4);
    for (int64_t n = 1; n <= 3; n++) {
        float scores[4];
        memcpy(scores, four, sizeof scores);
        const sample_history h = {.ids = ids, .count = n, .prompt = 1, .stops = &stop, .stop_count = 1};
        cr_expect_eq(sample_next(s, &o, &h, scores), n < 3 ? 2 : 1);
    }
    sampler_free(s);
}
