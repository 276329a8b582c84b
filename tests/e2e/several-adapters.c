/* Several adapters on one base: trained one on the other, saved each in a folder of its own, and used alone or together. */
#include "base/json.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(several, .timeout = 120);

#define RUN    "[optimizer]\nplugin = adamw\nlr = 0.02\n[train]\nsteps = 20\n"
#define FIRST  "[adapter.first]\nplugin = lora\nrank = 4\ntargets = q_proj, v_proj, down_proj\n"
#define SECOND "[adapter.second]\nplugin = ia3\ntargets = k_proj, v_proj, down_proj\n"

static int graft(const char *folder, const char *words) {
    char *const line = mem_format("cd '%s' && '%s/bin/graft' %s 2>>graft.log", folder, BINARY_DIR, words);
    const int status = system(line);
    free(line);
    return status;
}

static json_t *json_in(const char *folder, const char *file) {
    graft_error err = {0};
    char *const path = mem_format("%s/%s", folder, file);
    json_t *root = NULL;
    cr_assert_eq(json_read_file(path, 0, &root, &err), 0, "%s", err.text);
    free(path);
    return root;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static char *trained(const char *quantizer) {
    char *const folder = kit_make(20), *text;
    char *const sections = mem_format(FIRST SECOND RUN "%s", quantizer);
    kit_ini(folder, "run", sections);
    kit_ini(folder, "data", RUN);
    cr_assert_eq(kit_train(folder, "run", "--quiet", &text), 0, "%s", text);
    free(text);
    free(sections);
    return folder;
}

static void check_alone_and_together(const char *quantizer) {
    char *const folder = trained(quantizer);
    cr_expect(kit_has(folder, "run/first/adapter_config.json") && kit_has(folder, "run/second/adapter_config.json"));
    cr_assert_eq(graft(folder, "eval model --adapter run/first --adapter run/second --ini run.ini --json >each.json"),
                 0);
    cr_assert_eq(graft(folder, "eval model --adapter run/first --adapter run/second --together --ini run.ini --json "
                               ">both.json"),
                 0);
    json_t *const each = json_in(folder, "each.json"), *const both = json_in(folder, "both.json"),
                  *const result = json_in(folder, "run/result.json");
    const double after = number(result, "eval_after"), base = number(json_array_get(each, 0), "loss");
    cr_expect_eq(json_array_size(each), 3);
    cr_expect_eq(json_array_size(both), 2);
    cr_expect_float_eq(number(json_array_get(both, 0), "loss"), base, 1e-9);
    cr_expect_float_eq(number(json_array_get(both, 1), "loss"), after, 1e-6, "together they are what was trained");
    for (size_t i = 1; i < 3; i++) {
        const double alone = number(json_array_get(each, i), "loss");
        cr_expect(fabs(alone - base) > 1e-4 && fabs(alone - after) > 1e-4, "adapter %zu alone: %g; none %g, both %g", i,
                  alone, base, after);
    }
    json_decref(each);
    json_decref(both);
    json_decref(result);
    kit_remove(folder);
}

Test(several, each_is_a_folder_and_together_they_are_what_was_trained) {
    check_alone_and_together("");
    check_alone_and_together("[quantizer]\nplugin = quant-nf4\n");
}

/* The ids that generate answers with; owned by the caller. */
static json_t *answer(const char *folder, const char *model_and_adapters) {
    char *const words =
        mem_format("generate %s --ids 5,9,40 --max-new 20 --precision f32 --json >answer.json", model_and_adapters);
    cr_assert_eq(graft(folder, words), 0, "%s", words);
    json_t *const root = json_in(folder, "answer.json");
    json_t *const ids = json_incref(json_object_get(json_array_get(root, 0), "ids"));
    cr_assert_eq(json_array_size(ids), 20);
    json_decref(root);
    free(words);
    return ids;
}

Test(several, generate_uses_all_that_are_named_as_a_merged_model_has_them) {
    char *const folder = trained("");
    cr_assert_eq(graft(folder, "merge model --adapter run/first --adapter run/second -o both >/dev/null"), 0);
    cr_assert_eq(graft(folder, "merge model --adapter run/second -o half >/dev/null"), 0);
    json_t *const all = answer(folder, "model --adapter run/first --adapter run/second"),
                  *const both = answer(folder, "both"), *const second = answer(folder, "model --adapter run/second"),
                  *const half = answer(folder, "half");
    cr_expect(json_equal(all, both) && json_equal(second, half));
    cr_expect(!json_equal(all, second), "the first adapter changes the answer");
    json_decref(all);
    json_decref(both);
    json_decref(second);
    json_decref(half);
    kit_remove(folder);
}

Test(several, a_second_adapter_is_trained_on_a_first_that_was_there) {
    char *const folder = kit_make(20), *text;
    kit_ini(folder, "one", "[adapter]\nplugin = lora\nrank = 4\ntargets = q_proj, v_proj\n" RUN);
    cr_assert_eq(kit_train(folder, "one", "--quiet", &text), 0, "%s", text);
    free(text);
    char *const sections = mem_format("[adapter.old]\nplugin = lora\nstart = %s/one\n" SECOND RUN, folder);
    kit_ini(folder, "two", sections);
    cr_assert_eq(kit_train(folder, "two", "--quiet", &text), 0, "%s", text);
    free(text);
    json_t *const one = json_in(folder, "one/result.json"), *const two = json_in(folder, "two/result.json");
    cr_expect_float_eq(number(two, "eval_before"), number(one, "eval_after"), 1e-6, "it begins where the first ended");
    cr_expect_neq(number(two, "eval_after"), number(two, "eval_before"));
    cr_expect(kit_has(folder, "two/old/adapter_config.json") && kit_has(folder, "two/second/adapter_config.json"));
    json_decref(one);
    json_decref(two);
    free(sections);
    kit_remove(folder);
}
