/* sampling — see sampling.h. */
#include "cli/sampling.h"
#include "base/log.h"
#include "cli/cli.h"

/* The option that wants tokens to be drawn; NULL: `val` does not. */
static const char *draws(int val) {
    switch (val) {
    case SAMPLING_SAMPLE:
        return "--sample";
    case SAMPLING_TEMPERATURE:
        return "--temperature";
    case SAMPLING_TOP_K:
        return "--top-k";
    case SAMPLING_TOP_P:
        return "--top-p";
    case SAMPLING_MIN_P:
        return "--min-p";
    default:
        return NULL;
    }
}

int sampling_option(sampling_wishes *w, int val, const char *text) {
    if (draws(val)) w->drawn = draws(val);
    w->greedy |= val == SAMPLING_GREEDY;
    if (w->greedy && w->drawn) {
        log_error("--greedy always takes the best token, %s wants one to be drawn: give one of the two", w->drawn);
        return GRAFT_USAGE;
    }
    switch (val) {
    case SAMPLING_MAX_NEW:
        return cli_whole("--max-new", text, 1, 1 << 20, &w->max_new);
    case SAMPLING_TEMPERATURE:
        return cli_real("--temperature", text, 1e-4, 100, &w->temperature);
    case SAMPLING_TOP_K:
        return cli_whole("--top-k", text, 0, INT32_MAX, &w->top_k);
    case SAMPLING_TOP_P:
        return cli_real("--top-p", text, 0, 1, &w->top_p);
    case SAMPLING_MIN_P:
        return cli_real("--min-p", text, 0, 1, &w->min_p);
    case SAMPLING_PENALTY:
        return cli_real("--repetition-penalty", text, 1e-3, 100, &w->penalty);
    case SAMPLING_SEED:
        return cli_whole("--seed", text, 0, INT64_MAX, &w->seed);
    default:
        return GRAFT_OK;
    }
}

sample_settings sampling_settle(const sampling_wishes *w, const generation_config *c) {
    sample_settings s = sample_greedy();
    s.sample = w->drawn || (!w->greedy && c->do_sample == 1);
    s.temperature = w->temperature >= 0 ? w->temperature : c->temperature > 0 ? c->temperature : 1;
    s.top_k = w->top_k >= 0 ? w->top_k : c->top_k >= 0 ? c->top_k : 50;
    s.top_p = w->top_p >= 0 ? w->top_p : c->top_p >= 0 ? c->top_p : 1;
    s.min_p = w->min_p >= 0 ? w->min_p : c->min_p >= 0 ? c->min_p : 0;
    s.repetition_penalty = w->penalty > 0 ? w->penalty : c->repetition_penalty > 0 ? c->repetition_penalty : 1;
    if (c->no_repeat_ngram > 0) s.no_repeat_ngram = c->no_repeat_ngram;
    if (c->min_new_tokens > 0) s.min_new_tokens = c->min_new_tokens;
    if (c->top_h > 0) s.top_h = c->top_h;
    if (c->typical_p > 0) s.typical_p = c->typical_p;
    if (c->epsilon > 0) s.epsilon = c->epsilon;
    if (c->eta > 0) s.eta = c->eta;
    s.seed = (uint64_t)w->seed;
    return s;
}
