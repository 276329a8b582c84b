/* base-digest — see base-digest.h. */
#include "run/base-digest.h"
#include "base/file.h"
#include "base/json.h"
#include "run/settings.h"
#include <stdlib.h>
#include <string.h>

int base_digest_write(const char *folder, const char *key, const char *base, graft_error *err) {
    char hex[65];
    if (settings_weights(base, hex, err)) return err->code;
    char *const path = path_join(folder, "base.json");
    json_t *const root = json_pack("{s:s}", key, hex);
    json_write_file(path, root, JSON_INDENT(2), err);
    json_decref(root);
    free(path);
    return err->code;
}

/* The digest under a key of FOLDER/base.json, "" without one. */
static int read_digest(const char *folder, const char *key, char hex[65], graft_error *err) {
    char *const path = path_join(folder, "base.json");
    const char *text = "";
    json_t *root = NULL;
    hex[0] = '\0';
    if (file_exists(path) && !json_read_file(path, 0, &root, err) && !json_get_text(root, path, key, "", &text, err)) {
        if (strlen(text) == 64)
            memcpy(hex, text, 65);
        else if (*text)
            fail(err, GRAFT_FAILED, "%s: \"%s\" is no digest", path, key);
    }
    json_decref(root);
    free(path);
    return err->code;
}

int base_digest_check(const char *adapter, const char *base, graft_error *err) {
    char wanted[65], is[65], from[65];
    if (read_digest(adapter, "weights", wanted, err) || !*wanted) return err->code;
    if (settings_weights(base, is, err) || read_digest(base, "quantized_from", from, err)) return err->code;
    if (strcmp(wanted, is) == 0 || strcmp(wanted, from) == 0) return GRAFT_OK;
    return fail(
        err, GRAFT_FAILED,
        "%s belongs to another base: it was made with the weights %.12s (base.json), those of %s are %.12s; its "
        "first values are parts of that base and mean nothing on another",
        adapter, wanted, base, is);
}
