/* Every quantizer under an adapter, through the program: 20 steps, stopped and resumed to the same bytes, and merged; and the
 * folder that `graft quantize` writes in the place of model and quantizer: the same losses, the same steps, the same merge. */
#include "base/json.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(quantizers, .timeout = 120);

static const char adapter[] = "[adapter]\nplugin = lora\nrank = 4\ntargets = all-linear\n"
                              "[optimizer]\nplugin = adamw\nlr = 0.01\n[train]\nsteps = 20\n";

/* Runs graft in the folder; its exit status. */
static int graft(const char *folder, const char *words) {
    char *const line = mem_format("cd '%s' && '%s/bin/graft' %s 2>>graft.log", folder, BINARY_DIR, words);
    const int status = system(line);
    free(line);
    return status;
}

static void train(const char *folder, const char *name, const char *options) {
    char *text;
    cr_assert_eq(kit_train(folder, name, options, &text), 0, "%s", text);
    free(text);
}

static double loss_in(const char *folder, const char *file) {
    graft_error err = {0};
    char *const path = mem_format("%s/%s", folder, file);
    json_t *root = NULL;
    cr_assert_eq(json_read_file(path, 0, &root, &err), 0, "%s", err.text);
    const double loss = json_real_value(json_object_get(json_array_get(root, 0), "loss"));
    json_decref(root);
    free(path);
    cr_assert_gt(loss, 0);
    return loss;
}

/* Validation loss before training. */
static double result_of(const char *folder, const char *name) {
    graft_error err = {0};
    char *const path = mem_format("%s/%s/result.json", folder, name);
    json_t *root = NULL;
    cr_assert_eq(json_read_file(path, 0, &root, &err), 0, "%s", err.text);
    const double loss = json_real_value(json_object_get(root, "eval_before"));
    json_decref(root);
    free(path);
    return loss;
}

/* The packed folder, and runs on it, are what model and [quantizer] are. */
static void check_folder(const char *folder, const char *quantizer) {
    kit_ini(folder, "plain", adapter);
    cr_assert_eq(graft(folder, "quantize model --ini whole.ini -o base >/dev/null"), 0, "%s", quantizer);
    cr_expect_eq(graft(folder, "eval model --ini whole.ini --json >one.json"), 0);
    cr_expect_eq(graft(folder, "eval base --ini plain.ini --json >two.json"), 0);
    cr_expect_eq(loss_in(folder, "one.json"), loss_in(folder, "two.json"), "%s", quantizer);
    char *const options = mem_format("--quiet --set model.path=%s/base", folder);
    train(folder, "plain", options);
    cr_expect(kit_same(folder, "whole", "plain", "metrics.jsonl"), "%s: training on the folder differs", quantizer);
    cr_expect_eq(graft(folder, "merge base --adapter plain -o also >/dev/null"), 0);
    cr_expect(kit_same(folder, "numbers", "also", "model.safetensors"), "%s: merging into the folder differs",
              quantizer);
    cr_expect_eq(graft(folder, "inspect base --json >/dev/null"), 0);
    cr_expect_eq(graft(folder, "generate model --ini whole.ini --ids 5,9,40 --max-new 12 >one.txt"), 0);
    cr_expect_eq(graft(folder, "generate base --precision f32 --ids 5,9,40 --max-new 12 >two.txt"), 0);
    char *const one = kit_read(folder, "one.txt"), *const two = kit_read(folder, "two.txt");
    cr_expect_str_eq(one, two, "%s", quantizer);
    cr_expect_eq(graft(folder, "merge base --adapter plain --base packed --max-error 0.9 -o fair >/dev/null"), 0);
    cr_expect_neq(graft(folder, "merge base --adapter plain --base packed --max-error 1e-6 -o strict >/dev/null"), 0);
    cr_expect(!kit_has(folder, "strict"), "a limit is kept before anything is written");
    free(one);
    free(two);
    free(options);
}

static void check(const char *quantizer, int has_files) {
    char *const folder = kit_make(20);
    char *const sections = mem_format("[quantizer]\nplugin = %s\n%s", quantizer, adapter);
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "parts", sections);
    train(folder, "whole", "--quiet");
    train(folder, "parts", "--quiet --stop-after 11");
    train(folder, "parts", "--quiet --resume");
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"), "%s: metrics differ", quantizer);
    cr_expect(kit_same(folder, "whole", "parts", "adapter_model.safetensors"), "%s: adapters differ", quantizer);
    cr_expect_eq(graft(folder, "merge model --adapter whole --ini whole.ini -o numbers >/dev/null"), 0,
                 "%s: merging into numbers", quantizer);
    const int packed = graft(folder, "merge model --adapter whole --ini whole.ini --base packed -o packed >/dev/null");
    cr_expect_eq(packed == 0, has_files, "%s: merging into the packed base", quantizer);
    if (has_files) check_folder(folder, quantizer);
    free(sections);
    kit_remove(folder);
}

Test(quantizers, nf4) {
    check("quant-nf4", 1);
    check("quant-nf4\ndouble_quant = yes", 1);
    check("quant-nf4\ntype = fp4\nblock_size = 32\ndouble_quant = yes", 1);
}

Test(quantizers, int8) {
    check("quant-int8", 1);
}

Test(quantizers, int8_with_threshold) {
    char *const folder = kit_make(20);
    char *const sections = mem_format("[quantizer]\nplugin = quant-int8\nthreshold = 3\n%s", adapter);
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "packed", sections);
    train(folder, "whole", "--quiet");
    cr_assert_eq(graft(folder, "quantize model --ini whole.ini -o base >/dev/null"), 0);
    char *const options = mem_format("--quiet --set model.path=%s/base", folder);
    train(folder, "packed", options); /* a threshold belongs to the run, also on packed rows */
    cr_expect(kit_same(folder, "whole", "packed", "metrics.jsonl"));
    free(sections);
    free(options);
    kit_remove(folder);
}

/* A GPTQ folder whose config.json says something else than its tensors. */
Test(quantizers, misleading_folders_are_refused) {
    static const char *const lies[][2] = {
        {"s/\"group_size\": 16/\"group_size\": 32/",              "qzeros"      },
        {"s/\"bits\": 4/\"bits\": 8/",                            "qweight"     },
        {"s/\"sym\": false/\"sym\": true/",                       "sym"         },
        {"s/\"format\": \"gptq\"/\"format\": \"gptq_v2\"/",       "format"      },
        {"s/_format\": \"gptq\"/_format\": \"marlin\"/",          "marlin"      },
        {"s/\"desc_act\": false/\"dynamic\": {\"+:x\": {}}/",     "dynamic"     },
        {"s/\"quant_method\": \"gptq\"/\"quant_method\": \"x\"/", "quantized by"}
    };
    char *const folder = kit_make(1);
    cr_assert_eq(graft(folder, "quantize model --plugin quant-affine --set quantizer.group_size=16 -o base >/dev/null"),
                 0);
    cr_assert_eq(graft(folder, "inspect base >/dev/null && cp base/config.json right.json"), 0);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char *const line = mem_format("cd '%s' && sed '%s' right.json > base/config.json && ! cmp -s right.json "
                                      "base/config.json && ! '%s/bin/graft' generate base --ids 1 2>said",
                                      folder, lies[i][0], BINARY_DIR);
        cr_expect_eq(system(line), 0, "%s", lies[i][0]);
        char *const said = kit_read(folder, "said");
        cr_expect(strstr(said, lies[i][1]), "%s: %s", lies[i][0], said);
        free(said);
        free(line);
    }
    kit_remove(folder);
}

Test(quantizers, affine) {
    check("quant-affine\nbits = 2\ngroup_size = 16", 1);
    check("quant-affine\nbits = 3\nsymmetric = yes", 0); /* rows of 16 do not fill words of 32 bits */
    check("quant-affine\nbits = 4\nsymmetric = yes\nhalf_scales = yes", 1);
    check("quant-affine\nbits = 4\nrefine = 4", 0);
    check("quant-affine\nbits = 8\ngroup_size = 32", 1);
}

/* DoRA's lengths are those of the quantized rows, as in PEFT: what was not trained changes nothing. */
Test(quantizers, dora_begins_as_the_quantized_base) {
    char *const folder = kit_make(1);
    kit_ini(folder, "lora", "[quantizer]\nplugin = quant-nf4\n[adapter]\nplugin = lora\n");
    kit_ini(folder, "dora", "[quantizer]\nplugin = quant-nf4\n[adapter]\nplugin = dora\n");
    train(folder, "lora", "--quiet");
    train(folder, "dora", "--quiet");
    cr_expect_float_eq(result_of(folder, "dora"), result_of(folder, "lora"), 1e-5);
    kit_remove(folder);
}
