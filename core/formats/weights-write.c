/* weights-write — a model folder's weights in one file or in shards with their index.
 * Source: huggingface_hub, serialization/_base.py (split_state_dict_into_shards_factory). */
#include "base/file.h"
#include "base/memory.h"
#include "formats/jsontext.h"
#include "formats/safetensors-set.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    int64_t first, count; /* tensors of the list */
    char *name;
    safetensors_writer *file;
} shard;

struct weights_writer {
    char *folder;
    shard *shards;
    int64_t shard_count, current;
    json_t *index; /* NULL: one file */
};

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

/* The bytes and elements of a tensor; what is wrong with it is said when its shard's header is made. */
static int64_t bytes_of(const tensor_out *t, int64_t *elements) {
    const int order = safetensors_type_order(t->type ? t->type : dtype_name(t->dtype));
    int64_t bytes = 0;
    *elements = 0;
    if (order >= 0 && t->rank >= 0 && t->rank <= TENSOR_RANK_MAX)
        safetensors_size(t->shape, t->rank, safetensors_type_bits(order), elements, &bytes);
    return bytes;
}

/* Cuts the list where the next tensor would not fit any more. */
static void cut(weights_writer *w, const tensor_out *list, int64_t count, int64_t limit) {
    int64_t filled = 0, elements;
    w->shards = mem_new((size_t)count + 1, sizeof *w->shards);
    w->shard_count = 1;
    for (int64_t i = 0; i < count; i++) {
        shard *s = &w->shards[w->shard_count - 1];
        const int64_t bytes = bytes_of(&list[i], &elements);
        if (s->count > 0 && bytes > limit - filled) {
            s = &w->shards[w->shard_count++];
            s->first = i, filled = 0;
        }
        s->count++;
        filled += bytes;
    }
    for (int64_t k = 0; k < w->shard_count; k++)
        w->shards[k].name = w->shard_count == 1 ? mem_copy_text(single_name)
                                                : mem_format("model-%05lld-of-%05lld.safetensors", (long long)k + 1,
                                                             (long long)w->shard_count);
}

/* {"metadata": {"total_parameters", "total_size"}, "weight_map": {tensor: file}}, sorted. */
static json_t *make_index(const weights_writer *w, const tensor_out *list) {
    json_t *const map = json_object();
    int64_t size = 0, parameters = 0, elements;
    for (int64_t k = 0; k < w->shard_count; k++)
        for (int64_t i = w->shards[k].first; i < w->shards[k].first + w->shards[k].count; i++) {
            size += bytes_of(&list[i], &elements);
            parameters += elements;
            json_object_set_new(map, list[i].name, json_string(w->shards[k].name));
        }
    json_t *const sorted = jsontext_sorted(map);
    json_decref(map);
    return json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_parameters", (json_int_t)parameters, "total_size",
                     (json_int_t)size, "weight_map", sorted);
}

static int check_names(const char *folder, const tensor_out *list, int64_t count, graft_error *err) {
    strmap names = {0};
    int rc = GRAFT_OK;
    for (int64_t i = 0; i < count && rc == GRAFT_OK; i++) {
        int64_t other;
        if (!list[i].name)
            rc = fail(err, GRAFT_FAILED, "%s: tensor %lld has no name", folder, (long long)i);
        else if (strmap_get(&names, list[i].name, strlen(list[i].name), &other))
            rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\" would be written twice", folder, list[i].name);
        else
            strmap_put(&names, list[i].name, strlen(list[i].name), i);
    }
    strmap_free(&names);
    return rc;
}

static void pass_full(weights_writer *w) {
    while (w->current < w->shard_count && safetensors_next(w->shards[w->current].file) < 0)
        w->current++;
}

int weights_create(const char *folder, const tensor_out *list, int64_t count, const safetensors_note *notes,
                   int64_t note_count, int64_t shard_bytes, weights_writer **out, graft_error *err) {
    *out = NULL;
    int rc = check_names(folder, list, count, err);
    if (rc != GRAFT_OK) return rc;
    weights_writer *const w = mem_new(1, sizeof *w);
    w->folder = mem_copy_text(folder);
    cut(w, list, count, shard_bytes);
    for (int64_t k = 0; k < w->shard_count && rc == GRAFT_OK; k++) {
        shard *const s = &w->shards[k];
        char *const path = path_join(folder, s->name);
        rc = safetensors_create(path, list + s->first, s->count, notes, note_count, &s->file, err);
        free(path);
    }
    if (rc != GRAFT_OK) {
        weights_abandon(w);
        return rc;
    }
    if (w->shard_count > 1) w->index = make_index(w, list);
    pass_full(w);
    *out = w;
    return GRAFT_OK;
}

int64_t weights_next(const weights_writer *w) {
    return w->current < w->shard_count ? w->shards[w->current].first + safetensors_next(w->shards[w->current].file)
                                       : -1;
}

int weights_put(weights_writer *w, const void *bytes, int64_t count, graft_error *err) {
    if (count == 0) return GRAFT_OK;
    if (w->current == w->shard_count)
        return fail(err, GRAFT_FAILED, "%s: %lld bytes are given behind the last tensor", w->folder, (long long)count);
    const int rc = safetensors_put(w->shards[w->current].file, bytes, count, err);
    pass_full(w);
    return rc;
}

static int write_index(const weights_writer *w, graft_error *err) {
    strbuf text = {0};
    char *const path = path_join(w->folder, index_name);
    jsontext_add(&text, w->index, 2);
    strbuf_puts(&text, "\n");
    const int rc = file_write(path, text.text, (int64_t)text.length, err);
    strbuf_free(&text);
    free(path);
    return rc;
}

/* Removes the file that would contradict the new ones. */
static int remove_stale(const weights_writer *w, graft_error *err) {
    char *const path = path_join(w->folder, w->index ? single_name : index_name);
    const int rc = unlink(path) == 0 || errno == ENOENT
                       ? GRAFT_OK
                       : fail(err, GRAFT_FAILED, "cannot remove %s, which is out of date: %s", path, strerror(errno));
    free(path);
    return rc;
}

int weights_commit(weights_writer *w, graft_error *err) {
    int rc = GRAFT_OK;
    for (int64_t k = w->current; k < w->shard_count && rc == GRAFT_OK; k++)
        if (safetensors_next(w->shards[k].file) >= 0) { /* incomplete: says which tensor, and no shard appears */
            rc = safetensors_commit(w->shards[k].file, err);
            w->shards[k].file = NULL;
        }
    for (int64_t k = 0; k < w->shard_count && rc == GRAFT_OK; k++) {
        rc = safetensors_commit(w->shards[k].file, err);
        w->shards[k].file = NULL;
    }
    if (rc == GRAFT_OK && w->index) rc = write_index(w, err);
    if (rc == GRAFT_OK) rc = remove_stale(w, err);
    weights_abandon(w);
    return rc;
}

void weights_abandon(weights_writer *w) {
    if (!w) return;
    for (int64_t k = 0; k < w->shard_count; k++) {
        safetensors_abandon(w->shards[k].file);
        free(w->shards[k].name);
    }
    free(w->shards);
    free(w->folder);
    json_decref(w->index);
    free(w);
}
