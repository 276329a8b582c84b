/* adagrad — steps that shrink with all gradients seen so far. Duchi et al., 2011, JMLR 12:2121
 *
 *   g ← g + weight_decay·p          v ← v + g²          p ← p - lr / (1 + (t - 1)·lr_decay) · g / (√v + eps)
 *
 * v only grows, so rare features keep a large step and frequent ones settle. As torch.optim.Adagrad. */
#include <graft/graft.h>

typedef struct {
    double eps, lr_decay, weight_decay, initial;
} adagrad;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(adagrad, eps, 1e-10, 0, 1, "added to the root", NULL),
    GRAFT_OPTION_REAL(adagrad, lr_decay, 0, 0, 100, "the rate falls as 1 / (1 + (t - 1)·lr_decay)", NULL),
    GRAFT_OPTION_REAL(adagrad, weight_decay, 0, 0, 100, "times p, added to the gradient", NULL),
    GRAFT_OPTION_REAL(adagrad, initial, 0, 0, 1e6, "where the sum of squares begins", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_UNSIGNED("v", "size", "v = initial", "sum"),
    GRAFT_SLOT_TEMP("d", "size"),
};

static void update(graft_call *c) {
    graft_run(c, "d = g + weight_decay * p");
    graft_run(c, "v = v + d * d");
    graft_run(c, "p -= lr / (1 + (t - 1) * lr_decay) * d / (sqrt(v) + eps)");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adagrad",
    .doc = "steps that shrink with all gradients so far",
    .paper = "Duchi et al., 2011, JMLR 12:2121",
    .config_size = sizeof(adagrad),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
