/* Number formulas ("alpha / rank") and shapes ("rank, in/block"). */
#include "formula/formula.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const char *const names[] = {"rank", "alpha", "in", "block"};
static const double values[] = {8, 16, 100, 7};

static double number(const char *text) {
    graft_error err = {0};
    double value = NAN;
    cr_assert_eq(formula_number(text, names, values, 4, &value, &err), 0, "%s", err.text);
    return value;
}

static const char *number_error(const char *text) {
    static graft_error err;
    double value = NAN;
    err = (graft_error){0};
    cr_assert_eq(formula_number(text, names, values, 4, &value, &err), GRAFT_FAILED, "%s is %g", text, value);
    cr_assert_eq(formula_number(text, names, values, 4, &value, NULL), GRAFT_FAILED);
    return err.text;
}

Test(formula_number, is_evaluated_in_double) {
    cr_assert_eq(number("alpha / rank"), 2);
    cr_assert_eq(number("alpha / sqrt(rank)"), 16 / sqrt(8));
    cr_assert_eq(number("1 - pow(0.9, rank)"), 1 - pow(0.9, 8));
    cr_assert_eq(number("rank > 4 && in != block ? -1e-3 : min(alpha, 3)"), -1e-3);
    cr_assert_eq(number(" 3 "), 3);
}

Test(formula_number, errors_show_the_place) {
    cr_assert_str_eq(number_error("alpha / rnak"),
                     "unknown number 'rnak', did you mean 'rank'?\n  alpha / rnak\n          ^");
    cr_assert_str_eq(number_error("alpha / (rank - 8)"),
                     "the value is inf, not a finite number\n  alpha / (rank - 8)\n        ^");
    cr_assert_str_eq(number_error("rank[1]"), "a number has no brackets\n  rank[1]\n  ^");
    cr_assert_str_eq(number_error("uniform(0, 1)"), "a number is not drawn at random\n  uniform(0, 1)\n  ^");
    cr_assert_str_eq(number_error("rank,"), "there may be at most 1 expression\n  rank,\n       ^");
    cr_assert_str_eq(number_error("rank; 2"), "';' stands where an operator is wanted\n  rank; 2\n      ^");
    cr_assert_str_eq(number_error(""), "the statement ends where a number, a name or '(' is wanted\n  \n  ^");
}

static int32_t shape_of(const char *text, int64_t shape[FORMULA_RANK]) {
    graft_error err = {0};
    int32_t rank = -1;
    cr_assert_eq(formula_shape(text, names, values, 4, shape, &rank, &err), 0, "%s", err.text);
    return rank;
}

static const char *shape_error(const char *text) {
    static graft_error err;
    int64_t shape[FORMULA_RANK];
    int32_t rank;
    err = (graft_error){0};
    cr_assert_eq(formula_shape(text, names, values, 4, shape, &rank, &err), GRAFT_FAILED, "%s is accepted", text);
    return err.text;
}

Test(formula_shape, is_whole_numbers) {
    int64_t shape[FORMULA_RANK];
    cr_assert_eq(shape_of("rank, in", shape), 2);
    cr_assert_eq(shape[0], 8);
    cr_assert_eq(shape[1], 100);
    cr_assert_eq(shape_of("rows, max(rank, in) / 4", shape), 2);
    cr_assert_eq(shape[0], FORMULA_ROWS);
    cr_assert_eq(shape[1], 25);
    cr_assert_eq(shape_of("1", shape), 1);
    cr_assert_eq(shape[0], 1);
    cr_assert_eq(shape_of("rank > 100 ? in : 0", shape), 1); /* 0: absent here */
    cr_assert_eq(shape[0], 0);
    cr_assert_eq(shape_of("1, 2, 3, rows", shape), 4);
}

Test(formula_shape, rows_is_the_callers_even_where_a_number_has_that_name) {
    static const char *const own[] = {"rows"};
    static const double nine[] = {9};
    int64_t shape[FORMULA_RANK];
    int32_t rank;
    cr_assert_eq(formula_shape("rows", own, nine, 1, shape, &rank, NULL), 0);
    cr_assert_eq(shape[0], FORMULA_ROWS);
}

Test(formula_shape, errors_say_value_and_place) {
    cr_assert_str_eq(shape_error("rank, in/block"),
                     "the extent is 14.2857; it must be a whole number\n  rank, in/block\n          ^");
    cr_assert_str_eq(shape_error("rank - in"), "the extent is -92; it may not be negative\n  rank - in\n       ^");
    cr_assert_str_eq(shape_error("rnk"), "unknown number 'rnk', did you mean 'rank'?\n  rnk\n  ^");
    cr_assert_str_eq(shape_error("1, 2, 3, 4, 5"),
                     "there may be at most 4 expressions\n  1, 2, 3, 4, 5\n             ^");
    cr_assert_str_eq(shape_error("2 * rows"),
                     "'rows' stands alone in a shape: it changes from call to call\n  2 * rows\n      ^");
    cr_assert_str_eq(shape_error("1e15"), "the extent 1e+15 is too large\n  1e15\n  ^");
    cr_assert_str_eq(shape_error("1e9, 1e9"), "a tensor of 1e+18 elements is too large\n  1e9, 1e9\n  ^");
    cr_assert_str_eq(shape_error("in / 0"), "the value is inf, not a finite number\n  in / 0\n     ^");
}

Test(formula_number, a_long_text_is_cut_around_the_place) {
    char text[400];
    memset(text, '1', sizeof text);
    for (int i = 1; i < 399; i += 2)
        text[i] = '+';
    memcpy(text + 300, "@", 1);
    text[399] = '\0';
    const char *const error = number_error(text);
    const char *const line = strchr(error, '\n') + 1, *const caret = strrchr(error, '\n') + 1;
    cr_assert_eq(line[strlen(caret) - 1], '@');
    cr_assert(strlen(error) < 400 && !strncmp(line, "  ...1+1", 5));
}
