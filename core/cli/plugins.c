/* graft plugins — what can stand behind `plugin =`. */
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include <stdio.h>

static void print_table(const registry *r) {
    const char *kind = "";
    for (int i = 0; i < registry_count(r); i++) {
        const plugin_component *c = registry_at(r, i);
        if (kind != plugin_kind_word(c->kind)) printf("%s%s\n", i ? "\n" : "", plugin_kind_word(c->kind));
        kind = plugin_kind_word(c->kind);
        printf("  %-14s %s%s%s%s\n", c->name, c->doc, *c->paper ? " (" : "", c->paper, *c->paper ? ")" : "");
    }
}

static json_t *as_json(const registry *r) {
    json_t *list = json_array(), *refused = json_array();
    for (int i = 0; i < registry_count(r); i++) {
        const plugin_component *c = registry_at(r, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "kind", plugin_kind_word(c->kind),
                                              "name", c->name, "doc", c->doc, "paper", c->paper, "version", c->version,
                                              "file", c->file));
    }
    for (int i = 0; i < registry_refused_count(r); i++)
        json_array_append_new(refused, json_string(registry_refused(r, i)));
    return json_pack("{s:o, s:o}", "plugins", list, "refused", refused);
}

static int run(int count, char **words) {
    cli_options o;
    int first;
    if (cli_parse(&command_plugins, "j", NULL, NULL, NULL, count, words, 0, 0, &o, &first)) return GRAFT_USAGE;
    registry *r = registry_create();
    registry_open_all(r);
    if (o.json)
        cli_print_json(as_json(r));
    else
        print_table(r);
    for (int i = 0; i < registry_refused_count(r) && !o.json; i++)
        log_warn("not loaded: %s", registry_refused(r, i));
    if (registry_count(r) == 0) {
        log_warn("no plugins; these folders were searched:");
        for (int i = 0; i < registry_folder_count(r); i++)
            log_warn("  %s", registry_folder(r, i));
    }
    registry_free(r);
    return GRAFT_OK;
}

const command command_plugins = {"plugins", "list the plugins that were found",
                                 "usage: graft plugins [--json]\n\n"
                                 "Lists every component of every plugin in GRAFT_PLUGIN_PATH, ~/.local/lib/graft/0, "
                                 "beside the program and where it was\n"
                                 "installed. Files that were refused are named on stderr with the reason.\n",
                                 run};
