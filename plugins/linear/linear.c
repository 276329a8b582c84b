/* linear — the learning rate falls on a straight line to 0.        f(s) = (T - s) / (T - w)
 *
 * s counts steps from 0, w is the warm-up, T the steps of the run. As transformers' get_linear_schedule_with_warmup. */
#include <graft/graft.h>

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    (void)self;
    if (step >= steps) return 0;
    return (double)(steps - step) / (double)(steps - warmup);
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "linear",
    .doc = "a straight line down to 0",
    .paper = "",
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
