/* polynomial — the learning rate falls as a power of what is left.
 *
 *   f(s) = min_ratio + (1 - min_ratio)·((T - s) / (T - w))^power
 *
 * s counts steps from 0, w is the warm-up, T the steps of the run. power 1 is a straight line, 2 falls fast and lands softly. As
 * transformers' get_polynomial_decay_schedule_with_warmup, whose lr_end is min_ratio·lr. */
#include <graft/graft.h>
#include <math.h>

typedef struct {
    double power, min_ratio;
} polynomial;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(polynomial, power, 1, 0.01, 100, "power of the share of steps that are left", NULL),
    GRAFT_OPTION_REAL(polynomial, min_ratio, 0, 0, 1, "where the fall ends", NULL),
};

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    const polynomial *const o = self;
    const double left = step < steps ? 1 - (double)(step - warmup) / (double)(steps - warmup) : 0;
    return o->min_ratio + (1 - o->min_ratio) * pow(left, o->power);
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "polynomial",
    .doc = "a power of what is left, down to min_ratio",
    .paper = "",
    .config_size = sizeof(polynomial),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
