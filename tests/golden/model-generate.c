/* Greedy continuations: cached against transformers' ids, cached against uncached, real pretrained models against an
 * independent f64 program, and what the cache must do at its edges. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model-case.h"
#include "model/generate.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(model_generate, .timeout = 120);

static int32_t *ids_of(const json_t *list, int64_t *n) {
    int32_t *out = mem_new(json_array_size(list) + 1, sizeof *out);
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return out;
}

/* The ids of a list, or the one id. */
static int32_t *stops_of(const json_t *value, int64_t *n) {
    json_t *list = json_is_array(value) ? json_incref((json_t *)(uintptr_t)value) : json_pack("[O]", value);
    int32_t *out = ids_of(list, n);
    json_decref(list);
    return out;
}

typedef struct {
    int32_t *prompt, *expected, *stops;
    int64_t prompt_count, expected_count, stop_count, most;
} continuation;

static continuation greedy_of(const model_case *c) {
    const json_t *g = json_object_get(c->meta, "greedy");
    continuation out = {.most = (int64_t)json_integer_value(json_object_get(g, "max_new_tokens"))};
    out.prompt = ids_of(json_object_get(g, "prompt_ids"), &out.prompt_count);
    out.expected = ids_of(json_object_get(g, "new_ids"), &out.expected_count);
    out.stops = stops_of(json_object_get(g, "eos_token_id"), &out.stop_count);
    return out;
}

static void continuation_free(continuation *c) {
    free(c->prompt);
    free(c->expected);
    free(c->stops);
}

static int64_t run_greedy(workspace *w, const continuation *g, int32_t *ids) {
    graft_error err = {0};
    kv_cache *cache = NULL;
    int64_t count = 0;
    cr_assert_eq(cache_create(w, g->prompt_count + g->most, &cache, &err), 0, "%s", err.text);
    const generate_call call = {.prompt = g->prompt,
                                .prompt_count = g->prompt_count,
                                .max_new_tokens = g->most,
                                .stops = g->stops,
                                .stop_count = (int32_t)g->stop_count,
                                .settings = sample_greedy()};
    cr_assert_eq(generate_run(cache, &call, ids, &count, NULL, &err), 0, "%s", err.text);
    cache_free(cache);
    return count;
}

static void check_ids(const model_case *c, const continuation *g, const int32_t *ids, int64_t count, const char *how) {
    cr_expect_eq(count, g->expected_count, "%s, %s: %lld tokens", c->name, how, (long long)count);
    for (int64_t i = 0; i < count && i < g->expected_count; i++)
        cr_expect_eq(ids[i], g->expected[i], "%s, %s: token %lld is %d, not %d", c->name, how, (long long)i, ids[i],
                     g->expected[i]);
}

/* Greedy ids by a full pass over everything before each token. */
static int64_t run_uncached(workspace *w, int64_t vocab, const continuation *g, int32_t *ids) {
    graft_error err = {0};
    const int64_t most = g->prompt_count + g->most;
    int32_t *all = mem_new((size_t)most, sizeof *all), *positions = mem_new((size_t)most, sizeof *positions);
    float *logits = mem_new((size_t)vocab, sizeof *logits);
    int64_t n = g->prompt_count, count = 0;
    memcpy(all, g->prompt, (size_t)n * sizeof *all);
    for (int32_t i = 0; i < most; i++)
        positions[i] = i;
    for (int stopped = 0; count < g->most && !stopped; n++) {
        const int64_t start[] = {0, n};
        const model_rows rows = {.rows = n, .ids = all, .positions = positions, .documents = 1, .start = start};
        const int32_t last = (int32_t)(n - 1);
        cr_assert_eq(model_logits(w, &rows, &last, 1, logits, &err), 0, "%s", err.text);
        int32_t best = 0;
        for (int32_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        all[n] = ids[count++] = best;
        for (int64_t s = 0; s < g->stop_count; s++)
            stopped |= best == g->stops[s];
    }
    free(all);
    free(positions);
    free(logits);
    return count;
}

/* `rows`: tokens of one pass; fewer than the prompt means a prefill in pieces. */
static void check_all(const char *device, int64_t rows, int uncached, const char *how) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        model_case c;
        case_open(&c, *f);
        continuation g = greedy_of(&c);
        int32_t *ids = mem_new((size_t)g.most, sizeof *ids);
        loaded l = model_loaded(*f, device, F32, NO_BACKWARD,
                                (workspace_config){.rows = rows ? rows : g.prompt_count + g.most});
        const int64_t count = uncached ? run_uncached(l.w, c.V, &g, ids) : run_greedy(l.w, &g, ids);
        check_ids(&c, &g, ids, count, how);
        loaded_close(&l);
        continuation_free(&g);
        case_close(&c);
        free(ids);
        free(*f);
    }
    free(folders);
}

Test(model_generate, cached_ids_are_those_of_transformers) {
    check_all("ref", 64, 0, "cached");
}

Test(model_generate, cached_ids_of_the_fast_kernels_are_those_of_transformers) {
    check_all("cpu", 64, 0, "cached");
}

Test(model_generate, uncached_ids_are_those_of_transformers) {
    check_all("ref", 0, 1, "uncached");
}

/* Windows of 6 and 8 then move to the front of their buffers again and again. */
Test(model_generate, a_prompt_that_comes_in_pieces_gives_the_same) {
    check_all("ref", 1, 0, "one by one");
    check_all("ref", 5, 0, "by fives");
}

/* Logits that chose each greedy token. */
Test(model_generate, cached_logits_agree_with_transformers) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        graft_error err = {0};
        model_case c;
        case_open(&c, *f);
        continuation g = greedy_of(&c);
        int64_t n;
        float *reference = tensor_f32(c.data, "greedy_logits", &n), *mine = mem_new((size_t)c.V, sizeof *mine);
        loaded l = model_loaded(*f, "fake", F32, NO_BACKWARD, (workspace_config){.rows = 16});
        kv_cache *cache = NULL;
        cr_assert_eq(cache_create(l.w, 64, &cache, &err), 0, "%s", err.text);
        cr_assert_eq(cache_append(cache, g.prompt, g.prompt_count, mine, &err), 0, "%s", err.text);
        for (int64_t t = 0; t < g.expected_count; t++) {
            double most = 0;
            for (int64_t i = 0; reference && i < c.V; i++) /* the committed case has none */
                most = fmax(most, fabs((double)mine[i] - (double)reference[t * c.V + i]));
            cr_expect_leq(most, case_tolerance(&c, "logits_abs"), "%s: token %lld", c.name, (long long)t);
            cr_assert_eq(cache_append(cache, &g.expected[t], 1, mine, &err), 0, "%s", err.text);
        }
        cr_expect_eq(cache_length(cache), g.prompt_count + g.expected_count);
        cache_free(cache);
        loaded_close(&l);
        continuation_free(&g);
        case_close(&c);
        free(reference);
        free(mine);
        free(*f);
    }
    free(folders);
}

/* ---- real models ---- */

static void check_greedy_text(const char *name, workspace *w, const json_t *entry) {
    continuation g = {0};
    int64_t all;
    int32_t *ids = ids_of(json_object_get(entry, "ids"), &all);
    g.prompt = ids_of(json_object_get(entry, "prompt_ids"), &g.prompt_count);
    g.most = g.expected_count = all - g.prompt_count;
    int32_t *mine = mem_new((size_t)g.most, sizeof *mine);
    const int64_t count = run_greedy(w, &g, mine);
    for (int64_t i = 0; i < count; i++)
        cr_assert_eq(mine[i], ids[g.prompt_count + i], "%s: token %lld behind \"%s\"", name, (long long)i,
                     json_string_value(json_object_get(entry, "prompt")));
    free(mine);
    free(ids);
    free(g.prompt);
}

static void check_nll(const char *name, workspace *w, const json_t *entry) {
    graft_error err = {0};
    int64_t n;
    int32_t *ids = ids_of(json_object_get(entry, "ids"), &n);
    int32_t *positions = mem_new((size_t)n, sizeof *positions), *targets = mem_new((size_t)n, sizeof *targets);
    float *logp = mem_new((size_t)n, sizeof *logp);
    for (int64_t i = 0; i < n; i++) {
        positions[i] = (int32_t)i;
        targets[i] = i + 1 < n ? ids[i + 1] : -1;
    }
    const int64_t start[] = {0, n};
    const model_rows rows = {
        .rows = n, .ids = ids, .positions = positions, .documents = 1, .start = start, .targets = targets};
    cr_assert_eq(model_logprobs(w, &rows, logp, &err), 0, "%s", err.text);
    double sum = 0;
    for (int64_t i = 0; i + 1 < n; i++)
        sum -= (double)logp[i];
    cr_expect_float_eq(sum / (double)(n - 1), json_number_value(json_object_get(entry, "mean_nll")), 1e-5, "%s", name);
    free(ids);
    free(positions);
    free(targets);
    free(logp);
}

static void check_real(const char *name) {
    graft_error err = {0};
    char *folder = mem_format("%s/models/%s", SHARED_DIR, name), *path = path_join(folder, "reference.json");
    json_t *reference = NULL;
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: the model %s is not there\n", name);
        cr_skip_test("the model is not there");
    }
    cr_assert_eq(json_read_file(path, 0, &reference, &err), 0, "%s", err.text);
    loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = 512});
    const json_t *greedy = json_object_get(reference, "greedy"), *nll = json_object_get(reference, "nll");
    for (size_t i = 0; i < json_array_size(greedy); i++)
        check_greedy_text(name, l.w, json_array_get(greedy, i));
    for (size_t i = 0; i < json_array_size(nll); i++)
        check_nll(name, l.w, json_array_get(nll, i));
    cr_expect_gt(json_array_size(greedy), 0);
    loaded_close(&l);
    json_decref(reference);
    free(folder);
    free(path);
}

Test(model_generate, stories260k_tells_its_story) {
    check_real("stories260k");
}

Test(model_generate, a_model_that_stores_only_its_head_tells_its_story) {
    check_real("tinystories656k");
}

/* ---- several texts at a time ---- */

enum { TEXTS = 7, PLACES = 3 };

/* Prompts of different lengths, some drawn and some greedy, that end at different times. */
static void check_batch(const char *folder, const char *device, dtype activation) {
    graft_error err = {0};
    model_case c;
    case_open(&c, folder);
    continuation g = greedy_of(&c);
    loaded l = model_loaded(folder, device, activation, NO_BACKWARD, (workspace_config){.rows = 16, .documents = 2});
    generate_call calls[TEXTS];
    generate_result together[TEXTS];
    kv_cache *one = NULL, *many = NULL;
    for (int64_t i = 0; i < TEXTS; i++) {
        calls[i] = (generate_call){.prompt = g.prompt + i % 2,
                                   .prompt_count = i % 3 ? 1 + i : g.prompt_count - i % 2,
                                   .max_new_tokens = i == 4 ? 0 : g.most - 2 * i % 5,
                                   .stops = g.stops,
                                   .stop_count = (int32_t)g.stop_count,
                                   .settings = sample_greedy()};
        if (calls[i].prompt_count > g.prompt_count - i % 2) calls[i].prompt_count = g.prompt_count - i % 2;
        calls[i].settings.sample = i % 2;
        calls[i].settings.seed = (uint64_t)i;
        together[i].ids = mem_new((size_t)g.most + 1, sizeof(int32_t));
    }
    cr_assert_eq(cache_create_many(l.w, PLACES, g.prompt_count + g.most, &many, &err), 0, "%s", err.text);
    cr_assert_eq(generate_all(many, calls, together, TEXTS, NULL, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(cache_create(l.w, g.prompt_count + g.most, &one, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < TEXTS; i++) {
        int32_t *ids = mem_new((size_t)g.most + 1, sizeof *ids);
        int64_t count;
        generate_end end;
        cr_assert_eq(generate_run(one, &calls[i], ids, &count, &end, &err), 0, "%s", err.text);
        cr_expect_eq(count, together[i].count, "%s, text %lld: %lld tokens alone, %lld in the batch", c.name,
                     (long long)i, (long long)count, (long long)together[i].count);
        cr_expect_eq(end, together[i].end, "%s, text %lld", c.name, (long long)i);
        cr_expect_arr_eq(ids, together[i].ids, (size_t)count * sizeof *ids, "%s, text %lld", c.name, (long long)i);
        free(ids);
        free(together[i].ids);
    }
    cache_free(one);
    cache_free(many);
    loaded_close(&l);
    continuation_free(&g);
    case_close(&c);
}

static void check_batches(const char *device, dtype activation) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        check_batch(*f, device, activation);
        free(*f);
    }
    free(folders);
}

Test(model_generate, a_text_does_not_depend_on_those_written_beside_it) {
    check_batches("fake", F32);
    check_batches("cpu", F32);
}

Test(model_generate, neither_does_one_in_bf16) {
    check_batches("cpu", BF16);
}
