/* Every quantizer under an adapter, through the program: 20 steps, stopped and resumed to the same bytes, and merged. */
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(quantizers, .timeout = 120);

static int graft(const char *format, const char *folder) {
    char *const words = mem_format(format, folder, folder, folder, folder);
    char *const line = mem_format("%s/bin/graft %s >/dev/null 2>&1", BINARY_DIR, words);
    const int status = system(line);
    free(words);
    free(line);
    return status;
}

static void check(const char *quantizer, int has_files) {
    char *const folder = kit_make(20), *text;
    char *const sections =
        mem_format("[quantizer]\nplugin = %s\n[adapter]\nplugin = lora\nrank = 4\ntargets = all-linear\n"
                   "[optimizer]\nplugin = adamw\nlr = 0.01\n[train]\nsteps = 20\n",
                   quantizer);
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "parts", sections);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", &text), 0, "%s: %s", quantizer, text);
    free(text);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --stop-after 11", &text), 0, "%s: %s", quantizer, text);
    free(text);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --resume", &text), 0, "%s: %s", quantizer, text);
    free(text);
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"), "%s: metrics differ", quantizer);
    cr_expect(kit_same(folder, "whole", "parts", "adapter_model.safetensors"), "%s: adapters differ", quantizer);
    cr_expect_eq(graft("merge %s/model --adapter %s/whole --ini %s/whole.ini -o %s/numbers", folder), 0,
                 "%s: merging into numbers", quantizer);
    const int packed = graft("merge %s/model --adapter %s/whole --ini %s/whole.ini --base packed -o %s/packed", folder);
    cr_expect_eq(packed == 0, has_files, "%s: merging into the packed base", quantizer);
    free(sections);
    kit_remove(folder);
}

Test(quantizers, nf4) {
    check("quant-nf4", 1);
    check("quant-nf4\ntype = fp4\nblock_size = 32\ndouble_quant = yes", 1);
}

Test(quantizers, int8) {
    check("quant-int8", 1);
    check("quant-int8\nthreshold = 3", 1);
}

Test(quantizers, affine) {
    check("quant-affine\nbits = 2\ngroup_size = 16", 0);
    check("quant-affine\nbits = 3\nsymmetric = yes", 0);
    check("quant-affine\nbits = 4\nrefine = 4", 0);
    check("quant-affine\nbits = 8\ngroup_size = 32", 0);
}
