/* lowrank.h — what the LoRA family shares, so that a member's file shows only what differs. Not ABI: plugins compile it in.
 *
 * y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ with A (rank, in), B (out, rank), H (rows, rank) = x·Aᵀ; plugins/lora spells it out. */
#ifndef GRAFT_LOWRANK_H
#define GRAFT_LOWRANK_H
#include <graft/graft.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
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

/* clang-format off */
#define LOWRANK_ADAPTER(adapter_flags)                                                                                 \
    {.size = sizeof(graft_adapter), .sites = GRAFT_LINEAR, .flags = (adapter_flags), .low_rank = "A B s H",            \
     .forward = lowrank_forward, .backward = lowrank_backward}
/* clang-format on */

#endif
