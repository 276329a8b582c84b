/* isa — which instruction sets this machine has, and which one to use. */
#ifndef GRAFT_CPU_ISA_H
#define GRAFT_CPU_ISA_H
#include "base/error.h"
#include "kernels/cpu/vector/functions.h"

typedef struct {
    const char *name; /* "avx2" "avx512" "avx512-bf16"; "" when there is none: the reference does the work */
    const vector_functions *functions; /* NULL when there is none */
} isa;

/* The best one, or the one GRAFT_CPU names. Errors (GRAFT_USAGE): GRAFT_CPU names one that is unknown or that this machine
 * lacks; the text lists what it has. */
int isa_choose(isa *out, graft_error *err);

#endif
