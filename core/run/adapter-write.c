/* adapter-write — adapter_config.json and the model card of an adapter that was bound. */
#include "config/option.h"
#include "run/adapter-folder.h"
#include <stdlib.h>
#include <string.h>

enum { FACTS_MAX = 32 };

/* ---- the names of the modules ---- */

/* PEFT reads a list of names as we do, unless it holds globs or all-linear, or a technique left a selected module out. */
static int reads_alike(const adapt_spec *spec) {
    for (int32_t i = 0; i < spec->target_count; i++)
        if (strpbrk(spec->targets[i], "*?[") || strcmp(spec->targets[i], "all-linear") == 0) return 0;
    for (int32_t i = 0; i < spec->exclude_count; i++)
        if (strpbrk(spec->exclude[i], "*?[") || strcmp(spec->exclude[i], "all-linear") == 0) return 0;
    return spec->targets_regex || spec->target_count > 0;
}

/* The shortest names that select the adapter's sites and no other module of the model. */
static void shorten(const adapt *a, int32_t which, const adapt_point *points, int32_t count, peft_config *c) {
    const char **const all = arena_new(&c->memory, (size_t)count + 1, sizeof *all);
    const char **const own = arena_new(&c->memory, (size_t)count + 1, sizeof *own);
    int32_t all_count = 0, own_count = 0;
    for (int32_t p = 0; p < count; p++)
        if (points[p].kinds & (GRAFT_LINEAR | GRAFT_INPUT | GRAFT_BRANCH)) all[all_count++] = points[p].name;
    for (int32_t n = 0; adapt_site(a, which, n) >= 0; n++) {
        const adapt_point *const at = &points[adapt_site(a, which, n)];
        int known = !(at->kinds & (GRAFT_LINEAR | GRAFT_INPUT | GRAFT_BRANCH));
        for (int32_t o = 0; o < own_count && !known; o++)
            known = strcmp(own[o], at->name) == 0;
        if (!known) own[own_count++] = at->name;
    }
    const char **names = NULL;
    int32_t names_count = 0;
    targets_shorten(own, own_count, all, all_count, &c->memory, &names, &names_count);
    c->targets = (targets_list){.names = names, .count = names_count};
}

static void set_targets(const adapt_spec *spec, const adapt *a, int32_t which, const adapt_point *points, int32_t count,
                        peft_config *c) {
    if (!reads_alike(spec)) {
        shorten(a, which, points, count, c);
        return;
    }
    c->targets = (targets_list){.names = spec->targets,
                                .count = spec->target_count,
                                .regex = spec->targets_regex,
                                .exclude = spec->exclude,
                                .exclude_count = spec->exclude_count,
                                .exclude_regex = spec->exclude_regex,
                                .layers = spec->layers,
                                .layer_count = spec->layer_count,
                                .layers_patterns = spec->layers_patterns,
                                .layers_pattern_count = spec->layers_pattern_count};
}

/* ---- the files ---- */

static int write_card(const adapt_spec *spec, const char *folder, const char *base_model, graft_error *err) {
    const plugin_component *const c = spec->component;
    char *facts[FACTS_MAX];
    int32_t count = 0;
    for (int32_t i = 0; i < c->option_count && count < FACTS_MAX; i++) {
        strbuf value = {0};
        option_format(&c->options[i], spec->config, &value);
        facts[count++] = mem_format("%s = %s", c->options[i].key, value.text ? value.text : "");
        strbuf_free(&value);
    }
    const peft_card card = {.base_model = base_model,
                            .technique = c->name,
                            .doc = c->doc,
                            .paper = c->paper,
                            .facts = (const char *const *)facts,
                            .fact_count = count};
    const int rc = peft_card_write(folder, &card, err);
    while (count > 0)
        free(facts[--count]);
    return rc;
}

int adapter_folder_write(const adapt_spec *spec, const adapt *a, int32_t which, const adapt_point *points,
                         int32_t point_count, const char *folder, const char *base_model, graft_error *err) {
    peft_config c = {.type = "",
                     .modules_to_save = spec->modules_to_save,
                     .modules_to_save_count = spec->modules_to_save_count,
                     .bias = spec->bias ? spec->bias : "none",
                     .rank_patterns = spec->rank_patterns,
                     .ranks = spec->ranks,
                     .rank_pattern_count = spec->rank_pattern_count,
                     .alpha_patterns = spec->alpha_patterns,
                     .alphas = spec->alphas,
                     .alpha_pattern_count = spec->alpha_pattern_count,
                     .base_model = base_model,
                     .revision = "",
                     .task_type = ""};
    for (int32_t n = 0; adapt_site(a, which, n) >= 0; n++) {
        const base_tensor *const w = points[adapt_site(a, which, n)].tensor;
        if (w && w->transposed) c.fan_in_fan_out = 1;
    }
    set_targets(spec, a, which, points, point_count, &c);
    const peft_table table = adapter_table(spec->component, &c.memory);
    if (peft_config_write(folder, &c, &table, spec->config, err) == GRAFT_OK) write_card(spec, folder, base_model, err);
    peft_config_free(&c);
    return err->code;
}
