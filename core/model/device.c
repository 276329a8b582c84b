/* device — small steps over the kernel table that the model needs in several places. */
#include "model/model-private.h"
#include <stdlib.h>

void copy_columns(kernels *k, columns to, columns from, int64_t rows, int64_t cols, int32_t add) {
    static const map_instruction load[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {
        .indices = 2, .kept = 2, .store = add ? MAP_PLUS : MAP_SET, .operands = 2, .length = 1, .code = load};
    const map_call call = {
        .extent = {rows,                                                         cols},
        .operand = {{.data = to.data, .type = to.type, .stride = {to.stride, 1}},
                   {.data = from.data, .type = from.type, .stride = {from.stride, 1}}},
    };
    k->map(k, &program, &call);
}

void download_as(kernels *k, void *host, dtype want, const void *dev, dtype type, int64_t n) {
    if (type == want) {
        k->download(k, host, dev, n * dtype_bytes(type));
        return;
    }
    void *raw = mem_new((size_t)n, (size_t)dtype_bytes(type));
    k->download(k, raw, dev, n * dtype_bytes(type));
    dtype_convert(host, want, raw, type, n);
    free(raw);
}

void upload_as(kernels *k, void *dev, dtype type, const void *host, dtype from, int64_t n) {
    if (type == from) {
        k->upload(k, dev, host, n * dtype_bytes(type));
        return;
    }
    void *raw = mem_new((size_t)n, (size_t)dtype_bytes(type));
    dtype_convert(raw, type, host, from, n);
    k->upload(k, dev, raw, n * dtype_bytes(type));
    free(raw);
}
