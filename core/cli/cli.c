#include "cli/cli.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "run/base-quantizer.h"
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cli_path(const char *path) {
    return strcmp(path, "-") == 0 ? "/dev/stdin" : path;
}

int cli_fail(const graft_error *err) {
    if (err->text[0]) log_error("%s", err->text); /* empty: told already */
    return err->code;
}

int cli_load(const char *ini, const cli_options *o, registry *plugins, int parts, recipe **settings, graft_error *err) {
    problems all = {0};
    if (recipe_load(plugins, ini, o->set, o->set_count, parts, settings, &all, err) && all.count) {
        problems_print(&all, stderr);
        err->text[0] = 0;
    }
    problems_free(&all);
    return err->code;
}

int cli_open_run(const char *ini, const cli_options *o, registry *plugins, const training_options *t, recipe **settings,
                 training **run, graft_error *err) {
    return cli_load(ini, o, plugins, RECIPE_TRAIN | RECIPE_PLACES, settings, err)
               ? err->code
               : training_open(*settings, plugins, t, run, err);
}

session_request cli_request(const cli_options *o, const char *folder, registry *plugins) {
    return (session_request){.model = folder,
                             .device = o->device,
                             .precision = o->precision,
                             .threads = o->threads,
                             .folders = o->adapters,
                             .folder_count = o->adapter_count,
                             .plugins = plugins};
}

int cli_base(const cli_options *o, registry *plugins, recipe **out, graft_error *err) {
    if (!err->code && (o->quantizer || !o->ini))
        base_quantizer_choose(plugins, o->quantizer, o->adapters, o->adapter_count, out, err);
    return err->code;
}

int cli_usage(const command *c, const char *format, ...) {
    char text[1000];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    log_error("%s\nTry: graft %s --help", text, c->name);
    return GRAFT_USAGE;
}

int cli_whole(const char *option, const char *text, int64_t low, int64_t high, int64_t *out) {
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (*text && !*end && !errno && value >= low && value <= high) {
        *out = value;
        return GRAFT_OK;
    }
    log_error("%s %s: must be a whole number from %lld to %lld", option, text, (long long)low, (long long)high);
    return GRAFT_USAGE;
}

int cli_real(const char *option, const char *text, double low, double high, double *out) {
    char *end;
    const double value = strtod(text, &end);
    if (*text && !*end && value >= low && value <= high) {
        *out = value;
        return GRAFT_OK;
    }
    log_error("%s %s: must be a number from %.15g to %.15g", option, text, low, high);
    return GRAFT_USAGE;
}

int cli_free_folder(const char *folder, const cli_options *o, graft_error *err) {
    if (file_check_folder(folder, err)) return err->code;
    DIR *d = opendir(folder);
    int count = 0;
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.';
    if (d) closedir(d);
    return count && !o->overwrite
               ? fail(err, GRAFT_USAGE, "%s is not empty: choose another folder, or write over it with --overwrite",
                      folder)
               : GRAFT_OK;
}

int cli_float_type(const command *c, const char *text, dtype *out) {
    static const struct {
        const char *word;
        dtype type;
    } types[] = {
        {"f32",  F32 },
        {"bf16", BF16},
        {"f16",  F16 }
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(text, types[i].word) == 0) {
            *out = types[i].type;
            return GRAFT_OK;
        }
    return cli_usage(c, "--dtype %s: must be f32, bf16 or f16", text);
}

void cli_print_json(json_t *value) {
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY);
    putchar('\n');
    json_decref(value);
}

static const struct {
    char letter;
    struct option option;
} shared[] = {
    {'j', {"json", no_argument, NULL, 'j'}           },
    {'d', {"device", required_argument, NULL, 'd'}   },
    {'p', {"precision", required_argument, NULL, 'p'}},
    {'t', {"threads", required_argument, NULL, 't'}  },
    {'s', {"set", required_argument, NULL, 's'}      },
    {'a', {"adapter", required_argument, NULL, 'a'}  },
    {'o', {"output", required_argument, NULL, 'o'}   },
    {'i', {"input", required_argument, NULL, 'i'}    },
    {'I', {"ini", required_argument, NULL, 'I'}      },
    {'r', {"resume", no_argument, NULL, 'r'}         },
    {'w', {"overwrite", no_argument, NULL, 'w'}      },
    {'q', {"quantizer", required_argument, NULL, 'q'}},
};
enum { SHARED = sizeof shared / sizeof *shared, OPTIONS = 40 };

static int too_many(const char *option) {
    log_error("%s: at most %d times in one call", option, CLI_MOST);
    return GRAFT_USAGE;
}

static int take(cli_options *o, int val, const char *text) {
    int64_t whole = 0;
    switch (val) {
    case 'j':
        o->json = 1;
        break;
    case 'd':
        o->device = text;
        break;
    case 'p':
        o->precision = text;
        break;
    case 't':
        if (cli_whole("--threads", text, 0, 1024, &whole)) return GRAFT_USAGE;
        o->threads = (int)whole;
        break;
    case 's':
        if (o->set_count == CLI_MOST) return too_many("--set");
        o->set[o->set_count++] = text;
        break;
    case 'a':
        if (o->adapter_count == CLI_MOST) return too_many("--adapter");
        o->adapters[o->adapter_count++] = text;
        break;
    case 'o':
        o->output = text;
        break;
    case 'i':
        o->input = text;
        break;
    case 'I':
        o->ini = text;
        break;
    case 'q':
        o->quantizer = text;
        break;
    case 'r':
        o->resume = 1;
        break;
    case 'w':
        o->overwrite = 1;
        break;
    default:
        return -1;
    }
    return GRAFT_OK;
}

/* The word of the usage line that comes behind those that are there: "usage: graft eval MODEL... [--adapter". */
static int say_missing(const command *c, int have) {
    const char *word = c->help + strlen("usage: graft ") + strlen(c->name) + 1;
    for (; have > 0; have--)
        word += strcspn(word, " \n") + 1;
    const int length = (int)strcspn(word, " \n");
    return cli_usage(c, "%.*s is missing; %.*s", length, word, (int)strcspn(c->help, "\n"), c->help);
}

int cli_parse(const command *c, const char *letters, const struct option *more,
              int (*own)(void *context, int val, const char *text), void *context, int count, char **words, int least,
              int most, cli_options *out, int *first) {
    struct option table[OPTIONS] = {
        {"help", no_argument, NULL, 'h'}
    };
    int options = 1;
    for (size_t s = 0; s < SHARED; s++)
        if (strchr(letters, shared[s].letter)) table[options++] = shared[s].option;
    for (; more && more->name && options < OPTIONS - 1; more++)
        table[options++] = *more;
    *out = (cli_options){0};
    optind = 0;
    opterr = 0;
    for (int val; (val = getopt_long(count, words, strchr(letters, 'o') ? ":ho:" : ":h", table, NULL)) != -1;) {
        if (val == 'h') {
            fputs(c->help, stdout);
            exit(GRAFT_OK);
        }
        if (val == '?' || val == ':')
            return cli_usage(c, val == '?' ? "unknown option %s" : "%s needs a value", words[optind - 1]);
        const int taken = take(out, val, optarg);
        if (taken > 0 || (taken < 0 && own && own(context, val, optarg))) return GRAFT_USAGE;
    }
    *first = optind;
    const int have = count - optind;
    if (have < least) return say_missing(c, have);
    if (have > most) return cli_usage(c, "\"%s\" is one argument too many", words[optind + most]);
    return GRAFT_OK;
}
