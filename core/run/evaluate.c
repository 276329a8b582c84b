/* evaluate — the validation set, as many sequences at a time as fill some slices. */
#include "run/evaluate.h"
#include <math.h>
#include <stdlib.h>

enum { SLICES_AT_ONCE = 8 };

/* The targets of a slice, in the order of the pass, to the sequences they stand in. */
static void share_out(const slice_list *slices, const model_rows *rows, const float *logp, double *each) {
    const int64_t *origin = slices->origin + (rows->ids - slices->ids);
    for (int64_t d = 0; d < rows->documents; d++) {
        double *of_sequence = each + 2 * (origin[rows->start[d]] >> 32);
        int64_t targets = rows->first && rows->first[d] >= 0;
        for (int64_t i = rows->start[d]; i < rows->start[d + 1]; i++)
            targets += rows->targets[i] >= 0;
        for (int64_t t = 0; t < targets; t++)
            of_sequence[0] -= *logp++;
        of_sequence[1] += (double)targets;
    }
}

static int add_slice(workspace *w, const slice_list *slices, int64_t s, double *each, evaluation *out,
                     graft_error *err) {
    const model_rows *rows = &slices->at[s];
    const int64_t targets = slices->targets_of[s];
    if (targets == 0) return GRAFT_OK;
    float *const logp = mem_new((size_t)targets, sizeof *logp);
    if (model_logprobs(w, rows, logp, err) == GRAFT_OK)
        for (int64_t t = 0; t < targets; t++)
            out->nll -= logp[t];
    if (each && !err->code) share_out(slices, rows, logp, each);
    free(logp);
    out->targets += targets;
    out->tokens += rows->rows;
    return err->code;
}

static int add_part(workspace *w, data_source *d, const slice_limits *limits, int64_t first, int64_t count,
                    double *each, evaluation *out, graft_error *err) {
    sequence_list sequences = {0};
    slice_list slices = {0};
    if (d->fetch_eval(d, first, count, &sequences, err) == GRAFT_OK &&
        slices_cut(&sequences, limits, &slices, err) == GRAFT_OK)
        for (int64_t s = 0; s < slices.count && !err->code; s++)
            add_slice(w, &slices, s, each, out, err);
    slices_free(&slices);
    sequence_list_free(&sequences);
    return err->code;
}

int evaluate(workspace *w, data_source *d, const slice_limits *limits, double *each, evaluation *out,
             graft_error *err) {
    const int64_t fit = SLICES_AT_ONCE * limits->rows / (d->longest > 0 ? d->longest : 1), part = fit > 0 ? fit : 1;
    slice_limits own = *limits;
    own.what = "validation";
    *out = (evaluation){0};
    for (int64_t first = 0; first < d->eval_count && !err->code; first += part)
        add_part(w, d, &own, first, d->eval_count - first < part ? d->eval_count - first : part,
                 each ? each + 2 * first : NULL, out, err);
    out->loss = out->targets ? out->nll / (double)out->targets : NAN;
    out->perplexity = exp(out->loss);
    return err->code;
}
