/* wsd — warm-up, stable, decay. Hu et al., 2024, MiniCPM, arXiv:2404.06395
 *
 *   f(s) = 1                                    while s < T - D
 *   f(s) = min_ratio + (1 - min_ratio)·g(q)     q = (s - (T - D)) / D
 *   g    = 1 - q (linear),  ½(1 + cos πq) (cosine),  1 - √q (sqrt)
 *
 * T is the steps of the run, D the steps of the decay: decay_steps, or decay_ratio·T. A run can be continued from anywhere in
 * its stable part, and a short decay brings most of what a long cosine does. As transformers' get_wsd_schedule. */
#include <graft/graft.h>
#include <math.h>

typedef struct {
    int64_t decay_steps;
    double decay_ratio, min_ratio;
    int32_t decay, pad;
} wsd;

static const graft_option options[] = {
    GRAFT_OPTION_INT(wsd, decay_steps, 0, 0, 1000000000, "steps of the decay; 0: decay_ratio of the run", NULL),
    GRAFT_OPTION_REAL(wsd, decay_ratio, 0.1, 0, 1, "share of the run that decays", NULL),
    GRAFT_OPTION_REAL(wsd, min_ratio, 0, 0, 1, "where the decay ends", NULL),
    GRAFT_OPTION_CHOICE(wsd, decay, "linear|cosine|sqrt", 1, "shape of the decay", NULL),
};

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    const wsd *const o = self;
    const int64_t wanted = o->decay_steps ? o->decay_steps : (int64_t)ceil(o->decay_ratio * (double)steps);
    const int64_t decay = wanted < steps - warmup ? wanted : steps - warmup, begin = steps - decay;
    if (step < begin || decay <= 0) return 1;
    const double q = step < steps ? (double)(step - begin) / (double)decay : 1, pi = 3.14159265358979323846;
    const double g = o->decay == 0 ? 1 - q : o->decay == 1 ? 0.5 * (1 + cos(pi * q)) : 1 - sqrt(q);
    return o->min_ratio + (1 - o->min_ratio) * (step < steps ? g : 0);
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "wsd",
    .doc = "stable, then a short decay",
    .paper = "Hu et al., 2024, arXiv:2404.06395",
    .config_size = sizeof(wsd),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
