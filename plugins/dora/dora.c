/* dora — Weight-Decomposed Low-Rank Adaptation. Liu et al., 2024, arXiv:2402.09353
 *
 *   y = g ⊙ (x·Vᵀ) + b,   V = W + s·B·A,   g_o = m_o / ‖row o of V‖,   s = alpha / rank (or / √rank)
 *
 * LoRA changes size and direction of a row of W together. DoRA splits them: m (out) is the length of each row and is trained
 * by itself, the low-rank update turns the direction. The length of V is held fixed in the gradient, as in the paper
 * (section 4.3): the loss hardly changes and backward stays cheap. A row of zeros has no direction: g = 1 there.
 *
 * W may be quantized, so it is never read; the length follows from what a handle allows (r, q count the rank):
 *   ‖w + s·b·A‖² = ‖w‖² + 2s·b·(A·w) + s²·b·(A·Aᵀ)·bᵀ */
#include <graft/lowrank.h>

static const graft_option options[] = {LOWRANK_OPTIONS("the update is scaled by alpha / rank"), LOWRANK_RSLORA};

static const graft_slot slots[] = {
    LOWRANK_SLOTS(LOWRANK_INIT_A, LOWRANK_INIT_B, LOWRANK_EITHER_SCALE),
    GRAFT_SLOT_PARAM("m", "out", "m[o] = W[o,i] * W[o,i]; m = sqrt(m)", "lora_magnitude_vector", NULL),
    GRAFT_SLOT_STEP("inv", "out"),     /* 1 / length, 0 for a row of zeros  */
    GRAFT_SLOT_STEP("none", "out"),    /* 1 for a row of zeros, else 0      */
    GRAFT_SLOT_TEMP("g", "out"),       /* m / length, or 1                  */
    GRAFT_SLOT_KEPT("z", "rows, out"), /* x·Vᵀ */
    GRAFT_SLOT_TEMP("AW", "rank, out"),
    GRAFT_SLOT_TEMP("AA", "rank, rank"),
};

static const graft_field fields[] = {
    {"peft_type",         "LORA" },
    {"use_dora",          "true" },
    {"lora_bias",         "false"},
    {"init_lora_weights", "true" },
};

static void bind(graft_call *c) {
    if (c->site->onehot) c->services->refuse(c, "an embedding has no rows of outputs to measure");
}

static void prepare(graft_call *c) {
    graft_run(c, "AW[r,o]  = A[r,i] * W[o,i]");
    graft_run(c, "AA[r,q]  = A[r,i] * A[q,i]");
    graft_run(c, "inv[o]   = W[o,i] * W[o,i]");
    graft_run(c, "inv[o]  += 2 * s * B[o,r] * AW[r,o]");
    graft_run(c, "inv[o]  += s * s * B[o,r] * AA[r,q] * B[o,q]");
    graft_run(c, "inv      = inv > 0 ? 1 / sqrt(inv) : 0");
    graft_run(c, "none     = inv == 0");
}

static void forward(graft_call *c) { /* y holds x·Wᵀ + b; where there is no b the statements that name it are skipped */
    graft_run(c, "g       = m * inv + none");
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "z[n,o]  = y[n,o]");
    graft_run(c, "z[n,o] -= bias[o]");
    graft_run(c, "z[n,o] += s * H[n,r] * B[o,r]");
    graft_run(c, "y[n,o]  = g[o] * z[n,o]");
    graft_run(c, "y[n,o] += bias[o]");
}

static void backward(graft_call *c) {
    graft_run(c, "g        = m * inv + none");
    graft_run(c, "dm[o]   += dy[n,o] * z[n,o] * inv[o]");   /* ∂g/∂m = 1 / length       */
    graft_run(c, "dB[o,r] += s * g[o] * dy[n,o] * H[n,r]"); /* LoRA's, with g ⊙ dy      */
    graft_run(c, "dH[n,r]  = s * g[o] * dy[n,o] * B[o,r]");
    graft_run(c, "dA[r,i] += dH[n,r] * x[n,i]");
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]");
    graft_run(c, "dbias[o] += (1 - g[o]) * dy[n,o]"); /* y = g ⊙ (y - b) + b: b is not scaled   */
    graft_run(c, "dy[n,o] *= g[o]");                  /* what came before is; dy·W is the core's */
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT | GRAFT_PREPARE_DETACHED,
    .bind = bind,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};

static const graft_component dora_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "dora",
    .doc = "LoRA that trains the length of each row by itself",
    .paper = "Liu et al., 2024, arXiv:2402.09353",
    .config_size = sizeof(lowrank_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(dora_component, "0.1.0")
