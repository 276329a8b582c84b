/* ln-tuning — train the norms and nothing else. Qi et al., 2022, arXiv:2211.08682
 *
 *   y = w ⊙ x / rms(x)          (RMSNorm)          y = w ⊙ (x - mean(x)) / std(x) + b          (LayerNorm)
 *
 * The parameter is the model's own w (and b): an ALIAS slot, whose gradient the core's backward pass yields, so there is
 * no formula here. Unlike `full` with targets = *norm* the result is an adapter folder, which PEFT reads. */
#include <graft/graft.h>
#include <string.h>

static const graft_slot slots[] = {GRAFT_SLOT_ALIAS_AS("W", "base_model.model.{parent}.ln_tuning_layers.{leaf}")};

static const graft_field fields[] = {
    {"peft_type", "LN_TUNING"},
};

/* A norm is what has a vector as its weight, and lies in a module that says so. */
static void bind(graft_call *c) {
    const char *dot = strrchr(c->site->name, '.'), *module = dot;
    while (module > c->site->name && module[-1] != '.')
        module--;
    const size_t length = (size_t)(dot - module);
    const int is_norm = (length >= 4 && strncmp(dot - 4, "norm", 4) == 0) || strncmp(module, "ln_", 3) == 0;
    if (c->site->in != 0 || !is_norm) c->services->refuse(c, "it belongs to no norm");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_TENSOR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
};

static const graft_component ln_tuning_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "ln-tuning",
    .doc = "trains the norms of the model",
    .paper = "Qi et al., 2022, arXiv:2211.08682",
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(ln_tuning_component, "0.1.0")
