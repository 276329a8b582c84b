/* loftq — LoRA that begins as the best correction of the quantized base. Li et al., 2023, arXiv:2310.08659
 *
 *   Q = quantize(W);   E = W - Q ≈ U·diag(S)·Vᵀ (rank largest);   A = √S·Vᵀ,  B = U·√S / s
 *
 * QLoRA begins with B = 0 on a base that is off by its rounding error E. LoftQ begins with the low-rank part of E, so the first
 * forward pass is closer to the unquantized model; with few bits that is worth much. The quantizer is the one of the run.
 * iterations > 1 alternate: the base becomes what quantizes to Q_i = quantize(W - s·B·A), the last step is the decomposition.
 * Then the base is no longer quantize(W): PEFT's rule, and the paper's algorithm 1.
 *
 * Forward and backward are LoRA's (include/graft/lowrank.h). W and E (out, in). */
#include <graft/lowrank.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
    int64_t iterations;
} loftq;

static const graft_option options[] = {
    LOWRANK_OPTIONS("the update is scaled by alpha / rank"),
    GRAFT_OPTION_INT(loftq, iterations, 1, 1, 100, "rounds; 1 leaves the quantized base as it is",
                     "loftq_config.loftq_iter"),
};

static const graft_slot slots[] = {
    LOWRANK_SLOTS(NULL, NULL, "alpha / rank"), GRAFT_SLOT_TEMP("R", "out, in"), /* what is quantized in this round */
    GRAFT_SLOT_TEMP("Q", "out, in"),           GRAFT_SLOT_TEMP("E", "out, in"),
    GRAFT_SLOT_TEMP("U", "out, rank"),         GRAFT_SLOT_TEMP("S", "rank"),
    GRAFT_SLOT_TEMP("V", "rank, in"),
};

static const graft_field fields[] = {
    {"peft_type",               "LORA" },
    {"use_rslora",              "false"},
    {"use_dora",                "false"},
    {"lora_bias",               "false"},
    {"init_lora_weights",       "loftq"},
    {"loftq_config.loftq_bits", "*"    },
};

static void bind(graft_call *c) {
    const loftq *o = c->self;
    if (c->site->onehot) {
        c->services->refuse(c, "an embedding is not quantized");
        return;
    }
    if (o->rank > c->site->in || o->rank > c->site->out)
        c->services->fail(c, "rank is larger than a side of the matrix");
}

static void init(graft_call *c) {
    const loftq *o = c->self;
    graft_run(c, "R = W");
    for (int64_t round = 1; round <= o->iterations; round++) {
        c->services->quantize(c, "R", "Q");
        graft_run(c, "E = W - Q");
        c->services->svd(c, "E", "U", "S", "V");
        graft_run(c, "A[r,i] = sqrt(S[r]) * V[r,i]");
        graft_run(c, "B[o,r] = U[o,r] * sqrt(S[r]) / s");
        if (round < o->iterations) {
            graft_run(c, "R = W");
            graft_run(c, "R[o,i] -= s * B[o,r] * A[r,i]");
        }
    }
    if (o->iterations > 1) graft_run(c, "W = R"); /* quantizes to the last Q */
}

/* What the folder holds is a LoRA of the quantized base; a reader that began anew would be wrong. */
static void save(graft_call *c) {
    c->services->field(c, "init_lora_weights", "true");
    c->services->field(c, "loftq_config", "{}");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X,
    .low_rank = "A B s H",
    .bind = bind,
    .init = init,
    .forward = lowrank_forward,
    .backward = lowrank_backward,
    .save = save,
};

static const graft_component loftq_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "loftq",
    .doc = "LoRA that begins as the best correction of the quantized base",
    .paper = "Li et al., 2023, arXiv:2310.08659",
    .config_size = sizeof(loftq),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(loftq_component, "0.1.0")
