/* ref32 — the reference kernels in f32: the table "ref". */
typedef float real;
#define REAL     F32
#define REF_NAME "ref"
#define REF_OPEN ref_open
#include "kernels/ref/ops.h"
