/* calibrate — see calibrate.h. */
#include "kernels/cpu/calibrate.h"
#include <stdlib.h>
#include <time.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Numbers of normal size: the rate of some machines falls with the bits that change. */
static void fill(kernels *k, void *dev, dtype type, int64_t n) {
    float row[2048];
    uint32_t state = 12345;
    for (int64_t i = 0; i < n; i += 2048) {
        for (int j = 0; j < 2048; j++)
            row[j] = (float)((int32_t)(state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f;
        char narrow[sizeof row];
        dtype_convert(narrow, type, row, F32, 2048);
        k->upload(k, (char *)dev + i * dtype_bytes(type), narrow, 2048 * dtype_bytes(type));
    }
}

double cpu_calibrate_gemm(kernels *k) {
    const int64_t size = k->multiplies_bf16 ? 2048 : 1024;
    const dtype type = k->multiplies_bf16 ? BF16 : F32;
    void *const a = k->alloc(k, size * size * dtype_bytes(type)),
                *const b = k->alloc(k, size * size * dtype_bytes(type)),
                *const c = k->alloc(k, size * size * dtype_bytes(type));
    double best = 0;
    if (a && b && c) {
        fill(k, a, type, size * size);
        fill(k, b, type, size * size);
        const gemm_call g = {
            .batch = 1,
            .m = size,
            .n = size,
            .k = size,
            .a = {a, type, size, 1,    0, NULL},
            .b = {b, type, 1,    size, 0, NULL},
            .c = c,
            .c_type = type,
            .c_row = size,
            .c_col = 1,
            .alpha = 1
        };
        const double begin = seconds();
        for (int runs = 0; runs < 3 || seconds() < begin + 0.3; runs++) {
            const double from = seconds();
            k->gemm(k, &g);
            const double rate = 2e-12 * (double)size * (double)size * (double)size / (seconds() - from);
            best = rate > best ? rate : best;
        }
    }
    k->release(k, a);
    k->release(k, b);
    k->release(k, c);
    return best;
}
