/* adapter-write — adapter_config.json and the model card of an adapter that was bound. */
#include "base/file.h"
#include "base/json.h"
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

/* The module of a point: of a base tensor the one it belongs to; NULL of virtual rows. */
static const char *module_of(const adapt_point *at) {
    if (at->kinds & GRAFT_TENSOR) return at->tensor->module;
    return at->kinds & (GRAFT_LINEAR | GRAFT_INPUT | GRAFT_BRANCH) ? at->name : NULL;
}

static void add_name(const char **names, int32_t *count, const char *name) {
    for (int32_t o = 0; o < *count && name; o++)
        if (strcmp(names[o], name) == 0) return;
    if (name) names[(*count)++] = name;
}

/* The shortest names that select the adapter's sites and no other module of the model. */
static void shorten(const int32_t *sites, int32_t site_count, const adapt_point *points, int32_t count,
                    peft_config *c) {
    const char **const all = arena_new(&c->memory, (size_t)count + 1, sizeof *all);
    const char **const own = arena_new(&c->memory, (size_t)count + 1, sizeof *own);
    int32_t all_count = 0, own_count = 0;
    for (int32_t p = 0; p < count; p++)
        add_name(all, &all_count, module_of(&points[p]));
    for (int32_t n = 0; n < site_count; n++)
        add_name(own, &own_count, module_of(&points[sites[n]]));
    const char **names = NULL;
    int32_t names_count = 0;
    targets_shorten(own, own_count, all, all_count, &c->memory, &names, &names_count);
    c->targets = (targets_list){.names = names, .count = names_count};
}

static void set_targets(const adapt_spec *spec, const adapt *a, int32_t which, const adapt_point *points, int32_t count,
                        peft_config *c) {
    if (!reads_alike(spec)) {
        int32_t sites = 0;
        while (adapt_site(a, which, sites) >= 0)
            sites++;
        int32_t *const list = arena_new(&c->memory, (size_t)sites + 1, sizeof *list);
        for (int32_t n = 0; n < sites; n++)
            list[n] = adapt_site(a, which, n);
        shorten(list, sites, points, count, c);
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

static int is_type(const plugin_component *c, const char *type) {
    for (int32_t i = 0; i < c->field_count; i++)
        if (strcmp(c->fields[i].key, "peft_type") == 0) return strcmp(c->fields[i].value, type) == 0;
    return 0;
}

/* What the folders of virtual rows and of AdapterHub say about the base model. Owned by the caller. */
static json_t *facts_of(const plugin_component *component, const model *m, const char *base_model) {
    const model_shape *const s = model_descriptor(m);
    const int keys = is_type(component, "PREFIX_TUNING"); /* its rows are keys and values, the others' embeddings */
    const int64_t width = keys ? s->kv_heads * s->head_dim : s->hidden;
    char *const path = path_join(model_folder(m), "config.json");
    const char *class = "";
    json_t *config = NULL;
    graft_error none = {0};
    if (json_read_file(path, 0, &config, &none) == GRAFT_OK)
        class = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    json_t *const facts =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s?}", "num_layers", (json_int_t)s->layers,
                  "num_attention_heads", (json_int_t)(keys ? s->kv_heads : s->heads), "token_dim", (json_int_t)width,
                  "encoder_hidden_size", (json_int_t)width, "hidden_size", (json_int_t)s->hidden, "model_name",
                  base_model, "model_type", s->family, "model_class", class);
    json_decref(config);
    free(path);
    return facts;
}

/* What the save hooks said: ranks that are left, and keys. */
static void add_saved(const adapt *a, int32_t which, peft_config *c, peft_table *table) {
    int32_t saved, count = 0;
    const graft_field *const fields = adapt_saved_fields(a, which, &saved);
    graft_field *const all = arena_new(&c->memory, (size_t)(table->field_count + saved) + 1, sizeof *all);
    memcpy(all, table->fields, (size_t)table->field_count * sizeof *all);
    if (saved) memcpy(all + table->field_count, fields, (size_t)saved * sizeof *all);
    table->fields = all;
    table->field_count += saved;
    while (adapt_site(a, which, count) >= 0)
        count++;
    peft_kept *const kept = arena_new(&c->memory, (size_t)count + 1, sizeof *kept);
    for (int32_t n = 0; n < count; n++) {
        peft_kept *const own = &kept[c->kept_count];
        char *name = NULL;
        if (!adapt_kept_places(a, which, n, &name, &own->mask, &own->count) || !own->mask) continue;
        own->name = arena_copy(&c->memory, name, strlen(name));
        free(name);
        c->kept_count++;
    }
    c->kept = kept;
}

/* How many of the sites of this kind one name selects. */
static int32_t sites_of(const adapt *a, int32_t which, const adapt_point *points, const char *const *name,
                        int32_t kind) {
    const targets_list one = {.names = name, .count = 1};
    int32_t count = 0;
    for (int32_t n = 0; adapt_site(a, which, n) >= 0; n++) {
        const adapt_point *const at = &points[adapt_site(a, which, n)];
        count += adapt_site_kind(a, which, n) == kind && targets_select(&one, at->name, at->layer, at->all_linear);
    }
    return count;
}

/* GPT-2's c_proj is read by IA3 in the MLP and written in attention: names of either kind alone. */
static void part_kinds(const adapt *a, int32_t which, const adapt_point *points, int32_t count, peft_config *c) {
    static const int32_t kinds[] = {GRAFT_INPUT, GRAFT_LINEAR};
    const char **const both = arena_new(&c->memory, 2 * (size_t)count + 1, sizeof *both);
    int32_t *const list = arena_new(&c->memory, (size_t)count + 1, sizeof *list), names = 0;
    for (int32_t k = 0; k < 2; k++) {
        int32_t sites = 0;
        for (int32_t n = 0; adapt_site(a, which, n) >= 0; n++)
            if (adapt_site_kind(a, which, n) == kinds[k]) list[sites++] = adapt_site(a, which, n);
        shorten(list, sites, points, count, c);
        for (int32_t t = 0; t < c->targets.count; t++)
            both[names++] = c->targets.names[t];
    }
    c->targets = (targets_list){.names = both, .count = names};
}

/* PEFT wants IA3's feedforward_modules to be some of target_modules, word by word: those that are scaled where they read. */
static void add_feedforward(const adapt *a, int32_t which, const adapt_point *points, int32_t count, peft_config *c,
                            peft_table *table) {
    json_t *const names = json_array();
    int mixed = 0;
    for (int32_t t = 0; t < c->targets.count && !mixed; t++)
        mixed = sites_of(a, which, points, &c->targets.names[t], GRAFT_INPUT) &&
                sites_of(a, which, points, &c->targets.names[t], GRAFT_LINEAR);
    if (mixed) part_kinds(a, which, points, count, c);
    for (int32_t t = 0; t < c->targets.count; t++)
        if (sites_of(a, which, points, &c->targets.names[t], GRAFT_INPUT))
            json_array_append_new(names, json_string(c->targets.names[t]));
    char *const text = json_dumps(names, 0);
    graft_field *const all = arena_new(&c->memory, (size_t)table->field_count + 1, sizeof *all);
    memcpy(all, table->fields, (size_t)table->field_count * sizeof *all);
    all[table->field_count++] = (graft_field){"feedforward_modules", arena_copy(&c->memory, text, strlen(text))};
    table->fields = all;
    json_decref(names);
    free(text);
}

int adapter_folder_write(const adapt_spec *spec, const adapt *a, int32_t which, model *m, const char *folder,
                         const char *base_model, graft_error *err) {
    int32_t point_count;
    const adapt_point *const points = model_points(m, &point_count);
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
                     .task_type = "",
                     .name = spec->saved_as && *spec->saved_as ? spec->saved_as : spec->name,
                     .facts = facts_of(spec->component, m, base_model)};
    for (int32_t n = 0; adapt_site(a, which, n) >= 0; n++) {
        const base_tensor *const w = points[adapt_site(a, which, n)].tensor;
        if (w && w->transposed) c.fan_in_fan_out = 1;
    }
    set_targets(spec, a, which, points, point_count, &c);
    if (spec->rank_pattern_count || spec->alpha_pattern_count) adapt_saved_patterns(a, which, &c.ranks, &c.alphas);
    peft_table table = adapter_table(spec->component, &c.memory);
    add_saved(a, which, &c, &table);
    if (is_type(spec->component, "IA3") && c.targets.count) add_feedforward(a, which, points, point_count, &c, &table);
    if (peft_config_write(folder, &c, &table, spec->config, err) == GRAFT_OK) write_card(spec, folder, base_model, err);
    json_decref(c.facts);
    peft_config_free(&c);
    return err->code;
}

int adapter_folder_write_lora(registry *plugins, model *m, const int32_t *sites, int32_t count, int64_t rank,
                              const char *folder, graft_error *err) {
    const plugin_component *lora;
    int32_t point_count;
    const adapt_point *const points = model_points(m, &point_count);
    if (registry_find(plugins, PLUGIN_ADAPTER, "lora", NULL, &lora, err)) return err->code;
    char *const base_model = path_absolute(model_folder(m));
    peft_config c = {.type = "", .bias = "none", .base_model = base_model, .revision = "", .task_type = "", .name = ""};
    void *const config = arena_new(&c.memory, (size_t)lora->config_size + 1, 1);
    const option_set set = {lora->options, lora->option_count, config,
                            arena_new(&c.memory, (size_t)lora->option_count + 1, sizeof(option_origin))};
    const char *const keys[] = {"rank", "alpha"};
    char *const text = mem_format("%lld", (long long)rank);
    option_defaults(&set);
    for (int k = 0; k < 2 && !err->code; k++) {
        const int row = option_find(lora->options, lora->option_count, keys[k]);
        if (row >= 0) option_parse(&lora->options[row], text, config, &c.memory, err);
    }
    for (int32_t n = 0; n < count; n++)
        c.fan_in_fan_out |= points[sites[n]].tensor->transposed;
    shorten(sites, count, points, point_count, &c);
    const peft_table table = adapter_table(lora, &c.memory);
    const adapt_spec spec = {.component = lora, .config = config};
    if (!err->code && peft_config_write(folder, &c, &table, config, err) == GRAFT_OK)
        write_card(&spec, folder, base_model, err);
    peft_config_free(&c);
    free(text);
    free(base_model);
    return err->code;
}
