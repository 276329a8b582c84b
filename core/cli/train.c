/* graft train — the whole way of a run; graft plan — its first half, which reads no weight. */
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "run/progress.h"
#include "run/training.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { QUIET = 256, STOP_AFTER };

static int own(void *context, int val, const char *text) {
    training_options *o = context;
    if (val == STOP_AFTER) return cli_whole("--stop-after", text, 1, INT64_MAX, &o->stop_after);
    o->quiet = 1;
    return GRAFT_OK;
}

static const struct option more[] = {
    {"quiet", no_argument, NULL, QUIET},
    {"stop-after",   required_argument, NULL, STOP_AFTER},
    {0      }
};

static void print_numbers(const training *run, const training_result *out) {
    char memory[32], time[32];
    progress_bytes(out->peak_memory, memory);
    progress_duration(out->seconds, time);
    printf("steps       %lld of %lld, %s, peak memory %s\n", (long long)out->done, (long long)out->steps, time, memory);
    if (out->damaged) printf("left out    %lld damaged records\n", (long long)out->damaged);
    if (!isnan(out->loss)) printf("train loss  %.4f (last step)\n", out->loss);
    if (!isnan(out->eval_before) && isnan(out->eval_after))
        printf("eval loss   %.4f before\n", out->eval_before);
    else if (!isnan(out->eval_before))
        printf("eval loss   %.4f before, %.4f after\n", out->eval_before, out->eval_after);
    if (!isnan(out->sparsity)) printf("sparsity    %.1f %% of the pruned weights are zero\n", 100 * out->sparsity);
    training_sparsity(run, stdout);
    if (out->best_step) printf("best        step %lld, eval loss %.4f\n", (long long)out->best_step, out->best_loss);
}

static void print_result(const recipe *r, const training *run, const training_result *out, int quiet) {
    if (!quiet) print_numbers(run, out);
    if (out->interrupted)
        printf("stopped behind step %lld, goes on with --resume: %s\n", (long long)out->done, r->output.path);
    else
        printf("written to  %s\n", r->output.path);
}

static int run_train(int count, char **words) {
    cli_options o;
    training_options t = {0};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_train, "srwdj", more, own, &t, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (o.resume && o.overwrite)
        return cli_usage(&command_train, "--resume and --overwrite contradict each other: one goes on with the run "
                                         "that lies there, the other removes it");
    if (t.quiet) log_level_set(LOG_QUIET);
    t.resume = o.resume;
    t.overwrite = o.overwrite;
    t.device = o.device;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    training *run = NULL;
    training_result out = {0};
    if (cli_open_run(words[first], &o, plugins, &t, &settings, &run, &err) == GRAFT_OK) {
        if (!t.quiet) training_describe(run, stderr);
        if (training_run(run, &out, &err) == GRAFT_OK && o.json)
            cli_print_json(training_result_json(&out));
        else if (!err.code)
            print_result(settings, run, &out, t.quiet);
    }
    training_close(run);
    recipe_free(settings);
    registry_free(plugins);
    if (err.code) return cli_fail(&err);
    return out.signal ? 128 + out.signal : GRAFT_OK; /* as a shell reports it: what would come next does not */
}

static int run_plan(int count, char **words) {
    cli_options o;
    training_options t = {.plan_only = 1};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_plan, "sdj", NULL, NULL, NULL, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    t.device = o.device;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    training *run = NULL;
    if (cli_open_run(words[first], &o, plugins, &t, &settings, &run, &err) == GRAFT_OK) {
        const plan *p = training_plan(run);
        if (o.json) {
            cli_print_json(plan_json(p));
        } else {
            training_describe(run, stdout);
            plan_print(p, stdout);
        }
        plan_check(p, &err);
    }
    training_close(run);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_train = {
    "train", "fine-tune a model as an INI file says",
    "usage: graft train RUN.INI [--set section.key=value]... [--resume | --overwrite] [--device D] [--quiet] [--json]\n"
    "                   [--stop-after STEP]\n\n"
    "Writes the adapter (or the model, where base weights are trained), metrics.jsonl, run.ini and checkpoints to\n"
    "[output] path.\n"
    "Ctrl-C or SIGTERM ends the run after its step, with a checkpoint and exit code 130 or 143, so that a script does\n"
    "not go on; --resume continues it and gives the bytes an uninterrupted run gives. --stop-after ends the same way\n"
    "with exit code 0.\n"
    "--quiet prints errors and the last line alone.\n"
    "graft help train lists the keys of [train], graft help NAME those of a plugin.\n",
    run_train};

const command command_plan = {
    "plan", "show what a run will take before any weight is read",
    "usage: graft plan RUN.INI [--set section.key=value]... [--device D] [--json]\n\n"
    "Prints bytes by class and whether they fit into memory (exit code 1 when they do not).\n",
    run_plan};
