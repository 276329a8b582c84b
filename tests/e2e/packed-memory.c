/* A packed model of 100 MB in bf16, as the system counts its memory: what stays is what the format says, and no command ever holds
 * a dequantized matrix. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "measurable.h"
#include "run/session.h"
#include <criterion/criterion.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(packed_memory, .timeout = 300);

enum { HIDDEN = 1024, INNER = 3072, LAYERS = 4, VOCAB = 256, ROWS = 16 };
static const int64_t packed_values = (int64_t)LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER);
static const int64_t plain_bytes =
    (int64_t)VOCAB * HIDDEN * 2; /* the tied table in bf16; norms are nothing beside it */
static const int64_t largest_matrix = (int64_t)HIDDEN * INNER * 4;

static char root[] = "/tmp/graft-packed-XXXXXX";
static graft_error err;

/* kB of a line of /proc/self/status, as bytes: VmRSS what is resident, VmHWM the most since it was reset. */
static int64_t status_of(const char *name) {
    char line[256];
    long long kb = 0;
    FILE *const f = fopen("/proc/self/status", "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), ": %lld", &kb);
    fclose(f);
    return kb * 1024;
}

static int64_t resident(void) {
    malloc_trim(0);
    return status_of("VmRSS");
}

static void reset_peak(void) {
    FILE *const f = fopen("/proc/self/clear_refs", "w");
    if (!f || fputs("5", f) < 0 || fclose(f) != 0) {
        fprintf(stderr, "skipped: this system does not let a process reset its peak memory\n");
        cr_skip_test();
    }
}

static void graft(const char *words) {
    char *const line = mem_format("cd '%s' && '%s/bin/graft' %s >graft.log 2>&1", root, BINARY_DIR, words);
    cr_assert_eq(system(line), 0, "%s", line);
    free(line);
}

static void begin(void) {
    if (!is_measurable()) {
        fprintf(stderr, "skipped: sanitizers keep memory that was released\n");
        cr_skip_test();
    }
    cr_assert_not_null(mkdtemp(root));
    log_level_set(LOG_WARN);
    char *const config = mem_format("{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
                                    "\"vocab_size\": %d, \"hidden_size\": %d, "
                                    "\"intermediate_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": "
                                    "16, \"num_key_value_heads\": 16, "
                                    "\"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5, \"hidden_act\": "
                                    "\"silu\", \"tie_word_embeddings\": true, "
                                    "\"torch_dtype\": \"bfloat16\"}",
                                    VOCAB, HIDDEN, INNER, LAYERS);
    char *const folder = path_join(root, "config"), *const file = path_join(folder, "config.json");
    cr_assert(!file_make_folders(folder, &err) && !file_write(file, config, (int64_t)strlen(config), &err), "%s",
              err.text);
    graft("init config -o model --seed 1 --dtype bf16");
    free(config);
    free(folder);
    free(file);
}
static void end(void) {
    file_remove_tree(root, &err);
}

static double nll(const void *self, const graft_batch *b, float *dlogp) {
    (void)self;
    for (int64_t i = 0; i < b->tokens; i++)
        dlogp[i] = (float)(-1 / b->total);
    return 0;
}

/* A forward pass over some tokens, and through an adapter a backward one. */
static void pass(session *s) {
    static const graft_objective mean = {.size = sizeof mean, .flags = GRAFT_WEIGHTS_KNOWN, .loss = nll};
    int32_t ids[ROWS], positions[ROWS];
    const int64_t start[] = {0, ROWS};
    float logp[ROWS];
    for (int32_t i = 0; i < ROWS; i++) {
        ids[i] = (i * 37 + 11) % VOCAB;
        positions[i] = i;
    }
    const model_rows rows = {
        .rows = ROWS, .ids = ids, .positions = positions, .documents = 1, .start = start, .targets = ids};
    const workspace_config config = {.rows = ROWS, .documents = 1, .backward = s->adapters != NULL};
    const model_objective o = {.functions = &mean, .total = ROWS};
    workspace *w = NULL;
    double loss = 0;
    cr_assert_eq(workspace_create(s->model, s->adapters, &config, &w, &err), 0, "%s", err.text);
    if (s->adapters)
        cr_assert_eq(model_train_slice(w, &rows, &o, &loss, &err), 0, "%s", err.text);
    else
        cr_assert_eq(model_logprobs(w, &rows, logp, &err), 0, "%s", err.text);
    cr_expect(isfinite(loss));
    workspace_free(w);
}

static recipe *settings_of(registry *plugins, const char *const *set, int count) {
    recipe *r = NULL;
    cr_assert_eq(recipe_load(plugins, NULL, set, count, 0, &r, NULL, &err), 0, "%s", err.text);
    return r;
}

/* Loads a folder and goes through it once. bits: of a weight, as the format says; 0: is not asked. */
static void measure(const char *name, const char *const *set, int count, double bits) {
    char *const folder = path_join(root, name);
    registry *const plugins = registry_create();
    recipe *const r = settings_of(plugins, set, count);
    const session_request q = {
        .model = folder, .device = "cpu", .precision = "auto", .threads = 1, .recipe = r, .plugins = plugins};
    session s;
    cr_assert_eq(session_open(&q, &s, &err), 0, "%s", err.text);
    const int64_t before = resident();
    reset_peak();
    cr_assert_eq(session_load(&s, 0, &err), 0, "%s", err.text);
    const int64_t peak_load = status_of("VmHWM"), loaded = resident();
    const double wanted = (double)packed_values * bits / 8 + (double)plain_bytes;
    if (bits > 0)
        cr_expect_float_eq((double)(loaded - before), wanted, 0.03 * wanted, "%lld bytes stay, the format says %.0f",
                           (long long)(loaded - before), wanted);
    cr_expect_lt(peak_load - loaded, largest_matrix, "%lld bytes more while loading", (long long)(peak_load - loaded));
    reset_peak();
    pass(&s);
    const int64_t peak_pass = status_of("VmHWM");
    cr_expect_lt(peak_pass - loaded, largest_matrix, "%lld bytes more in a pass", (long long)(peak_pass - loaded));
    session_close(&s);
    recipe_free(r);
    registry_free(plugins);
    free(folder);
}

static const char *const lora[] = {"adapter.plugin=lora", "adapter.rank=4", "adapter.targets=all-linear"};

static void check(const char *options, double bits) {
    char *const words = mem_format("quantize model %s -o packed --overwrite", options);
    graft(words);
    free(words);
    measure("packed", NULL, 0, bits);
    measure("packed", lora, 3, 0);
}

Test(packed_memory, of_nf4_is_what_the_format_says, .init = begin, .fini = end) {
    check("--plugin quant-nf4", 4.5);
}
Test(packed_memory, of_nested_nf4_is_what_the_format_says, .init = begin, .fini = end) {
    check("--plugin quant-nf4 --set quantizer.double_quant=yes", 4.127);
}
Test(packed_memory, of_8_bit_rows_is_what_the_format_says, .init = begin, .fini = end) {
    check("--plugin quant-int8", 8 + 32.0 / HIDDEN);
}
Test(packed_memory, of_grids_is_what_the_format_says, .init = begin, .fini = end) {
    check("--plugin quant-affine --set quantizer.bits=3", 3 + 40.0 / 64);
}
Test(packed_memory, is_that_also_when_a_run_packs_the_model, .init = begin, .fini = end) {
    measure("model", (const char *const[]){"quantizer.plugin=quant-nf4"}, 1, 4.5);
    measure("model", (const char *const[]){"quantizer.plugin=quant-affine", lora[0], lora[1], lora[2]}, 4, 0);
}
