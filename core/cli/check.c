/* graft check — everything that can be wrong with a run, before any weight is read; graft explain — every value and its origin. */
#include "base/log.h"
#include "cli/cli.h"
#include "run/output.h"
#include <stdio.h>
#include <stdlib.h>

static int run_check(int count, char **words) {
    cli_options o;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_check, "s", NULL, NULL, NULL, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    const training_options look = {.plan_only = 1};
    registry *plugins = registry_create();
    recipe *settings = NULL;
    training *run = NULL;
    char *checkpoint = NULL;
    if (cli_open_run(words[first], &o, plugins, &look, &settings, &run, &err) == GRAFT_OK &&
        output_check(settings, 1, 0, &checkpoint, &err) == GRAFT_OK &&
        plan_check(training_plan(run), &err) == GRAFT_OK &&
        plan_check_disk(training_plan(run), settings->output.path, &err) == GRAFT_OK) {
        training_describe(run, stderr);
        puts(checkpoint ? "ok; a run lies there already, which --resume or --overwrite is for" : "ok");
    }
    free(checkpoint);
    training_close(run);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

static int run_explain(int count, char **words) {
    cli_options o;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_explain, "sj", NULL, NULL, NULL, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    if (cli_load(words[first], &o, plugins, RECIPE_PLUGINS, &settings, &err) == GRAFT_OK)
        recipe_explain(settings, o.json, stdout);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_check = {
    "check", "find every mistake of an INI file without running it",
    "usage: graft check RUN.INI [--set section.key=value]...\n\n"
    "Reads the settings, loads the plugins, opens the model by its headers, binds the "
    "adapters, checks every formula\n"
    "on shapes, and whether memory and disk have room. All mistakes of the file are reported "
    "at once, each\n"
    "with file and line. Exit code 0 means `graft train` can begin.\n",
    run_check};

const command command_explain = {"explain", "print every setting of an INI file and where it came from",
                                 "usage: graft explain RUN.INI [--set section.key=value]... [--json]\n", run_explain};
