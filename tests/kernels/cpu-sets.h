/* cpu-sets — one Criterion test for every instruction set of the fast kernels; skipped aloud where the machine lacks it. */
#ifndef GRAFT_TESTS_CPU_SETS_H
#define GRAFT_TESTS_CPU_SETS_H
#include "kernels/kernels.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static inline void run_set(void (*run)(const char *set), const char *set) {
    graft_error err = {0};
    kernels *k = NULL;
    setenv("GRAFT_CPU", set, 1);
    if (kernels_open("cpu", NULL, &k, &err)) {
        fprintf(stderr, "skipped: %s is not there (%s)\n", set, err.text);
        cr_skip_test("no %s", set);
    }
    k->close(k);
    run(set);
}

#define FOR_SETS(suite, name, run)                                                                                     \
    Test(suite, name##_avx2) {                                                                                         \
        run_set(run, "avx2");                                                                                          \
    }                                                                                                                  \
    Test(suite, name##_avx512) {                                                                                       \
        run_set(run, "avx512");                                                                                        \
    }                                                                                                                  \
    Test(suite, name##_avx512_bf16) {                                                                                  \
        run_set(run, "avx512-bf16");                                                                                   \
    }                                                                                                                  \
    Test(suite, name##_amx) {                                                                                          \
        run_set(run, "amx");                                                                                           \
    }

#endif
