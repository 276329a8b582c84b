/* graft init — a model folder with random weights from a config.json: for pretraining from scratch, benchmarks and tests. */
#include "base/file.h"
#include "cli/cli.h"
#include <stdio.h>

enum { SEED = 256, DTYPE, SHARD };
typedef struct {
    int64_t seed;
    dtype type;
} init_options;

static int own(void *context, int val, const char *text) {
    init_options *o = context;
    if (val == SEED) return cli_whole("--seed", text, 0, INT64_MAX, &o->seed);
    return cli_float_type(&command_init, text, &o->type);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"seed", required_argument, NULL, SEED},
        {"dtype",  required_argument, NULL, DTYPE},
        {0     }
    };
    cli_options o;
    init_options own_options = {.type = DTYPE_COUNT};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_init, "otw", more, own, &own_options, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (!o.output) return cli_usage(&command_init, "-o FOLDER is missing: where the model goes");
    team *threads = team_create(o.threads);
    kernels *device = NULL;
    model *m = NULL;
    if (cli_free_folder(o.output, &o, &err) == GRAFT_OK && kernels_open("cpu", threads, &device, &err) == GRAFT_OK &&
        model_open_config(words[first], &m, &err) == GRAFT_OK && file_make_folders(o.output, &err) == GRAFT_OK &&
        model_randomize(m, device, (uint64_t)own_options.seed, &err) == GRAFT_OK &&
        model_save(m, o.output, own_options.type, INT64_MAX, &err) == GRAFT_OK)
        printf("%s\n", o.output);
    model_close(m);
    if (device) device->close(device);
    team_destroy(threads);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_init = {
    "init", "make a model folder with random weights from a config.json",
    "usage: graft init CONFIG_FOLDER -o FOLDER [--seed N] [--dtype f32|bf16|f16] [--overwrite]\n\n"
    "CONFIG_FOLDER holds config.json (a tokenizer beside it is copied). Weights are normal(0, initializer_range), "
    "norms\n"
    "neutral, biases zero: a function of the seed and the tensor's name. Without --dtype: as config.json says.\n",
    run};
