/* head — from the last residual stream to log-probabilities and back, chunk by chunk and only for the rows that have a
 * target: a masked row never reaches the final norm.
 *
 *   z = norm(x)·Wᵀ      logp = log softmax(cap(z))[target]      dz = dlogp·∂logp/∂z      dx = norm backward(dz·W) */
#include "model/pass.h"

/* Logits of rows first..first+count of w->picked. */
static void chunk_logits(pass *p, const void *x, int64_t first, int64_t count) {
    const workspace *w = p->w;
    p->k->pick_rows(p->k, w->picked + first, count, p->m->shape.hidden, x, w->head_x, p->type);
    norm_rows(p, -1, ROLE_FINAL_NORM, w->head_x, w->head_norm, count);
    p->call.rows = count;
    p->call.kept = w->kept_outside;
    if (p->call.row_key) p->call.row_key = w->head_keys + first;
    linear_forward(p, -1, ROLE_HEAD, w->head_norm, w->logits);
}

static void chunk_logprob(pass *p, int64_t first, int64_t count) {
    const workspace *w = p->w;
    p->k->logprob(p->k, w->logits, p->type, count, p->m->shape.vocab, w->targets + first, p->m->shape.final_softcap,
                  (char *)w->logp + first * dtype_bytes(p->k->real), w->lse);
}

static void restore_call(pass *p) {
    p->call.rows = p->rows;
    p->call.row_key = p->call.row_key ? p->w->keys : NULL;
}

void head_forward(pass *p, const void *x) {
    const int64_t all = p->w->target.count, most = p->w->head_rows;
    for (int64_t first = 0; first < all; first += most) {
        const int64_t count = all - first < most ? all - first : most;
        chunk_logits(p, x, first, count);
        chunk_logprob(p, first, count);
    }
    restore_call(p);
}

void head_backward(pass *p, const void *x, void *dx) {
    const workspace *w = p->w;
    const int64_t all = w->target.count, most = w->head_rows, hidden = p->m->shape.hidden;
    for (int64_t first = 0; first < all; first += most) {
        const int64_t count = all - first < most ? all - first : most;
        chunk_logits(p, x, first, count);
        chunk_logprob(p, first, count);
        p->k->logprob_grad(p->k, w->logits, p->type, count, p->m->shape.vocab, w->targets + first,
                           p->m->shape.final_softcap, w->lse, (char *)w->dlogp + first * dtype_bytes(p->k->real));
        linear_backward(p, -1, ROLE_HEAD, w->head_norm, w->logits, w->head_dn, 0);
        norm_rows_backward(p, -1, ROLE_FINAL_NORM, w->head_x, w->head_dn, w->head_dx, count, 0);
        p->k->place_rows(p->k, w->picked + first, count, hidden, w->head_dx, dx, p->type);
    }
    restore_call(p);
}

void head_logits(pass *p, const void *x, const int32_t *list, int64_t count, float *logits) {
    const workspace *w = p->w;
    const int64_t most = w->head_rows, vocab = p->m->shape.vocab;
    p->k->upload(p->k, w->picked, list, count * 4);
    for (int64_t first = 0; first < count; first += most) {
        const int64_t n = count - first < most ? count - first : most;
        chunk_logits(p, x, first, n);
        if (p->m->shape.final_softcap > 0)
            p->k->softcap(p->k, w->logits, p->type, n * vocab, p->m->shape.final_softcap);
        download_as(p->k, logits + first * vocab, F32, w->logits, p->type, n * vocab);
    }
    restore_call(p);
}
