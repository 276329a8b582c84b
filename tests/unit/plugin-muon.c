/* muon: what orthogonalizing does to known singular values, whichever side is longer, and what is not a matrix of a layer. */
#include "base/memory.h"
#include "config/option.h"
#include "plugin/registry.h"
#include "run/optimizer.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 3, LARGE = 5, SIZE = SMALL * LARGE };

static graft_error err;
static kernels *device;
static registry *plugins;
static const plugin_component *muon;
static char config[256];

static void begin(void) {
    option_origin origins[16];
    plugins = registry_create();
    cr_assert_eq(kernels_open("fake", NULL, &device, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(registry_find(plugins, PLUGIN_OPTIMIZER, "muon", NULL, &muon, &err), GRAFT_OK, "%s", err.text);
    cr_assert(muon->config_size <= (int64_t)sizeof config && muon->option_count <= 16);
    option_defaults(&(option_set){muon->options, muon->option_count, config, origins});
}
static void end(void) {
    device->close(device);
    registry_free(plugins);
}
TestSuite(muon, .init = begin, .fini = end);

static void set(const char *key, const char *text) {
    arena memory = {0};
    const int row = option_find(muon->options, muon->option_count, key);
    cr_assert_eq(option_parse(&muon->options[row], text, config, &memory, &err), GRAFT_OK, "%s", err.text);
    arena_free(&memory);
}

/* One update of zeros with rate 1. */
static void update(int64_t rows, int64_t cols, const float *gradient, float *out) {
    adapt_param p = {.name = "w", .rank = cols ? 2 : 1, .rows = rows, .cols = cols ? cols : 1};
    optimizer *o;
    p.count = p.rows * p.cols;
    p.data = device->alloc(device, p.count * 4);
    p.grad = device->alloc(device, p.count * 4);
    device->upload(device, p.grad, gradient, p.count * 4);
    cr_assert_eq(optimizer_create(muon, config, &(optimizer_settings){0}, &p, 1, device, &o, &err), GRAFT_OK, "%s",
                 err.text);
    cr_assert_eq(optimizer_allocate(o, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(optimizer_step(o, &p, 1, &err), GRAFT_OK, "%s", err.text);
    device->download(device, out, p.data, p.count * 4);
    optimizer_free(o);
    device->release(device, p.data);
    device->release(device, p.grad);
}

Test(muon, singular_values_go_to_about_one_by_the_polynomial) {
    static const double values[SMALL] = {3, -1, 0.5}; /* on the diagonal: each goes alone */
    float gradient[SIZE] = {0}, got[SIZE];
    const double norm = sqrt(9 + 1 + 0.25);
    for (int i = 0; i < SMALL; i++)
        gradient[i * LARGE + i] = (float)values[i];
    update(SMALL, LARGE, gradient, got);
    for (int i = 0; i < SMALL; i++) {
        double s = values[i] / norm;
        for (int k = 0; k < 5; k++)
            s = 3.4445 * s - 4.775 * pow(s, 3) + 2.0315 * pow(s, 5);
        cr_expect(fabs(s) > 0.6 && fabs(s) < 1.3, "%g", s);
        for (int j = 0; j < LARGE; j++) {
            const double want = i == j ? -0.2 * sqrt(LARGE) * s : 0;
            cr_expect_float_eq(got[i * LARGE + j], want, 1e-5, "[%d,%d] is %g, should be %g", i, j,
                               (double)got[i * LARGE + j], want);
        }
    }
}

Test(muon, a_matrix_and_its_transpose_take_the_same_step) {
    float gradient[SIZE], turned[SIZE], got[SIZE], other[SIZE];
    for (int i = 0; i < SIZE; i++)
        gradient[i] = (float)sin(1.7 * i + 0.3);
    for (int i = 0; i < SMALL; i++)
        for (int j = 0; j < LARGE; j++)
            turned[j * SMALL + i] = gradient[i * LARGE + j];
    update(SMALL, LARGE, gradient, got);
    update(LARGE, SMALL, turned, other);
    for (int i = 0; i < SMALL; i++)
        for (int j = 0; j < LARGE; j++)
            cr_expect_float_eq(got[i * LARGE + j], other[j * SMALL + i], 1e-5);
    set("adjust", "original"); /* √(5/3) for the tall one, 1 for the wide one */
    update(SMALL, LARGE, gradient, got);
    update(LARGE, SMALL, turned, other);
    cr_expect_float_eq(other[0], got[0] * sqrt(5. / 3), 1e-5);
}

Test(muon, vectors_and_vocabularies_take_the_rule_of_adamw) {
    float gradient[SIZE], got[SIZE];
    for (int i = 0; i < SIZE; i++)
        gradient[i] = (float)cos(2.1 * i);
    update(SIZE, 0, gradient, got);
    for (int i = 0; i < SIZE; i++) /* the first step is the sign of the gradient */
        cr_expect_float_eq(got[i], gradient[i] > 0 ? -1 : 1, 1e-4);
    set("vocabulary", "5");
    update(LARGE, SMALL, gradient, got);
    for (int i = 0; i < SIZE; i++)
        cr_expect_float_eq(got[i], gradient[i] > 0 ? -1 : 1, 1e-4);
}

Test(muon, a_zero_gradient_changes_nothing) {
    const float zero[SIZE] = {0};
    float got[SIZE];
    update(SMALL, LARGE, zero, got);
    for (int i = 0; i < SIZE; i++)
        cr_expect_eq(got[i], 0);
}
