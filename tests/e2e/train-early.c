/* Early stopping: a run ends where validation gets no better, its result is the best state when that is wanted, and neither depends
 * on how often the run was interrupted. */
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Random targets: what is learned of them makes others less likely. */
#define OVERFITS                                                                                                       \
    "[adapter]\nplugin = lora\nrank = 8\ntargets = all-linear\n[optimizer]\nplugin = adamw\nlr = 0.05\n"               \
    "[train]\neval_every = 2\npatience = 3\n"

static void train(const char *folder, const char *name, const char *options) {
    char *text;
    cr_assert_eq(kit_train(folder, name, options, &text), 0, "%s", text);
    free(text);
}

static int lines(const char *folder, const char *path) {
    char *const text = kit_read(folder, path);
    int count = 0;
    for (const char *at = text; *at; at++)
        count += *at == '\n';
    free(text);
    return count;
}

Test(early, a_run_ends_when_validation_gets_no_better_and_says_so) {
    char *const folder = kit_make(40), *text;
    kit_ini(folder, "run", OVERFITS);
    cr_assert_eq(kit_train(folder, "run", "", &text), 0, "%s", text);
    cr_expect(strstr(text, "the run ends here"), "%s", text);
    char *const result = kit_read(folder, "run/result.json");
    cr_expect(strstr(result, "\"stopped_early\": true"), "%s", result);
    const char *const best = strstr(result, "\"best_step\": ");
    cr_assert(best, "%s", result);
    const int step = atoi(best + strlen("\"best_step\": "));
    cr_expect_eq(lines(folder, "run/metrics.jsonl"), step + 6, "%d validations behind step %d", 3, step);
    free(text);
    free(result);
    kit_remove(folder);
}

Test(early, the_best_state_is_the_result_when_it_is_wanted) {
    char *const folder = kit_make(40);
    kit_ini(folder, "last", OVERFITS);
    kit_ini(folder, "best", OVERFITS "load_best = yes\n");
    train(folder, "last", "--quiet");
    train(folder, "best", "--quiet");
    cr_expect(kit_same(folder, "best", "best/checkpoints/best", "adapter_model.safetensors"));
    cr_expect(kit_same(folder, "best", "last/checkpoints/best", "adapter_model.safetensors"));
    cr_expect_not(kit_same(folder, "best", "last", "adapter_model.safetensors"));
    kit_remove(folder);
}

Test(early, an_interrupted_run_ends_at_the_same_step_with_the_same_bytes) {
    char *const folder = kit_make(40);
    kit_ini(folder, "whole", OVERFITS "load_best = yes\n");
    kit_ini(folder, "parts", OVERFITS "load_best = yes\n");
    train(folder, "whole", "--quiet");
    train(folder, "parts", "--quiet --stop-after 3");
    train(folder, "parts", "--quiet --resume");
    train(folder, "parts", "--quiet --resume"); /* done already */
    static const char *const files[] = {"adapter_model.safetensors", "metrics.jsonl", "result.json"};
    for (int i = 0; i < 3; i++)
        cr_expect(kit_same(folder, "whole", "parts", files[i]), "%s differs", files[i]);
    kit_remove(folder);
}

Test(early, waiting_for_validations_that_never_come_is_refused) {
    char *const folder = kit_make(4), *text;
    kit_ini(folder, "run", "[adapter]\nplugin = lora\n[train]\npatience = 3\nload_best = yes\n");
    cr_expect_eq(kit_train(folder, "run", "", &text), 2, "%s", text);
    cr_expect(strstr(text, "patience needs validations: set eval_every"), "%s", text);
    cr_expect(strstr(text, "load_best needs validations"), "%s", text);
    free(text);
    kit_remove(folder);
}
