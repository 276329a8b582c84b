/* watcher — a technique that looks at what layers read before it begins: the contract's observe, in its smallest form.
 *
 *   mean[i] = the mean of x[n,i] over the calibration rows,   slope[o] = the sum of dy[n,o]        y += b, b trained */
#include <graft/graft.h>

typedef struct {
    int32_t gradients, reserved;
} watcher;

static const graft_option options[] = {
    GRAFT_OPTION_BOOL(watcher, gradients, 0, "observe the gradient of what the layer gives, too", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("b", "out", "b = 0", "shift", NULL),
    GRAFT_SLOT_BUFFER("sum", "in", "sum = 1", NULL), /* runs before observe */
    GRAFT_SLOT_BUFFER("seen", "1", NULL, NULL),
    GRAFT_SLOT_BUFFER("mean", "in", NULL, NULL),
    GRAFT_SLOT_BUFFER("slope", "out", NULL, NULL),
};

static void observe(graft_call *c) {
    const watcher *self = c->self;
    graft_run(c, "sum[i] += x[n,i]; seen += rows");
    if (self->gradients) graft_run(c, "slope[o] += dy[n,o]");
}

static void init(graft_call *c) {
    graft_run(c, "mean = (sum - 1) / seen");
}

static void forward(graft_call *c) {
    graft_run(c, "y[n,o] += b[o]");
}

static void backward(graft_call *c) {
    graft_run(c, "db[o] += dy[n,o]");
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .observe = observe,
    .init = init,
    .forward = forward,
    .backward = backward,
};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.adapter/1",
    .name = "watcher",
    .doc = "for tests",
    .config_size = sizeof(watcher),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &adapter,
};
GRAFT_PLUGIN(component, "0.0.1")
