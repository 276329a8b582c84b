/* bitfit — train the biases and nothing else. Ben Zaken et al., 2021, arXiv:2106.10199
 *
 *   y = x·Wᵀ + b          db = Σ_n dy[n]
 *
 * The parameter is the model's own b: an ALIAS slot, whose gradient the core's backward pass yields, so there is no formula
 * here. A model without biases (Llama, Gemma) has nothing to train; Qwen2 has those of q, k and v, GPT-2 has them everywhere.
 * The folder is graft's own (PEFT has no such type): the biases under the names that the model gives them. */
#include <graft/graft.h>
#include <string.h>

static const graft_slot slots[] = {GRAFT_SLOT_ALIAS_AS("W", "{site}")};

static void bind(graft_call *c) {
    const char *dot = strrchr(c->site->name, '.');
    if (!dot || strcmp(dot, ".bias") != 0) c->services->refuse(c, "it is no bias");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_TENSOR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
};

static const graft_component bitfit_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "bitfit",
    .doc = "trains the biases of the model",
    .paper = "Ben Zaken et al., 2021, arXiv:2106.10199",
    .slots = GRAFT_ROWS(slots),
    .functions = &adapter,
};
GRAFT_PLUGIN(bitfit_component, "0.1.0")
