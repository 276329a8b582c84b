/* constant, linear and cosine against transformers' get_scheduler, every step of every case. */
#include "base/json.h"
#include "config/option.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* The reference's name of a schedule and its options, as ours. */
static const plugin_component *plugin_of(registry *plugins, const json_t *golden, void *config) {
    const char *const name = json_string_value(json_object_get(golden, "name"));
    const char *const ours = strncmp(name, "constant", 8) == 0 ? "constant"
                             : strncmp(name, "cosine", 6) == 0 ? "cosine"
                                                               : name;
    const plugin_component *c = NULL;
    graft_error err = {0};
    cr_assert_eq(registry_find(plugins, PLUGIN_SCHEDULE, ours, NULL, &c, &err), GRAFT_OK, "%s", err.text);
    option_origin origins[8];
    option_defaults(&(option_set){c->options, c->option_count, config, origins});
    const json_t *const given = json_object_get(golden, "options"), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)given, key, value) {
        double number = json_number_value(value);
        if (strcmp(key, "min_lr") == 0) number /= json_number_value(json_object_get(golden, "lr"));
        const int row = option_find(c->options, c->option_count, strncmp(key, "min_lr", 6) ? "cycles" : "min_ratio");
        cr_assert(row >= 0, "%s", key);
        memcpy((char *)config + c->options[row].offset, &number, sizeof number);
    }
    return c;
}

Test(schedules, follow_the_reference_at_every_step) {
    graft_error err = {0};
    json_t *all = NULL;
    cr_assert_eq(json_read_file(SOURCE_DIR "/tests/golden/data/schedules.json", 0, &all, &err), GRAFT_OK, "%s",
                 err.text);
    registry *const plugins = registry_create();
    const json_t *golden;
    size_t i, checked = 0;
    json_array_foreach(json_object_get(all, "schedules"), i, golden) {
        double config[8] = {0};
        const plugin_component *const c = plugin_of(plugins, golden, config);
        const int64_t warmup = json_integer_value(json_object_get(golden, "warmup"));
        const int64_t steps = json_integer_value(json_object_get(golden, "steps"));
        const json_t *const factors = json_object_get(golden, "factor");
        for (int64_t s = 0; s < (int64_t)json_array_size(factors); s++) {
            const double wanted = json_number_value(json_array_get(factors, (size_t)s));
            const double got = s < warmup ? (double)s / (double)warmup : c->schedule.factor(config, s, warmup, steps);
            cr_expect(fabs(got - wanted) <= 1e-12, "%s warmup %d of %d, step %d: %.17g, wanted %.17g",
                      json_string_value(json_object_get(golden, "name")), (int)warmup, (int)steps, (int)s, got, wanted);
            checked++;
        }
    }
    cr_assert_gt(checked, 1000);
    registry_free(plugins);
    json_decref(all);
}
