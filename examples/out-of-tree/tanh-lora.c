/* tanh-lora — LoRA with a bend in the middle: an example of a technique built outside the project.
 *
 *   y = x·Wᵀ + b + s·tanh(x·Aᵀ)·Bᵀ,  s = alpha / rank
 *
 * x (rows, in)   y (rows, out)   A (rank, in)   B (out, rank). B begins at zero: the model is unchanged at step 0. The update
 * is not linear in x, so it cannot be added into W afterwards; that is the price of the bend.
 *
 *   cc -shared -fPIC -O2 -I include -o tanh-lora.so examples/out-of-tree/tanh-lora.c */
#include <graft/graft.h>

typedef struct {
    int64_t rank;
    double alpha;
} settings;

static const graft_option options[] = {
    GRAFT_OPTION_INT(settings, rank, 8, 1, 65536, "width of the update", "r"),
    GRAFT_OPTION_REAL(settings, alpha, 16, 0, 1e6, "the update is scaled by alpha / rank", "alpha"),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("A", "rank, in", "A = uniform(-1, 1) / sqrt(in)", "tanh_A.weight", NULL),
    GRAFT_SLOT_PARAM("B", "out, rank", "B = 0", "tanh_B.weight", NULL),
    GRAFT_SLOT_KEPT("H", "rows, rank"),
    GRAFT_SLOT_NUMBER("s", "alpha / rank"),
};

static const graft_field fields[] = {
    {"peft_type", "TANH_LORA"}
};

static void forward(graft_call *c) {
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "H       = tanh(H)");
    graft_run(c, "y[n,o] += s * H[n,r] * B[o,r]");
}

static void backward(graft_call *c) {
    graft_run(c, "dB[o,r] += s * dy[n,o] * H[n,r]"); /* ∂y/∂B = s·H       */
    graft_run(c, "dH[n,r]  = s * dy[n,o] * B[o,r]"); /* ∂y/∂H = s·B       */
    graft_run(c, "dH      *= 1 - H * H");            /* tanh' = 1 - tanh² */
    graft_run(c, "dA[r,i] += dH[n,r] * x[n,i]");
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_SILENT_AT_INIT,
    .forward = forward,
    .backward = backward,
};

static const graft_component component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "tanh-lora",
    .doc = "low-rank update through a tanh",
    .paper = "",
    .config_size = sizeof(settings),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(component, "0.1.0")
