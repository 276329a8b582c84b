/* sft — supervised fine-tuning: the mean negative log-likelihood of the targets.
 *
 *   loss = -Σ weight·logp / total            ∂loss/∂logp = -weight / total
 *
 * total sums the weights of the whole optimizer step, so every target counts the same however the step is cut into
 * slices. The derivative does not depend on logp: the core asks for it first and fuses head and loss into one pass. */
#include <graft/graft.h>

static double loss(const void *self, const graft_batch *b, float *dlogp) {
    (void)self;
    double sum = 0;
    for (int64_t i = 0; i < b->tokens; i++) {
        const double share = b->total > 0 ? b->weight[i] / b->total : 0;
        dlogp[i] = (float)-share;
        if (b->logp) sum -= share * b->logp[i];
    }
    return sum;
}

static const graft_objective functions = {.size = sizeof functions, .flags = GRAFT_WEIGHTS_KNOWN, .loss = loss};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.objective/1",
    .name = "sft",
    .doc = "likelihood of the targets",
    .paper = "",
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
