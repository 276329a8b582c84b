/* cli — the commands of the program. Results go to stdout, progress and messages to stderr; a command returns its exit code:
 * 0 done, 1 failed, 2 wrong usage or configuration. */
#ifndef GRAFT_CLI_CLI_H
#define GRAFT_CLI_CLI_H
#include "base/error.h"
#include "run/session.h"
#include "run/training.h"
#include <getopt.h>

typedef struct {
    const char *name, *brief, *help;     /* help: usage line and options, as `graft NAME --help` prints them */
    int (*run)(int count, char **words); /* words[0] is the command's name */
} command;

extern const command command_train, command_eval, command_generate, command_chat, command_merge, command_quantize,
    command_plan, command_check, command_data, command_explain, command_help, command_plugins, command_inspect,
    command_init, command_render, command_tokenize, command_probe;
extern const command command_extract;
int cli_is_explained(const char *name);   /* 1: graft help knows it as a plugin or a section */
int cli_combine(int count, char **words); /* graft merge --combine */
extern const command *const commands[];   /* NULL-terminated, in the order `graft --help` lists them */

/* ---- options that several commands share ---- */
enum { CLI_MOST = 128 }; /* of --set and of --adapter in one call */
typedef struct {
    int json, resume, overwrite;
    const char *device, *precision, *output, *input, *ini, *quantizer;
    int threads;
    const char *set[CLI_MOST]; /* --set section.key=value */
    int set_count;
    const char *adapters[CLI_MOST]; /* --adapter DIR */
    int adapter_count;
} cli_options;

/* Letters of the shared options a command takes: j json, d device, p precision, t threads, s set, a adapter, o output, i input,
 * I ini, r resume, w overwrite, q quantizer. `more` are the command's own (getopt_long's struct, ended by a zero row; their val >= 256);
 * own() gets them. Positional words are left in words[*first..count-1]. GRAFT_USAGE after telling the user. */
int cli_parse(const command *c, const char *letters, const struct option *more,
              int (*own)(void *context, int val, const char *text), void *context, int count, char **words, int least,
              int most, cli_options *out, int *first);

/* The settings of an INI file with --set (parts: RECIPE_...); everything wrong with the file is told at once. */
int cli_load(const char *ini, const cli_options *o, registry *plugins, int parts, recipe **settings, graft_error *err);
/* Settings and plan of such a file. */
int cli_open_run(const char *ini, const cli_options *o, registry *plugins, const training_options *t, recipe **settings,
                 training **run, graft_error *err);

/* A session of the model as the shared options say: device, precision, threads, adapters. */
session_request cli_request(const cli_options *o, const char *folder, registry *plugins);
/* How the base is quantized, when no INI says it: by --quantizer, else as the adapters remember. *out is NULL or the caller's. */
int cli_base(const cli_options *o, registry *plugins, recipe **out, graft_error *err);

const char *cli_path(const char *path); /* "-" is stdin */
int cli_fail(const graft_error *err);   /* prints the error, returns its code */
int cli_usage(const command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_whole(const char *option, const char *text, int64_t low, int64_t high,
              int64_t *out); /* 0, or GRAFT_USAGE told */
int cli_real(const char *option, const char *text, double low, double high, double *out);
/* GRAFT_USAGE when a command would write over what lies in `folder` and --overwrite was not given. */
int cli_free_folder(const char *folder, const cli_options *o, graft_error *err);
int cli_float_type(const command *c, const char *text, dtype *out); /* f32, bf16, f16 */
void cli_print_json(json_t *value);                                 /* on stdout, indented; takes the reference */

#endif
