/* team — members take parts from one counter; between runs they spin for some microseconds, then sleep on a futex.
 *
 * `remaining` counts parts not yet taken, `pending` parts not yet finished. Taking a part (remaining - 1 by compare and
 * swap) keeps the run alive until that part is finished, so a member reads the job only after it holds a part of it,
 * and a member that wakes late simply finds nothing to take. Publishing `remaining` publishes the job with it.
 * Sleeping is safe because each side announces itself before it looks: a member counts itself as sleeper, then the
 * kernel compares `wakeups`; the caller raises `wakeups`, then looks for sleepers (likewise for the waiting caller). */
#include "base/team.h"
#include "base/log.h"
#include "base/memory.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 1024, SPIN_NANOSECONDS = 30000 };

typedef struct {
    team *t;
    int number;
    pthread_t thread;
} member;

struct team {
    alignas(64) atomic_int remaining;
    alignas(64) atomic_int pending;
    alignas(64) atomic_int wakeups;
    atomic_int sleepers, caller_sleeps, ending;
    alignas(64) int parts; /* the job */
    void (*work)(void *context, int part, int member);
    void *context;
    int threads;
    int64_t spin; /* nanoseconds; 0 when members outnumber the CPUs and spinning would take a CPU from work */
    member *members;
};

static _Thread_local int current = -1; /* the member this thread is while it runs parts */

static void futex_wait(atomic_int *word, int expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(atomic_int *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pause_briefly(void) {
    for (int i = 0; i < 8; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

/* Runs parts until none is left to take. */
static void take_parts(team *t, int number) {
    current = number;
    for (int left = atomic_load(&t->remaining); left > 0;) {
        if (!atomic_compare_exchange_weak(&t->remaining, &left, left - 1)) continue;
        t->work(t->context, t->parts - left, number);
        if (atomic_fetch_sub(&t->pending, 1) == 1 && atomic_load(&t->caller_sleeps)) futex_wake(&t->pending, 1);
        left = atomic_load(&t->remaining);
    }
    current = -1;
}

/* Returns when there are parts to take or the team ends. */
static void wait_for_work(team *t) {
    const int64_t until = t->spin ? nanoseconds() + t->spin : 0;
    for (;;) {
        const int seen = atomic_load(&t->wakeups);
        if (atomic_load(&t->remaining) > 0 || atomic_load(&t->ending)) return;
        if (t->spin && nanoseconds() < until) {
            pause_briefly();
            continue;
        }
        atomic_fetch_add(&t->sleepers, 1);
        futex_wait(&t->wakeups, seen);
        atomic_fetch_sub(&t->sleepers, 1);
    }
}

static void *member_main(void *argument) {
    const member *const m = argument;
    while (!atomic_load(&m->t->ending)) {
        take_parts(m->t, m->number);
        wait_for_work(m->t);
    }
    return NULL;
}

static int cpus_of_process(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t can hold */
    return online > 0 ? (int)online : 1;
}

static int threads_wanted(int cpus) {
    const char *const text = getenv("GRAFT_THREADS");
    if (!text || !*text) return cpus;
    char *end;
    errno = 0;
    const long threads = strtol(text, &end, 10);
    if (*end == '\0' && errno == 0 && threads >= 1 && threads <= THREADS_MAX) return (int)threads;
    log_warn("GRAFT_THREADS=%s is not a number from 1 to %d; using %d threads", text, THREADS_MAX, cpus);
    return cpus;
}

team *team_create(int threads) {
    const int cpus = cpus_of_process();
    if (threads <= 0) threads = threads_wanted(cpus);
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    team *const t = aligned_alloc(alignof(team), sizeof *t);
    if (!t) {
        log_error("out of memory: a thread team of %zu bytes was wanted", sizeof *t);
        _exit(1);
    }
    *t = (team){.threads = 1, .spin = threads <= cpus ? SPIN_NANOSECONDS : 0};
    t->members = mem_new((size_t)threads, sizeof *t->members);
    sigset_t all, old; /* signals stay with the thread that made the team */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int failed = 0; t->threads < threads && !failed;) {
        member *const m = &t->members[t->threads];
        *m = (member){.t = t, .number = t->threads};
        failed = pthread_create(&m->thread, NULL, member_main, m);
        if (failed)
            log_warn("only %d of %d threads could be started", t->threads, threads);
        else
            t->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return t;
}

void team_destroy(team *t) {
    if (!t) return;
    atomic_store(&t->ending, 1);
    atomic_fetch_add(&t->wakeups, 1);
    futex_wake(&t->wakeups, INT_MAX);
    for (int i = 1; i < t->threads; i++)
        pthread_join(t->members[i].thread, NULL);
    free(t->members);
    free(t);
}

int team_threads(const team *t) {
    return t ? t->threads : 1;
}

static void wait_until_done(team *t) {
    const int64_t until = t->spin ? nanoseconds() + t->spin : 0;
    for (int left; (left = atomic_load(&t->pending)) > 0;) {
        if (t->spin && nanoseconds() < until) {
            pause_briefly();
            continue;
        }
        atomic_store(&t->caller_sleeps, 1);
        if (atomic_load(&t->pending) == left) futex_wait(&t->pending, left);
        atomic_store(&t->caller_sleeps, 0);
    }
}

void team_run(team *t, int parts, void (*work)(void *context, int part, int member), void *context) {
    if (!t || t->threads == 1 || parts <= 1 || current >= 0) { /* the last: called from inside a part */
        const int number = t && current >= 0 ? current : 0;
        for (int part = 0; part < parts; part++)
            work(context, part, number);
        return;
    }
    t->parts = parts, t->work = work, t->context = context;
    atomic_store(&t->pending, parts);
    atomic_store(&t->remaining, parts);
    atomic_fetch_add(&t->wakeups, 1);
    if (atomic_load(&t->sleepers) > 0) futex_wake(&t->wakeups, parts - 1);
    take_parts(t, 0);
    wait_until_done(t);
}
