/* cpu — what the files of the fast table share: its state and the functions it is made of. Private to this folder. */
#ifndef GRAFT_CPU_CPU_H
#define GRAFT_CPU_CPU_H
#include "kernels/cpu/vector/functions.h"
#include "kernels/kernels.h"

typedef struct {
    kernels *ref;              /* does what has no fast twin: odd types, odd programs */
    const vector_functions *f; /* of the instruction set chosen */
    team *threads;
    char *scratch; /* scratch_bytes for every member of the team, page aligned */
    int64_t scratch_bytes;
    void *shared; /* grows: partial sums one call leaves for its own second step */
    int64_t shared_bytes;
} cpu;

/* Scratch of a member during a part. */
static inline void *cpu_scratch(const cpu *c, int member) {
    return c->scratch + member * c->scratch_bytes;
}
/* At least `bytes` shared by the parts of one call; contents undefined. */
void *cpu_shared(cpu *c, int64_t bytes);

/* memory.c */
void *cpu_alloc(kernels *k, int64_t bytes);
void cpu_release(kernels *k, void *dev);
void *pages_map(int64_t bytes); /* zeroed, big ones aligned to 2 MB and on huge pages; NULL: no memory */
void pages_unmap(void *pages, int64_t bytes);

/* gemm.c */
void cpu_gemm(kernels *k, const gemm_call *g);

/* weights.c */
void cpu_weight_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                        dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                        int32_t count);
void cpu_weight_input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                           const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                           const lowrank_term *terms, int32_t count);

#endif
