/* graft data — the label doctor: what a run will see of its data. */
#include "cli/cli.h"
#include "run/doctor.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHOW = 256 };

static int own(void *context, int val, const char *text) {
    (void)val;
    return cli_whole("--show", text, 0, INT64_MAX, context);
}

static int look(const recipe *r, const cli_options *o, int64_t show, graft_error *err) {
    data_source *data = NULL;
    json_t *report = NULL;
    const char *const plain = getenv("NO_COLOR");
    if (strcmp(r->data.loader, "tensors") == 0)
        return fail(err, GRAFT_USAGE,
                    "[data] loader = tensors: fixed batches hold ids and labels, not texts to look at");
    if (data_text_open(r, r->model.path, &data, err)) return err->code;
    data_text_tell(data, 0);
    if (!o->json)
        doctor_print(r, data, show, isatty(STDOUT_FILENO) && !(plain && *plain), stdout, err);
    else if (doctor_json(r, data, show, &report, err) == GRAFT_OK)
        cli_print_json(report);
    else
        json_decref(report);
    data->close(data);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"show", required_argument, NULL, SHOW},
        {0 }
    };
    cli_options o;
    int64_t show = 3;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_data, "sj", more, own, &show, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    if (cli_load(words[first], &o, plugins, RECIPE_MODEL | RECIPE_DATA, &settings, &err) == GRAFT_OK)
        look(settings, &o, show, &err);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_data = {
    "data", "show what a run will learn from its data",
    "usage: graft data RUN.INI [--show 3] [--set section.key=value]... [--json]\n\n"
    "Says what each file is, counts what is learned, cut and dropped, and shows the first samples of each: what\n"
    "is learned is green (between [[ and ]] where there are no colours), what is only seen is grey, what is cut\n"
    "off red. No weight is read. With --json each sample has its text, ids, labels and mask.\n",
    run};
