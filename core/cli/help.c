/* graft help — the option tables, for people or as the lines of an INI. */
#include "cli/cli.h"
#include "config/option.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int own(void *context, int val, const char *text) {
    (void)val;
    (void)text;
    *(int *)context = 1;
    return GRAFT_OK;
}

static void print_options(const graft_option *rows, int count, int ini) {
    strbuf out = {0};
    if (ini)
        option_ini(rows, count, &out);
    else
        option_help(rows, count, &out);
    if (out.text) fputs(out.text, stdout);
    strbuf_free(&out);
}

static void print_component(const plugin_component *c, int ini) {
    if (ini) {
        printf("[%s]\nplugin = %s\n", plugin_kind_word(c->kind), c->name);
    } else {
        printf("%s (%s): %s\n", c->name, plugin_kind_word(c->kind), c->doc);
        if (*c->paper) printf("paper: %s\n", c->paper);
        printf("file:  %s\n", c->file);
        puts(c->option_count ? "\noptions:" : "\nno options of its own");
    }
    print_options(c->options, c->option_count, ini);
    int core = 0;
    const graft_option *rows = recipe_table(plugin_kind_word(c->kind), &core);
    if (rows && !ini) {
        printf("\nand the keys of every [%s]:\n", plugin_kind_word(c->kind));
        print_options(rows, core, 0);
    }
}

static int print_unknown(registry *r, const char *name) {
    const char **names = mem_new((size_t)registry_count(r) + 40, sizeof *names);
    int known = 0;
    for (int i = 0; i < registry_count(r); i++)
        names[known++] = registry_at(r, i)->name;
    for (int i = 0; commands[i]; i++)
        names[known++] = commands[i]->name;
    const char *near = nearest_name(name, names, known);
    const int code = cli_usage(&command_help, "there is no plugin, section or command \"%s\"%s%s%s", name,
                               near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    free(names);
    return code;
}

int cli_is_explained(const char *name) {
    int found = 0;
    registry *const r = registry_create();
    registry_open_all(r);
    for (int i = 0; i < registry_count(r); i++)
        found |= strcmp(registry_at(r, i)->name, name) == 0;
    registry_free(r);
    return found || recipe_table(name, &(int){0});
}

static int explain_name(registry *r, const char *name, int ini) {
    for (int i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0 && !ini) {
            fputs(commands[i]->help, stdout);
            return GRAFT_OK;
        }
    int rows = 0, found = 0;
    const graft_option *table = recipe_table(name, &rows);
    if (table) {
        printf("[%s]\n", name);
        print_options(table, rows, ini);
        found = 1;
    }
    registry_open_all(r);
    for (int i = 0; i < registry_count(r); i++)
        if (strcmp(registry_at(r, i)->name, name) == 0) {
            print_component(registry_at(r, i), ini);
            found = 1;
        }
    return found ? GRAFT_OK : print_unknown(r, name);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"ini", no_argument, NULL, 256},
        {0}
    };
    cli_options o;
    int first, ini = 0;
    if (cli_parse(&command_help, "", more, own, &ini, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *r = registry_create();
    const int code = explain_name(r, words[first], ini);
    registry_free(r);
    return code;
}

const command command_help = {"help", "explain a plugin, a section or a command",
                              "usage: graft help NAME [--ini]\n\n"
                              "NAME is a plugin (lora), a section of the INI (train) or a command (train). Prints "
                              "every option with its default and its\n"
                              "bounds; --ini prints them as commented lines to paste into an INI file.\n",
                              run};
