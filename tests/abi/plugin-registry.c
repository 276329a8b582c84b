/* Where a name leads, in which order, and what is said when it leads nowhere. */
#include "base/file.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/graft-registry-XXXXXX";

/* HOME and GRAFT_PLUGIN_PATH=a:b, both in a fresh folder. */
static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
    char path[4096];
    setenv("HOME", root, 1);
    snprintf(path, sizeof path, "%s/a:%s/b", root, root);
    setenv("GRAFT_PLUGIN_PATH", path, 1);
}

static void end(void) {
    graft_error err = {0};
    file_remove_tree(root, &err);
}

/* ROOT/folder/name.so leads to the module of the build. */
static void put(const char *folder, const char *name, const char *module) {
    graft_error err = {0};
    char path[4096], target[4096];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    cr_assert_eq(file_make_folders(path, &err), GRAFT_OK, "%s", err.text);
    snprintf(path, sizeof path, "%s/%s/%s.so", root, folder, name);
    snprintf(target, sizeof target, "%s/tests/abi/%s.so", BINARY_DIR, module);
    cr_assert_eq(symlink(target, path), 0);
}

static const plugin_component *find(registry *r, plugin_kind kind, const char *name, graft_error *err) {
    const plugin_component *c = NULL;
    *err = (graft_error){0};
    registry_find(r, kind, name, root, &c, err);
    return c;
}

#define EXPECT_IN(text, part) cr_expect(strstr(text, part), "'%s' is not in: %s", part, text)

TestSuite(registry, .init = begin, .fini = end);

Test(registry, finds_a_plugin_by_its_file_name_without_opening_others) {
    put("b", "plain", "plain");
    put("b", "older", "older");
    registry *const r = registry_create();
    graft_error err;
    const plugin_component *const c = find(r, PLUGIN_ADAPTER, "plain", &err);
    cr_assert_not_null(c, "%s", err.text);
    EXPECT_IN(c->file, "/b/plain.so");
    cr_assert_eq(registry_count(r), 1);
    cr_assert_eq(find(r, PLUGIN_ADAPTER, "plain", &err), c);
    registry_free(r);
}

Test(registry, the_first_folder_hides_the_later_ones) {
    put("a", "twin", "twin-a");
    put("b", "twin", "twin-b");
    registry *const r = registry_create();
    graft_error err;
    registry_open_all(r);
    const plugin_component *const c = find(r, PLUGIN_ADAPTER, "twin", &err);
    cr_assert_not_null(c, "%s", err.text);
    EXPECT_IN(c->file, "/a/twin.so");
    cr_assert_eq(registry_refused_count(r), 0);
    registry_free(r);
}

Test(registry, the_home_folder_comes_behind_the_path) {
    put(".local/lib/graft/0", "plain", "plain");
    registry *const r = registry_create();
    graft_error err;
    cr_assert_not_null(find(r, PLUGIN_ADAPTER, "plain", &err), "%s", err.text);
    char home[4096];
    snprintf(home, sizeof home, "%s/.local/lib/graft/0", root);
    cr_assert_str_eq(registry_folder(r, 2), home);
    cr_assert(registry_folder_count(r) >= 4);
    EXPECT_IN(registry_folder(r, 3), "/lib/graft");
    registry_free(r);
}

Test(registry, looks_into_the_other_files_when_none_has_the_name) {
    put("a", "plain", "plain");
    put("b", "bundle", "kinds");
    registry *const r = registry_create();
    graft_error err;
    const plugin_component *const c = find(r, PLUGIN_SCHEDULE, "several", &err);
    cr_assert_not_null(c, "%s", err.text);
    EXPECT_IN(c->file, "/b/bundle.so");
    registry_free(r);
}

Test(registry, a_missing_name_says_everything_that_was_tried) {
    put("a", "plain", "plain");
    put("a", "broken", "stranger");
    registry *const r = registry_create();
    graft_error err;
    cr_assert_null(find(r, PLUGIN_ADAPTER, "plian", &err));
    cr_assert_eq(err.code, GRAFT_USAGE);
    EXPECT_IN(err.text, "there is no adapter 'plian'; did you mean 'plain'");
    EXPECT_IN(err.text, "Tried plian.so in ");
    for (int i = 0; i < registry_folder_count(r); i++)
        EXPECT_IN(err.text, registry_folder(r, i));
    EXPECT_IN(err.text, "exports no graft_plugin_v0");
    cr_assert_null(find(r, PLUGIN_OPTIMIZER, "plain", &err));
    EXPECT_IN(err.text, "there is no optimizer 'plain' (the kind adapter has one)");
    registry_free(r);
}

Test(registry, a_file_of_that_name_that_is_no_good_is_the_error) {
    put("a", "plain", "version-1");
    put("b", "plain", "plain");
    registry *const r = registry_create();
    graft_error err;
    for (int again = 0; again < 2; again++) {
        cr_assert_null(find(r, PLUGIN_ADAPTER, "plain", &err));
        EXPECT_IN(err.text, "/a/plain.so: it was built for contract v1");
    }
    registry_free(r);
}

Test(registry, a_component_in_two_files_is_an_error_naming_both) {
    put("a", "one", "twin-a");
    put("b", "two", "twin-b");
    registry *const r = registry_create();
    graft_error err;
    cr_assert_null(find(r, PLUGIN_ADAPTER, "twin", &err));
    EXPECT_IN(err.text, "the adapter 'twin' is in ");
    EXPECT_IN(err.text, "/a/one.so");
    EXPECT_IN(err.text, "/b/two.so");
    cr_assert_eq(registry_refused_count(r), 1);
    EXPECT_IN(registry_refused(r, 0), "/b/two.so");
    cr_assert_null(registry_refused(r, 1));
    registry_free(r);
}

Test(registry, two_files_given_by_path_may_not_hold_the_same_component) {
    put("a", "one", "twin-a");
    put("b", "two", "twin-b");
    registry *const r = registry_create();
    graft_error err;
    cr_assert_not_null(find(r, PLUGIN_ADAPTER, "a/one.so", &err), "%s", err.text);
    cr_assert_null(find(r, PLUGIN_ADAPTER, "b/two.so", &err));
    EXPECT_IN(err.text, "/a/one.so and in ");
    registry_free(r);
}

Test(registry, a_path_starts_at_the_given_folder) {
    put("c", "plain", "plain");
    registry *const r = registry_create();
    graft_error err;
    const plugin_component *const c = find(r, PLUGIN_ADAPTER, "./c/plain.so", &err);
    cr_assert_not_null(c, "%s", err.text);
    cr_assert_eq(find(r, PLUGIN_ADAPTER, "c/plain.so", &err), c, "one file is opened once");
    cr_assert_null(find(r, PLUGIN_ADAPTER, "c/none.so", &err));
    EXPECT_IN(err.text, "c/none.so: No such file");
    cr_assert_null(find(r, PLUGIN_LOADER, "c/plain.so", &err));
    EXPECT_IN(err.text, "holds no loader: it holds adapter 'plain'");
    registry_free(r);
}

Test(registry, never_looks_into_the_current_directory) {
    put("here", "plain", "plain");
    char here[4096];
    snprintf(here, sizeof here, "%s/here", root);
    cr_assert_eq(chdir(here), 0);
    static const char *const paths[] = {"", ":", "::", ".", "./", "../here", ".:"};
    for (int i = 0; i < 7; i++) {
        setenv("GRAFT_PLUGIN_PATH", paths[i], 1);
        registry *const r = registry_create();
        graft_error err;
        cr_expect_null(find(r, PLUGIN_ADAPTER, "plain", &err), "found with GRAFT_PLUGIN_PATH='%s'", paths[i]);
        for (int f = 0; f < registry_folder_count(r); f++)
            cr_expect_eq(registry_folder(r, f)[0], '/');
        registry_free(r);
    }
    unsetenv("GRAFT_PLUGIN_PATH");
    registry *const r = registry_create();
    graft_error err;
    cr_expect_null(find(r, PLUGIN_ADAPTER, "plain", &err));
    registry_free(r);
}

Test(registry, lists_by_kind_and_name_what_the_folders_hold) {
    put("a", "plain", "plain");
    put("a", "kinds", "kinds");
    put("b", "older", "older");
    put("b", "pointers", "pointers");
    char path[4096];
    snprintf(path, sizeof path, "%s/a:%s/b:%s/a", root, root, root);
    setenv("GRAFT_PLUGIN_PATH", path, 1);
    registry *const r = registry_create();
    registry_open_all(r);
    registry_open_all(r);
    int ours = 0;
    for (int i = 0; i < registry_count(r); i++) {
        const plugin_component *const c = registry_at(r, i), *const before = i ? registry_at(r, i - 1) : c;
        cr_assert(i == 0 || before->kind < c->kind || (before->kind == c->kind && strcmp(before->name, c->name) < 0));
        ours += strncmp(c->file, root, strlen(root)) == 0;
    }
    cr_assert_eq(ours, 7);
    cr_assert_eq(registry_refused_count(r), 1);
    EXPECT_IN(registry_refused(r, 0), "pointers of 4 bytes");
    registry_free(r);
}
