/* elements — the simplest work: types, sums, factors. Equals kernels/ref/rows.h and base/dtype.c; only sqnorm adds in another
 * order (its sums are doubles, a relative error of n·2^-53). */
#include "kernels/cpu/vector/table.h"

/* n elements are left from i on. */
INLINE floats load_n(const void *data, dtype type, int64_t i, int64_t n) {
    return n >= LANES ? load(data, type, i) : load_part(data, type, i, n);
}

INLINE void store_n(void *data, dtype type, int64_t i, int64_t n, floats v) {
    if (n >= LANES)
        store(data, type, i, v);
    else
        store_part(data, type, i, n, v);
}

INLINE void convert(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale) {
    for (int64_t i = 0; i < n; i += LANES) {
        const floats v = load_n(from, from_type, i, n - i) * all(scale);
        const halves h = round_bf16(v); /* a conversion keeps subnormals */
        if (type == BF16)
            memcpy((uint16_t *)to + i, &h, (size_t)(n - i >= LANES ? LANES : n - i) * 2);
        else
            store_n(to, type, i, n - i, v);
    }
}

static void convert_to_f32(float *to, const void *from, dtype from_type, int64_t n, float scale) {
    if (from_type == F32)
        convert(to, F32, from, F32, n, scale);
    else if (from_type == BF16)
        convert(to, F32, from, BF16, n, scale);
    else
        convert(to, F32, from, F16, n, scale);
}

void NAME(convert)(void *to, dtype type, const void *from, dtype from_type, int64_t n, float scale) {
    if (type == F32)
        convert_to_f32(to, from, from_type, n, scale);
    else if (type == from_type && scale == 1)
        memmove(to, from, (size_t)n * 2);
    else if (type == BF16 && from_type == F32)
        convert(to, BF16, from, F32, n, scale);
    else if (type == BF16)
        convert(to, BF16, from, from_type, n, scale);
    else
        convert(to, F16, from, from_type, n, scale);
}

INLINE void add(void *y, const void *x, dtype type, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(y, type, i, n - i, load_n(y, type, i, n - i) + load_n(x, type, i, n - i));
}

void NAME(add)(void *y, const void *x, dtype type, int64_t n) {
    if (type == F32)
        add(y, x, F32, n);
    else
        add(y, x, BF16, n);
}
