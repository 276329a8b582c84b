/* model-observe — calibration rows through the base while it is loaded, for techniques that observe: the residual stream of
 * every slice waits in front of the block that is loaded next. Where one observes dy the whole base is loaded first, and seen
 * in one pass forward and backward. A section is the embeddings (-1), a block, or final norm and head (the number of blocks). */
#include "model/pass.h"
#include <stdlib.h>

struct observation {
    model *m;
    adapt *a;
    workspace *w;
    model_calibration rows;
    void **x;            /* of each slice: dev (rows, hidden)     */
    int64_t first, last; /* sections of the lowest and the highest who observe */
    int32_t whole;
};

int64_t observed_section(const model *m, const base_tensor *t) {
    const int32_t place = (int32_t)(t - m->tensors);
    const int top = place == m->outside.weight[ROLE_HEAD] || place == m->outside.weight[ROLE_FINAL_NORM] ||
                    place == m->outside.bias[ROLE_FINAL_NORM];
    return top ? m->shape.layers : t->layer;
}

static int32_t waits(const model *m, const adapt *a, const base_tensor *t) {
    for (int32_t p = 0; p < m->point_count; p++)
        if (m->points[p].tensor == t && m->points[p].kinds & GRAFT_LINEAR && adapt_observes(a, p)) return 1;
    return 0;
}

/* What is to be packed in few bits is observed as it is stored: those of one section at a time, or all of them. */
static int64_t unpacked_bytes(const model *m, const adapt *a, const quantize *q, int whole) {
    int64_t most = 0, own = 0;
    for (int32_t t = 0; t < m->tensor_count; t++) {
        const base_tensor *const at = &m->tensors[t];
        if (!whole && t > 0 && observed_section(m, at) != observed_section(m, at - 1)) own = 0;
        if (quantize_selects(q, at) && waits(m, a, at)) own += tensor_count_of(at) * dtype_bytes(at->stored);
        most = own > most ? own : most;
    }
    return most;
}

int64_t model_calibration_bytes(model *m, const kernels *device, dtype activation, const adapt *a, const quantize *q,
                                const workspace_config *c, int64_t rows) {
    const int whole = adapt_observes(a, -1) == OBSERVE_X_DY;
    model_bytes bytes;
    model_plan(m, device, activation, a, NULL, c, &bytes);
    return bytes.activations + bytes.scratch + unpacked_bytes(m, a, q, whole) +
           (whole ? 0 : rows * m->shape.hidden * dtype_bytes(activation));
}

void observe_end(observation *o) {
    if (!o) return;
    for (int64_t s = 0; s < o->rows.count; s++)
        o->m->device->release(o->m->device, o->x[s]);
    workspace_free(o->w);
    adapt_enable(o->a, -1, 1);
    free(o->x);
    free(o);
}

int observe_begin(model *m, adapt *a, observation **out, graft_error *err) {
    *out = NULL;
    if (!a || !adapt_observes(a, -1) || !m->calibration.count) return GRAFT_OK;
    observation *const o = *out = mem_new(1, sizeof *o);
    *o = (observation){.m = m, .a = a, .rows = m->calibration, .first = m->shape.layers, .last = -2};
    o->whole = adapt_observes(a, -1) == OBSERVE_X_DY;
    o->x = mem_new((size_t)o->rows.count, sizeof *o->x);
    adapt_enable(a, -1, 0); /* the base alone is observed: no adapter has begun */
    for (int32_t p = 0; p < m->point_count; p++) {
        const adapt_point *const at = &m->points[p];
        const int64_t section = at->tensor ? observed_section(m, at->tensor) : at->layer;
        if (!adapt_observes(a, p)) continue;
        o->last = section > o->last ? section : o->last;
        o->first = section < o->first ? section : o->first;
    }
    for (int64_t s = 0; s < o->rows.count && !o->whole && !err->code; s++) {
        const int64_t bytes = o->rows.at[s].rows * m->shape.hidden * dtype_bytes(m->activation);
        o->x[s] = m->device->alloc(m->device, bytes);
        if (!o->x[s]) fail(err, GRAFT_FAILED, "no memory for %lld bytes of calibration rows", (long long)bytes);
    }
    return err->code || adapt_observe_begin(a, err) ? err->code
                                                    : workspace_create(m, a, &o->rows.workspace, &o->w, err);
}

int32_t observe_waits(const observation *o, const base_tensor *t) {
    return o && waits(o->m, o->a, t);
}

static void run_slice(observation *o, pass *p, int64_t section, void *x) {
    const model *const m = o->m;
    const int64_t bytes = p->rows * m->shape.hidden * dtype_bytes(p->type);
    if (section < 0) {
        embed_forward(p, x);
    } else if (section < m->shape.layers) {
        block_forward(p, section, x, o->w->x[1]);
        if (!p->call.observing) p->k->copy(p->k, x, o->w->x[1], bytes);
    } else {
        norm_rows(p, -1, ROLE_FINAL_NORM, x, o->w->norm, p->rows);
        adapt_observe(o->a, m->outside.point[ROLE_HEAD], &p->call, tensor_at(m, m->outside.weight[ROLE_HEAD]),
                      o->w->norm, NULL, NULL);
    }
}

int observe_run(observation *o, int64_t section, int32_t observing, graft_error *err) {
    if (section > o->last || (section == o->m->shape.layers && !observing)) return GRAFT_OK;
    for (int64_t s = 0; s < o->rows.count; s++) {
        pass p;
        if (pass_begin(o->w, &o->rows.at[s], &p, err)) return err->code;
        p.call.observing = observing;
        run_slice(o, &p, section, o->x[s]);
    }
    return GRAFT_OK;
}

int32_t observe_whole(const observation *o) {
    return o && o->whole;
}

/* Mean loss of all targets of the rows. */
int observe_gradients(observation *o, graft_error *err) {
    const workspace *const w = o->w;
    int64_t targets = 0;
    for (int64_t s = 0; s < o->rows.count; s++)
        for (int64_t r = 0; r < o->rows.at[s].rows; r++)
            targets += o->rows.at[s].targets[r] >= 0;
    for (int64_t s = 0; s < o->rows.count; s++) {
        pass p;
        if (pass_begin(o->w, &o->rows.at[s], &p, err) || pass_targets(&p, &o->rows.at[s], err)) return err->code;
        forward(&p, NULL, NULL);
        for (int64_t t = 0; t < w->target.count; t++)
            w->host_dlogp[t] = (float)(-(double)w->target.weight[t] / (double)targets);
        upload_as(p.k, w->dlogp, p.k->real, w->host_dlogp, F32, w->target.count);
        p.call.observing = OBSERVE_X_DY;
        backward(&p, o->first);
    }
    return GRAFT_OK;
}

void model_calibrate(model *m, const model_calibration *c) {
    m->calibration = c ? *c : (model_calibration){0};
}
