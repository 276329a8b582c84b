/* rmsprop — gradients divided by the root of their running mean square. Tieleman and Hinton, 2012, Coursera lecture 6.5
 *
 *   g ← g + weight_decay·p
 *   v ← alpha·v + (1 - alpha)·g²
 *   m ← momentum·m + g / (√v + eps)        p ← p - lr·m
 *
 * centered: v is the variance, v ← alpha·v + alpha·(1 - alpha)·(g - a)²,  a ← alpha·a + (1 - alpha)·g
 *
 * As torch.optim.RMSprop, which keeps the mean square and takes a² off: equal, but where gradients hardly vary that difference
 * is all rounding, and less than nothing with states of 8 bits. Adam adds a mean of the directions and the correction of the first steps. */
#include <graft/graft.h>

typedef struct {
    double alpha, eps, momentum, weight_decay;
    int32_t centered;
} rmsprop;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(rmsprop, alpha, 0.99, 0, 0.999999, "memory of the mean square", NULL),
    GRAFT_OPTION_REAL(rmsprop, eps, 1e-8, 0, 1, "added to the root", NULL),
    GRAFT_OPTION_REAL(rmsprop, momentum, 0, 0, 0.999999, "memory of the steps", NULL),
    GRAFT_OPTION_REAL(rmsprop, weight_decay, 0, 0, 100, "times p, added to the gradient", NULL),
    GRAFT_OPTION_BOOL(rmsprop, centered, 0, "subtract the square of the mean: divide by the deviation", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_UNSIGNED("v", "size", "v = 0", "square_avg"),
    GRAFT_SLOT_BUFFER("a", "centered ? size : 0", "a = 0", "grad_avg"),
    GRAFT_SLOT_BUFFER("m", "momentum > 0 ? size : 0", "m = 0", "momentum_buffer"),
    GRAFT_SLOT_TEMP("d", "size"),
};

static void update(graft_call *c) {
    const rmsprop *const o = c->self;
    graft_run(c, "d = g + weight_decay * p");
    if (o->centered) {
        graft_run(c, "v = alpha * v + alpha * (1 - alpha) * (d - a) * (d - a)");
        graft_run(c, "a = alpha * a + (1 - alpha) * d");
    } else {
        graft_run(c, "v = alpha * v + (1 - alpha) * d * d");
    }
    graft_run(c, "d = d / (sqrt(v) + eps)");
    if (o->momentum > 0) {
        graft_run(c, "m = momentum * m + d");
        graft_run(c, "p -= lr * m");
    } else {
        graft_run(c, "p -= lr * d");
    }
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "rmsprop",
    .doc = "gradients divided by their running size",
    .paper = "Tieleman and Hinton, 2012",
    .config_size = sizeof(rmsprop),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
