/* oft — Orthogonal Fine-Tuning. Qiu et al., 2023, arXiv:2306.07280; on inputs: Qiu et al., 2025, arXiv:2506.19847
 *
 *   y = (x·R)·Wᵀ + b,   R = blockdiag(R_1, R_2, ...),   each R_k (b, b) orthogonal
 *
 * Blocks of b features are rotated before the layer reads them. A rotation keeps lengths and angles between features, so what
 * the layer knows about their relations stays; training only turns it. Merged: W·Rᵀ.
 *
 * A rotation comes from a skew matrix Q (Qᵀ = -Q), of which V holds the upper triangle row by row, zero at the start:
 *   Cayley:   R = (I - Q)·(I + Q)⁻¹ = 2X - I,   X = (I + Q)⁻¹
 *   Neumann:  R = I + 2Q + 2Q² + ... + 2Qᵐ⁻¹ + Qᵐ,   the first terms of Cayley's series (for -Q, as PEFT has it): no inverse,
 *             orthogonal as long as Q is small.
 * `share` turns all blocks alike. `coft` keeps every Q no longer than eps / √blocks: the constrained form of the paper.
 *
 * k counts blocks, i j l places in a block, p entries of the triangle. */
#include <graft/graft.h>
#include <stdio.h>

typedef struct {
    int64_t block_size, blocks, terms;
    double eps;
    int32_t neumann, share, coft;
} oft;

static const graft_option options[] = {
    GRAFT_OPTION_INT(oft, block_size, 32, 0, 2048, "features turned together; the nearest that divides in",
                     "oft_block_size"),
    GRAFT_OPTION_INT(oft, blocks, 0, 0, 65536, "instead of block_size: into how many blocks x is cut", "r"),
    GRAFT_OPTION_INT(oft, terms, 5, 2, 32, "of the Neumann series", "num_cayley_neumann_terms"),
    GRAFT_OPTION_BOOL(oft, neumann, 1, "the series instead of the exact Cayley transform", "use_cayley_neumann"),
    GRAFT_OPTION_BOOL(oft, share, 0, "one rotation for all blocks", "block_share"),
    GRAFT_OPTION_BOOL(oft, coft, 0, "hold the rotations near the identity", "coft"),
    GRAFT_OPTION_REAL(oft, eps, 6e-5, 0, 1e6, "how near, with coft: the largest length of all Q together", "eps"),
};

/* row: √ is exact, since where a row begins (b - 1/2 - row)² stands under it, and less behind. */
static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("b", "1"),
    GRAFT_SLOT_NUMBER("count", "in / b"),
    GRAFT_SLOT_NUMBER("pairs", "b * (b - 1) / 2"),
    GRAFT_SLOT_NUMBER("last", "terms > 2 ? max(3, terms - 1) : 1"),
    GRAFT_SLOT_PARAM("V", "share ? 1 : count, pairs", "V = 0", "oft_R.weight", NULL),
    GRAFT_SLOT_BUFFER("row", "pairs", "row[p] = floor(b - 0.5 - sqrt((b - 0.5) * (b - 0.5) - 2 * p))", NULL),
    GRAFT_SLOT_BUFFER("col", "pairs", "col[p] = p + 1 + row[p] * (row[p] + 3 - 2 * b) / 2", NULL),
    GRAFT_SLOT_STEP("Q", "count, b, b"),
    GRAFT_SLOT_STEP("R", "count, b, b"),
    GRAFT_SLOT_TEMP("P", "last + 1, count, b, b"), /* Horner's sums: P_m = c_m·I + Q·P_{m+1}, R = P_0 */
    GRAFT_SLOT_TEMP("X", "count, b, b"),
    GRAFT_SLOT_TEMP("Y", "count, b, b"),
    GRAFT_SLOT_TEMP("G", "count, b, b"),                /* ∂loss / ∂R */
    GRAFT_SLOT_TEMP("S", "count, b * b"),               /* ∂loss / ∂Q */
    GRAFT_SLOT_TEMP("size2", "count"),                  /* ‖Q‖²       */
    GRAFT_SLOT_TEMP("f", "coft * (share ? 1 : count)"), /* coft: what Q is shortened by */
};

static const graft_field fields[] = {
    {"peft_type",    "OFT"},
    {"init_weights", "*"  },
};

/* The factor of n that is nearest to `wanted`, the lower of two. */
static int64_t nearest_factor(int64_t n, int64_t wanted) {
    if (wanted >= n) return n;
    int64_t low = wanted, high = wanted;
    while (n % low)
        low--;
    while (n % high)
        high++;
    return wanted - low <= high - wanted ? low : high;
}

static void bind(graft_call *c) {
    const oft *self = c->self;
    const int64_t in = c->site->in;
    if (self->block_size == 0 && self->blocks == 0) {
        c->services->fail(c, "set block_size, or blocks");
        return;
    }
    const int64_t b = self->blocks ? in / nearest_factor(in, self->blocks) : nearest_factor(in, self->block_size);
    if (b < 2)
        c->services->refuse(c, "blocks of one feature cannot turn");
    else if (b > 2048)
        c->services->fail(c, "blocks of more than 2048 features: choose more blocks");
    else
        c->services->set(c, "b", (double)b);
}

/* The power at which the series ends; with PEFT three and four terms are the same. */
static int highest(const oft *self) {
    return self->terms > 4 ? (int)self->terms - 1 : self->terms > 2 ? 3 : 1;
}

/* P_0 = R and the sums inside it. */
static void horner(graft_call *c) {
    const int last = highest(c->self);
    char text[96];
    snprintf(text, sizeof text, "P[%d,k,i,j] = %d * (i == j)", last, last > 1 ? 1 : 2);
    graft_run(c, text);
    for (int m = last - 1; m >= 0; m--) {
        snprintf(text, sizeof text, "P[%d,k,i,j] = Q[k,i,l] * P[%d,k,l,j]; P[%d,k,i,j] += %d * (i == j)", m, m + 1, m,
                 m ? 2 : 1);
        graft_run(c, text);
    }
}

/* X = (I + Q)⁻¹ by Newton's iteration X ← X·(2I - (I + Q)·X), which doubles the correct digits each time: from
 * (I + Q)ᵀ / (1 + ‖Q‖²) sixteen rounds give ‖Q‖ = 30 to all digits of a float. */
static void invert(graft_call *c) {
    graft_run(c, "size2[k]  = Q[k,i,j] * Q[k,i,j]");
    graft_run(c, "X[k,i,j]  = ((i == j) - Q[k,i,j]) / (1 + size2[k])");
    for (int round = 0; round < 16; round++) {
        graft_run(c, "Y[k,i,j]  = Q[k,i,l] * X[k,l,j]");
        graft_run(c, "Y[k,i,j]  = 2 * (i == j) - X[k,i,j] - Y[k,i,j]");
        graft_run(c, "G[k,i,j]  = X[k,i,l] * Y[k,l,j]");
        graft_run(c, "X = G");
    }
}

/* ‖Q‖² is twice the sum of squares of its triangle. */
static void shorten(graft_call *c) {
    graft_run(c, "f[k] = 2 * V[k,p] * V[k,p]");
    graft_run(c, "f    = f > eps * eps / (share ? 1 : count) ? eps / sqrt(f * (share ? 1 : count)) : 1");
}

static void prepare(graft_call *c) {
    const oft *self = c->self;
    const char *const row = self->share ? "0" : "k";
    char text[128];
    snprintf(text, sizeof text,
             "Q[k,i,j] = sign(j - i) * V[%s,min(i, j) * (2 * b - min(i, j) - 1) / 2 + abs(i - j) - 1]", row);
    graft_run(c, text);
    if (self->coft) {
        shorten(c);
        snprintf(text, sizeof text, "Q[k,i,j] *= f[%s]", row);
        graft_run(c, text);
    }
    if (self->neumann) {
        horner(c);
        graft_run(c, "R[k,i,j] = P[0,k,i,j]");
    } else {
        invert(c);
        graft_run(c, "R[k,i,j] = 2 * X[k,i,j] - (i == j)");
    }
}

static void forward(graft_call *c) {
    graft_run(c, "y[n,(k,j)] = x[n,(k,i)] * R[k,i,j]");
}

/* Series: ∂P_m/∂Q = P_{m+1}, and on into P_{m+1} = ...: G ← Qᵀ·G. */
static void backward_series(graft_call *c) {
    char text[64];
    horner(c);
    graft_run(c, "S[k,(i,l)] = G[k,i,j] * P[1,k,l,j]");
    for (int m = 2; m <= highest(c->self); m++) {
        graft_run(c, "Y[k,l,j] = Q[k,i,l] * G[k,i,j]; G = Y");
        snprintf(text, sizeof text, "S[k,(i,l)] += G[k,i,j] * P[%d,k,l,j]", m);
        graft_run(c, text);
    }
}

/* Cayley: R = 2X - I and ∂X = -X·∂Q·X. */
static void backward_cayley(graft_call *c) {
    graft_run(c, "X[k,i,j]   = (R[k,i,j] + (i == j)) / 2");
    graft_run(c, "Y[k,l,j]   = X[k,i,l] * G[k,i,j]");
    graft_run(c, "S[k,(i,l)] = -2 * Y[k,i,j] * X[k,l,j]");
}

static void backward(graft_call *c) {
    const oft *self = c->self;
    graft_run(c, "dx[n,(k,i)] += dy[n,(k,j)] * R[k,i,j]");   /* ∂y/∂x = R */
    graft_run(c, "G[k,i,j]     = x[n,(k,i)] * dy[n,(k,j)]"); /* ∂y/∂R = x */
    if (self->neumann)
        backward_series(c);
    else
        backward_cayley(c);
    graft_run(c, self->share ? "dV[0,p] += S[k,row[p] * b + col[p]] - S[k,col[p] * b + row[p]]"
                             : "dV[k,p] += S[k,row[p] * b + col[p]] - S[k,col[p] * b + row[p]]"); /* Q = U - Uᵀ */
}

/* The parameter itself is what is shortened, as PEFT does in front of the next pass; so the gradient knows nothing of f. */
static void after_step(graft_call *c) {
    const oft *self = c->self;
    if (!self->coft || c->round > 0) return;
    shorten(c);
    graft_run(c, "V[k,p] *= f[k]");
}

static void save(graft_call *c) { /* PEFT wants one of the two */
    const oft *self = c->self;
    if (self->blocks) c->services->field(c, "oft_block_size", "0");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_INPUT,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
    .after_step = after_step,
    .save = save,
};

static const graft_component oft_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "oft",
    .doc = "rotates blocks of a layer's input",
    .paper = "Qiu et al., 2023, arXiv:2306.07280",
    .config_size = sizeof(oft),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(oft_component, "0.1.0")
