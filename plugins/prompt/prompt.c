/* prompt — prompt tuning. Lester et al., 2021, arXiv:2104.08691
 *
 *   model([P ; E[ids]])          P (tokens, hidden)
 *
 * In front of the embeddings of the text stand `tokens` rows that are no words and are trained: the prompt, written by
 * gradient descent in a language of its own. `prefix` does the same in every layer, this only at the first: a few thousand
 * numbers, which work the better the larger the model is.
 *
 * At an EMBED point y is these rows, as many as the NUMBER `rows` says; positions count over everything, and where the first
 * token of a text is to be learned the last virtual row predicts it. */
#include <graft/graft.h>

typedef struct {
    int64_t tokens;
    double spread;
} prompt;

static const graft_option options[] = {
    GRAFT_OPTION_INT(prompt, tokens, 20, 1, 65536, "virtual tokens in front of each document", "num_virtual_tokens"),
    GRAFT_OPTION_REAL(prompt, spread, 1, 0, 100, "standard deviation of the first rows", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("rows", "tokens"),
    GRAFT_SLOT_PARAM("P", "tokens, out", "P = spread * normal", "prompt_embeddings", NULL),
};

/* What describes the model is not needed: shapes are checked. A folder holds rows, however they began. */
static const graft_field fields[] = {
    {"peft_type",                  "PROMPT_TUNING"},
    {"num_transformer_submodules", "1"            },
    {"num_layers",                 "*"            },
    {"num_attention_heads",        "*"            },
    {"token_dim",                  "*"            },
    {"prompt_tuning_init",         "*"            },
    {"prompt_tuning_init_text",    "*"            },
    {"tokenizer_name_or_path",     "*"            },
    {"tokenizer_kwargs",           "*"            },
};

static void forward(graft_call *c) {
    graft_run(c, "y[n,o] = P[n,o]");
}

static void backward(graft_call *c) {
    graft_run(c, "dP[n,o] += dy[n,o]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_EMBED,
    .forward = forward,
    .backward = backward,
};

static const graft_component prompt_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prompt",
    .doc = "trained embeddings in front of the text",
    .paper = "Lester et al., 2021, arXiv:2104.08691",
    .config_size = sizeof(prompt),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(prompt_component, "0.1.0")
