/* evaluate — the validation set, as many sequences at a time as fill some slices. */
#include "run/evaluate.h"
#include <math.h>
#include <stdlib.h>

enum { SLICES_AT_ONCE = 8 };

static int add_slice(workspace *w, const model_rows *rows, int64_t targets, evaluation *out, graft_error *err) {
    if (targets == 0) return GRAFT_OK;
    float *const logp = mem_new((size_t)targets, sizeof *logp);
    if (model_logprobs(w, rows, logp, err) == GRAFT_OK)
        for (int64_t t = 0; t < targets; t++)
            out->nll -= logp[t];
    free(logp);
    out->targets += targets;
    out->tokens += rows->rows;
    return err->code;
}

static int add_part(workspace *w, data_source *d, const slice_limits *limits, int64_t first, int64_t count,
                    evaluation *out, graft_error *err) {
    sequence_list sequences = {0};
    slice_list slices = {0};
    if (d->fetch_eval(d, first, count, &sequences, err) == GRAFT_OK &&
        slices_cut(&sequences, limits, &slices, err) == GRAFT_OK)
        for (int64_t s = 0; s < slices.count && !err->code; s++)
            add_slice(w, &slices.at[s], slices.targets_of[s], out, err);
    slices_free(&slices);
    sequence_list_free(&sequences);
    return err->code;
}

int evaluate(workspace *w, data_source *d, const slice_limits *limits, evaluation *out, graft_error *err) {
    const int64_t fit = SLICES_AT_ONCE * limits->rows / (d->longest > 0 ? d->longest : 1), part = fit > 0 ? fit : 1;
    slice_limits own = *limits;
    own.what = "validation";
    *out = (evaluation){0};
    for (int64_t first = 0; first < d->eval_count && !err->code; first += part)
        add_part(w, d, &own, first, d->eval_count - first < part ? d->eval_count - first : part, out, err);
    out->loss = out->targets ? out->nll / (double)out->targets : NAN;
    out->perplexity = exp(out->loss);
    return err->code;
}
