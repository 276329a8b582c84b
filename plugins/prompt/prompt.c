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
#include <graft/virtual.h>

static const graft_option options[] = {VIRTUAL_OPTIONS("standard deviation of the first rows")};

static const graft_slot slots[] = {VIRTUAL_SLOTS};

static const graft_field fields[] = {
    {"prompt_tuning_init",      "*"},
    {"prompt_tuning_init_text", "*"},
    {"tokenizer_name_or_path",  "*"},
    {"tokenizer_kwargs",        "*"},
    VIRTUAL_FIELDS("PROMPT_TUNING")
};

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_EMBED,
    .forward = virtual_forward,
    .backward = virtual_backward,
};

static const graft_component prompt_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prompt",
    .doc = "trained embeddings in front of the text",
    .paper = "Lester et al., 2021, arXiv:2104.08691",
    .config_size = sizeof(virtual_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(prompt_component, "0.1.0")
