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
#include <graft/virtual.h>

static const graft_option options[] = {VIRTUAL_OPTIONS("standard deviation of the first keys and values")};

static const graft_slot slots[] = {VIRTUAL_SLOTS};

static const graft_field fields[] = {
    {"encoder_hidden_size", "*"},
    {"prefix_projection",   "*"},
    {"init_weights",        "*"},
    VIRTUAL_FIELDS("PREFIX_TUNING")
};

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_KV,
    .forward = virtual_forward,
    .backward = virtual_backward,
};

static const graft_component prefix_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prefix",
    .doc = "trained keys and values in front of the text, in every layer",
    .paper = "Li & Liang, 2021, arXiv:2101.00190",
    .config_size = sizeof(virtual_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(prefix_component, "0.1.0")
