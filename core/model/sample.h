/* sample — from logits to the next token: transformers' processors, in its order, on host f32.
 *
 *   repetition_penalty, no_repeat_ngram, bad_words, min_new_tokens, suppress          always
 *   temperature, top_h, top_k, top_p, min_p, typical_p, epsilon, eta                  only when sampling
 * Source: transformers, generation/logits_process.py. A removed token has the score -infinity; every rule keeps at least
 * the best one. Each rule is a function of its own, so that it can be compared with the reference alone. */
#ifndef GRAFT_MODEL_SAMPLE_H
#define GRAFT_MODEL_SAMPLE_H
#include <stdint.h>

/* Everything borrowed. */
typedef struct {
    double repetition_penalty;       /* 1 = off */
    int64_t no_repeat_ngram;         /* 0 = off */
    const int32_t *const *bad_words; /* sequences of ids that must not appear */
    const int32_t *bad_word_lengths;
    int32_t bad_word_count;
    int64_t min_new_tokens;  /* no stop id before */
    const int32_t *suppress; /* ids that never appear */
    int32_t suppress_count;

    int32_t sample;      /* 0: the best token (greedy); then what follows is not used */
    double temperature;  /* 1 = off, above 0 */
    double top_h;        /* 0 = off: entropy share of the best 100; Potraghloo et al., 2025, arXiv:2509.02510 */
    int64_t top_k;       /* 0 = off */
    double top_p;        /* 1 = off; Holtzman et al., 2020, arXiv:1904.09751 */
    double min_p;        /* 0 = off; Nguyen et al., 2024, arXiv:2407.01082 */
    double typical_p;    /* 1 = off; Meister et al., 2022, arXiv:2202.00666 */
    double epsilon, eta; /* 0 = off; Hewitt et al., 2022, arXiv:2210.15191 */
    uint64_t seed;
} sample_settings;

sample_settings sample_greedy(void); /* everything off */

/* Scratch for one vocabulary. */
typedef struct sampler sampler;
sampler *sampler_create(int64_t vocab);
void sampler_free(sampler *s);

/* What was said so far: `count` ids, the first `prompt` of which are the prompt; stops: ids that end the text. */
typedef struct {
    const int32_t *ids;
    int64_t count, prompt;
    const int32_t *stops;
    int32_t stop_count;
} sample_history;

/* Applies every rule that is on to scores (vocab). */
void sample_process(sampler *s, const sample_settings *settings, const sample_history *h, float *scores);
/* Processes and takes a token: the best one (lowest id of equals), or a draw that is a pure function of seed and h->count. */
int32_t sample_next(sampler *s, const sample_settings *settings, const sample_history *h, float *scores);

/* The rules. */
void sample_repetition_penalty(sampler *s, float *scores, const int32_t *ids, int64_t count, double penalty);
void sample_no_repeat_ngram(sampler *s, float *scores, const int32_t *ids, int64_t count, int64_t n);
void sample_bad_words(sampler *s, float *scores, const sample_settings *settings, const sample_history *h);
void sample_suppress(sampler *s, float *scores, const int32_t *ids, int32_t count);
void sample_temperature(sampler *s, float *scores, double temperature);
void sample_top_h(sampler *s, float *scores, double share);
void sample_top_k(sampler *s, float *scores, int64_t k);
void sample_top_p(sampler *s, float *scores, double p);
void sample_min_p(sampler *s, float *scores, double share);
void sample_typical_p(sampler *s, float *scores, double mass);
void sample_epsilon(sampler *s, float *scores, double epsilon);
void sample_eta(sampler *s, float *scores, double epsilon);

#endif
