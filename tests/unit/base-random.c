/* Philox4x32-10 gives the published numbers, and the draws built on it have the moments they claim. */
#include "base/json.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define VECTORS SOURCE_DIR "/tests/golden/data/numeric/philox4x32-10.json"

static uint32_t word(const json_t *object, const char *key, size_t i) {
    const char *const hex = json_string_value(json_array_get(json_object_get(object, key), i));
    cr_assert_not_null(hex);
    return (uint32_t)strtoul(hex, NULL, 16);
}

Test(philox, equals_the_published_vectors) {
    graft_error err = {0};
    json_t *root;
    cr_assert_eq(json_read_file(VECTORS, 0, &root, &err), 0, "%s", err.text);
    const json_t *const vectors = json_object_get(root, "vectors");
    cr_assert_geq(json_array_size(vectors), 14);
    for (size_t i = 0; i < json_array_size(vectors); i++) {
        const json_t *const vector = json_array_get(vectors, i);
        philox_block counter;
        for (size_t k = 0; k < 4; k++)
            counter.v[k] = word(vector, "counter", k);
        const philox_block got = philox(counter, word(vector, "key", 0), word(vector, "key", 1));
        for (size_t k = 0; k < 4; k++)
            cr_assert_eq(got.v[k], word(vector, "result", k), "vector %zu, word %zu", i, k);
    }
    json_decref(root);
}

/* Bounds: 5 standard deviations of the mean of n draws. */
Test(philox, uniform_and_normal_draws_have_their_moments) {
    enum { N = 200000 };
    double sum = 0, normal = 0, squares = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = philox_uniform(42, 1, i), z = philox_normal(42, 2, i);
        cr_assert(u >= 0 && u < 1 && isfinite(z));
        sum += u, normal += z, squares += z * z;
    }
    cr_assert_float_eq(sum / N, 0.5, 5 * sqrt(1.0 / 12 / N));
    cr_assert_float_eq(normal / N, 0, 5 * sqrt(1.0 / N));
    cr_assert_float_eq(squares / N, 1, 5 * sqrt(2.0 / N));
}

Test(philox, seed_stream_and_index_each_change_the_draw) {
    const uint64_t base = philox_bits(1, 2, 3);
    cr_assert_neq(base, philox_bits(2, 2, 3));
    cr_assert_neq(base, philox_bits(1, 3, 3));
    cr_assert_neq(base, philox_bits(1, 2, 4));
    cr_assert_neq(base, philox_bits(1 + (1ull << 40), 2, 3));
    cr_assert_neq(base, philox_bits(1, 2 + (1ull << 40), 3));
    cr_assert_neq(base, philox_bits(1, 2, 3 + (1ull << 40)));
}
