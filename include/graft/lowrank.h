/* lowrank.h — what the LoRA family shares, so that a member's file shows only what differs. Not ABI: plugins compile it in.
 *
 * y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ with A (rank, in), B (out, rank), H (rows, rank) = x·Aᵀ; plugins/lora spells it out. */
#ifndef GRAFT_LOWRANK_H
#define GRAFT_LOWRANK_H
#include <graft/graft.h>
#include <math.h>
#include <stdio.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
    int32_t rslora, update_bias; /* of the members that have them; the others leave 0 */
} lowrank_options;

/* clang-format off */
#define LOWRANK_OPTIONS(scale_doc)                                                                                     \
    GRAFT_OPTION_INT(lowrank_options, rank, 8, 1, 65536, "width of the update", "r"),                                  \
        GRAFT_OPTION_REAL(lowrank_options, alpha, 16, 0, 1e6, scale_doc, "lora_alpha"),                                \
        GRAFT_OPTION_REAL(lowrank_options, dropout, 0, 0, 0.999, "share of x hidden from the update in training",      \
                          "lora_dropout")

#define LOWRANK_SLOTS(init_a, init_b, scale)                                                                           \
    GRAFT_SLOT_PARAM("A", "rank, in", init_a, "lora_A.weight", "lora_embedding_A"),                                    \
        GRAFT_SLOT_PARAM("B", "out, rank", init_b, "lora_B.weight", "lora_embedding_B"),                               \
        GRAFT_SLOT_KEPT("H", "rows, rank"), GRAFT_SLOT_NUMBER("s", scale)

/* clang-format on */

/* Behind LOWRANK_OPTIONS, with the scale LOWRANK_EITHER_SCALE. */
#define LOWRANK_RSLORA                                                                                                 \
    GRAFT_OPTION_BOOL(lowrank_options, rslora, 0, "scaled by alpha / sqrt(rank) instead", "use_rslora")
#define LOWRANK_EITHER_SCALE "alpha / (rslora ? sqrt(rank) : rank)"

/* First values as in lora: the update is zero at step 0. */
#define LOWRANK_INIT_A "A = onehot ? 0 : uniform(-1, 1) / sqrt(in)"
#define LOWRANK_INIT_B "B = onehot ? normal : 0"

static inline void lowrank_forward(graft_call *c) {
    graft_run(c, "H[n,r]  = x[n,i] * A[r,i]");
    graft_run(c, "y[n,o] += s * H[n,r] * B[o,r]");
}

static inline void lowrank_backward(graft_call *c) {
    graft_run(c, "dB[o,r] += s * dy[n,o] * H[n,r]");
    graft_run(c, "dH[n,r]  = s * dy[n,o] * B[o,r]");
    graft_run(c, "dA[r,i] += dH[n,r] * x[n,i]");
    graft_run(c, "dx[n,i] += dH[n,r] * A[r,i]");
}

/* ---- members that begin by moving a part of W into the adapter (pissa, olora): W = W' + s·B0·A0 --------------------------
 *
 * The folder written belongs to the base as it was: [A; A0] and [B, -B0] add s·(B·A - B0·A0), at twice the rank and alpha
 * (with rslora √2 times alpha). */

/* clang-format off */
#define LOWRANK_SPLIT_SLOTS                                                                                            \
    LOWRANK_SLOTS(NULL, NULL, LOWRANK_EITHER_SCALE), GRAFT_SLOT_BUFFER("A0", "rank, in", NULL, NULL),                        \
        GRAFT_SLOT_BUFFER("B0", "out, rank", NULL, NULL),                                                              \
        {"A2", "2 * rank, in", GRAFT_TEMP, 0, NULL, "lora_A.weight", NULL, "", NULL},                                  \
        {"B2", "out, 2 * rank", GRAFT_TEMP, 0, NULL, "lora_B.weight", NULL, "", NULL}

#define LOWRANK_SPLIT_FIELDS(init_word)                                                                                \
    {"peft_type", "LORA"}, {"use_dora", "false"}, {"lora_bias", "false"}, {"init_lora_weights", init_word}

/* clang-format on */

static inline void lowrank_split_bind(graft_call *c) {
    const lowrank_options *o = c->self;
    if (c->site->onehot) {
        c->services->refuse(c, "an embedding is not decomposed");
        return;
    }
    if (o->rank > c->site->in || o->rank > c->site->out)
        c->services->fail(c, "rank is larger than a side of the matrix");
    if (o->alpha <= 0) c->services->fail(c, "alpha must be above 0: the part of W moves through the scale");
}

/* Once A and B have their first values: what they add is taken out of W. */
static inline void lowrank_split(graft_call *c) {
    graft_run(c, "W[o,i] -= s * B[o,r] * A[r,i]; A0 = A; B0 = B");
}

static inline void lowrank_split_save(graft_call *c) {
    const lowrank_options *o = c->self;
    char rank[32], alpha[32];
    graft_run(c, "A2[(h,r),i] = h == 0 ? A[r,i] : A0[r,i]; B2[o,(h,r)] = h == 0 ? B[o,r] : -B0[o,r]");
    snprintf(rank, sizeof rank, "%lld", 2 * (long long)o->rank);
    snprintf(alpha, sizeof alpha, "%.17g", (o->rslora ? sqrt(2) : 2) * o->alpha);
    c->services->field(c, "r", rank);
    c->services->field(c, "lora_alpha", alpha);
    c->services->field(c, "init_lora_weights", "true");
}

/* clang-format off */
#define LOWRANK_SPLIT_ADAPTER(first_values)                                                                            \
    {.size = sizeof(graft_adapter), .sites = GRAFT_LINEAR, .flags = GRAFT_LINEAR_IN_X, .low_rank = "A B s H",          \
     .bind = lowrank_split_bind, .init = (first_values), .forward = lowrank_forward, .backward = lowrank_backward,     \
     .save = lowrank_split_save}
/* clang-format on */

#endif
