/* Every plugin of the project keeps the contract, and the recipe beside it loads. */
#include "base/file.h"
#include "base/memory.h"
#include "run/recipe.h"
#include <criterion/criterion.h>
#include <stdlib.h>

static registry *open_shipped(void) {
    unsetenv("GRAFT_PLUGIN_PATH");
    setenv("HOME", "/nowhere", 1);
    registry *const r = registry_create();
    registry_open_all(r);
    return r;
}

Test(shipped, plugins_are_all_accepted) {
    registry *const r = open_shipped();
    for (int i = 0; i < registry_refused_count(r); i++)
        cr_expect(0, "%s", registry_refused(r, i));
    cr_assert_geq(registry_count(r), 10);
    registry_free(r);
}

/* jsonl is what the recipes read with; without it any loader will do. */
Test(shipped, recipes_of_the_plugins_hold_no_mistake) {
    registry *const r = open_shipped();
    const plugin_component *jsonl = NULL;
    graft_error err = {0};
    registry_find(r, PLUGIN_LOADER, "jsonl", NULL, &jsonl, &err);
    const char *const loader = "data.loader=" BINARY_DIR "/tests/abi/kinds.so";
    int checked = 0;
    for (int i = 0; i < registry_count(r); i++) {
        char *const path =
            mem_format("%s/plugins/%s/%s.ini", SOURCE_DIR, registry_at(r, i)->name, registry_at(r, i)->name);
        if (file_exists(path)) {
            recipe *got = NULL;
            err = (graft_error){0};
            recipe_load(r, path, &loader, jsonl == NULL, RECIPE_TRAIN, &got, NULL, &err);
            cr_expect_not_null(got, "%s", err.text);
            recipe_free(got);
            checked++;
        }
        free(path);
    }
    cr_assert_geq(checked, 6);
    registry_free(r);
}
