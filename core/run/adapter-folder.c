/* adapter-folder — reading: which technique computes a folder, and with which settings. */
#include "run/adapter-folder.h"
#include "base/file.h"
#include "config/option.h"
#include "run/checkpoint.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *type_of(const plugin_component *c) {
    for (int32_t i = 0; i < c->field_count; i++)
        if (strcmp(c->fields[i].key, "peft_type") == 0) return c->fields[i].value;
    return NULL;
}

static const char *own_type(const plugin_component *c, arena *memory) {
    char *const type = arena_copy(memory, c->name, strlen(c->name));
    for (char *at = type; *at; at++)
        *at = (char)toupper((unsigned char)*at);
    return type;
}

peft_table adapter_table(const plugin_component *c, arena *memory) {
    peft_table table = {.name = c->name,
                        .options = c->options,
                        .fields = c->fields,
                        .option_count = c->option_count,
                        .field_count = c->field_count};
    if (type_of(c)) return table;
    graft_field *const fields = arena_new(memory, (size_t)c->field_count + 1, sizeof *fields);
    if (c->field_count) memcpy(fields, c->fields, (size_t)c->field_count * sizeof *fields);
    fields[c->field_count] = (graft_field){"peft_type", own_type(c, memory)};
    table.fields = fields;
    table.field_count++;
    return table;
}

int adapter_has_folder(const plugin_component *c) {
    for (int32_t s = 0; s < c->slot_count; s++)
        if (c->slots[s].file) return 1;
    return 0;
}

/* A new options struct at its defaults. */
static void *default_config(const plugin_component *c, arena *memory) {
    void *const config = arena_new(memory, (size_t)c->config_size + 1, 1);
    const option_set set = {c->options, c->option_count, config,
                            arena_new(memory, (size_t)c->option_count + 1, sizeof(option_origin))};
    option_defaults(&set);
    return config;
}

/* ---- which technique ---- */

/* What each technique of the file's type has against it; without one, the types there are. */
static int say_none_suits(registry *plugins, const peft_config *c, arena *memory, graft_error *err) {
    strbuf near = {0}, types = {0};
    for (int i = 0; i < registry_count(plugins); i++) {
        const plugin_component *const at = registry_at(plugins, i);
        if (at->kind != PLUGIN_ADAPTER || !adapter_has_folder(at)) continue;
        const char *const type = type_of(at) ? type_of(at) : own_type(at, memory);
        strbuf_printf(&types, "%s%s (%s)", types.length ? ", " : "", type, at->name);
        if (strcmp(type, c->type) != 0) continue;
        const peft_table table = adapter_table(at, memory);
        graft_error why = {0};
        peft_config_apply(c, &table, default_config(at, memory), NULL, memory, &why);
        strbuf_printf(&near, "\n  %s", why.text);
    }
    if (near.length)
        fail(err, GRAFT_FAILED, "no adapter technique here computes what %s describes:%s", c->path, near.text);
    else
        fail(err, GRAFT_FAILED, "%s: no adapter technique here reads the type %s; there are %s", c->path, c->type,
             types.length ? types.text : "none: is GRAFT_PLUGIN_PATH set right?");
    strbuf_free(&near);
    strbuf_free(&types);
    return GRAFT_FAILED;
}

/* Of several that read the same files the one without an init hook: how the adapter began no longer matters. */
static int find_technique(registry *plugins, const peft_config *c, arena *memory, const plugin_component **out,
                          graft_error *err) {
    const plugin_component *found = NULL;
    registry_open_all(plugins);
    for (int i = 0; i < registry_count(plugins); i++) {
        const plugin_component *const at = registry_at(plugins, i);
        const peft_table table = adapter_table(at, memory);
        if (at->kind != PLUGIN_ADAPTER || !adapter_has_folder(at) || !peft_config_suits(c, &table)) continue;
        if (!found || (found->adapter.init && !at->adapter.init)) found = at;
    }
    *out = found;
    return found ? GRAFT_OK : say_none_suits(plugins, c, memory, err);
}

/* ---- settings ---- */

static void take_targets(adapt_spec *spec, const peft_config *c) {
    const targets_list *const t = &c->targets;
    if (c->has_targets) {
        spec->targets = t->names;
        spec->target_count = t->count;
        spec->targets_of_file = 1;
        spec->targets_regex = t->regex;
    }
    spec->exclude = t->exclude;
    spec->exclude_count = t->exclude_count;
    spec->exclude_regex = t->exclude_regex;
    spec->layers = t->layers;
    spec->layer_count = t->layer_count;
    spec->layers_patterns = t->layers_patterns;
    spec->layers_pattern_count = t->layers_pattern_count;
}

static void take_patterns(adapt_spec *spec, const peft_config *c) {
    spec->rank_patterns = c->rank_patterns;
    spec->ranks = c->ranks;
    spec->rank_pattern_count = c->rank_pattern_count;
    spec->alpha_patterns = c->alpha_patterns;
    spec->alphas = c->alphas;
    spec->alpha_pattern_count = c->alpha_pattern_count;
}

static void take_saved(adapt_spec *spec, const peft_config *c) {
    spec->modules_to_save = c->modules_to_save;
    spec->modules_to_save_count = c->modules_to_save_count;
}

/* A folder without adapter_config.json: what lies there instead, and what to name. */
static int check_folder(const char *folder, graft_error *err) {
    char *const config = path_join(folder, "adapter_config.json"), *const base = path_join(folder, "config.json");
    int64_t step;
    char *const newest = checkpoint_newest(folder, &step);
    if (!file_is_folder(folder))
        fail(err, GRAFT_USAGE, "%s is not a folder; an adapter is a folder with adapter_config.json", folder);
    else if (!file_exists(config) && file_exists(base))
        fail(err, GRAFT_USAGE, "%s holds a model, no adapter", folder);
    else if (!file_exists(config) && newest)
        fail(err, GRAFT_USAGE, "%s holds a run that has not ended; its newest checkpoint is an adapter too: %s", folder,
             newest);
    else if (!file_exists(config))
        fail(err, GRAFT_USAGE, "%s holds no adapter: there is no adapter_config.json", folder);
    free(config);
    free(base);
    free(newest);
    return err->code;
}

int adapter_folder_read(registry *plugins, const char *folder, adapt_spec *out, arena *memory, graft_error *err) {
    peft_config c;
    *out = (adapt_spec){.name = ""};
    if (check_folder(folder, err)) return err->code;
    int rc = peft_config_read(folder, &c, err);
    if (rc == GRAFT_OK) rc = find_technique(plugins, &c, memory, &out->component, err);
    if (rc == GRAFT_OK) {
        const peft_table table = adapter_table(out->component, memory);
        void *const config = default_config(out->component, memory);
        rc = peft_config_apply(&c, &table, config, NULL, memory, err);
        out->config = config;
        out->saved_as = c.name;
        out->bias = c.bias;
        take_targets(out, &c);
        take_patterns(out, &c);
        take_saved(out, &c);
    }
    arena_adopt(memory, &c.memory); /* the texts */
    peft_config_free(&c);
    return rc;
}

/* ---- [adapter] start ---- */

/* The options that the INI leaves open take the folder's values; those it gives must be the folder's. */
static int join_options(const peft_config *c, const plugin_component *component, const void *from,
                        const uint8_t *in_file, void *config, const uint8_t *given, graft_error *err) {
    for (int32_t i = 0; i < component->option_count; i++) {
        const graft_option *const row = &component->options[i];
        if (!in_file[i]) continue;
        if (!given[i]) {
            option_copy(row, from, config);
            continue;
        }
        strbuf ours = {0}, theirs = {0};
        option_format(row, config, &ours);
        option_format(row, from, &theirs);
        if (ours.length != theirs.length || (ours.length && memcmp(ours.text, theirs.text, ours.length) != 0))
            fail(err, GRAFT_USAGE, "[adapter] %s = %s, but %s begins from %s; take the key out or give the same value",
                 row->key, ours.text ? ours.text : "", c->path, theirs.text ? theirs.text : "nothing");
        strbuf_free(&ours);
        strbuf_free(&theirs);
        if (err->code) return err->code;
    }
    return GRAFT_OK;
}

static int same_patterns(const char *const *a, const double *x, int32_t n, const char *const *b, const double *y,
                         int32_t m) {
    int same = n == m;
    for (int32_t i = 0; same && i < n; i++)
        same = strcmp(a[i], b[i]) == 0 && x[i] == y[i];
    return same;
}

static int join_patterns(adapt_spec *spec, const peft_config *c, graft_error *err) {
    if (!spec->rank_pattern_count && !spec->alpha_pattern_count) {
        take_patterns(spec, c);
        return GRAFT_OK;
    }
    if (same_patterns(spec->rank_patterns, spec->ranks, spec->rank_pattern_count, c->rank_patterns, c->ranks,
                      c->rank_pattern_count) &&
        same_patterns(spec->alpha_patterns, spec->alphas, spec->alpha_pattern_count, c->alpha_patterns, c->alphas,
                      c->alpha_pattern_count))
        return GRAFT_OK;
    return fail(err, GRAFT_USAGE, "[adapter] rank_pattern and alpha_pattern differ from those of %s; take them out",
                c->path);
}

/* What the tensors of the file decide (targets, layers, modules to save, biases) is taken from the section where it says
 * something: reading the tensors finds a section that does not fit. */
static void join_selection(adapt_spec *spec, const peft_config *c) {
    if (!spec->targets && !spec->exclude_count && !spec->layer_count) take_targets(spec, c);
    if (!spec->modules_to_save_count) take_saved(spec, c);
    if (!spec->bias || strcmp(spec->bias, "none") == 0) spec->bias = c->bias;
}

int adapter_folder_start(const char *folder, adapt_spec *spec, void *config, const uint8_t *given, arena *memory,
                         graft_error *err) {
    const plugin_component *const component = spec->component;
    const peft_table table = adapter_table(component, memory);
    void *const from = default_config(component, memory);
    uint8_t *const in_file = arena_new(memory, (size_t)component->option_count + 1, 1);
    peft_config c;
    if (check_folder(folder, err)) return err->code;
    int rc = peft_config_read(folder, &c, err);
    if (rc == GRAFT_OK && !adapter_has_folder(component))
        rc = fail(err, GRAFT_USAGE, "[adapter] start = %s: %s writes no adapter folders, so it cannot begin from one",
                  folder, component->name);
    if (rc == GRAFT_OK) rc = peft_config_apply(&c, &table, from, in_file, memory, err);
    if (rc == GRAFT_OK) rc = join_options(&c, component, from, in_file, config, given, err);
    if (rc == GRAFT_OK) rc = join_patterns(spec, &c, err);
    if (rc == GRAFT_OK) join_selection(spec, &c);
    if (rc == GRAFT_OK) spec->saved_as = c.name;
    arena_adopt(memory, &c.memory);
    peft_config_free(&c);
    return rc;
}
