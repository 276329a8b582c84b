/* objectives — the golden files of losses and metrics. */
#ifndef GRAFT_TESTS_OBJECTIVES_H
#define GRAFT_TESTS_OBJECTIVES_H
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* golden/objectives/NAME; the test is skipped, aloud, where it is not there. Owned by the caller. */
static inline json_t *golden(const char *name) {
    graft_error err = {0};
    json_t *out = NULL;
    char *path = mem_format("%s/golden/objectives/%s", SHARED_DIR, name);
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        free(path);
        cr_skip_test("the golden data is not there");
    }
    cr_assert_eq(json_read_file(path, 0, &out, &err), 0, "%s", err.text);
    free(path);
    return out;
}

static inline double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

#endif
