/* calibrate — how fast this machine multiplies right now: the yardstick beside every timed run, because machines differ and
 * neighbours come and go. */
#ifndef GRAFT_CPU_CALIBRATE_H
#define GRAFT_CPU_CALIBRATE_H
#include "kernels/kernels.h"

/* Best rate in TFLOP/s over about 0.3 s of k->gemm on 2048 x 2048 x 2048 (1024 cubed without multiplies_bf16), bf16 where the
 * table multiplies it, else f32; on all threads of the table. 0 when there is no memory. */
double cpu_calibrate_gemm(kernels *k);

#endif
