/* adafactor-torch — Adafactor as torch.optim has it. Shazeer and Stern, 2018, arXiv:1804.04235
 *
 *   b = t^decay_rate                           how much the means take of this step
 *   R ← (1 - b)·R + b·mean over inputs  g²          C ← (1 - b)·C + b·mean over outputs g²
 *   V = R·C / max(mean(R), eps1)               a vector keeps V ← (1 - b)·V + b·g²
 *   U = g / √max(V, eps1²)
 *   ρ = max(eps2, rms(p))·min(lr, 1/√t)
 *   p ← p·(1 - lr·weight_decay) - ρ·U / max(1, rms(U) / clip_threshold)
 *
 * plugins/adafactor is fairseq's, which transformers has: there eps1 joins the squares, lr is no bound, and the size of p counts on
 * demand. Here steps are always as large as the numbers they change, and lr = 0.01 is a usual one.
 * R (out), C (in). o counts outputs, i inputs; an index missing on the left is summed. */
#include <graft/graft.h>

typedef struct {
    double decay_rate, clip_threshold, eps1, eps2, weight_decay;
} adafactor;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(adafactor, decay_rate, -0.8, -1, 0, "the mean square takes t^decay_rate of each step", NULL),
    GRAFT_OPTION_REAL(adafactor, clip_threshold, 1, 1e-6, 1e6, "largest root mean square of an update", NULL),
    GRAFT_OPTION_REAL(adafactor, eps1, 1.1920928955078125e-07, 1e-15, 1, "least root of a mean square", NULL),
    GRAFT_OPTION_REAL(adafactor, eps2, 1e-3, 0, 1, "least size of a parameter, for the size of its steps", NULL),
    GRAFT_OPTION_REAL(adafactor, weight_decay, 0, 0, 100, "share of p, times lr, that is taken off each step", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_BUFFER("R", "out", "R = 0", "row_var"),
    GRAFT_SLOT_BUFFER("C", "in", "C = 0", "col_var"),
    GRAFT_SLOT_UNSIGNED("V", "size * (1 - matrix)", "V = 0", "variance"),
    GRAFT_SLOT_TEMP("U", "size"),
    GRAFT_SLOT_TEMP("mean", "1"),
    GRAFT_SLOT_TEMP("pace", "1"), /* ρ */
};

static void update(graft_call *c) {
    graft_run(c, "pace = p * p / size");
    graft_run(c, "pace = max(eps2, sqrt(pace)) * min(lr, 1 / sqrt(t))");
    graft_run(c, "p *= 1 - lr * weight_decay");
    if (c->site->in) {
        graft_run(c, "R[o] = (1 - pow(t, decay_rate)) * R[o]; C[i] = (1 - pow(t, decay_rate)) * C[i]");
        graft_run(c, "R[o] += pow(t, decay_rate) / in * g[o,i] * g[o,i]");
        graft_run(c, "C[i] += pow(t, decay_rate) / out * g[o,i] * g[o,i]");
        graft_run(c, "mean = R[o] / out");
        graft_run(c, "U[o,i] = g[o,i] / sqrt(max(R[o] / max(mean, eps1) * C[i], eps1 * eps1))");
    } else {
        graft_run(c, "V = (1 - pow(t, decay_rate)) * V + pow(t, decay_rate) * g * g");
        graft_run(c, "U = g / sqrt(max(V, eps1 * eps1))");
    }
    graft_run(c, "mean = U * U / size");
    graft_run(c, "p -= pace / max(1, sqrt(mean) / clip_threshold) * U");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adafactor-torch",
    .doc = "Adafactor by torch's rule: steps as large as the numbers they change",
    .paper = "Shazeer and Stern, 2018, arXiv:1804.04235",
    .config_size = sizeof(adafactor),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
