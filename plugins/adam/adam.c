/* adam — Adam as first published. Kingma and Ba, 2014, arXiv:1412.6980
 *
 *   g ← g + weight_decay·p                 decay as part of the gradient: what adamw takes out again
 *   m ← beta1·m + (1 - beta1)·g            v ← beta2·v + (1 - beta2)·g²
 *   p ← p - lr·m̂ / (√v̂ + eps)              m̂ = m / (1 - beta1ᵗ),  v̂ = v / (1 - beta2ᵗ)
 *
 * As torch.optim.Adam. Through the division by √v a parameter with large gradients decays least; use adamw unless a run must
 * equal an old one. */
#include <graft/graft.h>

typedef struct {
    double beta1, beta2, eps, weight_decay;
} adam;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(adam, beta1, 0.9, 0, 0.999999, "memory of the mean of the gradients", NULL),
    GRAFT_OPTION_REAL(adam, beta2, 0.999, 0, 0.999999, "memory of the mean of their squares", NULL),
    GRAFT_OPTION_REAL(adam, eps, 1e-8, 0, 1, "added to the root of the mean square", NULL),
    GRAFT_OPTION_REAL(adam, weight_decay, 0, 0, 100, "times p, added to the gradient", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", "exp_avg"), GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", "exp_avg_sq"),
    GRAFT_SLOT_TEMP("d", "size"), /* the gradient with its decay */
};

static void update(graft_call *c) {
    graft_run(c, "d = g + weight_decay * p");
    graft_run(c, "m = beta1 * m + (1 - beta1) * d");
    graft_run(c, "v = beta2 * v + (1 - beta2) * d * d");
    graft_run(c, "p -= lr / (1 - pow(beta1, t)) * m / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps)");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adam",
    .doc = "Adam with the decay inside the gradient",
    .paper = "Kingma and Ba, 2014, arXiv:1412.6980",
    .config_size = sizeof(adam),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
