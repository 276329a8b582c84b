/* data-tensors — fixed batches of ids in a safetensors file: `loader = tensors`, and the input of `graft probe`. */
#include "base/digest.h"
#include "run/data.h"
#include <stdlib.h>
#include <string.h>

/* The tensors of one set of rows, (rows, width) each; NULL: absent. */
enum { IDS, LABELS, MASK, POSITIONS, DOCUMENTS, PARTS };
static const char *const part_names[PARTS] = {"input_ids", "labels", "attention_mask", "position_ids", "document_ids"};

typedef struct {
    const safetensors *file;
    const tensor_info *part[PARTS];
    int shared[PARTS]; /* 1: one row for all */
    int64_t rows, width;
} table;

/* ---- finding ---- */

static int is_integer(dtype t) {
    return t != DTYPE_COUNT && !dtype_is_float(t) && t != F8_E4M3 && t != F8_E5M2;
}

static int same_shape(const tensor_info *a, const tensor_info *b) {
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->rank) == 0;
}

static int is_one_row(const tensor_info *t, int64_t width) {
    return t->count == width && t->rank > 0 && t->shape[t->rank - 1] == width;
}

/* Looks for PREFIXinput_ids, of `least` to `most` dimensions, and its companions; without it there are 0 rows. */
static int find_table(const safetensors *file, const char *prefix, int least, int most, table *out, graft_error *err) {
    *out = (table){.file = file};
    for (int p = 0; p < PARTS; p++) {
        char *const name = mem_format("%s%s", prefix, part_names[p]);
        const tensor_info *const t = safetensors_find(file, name);
        free(name);
        if (!t) continue;
        out->part[p] = t;
        if (!is_integer(t->dtype))
            return fail(err, GRAFT_FAILED, "%s: %s is %s; it must be an integer type", safetensors_name(file), t->name,
                        t->type);
        const tensor_info *const ids = out->part[IDS];
        if (p == IDS && (t->rank < least || t->rank > most || t->count == 0))
            return fail(err, GRAFT_FAILED,
                        "%s: %s has %d dimensions and %lld elements; it needs %d to %d dimensions and one "
                        "element at least",
                        safetensors_name(file), t->name, t->rank, (long long)t->count, least, most);
        out->shared[p] = ids && !same_shape(t, ids) && is_one_row(t, ids->shape[ids->rank - 1]);
        if (ids && !same_shape(t, ids) && !out->shared[p]) {
            char *const has = tensor_describe(t), *const wants = tensor_describe(ids);
            fail(err, GRAFT_FAILED, "%s: %s is %s, but %s is %s; the shapes must be equal", safetensors_name(file),
                 t->name, has, ids->name, wants);
            free(has);
            free(wants);
            return err->code;
        }
    }
    if (!out->part[IDS]) return GRAFT_OK;
    out->width = out->part[IDS]->shape[out->part[IDS]->rank - 1];
    out->rows = out->part[IDS]->count / out->width;
    return GRAFT_OK;
}

/* ---- reading ---- */

/* Rows first .. first + count - 1 of one tensor; *out owned by the caller. */
static int read_part(const table *t, int part, int64_t first, int64_t count, int64_t **out, graft_error *err) {
    const tensor_info *const info = t->part[part];
    const int64_t from = t->shared[part] ? 0 : first, rows = t->shared[part] ? 1 : count;
    const int64_t size = dtype_bytes(info->dtype), elements = rows * t->width;
    char *const raw = mem_new((size_t)elements + 1, (size_t)size);
    int64_t *const values = mem_new((size_t)elements + 1, sizeof *values);
    if (safetensors_read_part(t->file, info, from * t->width * size, elements * size, raw, err) == GRAFT_OK)
        dtype_convert(values, I64, raw, info->dtype, elements);
    free(raw);
    for (int64_t i = 0; i < elements && !err->code; i++)
        if (values[i] < INT32_MIN || values[i] > INT32_MAX)
            fail(err, GRAFT_FAILED, "%s: %s holds %lld at row %lld, token %lld; it must fit into 32 bits",
                 safetensors_name(t->file), info->name, (long long)values[i], (long long)(from + i / t->width),
                 (long long)(i % t->width));
    *out = values;
    return err->code;
}

static int32_t *copy_row(arena *memory, const int64_t *values, int64_t width) {
    int32_t *const row = arena_new(memory, (size_t)width, sizeof *row);
    for (int64_t i = 0; i < width; i++)
        row[i] = (int32_t)values[i];
    return row;
}

static const int64_t *row_of(const table *t, int64_t *const *values, int part, int64_t r) {
    return values[part] ? values[part] + (t->shared[part] ? 0 : r * t->width) : NULL;
}

static void add_row(const table *t, int64_t *const *values, int64_t r, sequence_list *out) {
    sequence *const s = sequence_list_add(out);
    const int64_t *const ids = row_of(t, values, IDS, r), *const labels = row_of(t, values, LABELS, r);
    const int64_t *const mask = row_of(t, values, MASK, r), *const positions = row_of(t, values, POSITIONS, r);
    const int64_t *const documents = row_of(t, values, DOCUMENTS, r);
    s->tokens = t->width;
    s->ids = copy_row(&out->memory, ids, t->width);
    int32_t *const own = copy_row(&out->memory, labels ? labels : ids, t->width);
    for (int64_t i = 0; !labels && mask && i < t->width; i++)
        if (mask[i] == 0) own[i] = LABEL_NONE;
    s->labels = own;
    if (positions) s->positions = copy_row(&out->memory, positions, t->width);
    if (documents) s->documents = copy_row(&out->memory, documents, t->width);
    if (!mask) return;
    uint8_t *const bits = arena_new(&out->memory, (size_t)t->width, 1);
    for (int64_t i = 0; i < t->width; i++)
        bits[i] = mask[i] != 0;
    s->mask = bits;
}

static int read_rows(const table *t, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    int64_t *values[PARTS] = {0};
    for (int p = 0; p < PARTS && !err->code; p++)
        if (t->part[p]) read_part(t, p, first, count, &values[p], err);
    for (int64_t r = 0; r < count && !err->code; r++)
        add_row(t, values, r, out);
    for (int p = 0; p < PARTS; p++)
        free(values[p]);
    return err->code;
}

int data_tensors_read(const safetensors *st, const char *prefix, sequence_list *out, int64_t *rows, int64_t *width,
                      graft_error *err) {
    table t;
    const tensor_info *ids;
    char *const name = mem_format("%sinput_ids", prefix);
    const int rc = safetensors_need(st, name, &ids, err);
    free(name);
    if (rc || find_table(st, prefix, 1, 2, &t, err)) return err->code;
    *rows = t.rows, *width = t.width;
    return read_rows(&t, 0, t.rows, out, err);
}

/* ---- the source ---- */

typedef struct {
    data_source source;
    char *path;
    safetensors *file;
    table train, eval;
    int64_t step_rows;
} tensors_source;

static int fetch(data_source *s, int64_t step, sequence_list *out, graft_error *err) {
    const tensors_source *const t = (const tensors_source *)s;
    if (step < 0 || step >= s->steps_limit)
        return fail(err, GRAFT_FAILED, "%s has %lld steps; there is no step %lld", t->path, (long long)s->steps_limit,
                    (long long)step + 1);
    return read_rows(&t->train, step * t->step_rows, t->step_rows, out, err);
}

static int fetch_eval(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    return read_rows(&((const tensors_source *)s)->eval, first, count, out, err);
}

static int digest(data_source *s, char hex[65], graft_error *err) {
    return sha256_file(((const tensors_source *)s)->path, hex, err);
}

static void close_source(data_source *s) {
    tensors_source *const t = (tensors_source *)s;
    safetensors_close(t->file);
    free(t->path);
    free(t);
}

int data_tensors_open(const char *path, data_source **out, graft_error *err) {
    tensors_source *const t = mem_new(1, sizeof *t);
    *out = NULL;
    t->path = mem_copy_text(path);
    t->source = (data_source){.fetch = fetch, .fetch_eval = fetch_eval, .digest = digest, .close = close_source};
    const tensor_info *ids;
    if (safetensors_open(path, &t->file, err) || safetensors_need(t->file, "input_ids", &ids, err) ||
        find_table(t->file, "", 3, 4, &t->train, err) || find_table(t->file, "eval_", 2, 2, &t->eval, err)) {
        close_source(&t->source);
        return err->code;
    }
    t->source.steps_limit = t->source.steps_per_epoch = ids->shape[0];
    t->step_rows = t->train.rows / ids->shape[0];
    t->source.step_tokens = t->step_rows * t->train.width;
    t->source.eval_count = t->eval.rows;
    t->source.longest = t->train.width > t->eval.width ? t->train.width : t->eval.width;
    *out = &t->source;
    return GRAFT_OK;
}
