/* rslora — rank-stabilized LoRA. Kalajdzievski, 2023, arXiv:2312.03732        s = alpha / sqrt(rank)
 *
 * LoRA in everything but its scale. With s = alpha / rank the update shrinks as the rank grows, and a higher rank learns no
 * better; the paper shows that alpha / sqrt(rank) keeps activations and gradients of one size for every rank. */
#include <graft/lowrank.h>

static const graft_option options[] = {LOWRANK_OPTIONS("the update is scaled by alpha / sqrt(rank)")};
static const graft_slot slots[] = {LOWRANK_SLOTS(LOWRANK_INIT_A, LOWRANK_INIT_B, "alpha / sqrt(rank)")};
static const graft_field fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "true" },
    {"use_dora",          "false"},
    {"lora_bias",         "false"},
    {"init_lora_weights", "true" },
};
static const graft_adapter adapter = LOWRANK_ADAPTER(GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT);

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
