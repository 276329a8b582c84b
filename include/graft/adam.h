/* adam.h — what Adam and its relatives share: a mean of gradients, a mean of their squares, and the step they make. Not part of
 * the ABI. Kingma and Ba, 2014, arXiv:1412.6980; amsgrad: Reddi et al., 2018, arXiv:1904.09237
 *
 *   p ← p - lr·m̂ / (√v̂ + eps)      m̂ = m / (1 - beta1ᵗ),  v̂ = v / (1 - beta2ᵗ)
 *   amsgrad: peak ← max(peak, v) stands for v, so that a number whose gradients were once large never speeds up again
 *
 * t counts the updates of this parameter from 1. Order and rounding points are those of torch.optim. */
#ifndef GRAFT_ADAM_H
#define GRAFT_ADAM_H
#include <graft/graft.h>

typedef struct {
    double beta1, beta2, eps, weight_decay;
    int32_t amsgrad, reserved;
} adam_options;

/* clang-format off */
#define ADAM_OPTIONS(decay, decay_doc)                                                                                 \
    GRAFT_OPTION_REAL(adam_options, beta1, 0.9, 0, 0.999999, "memory of the mean of the gradients", NULL),             \
    GRAFT_OPTION_REAL(adam_options, beta2, 0.999, 0, 0.999999, "memory of the mean of their squares", NULL),           \
    GRAFT_OPTION_REAL(adam_options, eps, 1e-8, 0, 1, "added to the root of the mean square", NULL),                    \
    GRAFT_OPTION_REAL(adam_options, weight_decay, decay, 0, 100, decay_doc, NULL),                                     \
    GRAFT_OPTION_BOOL(adam_options, amsgrad, 0, "divide by the largest mean square there was", NULL)

#define ADAM_SLOTS                                                                                                     \
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", "exp_avg"), GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", "exp_avg_sq"),       \
    GRAFT_SLOT_UNSIGNED("peak", "size * amsgrad", "peak = 0", "max_exp_avg_sq")
/* clang-format on */

/* Once m and v are those of this step. */
static inline void adam_move(graft_call *c) {
    const adam_options *o = c->self;
    if (o->amsgrad) graft_run(c, "peak = max(peak, v)");
    graft_run(c, o->amsgrad ? "p -= lr / (1 - pow(beta1, t)) * m / (sqrt(peak) / sqrt(1 - pow(beta2, t)) + eps)"
                            : "p -= lr / (1 - pow(beta1, t)) * m / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps)");
}

#endif
