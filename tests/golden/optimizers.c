/* optimizers — trajectories of torch's, transformers' and bitsandbytes' optimizers, through the plugins and the code that runs
 * them: 12 updates of matrices, vectors and a single number in f64 and f32, and single updates of 8-bit states. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "config/option.h"
#include "formats/safetensors.h"
#include "plugin/registry.h"
#include "run/optimizer.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SHARED_DIR "/golden/optim"

static graft_error err;

static json_t *open_index(const char *name) {
    json_t *root = NULL;
    char *const path = path_join(GOLDEN, name);
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(path, 0, &root, &err), GRAFT_OK, "%s", err.text);
    free(path);
    return root;
}

static safetensors *open_case(const json_t *golden) {
    safetensors *st = NULL;
    char *const path = path_join(GOLDEN, json_string_value(json_object_get(golden, "file")));
    cr_assert_eq(safetensors_open(path, &st, &err), GRAFT_OK, "%s", err.text);
    free(path);
    return st;
}

static void *values_of(const safetensors *st, const char *name, dtype type, int64_t *count) {
    const tensor_info *const info = safetensors_find(st, name);
    cr_assert(info, "%s has no %s", safetensors_name(st), name);
    void *const values = mem_new((size_t)info->count, (size_t)dtype_bytes(type));
    cr_assert_eq(safetensors_read_as(st, info, values, type, &err), GRAFT_OK, "%s", err.text);
    if (count) *count = info->count;
    return values;
}

/* ---- their names as ours ---- */

static void set(const plugin_component *c, const char *key, double value, void *config) {
    const int row = option_find(c->options, c->option_count, key);
    cr_assert(row >= 0, "%s has no option %s", c->name, key);
    char *const to = (char *)config + c->options[row].offset;
    const double real = value;
    const int32_t flag = value != 0;
    const int64_t whole = (int64_t)value;
    if (c->options[row].type == GRAFT_REAL)
        memcpy(to, &real, sizeof real);
    else if (c->options[row].type == GRAFT_INT)
        memcpy(to, &whole, sizeof whole);
    else
        memcpy(to, &flag, sizeof flag);
}

static void set_all(const plugin_component *c, const char *key, const json_t *value, void *config) {
    static const char *const pairs[][2] = {
        {"betas", "beta"},
        {"eps",   "eps" }
    };
    static const char *const names[][2] = {
        {"d",                         "clip_threshold"},
        {"beta2_decay",               "decay_rate"    },
        {"initial_accumulator_value", "initial"       }
    };
    if (strcmp(key, "decoupled") == 0 || strcmp(key, "lrs") == 0 || strcmp(key, "note") == 0 || json_is_null(value))
        return;
    for (size_t i = 0; json_is_array(value) && i < sizeof pairs / sizeof *pairs; i++)
        for (size_t n = 0; strcmp(key, pairs[i][0]) == 0 && n < json_array_size(value); n++) {
            char *const name = mem_format("%s%d", pairs[i][1], (int)n + 1);
            set(c, name, json_number_value(json_array_get(value, n)), config);
            free(name);
        }
    if (json_is_array(value)) return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i][0]) == 0) key = names[i][1];
    set(c, key, json_is_boolean(value) ? json_is_true(value) : json_number_value(value), config);
}

static const plugin_component *plugin_of(registry *plugins, const char *name, const json_t *golden, void **config) {
    const plugin_component *c = NULL;
    const char *key;
    json_t *value;
    cr_assert_eq(registry_find(plugins, PLUGIN_OPTIMIZER, name, NULL, &c, &err), GRAFT_OK, "%s", err.text);
    *config = mem_new((size_t)c->config_size, 1);
    option_origin *const origins = mem_new((size_t)c->option_count, sizeof *origins);
    option_defaults(&(option_set){c->options, c->option_count, *config, origins});
    free(origins);
    if (json_object_get(golden, "weight_decay"))
        set(c, "weight_decay", json_number_value(json_object_get(golden, "weight_decay")), *config);
    json_object_foreach(json_object_get(golden, "hyper"), key, value) set_all(c, key, value, *config);
    return c;
}

/* ---- trajectories ---- */

enum { PARAMS_MOST = 8 };

typedef struct {
    adapt_param params[PARAMS_MOST];
    void *gradients[PARAMS_MOST], *want[PARAMS_MOST]; /* (steps, count): real, F64 */
    int32_t count;
    kernels *device;
} case_data;

/* Only what has at most two sides here: `flatten` lets a tensor of three go as a matrix, which an elementwise rule allows. */
static void add_param(case_data *d, const safetensors *st, const char *name, int flatten) {
    kernels *const k = d->device;
    char *const start = mem_format("p0.%s", name), *const gradient = mem_format("g.%s", name);
    char *const exact = mem_format("p64.%s", name), *const theirs = mem_format("p.%s", name);
    const tensor_info *const info = safetensors_find(st, start);
    cr_assert(info && d->count < PARAMS_MOST);
    if (info->rank <= 2 || flatten) {
        adapt_param *const p = &d->params[d->count];
        *p = (adapt_param){.name = name, .rank = info->rank >= 2 ? 2 : 1, .count = info->count};
        p->rows = info->shape[0];
        p->cols = info->count / info->shape[0];
        const int64_t bytes = info->count * dtype_bytes(k->real);
        void *const values = values_of(st, start, k->real, NULL);
        p->data = k->alloc(k, bytes);
        p->grad = k->alloc(k, bytes);
        k->upload(k, p->data, values, bytes);
        free(values);
        d->gradients[d->count] = values_of(st, gradient, k->real, NULL);
        d->want[d->count] = values_of(st, safetensors_find(st, exact) ? exact : theirs, F64, NULL);
        d->count++;
    }
    free(start);
    free(gradient);
    free(exact);
    free(theirs);
}

static void free_params(case_data *d) {
    for (int32_t p = 0; p < d->count; p++) {
        d->device->release(d->device, d->params[p].data);
        d->device->release(d->device, d->params[p].grad);
        free(d->gradients[p]);
        free(d->want[p]);
    }
}

static double difference(const case_data *d, int32_t p, int64_t step) {
    const int64_t count = d->params[p].count, bytes = count * dtype_bytes(d->device->real);
    void *const raw = mem_new((size_t)bytes, 1);
    double *const got = mem_new((size_t)count, sizeof *got), worst = 0;
    d->device->download(d->device, raw, d->params[p].data, bytes);
    dtype_convert(got, F64, raw, d->device->real, count);
    for (int64_t i = 0; i < count; i++) {
        const double apart = fabs(got[i] - ((const double *)d->want[p])[step * count + i]);
        if (!(apart <= worst)) worst = apart;
    }
    free(raw);
    free(got);
    return worst;
}

static void run_case(const json_t *golden, const char *plugin, const char *device) {
    const char *const name = json_string_value(json_object_get(golden, "name")), *key;
    const json_t *const lr = json_object_get(golden, "lr"), *const lrs = json_object_get(
                                                                json_object_get(golden, "hyper"), "lrs");
    const double bound = json_number_value(json_object_get(golden, "tolerance"));
    registry *const plugins = registry_create();
    safetensors *const st = open_case(golden);
    case_data d = {0};
    void *config;
    optimizer *o;
    json_t *shape;
    cr_assert_eq(kernels_open(device, NULL, &d.device, &err), GRAFT_OK, "%s", err.text);
    const plugin_component *const c = plugin_of(plugins, plugin, golden, &config);
    json_object_foreach(json_object_get(golden, "params"), key, shape)
        add_param(&d, st, key, strncmp(plugin, "adafactor", 9) != 0);
    cr_assert_eq(optimizer_create(c, config, &(optimizer_settings){0}, d.params, d.count, d.device, &o, &err), GRAFT_OK,
                 "%s: %s", name, err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    const int64_t steps = json_integer_value(json_object_get(golden, "steps"));
    for (int64_t s = 0; s < steps; s++) {
        for (int32_t p = 0; p < d.count; p++) {
            const int64_t bytes = d.params[p].count * dtype_bytes(d.device->real);
            d.device->upload(d.device, d.params[p].grad, (const char *)d.gradients[p] + s * bytes, bytes);
        }
        const json_t *const now = lrs ? json_array_get(lrs, (size_t)s) : lr;
        const double rate = json_is_null(now) ? 1 : json_number_value(now); /* relative_step: a factor */
        cr_assert_eq(optimizer_step(o, d.params, rate, &err), GRAFT_OK, "%s: %s", name, err.text);
        for (int32_t p = 0; p < d.count; p++) {
            const double apart = difference(&d, p, s);
            cr_expect_leq(apart, bound, "%s on %s: %s is off by %g after step %d, allowed %g", name, device,
                          d.params[p].name, apart, (int)s + 1, bound);
        }
    }
    optimizer_free(o);
    free_params(&d);
    free(config);
    safetensors_close(st);
    d.device->close(d.device);
    registry_free(plugins);
}

static void run_index(const char *file, const char *group, const char *const names[][2], size_t count) {
    json_t *const root = open_index(file), *golden;
    size_t i, ran = 0;
    json_array_foreach(json_object_get(root, group), i, golden) for (size_t n = 0; n < count; n++) {
        if (strcmp(json_string_value(json_object_get(golden, "name")), names[n][0]) != 0) continue;
        run_case(golden, names[n][1], "ref64");
        run_case(golden, names[n][1], "ref");
        run_case(golden, names[n][1], "cpu");
        ran++;
    }
    cr_expect_eq(ran, count, "%d of %d cases were found in %s", (int)ran, (int)count, file);
    json_decref(root);
}

Test(optimizers, walk_as_those_of_torch_and_transformers) {
    static const char *const names[][2] = {
        {"adamw",                     "adamw"          },
        {"adamw-no-decay",            "adamw"          },
        {"adamw-lr-schedule",         "adamw"          },
        {"adam-l2",                   "adam"           },
        {"adamw-amsgrad",             "adamw"          },
        {"adafactor-torch",           "adafactor-torch"},
        {"sgd",                       "sgd"            },
        {"sgd-momentum",              "sgd"            },
        {"sgd-momentum-dampening",    "sgd"            },
        {"sgd-nesterov",              "sgd"            },
        {"rmsprop",                   "rmsprop"        },
        {"rmsprop-centered-momentum", "rmsprop"        },
        {"adagrad",                   "adagrad"        },
        {"adafactor-hf-external-lr",  "adafactor"      },
        {"adafactor-hf-relative",     "adafactor"      },
        {"adafactor-hf-beta1",        "adafactor"      },
    };
    run_index("torch.json", "cases", names, sizeof names / sizeof *names);
}

Test(optimizers, walk_as_those_of_bitsandbytes) {
    static const char *const names[][2] = {
        {"bnb-adamw",    "adamw"   },
        {"bnb-adam",     "adamw"   }, /* its decay is decoupled */
        {"bnb-lion",     "lion"    },
        {"bnb-sgd",      "sgd"     },
        {"bnb-rmsprop",  "rmsprop" },
        {"bnb-adagrad",  "adagrad" },
        {"bnb-ademamix", "ademamix"},
    };
    run_index("bnb.json", "bits32", names, sizeof names / sizeof *names);
}

/* p after each update of bitsandbytes' reference in f64: lr 0.1, weight decay 0.1, t_alpha = t_beta3 = 4. */
Test(optimizers, ademamix_brings_its_slow_memory_in_slowly) {
    static const double want[6][3] = {
        {0.394950150610, -0.889950150755, 2.080049846577},
        {0.290726208461, -0.793788149722, 2.159398975436},
        {0.203404388660, -0.740686119782, 2.238079382105},
        {0.172336867341, -0.744806833188, 2.316114414926},
        {0.180101127369, -0.784574982331, 2.393419055833},
        {0.194603951739, -0.842661631960, 2.470000603751}
    };
    double p[3] = {0.5, -1, 2};
    json_t *const hyper = json_pack("{s:f, s:{s:i, s:f}}", "weight_decay", 0.1, "hyper", "warmup", 4, "alpha", 5.0);
    registry *const plugins = registry_create();
    void *config;
    kernels *k;
    optimizer *o;
    cr_assert_eq(kernels_open("ref64", NULL, &k, &err), GRAFT_OK, "%s", err.text);
    const plugin_component *const c = plugin_of(plugins, "ademamix", hyper, &config);
    adapt_param param = {.name = "p", .rank = 1, .rows = 3, .cols = 1, .count = 3};
    param.data = k->alloc(k, sizeof p);
    param.grad = k->alloc(k, sizeof p);
    k->upload(k, param.data, p, sizeof p);
    cr_assert_eq(optimizer_create(c, config, &(optimizer_settings){0}, &param, 1, k, &o, &err), GRAFT_OK, "%s",
                 err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    for (int t = 1; t <= 6; t++) {
        const double g[3] = {sin(t), 0.5 * t - 1.25, -0.25};
        k->upload(k, param.grad, g, sizeof g);
        cr_assert_eq(optimizer_step(o, &param, 0.1, &err), GRAFT_OK, "%s", err.text);
        k->download(k, p, param.data, sizeof p);
        for (int i = 0; i < 3; i++)
            cr_expect_float_eq(p[i], want[t - 1][i], 1e-10, "update %d, element %d: %.12f", t, i, p[i]);
    }
    optimizer_free(o);
    k->release(k, param.data);
    k->release(k, param.grad);
    k->close(k);
    free(config);
    json_decref(hyper);
    registry_free(plugins);
}

/* ---- 8-bit states ---- */

/* The cases have 600 elements, states of 8 bits begin at 4096: zeros behind them change neither codes nor scales. */
enum { ELEMENTS = 4096, USED = 600, USED_BLOCKS = 3, BLOCKS = 16 };

static void upload_padded(kernels *k, void *dev, const safetensors *st, const char *name, dtype type, int zero) {
    int64_t count;
    char *const whole = mem_new(ELEMENTS, (size_t)dtype_bytes(type)), *const values = values_of(st, name, type, &count);
    memset(whole, zero, (size_t)(ELEMENTS * dtype_bytes(type)));
    memcpy(whole, values, (size_t)(count * dtype_bytes(type)));
    k->upload(k, dev, whole, (count == USED ? ELEMENTS : BLOCKS) * dtype_bytes(type));
    free(whole);
    free(values);
}

static void *state_of(const optimizer *o, const char *slot) {
    int64_t count;
    const optimizer_state *const states = optimizer_states(o, &count);
    for (int64_t i = 0; i < count; i++)
        if (strcmp(states[i].slot, slot) == 0) return states[i].data;
    cr_assert_fail("there is no state %s", slot);
    return NULL;
}

static void expect_near(kernels *k, const void *dev, const safetensors *st, const char *name, double absolute,
                        double relative) {
    int64_t count;
    float got[USED], *const want = values_of(st, name, F32, &count);
    k->download(k, got, dev, count * 4);
    for (int64_t i = 0; i < count; i++) {
        const double bound = absolute + relative * fabs((double)want[i]);
        cr_expect_leq(fabs((double)got[i] - (double)want[i]), bound, "%s: %s[%d] is %.9g, should be %.9g",
                      safetensors_name(st), name, (int)i, (double)got[i], (double)want[i]);
    }
    free(want);
}

static void expect_codes(kernels *k, const void *dev, const safetensors *st, const char *name) {
    uint8_t got[USED], *const want = values_of(st, name, U8, NULL);
    int others = 0;
    k->download(k, got, dev, USED);
    for (int i = 0; i < USED; i++) {
        const int apart = abs(got[i] - want[i]);
        others += apart > 0;
        cr_expect_leq(apart, 1, "%s: %s[%d] is %d, should be %d", safetensors_name(st), name, i, got[i], want[i]);
    }
    cr_expect_leq(others, USED / 200, "%s: %d codes of %s differ", safetensors_name(st), others, name);
    free(want);
}

static char *place(const char *side, int64_t step, const char *what, char text[32]) {
    snprintf(text, 32, "%s.%lld.%s", side, (long long)step, what);
    return text;
}

static void single_step(kernels *k, optimizer *o, adapt_param *p, const safetensors *st, double lr, int64_t step,
                        const char *const slots[2], int wide) {
    static const char *const codes[] = {"s1", "s2"}, *const scales[] = {"a1", "a2"};
    static const int zeros[] = {127, 0}; /* codes of 0, signed and unsigned */
    float gradient[ELEMENTS] = {0}, *const all = values_of(st, "g", F32, NULL);
    char text[32], scale[64];
    memcpy(gradient, all + (step - 1) * USED, USED * sizeof *all);
    free(all);
    k->upload(k, p->grad, gradient, sizeof gradient);
    upload_padded(k, p->data, st, place("in", step, "p", text), F32, 0);
    optimizer_set_updates(o, step - 1);
    for (int s = 0; s < 2 && slots[s]; s++) {
        snprintf(scale, sizeof scale, "%s.absmax", slots[s]);
        upload_padded(k, state_of(o, slots[s]), st, place("in", step, codes[s], text), U8, zeros[s]);
        upload_padded(k, state_of(o, scale), st, place("in", step, scales[s], text), F32, 0);
    }
    cr_assert_eq(optimizer_step(o, p, lr, &err), GRAFT_OK, "%s", err.text);
    expect_near(k, p->data, st, place("out", step, "p", text), 1e-6, wide ? 0.01 : 2e-6);
    for (int s = 0; s < 2 && slots[s]; s++) {
        snprintf(scale, sizeof scale, "%s.absmax", slots[s]);
        expect_codes(k, state_of(o, slots[s]), st, place("out", step, codes[s], text));
        expect_near(k, state_of(o, scale), st, place("out", step, scales[s], text), 0, 1e-6);
    }
}

static void run_bits8(const json_t *golden, const char *plugin, const char *const slots[2], const char *device) {
    registry *const plugins = registry_create();
    safetensors *const st = open_case(golden);
    kernels *k;
    void *config;
    optimizer *o;
    json_t *step;
    size_t i;
    cr_assert_eq(kernels_open(device, NULL, &k, &err), GRAFT_OK, "%s", err.text);
    const plugin_component *const c = plugin_of(plugins, plugin, golden, &config);
    adapt_param p = {.name = "p", .rank = 1, .rows = ELEMENTS, .cols = 1, .count = ELEMENTS};
    p.data = k->alloc(k, ELEMENTS * 4);
    p.grad = k->alloc(k, ELEMENTS * 4);
    cr_assert_eq(optimizer_create(c, config, &(optimizer_settings){.state_bits = 8}, &p, 1, k, &o, &err), GRAFT_OK,
                 "%s", err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    json_array_foreach(json_object_get(golden, "single_steps"), i, step)
        single_step(k, o, &p, st, json_number_value(json_object_get(golden, "lr")), json_integer_value(step), slots,
                    strstr(json_string_value(json_object_get(golden, "name")), "wide") != NULL);
    optimizer_free(o);
    k->release(k, p.data);
    k->release(k, p.grad);
    free(config);
    safetensors_close(st);
    k->close(k);
    registry_free(plugins);
}

Test(optimizers, update_8_bit_states_by_bitsandbytes_rule) {
    static const struct {
        const char *name, *plugin, *slots[2];
    } cases[] = {
        {"adamw8bit",      "adamw", {"exp_avg", "exp_avg_sq"}},
        {"adamw8bit-wide", "adamw", {"exp_avg", "exp_avg_sq"}},
        {"adam8bit",       "adamw", {"exp_avg", "exp_avg_sq"}},
        {"lion8bit",       "lion",  {"exp_avg"}              },
        {"sgd8bit",        "sgd",   {"momentum_buffer"}      },
    };
    json_t *const root = open_index("bnb.json"), *golden;
    size_t i, ran = 0;
    json_array_foreach(json_object_get(root, "bits8"), i, golden) for (size_t n = 0; n < 5; n++) {
        if (strcmp(json_string_value(json_object_get(golden, "name")), cases[n].name) != 0) continue;
        run_bits8(golden, cases[n].plugin, cases[n].slots, "ref");
        run_bits8(golden, cases[n].plugin, cases[n].slots, "cpu");
        ran++;
    }
    cr_expect_eq(ran, 5);
    json_decref(root);
}
