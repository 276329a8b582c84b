/* base-quantizer — quantizer.ini of adapter folders. */
#include "run/base-quantizer.h"
#include "base/file.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20 };

static char *path_in(const char *folder) {
    return path_join(folder, "quantizer.ini");
}

int base_quantizer_write(const recipe *r, const char *folder, graft_error *err) {
    char *const path = path_in(folder);
    recipe_write_quantizer(r, path, err);
    free(path);
    return err->code;
}

int base_quantizer_known(const char *folder) {
    char *const path = path_in(folder);
    const int known = file_exists(path);
    free(path);
    return known;
}

/* NULL: the folder says nothing. Owned by the caller. */
static char *text_of(const char *folder) {
    char *const path = path_in(folder), *text = NULL;
    graft_error ignored = {0};
    int64_t size;
    file_read(path, MOST, &text, &size, &ignored);
    free(path);
    return text;
}

int base_quantizer_same(const char *folder, const char *other) {
    char *const one = text_of(folder), *const two = text_of(other);
    const int same = !one || !two ? one == two : strcmp(one, two) == 0;
    free(one);
    free(two);
    return same;
}

static int load(registry *plugins, const char *path, recipe **out, graft_error *err) {
    if (recipe_load(plugins, path, NULL, 0, 0, out, NULL, err)) return err->code;
    const recipe_quantizer *const q = &(*out)->quantizer;
    if (!q->use.component && !(q->state && *q->state))
        return fail(err, GRAFT_USAGE, "%s has no [quantizer]; name a file that has one, or none", path);
    return GRAFT_OK;
}

int base_quantizer_choose(registry *plugins, const char *word, const char *const *folders, int32_t count, recipe **out,
                          graft_error *err) {
    *out = NULL;
    if (word) return strcmp(word, "none") == 0 ? GRAFT_OK : load(plugins, word, out, err);
    for (int32_t i = 1; i < count; i++)
        if (!base_quantizer_same(folders[0], folders[i])) {
            log_warn("%s and %s were trained on bases that were quantized differently (quantizer.ini); the base is "
                     "taken as it is stored. --quantizer FILE.ini quantizes it",
                     folders[0], folders[i]);
            return GRAFT_OK;
        }
    if (count == 0 || !base_quantizer_known(folders[0])) return GRAFT_OK;
    char *const path = path_in(folders[0]);
    if (load(plugins, path, out, err))
        fail_within(err, "%s was trained on a quantized base; --quantizer none takes it as it is stored", folders[0]);
    free(path);
    return err->code;
}
