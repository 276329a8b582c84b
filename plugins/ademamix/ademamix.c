/* ademamix — Adam with a second, long memory of the gradients. Pagliardini et al., 2024, arXiv:2409.03137
 *
 *   p ← p·(1 - lr·weight_decay)
 *   m ← beta1·m + (1 - beta1)·g            m2 ← beta3·m2 + (1 - beta3)·g            v ← beta2·v + (1 - beta2)·g²
 *   p ← p - lr·(m / (1 - beta1ᵗ) + alpha·m2) / (√v̂ + eps)                           v̂ = v / (1 - beta2ᵗ)
 *
 * m follows the last ten gradients or so, m2 the last ten thousand: old gradients still point the right way, but a memory that
 * long alone would answer too late. m2 is not corrected for its beginning at zero; it may come in slowly instead:
 *   warmup = T   until update T: alpha·t/T for alpha, and for beta3 what puts the half-life of m2 on a line that begins at beta1's
 * Without it as bitsandbytes' AdEMAMix, with it as that of t_alpha = t_beta3 = T. */
#include <graft/graft.h>

typedef struct {
    double beta1, beta2, beta3, alpha, eps, weight_decay;
    int64_t warmup;
} ademamix;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(ademamix, beta1, 0.9, 0.000001, 0.999999, "memory of the fast mean of the gradients", NULL),
    GRAFT_OPTION_REAL(ademamix, beta2, 0.999, 0, 0.999999, "memory of the mean of their squares", NULL),
    GRAFT_OPTION_REAL(ademamix, beta3, 0.9999, 0.000001, 0.999999, "memory of the slow mean of the gradients", NULL),
    GRAFT_OPTION_REAL(ademamix, alpha, 5, 0, 1000, "weight of the slow mean beside the fast one", NULL),
    GRAFT_OPTION_REAL(ademamix, eps, 1e-8, 0, 1, "added to the root of the mean square", NULL),
    GRAFT_OPTION_REAL(ademamix, weight_decay, 0.01, 0, 100, "share of p, times lr, that is taken off each step", NULL),
    GRAFT_OPTION_INT(ademamix, warmup, 0, 0, 1000000000, "updates until alpha and beta3 are reached; 0: at once", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", "exp_avg"),
    GRAFT_SLOT_BUFFER("m2", "size", "m2 = 0", "exp_avg_slow"),
    GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", "exp_avg_sq"),
};

/* Numbers of this step, folded in double. */
#define SHARE "(warmup > 0 ? min(t / warmup, 1) : 1)"
#define BETA3 "exp(log(beta1) * log(beta3) / ((1 - " SHARE ") * log(beta3) + " SHARE " * log(beta1)))"

static void update(graft_call *c) {
    graft_run(c, "p *= 1 - lr * weight_decay");
    graft_run(c, "m = beta1 * m + (1 - beta1) * g");
    graft_run(c, "m2 = " BETA3 " * m2 + (1 - " BETA3 ") * g");
    graft_run(c, "v = beta2 * v + (1 - beta2) * g * g");
    graft_run(c, "p -= lr * (m / (1 - pow(beta1, t)) + " SHARE
                 " * alpha * m2) / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps)");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "ademamix",
    .doc = "Adam with a second, long memory of the gradients",
    .paper = "Pagliardini et al., 2024, arXiv:2409.03137",
    .config_size = sizeof(ademamix),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
