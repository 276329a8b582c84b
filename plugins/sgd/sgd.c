/* sgd — stochastic gradient descent with momentum. Robbins and Monro, 1951; Polyak, 1964; Nesterov's form: Sutskever et
 * al., 2013, "On the importance of initialization and momentum in deep learning"
 *
 *   d = g + weight_decay·p                 decay is coupled: it goes through the momentum
 *   m ← momentum·m + (1 - dampening)·d     the first m is d
 *   p ← p - lr·m                           plain
 *   p ← p - lr·(d + momentum·m)            nesterov: the gradient looks one step of momentum ahead
 *
 * Without momentum m is d. As torch.optim.SGD. */
#include <graft/graft.h>

typedef struct {
    double momentum, dampening, weight_decay;
    int32_t nesterov, reserved;
} sgd;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(sgd, momentum, 0, 0, 0.999999, "share of the last step that is taken again", NULL),
    GRAFT_OPTION_REAL(sgd, dampening, 0, 0, 1, "share of a gradient that the momentum leaves out", NULL),
    GRAFT_OPTION_BOOL(sgd, nesterov, 0, "look one step of momentum ahead", NULL),
    GRAFT_OPTION_REAL(sgd, weight_decay, 0, 0, 100, "share of p that is added to its gradient", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_BUFFER("m", "size", "m = 0", "momentum_buffer"),
};

static void update(graft_call *c) {
    const sgd *const o = c->self;
    if (o->momentum == 0) {
        graft_run(c, "p -= lr * (g + weight_decay * p)");
        return;
    }
    if (o->nesterov) {
        if (o->dampening > 0) c->services->fail(c, "nesterov = yes asks for dampening = 0");
        graft_run(c, "m = momentum * m + g + weight_decay * p");
        graft_run(c, "p -= lr * (g + weight_decay * p + momentum * m)");
        return;
    }
    graft_run(c, "m = momentum * m + (t > 1 ? 1 - dampening : 1) * (g + weight_decay * p)");
    graft_run(c, "p -= lr * m");
}

static const graft_optimizer functions = {.size = sizeof functions, .update = update};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.optimizer/1",
    .name = "sgd",
    .doc = "stochastic gradient descent with momentum",
    .paper = "Sutskever et al., 2013, ICML 28:1139",
    .config_size = sizeof(sgd),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
