/* vera — Vector-based Random Matrix Adaptation. Kopiczko et al., 2024, arXiv:2310.11454
 *
 *   y = x·Wᵀ + b + ((x·Aᵀ) ⊙ d)·Bᵀ ⊙ e      A (rank, in)   B (out, rank)   d (rank)   e (out)
 *
 * The shape of LoRA, but A and B are random, frozen, and the same for all layers; trained are two vectors, which pick and
 * weigh their directions. e begins at zero: the model is unchanged. A layer uses the first `in` columns of A and the first
 * `out` rows of B, which are as large as the largest layer needs.
 *
 * A and B need not be stored: both are the numbers that torch draws for `seed`, A first and B behind it, uniform between
 * ±√(6 / columns) (kaiming uniform). */
#include <graft/graft.h>

typedef struct {
    int64_t rank, seed;
    double dropout, d_initial;
} vera;

static const graft_option options[] = {
    GRAFT_OPTION_INT(vera, rank, 256, 1, 65536, "width of the random matrices", "r"),
    GRAFT_OPTION_INT(vera, seed, 0, 0, 4294967295, "of the random matrices", "projection_prng_key"),
    GRAFT_OPTION_REAL(vera, dropout, 0, 0, 0.999, "share of x hidden from the update in training", "vera_dropout"),
    GRAFT_OPTION_REAL(vera, d_initial, 0.1, -1e3, 1e3, "first value of d", "d_initial"),
};

/* mt19937(seed, first): numbers in [0, 1), `first` of them passed over. In the init of a SHARED slot in and out are the largest. */
static const graft_slot slots[] = {
    GRAFT_SLOT_SHARED("A", "rank, in", "A = mt19937(seed, 0) * (2 * sqrt(6 / in)) - sqrt(6 / in)", "base_model.vera_A"),
    GRAFT_SLOT_SHARED("B", "out, rank", "B = mt19937(seed, rank * in) * (2 * sqrt(6 / rank)) - sqrt(6 / rank)",
                      "base_model.vera_B"),
    GRAFT_SLOT_PARAM("d", "rank", "d = d_initial", "vera_lambda_d", NULL),
    GRAFT_SLOT_PARAM("e", "out", "e = 0", "vera_lambda_b", NULL),
    GRAFT_SLOT_KEPT("H", "rows, rank"), /* x·Aᵀ */
    GRAFT_SLOT_TEMP("D", "rows, rank"), /* H ⊙ d */
    GRAFT_SLOT_TEMP("F", "out, rank"),  /* B ⊙ e */
    GRAFT_SLOT_TEMP("C", "out, rank"),  /* dyᵀ·H ⊙ B */
};

static const graft_field fields[] = {
    {"peft_type",       "VERA"},
    {"save_projection", "*"   },
    {"init_weights",    "*"   },
};

static void bind(graft_call *c) {
    if (c->site->onehot) c->services->refuse(c, "an embedding is no product with random directions");
}

static void forward(graft_call *c) { /* y holds x·Wᵀ + b */
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "D[n,r]  = H[n,r] * d[r]");
    graft_run(c, "F[o,r]  = B[o,r] * e[o]");
    graft_run(c, "y[n,o] += D[n,r] * F[o,r]");
}

static void backward(graft_call *c) {
    graft_run(c, "C[o,r]  = dy[n,o] * H[n,r]");  /* Σ_n, shared by both:  */
    graft_run(c, "C[o,r] *= B[o,r]");            /* B ⊙ (dyᵀ·H)           */
    graft_run(c, "de[o]  += C[o,r] * d[r]");     /* ∂y/∂e = (H ⊙ d)·Bᵀ   */
    graft_run(c, "dd[r]  += C[o,r] * e[o]");     /* ∂y/∂d = H ⊙ (e·B)    */
    graft_run(c, "F[o,r]  = B[o,r] * e[o]");     /* ∂y/∂(H ⊙ d) = B ⊙ e  */
    graft_run(c, "dH[n,r] = dy[n,o] * F[o,r]");  /* ×dy                  */
    graft_run(c, "dH[n,r] *= d[r]");             /* ∂(H ⊙ d)/∂H = d      */
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]"); /* dy·W is the core's   */
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
    .forward = forward,
    .backward = backward,
};

static const graft_component vera_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "vera",
    .doc = "trained vectors between random matrices that all layers share",
    .paper = "Kopiczko et al., 2024, arXiv:2310.11454",
    .config_size = sizeof(vera),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(vera_component, "0.1.0")
