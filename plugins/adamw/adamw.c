/* adamw — Adam with decoupled weight decay. Loshchilov and Hutter, 2017, arXiv:1711.05101; Adam: Kingma and Ba, 2014,
 * arXiv:1412.6980
 *
 *   p ← p·(1 - lr·weight_decay)
 *   m ← beta1·m + (1 - beta1)·g            v ← beta2·v + (1 - beta2)·g²
 *   p ← p - lr·m̂ / (√v̂ + eps)              m̂ = m / (1 - beta1ᵗ),  v̂ = v / (1 - beta2ᵗ)
 *
 * g is the clipped gradient, t counts the updates of this parameter from 1. Every trained tensor decays, vectors too.
 * Order and rounding points are those of torch.optim.AdamW. */
#include <graft/graft.h>

typedef struct {
    double beta1, beta2, eps, weight_decay;
} adamw;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(adamw, beta1, 0.9, 0, 0.999999, "memory of the mean of the gradients", NULL),
    GRAFT_OPTION_REAL(adamw, beta2, 0.999, 0, 0.999999, "memory of the mean of their squares", NULL),
    GRAFT_OPTION_REAL(adamw, eps, 1e-8, 0, 1, "added to the root of the mean square", NULL),
    GRAFT_OPTION_REAL(adamw, weight_decay, 0.01, 0, 100, "share of p, times lr, that is taken off each step", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", "exp_avg"),
    GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", "exp_avg_sq"),
};

static void update(graft_call *c) {
    graft_run(c, "p *= 1 - lr * weight_decay");
    graft_run(c, "m = beta1 * m + (1 - beta1) * g");
    graft_run(c, "v = beta2 * v + (1 - beta2) * g * g");
    graft_run(c, "p -= lr / (1 - pow(beta1, t)) * m / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps)");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adamw",
    .doc = "Adam with decoupled weight decay",
    .paper = "Loshchilov and Hutter, 2017, arXiv:1711.05101",
    .config_size = sizeof(adamw),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
