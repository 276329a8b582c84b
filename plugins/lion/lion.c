/* lion — EvoLved Sign Momentum. Chen et al., 2023, arXiv:2302.06675
 *
 *   p ← p·(1 - lr·weight_decay) - lr·sign(beta1·m + (1 - beta1)·g)
 *   m ← beta2·m + (1 - beta2)·g
 *
 * Found by a search over programs. Every number moves by exactly lr (or not at all, where the sum is 0), so one state serves
 * where Adam needs two, and lr is chosen 3 to 10 times smaller with a weight decay as many times larger. */
#include <graft/graft.h>

typedef struct {
    double beta1, beta2, weight_decay;
} lion;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(lion, beta1, 0.9, 0, 0.999999, "weight of the memory in the direction", NULL),
    GRAFT_OPTION_REAL(lion, beta2, 0.99, 0, 0.999999, "memory of the gradients", NULL),
    GRAFT_OPTION_REAL(lion, weight_decay, 0, 0, 100, "share of p, times lr, that is taken off each step", NULL),
};

static const graft_slot slots[] = {GRAFT_SLOT_BUFFER("m", "size", "m = 0", "exp_avg")};

static void update(graft_call *c) {
    graft_run(c, "p *= 1 - lr * weight_decay");
    graft_run(c, "p -= lr * sign(beta1 * m + (1 - beta1) * g)");
    graft_run(c, "m = beta2 * m + (1 - beta2) * g");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "lion",
    .doc = "steps of one size, by the sign of a momentum",
    .paper = "Chen et al., 2023, arXiv:2302.06675",
    .config_size = sizeof(lion),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
