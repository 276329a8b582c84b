/* generation-config — generation_config.json of a model folder: when to stop and how to sample.
 * Source: transformers, generation/configuration_utils.py. */
#ifndef GRAFT_FORMATS_GENERATION_CONFIG_H
#define GRAFT_FORMATS_GENERATION_CONFIG_H
#include "base/error.h"
#include <stdint.h>

enum { GENERATION_EOS_MAX = 32 };

/* What the file says; a negative number = it does not say. */
typedef struct {
    int64_t eos[GENERATION_EOS_MAX];
    int32_t eos_count;
    int64_t bos, pad;
    int32_t do_sample; /* -1, 0, 1 */
    double temperature, top_p, min_p, repetition_penalty, top_h, typical_p, epsilon, eta;
    int64_t top_k; /* 0 = off */
    int64_t no_repeat_ngram, min_new_tokens, max_new_tokens, max_length;
    char ignored[400]; /* keys that change what is generated and are not read ("num_beams, bad_words_ids"); "" = none */
} generation_config;

/* Reads FOLDER/generation_config.json; without the file nothing is said. Numbers outside their bounds are errors. */
int generation_config_read(const char *folder, generation_config *out, graft_error *err);

#endif
