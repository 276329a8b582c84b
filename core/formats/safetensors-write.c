/* safetensors-write — the container written byte for byte as the reference library does.
 * Source: huggingface/safetensors, safetensors/src/tensor.rs (prepare, serialize). */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/jsontext.h"
#include "formats/safetensors-set.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const tensor_out *tensor;
    int order; /* of its type */
    int64_t index, bytes;
} entry;

struct safetensors_writer {
    char *path;
    file_writer *file;
    struct {
        int64_t index, bytes;
        char *name;
    } * tensors;                  /* in the order of the data */
    int64_t count, current, done; /* done: bytes of the current one that are written */
    arena names;
};

/* Widest types first, so that every tensor begins at a multiple of its element's size; then by name. */
static int by_type_and_name(const void *left, const void *right) {
    const entry *const a = left, *const b = right;
    return a->order != b->order ? (a->order > b->order ? -1 : 1) : strcmp(a->name, b->name);
}

static int by_key(const void *left, const void *right) {
    return strcmp(((const safetensors_note *)left)->key, ((const safetensors_note *)right)->key);
}

static int is_utf8(const char *text) {
    json_t *const value = json_string(text);
    json_decref(value);
    return value != NULL;
}

static int check_tensor(const char *path, const tensor_out *t, entry *e, strmap *names, graft_error *err) {
    const char *const type = t->type ? t->type : dtype_name(t->dtype);
    int64_t count, other;
    if (!t->name || !is_utf8(t->name) || strcmp(t->name, "__metadata__") == 0)
        return fail(err, GRAFT_FAILED,
                    "%s: tensor %lld cannot be written under its name: it must be UTF-8 and not __metadata__", path,
                    (long long)e->index);
    if (strmap_get(names, t->name, strlen(t->name), &other))
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" would be written twice", path, t->name);
    strmap_put(names, t->name, strlen(t->name), e->index);
    e->name = t->name, e->tensor = t;
    e->order = safetensors_type_order(type);
    if (e->order < 0) return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": unknown dtype \"%s\"", path, t->name, type);
    if (t->rank < 0 || t->rank > TENSOR_RANK_MAX ||
        !safetensors_size(t->shape, t->rank, safetensors_type_bits(e->order), &count, &e->bytes))
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": its shape of %d dimensions has no size", path, t->name,
                    t->rank);
    return GRAFT_OK;
}

static void add_notes(strbuf *header, const safetensors_note *notes, int64_t count) {
    safetensors_note *const sorted = mem_new((size_t)count + 1, sizeof *sorted);
    if (count) memcpy(sorted, notes, (size_t)count * sizeof *notes);
    qsort(sorted, (size_t)count, sizeof *sorted, by_key);
    strbuf_puts(header, "\"__metadata__\":{");
    for (int64_t i = 0; i < count; i++) {
        if (i) strbuf_puts(header, ",");
        jsontext_quote(header, sorted[i].key, 0);
        strbuf_puts(header, ":");
        jsontext_quote(header, sorted[i].value, 0);
    }
    strbuf_puts(header, "}");
    free(sorted);
}

/* The JSON of the header, padded to a multiple of 8. */
static void make_header(strbuf *header, const entry *entries, int64_t count, const safetensors_note *notes,
                        int64_t note_count) {
    int64_t at = 0;
    strbuf_puts(header, "{");
    if (note_count > 0) add_notes(header, notes, note_count);
    for (int64_t i = 0; i < count; i++) {
        const entry *const e = &entries[i];
        if (header->length > 1) strbuf_puts(header, ",");
        jsontext_quote(header, e->name, 0);
        strbuf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_type_name(e->order));
        for (int d = 0; d < e->tensor->rank; d++)
            strbuf_printf(header, "%s%lld", d ? "," : "", (long long)e->tensor->shape[d]);
        strbuf_printf(header, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)(at + e->bytes));
        at += e->bytes;
    }
    strbuf_puts(header, "}");
    while (header->length % 8 != 0)
        strbuf_puts(header, " ");
}

static int put_header(file_writer *file, const strbuf *header, graft_error *err) {
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> 8 * i);
    const int rc = file_put(file, length, sizeof length, err);
    return rc == GRAFT_OK ? file_put(file, header->text, (int64_t)header->length, err) : rc;
}

static void pass_empty(safetensors_writer *w) {
    while (w->current < w->count && w->done == w->tensors[w->current].bytes)
        w->current++, w->done = 0;
}

static safetensors_writer *new_writer(const char *path, const entry *entries, int64_t count) {
    safetensors_writer *const w = mem_new(1, sizeof *w);
    w->path = mem_copy_text(path);
    w->tensors = mem_new((size_t)count + 1, sizeof *w->tensors);
    w->count = count;
    for (int64_t i = 0; i < count; i++) {
        w->tensors[i].index = entries[i].index;
        w->tensors[i].bytes = entries[i].bytes;
        w->tensors[i].name = arena_copy(&w->names, entries[i].name, strlen(entries[i].name));
    }
    pass_empty(w);
    return w;
}

int safetensors_create(const char *path, const tensor_out *list, int64_t count, const safetensors_note *notes,
                       int64_t note_count, safetensors_writer **out, graft_error *err) {
    entry *const entries = mem_new((size_t)count + 1, sizeof *entries);
    strmap names = {0};
    strbuf header = {0};
    safetensors_writer *w = NULL;
    int64_t total = 0;
    int rc = GRAFT_OK;
    for (int64_t i = 0; i < note_count && rc == GRAFT_OK; i++)
        if (!is_utf8(notes[i].key) || !is_utf8(notes[i].value))
            rc = fail(err, GRAFT_FAILED, "%s: note %lld of its metadata is not UTF-8", path, (long long)i);
    for (int64_t i = 0; i < count && rc == GRAFT_OK; i++) {
        entries[i].index = i;
        rc = check_tensor(path, &list[i], &entries[i], &names, err);
        if (rc == GRAFT_OK && __builtin_add_overflow(total, entries[i].bytes, &total))
            rc = fail(err, GRAFT_FAILED, "%s: its tensors have more bytes than a file can", path);
    }
    if (rc != GRAFT_OK) goto done;
    qsort(entries, (size_t)count, sizeof *entries, by_type_and_name);
    make_header(&header, entries, count, notes, note_count);
    w = new_writer(path, entries, count);
    rc = file_create(path, &w->file, err);
    if (rc == GRAFT_OK) rc = put_header(w->file, &header, err);
done:
    if (rc != GRAFT_OK) {
        safetensors_abandon(w);
        w = NULL;
    }
    *out = w;
    strbuf_free(&header);
    strmap_free(&names);
    free(entries);
    return rc;
}

int64_t safetensors_next(const safetensors_writer *w) {
    return w->current < w->count ? w->tensors[w->current].index : -1;
}

int safetensors_put(safetensors_writer *w, const void *bytes, int64_t count, graft_error *err) {
    if (count == 0) return GRAFT_OK;
    const int64_t room = w->current < w->count ? w->tensors[w->current].bytes - w->done : 0;
    if (count < 0 || count > room)
        return fail(err, GRAFT_FAILED, "%s: %lld bytes are given where tensor \"%s\" has room for %lld", w->path,
                    (long long)count, w->current < w->count ? w->tensors[w->current].name : "", (long long)room);
    const int rc = file_put(w->file, bytes, count, err);
    if (rc != GRAFT_OK) return rc;
    w->done += count;
    pass_empty(w);
    return GRAFT_OK;
}

void safetensors_abandon(safetensors_writer *w) {
    if (!w) return;
    file_abandon(w->file);
    arena_free(&w->names);
    free(w->tensors);
    free(w->path);
    free(w);
}

int safetensors_commit(safetensors_writer *w, graft_error *err) {
    int rc;
    if (w->current < w->count) {
        rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\" got %lld of its %lld bytes", w->path,
                  w->tensors[w->current].name, (long long)w->done, (long long)w->tensors[w->current].bytes);
    } else {
        rc = file_commit(w->file, err);
        w->file = NULL;
    }
    safetensors_abandon(w);
    return rc;
}

int safetensors_write(const char *path, const tensor_out *list, int64_t count, const safetensors_note *notes,
                      int64_t note_count, graft_error *err) {
    safetensors_writer *w;
    int rc = safetensors_create(path, list, count, notes, note_count, &w, err);
    if (rc != GRAFT_OK) return rc;
    for (int64_t i; rc == GRAFT_OK && (i = safetensors_next(w)) >= 0;)
        rc = safetensors_put(w, list[i].data, w->tensors[w->current].bytes, err);
    if (rc == GRAFT_OK) return safetensors_commit(w, err);
    safetensors_abandon(w);
    return rc;
}
