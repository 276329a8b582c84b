/* prune — the plugin's masks of the goldens' matrices, every entry: its init runs on services that this file is. */
#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/adapt-private.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SHARED_DIR "/golden/pruning"

static graft_error err;

/* A call at one site: W as the golden has it, and the mask that init writes. */
typedef struct {
    graft_call public;
    const float *w;
    double *mask;
    int64_t count;
} calling;

static void read_slot(graft_call *c, const char *slot, double *values) {
    const calling *own = (const calling *)c;
    cr_assert_str_eq(slot, "W");
    for (int64_t i = 0; i < own->count; i++)
        values[i] = (double)own->w[i];
}

static void write_slot(graft_call *c, const char *slot, const double *values) {
    const calling *own = (const calling *)c;
    cr_assert_str_eq(slot, "M");
    memcpy(own->mask, values, (size_t)own->count * sizeof *values);
}

static void run(graft_call *c, const char *formulas) {
    (void)c;
    cr_assert_str_eq(formulas, "W *= M");
}

static void stop(graft_call *c, const char *why) {
    (void)c;
    cr_assert_fail("%s", why);
}

static float *values_of(const safetensors *st, const char *name, const tensor_info **info) {
    cr_assert_eq(safetensors_need(st, name, info, &err), GRAFT_OK, "%s", err.text);
    float *const values = mem_new((size_t)(*info)->count + 1, sizeof *values);
    cr_assert_eq(safetensors_read_as(st, *info, values, F32, &err), GRAFT_OK, "%s", err.text);
    return values;
}

static void set_option(const plugin_component *c, void *config, const char *key, double value, int type) {
    for (int32_t i = 0; i < c->option_count; i++) {
        char *const field = (char *)config + c->options[i].offset;
        if (strcmp(c->options[i].key, key) != 0) continue;
        if (type == GRAFT_INT) *(int64_t *)(void *)field = (int64_t)value;
        if (type == GRAFT_REAL) *(double *)(void *)field = value;
        if (type == GRAFT_CHOICE) *(int32_t *)(void *)field = (int32_t)value;
        return;
    }
    cr_assert_fail("prune has no option %s", key);
}

static void check_case(const plugin_component *c, const safetensors *st, const json_t *one, int by_neighbours) {
    static const graft_services services = {
        .size = sizeof services, .run = run, .fail = stop, .read = read_slot, .write = write_slot, .rank = adapt_rank};
    const char *const name = json_string_value(json_object_get(one, "name"));
    char *const expected = mem_format("zero.%s", name);
    const tensor_info *shape, *same;
    float *const w = values_of(st, "w", &shape), *const zero = values_of(st, expected, &same);
    void *const config = mem_new(1, (size_t)c->config_size);
    set_option(c, config, "method", by_neighbours, GRAFT_CHOICE);
    set_option(c, config, "ratio", json_number_value(json_object_get(one, "ratio")), GRAFT_REAL);
    set_option(c, config, "n", json_number_value(json_object_get(one, "n")), GRAFT_INT);
    set_option(c, config, "m", json_number_value(json_object_get(one, "m")), GRAFT_INT);
    const graft_site site = {
        .size = sizeof site, .name = "w", .kind = GRAFT_LINEAR, .out = shape->shape[0], .in = shape->shape[1]};
    calling call = {
        .public = {.size = sizeof(graft_call), .services = &services, .self = config, .site = &site},
        .w = w,
        .count = shape->count
    };
    call.mask = mem_new((size_t)call.count, sizeof *call.mask);
    c->adapter.init(&call.public);
    for (int64_t i = 0; i < call.count; i++)
        cr_expect_eq(call.mask[i] == 0, zero[i] != 0, "%s: entry %lld (|w| = %.9g)", name, (long long)i,
                     (double)w[i] < 0 ? -(double)w[i] : (double)w[i]);
    free(call.mask);
    free(config);
    free(w);
    free(zero);
    free(expected);
}

Test(prune, masks_are_those_of_the_goldens) {
    json_t *meta = NULL;
    safetensors *st = NULL;
    const plugin_component *c = NULL;
    int checked = 0;
    size_t at;
    const json_t *one;
    if (!file_exists(GOLDEN "/pruning.json")) {
        fprintf(stderr, "skipped: " GOLDEN " is not there\n");
        cr_skip_test();
    }
    setenv("GRAFT_PLUGIN_PATH", BINARY_DIR "/lib/graft", 1);
    registry *const plugins = registry_create();
    cr_assert(!json_read_file(GOLDEN "/pruning.json", 0, &meta, &err) &&
                  !safetensors_open(GOLDEN "/pruning.safetensors", &st, &err) &&
                  !registry_find(plugins, PLUGIN_ADAPTER, "prune", NULL, &c, &err),
              "%s", err.text);
    json_array_foreach(json_object_get(meta, "cases"), at, one) {
        const char *const kind = json_string_value(json_object_get(one, "kind"));
        const int by_neighbours = strcmp(kind, "magnitude-n:m") == 0;
        if (!by_neighbours && strcmp(kind, "magnitude") != 0) continue;
        check_case(c, st, one, by_neighbours);
        checked++;
    }
    cr_expect_eq(checked, 7, "%d cases of magnitude and n of m", checked);
    safetensors_close(st);
    json_decref(meta);
    registry_free(plugins);
}
