/* lokr — low-rank Kronecker product. Yeh et al., 2024, arXiv:2309.14859; Edalati et al., 2022, arXiv:2212.10650
 *
 *   y = x·Wᵀ + b + s · x·(F1 ⊗ F2)ᵀ,   F1 (out1, in1)   F2 (out2, in2),   out = out1·out2,   in = in1·in2,   s = alpha / rank
 *
 * The Kronecker product repeats F2 in blocks, each scaled by one number of F1: a small picture of where times a small picture
 * of what. Its rank is the product of the two ranks, so unlike LoRA it can be full. F2 (and with `decompose_both` F1) is a
 * product of rank `rank` where that is smaller. F1 begins at zero.
 *
 * F1 ⊗ F2 is never built: x, read as (rows, in1, in2), is multiplied by F2 along in2 and then by F1 along in1. */
#include <graft/graft.h>

typedef struct {
    int64_t rank, factor;
    double alpha;
    int32_t decompose_both;
} lokr;

static const graft_option options[] = {
    GRAFT_OPTION_INT(lokr, rank, 8, 1, 65536, "width of a decomposed factor", "r"),
    GRAFT_OPTION_REAL(lokr, alpha, 8, 0, 1e6, "the update is scaled by alpha / rank", "alpha"),
    GRAFT_OPTION_INT(lokr, factor, -1, -1, 65536, "rows and columns of F1; -1 = as near the root of W's as can be",
                     "decompose_factor"),
    GRAFT_OPTION_BOOL(lokr, decompose_both, 0, "whether F1 may be of low rank too", "decompose_both"),
};

/* F1 is w1, or u1·v1 where low1 is 1; F2 is w2, or u2·v2 where low2 is 1. What is not used is absent. */
static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("out1", "1"),
    GRAFT_SLOT_NUMBER("in1", "1"),
    GRAFT_SLOT_NUMBER("out2", "out / out1"),
    GRAFT_SLOT_NUMBER("in2", "in / in1"),
    GRAFT_SLOT_NUMBER("low1", "decompose_both && rank < max(out1, in1) / 2"),
    GRAFT_SLOT_NUMBER("low2", "rank < max(out2, in2) / 2"),
    GRAFT_SLOT_NUMBER("s", "alpha / rank"),
    GRAFT_SLOT_PARAM("w1", "out1 * !low1, in1", "w1 = 0", "lokr_w1", NULL),
    GRAFT_SLOT_PARAM("u1", "out1 * low1, rank", "u1 = 0", "lokr_w1_a", NULL),
    GRAFT_SLOT_PARAM("v1", "rank, in1 * low1", "v1 = uniform(-1, 1) / sqrt(in1)", "lokr_w1_b", NULL),
    GRAFT_SLOT_PARAM("w2", "out2 * !low2, in2", "w2 = uniform(-1, 1) / sqrt(in2)", "lokr_w2", NULL),
    GRAFT_SLOT_PARAM("u2", "out2 * low2, rank", "u2 = uniform(-1, 1) / sqrt(rank)", "lokr_w2_a", NULL),
    GRAFT_SLOT_PARAM("v2", "rank, in2 * low2", "v2 = uniform(-1, 1) / sqrt(in2)", "lokr_w2_b", NULL),
    GRAFT_SLOT_STEP("F1", "out1, in1"),
    GRAFT_SLOT_STEP("F2", "out2, in2"),
    GRAFT_SLOT_KEPT("U", "rows, in1, out2"), /* x·F2ᵀ in each of the in1 blocks of x */
    GRAFT_SLOT_TEMP("G1", "out1, in1"),      /* ∂loss / ∂F1                          */
    GRAFT_SLOT_TEMP("G2", "out2, in2"),
};

static const graft_field fields[] = {
    {"peft_type",            "LOKR"},
    {"use_effective_conv2d", "*"   }, /* there are no convolutions here */
    {"init_weights",         "*"   },
    {"rank_dropout_scale",   "*"   },
};

/* `wanted` where it divides n, else the largest factor of n that is neither above it nor above √n (-1: any). */
static int64_t first_factor(int64_t n, int64_t wanted) {
    int64_t best = 1;
    if (wanted > 0 && n % wanted == 0) return wanted;
    for (int64_t m = 2; m <= n / m && (wanted < 0 || m <= wanted); m++)
        if (n % m == 0) best = m;
    return best;
}

static void bind(graft_call *c) {
    const lokr *self = c->self;
    if (c->site->onehot) {
        c->services->refuse(c, "an embedding is looked up, not multiplied");
        return;
    }
    c->services->set(c, "out1", (double)first_factor(c->site->out, self->factor));
    c->services->set(c, "in1", (double)first_factor(c->site->in, self->factor));
}

static void prepare(graft_call *c) {
    graft_run(c, "F1[l,m] = w1[l,m]; F1[l,m] = u1[l,r] * v1[r,m]"); /* one of the two is absent */
    graft_run(c, "F2[k,q] = w2[k,q]; F2[k,q] = u2[k,r] * v2[r,q]");
}

static void forward(graft_call *c) { /* y holds x·Wᵀ + b */
    graft_run(c, "U[n,m,k]     = x[n,(m,q)] * F2[k,q]");
    graft_run(c, "y[n,(l,k)] += s * U[n,m,k] * F1[l,m]");
}

static void backward(graft_call *c) {
    graft_run(c, "G1[l,m]      = s * dy[n,(l,k)] * U[n,m,k]"); /* ∂y/∂F1 = s·U        */
    graft_run(c, "dU[n,m,k]    = s * dy[n,(l,k)] * F1[l,m]");  /* ∂y/∂U  = s·F1       */
    graft_run(c, "G2[k,q]      = dU[n,m,k] * x[n,(m,q)]");     /* ∂U/∂F2 = x          */
    graft_run(c, "dx[n,(m,q)] += dU[n,m,k] * F2[k,q]");        /* dy·W is the core's  */
    graft_run(c, "dw1[l,m] += G1[l,m]");                       /* F1 = w1, or u1·v1   */
    graft_run(c, "du1[l,r] += G1[l,m] * v1[r,m]; dv1[r,m] += G1[l,m] * u1[l,r]");
    graft_run(c, "dw2[k,q] += G2[k,q]"); /* F2 = w2, or u2·v2   */
    graft_run(c, "du2[k,r] += G2[k,q] * v2[r,q]; dv2[r,q] += G2[k,q] * u2[k,r]");
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

static const graft_component lokr_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "lokr",
    .doc = "the Kronecker product of two small matrices",
    .paper = "Yeh et al., 2024, arXiv:2309.14859; Edalati et al., 2022, arXiv:2212.10650",
    .config_size = sizeof(lokr),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(lokr_component, "0.1.0")
