/* adalora — a rank for each layer, found while training. Zhang et al., 2023, arXiv:2303.10512
 *
 *   y = x·Wᵀ + b + s · ((x·Aᵀ) ⊙ E)·Bᵀ      A (init_rank, in)   E (init_rank)   B (out, init_rank)   s = alpha / init_rank
 *
 * The update is written like an SVD: rows of A and columns of B are directions, E their weights. Each triple (A_r, E_r, B_r)
 * gets a score; at every `every` steps the lowest of the whole model are silenced by E_r = 0, ever more of them, until
 * target_rank is left on average. Layers that need more keep more.
 *
 *   score of a number p with gradient g:   I = β1·I + (1 - β1)·|p·g|        sensitivity, smoothed
 *                                          U = β2·U + (1 - β2)·||p·g| - I|  its uncertainty          score = I·U
 *   of a triple:   that of E_r + the mean over A_r + the mean over B_r
 *   budget:        target + (init - target)·(1 - (t - tinit) / (total - tfinal - tinit))³ triples at step t
 *
 * That A and B stay directions is asked for, not enforced: the loss gets orthogonality · mean ‖A·Aᵀ - I‖, ‖Bᵀ·B - I‖.
 * From step total - tfinal on the choice is final, and a folder holds the triples that are left. */
#include <graft/graft.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    int64_t init_rank, target_rank, tinit, tfinal, every, total;
    double alpha, dropout, beta1, beta2, orthogonality;
} adalora;

static const graft_option options[] = {
    GRAFT_OPTION_INT(adalora, init_rank, 12, 1, 65536, "triples of each layer at the start", "init_r"),
    GRAFT_OPTION_INT(adalora, target_rank, 8, 0, 65536, "triples of each layer at the end, on average", "target_r"),
    GRAFT_OPTION_REAL(adalora, alpha, 8, 0, 1e6, "the update is scaled by alpha / init_rank", "lora_alpha"),
    GRAFT_OPTION_REAL(adalora, dropout, 0, 0, 0.999, "share of x hidden from the update in training", "lora_dropout"),
    GRAFT_OPTION_INT(adalora, tinit, 0, 0, 1e12, "first steps, in which nothing is silenced", "tinit"),
    GRAFT_OPTION_INT(adalora, tfinal, 0, 0, 1e12, "last steps, in which the choice is final", "tfinal"),
    GRAFT_OPTION_INT(adalora, every, 1, 1, 1e12, "steps from one choice to the next", "deltaT"),
    GRAFT_OPTION_INT(adalora, total, 0, 0, 1e12, "steps that the budget is spread over; 0 = those of the run",
                     "total_step"),
    GRAFT_OPTION_REAL(adalora, beta1, 0.85, 0, 1, "smooths the sensitivity", "beta1"),
    GRAFT_OPTION_REAL(adalora, beta2, 0.85, 0, 1, "smooths the uncertainty", "beta2"),
    GRAFT_OPTION_REAL(adalora, orthogonality, 0.5, 0, 1e3, "weight of the term that keeps directions apart",
                      "orth_reg_weight"),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("A", "init_rank, in", "A = 0.02 * normal", "lora_A", NULL),
    GRAFT_SLOT_PARAM("E", "init_rank, 1", "E = 0", "lora_E", NULL),
    GRAFT_SLOT_PARAM("B", "out, init_rank", "B = 0.02 * normal", "lora_B", NULL),
    GRAFT_SLOT_KEPT("H", "rows, init_rank"), /* x·Aᵀ  */
    GRAFT_SLOT_TEMP("D", "rows, init_rank"), /* H ⊙ E */
    GRAFT_SLOT_NUMBER("s", "(alpha > 0 ? alpha : init_rank) / (init_rank + 1e-5)"),
    GRAFT_SLOT_BUFFER("IA", "init_rank, in", NULL, NULL),
    GRAFT_SLOT_BUFFER("UA", "init_rank, in", NULL, NULL),
    GRAFT_SLOT_BUFFER("IE", "init_rank, 1", NULL, NULL),
    GRAFT_SLOT_BUFFER("UE", "init_rank, 1", NULL, NULL),
    GRAFT_SLOT_BUFFER("IB", "out, init_rank", NULL, NULL),
    GRAFT_SLOT_BUFFER("UB", "out, init_rank", NULL, NULL),
    GRAFT_SLOT_SHARED("scores", "sites, init_rank", NULL, NULL), /* of all triples of the model */
    GRAFT_SLOT_BUFFER("left", "init_rank", "left = 1", NULL),    /* 0: silenced for good        */
    GRAFT_SLOT_TEMP("M", "init_rank, init_rank"),
    GRAFT_SLOT_TEMP("N", "1"),
};

static const graft_field fields[] = {
    {"peft_type",         "ADALORA"},
    {"r",                 "*"      }, /* PEFT ignores it too */
    {"use_dora",          "false"  },
    {"use_rslora",        "false"  },
    {"lora_bias",         "false"  },
    {"init_lora_weights", "*"      },
};

static void bind(graft_call *c) {
    const adalora *self = c->self;
    if (self->target_rank > self->init_rank) c->services->fail(c, "target_rank is above init_rank");
    if (c->site->onehot) c->services->refuse(c, "an embedding's rows have no common directions");
}

static void forward(graft_call *c) { /* y holds x·Wᵀ + b */
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "D[n,r]  = H[n,r] * E[r,0]");
    graft_run(c, "y[n,o] += s * D[n,r] * B[o,r]");
}

static void backward(graft_call *c) {
    graft_run(c, "D[n,r]   = H[n,r] * E[r,0]");
    graft_run(c, "dB[o,r] += s * dy[n,o] * D[n,r]"); /* ∂y/∂B = s·D       */
    graft_run(c, "dH[n,r]  = s * dy[n,o] * B[o,r]"); /* ∂y/∂D = s·B       */
    graft_run(c, "dE[r,0] += dH[n,r] * H[n,r]");     /* ∂D/∂E = H         */
    graft_run(c, "dH[n,r] *= E[r,0]");               /* ∂D/∂H = E         */
    graft_run(c, "dA[r,i] += dH[n,r] * x[n,i]");     /* ∂H/∂A = x         */
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]");
}

/* orthogonality · ‖M‖ / (2·sites) with M = A·Aᵀ - I:   ∂‖M‖/∂A = 2·M·A / ‖M‖ */
static void regularize(graft_call *c) {
    graft_run(c, "M[r,q]   = A[r,i] * A[q,i]; M[r,q] -= r == q");
    graft_run(c, "N = M * M; N = max(sqrt(N), 1e-30); loss += orthogonality * N / (2 * sites)");
    graft_run(c, "dA[r,i] += orthogonality / sites * M[r,q] * A[q,i] / N[0]");
    graft_run(c, "M[r,q]   = B[o,r] * B[o,q]; M[r,q] -= r == q");
    graft_run(c, "N = M * M; N = max(sqrt(N), 1e-30); loss += orthogonality * N / (2 * sites)");
    graft_run(c, "dB[o,r] += orthogonality / sites * B[o,q] * M[q,r] / N[0]");
}

/* ---- the choice ---- */

static int64_t total_steps(const graft_call *c) {
    const adalora *self = c->self;
    return self->total ? self->total : c->steps;
}

static int64_t last_choice(const graft_call *c) {
    const adalora *self = c->self;
    return total_steps(c) - self->tfinal;
}

static void score(graft_call *c) {
    graft_run(c, "IA = beta1 * IA + (1 - beta1) * abs(A * dA); UA = beta2 * UA + (1 - beta2) * abs(abs(A * dA) - IA)");
    graft_run(c, "IE = beta1 * IE + (1 - beta1) * abs(E * dE); UE = beta2 * UE + (1 - beta2) * abs(abs(E * dE) - IE)");
    graft_run(c, "IB = beta1 * IB + (1 - beta1) * abs(B * dB); UB = beta2 * UB + (1 - beta2) * abs(abs(B * dB) - IB)");
    graft_run(c, "scores[=site,r]  = IE[r,0] * UE[r,0]");
    graft_run(c, "scores[=site,r] += IA[r,i] * UA[r,i] / in");
    graft_run(c, "scores[=site,r] += IB[o,r] * UB[o,r] / out");
}

/* How many triples of the model step t leaves. */
static int64_t budget(const graft_call *c) {
    const adalora *self = c->self;
    const int64_t all = self->init_rank * c->site->sites, target = self->target_rank * c->site->sites;
    const int64_t last = last_choice(c);
    if (c->step >= last) return target;
    const double left = 1 - (double)(c->step - self->tinit) / (double)(last - self->tinit);
    return (int64_t)((double)(all - target) * pow(left, 3) + (double)target);
}

/* Silences the triples of this site that are not above the lowest score that must go. */
static void choose(graft_call *c) {
    const adalora *self = c->self;
    const int64_t rank = self->init_rank, all = rank * c->site->sites, go = all - budget(c);
    double *scores = calloc((size_t)all, sizeof *scores), *own = calloc((size_t)rank * 2, sizeof *own);
    int64_t *order = calloc((size_t)all, sizeof *order);
    if (scores && own && order && go > 0) {
        double *weights = own, *left = own + rank, threshold = 0;
        c->services->read(c, "scores", scores);
        c->services->read(c, "E", weights);
        c->services->rank(scores, all, order);
        for (int64_t i = 0; i < all; i++)
            if (order[i] == go - 1) threshold = scores[i];
        for (int64_t r = 0; r < rank; r++) {
            left[r] = scores[c->site->site * rank + r] > threshold;
            weights[r] *= left[r];
        }
        c->services->write(c, "E", weights);
        if (c->step == last_choice(c)) c->services->write(c, "left", left);
    }
    if (!scores || !own || !order) c->services->fail(c, "no memory for the scores");
    free(scores);
    free(own);
    free(order);
}

static void after_step(graft_call *c) {
    const adalora *self = c->self;
    const int64_t last = last_choice(c), t = c->step;
    const int checked = c->steps == 0; /* on shapes alone: every statement is to be seen */
    if (t == 1 && self->tinit >= last)
        c->services->fail(c, "between tinit and the last tfinal steps of the run none is left to choose in");
    if (c->round == 0) {
        if (t < last || checked) score(c);
    } else if (t > last || checked) {
        graft_run(c, "E[r,0] *= left[r]");
    } else if (t == last || (t > self->tinit && t % self->every == 0)) {
        choose(c);
    }
}

/* After the last choice a folder holds what is left, and says which triples these are. */
static void save(graft_call *c) {
    const adalora *self = c->self;
    char text[32];
    if (!self->total) {
        snprintf(text, sizeof text, "%lld", (long long)(c->steps > 0 ? c->steps : 1));
        c->services->field(c, "total_step", text);
    }
    if (c->steps == 0 || c->step < last_choice(c)) return;
    double *left = calloc((size_t)self->init_rank, sizeof *left);
    if (!left) return;
    c->services->read(c, "left", left);
    c->services->keep(c, "E", 0, left);
    c->services->keep(c, "A", 0, left);
    c->services->keep(c, "B", 1, left);
    free(left);
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
    .forward = forward,
    .backward = backward,
    .regularize = regularize,
    .after_step = after_step,
    .save = save,
};

static const graft_component adalora_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "adalora",
    .doc = "low-rank updates whose ranks are chosen in training",
    .paper = "Zhang et al., 2023, arXiv:2303.10512",
    .config_size = sizeof(adalora),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(adalora_component, "0.1.0")
