/* merge — one matrix at a time: computed when its first rows are to be written, kept until the next one. A matrix that is to be
 * packed again is computed before, and takes the place of the one that was there. */
#include "run/merge.h"
#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "run/sparsity.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 256, CHECK_ROWS = 4 };
static const int64_t shard_bytes = INT64_C(5000000000);
static const double check_bound = 1e-4; /* f32 products and sums leave 1e-6 */

typedef struct {
    session *s;
    const adapt_point *points;
    base_tensor *tensors;
    int32_t point_count, tensor_count;
    const merge_how *how;
    void *x, *y, *kept, *scratch; /* dev */
    int32_t *ids;                 /* dev */
    float *host;                  /* one chunk of x or y */
    int32_t tensor;               /* that `values` belongs to, -1: none */
    float *values;                /* (out, in) or (out) */
    merge_report *report;
} merging;

/* ---- what is merged ---- */

/* The adapted point whose weight (or, bias = 1, bias) the tensor is; -1: none. */
static int32_t point_of(const merging *m, int32_t tensor, int bias) {
    for (int32_t p = 0; p < m->point_count; p++) {
        const adapt_point *const at = &m->points[p];
        const base_tensor *const of = bias ? at->bias : at->tensor;
        if (at->kinds & GRAFT_LINEAR && of == &m->tensors[tensor] && adapt_at(m->s->adapters, p) > 0) return p;
    }
    return -1;
}

static int check_sites(const session *s, const adapt_point *points, graft_error *err) {
    for (int32_t n = 0; n < s->spec_count; n++)
        for (int32_t i = 0; adapt_site(s->adapters, n, i) >= 0; i++) {
            const adapt_point *const at = &points[adapt_site(s->adapters, n, i)];
            const plugin_component *const c = s->specs[n].component;
            if (at->kinds & (GRAFT_KV | GRAFT_EMBED))
                return fail(err, GRAFT_USAGE,
                            "%s puts virtual rows in front of the text: no weight can hold them, keep the adapter",
                            c->name);
            if (at->kinds & GRAFT_BRANCH)
                return fail(err, GRAFT_USAGE,
                            "%s at %s works on a whole sub-block: no weight can hold it, keep the adapter", c->name,
                            at->name);
            if (at->kinds & GRAFT_LINEAR && !(c->adapter.flags & GRAFT_LINEAR_IN_X))
                return fail(err, GRAFT_USAGE,
                            "%s at %s is not affine in its input: no weight can hold it, keep the adapter", c->name,
                            at->name);
        }
    return GRAFT_OK;
}

/* ---- forward through the adapters of one point ---- */

/* y = adapted layer of m->host as x (rows, in); then m->host holds y (rows, out). */
static void run_rows(merging *m, int32_t point, int64_t rows, const base_tensor *bias) {
    kernels *const k = m->s->device;
    const adapt_point *const at = &m->points[point];
    const adapt_pass pass = {
        .device = k, .activation = F32, .rows = rows, .capacity = ROWS, .kept = m->kept, .scratch = m->scratch};
    k->upload(k, m->x, m->host, rows * at->in * (int64_t)sizeof(float));
    adapt_linear(m->s->adapters, point, &pass, at->tensor, bias, m->x, NULL, m->y);
    k->download(k, m->host, m->y, rows * at->out * (int64_t)sizeof(float));
}

/* y = adapted rows first .. first + rows - 1 of a table, into `to`. */
static void run_table(merging *m, int32_t point, int64_t first, int64_t rows, float *to) {
    kernels *const k = m->s->device;
    const adapt_point *const at = &m->points[point];
    const adapt_pass pass = {
        .device = k, .activation = F32, .rows = rows, .capacity = ROWS, .kept = m->kept, .scratch = m->scratch};
    int32_t ids[ROWS];
    for (int64_t r = 0; r < rows; r++)
        ids[r] = (int32_t)(first + r);
    k->upload(k, m->ids, ids, rows * (int64_t)sizeof *ids);
    adapt_linear(m->s->adapters, point, &pass, at->tensor, NULL, NULL, m->ids, m->y);
    k->download(k, to, m->y, rows * at->out * (int64_t)sizeof(float));
}

/* W' into m->values, (out, in). */
static void merge_linear(merging *m, int32_t point) {
    const adapt_point *const at = &m->points[point];
    float *const zero = mem_new((size_t)at->out, sizeof *zero);
    memset(m->host, 0, (size_t)at->in * sizeof *m->host);
    run_rows(m, point, 1, NULL);
    memcpy(zero, m->host, (size_t)at->out * sizeof *zero);
    for (int64_t first = 0; first < at->in; first += ROWS) {
        const int64_t rows = at->in - first < ROWS ? at->in - first : ROWS;
        memset(m->host, 0, (size_t)(rows * at->in) * sizeof *m->host);
        for (int64_t r = 0; r < rows; r++)
            m->host[r * at->in + first + r] = 1;
        run_rows(m, point, rows, NULL);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < at->out; o++)
                m->values[o * at->in + first + r] = m->host[r * at->out + o] - zero[o];
    }
    free(zero);
}

/* b' into `to` (out). */
static void merge_bias(merging *m, int32_t point, float *to) {
    const adapt_point *const at = &m->points[point];
    memset(m->host, 0, (size_t)at->in * sizeof *m->host);
    run_rows(m, point, 1, at->bias);
    memcpy(to, m->host, (size_t)at->out * sizeof *to);
}

/* ---- checks ---- */

static int say(const merging *m, int32_t point, graft_error *err, const char *what) {
    strbuf names = {0};
    for (int32_t n = 0; n < m->s->spec_count; n++)
        for (int32_t i = 0; adapt_site(m->s->adapters, n, i) >= 0; i++)
            if (adapt_site(m->s->adapters, n, i) == point)
                strbuf_printf(&names, "%s%s", names.length ? ", " : "", m->s->specs[n].component->name);
    fail(err, GRAFT_FAILED, "%s at %s %s", names.text ? names.text : "adapter", m->points[point].name, what);
    strbuf_free(&names);
    return GRAFT_FAILED;
}

/* Random rows through the adapters against x·W'ᵀ + b'. Their entries are multiples of 1/4, which every type holds. */
static int check_linear(merging *m, int32_t point, const float *bias, graft_error *err) {
    const adapt_point *const at = &m->points[point];
    float *const x = mem_new((size_t)(CHECK_ROWS * at->in), sizeof *x);
    double apart = 0, size = 0;
    for (int64_t i = 0; i < CHECK_ROWS * at->in; i++)
        x[i] = (float)(floor(philox_uniform(1, (uint64_t)point, (uint64_t)i) * 9) - 4) / 4;
    memcpy(m->host, x, (size_t)(CHECK_ROWS * at->in) * sizeof *x);
    run_rows(m, point, CHECK_ROWS, at->bias);
    for (int64_t r = 0; r < CHECK_ROWS; r++)
        for (int64_t o = 0; o < at->out; o++) {
            double want = bias[o];
            for (int64_t i = 0; i < at->in; i++)
                want += (double)x[r * at->in + i] * (double)m->values[o * at->in + i];
            apart += pow((double)m->host[r * at->out + o] - want, 2);
            size += want * want;
        }
    free(x);
    return sqrt(apart) <= check_bound * sqrt(size) + 1e-30
               ? GRAFT_OK
               : say(m, point, err, "says that it is affine in its input, but a merged weight gives other results");
}

/* Adds a line to the report; too large an error ends the merge. */
static int report(merging *m, const char *name, double apart, double size, double change, graft_error *err) {
    merge_report *const r = m->report;
    const double error = size > 0 ? sqrt(apart / size) : 0, lost = change > 0 ? sqrt(apart / change) : 0;
    mem_reserve(r->layers, r->count, r->capacity);
    r->layers[r->count++] = (merge_layer){name, error, lost};
    if (error >= r->error) r->error = error, r->worst = name;
    if (lost > r->lost) r->lost = lost;
    if (m->how->max_error > 0 && error > m->how->max_error)
        return fail(err, GRAFT_FAILED, "%s loses %.3g of its size when it is written, the limit is %.3g", name, error,
                    m->how->max_error);
    return GRAFT_OK;
}

/* |W' - W|² of a matrix. */
static double change_of(merging *m, const base_tensor *t) {
    kernels *const k = m->s->device;
    const int64_t piece = ROWS < t->out ? ROWS : t->out;
    if (!t->in || t->trained) return 0;
    void *const rows = k->alloc(k, piece * t->in * (int64_t)sizeof(float));
    float *const host = mem_new((size_t)(piece * t->in), sizeof *host);
    double sum = 0;
    for (int64_t r = 0; rows && r < t->out; r += piece) {
        const int64_t n = (t->out - r < piece ? t->out - r : piece) * t->in;
        k->weight_read(k, &t->w, r, n / t->in, rows, F32);
        k->download(k, host, rows, n * (int64_t)sizeof(float));
        for (int64_t i = 0; i < n; i++)
            sum += pow((double)m->values[r * t->in + i] - (double)host[i], 2);
    }
    k->release(k, rows);
    free(host);
    return sum;
}

/* Finite, and what rounding to the file's type costs. */
static int check_values(merging *m, int32_t point, const base_tensor *t, graft_error *err) {
    const dtype type = m->how->type == DTYPE_COUNT ? t->stored : m->how->type;
    const int64_t width = t->in ? t->in : 1;
    float *const row = mem_new((size_t)width, sizeof *row);
    void *const stored = mem_new((size_t)width, 8);
    double lost = 0, size = 0;
    int finite = 1;
    for (int64_t o = 0; o < t->out; o++) {
        dtype_convert(stored, type, m->values + o * width, F32, width);
        dtype_convert(row, F32, stored, type, width);
        for (int64_t i = 0; i < width; i++) {
            const double value = (double)m->values[o * width + i];
            finite &= isfinite(row[i]) != 0;
            lost += pow((double)row[i] - value, 2);
            size += value * value;
        }
    }
    free(row);
    free(stored);
    if (!finite) return say(m, point, err, "gives merged weights that are not finite in the type of the file");
    return report(m, t->name, lost, size, change_of(m, t), err);
}

static int is_packed(const base_tensor *t) {
    return t->w.layout != WEIGHT_PLAIN;
}

/* m->values packed as the tensor was, in its place. */
static int pack_again(merging *m, base_tensor *t, graft_error *err) {
    kernels *const k = m->s->device;
    const int64_t n = t->out * t->in, piece = ROWS < t->out ? ROWS : t->out;
    void *const values = k->alloc(k, n * (int64_t)sizeof(float));
    float *const back = mem_new((size_t)(piece * t->in), sizeof *back);
    const double change = change_of(m, t);
    double lost = 0, size = 0;
    if (!values)
        fail(err, GRAFT_FAILED, "no memory for %lld bytes of %s", (long long)(n * 4), t->name);
    else
        k->upload(k, values, m->values, n * (int64_t)sizeof(float));
    if (!err->code && quantize_again(k, &t->w, values, t->name, err) == GRAFT_OK)
        for (int64_t r = 0; r < t->out; r += piece) {
            const int64_t rows = t->out - r < piece ? t->out - r : piece;
            k->weight_read(k, &t->w, r, rows, values, F32);
            k->download(k, back, values, rows * t->in * (int64_t)sizeof(float));
            for (int64_t i = 0; i < rows * t->in; i++) {
                const double want = (double)m->values[r * t->in + i];
                lost += pow((double)back[i] - want, 2);
                size += want * want;
            }
        }
    k->release(k, values);
    free(back);
    return err->code ? err->code : report(m, t->name, lost, size, change, err);
}

/* ---- one tensor ---- */

/* What the base has pruned stays pruned. */
static int restore_zeros(merging *m, const base_tensor *t, graft_error *err) {
    const int64_t count = t->out * t->in;
    int32_t keeps = m->how->zeros == MERGE_ALL_ZEROS;
    if (m->how->zeros == MERGE_PRUNED_ZEROS && sparsity_read(model_folder(m->s->model), t->name, &keeps, err))
        return err->code;
    if (!keeps) return GRAFT_OK;
    m->report->kept++;
    float *const base = mem_new((size_t)count, sizeof *base);
    if (model_read_tensor(m->s->model, (int32_t)(t - m->tensors), base, err) == GRAFT_OK)
        for (int64_t i = 0; i < count; i++)
            if (base[i] == 0) m->values[i] = 0;
    free(base);
    return err->code;
}

static int merge_weight(merging *m, int32_t point, graft_error *err) {
    const adapt_point *const at = &m->points[point];
    if (at->onehot) {
        for (int64_t first = 0; first < at->in; first += ROWS)
            run_table(m, point, first, at->in - first < ROWS ? at->in - first : ROWS, m->values + first * at->out);
        return check_values(m, point, at->tensor, err);
    }
    float *const bias = mem_new((size_t)at->out, sizeof *bias);
    merge_linear(m, point);
    merge_bias(m, point, bias);
    for (int64_t o = 0; o < at->out && !at->bias && !err->code; o++)
        if (bias[o] != 0) say(m, point, err, "adds a constant, but this family has no bias there; keep the adapter");
    if (!err->code && check_linear(m, point, bias, err) == GRAFT_OK && restore_zeros(m, at->tensor, err) == GRAFT_OK) {
        if (m->how->base == MERGE_PACKED && is_packed(at->tensor))
            pack_again(m, at->tensor, err);
        else
            check_values(m, point, at->tensor, err);
    }
    free(bias);
    return err->code;
}

static int merged_rows(void *context, int32_t tensor, int64_t first, int64_t count, float *to, int32_t *given,
                       graft_error *err) {
    merging *const m = context;
    const int32_t as_weight = point_of(m, tensor, 0), as_bias = as_weight < 0 ? point_of(m, tensor, 1) : -1;
    const int64_t width = m->tensors[tensor].in ? m->tensors[tensor].in : 1;
    if (as_weight < 0 && as_bias < 0) return GRAFT_OK;
    if (m->tensor != tensor) {
        m->values = mem_grow(m->values, (size_t)(m->tensors[tensor].out * width), sizeof *m->values);
        m->tensor = tensor;
        if (as_weight >= 0 && merge_weight(m, as_weight, err)) return err->code;
        if (as_bias >= 0) {
            merge_bias(m, as_bias, m->values);
            if (check_values(m, as_bias, &m->tensors[tensor], err)) return err->code;
        }
    }
    memcpy(to, m->values + first * width, (size_t)(count * width) * sizeof *to);
    *given = 1;
    return GRAFT_OK;
}

static int merge_packed(merging *m, graft_error *err) {
    for (int32_t i = 0; i < m->tensor_count && !err->code; i++) {
        base_tensor *const t = &m->tensors[i];
        const int32_t point = is_packed(t) ? point_of(m, i, 0) : -1;
        if (point < 0) continue;
        m->values = mem_grow(m->values, (size_t)(t->out * t->in), sizeof *m->values);
        merge_weight(m, point, err);
    }
    return err->code;
}

/* ---- adapters that stay adapters ---- */

/* FOLDER/adapter, FOLDER/adapter-2 ...: the files of each, its base named anew. */
static int copy_adapter(const char *from, const char *folder, int32_t number, graft_error *err) {
    char *const to = number ? mem_format("%s/adapter-%d", folder, (int)number + 1) : path_join(folder, "adapter");
    char *const config = path_join(from, "adapter_config.json"), *const own = path_join(to, "adapter_config.json");
    char *const weights = path_join(from, "adapter_model.safetensors"),
                *const kept = path_join(to, "adapter_model.safetensors"), *const base = path_absolute(folder);
    json_t *root = NULL;
    char *bytes = NULL;
    int64_t size;
    if (file_make_folders(to, err) == GRAFT_OK && file_read(weights, INT64_MAX / 2, &bytes, &size, err) == GRAFT_OK &&
        file_write(kept, bytes, size, err) == GRAFT_OK && json_read_file(config, 0, &root, err) == GRAFT_OK) {
        json_object_set_new(root, "base_model_name_or_path", json_string(base));
        json_write_file(own, root, JSON_INDENT(2), err);
    }
    json_decref(root);
    free(bytes);
    char *const texts[] = {to, config, own, weights, kept, base};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    return err->code;
}

static int write_kept(const session *s, const char *folder, const merge_how *how, graft_error *err) {
    const model_saving as = {.type = how->type, .shard_bytes = shard_bytes, .packed = 1};
    if (model_save_as(s->model, folder, &as, err)) return err->code;
    int32_t number = 0;
    for (int32_t n = 0; n < s->spec_count && !err->code; n++)
        if (s->starts[n]) copy_adapter(s->starts[n], folder, number++, err);
    return err->code;
}

/* ---- the folder ---- */

static int allocate(merging *m, graft_error *err) {
    kernels *const k = m->s->device;
    int64_t widest = 1, kept = 0;
    for (int32_t p = 0; p < m->point_count; p++) {
        const adapt_point *const at = &m->points[p];
        const int64_t row = adapt_kept_row(m->s->adapters, at->layer, F32, k);
        if (adapt_at(m->s->adapters, p) == 0 || !(at->kinds & GRAFT_LINEAR)) continue;
        if (!at->onehot && at->in > widest) widest = at->in;
        if (at->out > widest) widest = at->out;
        if (row > kept) kept = row;
    }
    const int64_t bytes = ROWS * widest * (int64_t)sizeof(float);
    m->host = mem_new((size_t)(ROWS * widest), sizeof *m->host);
    m->x = k->alloc(k, bytes);
    m->y = k->alloc(k, bytes);
    m->kept = k->alloc(k, ROWS * kept);
    m->scratch = k->alloc(k, adapt_scratch(m->s->adapters, ROWS, F32, k));
    m->ids = k->alloc(k, ROWS * (int64_t)sizeof(int32_t));
    return m->x && m->y && m->kept && m->scratch && m->ids
               ? GRAFT_OK
               : fail(err, GRAFT_FAILED, "no memory for the %d rows that merging computes at once", ROWS);
}

static void release(merging *m) {
    kernels *const k = m->s->device;
    void *const owned[] = {m->x, m->y, m->kept, m->scratch, m->ids};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        k->release(k, owned[i]);
    free(m->host);
    free(m->values);
}

/* Half of a tied pair that gets numbers of its own is written on its own; was[i]: what it was tied to. */
static void untie(merging *m, int32_t *was) {
    for (int32_t i = 0; i < m->tensor_count; i++) {
        was[i] = m->tensors[i].tied_to;
        if (was[i] < 0 || (point_of(m, i, 0) < 0 && point_of(m, was[i], 0) < 0)) continue;
        m->tensors[i].tied_to = -1;
        m->report->untied++;
    }
}

/* Identity rows are to meet the weights alone: LLM.int8's rounding of x is put aside. */
static void swap_thresholds(merging *m, float *kept) {
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const float now = m->tensors[i].w.threshold;
        m->tensors[i].w.threshold = kept[i];
        kept[i] = now;
    }
}

static int any_packed(const merging *m) {
    int any = 0;
    for (int32_t i = 0; i < m->tensor_count; i++)
        any |= m->tensors[i].tied_to < 0 && is_packed(&m->tensors[i]);
    return any;
}

void merge_report_free(merge_report *r) {
    free(r->layers);
    *r = (merge_report){0};
}

int merge_write(session *s, const char *folder, const merge_how *how, merge_report *out, graft_error *err) {
    merging m = {.s = s, .how = how, .tensor = -1, .report = out};
    *out = (merge_report){.worst = ""};
    m.points = model_points(s->model, &m.point_count);
    m.tensors = model_tensors(s->model, &m.tensor_count);
    if (!s->adapters) return fail(err, GRAFT_USAGE, "there is no adapter to merge");
    if (s->activation != F32)
        return fail(err, GRAFT_USAGE, "merging computes in f32: open the model with precision = f32");
    if (path_same(folder, model_folder(s->model)))
        return fail(err, GRAFT_USAGE, "%s is the folder of the base itself; name another folder", folder);
    if (how->base != MERGE_FLOAT && !any_packed(&m))
        return fail(err, GRAFT_USAGE, "%s is not packed in few bits: its merged weights can only be numbers",
                    model_folder(s->model));
    if (how->base == MERGE_KEEP) return write_kept(s, folder, how, err);
    if (check_sites(s, m.points, err) || allocate(&m, err)) {
        release(&m);
        return err->code;
    }
    int32_t *const was = mem_new((size_t)m.tensor_count, sizeof *was);
    float *const thresholds = mem_new((size_t)m.tensor_count, sizeof *thresholds);
    const model_rewrite other = {.rows = merged_rows, .context = &m};
    const int packed = how->base == MERGE_PACKED;
    const model_saving as = {.type = how->type, .shard_bytes = shard_bytes, .other = &other, .packed = packed};
    untie(&m, was);
    swap_thresholds(&m, thresholds);
    if (packed) {
        merge_packed(&m, err);
        swap_thresholds(&m, thresholds); /* the folder says them */
    }
    if (!err->code && model_save_as(s->model, folder, &as, err) == GRAFT_OK && how->zeros != MERGE_NO_ZEROS)
        sparsity_copy(model_folder(s->model), folder, err);
    if (!packed) swap_thresholds(&m, thresholds);
    for (int32_t i = 0; i < m.tensor_count; i++)
        m.tensors[i].tied_to = was[i];
    free(thresholds);
    free(was);
    release(&m);
    return err->code;
}
