/* adalora — twelve steps of AdaLoRA against PEFT 0.21.2: loss with its orthogonality term, gradient norm, and at the end which
 * triples are left in which layer. data/adalora.json was made with torch 2.15 and PEFT's update_and_allocate after each step of
 * plain SGD (Adam would amplify the rounding of the smallest gradients), on the shared model, batches and adapter. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(adalora, .timeout = 120);

static const char settings[] = "{\"init_r\": 6, \"target_r\": 3, \"tinit\": 2, \"tfinal\": 3, \"deltaT\": 2, "
                               "\"total_step\": 12, \"beta1\": 0.8, \"beta2\": 0.7, \"orth_reg_weight\": 0.25}";

static json_t *read_json(const char *folder, const char *name) {
    graft_error err = {0};
    json_t *value = NULL;
    char *const path = path_join(folder, name);
    cr_assert_eq(json_read_file(path, 0, &value, &err), 0, "%s", err.text);
    free(path);
    return value;
}

/* The golden adapter with the settings of this run. */
static void make_start(const char *from, const char *to) {
    graft_error err = {0};
    json_t *const config = read_json(from, "adapter_config.json"), *const more = json_loads(settings, 0, NULL);
    char *const path = path_join(to, "adapter_config.json"), *const tensors =
                                                                 path_join(from, "adapter_model.safetensors");
    char *const copy = path_join(to, "adapter_model.safetensors"), *bytes;
    int64_t size;
    json_object_update(config, more);
    cr_assert_eq(json_write_file(path, config, 0, &err), 0, "%s", err.text);
    cr_assert_eq(file_read(tensors, 1 << 24, &bytes, &size, &err), 0, "%s", err.text);
    cr_assert_eq(file_write(copy, bytes, size, &err), 0, "%s", err.text);
    json_decref(config);
    json_decref(more);
    free(bytes);
    free(path);
    free(tensors);
    free(copy);
}

static void write_ini(const char *folder) {
    graft_error err = {0};
    char *const path = path_join(folder, "run.ini");
    char *const text = mem_format("[model]\npath = %s/models/stories260k\nprecision = f32\n"
                                  "[data]\nloader = tensors\npath = %s/golden/training/_data/instruct.safetensors\n"
                                  "[adapter]\nplugin = adalora\nstart = %s\n"
                                  "[optimizer]\nplugin = sgd\nlr = 0.1\nmomentum = 0\nweight_decay = 0\n"
                                  "[schedule]\nplugin = constant\n[train]\nsteps = 12\nclip_norm = 1\n"
                                  "[output]\npath = %s/run\n",
                                  SHARED_DIR, SHARED_DIR, folder, folder);
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
    free(path);
    free(text);
}

static double number(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    cr_assert(json_is_number(value), "no number %s", key);
    return json_number_value(value);
}

/* f32 against f32, which the gradient of the orthogonality term makes sensitive: 2e-5 after twelve steps. */
static void check_curve(const char *run, const json_t *curve) {
    graft_error err = {0};
    char *const path = path_join(run, "metrics.jsonl"), *text;
    int64_t size;
    cr_assert_eq(file_read(path, 1 << 20, &text, &size, &err), 0, "%s", err.text);
    const char *at = text;
    for (size_t s = 0; s < json_array_size(curve); s++) {
        const json_t *const want = json_array_get(curve, s);
        const char *const end = strchr(at, '\n');
        json_t *got = NULL;
        cr_assert(end && json_read_text(at, (size_t)(end - at), "metrics.jsonl", 0, &got, &err) == 0, "%s", err.text);
        cr_expect_leq(fabs(number(got, "loss") - number(want, "loss")), 2e-5, "step %zu: loss %.9g, PEFT %.9g", s + 1,
                      number(got, "loss"), number(want, "loss"));
        cr_expect_leq(fabs(number(got, "grad_norm") / number(want, "grad_norm") - 1), 2e-5,
                      "step %zu: gradient norm %.9g, PEFT %.9g", s + 1, number(got, "grad_norm"),
                      number(want, "grad_norm"));
        json_decref(got);
        at = end + 1;
    }
    free(text);
    free(path);
}

/* The folder says which triples are left, and holds these alone. */
static void check_left(const char *run, const json_t *left) {
    graft_error err = {0};
    safetensors *st = NULL;
    json_t *const config = read_json(run, "adapter_config.json");
    const json_t *const pattern = json_object_get(config, "rank_pattern");
    char *const path = path_join(run, "adapter_model.safetensors");
    const char *key;
    json_t *want;
    cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
    cr_expect_eq(json_object_size(pattern), json_object_size(left));
    json_object_foreach((json_t *)(uintptr_t)left, key, want) {
        const json_t *const got = json_object_get(pattern, key);
        int64_t count = 0;
        cr_assert_eq(json_array_size(got), json_array_size(want), "%s", key);
        for (size_t i = 0; i < json_array_size(want); i++) {
            const int kept = json_integer_value(json_array_get(want, i)) != 0;
            count += kept;
            cr_expect_eq(json_is_true(json_array_get(got, i)), kept, "%s, triple %zu", key, i);
        }
        char *const name = mem_format("base_model.model.%s", key);
        const tensor_info *const e = safetensors_find(st, name);
        cr_assert(e && e->rank == 2 && e->shape[0] == count && e->shape[1] == 1, "%s", name);
        free(name);
    }
    safetensors_close(st);
    json_decref(config);
    free(path);
}

Test(adalora, chooses_the_triples_that_peft_chooses) {
    graft_error err = {0};
    char folder[] = "/tmp/graft-adalora-XXXXXX";
    const char *const from = SHARED_DIR "/golden/adapters/adalora";
    if (!file_is_folder(from)) {
        fprintf(stderr, "skipped: %s is not there\n", from);
        cr_skip_test();
    }
    cr_assert(mkdtemp(folder));
    make_start(from, folder);
    write_ini(folder);
    json_t *const reference = read_json(SOURCE_DIR "/tests/golden/data", "adalora.json");
    char *const run = path_join(folder, "run");
    char *const train = mem_format("'%s/bin/graft' train '%s/run.ini' >/dev/null 2>&1", BINARY_DIR, folder);
    cr_assert_eq(system(train), 0, "%s", train);
    check_curve(run, json_object_get(reference, "curve"));
    check_left(run, json_object_get(reference, "left"));
    /* and it is read */
    char *const batch = mem_format("%s/case.safetensors", from), *const out = path_join(folder, "out.safetensors");
    char *const probe =
        mem_format("'%s/bin/graft' probe '%s/models/stories260k' --adapter '%s' --input '%s' --output '%s'", BINARY_DIR,
                   SHARED_DIR, run, batch, out);
    cr_assert_eq(system(probe), 0, "%s", probe);
    char *const texts[] = {run, train, batch, out, probe};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    json_decref(reference);
    cr_assert_eq(file_remove_tree(folder, &err), 0, "%s", err.text);
}
