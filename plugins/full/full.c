/* full — train the base weights themselves: all of them, or the layers and tensors that `targets` and `layers` select.
 *
 * There is no formula: the parameter is the tensor of the model (an ALIAS slot), its gradient is what the backward pass of
 * the model yields, dW = dyᵀ·x. With targets = * this is full fine-tuning; with targets = norm it is norm tuning; with
 * targets = *.bias BitFit (Ben Zaken et al., 2021, arXiv:2106.10199). What comes out is a model folder, not an adapter. */
#include <graft/graft.h>

static const graft_slot slots[] = {GRAFT_SLOT_ALIAS("W")};

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_TENSOR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
};

static const graft_component full_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "full",
    .doc = "trains the selected base weights themselves (full and partial fine-tuning)",
    .paper = "",
    .slots = GRAFT_ROWS(slots),
    .functions = &adapter,
};
GRAFT_PLUGIN(full_component, "0.1.0")
