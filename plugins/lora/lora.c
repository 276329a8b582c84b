/* lora — Low-Rank Adaptation. Hu et al., 2021, arXiv:2106.09685        y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ,  s = alpha / rank
 *
 * x (rows, in)   y (rows, out)   W (out, in) frozen   A (rank, in)   B (out, rank)
 * B begins at zero, so the model is unchanged at step 0. A trained adapter holds rank·(in + out) numbers a layer where W
 * holds in·out, and can be added into W afterwards: W + s·B·A.
 *
 * In the formulas n counts rows, i inputs, o outputs, r the rank; an index missing on the left is summed over.
 * dA is the gradient of the loss with respect to A. */
#include <graft/graft.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
    int32_t update_bias;
} lora;

static const graft_option options[] = {
    GRAFT_OPTION_INT(lora, rank, 8, 1, 65536, "width of the update", "r"),
    GRAFT_OPTION_REAL(lora, alpha, 16, 0, 1e6, "the update is scaled by alpha / rank", "lora_alpha"),
    GRAFT_OPTION_REAL(lora, dropout, 0, 0, 0.999, "share of x hidden from the update in training", "lora_dropout"),
    GRAFT_OPTION_BOOL(lora, update_bias, 0, "the update has a bias of its own", "lora_bias"),
};

/* A as torch's nn.Linear begins (kaiming uniform, a = sqrt 5); of an embedding (one-hot x) A is zero and B normal, as in PEFT. */
static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("A", "rank, in", "A = onehot ? 0 : uniform(-1, 1) / sqrt(in)", "lora_A.weight",
                     "lora_embedding_A"),
    GRAFT_SLOT_PARAM("B", "out, rank", "B = onehot ? normal : 0", "lora_B.weight", "lora_embedding_B"),
    GRAFT_SLOT_PARAM("c", "out * (update_bias > onehot)", "c = 0", "lora_B.bias", NULL), /* of no size: absent */
    GRAFT_SLOT_KEPT("H", "rows, rank"),
    GRAFT_SLOT_NUMBER("s", "alpha / rank"),
};

static const graft_field fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"use_dora",          "false"},
    {"init_lora_weights", "true" },
};

static void forward(graft_call *c) {
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "y[n,o] += s * H[n,r] * B[o,r]"); /* y holds x·Wᵀ + b */
    graft_run(c, "y[n,o] += s * c[o]");
}

static void backward(graft_call *c) {
    graft_run(c, "dB[o,r] += s * dy[n,o] * H[n,r]"); /* ∂y/∂B = s·H         */
    graft_run(c, "dH[n,r]  = s * dy[n,o] * B[o,r]"); /* ∂y/∂H = s·B         */
    graft_run(c, "dA[r,i] += dH[n,r] * x[n,i]");     /* ∂H/∂A = x           */
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]");     /* dy·W is the core's  */
    graft_run(c, "dc[o]   += s * dy[n,o]");          /* ∂y/∂c = s           */
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .low_rank = "A B s H",
    .forward = forward,
    .backward = backward,
};

static const graft_component lora_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "lora",
    .doc = "low-rank update of linear layers",
    .paper = "Hu et al., 2021, arXiv:2106.09685",
    .config_size = sizeof(lora),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(lora_component, "0.1.0")
