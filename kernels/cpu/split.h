/* split — element and row work on the team: a call's rows (or columns, or elements) become parts of a size fixed by its shape. */
#ifndef GRAFT_CPU_SPLIT_H
#define GRAFT_CPU_SPLIT_H
#include "kernels/cpu/cpu.h"

enum { SPLIT_ELEMENTS = 1 << 15 /* of a part, about */ };

/* What has a fast twin; other types go to the reference. */
static inline int split_fast(dtype t) {
    return t == F32 || t == BF16;
}

static inline int64_t split_parts(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* Where element i of a tensor lies. */
static inline char *split_at(const void *data, dtype type, int64_t i) {
    return (char *)(uintptr_t)data + i * dtype_bytes(type);
}

/* Rows of a part, so that it has about SPLIT_ELEMENTS elements. */
static inline int64_t split_rows(int64_t width) {
    return width > 0 && width < SPLIT_ELEMENTS ? SPLIT_ELEMENTS / width : 1;
}

/* Calls run for first, first + size ... of total, on the team. */
typedef void split_work(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part);
void split_run(cpu *c, int64_t total, int64_t size, split_work *run, const void *call);

#endif
