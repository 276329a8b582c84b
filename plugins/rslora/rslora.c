/* rslora — rank-stabilized LoRA. Kalajdzievski, 2023, arXiv:2312.03732        s = alpha / sqrt(rank)
 *
 * LoRA in everything but its scale. With s = alpha / rank the update shrinks as the rank grows, and a higher rank learns no
 * better; the paper shows that alpha / sqrt(rank) keeps activations and gradients of one size for every rank. */
#include <graft/lowrank.h>

static const graft_option options[] = {
    LOWRANK_OPTIONS("the update is scaled by alpha / sqrt(rank)"),
    GRAFT_OPTION_BOOL(lowrank_options, update_bias, 0, "the update has a bias of its own", "lora_bias"),
};
static const graft_slot slots[] = {
    LOWRANK_SLOTS(LOWRANK_INIT_A, LOWRANK_INIT_B, "alpha / sqrt(rank)"),
    GRAFT_SLOT_PARAM("c", "out * (update_bias > onehot)", "c = 0", "lora_B.bias", NULL),
};
static const graft_field fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "true" },
    {"use_dora",          "false"},
    {"init_lora_weights", "true" },
};

static void forward(graft_call *c) {
    lowrank_forward(c);
    graft_run(c, "y[n,o] += s * c[o]");
}

static void backward(graft_call *c) {
    lowrank_backward(c);
    graft_run(c, "dc[o] += s * dy[n,o]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .low_rank = "A B s H",
    .forward = forward,
    .backward = backward,
};

static const graft_component rslora_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "rslora",
    .doc = "LoRA whose scale does not shrink with the rank",
    .paper = "Kalajdzievski, 2023, arXiv:2312.03732",
    .config_size = sizeof(lowrank_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(rslora_component, "0.1.0")
