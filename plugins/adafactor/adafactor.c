/* adafactor — Adam's division without its memory: sums of rows and columns stand for all squares.
 * Shazeer and Stern, 2018, arXiv:1804.04235
 *
 *   b = 1 - t^decay_rate                          the memory grows with the updates t
 *   R ← b·R + (1 - b)·mean over inputs  (g² + eps1)         C ← b·C + (1 - b)·mean over outputs (g² + eps1)
 *   U = g / √(R·C / mean(R))                      a vector keeps V ← b·V + (1 - b)·(g² + eps1),  U = g / √V
 *   U ← U / max(1, rms(U) / clip_threshold)
 *   ρ = lr                                        relative_step: lr·min(1/√t, 0.01, or 1e-6·t with warmup_init)
 *   ρ ← ρ·max(eps2, rms(p))                       scale_parameter: steps as large as the numbers they change
 *   p ← p - ρ·weight_decay·p - ρ·U                beta1 > 0: - M instead,  M ← beta1·M + (1 - beta1)·ρ·U
 *
 * As transformers' Adafactor (fairseq's), where an outer lr excludes relative_step: here it stays a factor, 1 for the paper.
 * R (out), C (in), M like p. o counts outputs, i inputs; an index missing on the left is summed. */
#include <graft/graft.h>

typedef struct {
    double decay_rate, clip_threshold, beta1, eps1, eps2, weight_decay;
    int32_t scale_parameter, relative_step, warmup_init, reserved;
} adafactor;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(adafactor, decay_rate, -0.8, -1, 0, "the mean square forgets by 1 - t^decay_rate", NULL),
    GRAFT_OPTION_REAL(adafactor, clip_threshold, 1, 1e-6, 1e6, "largest root mean square of an update", NULL),
    GRAFT_OPTION_REAL(adafactor, beta1, 0, 0, 0.999999, "memory of the updates; 0: none is kept", NULL),
    GRAFT_OPTION_REAL(adafactor, eps1, 1e-30, 0, 1, "added to the squares", NULL),
    GRAFT_OPTION_REAL(adafactor, eps2, 1e-3, 0, 1, "least size of a parameter, with scale_parameter", NULL),
    GRAFT_OPTION_REAL(adafactor, weight_decay, 0, 0, 100, "share of p, times the step size, taken off each step", NULL),
    GRAFT_OPTION_BOOL(adafactor, scale_parameter, 0, "times the root mean square of the parameter", NULL),
    GRAFT_OPTION_BOOL(adafactor, relative_step, 0, "lr times min(0.01, 1/√t): steps shrink by themselves", NULL),
    GRAFT_OPTION_BOOL(adafactor, warmup_init, 0, "with relative_step: 1e-6·t instead of 0.01", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("factor_free", "1 - matrix"),
    GRAFT_SLOT_BUFFER("R", "out", "R = 0", "exp_avg_sq_row"),
    GRAFT_SLOT_BUFFER("C", "in", "C = 0", "exp_avg_sq_col"),
    GRAFT_SLOT_UNSIGNED("V", "size * factor_free", "V = 0", "exp_avg_sq"),
    GRAFT_SLOT_BUFFER("M", "beta1 > 0 ? size : 0", "M = 0", "exp_avg"),
    GRAFT_SLOT_TEMP("U", "size"),
    GRAFT_SLOT_TEMP("mean", "1"),
    GRAFT_SLOT_TEMP("pace", "1"), /* ρ */
};

/* U = g over the root of the estimated mean square. */
static void divide(graft_call *c) {
    if (c->site->in == 0) {
        graft_run(c, "V = (1 - pow(t, decay_rate)) * V + pow(t, decay_rate) * (g * g + eps1)");
        graft_run(c, "U = g / sqrt(V)");
        return;
    }
    graft_run(c, "R[o] = (1 - pow(t, decay_rate)) * R[o] + pow(t, decay_rate) * eps1");
    graft_run(c, "C[i] = (1 - pow(t, decay_rate)) * C[i] + pow(t, decay_rate) * eps1");
    graft_run(c, "R[o] += pow(t, decay_rate) / in * g[o,i] * g[o,i]");
    graft_run(c, "C[i] += pow(t, decay_rate) / out * g[o,i] * g[o,i]");
    graft_run(c, "mean = R[o] / out");
    graft_run(c, "U[o,i] = g[o,i] / (sqrt(R[o] / mean) * sqrt(C[i]))");
}

static void update(graft_call *c) {
    const adafactor *const o = c->self;
    divide(c);
    graft_run(c, "mean = U * U / size");
    graft_run(c, "U = U / max(1, sqrt(mean) / clip_threshold)");
    graft_run(c, "pace = p * p / size");
    graft_run(c, "pace = lr * (scale_parameter ? max(eps2, sqrt(pace)) : 1)");
    if (o->relative_step) graft_run(c, "pace = pace * min(warmup_init ? 1e-6 * t : 0.01, 1 / sqrt(t))");
    graft_run(c, "p = p - weight_decay * pace * p");
    if (o->beta1 > 0) {
        graft_run(c, "M = beta1 * M + (1 - beta1) * pace * U");
        graft_run(c, "p -= M");
    } else {
        graft_run(c, "p -= pace * U");
    }
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adafactor",
    .doc = "Adam's division with sums of rows and columns as its memory",
    .paper = "Shazeer and Stern, 2018, arXiv:1804.04235",
    .config_size = sizeof(adafactor),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
