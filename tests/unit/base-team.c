/* Every part runs exactly once whatever the number of threads, members work at the same time, nesting does not hang. */
#include "base/memory.h"
#include "base/team.h"
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PARTS = 1000 };
static const int sizes[] = {1, 2, 5};

typedef struct {
    team *t;
    int threads;
    atomic_int runs[PARTS];
    atomic_int bad_member;
} count;

static void count_part(void *context, int part, int member) {
    count *const c = context;
    if (member < 0 || member >= c->threads) atomic_store(&c->bad_member, 1);
    atomic_fetch_add(&c->runs[part], 1);
}

Test(team, every_part_runs_exactly_once) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        count *const c = mem_new(1, sizeof *c);
        team *const t = team_create(sizes[s]);
        c->threads = team_threads(t);
        cr_assert_eq(c->threads, sizes[s]);
        for (int parts = 0, runs = 0; parts <= PARTS; parts += 1 + parts / 3, runs++) {
            team_run(t, parts, count_part, c);
            for (int i = 0; i < PARTS; i++)
                cr_assert_eq(atomic_exchange(&c->runs[i], 0), i < parts, "part %d of %d, %d threads", i, parts,
                             sizes[s]);
            if (runs % 4 == 0) usleep(200); /* long enough that members have gone to sleep */
        }
        cr_assert_not(c->bad_member);
        team_destroy(t);
        free(c);
    }
}

static void append_part(void *context, int part, int member) {
    int *const order = context;
    cr_assert_eq(member, 0);
    order[++order[0]] = part;
}

Test(team, without_a_team_the_caller_does_all_parts_in_order) {
    int order[11] = {0};
    team_run(NULL, 10, append_part, order);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(order[i + 1], i);
    cr_assert_eq(team_threads(NULL), 1);
    team_destroy(NULL);
}

static void meet(void *context, int part, int member) {
    (void)member;
    atomic_int *const arrived = context;
    atomic_store(&arrived[part], 1);
    for (const time_t until = time(NULL) + 20; !atomic_load(&arrived[1 - part]) && time(NULL) < until;)
        usleep(100);
    if (atomic_load(&arrived[1 - part])) atomic_fetch_add(&arrived[2], 1);
}

Test(team, two_parts_that_wait_for_each_other_meet) {
    atomic_int arrived[3] = {0};
    team *const t = team_create(2);
    team_run(t, 2, meet, arrived);
    cr_assert_eq(arrived[2], 2);
    team_destroy(t);
}

static void run_inside(void *context, int part, int member) {
    count *const c = context;
    (void)part, (void)member;
    team_run(c->t, 10, count_part, c);
}

Test(team, nested_runs_do_all_their_parts_instead_of_hanging, .timeout = 60) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int outer = 1; outer <= 64; outer *= 8) {
            count *const c = mem_new(1, sizeof *c);
            c->t = team_create(sizes[s]);
            c->threads = sizes[s];
            team_run(c->t, outer, run_inside, c);
            for (int i = 0; i < 10; i++)
                cr_assert_eq(c->runs[i], outer);
            cr_assert_not(c->bad_member);
            team_destroy(c->t);
            free(c);
        }
}

static int threads_with(const char *value) {
    setenv("GRAFT_THREADS", value, 1);
    team *const t = team_create(0);
    const int threads = team_threads(t);
    team_destroy(t);
    return threads;
}

Test(team, number_of_threads_comes_from_the_environment_or_the_cpus) {
    const int cpus = threads_with("");
    cr_assert_geq(cpus, 1);
    cr_assert_eq(threads_with("3"), 3);
    cr_assert_eq(threads_with("0"), cpus);
    cr_assert_eq(threads_with("two"), cpus);
    cr_assert_eq(threads_with("99999999999999999999"), cpus);
    team *const t = team_create(4); /* an explicit number wins */
    cr_assert_eq(team_threads(t), 4);
    team_destroy(t);
}
