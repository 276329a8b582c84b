/* ends — see ends.h. */
#include "text/ends.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/generation-config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int text_ends_has(const text_ends *e, int32_t id) {
    for (int32_t i = 0; i < e->count; i++)
        if (e->id[i] == id) return 1;
    return 0;
}

void text_ends_add(text_ends *e, const tokenizer *t, int64_t id) {
    if (id < 0 || id > INT32_MAX || e->count == TEXT_ENDS_MOST || text_ends_has(e, (int32_t)id)) return;
    if (tokenizer_token(t, (int32_t)id, NULL)) e->id[e->count++] = (int32_t)id;
}

/* FOLDER/NAME as an object; NULL when the file is not there. */
static int read_object(const char *folder, const char *name, char **path, json_t **out, graft_error *err) {
    *path = path_join(folder, name);
    *out = NULL;
    if (!file_exists(*path)) return GRAFT_OK;
    if (json_read_file(*path, JSON_DECODE_INT_AS_REAL | JSON_LENIENT_DUPLICATES, out, err)) return err->code;
    return json_is_object(*out) ? GRAFT_OK : fail(err, GRAFT_FAILED, "%s must hold a JSON object", *path);
}

/* eos_token: a text, or an object with the text as its content. */
static int read_tokenizer(const char *folder, const tokenizer *t, int32_t *id, graft_error *err) {
    char *path;
    json_t *config;
    *id = -1;
    if (read_object(folder, "tokenizer_config.json", &path, &config, err) == GRAFT_OK) {
        json_t *token = json_object_get(config, "eos_token");
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (json_is_string(token))
            *id = tokenizer_id(t, json_string_value(token), (int64_t)json_string_length(token));
        else if (token && !json_is_null(token))
            fail(err, GRAFT_FAILED, "%s: \"eos_token\" must be a text", path);
    }
    json_decref(config);
    free(path);
    return err->code;
}

/* eos_token_id: a number, or a list of numbers. */
static int read_model(const char *folder, const tokenizer *t, text_ends *out, graft_error *err) {
    char *path;
    json_t *config;
    if (read_object(folder, "config.json", &path, &config, err) == GRAFT_OK) {
        const json_t *ids = json_object_get(config, "eos_token_id");
        if (!ids) ids = json_object_get(json_object_get(config, "text_config"), "eos_token_id");
        const size_t count = json_is_array(ids) ? json_array_size(ids) : ids && !json_is_null(ids);
        for (size_t i = 0; i < count && !err->code; i++) {
            const json_t *const id = json_is_array(ids) ? json_array_get(ids, i) : ids;
            const double value = json_number_value(id);
            if (!json_is_number(id) || !(value <= INT32_MAX) || value != floor(value))
                fail(err, GRAFT_FAILED, "%s: \"eos_token_id\" must be a token number or a list of them", path);
            else
                text_ends_add(out, t, value < 0 ? -1 : (int64_t)value);
        }
    }
    json_decref(config);
    free(path);
    return err->code;
}

int text_ends_read(const char *folder, const tokenizer *t, text_ends *out, graft_error *err) {
    *out = (text_ends){.written = -1};
    generation_config generation;
    int32_t own;
    if (read_tokenizer(folder, t, &own, err) || generation_config_read(folder, &generation, err)) return err->code;
    for (int32_t i = 0; i < generation.eos_count; i++)
        text_ends_add(out, t, generation.eos[i]);
    if (out->count == 0 && read_model(folder, t, out, err)) return err->code;
    if (out->count == 0 || text_ends_has(out, own)) out->written = own;
    if (out->count > 0 && out->written < 0) out->written = out->id[0];
    text_ends_add(out, t, own);
    return GRAFT_OK;
}
