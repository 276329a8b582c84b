/* cosine — the learning rate falls along half a cosine. Loshchilov and Hutter, 2016, arXiv:1608.03983
 *
 *   f(s) = min_ratio + (1 - min_ratio)·½(1 + cos(2π·cycles·(s - w) / (T - w)))
 *
 * restarts = n: n whole falls from 1, as transformers' get_cosine_with_hard_restarts_schedule_with_warmup.
 * s counts steps from 0, w is the warm-up, T the steps of the run; cycles = ½ is one fall from 1 to min_ratio. As
 * transformers' get_cosine_schedule_with_warmup and, with min_ratio, get_cosine_with_min_lr_schedule_with_warmup. */
#include <graft/graft.h>
#include <math.h>

typedef struct {
    double min_ratio, cycles;
    int64_t restarts;
} cosine;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(cosine, min_ratio, 0, 0, 1, "where the fall ends", NULL),
    GRAFT_OPTION_REAL(cosine, cycles, 0.5, 0, 1000, "waves of the cosine; 0.5 is one fall", NULL),
    GRAFT_OPTION_INT(cosine, restarts, 0, 0, 100000,
                     "falls in a row, each beginning at 1 (warm restarts); 0: by cycles", NULL),
};

static double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    const cosine *const o = self;
    const double pi = 3.14159265358979323846, span = steps > warmup ? (double)(steps - warmup) : 1;
    const double done = (double)(step - warmup) / span, pieces = (double)o->restarts * done;
    if (o->restarts) {
        const double fall = done < 1 ? 0.5 * (1 + cos(pi * (pieces - floor(pieces)))) : 0;
        return fall * (1 - o->min_ratio) + o->min_ratio;
    }
    const double wave = 0.5 * (1 + cos(pi * o->cycles * 2 * ((double)(step - warmup) / span)));
    return wave * (1 - o->min_ratio) + o->min_ratio;
}

static const graft_schedule functions = {.size = sizeof functions, .factor = factor};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.schedule/1",
    .name = "cosine",
    .doc = "half a cosine down to min_ratio",
    .paper = "Loshchilov and Hutter, 2016, arXiv:1608.03983",
    .config_size = sizeof(cosine),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
