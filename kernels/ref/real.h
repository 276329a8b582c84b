/* real — numbers in the reference kernels. Every file of this folder that ops.h includes is compiled twice: with `real` =
 * float (ref32.c) and double (ref64.c). A tensor of any type is read element by element into real and rounded once when
 * stored. Sums are taken in double in both, in index order, so what a fast device loses in a sum is seen against ref. */
#include "base/dtype.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h> /* exp(x) is expf for a float x: one source for both */

typedef double wide; /* sums */

static real load(const void *data, dtype type, int64_t i) {
    switch (type) {
    case F64:
        return (real)((const double *)data)[i];
    case F32:
        return ((const float *)data)[i];
    case BF16:
        return bf16_to_f32(((const uint16_t *)data)[i]);
    case F16:
        return f16_to_f32(((const uint16_t *)data)[i]);
    case I64:
        return (real)((const int64_t *)data)[i];
    case I32:
        return (real)((const int32_t *)data)[i];
    case I16:
        return ((const int16_t *)data)[i];
    case I8:
        return ((const int8_t *)data)[i];
    case BOOL8:
    case U8:
        return ((const uint8_t *)data)[i];
    case U16:
        return ((const uint16_t *)data)[i];
    case U32:
        return (real)((const uint32_t *)data)[i];
    case U64:
        return (real)((const uint64_t *)data)[i];
    default:
        break;
    }
    assert(!"a type the kernels do not compute with");
    return 0;
}

/* The whole number nearest to v, ties to even, inside low..high; NaN gives 0. */
static int64_t whole(double v, double low, double high) {
    const double r = rint(v);
    return r <= low ? (int64_t)low : r >= high ? (int64_t)high : r > low ? (int64_t)r : 0;
}

static void store(void *data, dtype type, int64_t i, wide v) {
    switch (type) {
    case F64:
        ((double *)data)[i] = v;
        return;
    case F32:
        ((float *)data)[i] = (float)v;
        return;
    case BF16:
        ((uint16_t *)data)[i] = f32_to_bf16((float)v);
        return;
    case F16:
        ((uint16_t *)data)[i] = f32_to_f16((float)v);
        return;
    case I32:
        ((int32_t *)data)[i] = (int32_t)whole(v, INT32_MIN, INT32_MAX);
        return;
    case I16:
        ((int16_t *)data)[i] = (int16_t)whole(v, INT16_MIN, INT16_MAX);
        return;
    case I8:
        ((int8_t *)data)[i] = (int8_t)whole(v, INT8_MIN, INT8_MAX);
        return;
    case U8:
        ((uint8_t *)data)[i] = (uint8_t)whole(v, 0, UINT8_MAX);
        return;
    case U16:
        ((uint16_t *)data)[i] = (uint16_t)whole(v, 0, UINT16_MAX);
        return;
    case BOOL8:
        ((uint8_t *)data)[i] = v != 0;
        return;
    default:
        break;
    }
    assert(!"a type the kernels do not write");
}

/* What comes back of v after it was stored as `type`. */
static real rounded(dtype type, real v) {
    switch (type) {
    case F32:
        return (float)v;
    case BF16:
        return bf16_to_f32(f32_to_bf16((float)v));
    case F16:
        return f16_to_f32(f32_to_f16((float)v));
    default:
        return v;
    }
}

/* n elements as real, owned by the caller. */
static real *widened(const void *data, dtype type, int64_t n) {
    real *to = mem_new((size_t)n, sizeof *to);
    for (int64_t i = 0; i < n; i++)
        to[i] = load(data, type, i);
    return to;
}
