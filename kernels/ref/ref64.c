/* ref64 — the reference kernels in f64: the table "ref64", on which gradients are checked. */
typedef double real;
#define REAL     F64
#define REF_NAME "ref64"
#define REF_OPEN ref64_open
#include "kernels/ref/ops.h"
