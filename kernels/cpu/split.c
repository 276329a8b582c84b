/* split — see split.h. */
#include "kernels/cpu/split.h"

typedef struct {
    const cpu *c;
    int64_t total, size;
    const void *call;
    split_work *run;
} split;

static void split_part(void *context, int part, int member) {
    (void)member;
    const split *s = context;
    const int64_t first = part * s->size, left = s->total - first;
    s->run(s->c, s->call, first, left < s->size ? left : s->size, part);
}

void split_run(cpu *c, int64_t total, int64_t size, split_work *run, const void *call) {
    split s = {c, total, size < 1 ? 1 : size, call, run};
    if (total > 0) team_run(c->threads, (int)split_parts(total, s.size), split_part, &s);
}
