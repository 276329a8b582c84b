/* Every family on a tiny model with random weights, without any reference but itself: gradients against central differences
 * in f64, cached against uncached, packed documents against each alone, and rotary tables that depend on the length. */
#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "model-case.h"
#include "model/pass.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(model_random, .timeout = 120);

#define SIZES                                                                                                          \
    "\"vocab_size\": 29, \"hidden_size\": 16, \"intermediate_size\": 20, \"num_hidden_layers\": 3, "                   \
    "\"num_attention_heads\": 4, "                                                                                     \
    "\"num_key_value_heads\": 2, \"head_dim\": 4, \"pad_token_id\": 3, \"sliding_window\": 4, \"initializer_range\": " \
    "0.4"
#define ODD                                                                                                            \
    "\"vocab_size\": 29, \"intermediate_size\": 19, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "            \
    "\"pad_token_id\": 3, \"initializer_range\": 0.4, "
#define ROPE(text) ", \"max_position_embeddings\": 8, \"rope_scaling\": {" text "}"

static const struct {
    const char *name, *config;
} families[] = {
    {"llama",          "\"model_type\": \"llama\", " SIZES ", \"attention_bias\": true, \"mlp_bias\": true"                    },
    {"llama, linear",
     "\"model_type\": \"llama\", " SIZES ", \"tie_word_embeddings\": true" ROPE("\"type\": \"linear\", \"factor\": 3")         },
    {"mistral",        "\"model_type\": \"mistral\", " SIZES                                                                   },
    {"qwen2, yarn",    "\"model_type\": \"qwen2\", " SIZES ROPE("\"type\": \"yarn\", \"factor\": 4")                           },
    {"qwen3",          "\"model_type\": \"qwen3\", " SIZES
              ", \"attention_bias\": true, \"use_sliding_window\": true, \"max_window_layers\": 1"                },
    {"gemma",          "\"model_type\": \"gemma\", " SIZES                                                                     },
    {"gemma2",
     "\"model_type\": \"gemma2\", " SIZES ", \"attn_logit_softcapping\": 2.0, \"final_logit_softcapping\": 3.0"                },
    {"gemma3",
     "\"model_type\": \"gemma3_text\", " SIZES ", \"sliding_window_pattern\": 2, \"final_logit_softcapping\": 4.0"             },
    {"gpt2",           "\"model_type\": \"gpt2\", \"vocab_size\": 29, \"n_embd\": 16, \"n_layer\": 3, \"n_head\": 4, "
             "\"n_positions\": 24, "
             "\"initializer_range\": 0.4, \"scale_attn_by_inverse_layer_idx\": true"                               },
    {"phi3, partial",  "\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.5, " SIZES                                      },
    {"smollm3",        "\"model_type\": \"smollm3\", " SIZES ", \"no_rope_layers\": [1, 0, 1]"                                 },
    {"llama, dynamic", "\"model_type\": \"llama\", " SIZES ROPE("\"type\": \"dynamic\", \"factor\": 2")                        },
    {"phi3, longrope", "\"model_type\": \"phi3\", \"original_max_position_embeddings\": 6, " SIZES ROPE(
                           "\"type\": \"longrope\", \"short_factor\": [1, 1], \"long_factor\": [1.5, 4]")},
};
enum { FAMILIES = sizeof families / sizeof *families, DYNAMIC = 11, LONGROPE = 12, ROWS = 12 };

/* ---- random models ---- */

/* A folder whose norms and biases are random too. */
static char *random_folder(int family) {
    graft_error err = {0};
    char name[] = "/tmp/graft-random-XXXXXX", *text = mem_format("{%s}", families[family].config);
    model *m = NULL;
    kernels *k = device_open("ref");
    int32_t count;
    cr_assert(mkdtemp(name));
    char *path = path_join(name, "config.json");
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
    cr_assert_eq(model_open_config(name, &m, &err), 0, "%s: %s", families[family].name, err.text);
    cr_assert_eq(model_randomize(m, k, 5, &err), 0, "%s", err.text);
    const base_tensor *t = model_tensors(m, &count);
    for (int32_t i = 0; i < count; i++) {
        float values[128];
        if (t[i].in) continue;
        k->download(k, values, t[i].vector, t[i].out * 4);
        for (int64_t n = 0; n < t[i].out; n++)
            values[n] += 0.3f * (float)philox_normal(6, (uint64_t)i, (uint64_t)n);
        k->upload(k, t[i].vector, values, t[i].out * 4);
    }
    cr_assert_eq(model_save(m, name, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    model_close(m);
    k->close(k);
    free(text);
    free(path);
    return mem_copy_text(name);
}

static void remove_folder(char *folder) {
    graft_error err = {0};
    cr_expect_eq(file_remove_tree(folder, &err), 0, "%s", err.text);
    free(folder);
}

/* Two documents of 7 and 5 tokens; every second token of the first has a target. */
typedef struct {
    int32_t ids[ROWS], positions[ROWS], targets[ROWS];
    int64_t start[3], count;
    model_rows in;
} batch;

static batch *batch_new(void) {
    batch *b = mem_new(1, sizeof *b);
    const int64_t start[] = {0, 7, ROWS};
    memcpy(b->start, start, sizeof start);
    for (int32_t i = 0; i < ROWS; i++) {
        b->ids[i] = (int32_t)(philox_bits(1, 2, (uint64_t)i) % 29);
        b->positions[i] = i < 7 ? i : i - 7;
        b->targets[i] = i == 6 || i == ROWS - 1 || (i < 7 && i % 2) ? -1 : (i * 5 + 2) % 29;
        b->count += b->targets[i] >= 0;
    }
    b->in = (model_rows){.rows = ROWS,
                         .ids = b->ids,
                         .positions = b->positions,
                         .documents = 2,
                         .start = b->start,
                         .targets = b->targets};
    return b;
}

static model_rows document(const batch *b, int64_t d, int64_t *start) {
    start[0] = 0;
    start[1] = b->start[d + 1] - b->start[d];
    return (model_rows){.rows = start[1],
                        .ids = b->ids + b->start[d],
                        .positions = b->positions + b->start[d],
                        .documents = 1,
                        .start = start,
                        .targets = b->targets + b->start[d]};
}

/* ---- gradients ---- */

static double loss_of(const loaded *l, const batch *b) {
    graft_error err = {0};
    double logp[ROWS], sum = 0;
    cr_assert_eq(pass_logprobs(l->w, &b->in, logp, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < b->count; i++)
        sum -= logp[i] / (double)b->count;
    return sum;
}

static double moved(const loaded *l, const batch *b, base_tensor *t, int64_t at, double by) {
    double value;
    char *place = (char *)t->master + at * (int64_t)sizeof value;
    l->k->download(l->k, &value, place, sizeof value);
    const double there = value + by;
    l->k->upload(l->k, place, &there, sizeof value);
    const double loss = loss_of(l, b);
    l->k->upload(l->k, place, &value, sizeof value);
    return loss;
}

static int in_pad_row(const base_tensor *t, int64_t at) {
    return t->skip_row >= 0 && at / t->in == t->skip_row;
}

/* h = 1e-5: truncation h²·f''' and rounding 1e-16 / h are below 1e-9; dlogp passes through f32 (6e-8 relative). */
static void check_differences(int family, int flags) {
    const double h = 1e-5;
    char *folder = random_folder(family);
    batch *b = batch_new();
    loaded l = model_loaded(folder, "ref64", F64, TRAIN_ALL | flags,
                            (workspace_config){.rows = ROWS, .documents = 2, .head_rows = 3});
    train_once(l.w, &b->in, &mean_nll, (double)b->count);
    int32_t count;
    base_tensor *t = model_tensors(l.m, &count);
    for (int32_t i = 0; i < count; i++) {
        if (!t[i].trained) continue;
        const int64_t n = tensor_count_of(&t[i]), width = t[i].in ? t[i].in : 1;
        const int64_t picks[] = {b->ids[2] % t[i].out * width + 1 % width, n * 4 / 7, n - 1};
        double *g = mem_new((size_t)n, sizeof *g);
        download_real(l.k, g, t[i].grad, n);
        for (int p = 0; p < 3; p++) {
            if (in_pad_row(&t[i], picks[p])) continue;
            const double d = (moved(&l, b, &t[i], picks[p], h) - moved(&l, b, &t[i], picks[p], -h)) / (2 * h);
            cr_expect_float_eq(g[picks[p]], d, 2e-8 + 4e-7 * fabs(d), "%s: %s[%lld] %.12g, differences %.12g",
                               families[family].name, t[i].name, (long long)picks[p], g[picks[p]], d);
        }
        free(g);
    }
    loaded_close(&l);
    remove_folder(folder);
    free(b);
}

Test(model_random, gradients_of_every_family_agree_with_central_differences) {
    for (int f = 0; f < FAMILIES; f++)
        check_differences(f, f % 2 ? CHECKPOINT : 0);
}

/* ---- documents ---- */

Test(model_random, a_packed_document_gives_the_bits_it_gives_alone) {
    for (int f = 0; f < FAMILIES; f++) {
        graft_error err = {0};
        char *folder = random_folder(f);
        batch *b = batch_new();
        loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD,
                                (workspace_config){.rows = ROWS, .documents = 2, .head_rows = 5});
        float whole[ROWS * 29], alone[ROWS * 29];
        cr_assert_eq(model_logits(l.w, &b->in, NULL, 0, whole, &err), 0, "%s", err.text);
        for (int64_t d = 0; d < 2; d++) {
            int64_t start[2];
            const model_rows one = document(b, d, start);
            cr_assert_eq(model_logits(l.w, &one, NULL, 0, alone, &err), 0, "%s", err.text);
            cr_expect(memcmp(alone, whole + b->start[d] * 29, (size_t)one.rows * 29 * sizeof *alone) == 0,
                      "%s: document %lld", families[f].name, (long long)d);
        }
        loaded_close(&l);
        remove_folder(folder);
        free(b);
    }
}

/* ---- the cache ---- */

static double apart(const float *a, const float *b) {
    double most = 0;
    for (int i = 0; i < 29; i++)
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* Logits behind each prefix, cached (in pieces of `piece`) against a pass of its own. Sums of other order: 1e-5. */
static void check_cache(int family, int64_t piece) {
    graft_error err = {0};
    char *folder = random_folder(family);
    batch *b = batch_new();
    loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = ROWS});
    kv_cache *cache = NULL;
    float cached[29], own[29];
    int32_t positions[ROWS];
    for (int32_t i = 0; i < ROWS; i++)
        positions[i] = i;
    cr_assert_eq(cache_create(l.w, ROWS, &cache, &err), 0, "%s", err.text);
    for (int64_t n = 0; n < ROWS;) {
        const int64_t count = ROWS - n < piece ? ROWS - n : piece;
        cr_assert_eq(cache_append(cache, b->ids + n, count, cached, &err), 0, "%s", err.text);
        n += count;
        const int64_t start[] = {0, n};
        const int32_t last = (int32_t)(n - 1);
        const model_rows rows = {.rows = n, .ids = b->ids, .positions = positions, .documents = 1, .start = start};
        cr_assert_eq(model_logits(l.w, &rows, &last, 1, own, &err), 0, "%s", err.text);
        /* dynamic rope: old keys keep their frequencies, so only what fits the trained length is the same */
        if (family != DYNAMIC || n <= 8 || n == count)
            cr_expect_leq(apart(cached, own), 1e-5, "%s: %lld tokens by %g", families[family].name, (long long)n,
                          apart(cached, own));
        else
            cr_expect_gt(apart(cached, own), 1e-4, "%s: %lld tokens", families[family].name, (long long)n);
    }
    const int32_t more = 1;
    cr_expect_neq(cache_append(cache, &more, 1, cached, &err), 0, "beyond the capacity");
    cache_free(cache);
    loaded_close(&l);
    remove_folder(folder);
    free(b);
}

Test(model_random, cached_logits_are_those_of_a_pass_over_everything) {
    for (int f = 0; f < FAMILIES; f++)
        for (int64_t piece = 1; piece <= ROWS; piece += piece == 1 ? 4 : 7)
            check_cache(f, piece);
}

/* What another sequence shares with the cache is kept, and its logits are those of a pass over everything: for each length of
 * what is shared, behind a sequence that may have outgrown windows (passes are short, so that they forget) and tables. */
static void check_kept(int family, int64_t before, int64_t after) {
    graft_error err = {0};
    char *folder = random_folder(family);
    batch *b = batch_new();
    loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = ROWS}),
           few = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = 2});
    kv_cache *cache = NULL;
    float cached[29], own[29];
    int32_t other[ROWS], positions[ROWS];
    const int64_t start[] = {0, after};
    const int32_t last = (int32_t)(after - 1);
    const model_rows rows = {.rows = after, .ids = other, .positions = positions, .documents = 1, .start = start};
    cr_assert_eq(cache_create(few.w, ROWS, &cache, &err), 0, "%s", err.text);
    for (int64_t shared = 0; shared <= before && shared <= after; shared++) {
        for (int32_t i = 0; i < ROWS; i++) {
            positions[i] = i;
            other[i] = i < shared ? b->ids[i] : (b->ids[i] + 1) % 29;
        }
        cache_clear(cache);
        cr_assert_eq(cache_append(cache, b->ids, before, cached, &err), 0, "%s", err.text);
        const int64_t kept = cache_keep(cache, other, after), most = shared < after ? shared : after - 1;
        cr_expect(kept == most || kept == 0, "%s: %lld kept of %lld", families[family].name, (long long)kept,
                  (long long)most);
        if (family == 0) cr_expect_eq(kept, most, "keys of all tokens are there");
        cr_expect_eq(cache_length(cache), kept);
        cr_assert_eq(cache_append(cache, other + kept, after - kept, cached, &err), 0, "%s", err.text);
        cr_assert_eq(model_logits(l.w, &rows, &last, 1, own, &err), 0, "%s", err.text);
        cr_expect_leq(apart(cached, own), 1e-5, "%s: %lld of %lld shared by %g", families[family].name,
                      (long long)shared, (long long)before, apart(cached, own));
    }
    cache_free(cache);
    loaded_close(&few);
    loaded_close(&l);
    remove_folder(folder);
    free(b);
}

Test(model_random, what_a_prompt_shares_with_the_cache_is_not_computed_again) {
    static const int64_t lengths[][2] = {
        {4,        6   },
        {5,        8   },
        {ROWS,     5   },
        {ROWS,     ROWS},
        {ROWS - 1, ROWS}
    };
    for (int f = 0; f < FAMILIES; f++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            if (f != DYNAMIC || lengths[i][1] <= 8) check_kept(f, lengths[i][0], lengths[i][1]);
}

/* ---- tables by length ---- */

/* A document of `n` tokens in a pass that says `longest`. */
static void last_logits(const loaded *l, const batch *b, int64_t n, int64_t longest, float *to) {
    graft_error err = {0};
    const int64_t start[] = {0, n};
    const int32_t last = (int32_t)(n - 1);
    const model_rows rows = {
        .rows = n, .ids = b->ids, .positions = b->positions, .documents = 1, .start = start, .longest = longest};
    cr_assert_eq(model_logits(l->w, &rows, &last, 1, to, &err), 0, "%s", err.text);
}

Test(model_random, a_padded_batch_takes_the_tables_of_its_longest_row) {
    static const int of[] = {DYNAMIC, LONGROPE};
    for (int i = 0; i < 2; i++) {
        char *folder = random_folder(of[i]);
        batch *b = batch_new();
        loaded l = model_loaded(folder, "ref", F32, NO_BACKWARD, (workspace_config){.rows = ROWS});
        float own[29], same[29], padded[29];
        last_logits(&l, b, 5, 0, own);
        last_logits(&l, b, 5, 6, same);
        last_logits(&l, b, 5, 11, padded);
        cr_expect_eq(apart(own, same), 0, "%s", families[of[i]].name);
        cr_expect_gt(apart(own, padded), 1e-4, "%s", families[of[i]].name);
        loaded_close(&l);
        remove_folder(folder);
        free(b);
    }
}

/* ---- what is not trained costs no backward ---- */

static int untouched(const loaded *l, const base_tensor *t) {
    double *g = mem_new((size_t)tensor_count_of(t), sizeof *g), sum = 0;
    download_real(l->k, g, t->grad, tensor_count_of(t));
    for (int64_t i = 0; i < tensor_count_of(t); i++)
        sum += fabs(g[i]);
    free(g);
    return sum == 0;
}

/* Only some tensors are trained: their gradients are the bits that training everything gives. */
Test(model_random, partly_trained_models_have_the_gradients_of_the_whole) {
    static const char *const trained[] = {"model.layers.2.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight",
                                          "model.norm.weight", "lm_head.weight",
                                          "model.layers.1.self_attn.k_proj.weight"};
    char *folder = random_folder(2);
    batch *b = batch_new();
    const workspace_config c = {.rows = ROWS, .documents = 2, .backward = 1};
    loaded whole = model_loaded(folder, "ref", F32, TRAIN_ALL, c);
    train_once(whole.w, &b->in, &mean_nll, (double)b->count);
    for (size_t n = 0; n < sizeof trained / sizeof *trained; n++) {
        graft_error err = {0};
        loaded l = {.k = device_open("ref")};
        int32_t count;
        cr_assert_eq(model_open(folder, &l.m, &err), 0, "%s", err.text);
        base_tensor *t = model_tensors(l.m, &count);
        for (int32_t i = 0; i < count; i++)
            t[i].trained = strcmp(t[i].name, trained[n]) == 0;
        cr_assert_eq(model_load(l.m, l.k, F32, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(workspace_create(l.m, NULL, &c, &l.w, &err), 0, "%s", err.text);
        train_once(l.w, &b->in, &mean_nll, (double)b->count);
        for (int32_t i = 0; i < count; i++) {
            if (!t[i].trained) continue;
            double *a = gradient_of(&l, i), *all = gradient_of(&whole, i);
            cr_expect(memcmp(a, all, (size_t)tensor_count_of(&t[i]) * sizeof *a) == 0, "%s", t[i].name);
            cr_expect(!untouched(&l, &t[i]), "%s", t[i].name);
            free(a);
            free(all);
        }
        loaded_close(&l);
    }
    loaded_close(&whole);
    remove_folder(folder);
    free(b);
}
