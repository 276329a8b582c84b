/* graft merge --combine — several LoRAs of one base into one. graft extract — a LoRA out of a model that was fine-tuned whole. */
#include "run/combine.h"
#include "base/json.h"
#include "cli/cli.h"
#include "run/base-quantizer.h"
#include <stdio.h>
#include <string.h>

enum { COMBINE = 256, WEIGHTS, DENSITY, RANK, SEED };
enum { WEIGHTS_MOST = 64 };

typedef struct {
    combine_how how;
    double weights[WEIGHTS_MOST];
    int count;
    int64_t seed;
} wishes;

static int read_rule(wishes *w, const char *text) {
    static const char *const words[] = {
        [COMBINE_LINEAR] = "linear", [COMBINE_TIES] = "ties", [COMBINE_DARE] = "dare", [COMBINE_SVD] = "svd"};
    for (int r = 0; r < 4; r++)
        if (strcmp(text, words[r]) == 0) {
            w->how.rule = (combine_rule)r;
            return GRAFT_OK;
        }
    return cli_usage(&command_merge, "--combine %s: must be linear, ties, dare or svd", text);
}

/* "0.7,0.3" */
static int read_weights(wishes *w, const char *text) {
    char one[64];
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        snprintf(one, sizeof one, "%.*s", (int)strcspn(at, ","), at);
        if (w->count == WEIGHTS_MOST) return cli_usage(&command_merge, "--weights: at most %d", WEIGHTS_MOST);
        if (cli_real("--weights", one, -1e6, 1e6, &w->weights[w->count++])) return GRAFT_USAGE;
    }
    return GRAFT_OK;
}

static int own(void *context, int val, const char *text) {
    wishes *const w = context;
    switch (val) {
    case COMBINE:
        return read_rule(w, text);
    case WEIGHTS:
        return read_weights(w, text);
    case DENSITY:
        return cli_real("--density", text, 1e-6, 1, &w->how.density);
    case RANK:
        return cli_whole("--rank", text, 1, 65536, &w->how.rank);
    default:
        return cli_whole("--seed", text, 0, INT64_MAX, &w->seed);
    }
}

/* What cannot be meant. */
static int check_wishes(const wishes *w, const cli_options *o) {
    const combine_rule rule = w->how.rule;
    if (!o->output || !o->adapter_count)
        return cli_usage(&command_merge, "%s is missing", o->output ? "--adapter DIR" : "-o FOLDER");
    if (o->adapter_count > WEIGHTS_MOST) return cli_usage(&command_merge, "at most %d adapters", WEIGHTS_MOST);
    if (w->count && w->count != o->adapter_count)
        return cli_usage(&command_merge, "--weights gives %d numbers for %d adapters", w->count, o->adapter_count);
    if (w->how.density < 1 && rule != COMBINE_TIES && rule != COMBINE_DARE)
        return cli_usage(&command_merge, "--density belongs to ties and dare");
    if (w->how.rank && rule != COMBINE_SVD) return cli_usage(&command_merge, "--rank belongs to svd");
    return GRAFT_OK;
}

static void print_combined(const combine_report *r, const cli_options *o) {
    if (o->json) {
        cli_print_json(json_pack("{s:s, s:I, s:I, s:f, s:I}", "path", o->output, "sites", (json_int_t)r->sites, "rank",
                                 (json_int_t)r->rank, "kept", r->kept, "ignored", (json_int_t)r->ignored));
        return;
    }
    printf("rank %lld at %lld layers holds %.2f %% of the change\n", (long long)r->rank, (long long)r->sites,
           100 * r->kept);
    if (r->ignored)
        printf("%lld other tensors changed too, which a LoRA of linear layers does not hold\n", (long long)r->ignored);
    printf("written to %s\n", o->output);
}

int cli_combine(int count, char **words) {
    static const struct option more[] = {
        {"combine",          required_argument, NULL, COMBINE},
        {"weights",              required_argument, NULL, WEIGHTS},
        {"density",                  required_argument, NULL, DENSITY},
        {"rank",required_argument, NULL, RANK},
        {"seed",           required_argument, NULL, SEED},
        {0         }
    };
    cli_options o;
    wishes w = {.how.density = 1};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_merge, "aojtw", more, own, &w, count, words, 1, 1, &o, &first) || check_wishes(&w, &o))
        return GRAFT_USAGE;
    for (int n = w.count; n < o.adapter_count; n++)
        w.weights[n] = 1;
    w.how.weights = w.weights;
    w.how.seed = (uint64_t)w.seed;
    if (cli_free_folder(o.output, &o, &err)) return cli_fail(&err);
    registry *plugins = registry_create();
    recipe *base = NULL;
    session s = {0};
    combine_report report = {0};
    base_quantizer_choose(plugins, NULL, o.adapters, o.adapter_count, &base, &err);
    session_request q = cli_request(&o, words[first], plugins);
    q.precision = "f32";
    if (!err.code && session_open(&q, &s, &err) == GRAFT_OK && session_load(&s, 0, &err) == GRAFT_OK &&
        combine_write(&s, plugins, &w.how, o.output, &report, &err) == GRAFT_OK &&
        (!base || base_quantizer_write(base, o.output, &err) == GRAFT_OK))
        print_combined(&report, &o);
    session_close(&s);
    recipe_free(base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

/* ---- extract ---- */

static int extract_own(void *context, int val, const char *text) {
    (void)val;
    return cli_whole("--rank", text, 1, 65536, context);
}

static int run_extract(int count, char **words) {
    static const struct option more[] = {
        {"rank", required_argument, NULL, RANK},
        {0 }
    };
    cli_options o;
    int64_t rank = 16;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_extract, "ojtw", more, extract_own, &rank, count, words, 2, 2, &o, &first))
        return GRAFT_USAGE;
    if (!o.output) return cli_usage(&command_extract, "-o FOLDER is missing");
    if (cli_free_folder(o.output, &o, &err)) return cli_fail(&err);
    registry *plugins = registry_create();
    session base = {0}, tuned = {0};
    combine_report report = {0};
    const session_request of_base = {.model = words[first], .precision = "f32", .threads = o.threads};
    const session_request of_tuned = {.model = words[first + 1], .precision = "f32", .threads = o.threads};
    if (session_open(&of_base, &base, &err) == GRAFT_OK && session_load(&base, 0, &err) == GRAFT_OK &&
        session_open(&of_tuned, &tuned, &err) == GRAFT_OK && session_load(&tuned, 0, &err) == GRAFT_OK &&
        combine_extract(&base, &tuned, plugins, rank, o.output, &report, &err) == GRAFT_OK)
        print_combined(&report, &o);
    session_close(&tuned);
    session_close(&base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_extract = {
    "extract", "make a LoRA out of a model that was fine-tuned whole",
    "usage: graft extract BASE TUNED -o FOLDER [--rank 16] [--overwrite] [--json]\n\n"
    "Writes the largest directions of TUNED - BASE of every linear layer as a LoRA of BASE, and says how much of the "
    "change\nthe rank holds. Embeddings, norms and biases that changed are counted and left out.\n",
    run_extract};
