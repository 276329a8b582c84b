#include "model/generate.h"
#include "base/memory.h"
#include "model/pass.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int is_stop(const generate_call *call, int32_t id) {
    for (int32_t s = 0; s < call->stop_count; s++)
        if (call->stops[s] == id) return 1;
    return 0;
}

static int check_finite(const float *logits, int64_t vocab, int64_t position, graft_error *err) {
    for (int64_t i = 0; i < vocab; i++)
        if (isnan(logits[i]))
            return fail(err, GRAFT_FAILED,
                        "the logit of token %lld behind position %lld is not a number: the weights are damaged",
                        (long long)i, (long long)position);
    return GRAFT_OK;
}

int generate_run(kv_cache *c, const generate_call *call, int32_t *ids, int64_t *count, generate_end *end,
                 graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    const int64_t vocab = cache_vocab(c), prompt = call->prompt_count;
    sampler *s = sampler_create(vocab);
    float *logits = mem_new((size_t)vocab, sizeof *logits);
    int32_t *all = mem_new((size_t)(prompt + call->max_new_tokens + 1), sizeof *all);
    generate_end why = GENERATE_LENGTH;
    *count = 0;
    cache_clear(c);
    memcpy(all, call->prompt, (size_t)prompt * sizeof *all);
    sample_history h = {
        .ids = all, .count = prompt, .prompt = prompt, .stops = call->stops, .stop_count = call->stop_count};
    if (call->max_new_tokens > 0 && cache_append(c, all, prompt, logits, err)) goto done;
    while (*count < call->max_new_tokens) {
        if (check_finite(logits, vocab, h.count - 1, err)) goto done;
        const int32_t id = sample_next(s, &call->settings, &h, logits);
        all[h.count++] = ids[(*count)++] = id;
        why = is_stop(call, id) ? GENERATE_STOP : GENERATE_LENGTH;
        if (call->token && call->token(call->context, id) && why == GENERATE_LENGTH) why = GENERATE_CALLER;
        if (why != GENERATE_LENGTH || *count == call->max_new_tokens) break;
        if (cache_append(c, &id, 1, logits, err)) goto done;
    }
done:
    if (end) *end = why;
    free(all);
    free(logits);
    sampler_free(s);
    return err->code;
}
