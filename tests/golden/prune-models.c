/* prune-models — Wanda on whole models, block behind block, against torch in f64: every mask, by digest. The rows are padded on
 * the left and on the right and packed, and some have no target: what is computed is what a layer sees.
 *
 * The digests: sum over the pruned tensors, modulo 2^64, of the first 8 bytes (as a big-endian number) of
 * SHA-256(name, a zero byte, one byte an entry in file order: 1 = zero). Made by hooks on the linear layers of the reference
 * models, each document in a pass of its own, that sum x² in f64 block by block and prune before the next one is observed. */
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "formats/safetensors.h"
#include "run/training.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODELS SHARED_DIR "/golden/models"
enum { STEPS = 2, ROWS = 3, WIDTH = 14, TOKENS = STEPS * ROWS * WIDTH };

typedef struct {
    const char *model, *adapter;
    int64_t zeros;
    uint64_t digest;
} model_case;

static const model_case cases[] = {
    {"llama-gqa",   "method = wanda\nratio = 0.37\ntargets = all-linear, lm_head\n", 23488, 0x6ab207d980fe2727},
    {"gpt2",        "method = wanda\ntargets = all-linear\n",                        27648, 0xc7772e9de4683b1b}, /* transposed */
    {"phi3",        "method = wanda_nm\ntargets = all-linear\n",                     24192, 0xc82368825ca84318}, /* fused */
    {"gemma3-text", "method = wanda_nm\nn = 4\nm = 8\ntargets = all-linear\n",       36864, 0x3129c9527a7fa145},
    {"qwen2",       "method = wanda\nratio = 0.75\ntargets = all-linear\n",          36288, 0x1e68b213e7a9a5d6}, /* tied */
};

static graft_error err;

static int64_t vocab_of(const char *name) {
    char *const path = mem_format(MODELS "/%s/config.json", name);
    json_t *root = NULL;
    int64_t vocab = 0;
    cr_assert(!json_read_file(path, 0, &root, &err) && !json_get_int(root, path, "vocab_size", 0, &vocab, &err), "%s",
              err.text);
    json_decref(root);
    free(path);
    return vocab;
}

/* Row 0 begins with four tokens of padding, row 1 ends with four, row 2 holds two documents. */
static void write_batches(const char *path, int64_t vocab) {
    int32_t ids[TOKENS], labels[TOKENS], positions[TOKENS], documents[TOKENS];
    uint8_t mask[TOKENS];
    for (int32_t i = 0; i < TOKENS; i++) {
        const int32_t t = i % WIDTH, row = i / WIDTH % ROWS, s = i / WIDTH / ROWS;
        ids[i] = (int32_t)(3 + (s * 131 + row * 37 + t * 11 + t * t * s) % (vocab - 4));
        mask[i] = row == 0 ? t >= 4 : row == 1 ? t < 10 : 1;
        documents[i] = row == 2 && t >= 6;
        positions[i] = row == 0 ? (t > 4 ? t - 4 : 0) : documents[i] ? t - 6 : t;
        labels[i] = mask[i] && t > 7 ? ids[i] : -100;
    }
    const tensor_out list[] = {
        {.name = "input_ids",      .dtype = I32, .rank = 3, .shape = {STEPS, ROWS, WIDTH}, .data = ids      },
        {.name = "labels",         .dtype = I32, .rank = 3, .shape = {STEPS, ROWS, WIDTH}, .data = labels   },
        {.name = "attention_mask", .dtype = U8,  .rank = 3, .shape = {STEPS, ROWS, WIDTH}, .data = mask     },
        {.name = "position_ids",   .dtype = I32, .rank = 3, .shape = {STEPS, ROWS, WIDTH}, .data = positions},
        {.name = "document_ids",   .dtype = I32, .rank = 3, .shape = {STEPS, ROWS, WIDTH}, .data = documents},
    };
    cr_assert_eq(safetensors_write(path, list, 5, NULL, 0, &err), GRAFT_OK, "%s", err.text);
}

static void prune(const model_case *c, const char *folder) {
    char *const ini = path_join(folder, "run.ini"), *const batches = path_join(folder, "batches.safetensors");
    char *const text =
        mem_format("[model]\npath = " MODELS "/%s\nprecision = f32\n[data]\nloader = tensors\npath = %s\n"
                   "[adapter]\nplugin = prune\n%s[output]\npath = %s/out\n",
                   c->model, batches, c->adapter, folder);
    registry *const plugins = registry_create();
    recipe *r = NULL;
    training *t = NULL;
    training_result result;
    const training_options options = {.quiet = 1, .device = "ref64"};
    write_batches(batches, vocab_of(c->model));
    cr_assert(!file_write(ini, text, (int64_t)strlen(text), &err) &&
                  !recipe_load(plugins, ini, NULL, 0, RECIPE_TRAIN, &r, NULL, &err) &&
                  !training_open(r, plugins, &options, &t, &err) && !training_run(t, &result, &err),
              "%s: %s", c->model, err.text);
    training_close(t);
    recipe_free(r);
    registry_free(plugins);
    free(ini);
    free(batches);
    free(text);
}

/* Of a tensor that holds zeros; 0: of one that was not pruned. */
static uint64_t digest_of(const safetensors *st, const tensor_info *info, int64_t *zeros) {
    float *const w = mem_new((size_t)info->count, sizeof *w);
    uint8_t *const is = mem_new((size_t)info->count, 1);
    int64_t own = 0;
    char hex[65];
    sha256 sum;
    cr_assert_eq(safetensors_read_as(st, info, w, F32, &err), GRAFT_OK, "%s", err.text);
    for (int64_t i = 0; i < info->count; i++)
        own += is[i] = w[i] == 0;
    sha256_begin(&sum);
    sha256_add(&sum, info->name, strlen(info->name) + 1);
    sha256_add(&sum, is, (size_t)info->count);
    sha256_end(&sum, hex);
    hex[16] = '\0';
    free(w);
    free(is);
    *zeros += info->rank == 2 && own > info->count / 4 ? own : 0;
    return info->rank == 2 && own > info->count / 4 ? strtoull(hex, NULL, 16) : 0;
}

static void check_model(const model_case *c) {
    char folder[] = "/tmp/graft-prune-XXXXXX";
    safetensors *st = NULL;
    int64_t zeros = 0;
    uint64_t digest = 0;
    cr_assert(mkdtemp(folder));
    prune(c, folder);
    char *const out = path_join(folder, "out");
    cr_assert_eq(weights_open(out, &st, &err), GRAFT_OK, "%s", err.text);
    for (int64_t i = 0; i < safetensors_count(st); i++)
        digest += digest_of(st, safetensors_at(st, i), &zeros);
    cr_expect_eq(zeros, c->zeros, "%s: %lld zeros, torch has %lld", c->model, (long long)zeros, (long long)c->zeros);
    cr_expect_eq(digest, c->digest, "%s: other weights are zero than torch has (%016llx)", c->model,
                 (unsigned long long)digest);
    safetensors_close(st);
    cr_assert_eq(file_remove_tree(folder, &err), GRAFT_OK, "%s", err.text);
    free(out);
}

Test(prune_models, wanda_prunes_block_by_block_what_torch_prunes) {
    if (!file_exists(MODELS)) {
        fprintf(stderr, "skipped: " MODELS " is not there\n");
        cr_skip_test();
    }
    setenv("GRAFT_PLUGIN_PATH", BINARY_DIR "/lib/graft", 1);
    log_level_set(LOG_WARN);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_model(&cases[i]);
}
