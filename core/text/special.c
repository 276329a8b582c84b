/* special — see special.h. */
#include "text/special.h"
#include "base/file.h"
#include "base/memory.h"
#include <stdlib.h>

int special_read_file(const char *folder, const char *name, json_t **out, graft_error *err) {
    char *const path = path_join(folder, name);
    *out = NULL;
    if (file_exists(path)) {
        json_read_file(path, JSON_DECODE_INT_AS_REAL | JSON_LENIENT_DUPLICATES, out, err);
        if (!err->code && !json_is_object(*out)) fail(err, GRAFT_FAILED, "%s must hold a JSON object", path);
    }
    free(path);
    return err->code;
}

static void take_tokens(json_t *to, const json_t *config) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *token = json_object_get(config, names[i]);
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (json_is_string(token) && !json_object_get(to, names[i])) json_object_set(to, names[i], token);
    }
}

int special_read(const char *folder, json_t **out, graft_error *err) {
    json_t *config = NULL, *map = NULL;
    *out = json_object();
    if (special_read_file(folder, "tokenizer_config.json", &config, err) == GRAFT_OK &&
        special_read_file(folder, "special_tokens_map.json", &map, err) == GRAFT_OK) {
        take_tokens(*out, config);
        take_tokens(*out, map);
    }
    json_decref(config);
    json_decref(map);
    return err->code;
}
