/* golden — tensors of the shared golden files; a test whose file is not there says so and is skipped. */
#ifndef GRAFT_TESTS_GOLDEN_H
#define GRAFT_TESTS_GOLDEN_H
#include "base/memory.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The file SHARED_DIR/golden/NAME, open. */
static inline safetensors *golden_open(const char *name) {
    char *path = mem_format("%s/golden/%s", SHARED_DIR, name);
    graft_error err = {0};
    safetensors *st = NULL;
    if (access(path, R_OK)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        cr_skip_test();
    }
    cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
    free(path);
    return st;
}

/* A tensor converted to `type` (or as stored, when that is its type), owned by the caller. */
static inline void *golden_tensor(const safetensors *st, const char *name, dtype type, int64_t *n) {
    graft_error err = {0};
    const tensor_info *info = NULL;
    cr_assert_eq(safetensors_need(st, name, &info, &err), 0, "%s", err.text);
    void *values = mem_new((size_t)info->count, (size_t)dtype_bytes(type));
    cr_assert_eq(safetensors_read_as(st, info, values, type, &err), 0, "%s", err.text);
    if (n) *n = info->count;
    return values;
}

#endif
