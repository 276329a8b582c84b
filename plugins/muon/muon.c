/* muon — momentum, orthogonalized. Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks";
 * Newton-Schulz step and its numbers: Jordan; weight decay and size of the step: Liu et al., 2025, arXiv:2502.16982
 *
 *   M ← momentum·M + (1 - momentum)·g             X = (1 - momentum)·g + momentum·M   (nesterov; else X = M)
 *   X ← X / |X|                                   then `iterations` times, with (a, b, c) = (3.4445, -4.775, 2.0315):
 *       A = X·Xᵀ       X ← a·X + (b·A + c·A²)·X   every singular value goes to about 1: X ≈ U·Vᵀ
 *   p ← p·(1 - lr·weight_decay) - lr·size·X       size = 0.2·√max(out, in): steps as large as AdamW's;
 *                                                 adjust = original: √max(1, out / in)
 *
 * As torch.optim.Muon, in f32. A is made of the shorter side. Vectors, and matrices with a side of `vocabulary` or more
 * (embeddings and heads, whose rows are not one map), take AdamW's rule with betas 0.9 and 0.95.
 * X (out, in)  A, B (side, side)  Y like X  M, V like p. An index missing on the left is summed. */
#include <graft/graft.h>

enum { ADJUST_ADAMW, ADJUST_ORIGINAL };

typedef struct {
    double momentum, weight_decay;
    int64_t iterations, vocabulary;
    int32_t nesterov, adjust;
} muon;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(muon, momentum, 0.95, 0, 0.999999, "memory of the gradients of matrices", NULL),
    GRAFT_OPTION_BOOL(muon, nesterov, 1, "look one step of momentum ahead", NULL),
    GRAFT_OPTION_INT(muon, iterations, 5, 1, 100, "Newton-Schulz steps", NULL),
    GRAFT_OPTION_CHOICE(muon, adjust, "adamw|original", ADJUST_ADAMW, "what sets the size of a step", NULL),
    GRAFT_OPTION_REAL(muon, weight_decay, 0.1, 0, 100, "share of p, times lr, that is taken off each step", NULL),
    GRAFT_OPTION_INT(muon, vocabulary, 32000, 1, 1000000000, "matrices with such a side take AdamW's rule", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("hidden", "matrix * (max(out, in) < vocabulary)"),
    GRAFT_SLOT_NUMBER("side", "hidden * min(out, in)"),
    GRAFT_SLOT_BUFFER("M", "size", "M = 0", "momentum_buffer"),
    GRAFT_SLOT_UNSIGNED("V", "size * (1 - hidden)", "V = 0", "exp_avg_sq"),
    GRAFT_SLOT_TEMP("X", "hidden * out, hidden * in"),
    GRAFT_SLOT_TEMP("Y", "hidden * out, hidden * in"),
    GRAFT_SLOT_TEMP("A", "side, side"),
    GRAFT_SLOT_TEMP("B", "side, side"),
    GRAFT_SLOT_TEMP("norm", "1"),
};

static void adamw(graft_call *c) {
    graft_run(c, "M = 0.9 * M + 0.1 * g");
    graft_run(c, "V = 0.95 * V + 0.05 * g * g");
    graft_run(c, "p -= lr / (1 - pow(0.9, t)) * M / (sqrt(V) / sqrt(1 - pow(0.95, t)) + 1e-8)");
}

/* All singular values of X to about 1. */
static void orthogonalize(graft_call *c) {
    const muon *const o = c->self;
    graft_run(c, "norm = X * X");
    graft_run(c, "X = X / max(sqrt(norm), 1e-7)");
    for (int64_t k = 0; k < o->iterations; k++) {
        if (c->site->out <= c->site->in) {
            graft_run(c, "A[q,r] = X[q,i] * X[r,i]");
            graft_run(c, "B[q,r] = 2.0315 * A[q,s] * A[s,r]; B[q,r] -= 4.775 * A[q,r]");
            graft_run(c, "Y[q,i] = B[q,r] * X[r,i]");
        } else {
            graft_run(c, "A[q,r] = X[o,q] * X[o,r]");
            graft_run(c, "B[q,r] = 2.0315 * A[q,s] * A[s,r]; B[q,r] -= 4.775 * A[q,r]");
            graft_run(c, "Y[o,q] = X[o,r] * B[r,q]");
        }
        graft_run(c, "X = 3.4445 * X + Y");
    }
}

static int is_hidden(const graft_call *c) {
    const muon *const o = c->self;
    const int64_t out = c->site->out, in = c->site->in;
    return in > 0 && out < o->vocabulary && in < o->vocabulary;
}

static void update(graft_call *c) {
    const muon *const o = c->self;
    graft_run(c, "p *= 1 - lr * weight_decay");
    if (!is_hidden(c)) {
        adamw(c);
        return;
    }
    graft_run(c, "M = momentum * M + (1 - momentum) * g");
    graft_run(c, o->nesterov ? "X = (1 - momentum) * g + momentum * M" : "X = M");
    orthogonalize(c);
    if (o->adjust == ADJUST_ORIGINAL)
        graft_run(c, "p -= lr * sqrt(max(1, out / in)) * X");
    else
        graft_run(c, "p -= lr * 0.2 * sqrt(max(out, in)) * X");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "muon",
    .doc = "momentum whose matrices are orthogonalized",
    .paper = "Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982",
    .config_size = sizeof(muon),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
