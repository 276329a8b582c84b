/* inverse-sqrt — the learning rate falls as one over the root of the step. Vaswani et al., 2017, arXiv:1706.03762
 *
 *   f(s) = 1 / √((s + timescale - w) / timescale)        timescale 0: the warm-up, or 10000 without one
 *
 * s counts steps from 0, w is the warm-up. It needs no end: the same run may be made longer. As transformers'
 * get_inverse_sqrt_schedule. */
#include <graft/graft.h>
#include <math.h>

typedef struct {
    int64_t timescale;
} inverse_sqrt;

static const graft_option options[] = {
    GRAFT_OPTION_INT(inverse_sqrt, timescale, 0, 0, 1000000000, "steps in which the rate falls by 1/√2; 0: the warm-up",
                     NULL),
};

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    const inverse_sqrt *const o = self;
    const double scale = o->timescale ? (double)o->timescale : warmup ? (double)warmup : 10000;
    (void)steps;
    return 1 / sqrt(((double)step + scale - (double)warmup) / scale);
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "inverse-sqrt",
    .doc = "one over the root of the step; needs no end",
    .paper = "Vaswani et al., 2017, arXiv:1706.03762",
    .config_size = sizeof(inverse_sqrt),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
