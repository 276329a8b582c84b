/* adamw — Adam with decoupled weight decay. Loshchilov and Hutter, 2017, arXiv:1711.05101; Adam: Kingma and Ba, 2014,
 * arXiv:1412.6980
 *
 *   p ← p·(1 - lr·weight_decay)
 *   m ← beta1·m + (1 - beta1)·g            v ← beta2·v + (1 - beta2)·g²
 *   p ← p - lr·m̂ / (√v̂ + eps)              include/graft/adam.h
 *
 * g is the clipped gradient. Every trained tensor decays, vectors too, but for those that [optimizer] no_decay names. As
 * torch.optim.AdamW. */
#include <graft/adam.h>

static const graft_option options[] = {ADAM_OPTIONS(0.01, "share of p, times lr, that is taken off each step")};

static const graft_slot slots[] = {ADAM_SLOTS};

static void update(graft_call *c) {
    graft_run(c, "p *= 1 - lr * weight_decay");
    graft_run(c, "m = beta1 * m + (1 - beta1) * g");
    graft_run(c, "v = beta2 * v + (1 - beta2) * g * g");
    adam_move(c);
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "adamw",
    .doc = "Adam with decoupled weight decay",
    .paper = "Loshchilov and Hutter, 2017, arXiv:1711.05101",
    .config_size = sizeof(adam_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
