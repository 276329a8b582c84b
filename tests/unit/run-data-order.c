/* Which row comes when: weights, epochs, batches of similar length. */
#include "base/memory.h"
#include "run/data-order.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const int64_t first[] = {0, 60, 70, 100};

static order_rules rules_of(const double *weights) {
    return (order_rules){
        .rows = 100, .files = 3, .first = first, .weights = weights, .batch = 4, .step = 8, .shuffle = 1, .seed = 9};
}

/* How often each row comes in `epochs` epochs, and of each file in the last one. */
static void count(const order_rules *r, int64_t epochs, int times[100], int of_file[3]) {
    const int64_t rows = order_rows(r);
    uint32_t *const order = mem_new((size_t)rows, sizeof *order);
    memset(times, 0, 100 * sizeof *times);
    for (int64_t e = 0; e < epochs; e++) {
        order_make(r, e, order);
        memset(of_file, 0, 3 * sizeof *of_file);
        for (int64_t i = 0; i < rows; i++) {
            times[order[i]]++;
            of_file[order[i] < 60 ? 0 : order[i] < 70 ? 1 : 2]++;
        }
    }
    free(order);
}

Test(order, without_weights_an_epoch_has_every_row_of_every_file_once) {
    order_rules r = rules_of(NULL);
    int times[100], of_file[3];
    for (r.shuffle = 0; r.shuffle < 2; r.shuffle++) {
        count(&r, 1, times, of_file);
        for (int i = 0; i < 100; i++)
            cr_assert_eq(times[i], 1);
    }
}

Test(order, weights_are_the_shares_of_an_epoch_and_no_row_is_left_out_for_good) {
    static const double weights[] = {1, 2, 1};
    const order_rules r = rules_of(weights);
    int times[100], of_file[3];
    cr_assert_eq(order_rows(&r), 100);
    count(&r, 1, times, of_file);
    cr_expect(of_file[0] == 25 && of_file[1] == 50 && of_file[2] == 25);
    for (int i = 60; i < 70; i++)
        cr_expect_eq(times[i], 5); /* the small file five times, in whole passes */
    count(&r, 12, times, of_file); /* 300 of the first file's 60 rows, 300 of the third's 30 */
    for (int i = 0; i < 60; i++)
        cr_expect_eq(times[i], 5);
    for (int i = 70; i < 100; i++)
        cr_expect_eq(times[i], 10);
}

Test(order, a_file_of_little_weight_still_comes) {
    static const double weights[] = {1, 1e-9, 1};
    const order_rules r = rules_of(weights);
    int times[100], of_file[3];
    count(&r, 10, times, of_file);
    cr_expect_eq(of_file[1], 1);
    for (int i = 60; i < 70; i++)
        cr_expect_eq(times[i], 1);
}

Test(order, epochs_differ_and_seeds_differ_and_the_same_is_the_same) {
    order_rules r = rules_of(NULL), other = r;
    uint32_t a[100], b[100];
    order_make(&r, 3, a);
    order_make(&r, 3, b);
    cr_expect_arr_eq(a, b, sizeof a);
    order_make(&r, 4, b);
    cr_expect_arr_neq(a, b, sizeof a);
    other.seed = 10;
    order_make(&other, 3, b);
    cr_expect_arr_neq(a, b, sizeof a);
}

Test(order, grouped_batches_are_of_similar_length_and_leave_little_padding) {
    enum { ROWS = 4003 };
    int32_t lengths[ROWS];
    static uint32_t plain[ROWS], grouped[ROWS], again[ROWS];
    static int seen[ROWS];
    const int64_t all[] = {0, ROWS};
    for (int i = 0; i < ROWS; i++)
        lengths[i] = 1 + i * 7919 % 500;
    order_rules r = {.rows = ROWS, .files = 1, .first = all, .batch = 8, .step = 16, .shuffle = 1, .seed = 1};
    order_make(&r, 0, plain);
    r.lengths = lengths;
    order_make(&r, 0, grouped);
    order_make(&r, 0, again);
    cr_expect_arr_eq(grouped, again, sizeof grouped);
    for (int i = 0; i < ROWS; i++)
        seen[grouped[i]]++;
    for (int i = 0; i < ROWS; i++)
        cr_assert_eq(seen[i], 1);
    cr_expect_gt(order_padding(plain, ROWS, lengths, 8), 0.3);
    cr_expect_lt(order_padding(grouped, ROWS, lengths, 8), 0.02);
    int rises = 0; /* batches do not come sorted */
    for (int b = 1; b < ROWS / 8; b++)
        rises += lengths[grouped[b * 8]] > lengths[grouped[b * 8 - 8]];
    cr_expect(rises > 150 && rises < 350, "%d", rises);
}
