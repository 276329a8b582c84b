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

/* A text at work: its place in the cache, and all of its ids. */
typedef struct {
    const generate_call *call;
    generate_result *out;
    int32_t *all;
    sample_history h;
    int64_t number;
} writer;

static writer writer_begin(const generate_call *call, generate_result *out, int64_t number) {
    const int64_t prompt = call->prompt_count;
    writer w = {.call = call, .out = out, .number = number};
    w.all = mem_new((size_t)(prompt + call->max_new_tokens + 1), sizeof *w.all);
    memcpy(w.all, call->prompt, (size_t)prompt * sizeof *w.all);
    w.h = (sample_history){
        .ids = w.all, .count = prompt, .prompt = prompt, .stops = call->stops, .stop_count = call->stop_count};
    return w;
}

/* Takes the next token; 1: it was the last one, or there is no position for another. */
static int writer_take(writer *w, const kv_cache *c, sampler *s, float *logits, graft_error *err) {
    const generate_call *call = w->call;
    generate_result *out = w->out;
    if (check_finite(logits, cache_vocab(c), w->h.count - 1, err)) return 1;
    const int32_t id = sample_next(s, &call->settings, &w->h, logits);
    w->all[w->h.count++] = out->ids[out->count++] = id;
    out->end = is_stop(call, id) ? GENERATE_STOP : GENERATE_LENGTH;
    if (call->token && call->token(call->context, id) && out->end == GENERATE_LENGTH) out->end = GENERATE_CALLER;
    return out->end != GENERATE_LENGTH || out->count == call->max_new_tokens || w->h.count > cache_room(c);
}

/* The prompt into place `place` of the cache, and its first token; 1: that was the last one. A prompt has a pass of its own:
 * products of other sizes would round otherwise, and what comes out should not depend on what is written beside it. */
static int writer_start(writer *w, kv_cache *c, int64_t place, sampler *s, float *logits, graft_error *err) {
    const generate_call *call = w->call;
    cache_select(c, place);
    if (!call->keep) cache_clear(c);
    const int64_t kept = call->keep ? cache_keep(c, call->prompt, call->prompt_count) : 0;
    w->out->count = 0;
    w->out->end = GENERATE_LENGTH;
    return call->max_new_tokens < 1 || cache_append(c, call->prompt + kept, call->prompt_count - kept, logits, err) ||
           writer_take(w, c, s, logits, err);
}

static void writer_end(writer *w, void (*done)(void *context, int64_t i), void *context, const graft_error *err) {
    if (done && !err->code) done(context, w->number);
    free(w->all);
    *w = (writer){0};
}

int generate_all(kv_cache *c, const generate_call *calls, generate_result *results, int64_t count,
                 void (*done)(void *context, int64_t i), void *context, graft_error *err) {
    const int64_t places = cache_sequences(c), vocab = cache_vocab(c);
    sampler *s = sampler_create(vocab);
    float *logits = mem_new((size_t)(places * vocab), sizeof *logits);
    writer *at = mem_new((size_t)places, sizeof *at); /* call NULL: the place is free */
    int32_t *ids = mem_new((size_t)places, sizeof *ids), *working = mem_new((size_t)places, sizeof *working);
    for (int64_t next = 0, n = 1; n && !err->code;) {
        n = 0;
        for (int32_t p = 0; p < places && !err->code; p++) {
            while (!at[p].call && next < count && !err->code) {
                at[p] = writer_begin(&calls[next], &results[next], next);
                next++;
                if (writer_start(&at[p], c, p, s, logits, err)) writer_end(&at[p], done, context, err);
            }
            if (at[p].call) ids[n] = at[p].all[at[p].h.count - 1], working[n++] = p;
        }
        if (n && !err->code) cache_step(c, working, ids, n, logits, err);
        for (int64_t i = 0; i < n && !err->code; i++)
            if (writer_take(&at[working[i]], c, s, logits + i * vocab, err))
                writer_end(&at[working[i]], done, context, err);
    }
    for (int64_t p = 0; p < places; p++)
        free(at[p].all);
    free(working);
    free(ids);
    free(at);
    free(logits);
    sampler_free(s);
    return err->code;
}

int generate_run(kv_cache *c, const generate_call *call, int32_t *ids, int64_t *count, generate_end *end,
                 graft_error *err) {
    graft_error own = {0};
    generate_result r = {.ids = ids};
    err = err ? err : &own;
    generate_all(c, call, &r, 1, NULL, NULL, err);
    *count = r.count;
    if (end) *end = r.end;
    return err->code;
}
