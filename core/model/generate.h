/* generate — text from prompts: prefill, then token by token with the key/value cache, several texts at a time. */
#ifndef GRAFT_MODEL_GENERATE_H
#define GRAFT_MODEL_GENERATE_H
#include "model/model.h"
#include "model/sample.h"

typedef enum { GENERATE_STOP, GENERATE_LENGTH, GENERATE_CALLER } generate_end;

typedef struct {
    const int32_t *prompt;
    int64_t prompt_count; /* at least 1 */
    int64_t max_new_tokens;
    const int32_t *stops; /* ids that end the text; the one that came is among the tokens */
    int32_t stop_count;
    sample_settings settings;
    int keep; /* 1: what the cache holds of the prompt already is not computed again (cache_keep) */
    /* Called with each new token; returns 0 to go on. NULL allowed. */
    int (*token)(void *context, int32_t id);
    void *context;
} generate_call;

/* Writes the new ids (room for max_new_tokens) and their number, and why it ended (may be NULL). The cache is cleared first,
 * unless `keep`, and holds prompt and answer but the last token behind. Where the model's positions or the cache end, so does the
 * text, by GENERATE_LENGTH. Errors: a prompt that is empty, longer than the cache, or (GRAFT_USAGE) than the model's positions. */
int generate_run(kv_cache *c, const generate_call *call, int32_t *ids, int64_t *count, generate_end *end,
                 graft_error *err);

/* The same for many prompts, as many at a time as the cache has sequences: a place that becomes free takes the next prompt. What
 * comes out for one is what generate_run gives for it alone: nothing depends on its neighbours. `done` (may be NULL) is told of each
 * in the order in which they end. */
typedef struct {
    int32_t *ids; /* room for max_new_tokens; the caller's */
    int64_t count;
    generate_end end;
} generate_result;
int generate_all(kv_cache *c, const generate_call *calls, generate_result *results, int64_t count,
                 void (*done)(void *context, int64_t i), void *context, graft_error *err);

#endif
