/* recipe — from the file to the structs: finds each section, its plugin and its values. */
#include "run/recipe.h"
#include "base/file.h"
#include "run/recipe-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    recipe *r;
    registry *plugins;
    char *folder; /* of the INI file: where relative plugin paths start */
    problems *problems;
    int needs;
} loading;

/* "adapter" and "adapter.NAME" belong to the rule [adapter], any other name to the rule that has it. */
static const recipe_rule *rule_of(const char *section) {
    for (int i = 0; i < RECIPE_RULES; i++) {
        const size_t length = strlen(recipe_rules[i].name);
        if (strcmp(section, recipe_rules[i].name) == 0) return &recipe_rules[i];
        if (recipe_rules[i].place < 0 && strncmp(section, recipe_rules[i].name, length) == 0 && section[length] == '.')
            return &recipe_rules[i];
    }
    return NULL;
}

/* A problem that has a section but no entry. */
static void section_problem(const loading *l, const ini_section *section, const char *text) {
    problems_add(l->problems, l->r->file.path, section ? section->line : 0, "%s", text);
}

/* ---- plugins ---- */

static void say_missing_plugin(const loading *l, const ini_section *section, const recipe_rule *rule) {
    strbuf text = {0};
    strbuf_printf(&text, "[%s] needs `plugin = NAME`", section->name);
    registry_open_all(l->plugins);
    int listed = 0;
    for (int i = 0; i < registry_count(l->plugins); i++) {
        const plugin_component *const c = registry_at(l->plugins, i);
        if (c->kind == rule->kind) strbuf_printf(&text, "%s %s", listed++ ? "," : "; there are", c->name);
    }
    section_problem(l, section, text.text);
    strbuf_free(&text);
}

/* A key that the core and the plugin both want would be taken by the core alone. */
static int check_keys(const loading *l, const ini_section *section, const recipe_rule *rule,
                      const plugin_component *c) {
    for (int32_t i = 0; i < c->option_count; i++)
        if (option_find(rule->rows, rule->count, c->options[i].key) >= 0) {
            char text[2000];
            snprintf(text, sizeof text, "[%s] %s declares the option '%s', which is a key of the section itself",
                     rule->name, c->file, c->options[i].key);
            section_problem(l, section, text);
            return 0;
        }
    return 1;
}

/* The component a section asks for; NULL when there is none, which has been said. */
static const plugin_component *find_plugin(const loading *l, const ini_section *section, const recipe_rule *rule) {
    const ini_entry *const entry = ini_entry_of(section, rule->choice);
    const char *const name = entry ? entry->value : rule->rows[option_find(rule->rows, rule->count, rule->choice)].text;
    if (!*name) {
        say_missing_plugin(l, section, rule);
        return NULL;
    }
    const plugin_component *component = NULL;
    graft_error err = {0};
    if (registry_find(l->plugins, rule->kind, name, l->folder, &component, &err)) {
        if (entry)
            ini_problem(&l->r->file, section, entry, l->problems, "[%s] %s", section->name, err.text);
        else {
            fail_within(&err, "[%s] by default", rule->name);
            section_problem(l, section, err.text);
        }
        return NULL;
    }
    return check_keys(l, section, rule, component) ? component : NULL;
}

/* ---- sections ---- */

/* `loader = tensors` is the core's own (run/data.h): no plugin reads fixed batches. */
static int is_own_loader(const ini_section *section, const recipe_rule *rule) {
    const ini_entry *const entry = rule->kind == PLUGIN_LOADER ? ini_entry_of(section, rule->choice) : NULL;
    return entry && strcmp(entry->value, "tensors") == 0;
}

/* The section of the core that has a key no other one has. */
static const char *home_of(const char *key) {
    const char *home = NULL;
    int found = 0;
    for (int i = 0; i < RECIPE_RULES; i++)
        if (option_find(recipe_rules[i].rows, recipe_rules[i].count, key) >= 0 && !found++) home = recipe_rules[i].name;
    return found == 1 ? home : NULL;
}

/* Fills the struct `into` from `section` (NULL: absent), and adds it to the sections in use. */
static void load_section(loading *l, const recipe_rule *rule, const ini_section *section, void *into) {
    recipe *const r = l->r;
    option_set sets[2] = {
        {rule->rows, rule->count, into, arena_new(&r->memory, (size_t)rule->count, sizeof(option_origin))}
    };
    recipe_use *const use = rule->choice ? (recipe_use *)((char *)into + rule->use) : NULL;
    const int wanted = use && (section || (l->needs & RECIPE_PLUGINS && rule->kind != PLUGIN_QUANTIZER)) &&
                       !is_own_loader(section, rule);
    if (wanted) use->component = find_plugin(l, section, rule);
    if (use && use->component) {
        const plugin_component *const c = use->component;
        use->config = arena_new(&r->memory, (size_t)c->config_size + 1, 1);
        sets[1] = (option_set){c->options, c->option_count, use->config,
                               arena_new(&r->memory, (size_t)c->option_count + 1, sizeof(option_origin))};
    }
    option_fill(&r->file, section, sets, 2, !wanted || use->component, home_of, &r->memory, l->problems);
    if (!section && rule->kind == PLUGIN_QUANTIZER) return;
    r->sections[r->section_count++] = (recipe_section){section ? section->name : rule->name, sets[0], sets[1], use};
}

static void load_adapters(loading *l, const recipe_rule *rule) {
    recipe *const r = l->r;
    const ini_section *plain = NULL;
    for (int i = 0; i < r->file.count; i++) {
        const ini_section *const section = &r->file.sections[i];
        if (rule_of(section->name) != rule) continue;
        const char *const name = section->name + strlen(rule->name);
        if (*name == '\0')
            plain = section;
        else if (!name[1] || strchr(name + 1, '.'))
            section_problem(l, section, "an adapter is called [adapter.NAME], without further dots");
        r->adapters[r->adapter_count].name = *name ? name + 1 : "";
        load_section(l, rule, section, &r->adapters[r->adapter_count++]);
    }
    if (plain && r->adapter_count > 1)
        section_problem(l, plain, "[adapter] stands beside [adapter.NAME]; give each of several adapters a name");
    if (r->adapter_count == 0 && l->needs & RECIPE_ADAPTER)
        section_problem(l, NULL, "nothing is trained without an [adapter]; plugin = full trains the model itself");
}

static void say_unknown_section(const loading *l, const ini_section *section) {
    const char *names[RECIPE_RULES];
    for (int i = 0; i < RECIPE_RULES; i++)
        names[i] = recipe_rules[i].name;
    const char *const near = nearest_name(section->name, names, RECIPE_RULES);
    char text[256];
    snprintf(text, sizeof text, "%sthere is no section [%s]%s%s%s", section->line ? "" : "--set: ", section->name,
             near ? "; did you mean [" : "", near ? near : "", near ? "]?" : "");
    section_problem(l, section, text);
}

static void check_required(const loading *l, const recipe_rule *rule, const void *into) {
    if (!(l->needs & rule->need)) return;
    const graft_option *const row = &rule->rows[option_find(rule->rows, rule->count, rule->required)];
    char text[256];
    snprintf(text, sizeof text, "[%s] %s is missing: the %s", rule->name, row->key, row->doc);
    if (!*option_text(row, into)) section_problem(l, ini_find(&l->r->file, rule->name), text);
}

static void load_sections(loading *l) {
    recipe *const r = l->r;
    const size_t most = (size_t)r->file.count + RECIPE_RULES;
    r->sections = arena_new(&r->memory, most, sizeof *r->sections);
    r->adapters = arena_new(&r->memory, most, sizeof *r->adapters);
    for (int i = 0; i < RECIPE_RULES; i++) {
        const recipe_rule *const rule = &recipe_rules[i];
        if (rule->place < 0) {
            load_adapters(l, rule);
            continue;
        }
        void *const into = (char *)r + rule->place;
        load_section(l, rule, ini_find(&r->file, rule->name), into);
        check_required(l, rule, into);
    }
    for (int i = 0; i < r->file.count; i++)
        if (!rule_of(r->file.sections[i].name)) say_unknown_section(l, &r->file.sections[i]);
    recipe_check(r, l->problems);
    if (l->needs & RECIPE_PLACES) recipe_check_places(r, l->problems);
}

int recipe_load(registry *plugins, const char *path, const char *const *overrides, int override_count, int needs,
                recipe **out, problems *all, graft_error *err) {
    problems found = {0};
    problems *const p = all ? all : &found;
    recipe *const r = mem_new(1, sizeof *r);
    loading l = {.r = r, .plugins = plugins, .folder = path_folder(path ? path : ""), .problems = p, .needs = needs};
    if (!path || ini_read(path, &r->file, p)) {
        for (int i = 0; i < override_count; i++)
            ini_override(&r->file, overrides[i], p);
        load_sections(&l);
    }
    const int rc = problems_fail(p, err);
    free(l.folder);
    problems_free(&found);
    *out = rc ? NULL : r;
    if (rc) recipe_free(r);
    return rc;
}

void recipe_free(recipe *r) {
    if (!r) return;
    ini_free(&r->file);
    arena_free(&r->memory);
    free(r);
}

int64_t recipe_warmup(const recipe *r, int64_t steps) {
    if (r->schedule.warmup_steps > 0) return r->schedule.warmup_steps;
    return (int64_t)ceil((double)steps * r->schedule.warmup_ratio);
}

recipe_section *recipe_section_of(recipe *r, const char *title) {
    for (int32_t i = 0; i < r->section_count; i++)
        if (strcmp(r->sections[i].title, title) == 0) return &r->sections[i];
    return NULL;
}
