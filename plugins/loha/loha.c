/* loha — low-rank Hadamard product. Hyeon-Woo et al., 2022, arXiv:2108.06098; Yeh et al., 2024, arXiv:2309.14859
 *
 *   y = x·Wᵀ + b + x·Dᵀ,   D = s · (a1·b1) ⊙ (a2·b2),   s = alpha / rank
 *
 * a1, a2 (out, rank)   b1, b2 (rank, in)   D (out, in). The elementwise product of two matrices of rank r can have rank r²:
 * with the parameters of a LoRA of rank 2r the update is far less constrained. a2 begins at zero, so D does.
 *
 * The price: D has no cheap factors, so it is made whole after every step, and backward needs its gradient G = dyᵀ·x whole. */
#include <graft/graft.h>

typedef struct {
    int64_t rank;
    double alpha;
} loha;

static const graft_option options[] = {
    GRAFT_OPTION_INT(loha, rank, 8, 1, 65536, "width of each of the two factors", "r"),
    GRAFT_OPTION_REAL(loha, alpha, 8, 0, 1e6, "the update is scaled by alpha / rank", "alpha"),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("a1", "out, rank", "a1 = 0.1 * normal", "hada_w1_a", NULL),
    GRAFT_SLOT_PARAM("b1", "rank, in", "b1 = normal", "hada_w1_b", NULL),
    GRAFT_SLOT_PARAM("a2", "out, rank", "a2 = 0", "hada_w2_a", NULL),
    GRAFT_SLOT_PARAM("b2", "rank, in", "b2 = normal", "hada_w2_b", NULL),
    GRAFT_SLOT_STEP("D", "out, in"),
    GRAFT_SLOT_TEMP("M", "out, in"), /* one of the two matrices   */
    GRAFT_SLOT_TEMP("G", "out, in"), /* ∂loss / ∂D                */
    GRAFT_SLOT_TEMP("E", "out, in"), /* and / ∂ the other one     */
    GRAFT_SLOT_NUMBER("s", "alpha / rank"),
};

static const graft_field fields[] = {
    {"peft_type",            "LOHA"},
    {"use_effective_conv2d", "*"   }, /* there are no convolutions here */
    {"init_weights",         "*"   },
};

static void bind(graft_call *c) {
    if (c->site->onehot) c->services->refuse(c, "an embedding's matrix would be made whole for a few rows");
}

static void prepare(graft_call *c) {
    graft_run(c, "M[o,i]  = a1[o,r] * b1[r,i]");
    graft_run(c, "D[o,i]  = a2[o,r] * b2[r,i]");
    graft_run(c, "D[o,i] *= s * M[o,i]");
}

static void forward(graft_call *c) {
    graft_run(c, "y[n,o] += x[n,i] * D[o,i]"); /* y holds x·Wᵀ + b */
}

static void backward(graft_call *c) {
    graft_run(c, "dx[n,i]  += dy[n,o] * D[o,i]");    /* dy·W is the core's       */
    graft_run(c, "G[o,i]    = dy[n,o] * x[n,i]");    /* ∂y/∂D = x                */
    graft_run(c, "M[o,i]    = a1[o,r] * b1[r,i]");   /* the first matrix, and    */
    graft_run(c, "E[o,i]    = s * G[o,i] * M[o,i]"); /* ∂D/∂(a2·b2) = s·(a1·b1) */
    graft_run(c, "da2[o,r] += E[o,i] * b2[r,i]");
    graft_run(c, "db2[r,i] += E[o,i] * a2[o,r]");
    graft_run(c, "M[o,i]    = a2[o,r] * b2[r,i]");   /* the second one, and      */
    graft_run(c, "E[o,i]    = s * G[o,i] * M[o,i]"); /* ∂D/∂(a1·b1) = s·(a2·b2) */
    graft_run(c, "da1[o,r] += E[o,i] * b1[r,i]");
    graft_run(c, "db1[r,i] += E[o,i] * a1[o,r]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};

static const graft_component loha_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "loha",
    .doc = "the elementwise product of two low-rank updates",
    .paper = "Hyeon-Woo et al., 2022, arXiv:2108.06098; Yeh et al., 2024, arXiv:2309.14859",
    .config_size = sizeof(loha),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(loha_component, "0.1.0")
