/* virtual.h — what techniques share that put trained rows in front of a text: `tokens` rows P, as PEFT stores them. Not part of the
 * ABI.
 *
 *   y = P (tokens, out)      dP = dy, summed over the sequences by the core */
#ifndef GRAFT_VIRTUAL_H
#define GRAFT_VIRTUAL_H
#include <graft/graft.h>

typedef struct {
    int64_t tokens;
    double spread;
} virtual_options;

/* clang-format off */
#define VIRTUAL_OPTIONS(spread_doc)                                                                                    \
    GRAFT_OPTION_INT(virtual_options, tokens, 20, 1, 65536, "virtual tokens in front of each document",                \
                     "num_virtual_tokens"),                                                                            \
    GRAFT_OPTION_REAL(virtual_options, spread, 1, 0, 100, spread_doc, NULL)

#define VIRTUAL_SLOTS                                                                                                  \
    GRAFT_SLOT_NUMBER("rows", "tokens"),                                                                               \
    GRAFT_SLOT_PARAM("P", "tokens, out", "P = spread * normal", "prompt_embeddings", NULL)

/* What describes the model is not needed: shapes are checked. A folder holds rows, however they were found. */
#define VIRTUAL_FIELDS(type)                                                                                           \
    {"peft_type", type}, {"num_transformer_submodules", "1"}, {"num_layers", "*"}, {"num_attention_heads", "*"},       \
    {"token_dim", "*"}
/* clang-format on */

static inline void virtual_forward(graft_call *c) {
    graft_run(c, "y[n,o] = P[n,o]");
}

static inline void virtual_backward(graft_call *c) {
    graft_run(c, "dP[n,o] += dy[n,o]");
}

#endif
