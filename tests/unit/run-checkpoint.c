/* Folders of checkpoints: complete or invisible, the newest and the best kept. */
#include "base/file.h"
#include "base/memory.h"
#include "run/checkpoint.h"
#include "run/plan.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/graft-checkpoint-XXXXXX";
static graft_error err;

static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
}
static void end(void) {
    graft_error ignored = {0};
    file_remove_tree(root, &ignored);
}
TestSuite(checkpoint, .init = begin, .fini = end);

static void save(int64_t step, const char *text) {
    char *folder;
    cr_assert_eq(checkpoint_begin(root, step, &folder, &err), GRAFT_OK, "%s", err.text);
    char *const file = path_join(folder, "state");
    cr_assert_eq(file_write(file, text, (int64_t)strlen(text), &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(checkpoint_publish(root, step, folder, &err), GRAFT_OK, "%s", err.text);
    free(file);
    free(folder);
}

static int64_t newest(void) {
    int64_t step;
    char *const path = checkpoint_newest(root, &step);
    cr_assert_eq(path != NULL, step > 0);
    free(path);
    return step;
}

static int has(const char *name) {
    char *const path = mem_format("%s/checkpoints/%s", root, name);
    const int there = file_exists(path);
    free(path);
    return there;
}

Test(checkpoint, what_is_not_published_is_not_there) {
    char *folder;
    cr_expect_eq(newest(), 0);
    save(5, "five");
    cr_assert_eq(checkpoint_begin(root, 10, &folder, &err), GRAFT_OK);
    cr_expect_eq(newest(), 5);
    checkpoint_abandon(folder);
    cr_expect_not(file_exists(folder));
    free(folder);
}

Test(checkpoint, the_newest_is_the_one_with_the_highest_step) {
    save(900, "a");
    save(1000000, "b");
    save(10000, "c");
    cr_expect_eq(newest(), 1000000);
    cr_expect(has("step-000900") && has("step-010000") && has("step-1000000"));
}

Test(checkpoint, the_same_step_is_replaced) {
    save(3, "old");
    save(3, "new");
    char *const path = mem_format("%s/checkpoints/step-000003/state", root), *text;
    int64_t size;
    cr_assert_eq(file_read(path, 100, &text, &size, &err), GRAFT_OK);
    cr_expect_str_eq(text, "new");
    free(text);
    free(path);
}

Test(checkpoint, the_last_ones_and_the_best_are_kept) {
    for (int64_t step = 1; step <= 6; step++)
        save(step, "x");
    cr_assert_eq(checkpoint_set_best(root, 2, &err), GRAFT_OK);
    cr_assert_eq(checkpoint_prune(root, 2, 2, &err), GRAFT_OK);
    cr_expect(has("step-000006") && has("step-000005") && has("step-000002"));
    cr_expect(!has("step-000004") && !has("step-000003") && !has("step-000001"));
    cr_expect(has("best/state"));
    cr_assert_eq(checkpoint_set_best(root, 6, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(checkpoint_prune(root, 0, 6, &err), GRAFT_OK);
    cr_expect(has("step-000002") && has("best/state"), "0 keeps all");
}

Test(checkpoint, leftovers_are_swept_up) {
    char *folder;
    save(1, "x");
    cr_assert_eq(checkpoint_begin(root, 2, &folder, &err), GRAFT_OK);
    char *const old = mem_format("%s/checkpoints/.step-000001.old.77", root);
    cr_assert_eq(file_make_folders(old, &err), GRAFT_OK);
    checkpoint_sweep(root);
    cr_expect(!file_exists(folder) && !file_exists(old) && newest() == 1);
    free(old);
    free(folder);
}

Test(checkpoint, other_names_are_left_alone) {
    char *const mine = mem_format("%s/checkpoints/step-final", root);
    cr_assert_eq(file_make_folders(mine, &err), GRAFT_OK);
    cr_expect_eq(newest(), 0);
    save(1, "x");
    cr_assert_eq(checkpoint_prune(root, 1, 0, &err), GRAFT_OK);
    checkpoint_sweep(root);
    cr_expect(file_exists(mine));
    free(mine);
}

Test(checkpoint, a_file_that_changed_or_went_is_named) {
    int sealed;
    save(3, "three");
    char *const folder = path_join(root, "checkpoints/step-000003"), *const file = path_join(folder, "state"),
                *const more = path_join(folder, "notes");
    cr_expect_eq(checkpoint_step(folder), 3);
    cr_expect_eq(file_write(more, "mine", 4, &err), GRAFT_OK);
    cr_expect_eq(checkpoint_verify(folder, &sealed, &err), GRAFT_OK, "%s", err.text);
    cr_expect(sealed);
    cr_expect_eq(file_write(file, "threE", 5, &err), GRAFT_OK);
    cr_expect_eq(checkpoint_verify(folder, &sealed, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "step-000003/state is not what was written"), "%s", err.text);
    err = (graft_error){0};
    cr_expect_eq(unlink(file), 0);
    cr_expect_eq(checkpoint_verify(folder, &sealed, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "step-000003/state is missing"), "%s", err.text);
    free(folder);
    free(file);
    free(more);
}

Test(checkpoint, a_disk_without_room_for_one_is_refused_with_both_numbers) {
    char *const inner = path_join(root, "not/there/yet");
    const plan small = {.disk = 1}, large = {.disk = INT64_MAX / 2};
    cr_expect_eq(plan_check_disk(&small, inner, &err), GRAFT_OK, "%s", err.text);
    cr_expect_eq(plan_check_disk(&large, inner, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, inner) && strstr(err.text, "TB at least") && strstr(err.text, "free there"), "%s",
              err.text);
    free(inner);
}
