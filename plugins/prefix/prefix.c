/* prefix — prefix tuning. Li & Liang, 2021, arXiv:2101.00190
 *
 *   attention(q, [K_P ; K], [V_P ; V])          P (tokens, 2·layers·width)
 *
 * In front of the keys and values of the text every layer gets some that belong to no text and are trained. All queries see
 * them, as if `tokens` words stood there that say what to do; no weight changes, and one base serves many prefixes.
 *
 * P holds them as PEFT lays them out: for each token the key and the value of layer 0, of layer 1, ... The keys are used as
 * they are, without the rotation that marks positions, and the text begins at position `tokens`. At a KV point y is this one
 * matrix, of as many rows as the NUMBER `rows` says; the core carries it into every layer and gives its gradient back. */
#include <graft/graft.h>

typedef struct {
    int64_t tokens;
    double spread;
} prefix;

static const graft_option options[] = {
    GRAFT_OPTION_INT(prefix, tokens, 20, 1, 65536, "virtual tokens in front of each document", "num_virtual_tokens"),
    GRAFT_OPTION_REAL(prefix, spread, 1, 0, 100, "standard deviation of the first keys and values", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("rows", "tokens"),
    GRAFT_SLOT_PARAM("P", "tokens, out", "P = spread * normal", "prompt_embeddings", NULL),
};

/* What describes the model is not needed: shapes are checked. A folder holds keys and values, however they were found. */
static const graft_field fields[] = {
    {"peft_type",                  "PREFIX_TUNING"},
    {"num_transformer_submodules", "1"            },
    {"num_layers",                 "*"            },
    {"num_attention_heads",        "*"            },
    {"token_dim",                  "*"            },
    {"encoder_hidden_size",        "*"            },
    {"prefix_projection",          "*"            },
    {"init_weights",               "*"            },
};

static void forward(graft_call *c) {
    graft_run(c, "y[n,o] = P[n,o]");
}

static void backward(graft_call *c) {
    graft_run(c, "dP[n,o] += dy[n,o]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_KV,
    .forward = forward,
    .backward = backward,
};

static const graft_component prefix_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prefix",
    .doc = "trained keys and values in front of the text, in every layer",
    .paper = "Li & Liang, 2021, arXiv:2101.00190",
    .config_size = sizeof(prefix),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(prefix_component, "0.1.0")
