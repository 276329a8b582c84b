/* Adapters made of adapters and of models: the numbers are what the rules say, and the folder is an adapter like any other. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRAIN "[optimizer]\nplugin = adamw\nlr = 0.01\n[train]\nsteps = 4\n"

static graft_error err;
static const char query[] = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";

static void train(const char *folder, const char *name, const char *sections) {
    char *text;
    kit_ini(folder, name, sections);
    cr_assert_eq(kit_train(folder, name, "--quiet", &text), 0, "%s", text);
    free(text);
}

/* Runs `graft ARGUMENTS` in the folder. */
static int graft(const char *folder, const char *arguments) {
    char *const line = mem_format("cd '%s' && GRAFT_PLUGIN_PATH='%s/lib/graft' '%s/bin/graft' %s >out.txt 2>err.txt",
                                  folder, BINARY_DIR, BINARY_DIR, arguments);
    const int rc = system(line);
    free(line);
    return rc;
}

static void must(const char *folder, const char *arguments) {
    cr_assert_eq(graft(folder, arguments), 0, "%s: %s", arguments, kit_read(folder, "err.txt"));
}

/* Every tensor of two model folders, up to the rounding of f32 sums. */
static void check_same_models(const char *folder, const char *a, const char *b) {
    char *const path = mem_format("%s/%s/model.safetensors", folder, a);
    char *const other = mem_format("%s/model.safetensors", b);
    safetensors *st = NULL;
    cr_assert_eq(safetensors_open(path, &st, &err), GRAFT_OK, "%s", err.text);
    for (int64_t t = 0; t < safetensors_count(st); t++) {
        const char *const name = safetensors_at(st, t)->name;
        int64_t n, m;
        float *const x = kit_tensor(folder, path + strlen(folder) + 1, name, &n), *const y = kit_tensor(folder, other,
                                                                                                        name, &m);
        double worst = 0;
        for (int64_t i = 0; i < n; i++)
            worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        cr_expect(n == m && worst < 2e-6, "%s: %g apart", name, worst);
        free(x);
        free(y);
    }
    safetensors_close(st);
    free(path);
    free(other);
}

/* Two LoRAs of one base, trained apart: scales 4 and 2. */
static char *two_loras(void) {
    char *const folder = kit_make(4);
    train(folder, "a", "[adapter]\nplugin = lora\nrank = 2\nalpha = 8\ntargets = q_proj, down_proj\n" TRAIN);
    train(folder, "b", "[adapter]\nplugin = lora\nrank = 2\nalpha = 4\ntargets = q_proj, v_proj\n" TRAIN);
    return folder;
}

Test(combine, svd_of_enough_rank_is_the_sum_of_the_updates) {
    char *const folder = two_loras();
    must(folder, "merge model --adapter a --adapter b --combine svd --rank 4 -o sum");
    must(folder, "merge model --adapter sum -o one");
    must(folder, "merge model --adapter a --adapter b -o both");
    check_same_models(folder, "one", "both");
    kit_remove(folder);
}

/* What each rule makes of one entry of A, from those of the two adapters. */
static void check_rule(const char *arguments, double (*rule)(double a, double b)) {
    char *const folder = two_loras(), *const line =
                                          mem_format("merge model --adapter a --adapter b %s -o c", arguments);
    int64_t n, m, k;
    must(folder, line);
    float *const a = kit_tensor(folder, "a/adapter_model.safetensors", query, &n);
    float *const b = kit_tensor(folder, "b/adapter_model.safetensors", query, &m);
    float *const c = kit_tensor(folder, "c/adapter_model.safetensors", query, &k);
    cr_assert(n == m && n == k);
    for (int64_t i = 0; i < n; i++)
        cr_expect_float_eq((double)c[i], rule((double)a[i], (double)b[i]), 1e-6, "%s: entry %lld", arguments,
                           (long long)i);
    free(a);
    free(b);
    free(c);
    free(line);
    kit_remove(folder);
}

static double by_linear(double a, double b) {
    return sqrt(0.75 * 4) * a + sqrt(0.25 * 2) * b;
}

static double by_ties(double a, double b) {
    const double x = sqrt(0.75 * 4) * a, y = sqrt(0.25 * 2) * b;
    return a * b > 0 ? (x + y) / 2 : fabs(a) > fabs(b) ? x : y;
}

Test(combine, linear_adds_the_factors_by_the_roots_of_their_weights) {
    check_rule("--combine linear --weights 0.75,0.25", by_linear);
}

Test(combine, ties_averages_the_entries_that_have_the_elected_sign) {
    check_rule("--combine ties --weights 0.75,0.25", by_ties);
}

Test(combine, density_says_how_many_entries_ties_and_dare_keep) {
    char *const folder = two_loras();
    int64_t n, left = 0, large = 0;
    must(folder, "merge model --adapter a --combine ties --density 0.25 -o ties");
    must(folder, "merge model --adapter a --combine dare --density 0.5 --seed 3 -o dare");
    float *const t = kit_tensor(folder, "ties/adapter_model.safetensors", query, &n);
    float *const d = kit_tensor(folder, "dare/adapter_model.safetensors", query, &n);
    float *const a = kit_tensor(folder, "a/adapter_model.safetensors", query, &n);
    for (int64_t i = 0; i < n; i++) {
        left += t[i] != 0;
        large += d[i] != 0;
        if (d[i] != 0) cr_expect_float_eq((double)d[i], 2 * 2 * (double)a[i], 1e-6); /* √4, and 1 / density */
    }
    cr_expect_eq(left, n / 4);
    cr_expect(large > n / 4 && large < 3 * n / 4, "%lld of %lld", (long long)large, (long long)n);
    free(t);
    free(d);
    free(a);
    kit_remove(folder);
}

Test(combine, what_cannot_be_combined_is_said) {
    char *const folder = two_loras();
    train(folder, "ia3", "[adapter]\nplugin = ia3\n" TRAIN);
    train(folder, "wide", "[adapter]\nplugin = lora\nrank = 3\ntargets = q_proj\n" TRAIN);
    const struct {
        const char *arguments, *says;
    } wrong[] = {
        {"merge model --adapter a --adapter ia3 --combine linear -o c",              "no plain low-rank update"},
        {"merge model --adapter a --adapter wide --combine linear -o c",             "combine by svd"          },
        {"merge model --adapter a --adapter b --combine linear --weights 1,-1 -o c", "combine by svd"          },
        {"merge model --adapter a --adapter b --combine linear --weights 1 -o c",    "1 numbers for 2 adapters"},
        {"merge model --adapter a --combine mean -o c",                              "must be linear"          },
        {"extract model model -o c",                                                 "nothing to extract"      },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect_neq(graft(folder, wrong[i].arguments), 0, "%s", wrong[i].arguments);
        char *const text = kit_read(folder, "err.txt");
        cr_expect(strstr(text, wrong[i].says), "%s: %s", wrong[i].arguments, text);
        free(text);
    }
    cr_expect(!kit_has(folder, "c/adapter_config.json"));
    kit_remove(folder);
}

Test(combine, a_lora_of_full_rank_out_of_a_model_gives_the_model_back) {
    char *const folder = kit_make(4);
    train(folder, "tuned", "[adapter]\nplugin = full\ntargets = *_proj\n" TRAIN);
    must(folder, "extract model tuned --rank 32 -o lora");
    must(folder, "merge model --adapter lora -o again");
    check_same_models(folder, "tuned", "again");
    must(folder, "extract model tuned --rank 4 --json -o thin");
    char *const path = path_join(folder, "out.txt");
    json_t *report = NULL;
    cr_assert_eq(json_read_file(path, 0, &report, &err), GRAFT_OK, "%s", err.text);
    const double kept = json_number_value(json_object_get(report, "kept"));
    cr_expect(kept > 0.1 && kept < 1, "rank 4 keeps %g", kept);
    json_decref(report);
    free(path);
    kit_remove(folder);
}

Test(combine, merging_into_a_pruned_base_can_keep_its_zeros) {
    char *const folder = two_loras();
    int64_t n, zeros = 0;
    train(folder, "pruned", "[adapter]\nplugin = prune\nmethod = nm\ntargets = all-linear\n" TRAIN);
    must(folder, "merge pruned --adapter a -o merged --keep-zeros");
    float *const w = kit_tensor(folder, "merged/model.safetensors", "model.layers.0.self_attn.q_proj.weight", &n);
    for (int64_t i = 0; i < n; i++)
        zeros += w[i] == 0;
    cr_expect_eq(zeros, n / 2);
    free(w);
    kit_remove(folder);
}
