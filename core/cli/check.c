/* graft check — everything that can be wrong with a run, before any weight is read; graft explain — every value and its origin. */
#include "base/log.h"
#include "cli/cli.h"
#include <stdio.h>

static int load(const command *c, const char *letters, int needs, int count, char **words, cli_options *o, registry **r,
                recipe **out) {
    int first;
    if (cli_parse(c, letters, NULL, NULL, NULL, count, words, 1, 1, o, &first)) return GRAFT_USAGE;
    graft_error err = {0};
    problems all = {0};
    *r = registry_create();
    recipe_load(*r, words[first], o->set, o->set_count, needs, out, &all, &err);
    problems_print(&all, stderr);
    if (err.code && !all.count) cli_fail(&err);
    problems_free(&all);
    return err.code;
}

static int run_check(int count, char **words) {
    cli_options o = {0};
    registry *r = NULL;
    recipe *settings = NULL;
    session s = {0};
    graft_error err = {0};
    int code = load(&command_check, "s", RECIPE_TRAIN, count, words, &o, &r, &settings);
    if (code == GRAFT_OK) {
        const session_request q = {.recipe = settings, .plugins = r};
        code = session_open(&q, &s, &err) ? cli_fail(&err) : GRAFT_OK;
    }
    if (code == GRAFT_OK) {
        adapt_describe(s.adapters, stderr);
        puts("ok");
    }
    session_close(&s);
    recipe_free(settings);
    registry_free(r);
    cli_free(&o);
    return code;
}

static int run_explain(int count, char **words) {
    cli_options o = {0};
    registry *r = NULL;
    recipe *settings = NULL;
    const int code = load(&command_explain, "sj", RECIPE_PLUGINS, count, words, &o, &r, &settings);
    if (code == GRAFT_OK) recipe_explain(settings, o.json, stdout);
    recipe_free(settings);
    registry_free(r);
    cli_free(&o);
    return code;
}

const command command_check = {"check", "find every mistake of an INI file without running it",
                               "usage: graft check RUN.INI [--set section.key=value]...\n\n"
                               "Reads the settings, loads the plugins, opens the model by its headers, binds the "
                               "adapters and checks every formula on\n"
                               "shapes. All mistakes of the file are reported at once, each with file and line. Exit "
                               "code 0 means `graft train` can begin.\n",
                               run_check};

const command command_explain = {"explain", "print every setting of an INI file and where it came from",
                                 "usage: graft explain RUN.INI [--set section.key=value]... [--json]\n", run_explain};
