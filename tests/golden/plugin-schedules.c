/* Every schedule against transformers' get_scheduler, every step of every case. */
#include "base/json.h"
#include "config/option.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The reference's names of schedules and options, as ours. */
static const char *our_name(const char *name) {
    static const struct {
        const char *theirs, *ours;
    } names[] = {
        {"constant",            "constant"    },
        {"cosine",              "cosine"      },
        {"inverse_sqrt",        "inverse-sqrt"},
        {"warmup_stable_decay", "wsd"         }
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(name, names[i].theirs, strlen(names[i].theirs)) == 0) return names[i].ours;
    return name;
}

static const char *our_key(const char *name, const char *key) {
    if (strcmp(key, "num_cycles") == 0) return strstr(name, "restarts") ? "restarts" : "cycles";
    if (strcmp(key, "num_decay_steps") == 0) return "decay_steps";
    if (strcmp(key, "decay_type") == 0) return "decay";
    return strncmp(key, "min_lr", 6) == 0 || strcmp(key, "lr_end") == 0 ? "min_ratio" : key;
}

static void set_option(const plugin_component *c, const char *key, const char *text, void *config) {
    const int row = option_find(c->options, c->option_count, key);
    arena memory = {0};
    graft_error err = {0};
    cr_assert(row >= 0, "%s has no option %s", c->name, key);
    cr_assert_eq(option_parse(&c->options[row], text, config, &memory, &err), GRAFT_OK, "%s", err.text);
    arena_free(&memory);
}

static const plugin_component *plugin_of(registry *plugins, const json_t *golden, void *config) {
    const char *const name = json_string_value(json_object_get(golden, "name"));
    const double lr = json_number_value(json_object_get(golden, "lr"));
    const plugin_component *c = NULL;
    graft_error err = {0};
    cr_assert_eq(registry_find(plugins, PLUGIN_SCHEDULE, our_name(name), NULL, &c, &err), GRAFT_OK, "%s", err.text);
    option_origin origins[8];
    option_defaults(&(option_set){c->options, c->option_count, config, origins});
    if (strcmp(name, "polynomial") == 0) set_option(c, "min_ratio", "0.0002", config); /* lr_end 1e-7 of lr 5e-4 */
    if (strstr(name, "restarts")) set_option(c, "restarts", "1", config);
    const json_t *const given = json_object_get(golden, "options"), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)given, key, value) {
        char text[64];
        const double number = json_number_value(value);
        const int absolute = strcmp(key, "min_lr") == 0 || strcmp(key, "lr_end") == 0,
                  whole = number == (double)(int)number;
        snprintf(text, sizeof text, whole && !absolute ? "%.0f" : "%.17g", absolute ? number / lr : number);
        if (json_is_string(value)) snprintf(text, sizeof text, "%s", json_string_value(value));
        if (strcmp(key, "warmup_type") == 0) continue; /* only where there is no warm-up */
        set_option(c, our_key(name, key), strcmp(text, "1-sqrt") == 0 ? "sqrt" : text, config);
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
