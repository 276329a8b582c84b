/* model-pass — the passes others ask for: log-probabilities, logits, hidden states, and a training step's slice. */
#include "model/pass.h"
#include <stdlib.h>
#include <string.h>

const void *forward(pass *p, void (*each)(void *context, int64_t layer, const void *x), void *context) {
    void *const *x = p->w->x;
    embed_forward(p, x[0]);
    for (int64_t l = 0; l < p->m->shape.layers; l++) {
        if (each) each(context, l, x[l]);
        block_forward(p, l, x[l], x[l + 1]);
    }
    if (each) each(context, p->m->shape.layers, x[p->m->shape.layers]);
    return x[p->m->shape.layers];
}

void backward(pass *p, int64_t lowest) {
    workspace *w = p->w;
    const int64_t layers = p->m->shape.layers;
    p->k->zero(p->k, w->dx, p->rows * p->m->shape.hidden * dtype_bytes(p->type));
    head_backward(p, w->x[layers], w->dx);
    for (int64_t l = layers - 1; l >= 0 && l >= lowest; l--) {
        if (w->c.checkpoint && l < layers - 1) block_forward(p, l, w->x[l], w->x[l + 1]);
        block_backward(p, l, w->x[l], w->dx, l > lowest);
    }
    if (lowest < 0) embed_backward(p, w->dx);
}

static int logprobs(workspace *w, const model_rows *rows, void *to, dtype type, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    pass p;
    if (pass_begin(w, rows, &p, err) || pass_targets(&p, rows, err)) return err->code;
    head_forward(&p, forward(&p, NULL, NULL));
    if (to) download_as(p.k, to, type, w->logp, p.k->real, w->target.count);
    return GRAFT_OK;
}

int pass_logprobs(workspace *w, const model_rows *rows, double *logp, graft_error *err) {
    return logprobs(w, rows, logp, F64, err);
}

int model_logprobs(workspace *w, const model_rows *rows, float *logp, graft_error *err) {
    return logprobs(w, rows, logp, F32, err);
}

/* Targets behind a virtual row have no counterpart without adapters: their reference is 0. */
static void align_reference(const pass *p, const model_rows *rows, float *reference) {
    const target_list *t = &p->w->target;
    int64_t to = t->count, from = t->count;
    for (int64_t d = 0; d < p->documents; d++)
        from -= p->virtual_embed && rows->first && rows->first[d] >= 0;
    for (int64_t d = p->documents - 1; d >= 0; d--) {
        const int64_t first = p->virtual_embed && rows->first && rows->first[d] >= 0;
        const int64_t n = t->start[d + 1] - t->start[d] - first;
        to -= n;
        from -= n;
        memmove(reference + to, reference + from, (size_t)n * sizeof *reference);
        if (first) reference[--to] = 0;
    }
}

/* Log-probabilities of the base: adapters off. */
static int reference_logprobs(workspace *w, const model_rows *rows, graft_error *err) {
    adapt_enable(w->a, -1, 0);
    model_logprobs(w, rows, w->host_reference, err);
    adapt_enable(w->a, -1, 1);
    return err->code;
}

int model_train_slice(workspace *w, const model_rows *rows, const model_objective *o, double *loss, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    const graft_objective *f = o->functions;
    const int known = (f->flags & GRAFT_WEIGHTS_KNOWN) != 0, needs_reference = (f->needs & 1) != 0;
    pass p;
    *loss = 0;
    if (!w->c.backward) return fail(err, GRAFT_FAILED, "this workspace was made without room for a backward pass");
    if ((needs_reference && reference_logprobs(w, rows, err)) || pass_begin(w, rows, &p, err) ||
        pass_targets(&p, rows, err))
        return err->code;
    const target_list *t = &w->target;
    if (needs_reference) align_reference(&p, rows, w->host_reference);
    if (t->count == 0) return GRAFT_OK;
    p.call.training = o->training;
    p.call.step = o->step;
    p.call.steps = o->steps;
    graft_batch batch = {.size = sizeof batch,
                         .tokens = t->count,
                         .sequences = p.documents,
                         .start = t->start,
                         .weight = t->weight,
                         .total = o->total,
                         .reference = needs_reference ? w->host_reference : NULL};
    const void *last = forward(&p, NULL, NULL);
    if (!known) {
        head_forward(&p, last);
        download_as(p.k, w->host_logp, F32, w->logp, p.k->real, t->count);
        batch.logp = w->host_logp;
    }
    *loss = f->loss(o->self, &batch, w->host_dlogp);
    upload_as(p.k, w->dlogp, p.k->real, w->host_dlogp, F32, t->count);
    backward(&p, model_lowest_layer(p.m, w->a));
    if (known) {
        download_as(p.k, w->host_logp, F32, w->logp, p.k->real, t->count);
        batch.logp = w->host_logp;
        *loss = f->loss(o->self, &batch, w->host_dlogp);
    }
    return GRAFT_OK;
}

/* Where the rows of a list lie in the pass. */
static int find_rows(const pass *p, const model_rows *rows, const int32_t *list, int64_t count, int32_t *picked,
                     graft_error *err) {
    int32_t *at = mem_new((size_t)rows->rows, sizeof *at);
    for (int64_t d = 0; d < rows->documents; d++)
        for (int64_t r = rows->start[d]; r < rows->start[d + 1]; r++)
            at[r] = (int32_t)pass_row(p, rows, d, r);
    for (int64_t i = 0; i < count && !err->code; i++) {
        const int64_t row = list ? list[i] : i, virtual = -1 - row;
        if (row >= rows->rows || virtual >= p->documents * p->virtual_embed)
            fail(err, GRAFT_FAILED, "row %lld was asked for; the pass has %lld", (long long)row, (long long)rows->rows);
        else if (row >= 0)
            picked[i] = at[row];
        else
            picked[i] = (int32_t)(p->w->first[virtual / p->virtual_embed] + virtual % p->virtual_embed);
    }
    free(at);
    return err->code;
}

int model_logits(workspace *w, const model_rows *rows, const int32_t *list, int64_t count, float *logits,
                 graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    pass p;
    if (pass_begin(w, rows, &p, err)) return err->code;
    const int64_t n = list ? count : rows->rows;
    int32_t *picked = mem_new((size_t)n, sizeof *picked);
    if (find_rows(&p, rows, list, n, picked, err) == GRAFT_OK) {
        const void *last = forward(&p, NULL, NULL);
        for (int64_t first = 0; first < n; first += w->rows) /* w->picked holds as many rows as a pass has */
            head_logits(&p, last, picked + first, n - first < w->rows ? n - first : w->rows,
                        logits + first * p.m->shape.vocab);
    }
    free(picked);
    return err->code;
}

typedef struct {
    pass *p;
    const model_rows *rows;
    float *to;
} hidden_walk;

/* The real rows of each document; after the last block behind the final norm. */
static void take_hidden(void *context, int64_t layer, const void *x) {
    const hidden_walk *h = context;
    pass *p = h->p;
    const int64_t hidden = p->m->shape.hidden;
    if (layer == p->m->shape.layers) {
        norm_rows(p, -1, ROLE_FINAL_NORM, x, p->w->norm, p->rows);
        x = p->w->norm;
    }
    for (int64_t d = 0; d < p->documents; d++) {
        const int64_t first = h->rows->start[d], count = h->rows->start[d + 1] - first;
        const char *from = (const char *)x + (p->w->first[d] + p->virtual_embed) * hidden * dtype_bytes(p->type);
        download_as(p->k, h->to + (layer * h->rows->rows + first) * hidden, F32, from, p->type, count * hidden);
    }
}

int model_hidden(workspace *w, const model_rows *rows, float *hidden, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    pass p;
    if (pass_begin(w, rows, &p, err)) return err->code;
    hidden_walk walk = {&p, rows, hidden};
    forward(&p, take_hidden, &walk);
    return GRAFT_OK;
}
