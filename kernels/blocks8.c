/* blocks8 — see blocks8.h. */
#include "kernels/blocks8.h"
#include <math.h>
#include <stdlib.h>

/* Value k of n equally spaced ones from 0.1 to 1 as torch.linspace makes them: from the nearer end, fused. */
static float spaced(int k, int n) {
    const float first = 0.1f, last = 1.0f, step = (last - first) / (float)(n - 1);
    return k < n / 2 ? fmaf(step, (float)k, first) : fmaf(-step, (float)(n - 1 - k), last);
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Seven decades: 2^i (unsigned: 2^(i+1)) means of neighbours of the spaced values, times 10^(i-6); then 0 and 1. */
void blocks8_map(int is_unsigned, float map[256]) {
    int count = 0;
    for (int i = 0; i < 7; i++) {
        const int boundaries = (1 << (i + (is_unsigned ? 1 : 0))) + 1;
        const float decade = (float)pow(10, i - 6);
        for (int j = 0; j + 1 < boundaries; j++) {
            const float value = (spaced(j, boundaries) + spaced(j + 1, boundaries)) / 2 * decade;
            map[count++] = value;
            if (!is_unsigned) map[count++] = -value;
        }
    }
    map[count++] = 0;
    map[count++] = 1;
    qsort(map, (size_t)count, sizeof *map, ascending);
}

uint8_t blocks8_nearest(const float map[256], float s) {
    if (isnan(s)) return 0;
    int low = 0, high = 255; /* map[low] <= s < map[high], but for the ends */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (s >= map[middle])
            low = middle;
        else
            high = middle;
    }
    const float between = (map[low] + map[high]) * 0.5f;
    if (s == between) return (uint8_t)(low % 2 ? high : low);
    return (uint8_t)(s > between ? high : low);
}

void blocks8_quantize(const float map[256], int keep_sign, const float *x, int64_t n, uint8_t *codes, float *absmax) {
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float inverse = most > 0 ? 1.0f / most : 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t c = blocks8_nearest(map, x[i] * inverse);
        if (keep_sign && x[i] != 0 && !signbit(map[c]) != !signbit(x[i])) c = (uint8_t)(x[i] > 0 ? c + 1 : c - 1);
        codes[i] = c;
    }
    *absmax = most;
}
