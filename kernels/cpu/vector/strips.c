/* strips — rows of A that lie side by side, woven into strips: [step][half a vector of rows]. */
#include "kernels/cpu/vector/step.h"
#include "kernels/cpu/vector/table.h"

/* Two strips of half a vector at a time. */
INLINE void strips_typed(uint32_t *strips, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                         int64_t rows) {
    enum { STRIP = LANES / 2 };
    const int64_t deep = type == BF16 ? 2 : 1, size = (k + deep - 1) / deep * STRIP;
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t p = 0; p < k; p += deep) {
            const words v = step_across(type, from, from_type, p * down + i, down, k - p, rows - i);
            uint32_t *const to = strips + i / STRIP * size + p / deep * STRIP;
            memcpy(to, &v, sizeof v / 2);
            if (rows - i > STRIP) memcpy(to + size, (const char *)&v + sizeof v / 2, sizeof v / 2);
        }
}

void NAME(pack_strips)(void *strips, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                       int64_t rows) {
    if (type == F32 && from_type == F32)
        strips_typed(strips, F32, from, F32, down, k, rows);
    else if (type == F32 && from_type == BF16)
        strips_typed(strips, F32, from, BF16, down, k, rows);
    else if (type == F32)
        strips_typed(strips, F32, from, F16, down, k, rows);
    else if (from_type == BF16)
        strips_typed(strips, BF16, from, BF16, down, k, rows);
    else if (from_type == F32)
        strips_typed(strips, BF16, from, F32, down, k, rows);
    else
        strips_typed(strips, BF16, from, F16, down, k, rows);
}
