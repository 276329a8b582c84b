/* schedule — warm-up, then the plugin. */
#include "run/schedule.h"

double schedule_lr(const schedule *s, int64_t step) {
    if (step < s->warmup) return s->lr * ((double)step / (double)s->warmup);
    return s->component ? s->lr * s->component->schedule.factor(s->config, step, s->warmup, s->steps) : s->lr;
}
