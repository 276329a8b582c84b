/* Many short runs with sleeping, spinning and late members. No Criterion: it runs under ThreadSanitizer as well.
 * Each run writes plain memory in its parts and reads all of it afterwards, so a missing happens-before is a race. */
#include "base/team.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RUNS = 3000, PARTS_MAX = 37 };

typedef struct {
    int64_t seed, out[PARTS_MAX], scratch[8];
} job;

static void square(void *context, int part, int member) {
    job *const j = context;
    j->scratch[member] = j->seed + part;
    j->out[part] = j->scratch[member] * j->scratch[member];
}

static int stress(int threads) {
    team *const t = team_create(threads);
    for (int run = 0; run < RUNS; run++) {
        job j = {.seed = run}; /* on the stack: a member that came too late would read a dead frame */
        const int parts = run % (PARTS_MAX + 1);
        team_run(t, parts, square, &j);
        for (int64_t i = 0; i < PARTS_MAX; i++) {
            const int64_t want = i < parts ? (run + i) * (run + i) : 0;
            if (j.out[i] == want) continue;
            fprintf(stderr, "%d threads, run %d, part %d: %lld, not %lld\n", threads, run, (int)i, (long long)j.out[i],
                    (long long)want);
            return 1;
        }
        if (run % 64 == 0) usleep(100);
    }
    team_destroy(t);
    return 0;
}

int main(void) {
    for (int threads = 1; threads <= 8; threads++)
        if (stress(threads) != 0) return EXIT_FAILURE;
    for (int i = 0; i < 200; i++) /* made and ended without work */
        team_destroy(team_create(4));
    return EXIT_SUCCESS;
}
