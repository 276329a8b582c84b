/* Arena, text and map as their users rely on them. */
#include "base/memory.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(memory, new_is_zeroed_and_never_null) {
    unsigned char *const p = mem_new(1000, 3);
    for (int i = 0; i < 3000; i++)
        cr_assert_eq(p[i], 0);
    free(p);
    void *const none = mem_new(0, 8);
    cr_assert_not_null(none);
    free(none);
}

Test(memory, impossible_sizes_end_the_program_with_code_1, .exit_code = 1) {
    mem_grow(NULL, SIZE_MAX / 4, 8);
}

Test(memory, reserve_makes_the_next_index_valid) {
    int *numbers = NULL, count = 0, capacity = 0;
    for (; count < 1000; count++) {
        mem_reserve(numbers, count, capacity);
        numbers[count] = count;
    }
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(numbers[i], i);
    free(numbers);
}

Test(arena, adopted_memory_lives_as_long_as_the_adopter) {
    arena a = {0}, b = {0};
    const char *const before = arena_format(&a, "before");
    const char *const text = arena_format(&b, "%d", 17);
    arena_adopt(&a, &b);
    cr_assert_null(b.chunks);
    arena_free(&b);
    const char *const after = arena_format(&a, "after");
    cr_assert_str_eq(before, "before");
    cr_assert_str_eq(text, "17");
    cr_assert_str_eq(after, "after");
    arena_adopt(&b, &a);
    cr_assert_str_eq(text, "17");
    arena_free(&b);
}

Test(arena, blocks_of_any_size_are_zeroed_aligned_and_apart) {
    enum { COUNT = 3000 };
    arena a = {0};
    unsigned char *blocks[COUNT];
    size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = i % 100 == 0 ? 300000 : philox_bits(1, 0, i) % 200;
        blocks[i] = arena_new(&a, sizes[i], 1);
        cr_assert_eq((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            cr_assert_eq(blocks[i][k], 0);
        memset(blocks[i], (int)(i % 251) + 1, sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            cr_assert_eq(blocks[i][k], i % 251 + 1);
    cr_assert_str_eq(arena_copy(&a, "abcdef", 3), "abc");
    cr_assert_str_eq(arena_copy(&a, NULL, 0), "");
    cr_assert_str_eq(arena_format(&a, "%s-%05d", "step", 12), "step-00012");
    arena_free(&a);
    cr_assert_null(a.chunks);
}

Test(strbuf, grows_and_keeps_bytes_that_are_no_text) {
    strbuf b = {0};
    for (int i = 0; i < 20000; i++) {
        strbuf_add(&b, "a\0b", 3);
        strbuf_printf(&b, "%d,", i % 10);
    }
    cr_assert_eq(b.length, 100000);
    cr_assert_eq(b.text[b.length], '\0');
    cr_assert_arr_eq(b.text + 99995, "a\0b9,", 5);
    strbuf_free(&b);
    cr_assert_null(b.text);
    strbuf_add(&b, NULL, 0);
    cr_assert_str_eq(b.text, "");
    strbuf_puts(&b, "x");
    cr_assert_str_eq(b.text, "x");
    strbuf_free(&b);
}

static size_t make_key(char key[64], int i) {
    memset(key, 0, 64);
    return (size_t)snprintf(key, 64, "key %d of the map", i) + (size_t)(i % 3); /* NULs at the end belong to the key */
}

Test(strmap, holds_1e5_keys_each_under_its_own_value) {
    enum { COUNT = 100000 };
    strmap m = {0};
    char key[64];
    int64_t value = 5;
    cr_assert_not(strmap_get(&m, "a", 1, &value));
    for (int round = 0; round < 2; round++) /* the second round replaces */
        for (int i = 0; i < COUNT; i++) {
            const size_t length = make_key(key, i);
            strmap_put(&m, key, length, (int64_t)i * (round ? -7 : 1));
        }
    cr_assert_eq(m.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        const size_t length = make_key(key, i);
        cr_assert(strmap_get(&m, key, length, &value));
        cr_assert_eq(value, (int64_t)i * -7);
        cr_assert_not(strmap_get(&m, key, length + 3, &value));
    }
    strmap_free(&m);
    cr_assert_eq(m.count, 0);
}

Test(strmap, tells_empty_and_nul_keys_apart) {
    strmap m = {0};
    int64_t value;
    char zeros[20] = {0};
    for (size_t length = 0; length < sizeof zeros; length++)
        strmap_put(&m, zeros, length, (int64_t)length);
    for (size_t length = 0; length < sizeof zeros; length++) {
        cr_assert(strmap_get(&m, zeros, length, &value));
        cr_assert_eq(value, (int64_t)length);
    }
    strmap_free(&m);
}
