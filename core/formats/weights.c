/* weights — the tensors of a Hugging Face model folder: one file, or shards under an index.
 * Source: transformers' model.safetensors.index.json, {"metadata": {...}, "weight_map": {tensor: file}}. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors-set.h"
#include <stdlib.h>
#include <string.h>

static const char *base_name(const char *path) {
    const char *const slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Adds the shard that the index gives for a tensor, unless it is there already. */
static int add_shard(safetensors *st, const char *folder, const char *index, strmap *known, const char *tensor,
                     const json_t *value, graft_error *err) {
    const char *const file = json_string_value(value);
    int64_t place;
    if (!file || strlen(file) != json_string_length(value) || !*file || strchr(file, '/') || strchr(file, '\\') ||
        strcmp(file, "..") == 0 || strcmp(file, ".") == 0)
        return fail(err, GRAFT_FAILED,
                    "%s: the file of tensor \"%s\" is %s%s%s; it must be the plain name of a file beside the index",
                    index, tensor, file ? "\"" : "no text", file ? file : "", file ? "\"" : "");
    if (strmap_get(known, file, strlen(file), &place)) return GRAFT_OK;
    strmap_put(known, file, strlen(file), st->shard_count);
    char *const path = path_join(folder, file);
    int rc;
    if (!file_exists(path))
        rc = fail(err, GRAFT_FAILED, "%s is missing: %s says that it holds tensor \"%s\" and perhaps more", path, index,
                  tensor);
    else
        rc = safetensors_add(st, path, err);
    free(path);
    return rc;
}

/* Index and shards must agree in both directions. */
static int check_index(const safetensors *st, const char *index, json_t *map, graft_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const tensor_info *const t = safetensors_find(st, tensor);
        if (!t)
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" should be in %s, but no shard has it", index, tensor,
                        json_string_value(value));
        const char *const is = base_name(safetensors_path(st, t->shard));
        if (strcmp(is, json_string_value(value)) != 0)
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" should be in %s, but is in %s", index, tensor,
                        json_string_value(value), is);
    }
    for (int64_t i = 0; i < st->count; i++)
        if (!json_object_get(map, st->tensors[i].name))
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" of %s is not in the index", index, st->tensors[i].name,
                        safetensors_path(st, st->tensors[i].shard));
    return GRAFT_OK;
}

static int read_shards(safetensors *st, const char *folder, const char *index, graft_error *err) {
    json_t *root;
    int rc = json_read_file(index, 0, &root, err);
    if (rc != GRAFT_OK) return rc;
    json_t *const map = json_object_get(root, "weight_map");
    strmap known = {0};
    const char *tensor;
    json_t *value;
    if (!json_is_object(map) || json_object_size(map) == 0)
        rc = fail(err, GRAFT_FAILED, "%s: has no \"weight_map\" object with tensors", index);
    json_object_foreach(map, tensor, value) {
        if (rc == GRAFT_OK) rc = add_shard(st, folder, index, &known, tensor, value, err);
    }
    if (rc == GRAFT_OK) rc = check_index(st, index, map, err);
    strmap_free(&known);
    json_decref(root);
    return rc;
}

int weights_open(const char *folder, safetensors **out, graft_error *err) {
    safetensors *const st = safetensors_new(folder);
    char *const single = path_join(folder, "model.safetensors");
    char *const index = path_join(folder, "model.safetensors.index.json");
    char *const pickle = path_join(folder, "pytorch_model.bin");
    int rc;
    if (file_exists(single))
        rc = safetensors_add(st, single, err);
    else if (file_exists(index))
        rc = read_shards(st, folder, index, err);
    else
        rc = fail(err, GRAFT_FAILED, "%s: has neither model.safetensors nor model.safetensors.index.json%s", folder,
                  file_exists(pickle)
                      ? "; pytorch_model.bin is not read (a pickle can run code): convert it to safetensors"
                      : "");
    free(pickle);
    free(index);
    free(single);
    *out = rc == GRAFT_OK ? st : NULL;
    if (rc != GRAFT_OK) safetensors_close(st);
    return rc;
}
