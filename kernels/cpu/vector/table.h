/* table — the symbols the files of this folder export to table.c, under the suffix of their instruction set. */
#ifndef GRAFT_CPU_TABLE_H
#define GRAFT_CPU_TABLE_H
#include "kernels/cpu/vector/functions.h"
#include "kernels/cpu/vector/vector.h"

void NAME(multiply)(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                    int add);
void NAME(pack)(void *panel, dtype type, const void *from, dtype from_type, int64_t down, int64_t along, int64_t k,
                int64_t n);
void NAME(pack_strips)(void *strips, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                       int64_t rows);
void NAME(finish)(const float *c, int64_t c_row, int64_t rows, int64_t columns, const multiply_target *to, int64_t i,
                  int64_t j);
void NAME(decode)(const weight *w, int64_t row, int64_t column, int64_t n, void *to, dtype type);
void NAME(convert)(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale);
void NAME(add)(void *y, const void *x, dtype type, int64_t n);

#endif
