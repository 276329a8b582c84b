/* training — the reference runs, step by step: loss, gradient norm and learning rate as torch has them, validation before and
 * after, and the tensors at the end, from an INI file as a user writes it. */
#include "run/training.h"
#include "base/file.h"
#include "base/log.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden"

typedef struct {
    const char *name, *adapter, *more; /* sections: [adapter] and further ones                            */
    const char *whole;                 /* the model, below the fixtures, whose own tensors are trained, or NULL */
} run_case;

static const char lora[] = "plugin = lora\nrank = 8\n"; /* targets and alpha come from the folder of `start` */

static double number(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    cr_assert(json_is_number(value), "the case has no number %s", key);
    return json_number_value(value);
}

static json_t *read_json(const char *folder, const char *name) {
    json_t *value = NULL;
    graft_error err = {0};
    char *const path = path_join(folder, name);
    cr_assert_eq(json_read_file(path, 0, &value, &err), GRAFT_OK, "%s", err.text);
    free(path);
    return value;
}

/* ---- the run ---- */

static char *write_ini(const run_case *c, const json_t *meta, const char *folder, const char *out) {
    strbuf ini = {0};
    const json_t *const rates = json_object_get(meta, "optimizer"), *const schedule = json_object_get(meta, "schedule");
    const char *const base = json_string_value(json_object_get(meta, "base"));
    const char *const initial = json_string_value(json_object_get(meta, "initial"));
    strbuf_printf(&ini, "[model]\npath = %s/%s\nprecision = %s\n",
                  strncmp(base, "models", 6) == 0 ? SHARED_DIR : GOLDEN, base,
                  json_object_get(meta, "dtype") ? "bf16" : "f32");
    strbuf_printf(&ini, "[data]\nloader = tensors\npath = %s/%s\n", folder,
                  json_string_value(json_object_get(meta, "batches")));
    strbuf_printf(&ini, "[adapter]\n%s", c->adapter);
    if (initial && !c->whole) strbuf_printf(&ini, "start = %s/%s\n", folder, initial);
    if (c->more) strbuf_puts(&ini, c->more);
    strbuf_printf(&ini, "[optimizer]\nplugin = adamw\nlr = %.17g\nweight_decay = %.17g\n", number(rates, "lr"),
                  number(rates, "weight_decay"));
    strbuf_printf(&ini,
                  "[schedule]\nplugin = cosine\nwarmup_steps = %d\n[train]\nsteps = %d\n[output]\npath = %s/run\n",
                  (int)number(schedule, "warmup_steps"), (int)number(meta, "steps"), out);
    graft_error err = {0};
    char *const path = path_join(out, "run.ini");
    cr_assert_eq(file_write(path, ini.text, (int64_t)ini.length, &err), GRAFT_OK, "%s", err.text);
    strbuf_free(&ini);
    return path;
}

static training_result train(const char *ini, const char *device) {
    graft_error err = {0};
    registry *const plugins = registry_create();
    recipe *r = NULL;
    training *t = NULL;
    training_result result;
    const training_options options = {.quiet = 1, .device = device};
    recipe_load(plugins, ini, NULL, 0, RECIPE_TRAIN, &r, NULL, &err);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    training_open(r, plugins, &options, &t, &err);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    training_run(t, &result, &err);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    training_close(t);
    recipe_free(r);
    registry_free(plugins);
    return result;
}

/* ---- comparing ---- */

static void check_steps(const run_case *c, const char *out, const json_t *curve) {
    const json_t *const steps = json_object_get(curve, "steps"), *const bounds = json_object_get(curve, "tolerances");
    const double loss = number(bounds, "loss_abs"), norm = number(bounds, "grad_norm_rel"),
                 lr = number(bounds, "lr_rel");
    char *const path = path_join(out, "run/metrics.jsonl"), *text;
    int64_t size;
    graft_error err = {0};
    cr_assert_eq(file_read(path, 1 << 20, &text, &size, &err), GRAFT_OK, "%s", err.text);
    const char *at = text;
    for (size_t s = 0; s < json_array_size(steps); s++) {
        const json_t *const want = json_array_get(steps, s);
        json_t *got = NULL;
        const char *const end = strchr(at, '\n');
        cr_assert(end, "%s: metrics end before step %zu", c->name, s + 1);
        json_read_text(at, (size_t)(end - at), "metrics.jsonl", 0, &got, &err);
        cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
        cr_expect_eq(number(got, "step"), number(want, "step"));
        cr_expect_eq(number(got, "tokens"), number(want, "targets"), "%s step %zu: targets", c->name, s + 1);
        cr_expect_leq(fabs(number(got, "loss") - number(want, "loss")), loss, "%s step %zu: loss %.9g, torch %.9g",
                      c->name, s + 1, number(got, "loss"), number(want, "loss"));
        cr_expect_leq(fabs(number(got, "grad_norm") / number(want, "grad_norm") - 1), norm,
                      "%s step %zu: gradient norm %.9g, torch %.9g", c->name, s + 1, number(got, "grad_norm"),
                      number(want, "grad_norm"));
        cr_expect_leq(fabs(number(got, "lr") - number(want, "lr")), lr * number(want, "lr"), "%s step %zu: lr", c->name,
                      s + 1);
        json_decref(got);
        at = end + 1;
    }
    cr_expect_eq(*at, '\0', "%s: more lines than steps", c->name);
    free(text);
    free(path);
}

static float *values_of(const safetensors *st, const char *name, int64_t *count) {
    graft_error err = {0};
    const tensor_info *t = NULL;
    cr_assert_eq(safetensors_need(st, name, &t, &err), GRAFT_OK, "%s", err.text);
    float *const values = mem_new((size_t)t->count + 1, sizeof *values);
    cr_assert_eq(safetensors_read_as(st, t, values, F32, &err), GRAFT_OK, "%s", err.text);
    *count = t->count;
    return values;
}

static safetensors *open_file(const char *folder, const char *name) {
    graft_error err = {0};
    safetensors *st = NULL;
    char *const path = path_join(folder, name);
    safetensors_open(path, &st, &err);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    free(path);
    return st;
}

/* The tensors of a folder, whatever its kind. */
static safetensors *open_tensors(const char *folder) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter.safetensors", "model.safetensors"};
    int n = 0;
    for (; n < 2; n++) {
        char *const path = path_join(folder, names[n]);
        const int there = file_exists(path);
        free(path);
        if (there) break;
    }
    return open_file(folder, names[n]);
}

/* |mine - final| / |final - initial| over all tensors of the case. */
static void check_final(const run_case *c, const char *out, const char *folder, const json_t *meta,
                        const json_t *curve) {
    const json_t *const bounds = json_object_get(curve, "tolerances");
    if (!json_object_get(bounds, "final_update_rel_l2")) return;
    const char *const initial = json_string_value(json_object_get(meta, "initial"));
    char *const begun = c->whole ? path_join(SHARED_DIR, c->whole) : path_join(folder, initial);
    char *const run = path_join(out, "run");
    safetensors *const want = open_file(folder, "final.safetensors");
    safetensors *const from = open_tensors(begun), *const got = open_tensors(run);
    double apart = 0, moved = 0;
    for (int64_t t = 0; t < safetensors_count(want); t++) {
        int64_t n, m, k;
        const char *const name = safetensors_at(want, t)->name;
        float *const a = values_of(got, name, &n), *const b = values_of(want, name, &m),
                     *const o = values_of(from, name, &k);
        cr_assert(n == m && m == k, "%s: %s has another size", c->name, name);
        for (int64_t i = 0; i < n; i++) {
            apart += pow((double)a[i] - (double)b[i], 2);
            moved += pow((double)b[i] - (double)o[i], 2);
        }
        free(a);
        free(b);
        free(o);
    }
    const double relative = sqrt(apart / moved), bound = number(bounds, "final_update_rel_l2");
    cr_expect_leq(relative, bound, "%s: the trained tensors are off by %g of their change, allowed %g", c->name,
                  relative, bound);
    safetensors_close(want);
    safetensors_close(from);
    safetensors_close(got);
    free(begun);
    free(run);
}

static void check_case(const run_case *c, const char *device) {
    char *const root = path_join(GOLDEN, "training"), *const folder = path_join(root, c->name);
    if (!file_is_folder(folder)) {
        fprintf(stderr, "skipped: %s is not there\n", folder);
        cr_skip_test();
    }
    char out[] = "/tmp/graft-training-XXXXXX";
    cr_assert(mkdtemp(out));
    log_level_set(LOG_WARN);
    json_t *const meta = read_json(folder, "case.json"), *const curve = read_json(folder, "curve.json");
    char *const ini = write_ini(c, meta, folder, out);
    const training_result result = train(ini, device);
    const double bound = number(json_object_get(curve, "tolerances"), "eval_abs");
    check_steps(c, out, curve);
    cr_expect_leq(fabs(result.eval_before - number(curve, "eval_before")), bound,
                  "%s: validation before: %.9g, torch %.9g", c->name, result.eval_before, number(curve, "eval_before"));
    cr_expect_leq(fabs(result.eval_after - number(curve, "eval_after")), bound,
                  "%s: validation after: %.9g, torch %.9g", c->name, result.eval_after, number(curve, "eval_after"));
    check_final(c, out, folder, meta, curve);
    graft_error err = {0};
    file_remove_tree(out, &err);
    json_decref(meta);
    json_decref(curve);
    free(ini);
    free(folder);
    free(root);
}

#define CASE(test, ...)                                                                                                \
    Test(training, test##_follows_torch) {                                                                             \
        check_case(&(const run_case){__VA_ARGS__}, NULL);                                                              \
    }

#define STORIES "models/stories260k"
#define QWEN2   "golden/adapters/_models/qwen2-tiny-a"

CASE(lora_r8_all, "lora-r8-all", lora, NULL, NULL)
CASE(rslora_r32, "rslora-r32", "plugin = rslora\n", NULL, NULL)
CASE(dora_r8, "dora-r8", "plugin = dora\n", NULL, NULL)
CASE(lora_accum4, "lora-accum4", lora, NULL, NULL)
CASE(lora_gemma3, "lora-gemma3", lora, NULL, NULL)
CASE(full, "full", "plugin = full\n", NULL, STORIES)
CASE(biases_of_qwen2, "bitfit-qwen2", "plugin = full\ntargets = *.bias\n", NULL, QWEN2)
CASE(bitfit_qwen2, "bitfit-qwen2", "plugin = bitfit\n", NULL, QWEN2)
CASE(ia3, "ia3", "plugin = ia3\n", NULL, NULL)
CASE(prefix, "prefix", "plugin = prefix\n", NULL, NULL)
CASE(bottleneck, "bottleneck", "plugin = bottleneck\n", NULL, NULL)
CASE(qlora_nf4, "qlora-nf4", lora, "[quantizer]\nplugin = quant-nf4\n", NULL)
CASE(qlora_nf4_from_state, "qlora-nf4-dq", lora,
     "[quantizer]\nplugin = quant-nf4\nstate = " GOLDEN "/training/_quant/stories260k-nf4-dq.safetensors\n", NULL)

CASE(qlora_int8_from_state, "qlora-int8", lora,
     "[quantizer]\nplugin = quant-int8\nstate = " GOLDEN "/training/_quant/stories260k-int8.safetensors\n", NULL)

/* Nothing outside the kernels reads or writes what lies on a device. */
Test(training, lora_follows_torch_on_memory_that_only_kernels_may_touch) {
    check_case(&(const run_case){"lora-gemma3", lora, NULL, NULL}, "fake");
}

Test(training, full_follows_torch_on_memory_that_only_kernels_may_touch) {
    check_case(&(const run_case){"full", "plugin = full\n", NULL, STORIES}, "fake");
}

Test(training, lora_bf16_stays_inside_the_band_of_torch) {
    check_case(&(const run_case){"lora-bf16", lora, NULL, NULL}, NULL);
}
