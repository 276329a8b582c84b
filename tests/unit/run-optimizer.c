/* What an optimizer component may rely on: names, shapes of its slots, numbers, storage, and errors before anything runs. */
#include "base/memory.h"
#include "run/optimizer.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static graft_error err;
static kernels *device;

static void begin(void) {
    cr_assert_eq(kernels_open("fake", NULL, &device, &err), GRAFT_OK, "%s", err.text);
}
static void end(void) {
    device->close(device);
}
TestSuite(optimizer, .init = begin, .fini = end);

typedef struct {
    double decay;
} config;
static const graft_option options[] = {GRAFT_OPTION_REAL(config, decay, 0.5, 0, 1, "of the sums", NULL)};
static const config settings = {0.5};
static const optimizer_settings plain = {.seed = 1};

static void *dev(const float *values, int64_t count) {
    void *const at = device->alloc(device, count * 4);
    device->upload(device, at, values, count * 4);
    return at;
}

static void read(const void *at, float *to, int64_t count) {
    device->download(device, to, at, count * 4);
}

static adapt_param param(const char *name, int64_t rows, int64_t cols, float value, float gradient) {
    const int64_t count = rows * (cols ? cols : 1);
    float *const values = mem_new((size_t)count, sizeof *values);
    adapt_param p = {.name = name, .rank = cols ? 2 : 1, .rows = rows, .cols = cols ? cols : 1, .count = count};
    for (int64_t i = 0; i < count; i++)
        values[i] = value;
    p.data = dev(values, count);
    for (int64_t i = 0; i < count; i++)
        values[i] = gradient * (float)(i + 1);
    p.grad = dev(values, count);
    free(values);
    return p;
}

static void release(adapt_param *p) {
    device->release(device, p->data);
    device->release(device, p->grad);
}

static plugin_component component(const graft_slot *slots, int32_t count, void (*update)(graft_call *c)) {
    return (plugin_component){
        .kind = PLUGIN_OPTIMIZER,
        .name = "test",
        .doc = "",
        .paper = "",
        .config_size = sizeof(config),
        .options = options,
        .option_count = 1,
        .slots = slots,
        .slot_count = count,
        .optimizer = {.size = sizeof(graft_optimizer), .update = update}
    };
}

static const graft_slot sums[] = {
    GRAFT_SLOT_BUFFER("rows_sum", "out", "rows_sum = 0", NULL),
    GRAFT_SLOT_BUFFER("all", "size * (1 - matrix)", "all = 0", "whole"),
    GRAFT_SLOT_NUMBER("weight", "decay * 2"),
    GRAFT_SLOT_TEMP("squares", "size"),
};

static void sums_update(graft_call *c) {
    graft_run(c, "squares = g * g");
    if (c->site->in > 0)
        graft_run(c, "rows_sum[o] += weight * squares[o,i]; p[o,i] -= lr * rows_sum[o]");
    else
        graft_run(c, "all += squares; p -= lr * all * t");
}

Test(optimizer, slots_have_the_shape_of_the_parameter_or_of_its_sides) {
    const plugin_component c = component(sums, 4, sums_update);
    adapt_param params[] = {param("m", 2, 3, 1, 1), param("v", 3, 0, 1, 1)};
    optimizer *o;
    int64_t count;
    cr_assert_eq(optimizer_create(&c, &settings, &plain, params, 2, device, &o, &err), GRAFT_OK, "%s", err.text);
    cr_expect_geq(optimizer_bytes(o), (2 + 3 + 6) * 4);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    const optimizer_state *const states = optimizer_states(o, &count);
    cr_assert_eq(count, 2, "absent slots, scratch and numbers are no state");
    cr_expect(strcmp(states[0].slot, "rows_sum") == 0 && states[0].param == 0 && states[0].count == 2);
    cr_expect(strcmp(states[1].slot, "whole") == 0 && states[1].param == 1 && states[1].count == 3);
    for (int step = 0; step < 2; step++)
        cr_assert_eq(optimizer_step(o, params, 0.01, &err), GRAFT_OK, "%s", err.text);
    cr_expect_eq(optimizer_updates(o), 2);
    float m[6], v[3];
    read(params[0].data, m, 6);
    read(params[1].data, v, 3);
    /* rows: 1 + 4 + 9 = 14 and 16 + 25 + 36 = 77, once and twice; the vector: g², then 2·g² at t = 2 */
    cr_expect_float_eq(m[0], 1 - 0.01 * (14 + 28), 1e-6);
    cr_expect_float_eq(m[5], 1 - 0.01 * (77 + 154), 1e-5);
    cr_expect_float_eq(v[2], 1 - 0.01 * (9 + 2 * 18), 1e-6);
    optimizer_free(o);
    release(&params[0]);
    release(&params[1]);
}

static const graft_slot packed[] = {
    {"m", "size", GRAFT_BUFFER, 0,              "m = 0", NULL, NULL, "blocks8", NULL},
    {"v", "size", GRAFT_BUFFER, GRAFT_UNSIGNED, "v = 0", NULL, NULL, "blocks8", NULL},
};
static void packed_update(graft_call *c) {
    graft_run(c, "m = decay * m + (1 - decay) * g");
    graft_run(c, "v = decay * v + (1 - decay) * g * g");
    graft_run(c, "p -= lr * m / (sqrt(v) + 1)");
}

Test(optimizer, states_in_blocks_of_8_bits_begin_at_4096_elements) {
    const plugin_component c = component(packed, 2, packed_update);
    adapt_param params[] = {param("small", 4095, 0, 0, 1e-3f), param("large", 64, 64, 0, 1e-3f)};
    optimizer *o;
    int64_t count;
    cr_assert_eq(optimizer_create(&c, &settings, &plain, params, 2, device, &o, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    const optimizer_state *const states = optimizer_states(o, &count);
    cr_assert_eq(count, 6);
    cr_expect(states[0].type == F32 && states[0].count == 4095);
    cr_expect(states[2].type == U8 && states[2].count == 4096);
    cr_expect(strcmp(states[3].slot, "m.absmax") == 0 && states[3].type == F32 && states[3].count == 16);
    for (int step = 0; step < 3; step++)
        cr_assert_eq(optimizer_step(o, params, 0.1, &err), GRAFT_OK);
    float small[4095], large[4096];
    read(params[0].data, small, 4095);
    read(params[1].data, large, 4096);
    for (int i = 2048; i < 4095; i++) /* the gradients are those of the small one; 8 bits lose about 1 % here */
        cr_assert_float_eq(large[i], small[i], 0.02 * fabs((double)small[i]), "%d: %g, exactly %g", i, (double)large[i],
                           (double)small[i]);
    optimizer_free(o);
    release(&params[0]);
    release(&params[1]);
}

/* The same rule in brackets: it cannot go in tiles. */
static void bracketed_update(graft_call *c) {
    graft_run(c, "m[i] = decay * m[i] + (1 - decay) * g[i]");
    graft_run(c, "v[i] = decay * v[i] + (1 - decay) * g[i] * g[i]");
    graft_run(c, "p[i] -= lr * m[i] / (sqrt(v[i]) + 1)");
}

static float *walk(const plugin_component *c, int state_bits, int64_t count, int64_t *bytes) {
    const optimizer_settings s = {.state_bits = state_bits};
    adapt_param p = param("large", count, 0, 0, 1e-6f);
    float *const values = mem_new((size_t)count, sizeof *values);
    optimizer *o;
    cr_assert_eq(optimizer_create(c, &settings, &s, &p, 1, device, &o, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    for (int step = 0; step < 2; step++)
        cr_assert_eq(optimizer_step(o, &p, 0.1, &err), GRAFT_OK, "%s", err.text);
    read(p.data, values, count);
    *bytes = optimizer_bytes(o);
    optimizer_free(o);
    release(&p);
    return values;
}

static const graft_slot plain_slots[] = {
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", NULL),
    GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", NULL),
};

Test(optimizer, states_of_8_bits_are_a_setting_for_any_component_and_go_in_tiles_where_they_can) {
    enum { COUNT = (1 << 18) * 2 + 1000 };
    const plugin_component tiled = component(plain_slots, 2, packed_update);
    const plugin_component whole = component(plain_slots, 2, bracketed_update);
    const plugin_component asked = component(packed, 2, packed_update);
    int64_t bytes[4];
    float *const exact = walk(&tiled, 32, COUNT, &bytes[0]), *const a = walk(&tiled, 8, COUNT, &bytes[1]);
    float *const b = walk(&whole, 8, COUNT, &bytes[2]), *const d = walk(&asked, 32, COUNT, &bytes[3]);
    cr_expect(memcmp(a, b, COUNT * sizeof *a) == 0, "tiles change no number");
    cr_expect(memcmp(a, d, COUNT * sizeof *a) == 0, "a slot may ask for it by itself");
    cr_expect(memcmp(a, exact, COUNT * sizeof *a) != 0);
    for (int i = COUNT / 2; i < COUNT; i++)
        cr_assert_float_eq(a[i], exact[i], 0.02 * fabs((double)exact[i]), "%d", i);
    const int64_t codes = 2 * (COUNT + (COUNT + 255) / 256 * 4), tile = 1 << 18;
    cr_expect_eq(bytes[1] - codes, bytes[0] - 2 * COUNT * 4 + 2 * tile * 4, "codes, and one tile of each state");
    cr_expect_eq(bytes[2] - bytes[1], 2 * (COUNT - tile) * 4, "codes, and all of each state");
    cr_expect_eq(bytes[3], bytes[1]);
    free(exact);
    free(a);
    free(b);
    free(d);
}

/* ---- groups ---- */

typedef struct {
    double weight_decay;
} decay_config;
static const graft_option decay_options[] = {GRAFT_OPTION_REAL(decay_config, weight_decay, 0.5, 0, 1, "", NULL)};

static void decay_update(graft_call *c) {
    const decay_config *const o = c->self;
    if (o->weight_decay > 0) graft_run(c, "p -= lr * weight_decay * p");
    graft_run(c, "p -= lr * g");
}

static plugin_component decaying(void) {
    plugin_component c = component(NULL, 0, decay_update);
    c.config_size = sizeof(decay_config);
    c.options = decay_options;
    return c;
}

Test(optimizer, groups_have_rates_and_decay_of_their_own) {
    static const char *const free_of_decay[] = {"bias", "*.norm.*"}, *const scaled[] = {"*lora_B.weight", "b.*"};
    static const double scales[] = {16, 0};
    const optimizer_settings s = {
        .no_decay = free_of_decay, .no_decay_count = 2, .scaled = scaled, .scales = scales, .scaled_count = 2};
    const struct {
        const char *name;
        double value; /* from 1, by decay, then by a gradient of 1 */
    } cases[] = {
        {"a.lora_A.weight",  1 - 0.01 * 0.5 - 0.01},
        {"a.lora_B.weight",  1 - 0.16 * 0.5 - 0.16},
        {"b.lora_B.weight",  1 - 0.16 * 0.5 - 0.16}, /* the first pattern that fits */
        {"b.lora_A.weight",  1                    },
        {"a.bias",           1 - 0.01             },
        {"a.norm.weight",    1 - 0.01             },
        {"a.unbiased.other", 1 - 0.01 * 0.5 - 0.01},
    };
    enum { COUNT = sizeof cases / sizeof *cases };
    const plugin_component c = decaying();
    const decay_config half = {0.5};
    adapt_param params[COUNT];
    optimizer *o;
    for (int i = 0; i < COUNT; i++)
        params[i] = param(cases[i].name, 1, 0, 1, 1);
    cr_assert_eq(optimizer_create(&c, &half, &s, params, COUNT, device, &o, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK);
    cr_assert_eq(optimizer_step(o, params, 0.01, &err), GRAFT_OK);
    for (int i = 0; i < COUNT; i++) {
        float value;
        read(params[i].data, &value, 1);
        cr_expect_float_eq(value, cases[i].value, 1e-6, "%s: %g, should be %g", cases[i].name, (double)value,
                           cases[i].value);
        release(&params[i]);
    }
    optimizer_free(o);
}

static void expect_pattern_refused(const plugin_component *c, const optimizer_settings *s, const char *words) {
    adapt_param p = param("a.lora_A.weight", 2, 2, 1, 1);
    optimizer *o;
    err = (graft_error){0};
    cr_expect_eq(optimizer_create(c, &settings, s, &p, 1, device, &o, &err), GRAFT_USAGE);
    cr_expect(strstr(err.text, words), "\"%s\" is not in: %s", words, err.text);
    optimizer_free(o);
    release(&p);
}

Test(optimizer, patterns_that_fit_nothing_are_refused) {
    static const char *const nothing[] = {"lora_C.weight"}, *const all[] = {"*"};
    static const double one[] = {1};
    const plugin_component with = decaying(), without = component(packed, 2, packed_update);
    expect_pattern_refused(&with, &(optimizer_settings){.no_decay = nothing, .no_decay_count = 1},
                           "no_decay: nothing that is trained fits 'lora_C.weight'");
    expect_pattern_refused(&with, &(optimizer_settings){.scaled = nothing, .scales = one, .scaled_count = 1},
                           "lr_scale: nothing that is trained fits 'lora_C.weight'");
    expect_pattern_refused(&without, &(optimizer_settings){.no_decay = all, .no_decay_count = 1},
                           "has no weight_decay");
}

/* ---- errors before a step ---- */

static void expect_refused(const graft_slot *slots, int32_t count, void (*update)(graft_call *c), const char *words) {
    const plugin_component c = component(slots, count, update);
    adapt_param p = param("m", 2, 3, 1, 1);
    optimizer *o;
    err = (graft_error){0};
    cr_expect_eq(optimizer_create(&c, &settings, &plain, &p, 1, device, &o, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, words), "\"%s\" is not in: %s", words, err.text);
    optimizer_free(o);
    release(&p);
}

static void unknown(graft_call *c) {
    graft_run(c, "p -= rate * g");
}
static void writes_gradient(graft_call *c) {
    graft_run(c, "g = 0");
}
static void calls_svd(graft_call *c) {
    c->services->svd(c, "p", "u", "s", "v");
}
static void fails(graft_call *c) {
    c->services->fail(c, "not today");
}
static void nothing(graft_call *c) {
    (void)c;
}

Test(optimizer, mistakes_of_a_component_are_found_before_a_step) {
    static const graft_slot trained[] = {GRAFT_SLOT_PARAM("w", "size", "w = 0", NULL, NULL)};
    static const graft_slot nibbles[] = {
        {"m", "size", GRAFT_BUFFER, 0, NULL, NULL, NULL, "u4", NULL}
    };
    static const graft_slot broken[] = {GRAFT_SLOT_BUFFER("m", "size / 4", NULL, NULL)};
    expect_refused(NULL, 0, unknown, "rate");
    expect_refused(NULL, 0, writes_gradient, "g");
    expect_refused(NULL, 0, calls_svd, "it called svd()");
    expect_refused(NULL, 0, fails, "not today");
    expect_refused(trained, 1, nothing, "BUFFER, TEMP and NUMBER");
    expect_refused(nibbles, 1, nothing, "plain or blocks8");
    expect_refused(broken, 1, nothing, "slot m");
}
