/* What callers rely on when something fails: the first text stays, context is put in front, typos get a suggestion. */
#include "base/error.h"
#include "base/log.h"
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

Test(error, first_failure_keeps_its_text_and_code) {
    graft_error err = {0};
    cr_assert_eq(fail(&err, GRAFT_USAGE, "rank is %d; at least %d", 0, 1), GRAFT_USAGE);
    cr_assert_eq(fail(&err, GRAFT_FAILED, "something later"), GRAFT_USAGE);
    cr_assert_str_eq(err.text, "rank is 0; at least 1");
}

Test(error, nobody_listening_still_gets_the_code) {
    cr_assert_eq(fail(NULL, GRAFT_USAGE, "x"), GRAFT_USAGE);
    cr_assert_eq(fail_within(NULL, "x"), GRAFT_FAILED);
}

Test(error, context_is_put_in_front_of_a_standing_error_only) {
    graft_error err = {0};
    cr_assert_eq(fail_within(&err, "run.ini"), GRAFT_OK);
    cr_assert_str_empty(err.text);
    fail(&err, GRAFT_FAILED, "no such key");
    cr_assert_eq(fail_within(&err, "%s:%d", "run.ini", 7), GRAFT_FAILED);
    cr_assert_str_eq(err.text, "run.ini:7: no such key");
}

Test(error, long_texts_are_cut_visibly_and_between_characters) {
    char text[5000] = "x";
    for (int i = 1; i + 2 < (int)sizeof text; i += 2)
        memcpy(text + i, "ä", 3);
    graft_error err = {0};
    fail(&err, GRAFT_FAILED, "%s", text);
    for (int wrapped = 0; wrapped < 3; wrapped++) {
        const size_t length = strlen(err.text);
        cr_assert(length < sizeof err.text && length > sizeof err.text - 8);
        cr_assert_str_eq(err.text + length - 3, "...");
        cr_assert_arr_eq(err.text + length - 5, "ä", 2);
        fail_within(&err, "in");
    }
}

Test(error, nearest_name_finds_the_typo_and_refuses_guesses) {
    static const char *const names[] = {"rank", "alpha", "dropout", "learning_rate", "targets", "lr"};
    const int count = sizeof names / sizeof *names;
    cr_assert_str_eq(nearest_name("rnak", names, count), "rank");
    cr_assert_str_eq(nearest_name("alhpa", names, count), "alpha");
    cr_assert_str_eq(nearest_name("target", names, count), "targets");
    cr_assert_str_eq(nearest_name("Learning-Rate", names, count), "learning_rate");
    cr_assert_str_eq(nearest_name("RL", names, count), "lr");
    cr_assert_null(nearest_name("precision", names, count));
    cr_assert_null(nearest_name("x", names, count));
    cr_assert_null(nearest_name("", names, count));
    cr_assert_null(nearest_name("rank", names, 0));
}

Test(error, nearest_name_survives_words_of_any_length) {
    char word[3000];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    const char *const names[] = {"alpha", word};
    cr_assert_null(nearest_name(word, names, 2));
    cr_assert_str_eq(nearest_name("alpa", names, 2), "alpha");
}

Test(log, level_chooses_what_is_said_but_never_hides_errors, .init = cr_redirect_stderr) {
    log_level_set(LOG_QUIET);
    log_warn("not said");
    log_error("%s is missing", "x");
    log_level_set(LOG_WARN);
    log_info("not said");
    log_warn("%d left", 3);
    fflush(stderr);
    cr_assert_stderr_eq_str("error: x is missing\nwarning: 3 left\n");
}
