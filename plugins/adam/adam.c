/* adam — Adam as first published. Kingma and Ba, 2014, arXiv:1412.6980
 *
 *   g ← g + weight_decay·p                 decay as part of the gradient: what adamw takes out again
 *   m ← beta1·m + (1 - beta1)·g            v ← beta2·v + (1 - beta2)·g²
 *   p ← p - lr·m̂ / (√v̂ + eps)              include/graft/adam.h
 *
 * As torch.optim.Adam. Through the division by √v a parameter with large gradients decays least; use adamw unless a run must
 * equal an old one. */
#include <graft/adam.h>

static const graft_option options[] = {ADAM_OPTIONS(0, "times p, added to the gradient")};

static const graft_slot slots[] = {
    ADAM_SLOTS, GRAFT_SLOT_TEMP("d", "size"), /* the gradient with its decay */
};

static void update(graft_call *c) {
    graft_run(c, "d = g + weight_decay * p");
    graft_run(c, "m = beta1 * m + (1 - beta1) * d");
    graft_run(c, "v = beta2 * v + (1 - beta2) * d * d");
    adam_move(c);
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adam",
    .doc = "Adam with the decay inside the gradient",
    .paper = "Kingma and Ba, 2014, arXiv:1412.6980",
    .config_size = sizeof(adam_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
