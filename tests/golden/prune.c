/* prune — the plugin's masks of the goldens' matrices, every entry: its init runs on services that this file is. */
#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "formats/safetensors.h"
#include "model/adapt-private.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN SHARED_DIR "/golden/pruning"
enum { METHOD_MAGNITUDE, METHOD_GLOBAL, METHOD_WANDA, METHOD_NM, METHOD_WANDA_NM }; /* places of the words */

static graft_error err;

/* A call at one site: W and what its inputs summed up to, as the golden has them, and the mask that init writes. */
typedef struct {
    graft_call public;
    const float *w, *a;
    double *mask, *counts;
    int64_t size[2], count; /* of W */
} calling;

static int64_t slot_size(graft_call *c, const char *slot) {
    const calling *own = (const calling *)c;
    return strcmp(slot, "a") == 0 ? own->size[1] : strcmp(slot, "counts") == 0 ? 2 << 16 : own->count;
}

static void read_slot(graft_call *c, const char *slot, double *values) {
    const calling *own = (const calling *)c;
    const float *from = strcmp(slot, "a") == 0 ? own->a : own->w;
    for (int64_t i = 0; i < slot_size(c, slot); i++)
        values[i] = strcmp(slot, "counts") == 0 ? own->counts[i] : (double)from[i];
}

static void write_slot(graft_call *c, const char *slot, const double *values) {
    const calling *own = (const calling *)c;
    cr_assert(strcmp(slot, "M") == 0 || strcmp(slot, "counts") == 0, "%s", slot);
    memcpy(*slot == 'M' ? own->mask : own->counts, values, (size_t)slot_size(c, slot) * sizeof *values);
}

static void stop(graft_call *c, const char *why) {
    (void)c;
    cr_assert_fail("%s", why);
}

static const graft_services services = {.size = sizeof services,
                                        .fail = stop,
                                        .read = read_slot,
                                        .write = write_slot,
                                        .slot_size = slot_size,
                                        .rank = adapt_rank};

static float *values_of(const safetensors *st, const char *name, const tensor_info **info) {
    cr_assert_eq(safetensors_need(st, name, info, &err), GRAFT_OK, "%s", err.text);
    float *const values = mem_new((size_t)(*info)->count + 1, sizeof *values);
    cr_assert_eq(safetensors_read_as(st, *info, values, F32, &err), GRAFT_OK, "%s", err.text);
    return values;
}

static void set_option(const plugin_component *c, void *config, const char *key, double value) {
    for (int32_t i = 0; i < c->option_count; i++) {
        char *const field = (char *)config + c->options[i].offset;
        const int32_t type = c->options[i].type;
        if (strcmp(c->options[i].key, key) != 0) continue;
        if (type == GRAFT_INT) *(int64_t *)(void *)field = (int64_t)value;
        if (type == GRAFT_REAL) *(double *)(void *)field = value;
        if (type == GRAFT_CHOICE || type == GRAFT_BOOL) *(int32_t *)(void *)field = (int32_t)value;
        return;
    }
    cr_assert_fail("prune has no option %s", key);
}

static void compare(const calling *call, const safetensors *st, const char *name) {
    char *const expected = mem_format("zero.%s", name);
    const tensor_info *shape;
    float *const zero = values_of(st, expected, &shape);
    cr_assert_eq(shape->count, call->count);
    for (int64_t i = 0; i < call->count; i++)
        cr_expect_eq(call->mask[i] == 0, zero[i] != 0, "%s: entry %lld (w = %.9g)", name, (long long)i,
                     (double)call->w[i]);
    free(zero);
    free(expected);
}

static int method_of(const char *kind) {
    static const char *const kinds[] = {[METHOD_MAGNITUDE] = "magnitude",
                                        [METHOD_GLOBAL] = "magnitude-global",
                                        [METHOD_WANDA] = "wanda",
                                        [METHOD_NM] = "magnitude-n:m",
                                        [METHOD_WANDA_NM] = "wanda-n:m"};
    for (int m = 0; m <= METHOD_WANDA_NM; m++)
        if (strcmp(kind, kinds[m]) == 0) return m;
    return strcmp(kind, "magnitude-exact") == 0 ? METHOD_MAGNITUDE : -1;
}

/* The rounds of init over all sites of a case: one matrix, or w and w2 under one threshold. */
static void check_case(const plugin_component *c, const safetensors *st, const json_t *one) {
    const char *const name = json_string_value(json_object_get(one, "name"));
    const char *const kind = json_string_value(json_object_get(one, "kind"));
    const int method = method_of(kind), sites = method == METHOD_GLOBAL ? 2 : 1;
    static const char *const names[] = {"w", "w2"};
    const tensor_info *shape, *inputs;
    void *const config = mem_new(1, (size_t)c->config_size);
    double *const counts = mem_new(2 << 16, sizeof *counts);
    float *const a = values_of(st, "wanda.scaler_row", &inputs);
    graft_site site[2];
    calling call[2];
    cr_assert_geq(method, 0, "%s: a kind that is not known", kind);
    set_option(c, config, "method", method);
    set_option(c, config, "exact", strcmp(kind, "magnitude-exact") == 0);
    set_option(c, config, "ratio", json_number_value(json_object_get(one, "ratio")));
    set_option(c, config, "n", json_number_value(json_object_get(one, "n")));
    set_option(c, config, "m", json_number_value(json_object_get(one, "m")));
    for (int s = 0; s < sites; s++) {
        call[s] = (calling){
            .public = {.size = sizeof(graft_call), .services = &services, .self = config, .site = &site[s]},
            .w = values_of(st, names[s], &shape),
            .a = a,
            .counts = counts
        };
        memcpy(call[s].size, shape->shape, sizeof call[s].size);
        call[s].count = shape->count;
        call[s].mask = mem_new((size_t)shape->count, sizeof *call[s].mask);
        site[s] = (graft_site){.size = sizeof site[s], .name = names[s], .kind = GRAFT_LINEAR, .sites = sites};
        site[s].out = shape->shape[0], site[s].in = shape->shape[1], site[s].site = s;
    }
    for (int64_t round = 0; round < c->adapter.rounds; round++)
        for (int s = 0; s < sites; s++) {
            call[s].public.round = round;
            c->adapter.init(&call[s].public);
        }
    const char *const tensor = json_string_value(json_object_get(one, "tensor"));
    compare(&call[tensor && strcmp(tensor, "w2") == 0], st, name);
    for (int s = 0; s < sites; s++) {
        free(call[s].mask);
        free((void *)(uintptr_t)call[s].w);
    }
    free(a);
    free(counts);
    free(config);
}

static int open_all(json_t **meta, safetensors **st, registry *plugins, const plugin_component **c) {
    if (!file_exists(GOLDEN "/pruning.json")) {
        fprintf(stderr, "skipped: " GOLDEN " is not there\n");
        cr_skip_test();
    }
    setenv("GRAFT_PLUGIN_PATH", BINARY_DIR "/lib/graft", 1);
    return json_read_file(GOLDEN "/pruning.json", 0, meta, &err) ||
           safetensors_open(GOLDEN "/pruning.safetensors", st, &err) ||
           registry_find(plugins, PLUGIN_ADAPTER, "prune", NULL, c, &err);
}

Test(prune, masks_are_those_of_the_goldens) {
    json_t *meta = NULL;
    safetensors *st = NULL;
    const plugin_component *c = NULL;
    registry *const plugins = registry_create();
    size_t at;
    const json_t *one;
    cr_assert_eq(open_all(&meta, &st, plugins, &c), 0, "%s", err.text);
    json_array_foreach(json_object_get(meta, "cases"), at, one) check_case(c, st, one);
    cr_expect_eq(at, 18, "%zu cases", at);
    safetensors_close(st);
    json_decref(meta);
    registry_free(plugins);
}

/* By definition: the place of each in a stable ascending order. */
Test(prune, ranks_are_stable_for_few_values_and_for_many) {
    enum { MOST = 1500 };
    double values[MOST] = {0}; /* none of them is used at count 0 */
    int64_t order[MOST];
    for (int64_t count = 0; count <= MOST; count += count < 40 ? 1 : 730) {
        for (int64_t i = 0; i < count; i++) {
            const double drawn = philox_uniform(5, (uint64_t)count, (uint64_t)i) - 0.5;
            values[i] = i % 3 == 0   ? floor(drawn * 8)
                        : i % 3 == 1 ? (i % 2 ? 0.0 : -0.0)
                                     : drawn * pow(10, i % 40 - 20);
        }
        adapt_rank(values, count, order);
        for (int64_t i = 0; i < count; i++) {
            int64_t place = 0;
            for (int64_t k = 0; k < count; k++)
                place += values[k] < values[i] || (k < i && values[k] == values[i]);
            cr_assert_eq(order[i], place, "%lld of %lld: %g", (long long)i, (long long)count, values[i]);
        }
    }
}
