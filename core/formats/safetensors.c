/* safetensors — the header of one file checked into a table of tensors, and reads of their bytes. */
#include "formats/safetensors.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors-set.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000, PREFIX = 8, CHUNK = 1 << 18 };

/* ---- one file's header ---- */

/* pread until `bytes` are there; a shorter file is an error. */
static int read_bytes(int fd, const char *path, int64_t at, int64_t bytes, char *dst, graft_error *err) {
    while (bytes > 0) {
        const ssize_t got = pread(fd, dst, (size_t)bytes, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return fail(err, GRAFT_FAILED, "%s: ends at byte %lld, where %lld more are expected: it was cut while open",
                        path, (long long)at, (long long)bytes);
        dst += got, at += got, bytes -= got;
    }
    return GRAFT_OK;
}

/* The header's bytes, from a file of `size` bytes. */
static int read_header(int fd, const char *path, int64_t size, char **text, int64_t *length, graft_error *err) {
    unsigned char prefix[PREFIX];
    if (size < PREFIX)
        return fail(err, GRAFT_FAILED, "%s: has %lld bytes; a safetensors file begins with 8 bytes of header length",
                    path, (long long)size);
    const int rc = read_bytes(fd, path, 0, PREFIX, (char *)prefix, err);
    if (rc != GRAFT_OK) return rc;
    uint64_t n = 0;
    for (int i = PREFIX - 1; i >= 0; i--)
        n = n << 8 | prefix[i];
    if (n > HEADER_LIMIT)
        return fail(
            err, GRAFT_FAILED,
            "%s: its first 8 bytes give a header of %llu bytes; at most %d are allowed. Is it a safetensors file?",
            path, (unsigned long long)n, HEADER_LIMIT);
    if ((int64_t)n > size - PREFIX)
        return fail(err, GRAFT_FAILED,
                    "%s: its header should have %llu bytes, but the file ends after %lld: it is cut short", path,
                    (unsigned long long)n, (long long)(size - PREFIX));
    *length = (int64_t)n;
    *text = mem_new((size_t)n + 1, 1);
    return read_bytes(fd, path, PREFIX, (int64_t)n, *text, err);
}

static int has_nul(const json_t *text) {
    return strlen(json_string_value(text)) != json_string_length(text);
}

static int read_notes(safetensors *st, const char *path, json_t *object, graft_error *err) {
    if (json_is_null(object)) return GRAFT_OK;
    if (!json_is_object(object)) return fail(err, GRAFT_FAILED, "%s: __metadata__ is not an object", path);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!json_is_string(value) || has_nul(value))
            return fail(err, GRAFT_FAILED, "%s: __metadata__ entry \"%s\" is not a text; all its values must be", path,
                        key);
        if (st->shard_count > 1) continue; /* a model's shards repeat the notes of the first */
        mem_reserve(st->notes, st->note_count, st->note_capacity);
        st->notes[st->note_count++] =
            (safetensors_note){arena_copy(&st->texts, key, strlen(key)),
                               arena_copy(&st->texts, json_string_value(value), json_string_length(value))};
    }
    return GRAFT_OK;
}

/* A list of whole numbers >= 0 of `least` to `most` entries. */
static int read_numbers(const json_t *entry, const char *key, size_t least, size_t most, int64_t *out, const char *path,
                        const char *name, graft_error *err) {
    const json_t *const list = json_object_get(entry, key);
    if (!json_is_array(list))
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": %s is %s", path, name, key, list ? "not a list" : "missing");
    const size_t n = json_array_size(list);
    if (n < least || n > most)
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": %s has %zu numbers; %zu to %zu are allowed", path, name, key,
                    n, least, most);
    for (size_t i = 0; i < n; i++) {
        const json_t *const number = json_array_get(list, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": number %zu of %s is not a whole number from 0 on", path,
                        name, i + 1, key);
        out[i] = json_integer_value(number);
    }
    return GRAFT_OK;
}

/* One entry of the header. `data` is the file's first byte after the header, `room` how many bytes follow it. */
static int read_entry(const char *path, const char *name, const json_t *entry, int64_t data, int64_t room,
                      tensor_info *out, graft_error *err) {
    int64_t range[2];
    if (!json_is_object(entry))
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": its entry is not an object", path, name);
    const char *const type = json_string_value(json_object_get(entry, "dtype"));
    if (!type) return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": dtype is missing or not a text", path, name);
    const int order = safetensors_type_order(type);
    if (order < 0) return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": unknown dtype \"%s\"", path, name, type);
    int rc = read_numbers(entry, "shape", 0, TENSOR_RANK_MAX, out->shape, path, name, err);
    if (rc == GRAFT_OK) rc = read_numbers(entry, "data_offsets", 2, 2, range, path, name, err);
    if (rc != GRAFT_OK) return rc;
    out->type = safetensors_type_name(order);
    out->rank = (int)json_array_size(json_object_get(entry, "shape"));
    if (!dtype_parse(type, &out->dtype)) out->dtype = DTYPE_COUNT;
    if (range[1] < range[0] || range[1] > room)
        return fail(err, GRAFT_FAILED,
                    "%s: tensor \"%s\": lies at data bytes %lld to %lld, but the file has %lld bytes of data%s", path,
                    name, (long long)range[0], (long long)range[1], (long long)room,
                    range[1] > room ? ": it is cut short or damaged" : "");
    if (!safetensors_size(out->shape, out->rank, safetensors_type_bits(order), &out->count, &out->bytes)) {
        char *const is = tensor_describe(out);
        rc =
            fail(err, GRAFT_FAILED, "%s: tensor \"%s\": %s has no size: too large, or not whole bytes", path, name, is);
        free(is);
        return rc;
    }
    if (out->bytes != range[1] - range[0]) {
        char *const is = tensor_describe(out);
        rc =
            fail(err, GRAFT_FAILED,
                 "%s: tensor \"%s\": %s needs %lld bytes, but data_offsets give %lld to %lld (%lld bytes)", path, name,
                 is, (long long)out->bytes, (long long)range[0], (long long)range[1], (long long)(range[1] - range[0]));
        free(is);
        return rc;
    }
    out->begin = data + range[0];
    return GRAFT_OK;
}

static int by_place(const void *left, const void *right) {
    const tensor_info *const a = left, *const b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* The tensors from `first` on, sorted, must fill the bytes `data` to `size` of their file exactly. */
static int check_places(const safetensors *st, const char *path, int64_t first, int64_t data, int64_t size,
                        graft_error *err) {
    int64_t end = data;
    for (int64_t i = first; i < st->count; i++) {
        const tensor_info *const t = &st->tensors[i];
        if (t->begin != end)
            return fail(err, GRAFT_FAILED,
                        "%s: tensor \"%s\" begins at data byte %lld, but the data before it ends at %lld: %s", path,
                        t->name, (long long)(t->begin - data), (long long)(end - data),
                        t->begin > end ? "a hole" : "two tensors overlap");
        end = t->begin + t->bytes;
    }
    if (end == size) return GRAFT_OK;
    return fail(err, GRAFT_FAILED,
                "%s: its tensors end at byte %lld, but the file has %lld bytes: %lld stand behind them", path,
                (long long)end, (long long)size, (long long)(size - end));
}

static int read_entries(safetensors *st, const char *path, json_t *header, int64_t data, int64_t size,
                        graft_error *err) {
    const int64_t first = st->count;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) {
        int64_t other;
        if (strcmp(key, "__metadata__") == 0) {
            const int rc = read_notes(st, path, value, err);
            if (rc != GRAFT_OK) return rc;
            continue;
        }
        if (strmap_get(&st->by_name, key, strlen(key), &other))
            return fail(err, GRAFT_FAILED, "tensor \"%s\" is in two files: %s and %s", key,
                        safetensors_path(st, st->tensors[other].shard), path);
        tensor_info t = {.shard = st->shard_count - 1};
        const int rc = read_entry(path, key, value, data, size - data, &t, err);
        if (rc != GRAFT_OK) return rc;
        t.name = arena_copy(&st->texts, key, strlen(key));
        mem_reserve(st->tensors, st->count, st->capacity);
        st->tensors[st->count++] = t;
    }
    if (st->count > first) qsort(st->tensors + first, (size_t)(st->count - first), sizeof *st->tensors, by_place);
    for (int64_t i = first; i < st->count; i++)
        strmap_put(&st->by_name, st->tensors[i].name, strlen(st->tensors[i].name), i);
    return check_places(st, path, first, data, size, err);
}

int safetensors_add(safetensors *st, const char *path, graft_error *err) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make this wait */
    if (fd < 0) return fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
    mem_reserve(st->shards, st->shard_count, st->shard_capacity);
    st->shards[st->shard_count++] = (safetensors_shard){arena_copy(&st->texts, path, strlen(path)), fd};
    struct stat s;
    if (fstat(fd, &s) != 0) return fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return fail(err, GRAFT_FAILED, "cannot read %s: it is %s, not a file", path,
                    S_ISDIR(s.st_mode) ? "a folder" : "a device or a pipe");
    char *text = NULL;
    int64_t length = 0;
    json_t *header = NULL;
    int rc = read_header(fd, path, s.st_size, &text, &length, err);
    if (rc == GRAFT_OK) rc = json_read_text(text, (size_t)length, path, 0, &header, err);
    if (rc == GRAFT_OK && !json_is_object(header))
        rc = fail(err, GRAFT_FAILED, "%s: its header is not a JSON object", path);
    if (rc == GRAFT_OK) rc = read_entries(st, path, header, PREFIX + length, s.st_size, err);
    json_decref(header);
    free(text);
    return rc;
}

/* ---- the set ---- */

safetensors *safetensors_new(const char *name) {
    safetensors *const st = mem_new(1, sizeof *st);
    st->name = arena_copy(&st->texts, name, strlen(name));
    return st;
}

int safetensors_open(const char *path, safetensors **out, graft_error *err) {
    safetensors *const st = safetensors_new(path);
    const int rc = safetensors_add(st, path, err);
    *out = rc == GRAFT_OK ? st : NULL;
    if (rc != GRAFT_OK) safetensors_close(st);
    return rc;
}

void safetensors_close(safetensors *st) {
    if (!st) return;
    for (int i = 0; i < st->shard_count; i++)
        close(st->shards[i].fd);
    free(st->shards);
    free(st->tensors);
    free(st->notes);
    strmap_free(&st->by_name);
    arena_free(&st->texts);
    free(st);
}

int64_t safetensors_count(const safetensors *st) {
    return st->count;
}

const tensor_info *safetensors_at(const safetensors *st, int64_t i) {
    return &st->tensors[i];
}

const tensor_info *safetensors_find(const safetensors *st, const char *name) {
    int64_t i;
    return strmap_get(&st->by_name, name, strlen(name), &i) ? &st->tensors[i] : NULL;
}

int safetensors_need(const safetensors *st, const char *name, const tensor_info **out, graft_error *err) {
    *out = safetensors_find(st, name);
    if (*out) return GRAFT_OK;
    const char **const names = mem_new((size_t)st->count + 1, sizeof *names);
    for (int64_t i = 0; i < st->count; i++)
        names[i] = st->tensors[i].name;
    const char *const near = nearest_name(name, names, (int)st->count);
    fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is missing%s%s%s", st->name, name,
         near ? "; the nearest name in it is \"" : "", near ? near : "", near ? "\"" : "");
    free(names);
    return GRAFT_FAILED;
}

const char *safetensors_name(const safetensors *st) {
    return st->name;
}

int safetensors_shards(const safetensors *st) {
    return st->shard_count;
}

const char *safetensors_path(const safetensors *st, int shard) {
    return st->shards[shard].path;
}

const safetensors_note *safetensors_notes(const safetensors *st, int64_t *count) {
    *count = st->note_count;
    return st->notes;
}

const char *safetensors_note_value(const safetensors *st, const char *key) {
    for (int64_t i = 0; i < st->note_count; i++)
        if (strcmp(st->notes[i].key, key) == 0) return st->notes[i].value;
    return NULL;
}

/* ---- reading data ---- */

int safetensors_read_part(const safetensors *st, const tensor_info *info, int64_t offset, int64_t bytes, void *dst,
                          graft_error *err) {
    const safetensors_shard *const shard = &st->shards[info->shard];
    if (offset < 0 || bytes < 0 || offset > info->bytes || bytes > info->bytes - offset)
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": bytes %lld to %lld are asked for, it has %lld", shard->path,
                    info->name, (long long)offset, (long long)offset + bytes, (long long)info->bytes);
    return read_bytes(shard->fd, shard->path, info->begin + offset, bytes, dst, err);
}

int safetensors_read(const safetensors *st, const tensor_info *info, void *dst, graft_error *err) {
    return safetensors_read_part(st, info, 0, info->bytes, dst, err);
}

static int convertible(dtype from, dtype to) {
    if (from == to) return from != DTYPE_COUNT;
    if (dtype_is_float(from)) return dtype_is_float(to);
    return from <= U64 && (to == F32 || to == F64 || to == I32 || to == I64);
}

/* The place of the first of n integers that `want` cannot hold; n when all fit. */
static int64_t first_too_large(const char *data, dtype type, dtype want, int64_t n) {
    if (want != I32 && want != I64) return n;
    for (int64_t i = 0; i < n; i++) {
        int64_t v = 0;
        if (type == U64) {
            uint64_t u;
            memcpy(&u, data + 8 * i, 8);
            if (u > INT64_MAX) return i;
            v = (int64_t)u;
        } else if (type == I64) {
            memcpy(&v, data + 8 * i, 8);
        } else if (type == U32) {
            memcpy(&v, data + 4 * i, 4); /* little-endian, v was 0 */
        } else {
            return n;
        }
        if (want == I32 && (v < INT32_MIN || v > INT32_MAX)) return i;
    }
    return n;
}

int safetensors_read_as(const safetensors *st, const tensor_info *info, void *dst, dtype want, graft_error *err) {
    const char *const path = safetensors_path(st, info->shard);
    if (info->dtype == want && want != DTYPE_COUNT) return safetensors_read(st, info, dst, err);
    if (!convertible(info->dtype, want))
        return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is stored as %s and cannot be read as %s", path, info->name,
                    info->type, want < DTYPE_COUNT ? dtype_name(want) : "that type");
    const int64_t width = dtype_bytes(info->dtype);
    char *const chunk = mem_grow(NULL, CHUNK, 1);
    int rc = GRAFT_OK;
    for (int64_t i = 0; i < info->count && rc == GRAFT_OK;) {
        const int64_t left = info->count - i, n = left < CHUNK / width ? left : CHUNK / width;
        rc = safetensors_read_part(st, info, i * width, n * width, chunk, err);
        if (rc != GRAFT_OK) break;
        const int64_t bad = first_too_large(chunk, info->dtype, want, n);
        if (bad < n)
            rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\": element %lld (%s) does not fit into %s", path, info->name,
                      (long long)(i + bad), info->type, dtype_name(want));
        dtype_convert((char *)dst + i * dtype_bytes(want), want, chunk, info->dtype, n);
        i += n;
    }
    free(chunk);
    return rc;
}
