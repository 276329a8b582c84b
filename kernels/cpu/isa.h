/* isa — which instruction sets this machine has, and which one to use. */
#ifndef GRAFT_CPU_ISA_H
#define GRAFT_CPU_ISA_H
#include "kernels/cpu/vector/functions.h"

typedef struct {
    const char *name; /* "avx2" "avx512" "avx512-bf16" "amx"; "" when there is none: the reference does the work */
    const vector_functions *functions;  /* NULL when there is none */
    const multiply_functions *multiply; /* in place of those of functions; NULL: those */
} isa;

/* The best one, or the one GRAFT_CPU names. Errors (GRAFT_USAGE): GRAFT_CPU names one that is unknown or that this machine
 * lacks; the text lists what it has. */
int isa_choose(isa *out, graft_error *err);

/* The table "cpu" on a given set; cpu_open is this on the chosen one. */
int cpu_open_set(const isa *set, team *threads, kernels **out, graft_error *err);

#endif
