/* constant — the learning rate stays where the warm-up left it.        f(s) = 1 */
#include <graft/graft.h>

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    (void)self, (void)step, (void)warmup, (void)steps;
    return 1;
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "constant",
    .doc = "the learning rate stays as it is",
    .paper = "",
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
