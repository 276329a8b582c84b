/* generation-config — the few keys that matter, and the names of those that would. */
#include "formats/generation-config.h"
#include "base/file.h"
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_eos(const json_t *root, const char *what, generation_config *out, graft_error *err) {
    const json_t *const value = json_object_get(root, "eos_token_id");
    if (!value || json_is_null(value)) return GRAFT_OK;
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > GENERATION_EOS_MAX)
        return fail(err, GRAFT_FAILED, "%s: \"eos_token_id\" has %zu ids; at most %d are read", what, count,
                    GENERATION_EOS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *const id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return fail(err, GRAFT_FAILED, "%s: \"eos_token_id\" must be an id from 0 on, or a list of them", what);
        out->eos[out->eos_count++] = json_integer_value(id);
    }
    return GRAFT_OK;
}

static int read_number(const json_t *root, const char *what, const char *key, double least, double most, double *out,
                       graft_error *err) {
    const int rc = json_get_real(root, what, key, -1, out, err);
    const json_t *const value = json_object_get(root, key);
    if (rc != GRAFT_OK || !value || json_is_null(value) || (*out >= least && *out <= most)) return rc;
    return fail(err, GRAFT_FAILED, "%s: \"%s\" is %g; a number from %g to %g is wanted", what, key, *out, least, most);
}

static int read_count(const json_t *root, const char *what, const char *key, int64_t *out, graft_error *err) {
    const int rc = json_get_int(root, what, key, -1, out, err);
    if (rc != GRAFT_OK || *out >= -1) return rc; /* -1 stands for none in some files */
    return fail(err, GRAFT_FAILED, "%s: \"%s\" is %lld; a whole number from 0 on is wanted", what, key,
                (long long)*out);
}

/* Keys that transformers would act on, with the value at which they do nothing. */
static void note_ignored(const json_t *root, generation_config *out) {
    static const struct {
        const char *key;
        double neutral;
    } keys[] = {
        {"num_beams",                        1},
        {"num_beam_groups",                  1},
        {"penalty_alpha",                    0},
        {"min_length",                       0},
        {"guidance_scale",                   1},
        {"bad_words_ids",                    0},
        {"suppress_tokens",                  0},
        {"begin_suppress_tokens",            0},
        {"forced_bos_token_id",              0},
        {"forced_eos_token_id",              0},
        {"sequence_bias",                    0},
        {"stop_strings",                     0},
        {"watermarking_config",              0},
        {"exponential_decay_length_penalty", 0}
    };
    size_t length = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *const value = json_object_get(root, keys[i].key);
        const int empty = !value || json_is_null(value) || json_is_false(value) ||
                          (json_is_array(value) && json_array_size(value) == 0) ||
                          (json_is_number(value) && json_number_value(value) == keys[i].neutral);
        if (!empty && length < sizeof out->ignored)
            length += (size_t)snprintf(out->ignored + length, sizeof out->ignored - length, "%s%s", length ? ", " : "",
                                       keys[i].key);
    }
}

static int read_keys(const json_t *root, const char *what, generation_config *out, graft_error *err) {
    int rc = read_eos(root, what, out, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "bos_token_id", &out->bos, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "pad_token_id", &out->pad, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "top_k", &out->top_k, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "max_new_tokens", &out->max_new_tokens, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "max_length", &out->max_length, err);
    if (rc == GRAFT_OK) rc = json_get_bool(root, what, "do_sample", -1, &out->do_sample, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "temperature", 0, 1e6, &out->temperature, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "top_p", 0, 1, &out->top_p, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "min_p", 0, 1, &out->min_p, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "repetition_penalty", 1e-6, 1e6, &out->repetition_penalty, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "no_repeat_ngram_size", &out->no_repeat_ngram, err);
    if (rc == GRAFT_OK) rc = read_count(root, what, "min_new_tokens", &out->min_new_tokens, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "top_h", 0, 1, &out->top_h, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "typical_p", 0, 1, &out->typical_p, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "epsilon_cutoff", 0, 1, &out->epsilon, err);
    if (rc == GRAFT_OK) rc = read_number(root, what, "eta_cutoff", 0, 1, &out->eta, err);
    if (rc == GRAFT_OK) note_ignored(root, out);
    return rc;
}

int generation_config_read(const char *folder, generation_config *out, graft_error *err) {
    *out = (generation_config){.bos = -1,
                               .pad = -1,
                               .do_sample = -1,
                               .temperature = -1,
                               .top_p = -1,
                               .min_p = -1,
                               .repetition_penalty = -1,
                               .top_h = -1,
                               .typical_p = -1,
                               .epsilon = -1,
                               .eta = -1,
                               .no_repeat_ngram = -1,
                               .min_new_tokens = -1,
                               .top_k = -1,
                               .max_new_tokens = -1,
                               .max_length = -1};
    char *const path = path_join(folder, "generation_config.json");
    json_t *root = NULL;
    int rc = GRAFT_OK;
    if (file_exists(path)) {
        rc = json_read_file(path, 0, &root, err);
        if (rc == GRAFT_OK && !json_is_object(root)) rc = fail(err, GRAFT_FAILED, "%s: is not a JSON object", path);
        if (rc == GRAFT_OK) rc = read_keys(root, path, out, err);
    }
    json_decref(root);
    free(path);
    return rc;
}
