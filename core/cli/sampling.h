/* sampling — the options by which commands that write text say how tokens are chosen. */
#ifndef GRAFT_CLI_SAMPLING_H
#define GRAFT_CLI_SAMPLING_H
#include "formats/generation-config.h"
#include "model/sample.h"
#include <getopt.h>

typedef struct {
    int64_t max_new, seed, top_k;
    int greedy;        /* 1: asked for                           */
    const char *drawn; /* the option that wants sampling; NULL and not greedy: as the file says */
    double temperature, top_p, min_p, penalty; /* negative, like top_k: as the file says */
} sampling_wishes;

#define SAMPLING_UNSET(tokens)                                                                                         \
    (sampling_wishes) {                                                                                                \
        .max_new = (tokens), .temperature = -1, .top_k = -1, .top_p = -1, .min_p = -1, .penalty = -1                   \
    }

enum {
    SAMPLING_MAX_NEW = 512,
    SAMPLING_SAMPLE,
    SAMPLING_GREEDY,
    SAMPLING_TEMPERATURE,
    SAMPLING_TOP_K,
    SAMPLING_TOP_P,
    SAMPLING_MIN_P,
    SAMPLING_PENALTY,
    SAMPLING_SEED
};

/* clang-format off */
/* Rows for the `more` of cli_parse. */
#define SAMPLING_OPTIONS                                                                                               \
    {"max-new", required_argument, NULL, SAMPLING_MAX_NEW}, {"sample", no_argument, NULL, SAMPLING_SAMPLE},            \
    {"greedy", no_argument, NULL, SAMPLING_GREEDY},                                                                    \
    {"temperature", required_argument, NULL, SAMPLING_TEMPERATURE},                                                    \
    {"top-k", required_argument, NULL, SAMPLING_TOP_K}, {"top-p", required_argument, NULL, SAMPLING_TOP_P},            \
    {"min-p", required_argument, NULL, SAMPLING_MIN_P},                                                                \
    {"repetition-penalty", required_argument, NULL, SAMPLING_PENALTY}, {"seed", required_argument, NULL, SAMPLING_SEED}
/* clang-format on */

/* One of these options; GRAFT_USAGE after telling the user. */
int sampling_option(sampling_wishes *w, int val, const char *text);
/* Arguments over the folder's generation_config.json over transformers' defaults (top_k 50 when sampling). */
sample_settings sampling_settle(const sampling_wishes *w, const generation_config *c);

#endif
