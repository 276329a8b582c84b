/* table — the symbols the files of this folder export to table.c, under the suffix of their instruction set. */
#ifndef GRAFT_CPU_TABLE_H
#define GRAFT_CPU_TABLE_H
#include "kernels/cpu/vector/functions.h"
#include "kernels/cpu/vector/vector.h"

void NAME(multiply)(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                    int add);
void NAME(pack)(void *panels, dtype type, int64_t steps, int64_t first, const pack_source *from, int64_t k, int64_t n);
/* amx does the rest of its products, and finishes them, as avx512-bf16 does. */
void multiply_avx512bf16(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                         int add);
void finish_avx512bf16(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to,
                       int64_t i, int64_t j);
void NAME(finish)(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to, int64_t i,
                  int64_t j);
void NAME(attention_softmax)(const attention_tile *t, float *most, float *sum, float *rescale);
void NAME(attention_grad_rows)(const attention_tile *t, const float *lse, const float *do_o);
void NAME(attention_grad_columns)(const attention_tile *t, const float *lse, const float *do_o);
void NAME(map)(const map_plan *m, int64_t first, int64_t count);
float NAME(quantize_block)(int kind, const float code[16], const float *x, int64_t n, uint8_t *to);
float NAME(quantize_row8)(const float *x, int64_t n, int8_t *to);
float NAME(dot)(const void *a, const void *b, dtype type, int64_t n);
void NAME(decode)(const weight *w, int64_t row, int64_t column, int64_t n, void *to, dtype type);
void NAME(convert)(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale);
void NAME(add)(void *y, const void *x, dtype type, int64_t n);
void NAME(scale)(void *x, dtype type, int64_t n, float factor);
void NAME(softcap)(void *x, dtype type, int64_t n, float cap);
double NAME(sqnorm)(const void *x, dtype type, int64_t n);
void NAME(column_sum)(const void *x, dtype type, int64_t rows, int64_t width, int64_t j, int64_t n, float *sums);
void NAME(add_scaled)(float *to, const void *from, dtype type, int64_t n, float scale);
void NAME(dropout)(const void *x, void *y, dtype type, int64_t width, uint32_t dropped, float grown, uint64_t row,
                   int32_t accumulate);
void NAME(norm_forward)(norm_kind kind, const void *x, const float *w, const float *b, double eps, void *y, dtype type,
                        int64_t rows, int64_t width);
void NAME(norm_backward)(norm_kind kind, const void *x, const float *w, double eps, const void *dy, void *dx, float *dw,
                         float *db, dtype type, int64_t rows, int64_t width, int32_t accumulate);
void NAME(rope)(void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, int64_t pairs,
                const int32_t *positions, const float *inv_freq, float factor, int32_t inverse);
void NAME(gate_forward)(activation_kind act, const void *gate, const void *up, int64_t stride, void *h, dtype type,
                        int64_t rows, int64_t width);
void NAME(gate_backward)(activation_kind act, const void *gate, const void *up, int64_t stride, const void *dh,
                         void *dgate, void *dup, dtype type, int64_t rows, int64_t width);
void NAME(logprob)(const void *logits, dtype type, int64_t vocab, int32_t target, float cap, float *logp, float *lse);
void NAME(logprob_grad)(void *logits, dtype type, int64_t vocab, int32_t target, float cap, float lse, float dlogp);

#endif
