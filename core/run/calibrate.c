/* calibrate — choosing and cutting. */
#include "run/calibrate.h"
#include "base/philox.h"
#include <string.h>

static int64_t common_divisor(int64_t a, int64_t b) {
    return b ? common_divisor(b, a % b) : a;
}

/* The steps of one pass over the data, each once, in leaps that spread any number of them evenly: first, first + leap ... */
typedef struct {
    int64_t first, leap;
} walk;

static walk walk_of(int64_t steps, uint64_t seed) {
    walk w = {(int64_t)(philox_bits(seed, 0, 0) % (uint64_t)steps), (int64_t)((double)steps * 0.618) + 1};
    while (common_divisor(w.leap, steps) != 1)
        w.leap++;
    return w;
}

static int64_t tokens_of(const sequence *s) {
    int64_t tokens = 0;
    for (int64_t t = 0; t < s->tokens; t++)
        tokens += !s->mask || s->mask[t];
    return tokens;
}

/* A sequence of another list, its arrays copied. */
static void add_copy(sequence_list *to, const sequence *s) {
    const size_t n = (size_t)s->tokens;
    sequence *const own = sequence_list_add(to);
    const int32_t *const arrays[] = {s->ids, s->labels, s->positions, s->documents};
    const int32_t **const into[] = {&own->ids, &own->labels, &own->positions, &own->documents};
    own->tokens = s->tokens;
    for (int i = 0; i < 4; i++)
        if (arrays[i]) *into[i] = memcpy(arena_new(&to->memory, n, sizeof(int32_t)), arrays[i], n * sizeof(int32_t));
    if (s->mask) own->mask = memcpy(arena_new(&to->memory, n, 1), s->mask, n);
}

int calibration_open(const recipe *r, const session *s, data_source *d, calibration *out, graft_error *err) {
    if (!adapt_observes(s->adapters, -1)) return GRAFT_OK;
    const int64_t wanted = r->data.calibration;
    const walk w = walk_of(d->steps_per_epoch, (uint64_t)r->data.calibration_seed);
    int64_t step = w.first;
    for (int64_t k = 0; k < d->steps_per_epoch && out->sequences.count < wanted && !err->code; k++) {
        sequence_list of_step = {0};
        d->fetch(d, step, &of_step, err);
        step = (step + w.leap) % d->steps_per_epoch;
        for (int64_t i = 0; i < of_step.count && out->sequences.count < wanted; i++) {
            const int64_t tokens = tokens_of(&of_step.at[i]);
            if (tokens) add_copy(&out->sequences, &of_step.at[i]);
            out->tokens += tokens;
        }
        sequence_list_free(&of_step);
    }
    if (!err->code && out->tokens == 0)
        fail(err, GRAFT_FAILED, "a technique observes what the layers read, but the data hold no token to show it");
    return err->code;
}

int calibration_give(calibration *c, const session *s, const slice_limits *limits, const workspace_config *w,
                     graft_error *err) {
    if (!c->tokens) return GRAFT_OK;
    slice_limits own = *limits;
    own.what = "calibration";
    own.first = 0; /* no adapter has virtual rows yet */
    if (slices_cut(&c->sequences, &own, &c->slices, err)) return err->code;
    model_calibration rows = {.at = c->slices.at, .count = c->slices.count, .workspace = *w};
    rows.workspace.backward = adapt_observes(s->adapters, -1) == OBSERVE_X_DY;
    if (rows.workspace.backward && c->slices.targets == 0)
        return fail(err, GRAFT_FAILED,
                    "a technique observes gradients, but no token of the calibration rows is learned");
    model_calibrate(s->model, &rows);
    return GRAFT_OK;
}

void calibration_free(calibration *c) {
    sequence_list_free(&c->sequences);
    slices_free(&c->slices);
    *c = (calibration){0};
}
