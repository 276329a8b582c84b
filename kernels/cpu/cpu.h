/* cpu — what the files of the fast table share: its state and the functions it is made of. Private to this folder. */
#ifndef GRAFT_CPU_CPU_H
#define GRAFT_CPU_CPU_H
#include "kernels/cpu/vector/functions.h"
#include "kernels/kernels.h"

typedef struct {
    kernels *ref;              /* does what has no fast twin: odd types, odd programs */
    const vector_functions *f; /* = &own: of the instruction set chosen; NULL: there is none */
    vector_functions own;
    team *threads;
    void *scratch; /* scratch_bytes for every member of the team, page aligned */
    int64_t scratch_bytes;
    void *shared; /* grows: partial sums one call leaves for its own second step */
    int64_t shared_bytes;
    float values8[2][256]; /* blocks8 maps, signed and unsigned */
} cpu;

/* Scratch of a member during a part. */
static inline void *cpu_scratch(const cpu *c, int member) {
    return (char *)c->scratch + member * c->scratch_bytes;
}
/* Makes the scratch of every member at least this large; contents are lost. */
void cpu_reserve_scratch(cpu *c, int64_t bytes);
/* At least `bytes` shared by the parts of one call; contents undefined. */
void *cpu_shared(cpu *c, int64_t bytes);

/* memory.c */
void *cpu_alloc(kernels *k, int64_t bytes);
void cpu_release(kernels *k, void *dev);
void *pages_map(int64_t bytes); /* zeroed, big ones aligned to 2 MB and on huge pages; NULL: no memory */
void pages_unmap(void *pages, int64_t bytes);

/* attention-forward.c, attention-backward.c */
void cpu_attention_forward(kernels *k, const attention_call *a);
void cpu_attention_backward(kernels *k, const attention_call *a);

/* stored.c */
void cpu_weight_row_sqnorm(kernels *k, const weight *w, void *norms);
void cpu_weight_read(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type);
void cpu_weight_gather(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                       double scale);
void cpu_weight_quantize(kernels *k, weight *w, const void *from);

/* map.c */
void cpu_map(kernels *k, const map_program *p, const map_call *c);

/* gemm.c */
void cpu_gemm(kernels *k, const gemm_call *g);

/* weights.c */
void cpu_weight_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                        dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                        int32_t count);
void cpu_weight_input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                           const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                           const lowrank_term *terms, int32_t count);

/* elements.c */
void cpu_add(kernels *k, void *y, const void *x, dtype type, int64_t n);
void cpu_scale(kernels *k, void *x, dtype type, int64_t n, double factor);
void cpu_softcap(kernels *k, void *logits, dtype type, int64_t n, double cap);
void cpu_convert(kernels *k, void *dev, dtype type, const void *from, dtype from_type, int64_t n);
void cpu_zero(kernels *k, void *dev, int64_t bytes);
void cpu_copy(kernels *k, void *dev, const void *from, int64_t bytes);
double cpu_sqnorm(kernels *k, const void *x, dtype type, int64_t n);
void cpu_column_sum(kernels *k, const void *x, dtype type, int64_t rows, int64_t width, void *sums);

/* layer.c */
void cpu_norm_forward(kernels *k, norm_kind kind, const void *x, const void *w, const void *b, double eps, void *y,
                      dtype type, int64_t rows, int64_t width);
void cpu_norm_backward(kernels *k, norm_kind kind, const void *x, const void *w, double eps, const void *dy, void *dx,
                       void *dw, void *db, dtype type, int64_t rows, int64_t width, int32_t accumulate);
void cpu_rope(kernels *k, void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
              int64_t pairs, const int32_t *positions, const float *inv_freq, double factor, int32_t inverse);
void cpu_gate_forward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride, void *h,
                      dtype type, int64_t rows, int64_t width);
void cpu_gate_backward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride,
                       const void *dh, void *dgate, void *dup, dtype type, int64_t rows, int64_t width);
void cpu_logprob(kernels *k, const void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                 double cap, void *logp, void *lse);
void cpu_logprob_grad(kernels *k, void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                      double cap, const void *lse, const void *dlogp);

/* rows.c */
void cpu_pick_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                   dtype type);
void cpu_place_rows(kernels *k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to,
                    dtype type);
void cpu_scatter_rows(kernels *k, const int32_t *ids, const void *dy, dtype type, int64_t rows, int64_t width,
                      double scale, int64_t skip, void *table_grad);
void cpu_dropout(kernels *k, const void *x, void *y, dtype type, int64_t rows, int64_t width, double p, uint64_t seed,
                 uint64_t stream, const int64_t *row_key, int32_t accumulate);

#endif
