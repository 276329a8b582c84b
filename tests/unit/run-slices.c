/* From padded, packed and plain sequences to the rows of a model. */
#include "run/slices.h"
#include <criterion/criterion.h>
#include <string.h>

static graft_error err;
static sequence_list list;
static slice_list got;

static void end(void) {
    slices_free(&got);
    sequence_list_free(&list);
}
TestSuite(slices, .fini = end);

static sequence *add(int64_t tokens, const int32_t *ids, const int32_t *labels) {
    sequence *const s = sequence_list_add(&list);
    *s = (sequence){.tokens = tokens, .ids = ids, .labels = labels ? labels : ids};
    return s;
}

static void cut(int64_t rows, int64_t documents, int32_t first) {
    const slice_limits limits = {.vocab = 100, .rows = rows, .documents = documents, .first = first};
    cr_assert_eq(slices_cut(&list, &limits, &got, &err), GRAFT_OK, "%s", err.text);
}

static void expect_error(int64_t rows, const char *words) {
    const slice_limits limits = {.vocab = 100, .rows = rows, .what = "step 3"};
    cr_assert_eq(slices_cut(&list, &limits, &got, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, words), "\"%s\" is not in: %s", words, err.text);
}

#define EXPECT(array, ...)                                                                                             \
    do {                                                                                                               \
        const int64_t want[] = {__VA_ARGS__};                                                                          \
        for (size_t i = 0; i < sizeof want / sizeof *want; i++)                                                        \
            cr_expect_eq((int64_t)(array)[i], want[i], #array "[%zu] is %lld, not %lld", i, (long long)(array)[i],     \
                         (long long)want[i]);                                                                          \
    } while (0)

Test(slices, a_row_predicts_the_label_of_the_next_token) {
    add(4, (int32_t[]){5, 6, 7, 8}, (int32_t[]){5, LABEL_NONE, 17, 18});
    cut(8, 0, 0);
    cr_assert(got.count == 1 && got.rows == 4 && got.documents == 1 && got.targets == 2);
    EXPECT(got.at[0].ids, 5, 6, 7, 8);
    EXPECT(got.at[0].targets, -1, 17, 18, -1);
    EXPECT(got.at[0].positions, 0, 1, 2, 3);
    EXPECT(got.at[0].start, 0, 4);
    EXPECT(got.targets_of, 2);
    cr_expect_eq(got.at[0].longest, 0);
}

Test(slices, padding_is_dropped_but_counts_for_positions) {
    add(5, (int32_t[]){0, 0, 7, 8, 9}, NULL)->mask = (uint8_t[]){0, 0, 1, 1, 1}; /* on the left  */
    add(5, (int32_t[]){4, 5, 6, 0, 0}, NULL)->mask = (uint8_t[]){1, 1, 1, 0, 0}; /* on the right */
    cut(10, 0, 0);
    cr_assert(got.count == 1 && got.rows == 6 && got.documents == 2);
    EXPECT(got.at[0].ids, 7, 8, 9, 4, 5, 6);
    EXPECT(got.at[0].positions, 2, 3, 4, 0, 1, 2);
    EXPECT(got.at[0].start, 0, 3, 6);
    EXPECT(got.origin, 2, 3, 4, (1LL << 32) | 0, (1LL << 32) | 1, (1LL << 32) | 2);
    cr_expect_eq(got.at[0].longest, 5);
}

Test(slices, documents_do_not_predict_each_other) {
    add(6, (int32_t[]){1, 2, 3, 4, 5, 6}, NULL)->documents = (int32_t[]){0, 0, 0, 1, 1, 4};
    cut(6, 0, 0);
    EXPECT(got.at[0].targets, 2, 3, -1, 5, -1, -1);
    EXPECT(got.at[0].positions, 0, 1, 2, 0, 1, 0);
    EXPECT(got.at[0].start, 0, 3, 5, 6);
    cr_expect_eq(got.at[0].documents, 3);
}

Test(slices, positions_that_do_not_increase_begin_a_document) {
    add(5, (int32_t[]){1, 2, 3, 4, 5}, NULL)->positions = (int32_t[]){3, 4, 0, 1, 2};
    cut(5, 0, 0);
    EXPECT(got.at[0].start, 0, 2, 5);
    EXPECT(got.at[0].targets, 2, -1, 4, 5, -1);
    EXPECT(got.at[0].positions, 3, 4, 0, 1, 2);
}

Test(slices, positions_that_jump_begin_a_document_where_nothing_is_padded) {
    static const int32_t ids[] = {1, 2, 3, 4}, positions[] = {0, 1, 5, 6};
    add(4, ids, NULL)->positions = positions;
    sequence *const padded = add(4, ids, NULL);
    padded->positions = positions;
    padded->mask = (uint8_t[]){1, 1, 1, 1};
    cut(8, 0, 0);
    EXPECT(got.at[0].start, 0, 2, 4, 8);
    EXPECT(got.at[0].targets, 2, -1, 4, -1, 2, 3, 4, -1);
}

Test(slices, whole_sequences_fill_slices_in_order) {
    static const int32_t ids[] = {1, 2, 3};
    for (int i = 0; i < 4; i++)
        add(3, ids, NULL);
    cut(7, 0, 0);
    cr_assert_eq(got.count, 2);
    cr_expect(got.at[0].rows == 6 && got.at[1].rows == 6);
    EXPECT(got.at[1].start, 0, 3, 6);
    EXPECT(got.targets_of, 4, 4);
}

/* The number of a document in the step and its token decide what dropout hides, not how the step is cut or packed. */
Test(slices, keys_do_not_depend_on_slices_or_packing) {
    add(2, (int32_t[]){1, 2}, NULL);
    add(3, (int32_t[]){3, 4, 5}, NULL);
    cut(3, 0, 0);
    cr_assert_eq(got.count, 2);
    EXPECT(got.keys, 0, 1, (1LL << 32) | 0, (1LL << 32) | 1, (1LL << 32) | 2);
    end();
    add(5, (int32_t[]){1, 2, 3, 4, 5}, NULL)->documents = (int32_t[]){0, 0, 1, 1, 1};
    cut(5, 0, 0);
    EXPECT(got.keys, 0, 1, (1LL << 32) | 0, (1LL << 32) | 1, (1LL << 32) | 2);
}

Test(slices, virtual_rows_may_predict_the_first_token) {
    add(3, (int32_t[]){7, 8, 9}, NULL);
    add(2, (int32_t[]){4, 5}, (int32_t[]){LABEL_NONE, 5});
    cut(8, 1, 1);
    cr_assert(got.count == 2 && got.targets == 4);
    EXPECT(got.at[0].first, 7);
    EXPECT(got.at[1].first, -1);
    EXPECT(got.targets_of, 3, 1);
}

Test(slices, nothing_to_compute_gives_no_slice) {
    add(2, (int32_t[]){7, 8}, NULL)->mask = (uint8_t[]){0, 0};
    add(0, NULL, NULL);
    cut(4, 0, 0);
    cr_assert(got.count == 0 && got.rows == 0 && got.targets == 0);
}

Test(slices, what_is_wrong_is_said_with_its_place) {
    add(3, (int32_t[]){1, 100, 3}, (int32_t[]){1, 2, 3});
    expect_error(4, "step 3, sequence 0, token 1: id 100 is outside the vocabulary of 100");
    end(), err = (graft_error){0};
    add(3, (int32_t[]){1, 2, 3}, (int32_t[]){1, -5, 3});
    expect_error(4, "token 1: label -5 is neither -100");
    end(), err = (graft_error){0};
    sequence *const s = add(3, (int32_t[]){1, 2, 3}, NULL);
    s->positions = (int32_t[]){0, 5, 4};
    s->documents = (int32_t[]){0, 0, 0};
    expect_error(4, "token 2: position 4 does not increase in its document; the one before is 5");
    end(), err = (graft_error){0};
    add(9, (int32_t[9]){0}, NULL);
    expect_error(8, "sequence 0 has 9 tokens, a slice at most 8");
}

Test(slices, the_automatic_size_holds_a_sequence_and_is_no_larger_than_the_step) {
    cr_expect_eq(slices_automatic(512, 2048), 1024);
    cr_expect_eq(slices_automatic(2048, 8192), 2048);
    cr_expect_eq(slices_automatic(64, 256), 256);
    cr_expect_eq(slices_automatic(64, 64), 64);
}
