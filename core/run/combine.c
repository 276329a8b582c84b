#include "run/combine.h"
#include "base/file.h"
#include "base/philox.h"
#include "formats/peft-tensors.h"
#include "model/linalg.h"
#include "run/adapter-folder.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ADAPTERS = 64 };

/* What is written: A and B of every site. */
typedef struct {
    tensor_out *list; /* data is owned */
    int64_t count, capacity;
    int32_t *points; /* of the sites */
    int32_t point_count, point_capacity;
    arena names;
} folder_parts;

static void add_tensor(folder_parts *f, const char *name, int64_t rows, int64_t cols, const double *values) {
    float *const data = mem_new((size_t)(rows * cols) + 1, sizeof *data);
    dtype_convert(data, F32, values, F64, rows * cols);
    mem_reserve(f->list, f->count, f->capacity);
    f->list[f->count++] = (tensor_out){
        .name = arena_copy(&f->names, name, strlen(name)),
        .dtype = F32,
        .rank = 2,
        .shape = {rows, cols},
        .data = data
    };
}

static void add_point(folder_parts *f, int32_t point) {
    mem_reserve(f->points, f->point_count, f->point_capacity);
    f->points[f->point_count++] = point;
}

static void free_parts(folder_parts *f) {
    for (int64_t t = 0; t < f->count; t++)
        free((void *)(uintptr_t)f->list[t].data);
    free(f->list);
    free(f->points);
    arena_free(&f->names);
}

static int write_parts(folder_parts *f, session *s, registry *plugins, int64_t rank, const char *folder,
                       graft_error *err) {
    const safetensors_note note = {"format", "pt"};
    if (file_make_folders(folder, err)) return err->code;
    char *const path = path_join(folder, peft_tensors_file("LORA"));
    if (safetensors_write(path, f->list, f->count, &note, 1, err) == GRAFT_OK)
        adapter_folder_write_lora(plugins, s->model, f->points, f->point_count, rank, folder, err);
    free(path);
    return err->code;
}

/* The rank largest directions of change (out, in) as A = √S·Vᵀ and B = U·√S; their share of its squares is added up. */
static int cut(const double *change, int64_t out, int64_t in, int64_t rank, double *a, double *b, double kept[2],
               graft_error *err) {
    double *const s = mem_new((size_t)rank, sizeof *s);
    if (linalg_svd(change, out, in, rank, b, s, a, err) == GRAFT_OK) {
        for (int64_t i = 0; i < out * in; i++)
            kept[1] += change[i] * change[i];
        for (int64_t r = 0; r < rank; r++) {
            kept[0] += s[r] * s[r];
            for (int64_t i = 0; i < in; i++)
                a[r * in + i] *= sqrt(s[r]);
            for (int64_t o = 0; o < out; o++)
                b[o * rank + r] *= sqrt(s[r]);
        }
    }
    free(s);
    return err->code;
}

/* ---- several adapters ---- */

/* One site of one adapter. */
typedef struct {
    const adapt_param *a, *b;
    double scale; /* weight of the adapter, times its s */
    int32_t point, spec;
} part;

static int check_adapters(const session *s, const combine_how *how, graft_error *err) {
    int32_t params;
    const adapt_param *const p = adapt_params(s->adapters, &params);
    for (int32_t n = 0; n < s->spec_count; n++) {
        const char *const name = s->starts[n];
        const adapt_param *a, *b;
        double scale;
        if (!adapt_lowrank_site(s->adapters, n, 0, &a, &b, &scale))
            return fail(err, GRAFT_USAGE, "%s is made by %s, which is no plain low-rank update: it cannot be combined",
                        name, s->specs[n].component->name);
        if (adapt_replaces(s->adapters, n))
            return fail(err, GRAFT_USAGE,
                        "%s belongs to a base that %s made; convert it to a plain LoRA of the base as it was", name,
                        s->specs[n].component->name);
        if (how->rule != COMBINE_SVD && !(how->weights[n] >= 0))
            return fail(err, GRAFT_USAGE, "weight %g of %s: linear, ties and dare take its root; combine by svd",
                        how->weights[n], name);
    }
    for (int32_t i = 0; i < params; i++)
        if (p[i].base)
            return fail(err, GRAFT_USAGE, "%s trains %s beside its low-rank updates: merge it instead",
                        s->starts[p[i].spec], p[i].name);
    return GRAFT_OK;
}

/* Every site of every adapter; owned by the caller. */
static part *list_parts(const session *s, const combine_how *how, int32_t *count) {
    part *list = NULL;
    int32_t capacity = 0;
    *count = 0;
    for (int32_t n = 0; n < s->spec_count; n++) {
        part one = {.spec = n};
        for (int32_t i = 0; adapt_lowrank_site(s->adapters, n, i, &one.a, &one.b, &one.scale); i++) {
            one.scale *= how->weights[n];
            one.point = adapt_site(s->adapters, n, i);
            mem_reserve(list, *count, capacity);
            list[(*count)++] = one;
        }
    }
    return list;
}

static double *download(const session *s, const adapt_param *p) {
    const dtype real = s->device->real;
    void *const raw = mem_new((size_t)p->count + 1, (size_t)dtype_bytes(real));
    double *const values = mem_new((size_t)p->count + 1, sizeof *values);
    s->device->download(s->device, raw, p->data, p->count * dtype_bytes(real));
    dtype_convert(values, F64, raw, real, p->count);
    free(raw);
    return values;
}

static int descending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return a > b ? -1 : a < b;
}

/* Keeps the ⌊density·count⌋ largest by magnitude; of equal ones the first. */
static void keep_largest(double *t, int64_t count, double density) {
    const int64_t keep = (int64_t)(density * (double)count);
    double *const sizes = mem_new((size_t)count + 1, sizeof *sizes);
    for (int64_t i = 0; i < count; i++)
        sizes[i] = fabs(t[i]);
    qsort(sizes, (size_t)count, sizeof *sizes, descending);
    const double least = keep > 0 ? sizes[keep - 1] : INFINITY;
    int64_t equal = keep; /* how many of those at the threshold are kept */
    for (int64_t i = 0; i < count; i++)
        equal -= fabs(t[i]) > least;
    for (int64_t i = 0; i < count; i++)
        if (fabs(t[i]) < least || (fabs(t[i]) == least && equal-- <= 0)) t[i] = 0;
    free(sizes);
}

static void keep_some(double *t, int64_t count, double density, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < count; i++)
        t[i] = philox_uniform(seed, stream, (uint64_t)i) < density ? t[i] / density : 0;
}

/* The tensors t[0..n) into one, out: each times its factor. */
static void mix(double *const *t, const double *factor, int32_t n, int64_t count, int elect, double *out) {
    for (int64_t i = 0; i < count; i++) {
        double sum = 0, total = 0;
        int32_t agree = 0;
        for (int32_t k = 0; k < n; k++)
            total += t[k][i];
        for (int32_t k = 0; k < n; k++) {
            const int counts = !elect || (total >= 0 ? t[k][i] > 0 : t[k][i] < 0);
            sum += counts ? factor[k] * t[k][i] : 0;
            agree += counts;
        }
        out[i] = elect && agree ? sum / agree : sum;
    }
}

/* A (side 0) or B of one site out of those of all its adapters. */
static double *mix_side(const session *s, const combine_how *how, const part *const *at, int32_t n, int side) {
    double *t[ADAPTERS], factor[ADAPTERS];
    const int64_t count = side ? at[0]->b->count : at[0]->a->count;
    double *const out = mem_new((size_t)count + 1, sizeof *out);
    for (int32_t k = 0; k < n; k++) {
        t[k] = download(s, side ? at[k]->b : at[k]->a);
        factor[k] = sqrt(at[k]->scale);
        if (how->density < 1 && how->rule == COMBINE_TIES) keep_largest(t[k], count, how->density);
        if (how->density < 1 && how->rule == COMBINE_DARE)
            keep_some(t[k], count, how->density, how->seed,
                      (uint64_t)at[k]->point << 16 | (uint64_t)at[k]->spec << 1 | (uint64_t)side);
    }
    mix(t, factor, n, count, how->rule == COMBINE_TIES, out);
    for (int32_t k = 0; k < n; k++)
        free(t[k]);
    return out;
}

/* Σ scale·B·A of one site, (out, in); owned by the caller. */
static double *sum_of(const session *s, const part *const *at, int32_t n) {
    const int64_t out = at[0]->b->rows, in = at[0]->a->cols;
    double *const sum = mem_new((size_t)(out * in), sizeof *sum);
    for (int32_t k = 0; k < n; k++) {
        double *const a = download(s, at[k]->a), *const b = download(s, at[k]->b);
        const int64_t rank = at[k]->a->rows;
        for (int64_t o = 0; o < out; o++)
            for (int64_t r = 0; r < rank; r++)
                for (int64_t i = 0; i < in; i++)
                    sum[o * in + i] += at[k]->scale * b[o * rank + r] * a[r * in + i];
        free(a);
        free(b);
    }
    return sum;
}

static int combine_site(const session *s, const combine_how *how, const part *const *at, int32_t n, int64_t rank,
                        folder_parts *f, double kept[2], graft_error *err) {
    const int64_t out = at[0]->b->rows, in = at[0]->a->cols;
    double *a, *b;
    if (how->rule == COMBINE_SVD) {
        double *const sum = sum_of(s, at, n);
        a = mem_new((size_t)(rank * in), sizeof *a);
        b = mem_new((size_t)(rank * out), sizeof *b);
        cut(sum, out, in, rank, a, b, kept, err);
        free(sum);
    } else {
        for (int32_t k = 0; k < n && !err->code; k++)
            if (at[k]->a->rows != rank)
                fail(err, GRAFT_USAGE, "%s has rank %lld in %s, not %lld: A and B add only in one rank; combine by svd",
                     at[k]->a->name, (long long)at[k]->a->rows, s->starts[at[k]->spec], (long long)rank);
        if (err->code) return err->code;
        a = mix_side(s, how, at, n, 0);
        b = mix_side(s, how, at, n, 1);
    }
    add_tensor(f, at[0]->a->name, rank, in, a);
    add_tensor(f, at[0]->b->name, out, rank, b);
    add_point(f, at[0]->point);
    free(a);
    free(b);
    return err->code;
}

int combine_write(session *s, registry *plugins, const combine_how *how, const char *folder, combine_report *out,
                  graft_error *err) {
    folder_parts f = {0};
    double kept[2] = {0};
    int32_t count;
    *out = (combine_report){.kept = 1};
    if (s->spec_count > ADAPTERS)
        return fail(err, GRAFT_USAGE, "%d adapters, at most %d are combined", (int)s->spec_count, ADAPTERS);
    if (check_adapters(s, how, err)) return err->code;
    part *const parts = list_parts(s, how, &count);
    int64_t rank = how->rule == COMBINE_SVD ? how->rank : parts[0].a->rows;
    for (int32_t i = 0; i < count && how->rank == 0 && how->rule == COMBINE_SVD; i++)
        rank = parts[i].a->rows > rank ? parts[i].a->rows : rank;
    for (int32_t i = 0; i < count && !err->code; i++) {
        const part *at[ADAPTERS];
        int32_t n = 0, first = 1;
        for (int32_t k = 0; k < i; k++)
            first &= parts[k].point != parts[i].point;
        for (int32_t k = i; first && k < count; k++)
            if (parts[k].point == parts[i].point) at[n++] = &parts[k];
        if (first) combine_site(s, how, at, n, rank, &f, kept, err);
    }
    if (!err->code) write_parts(&f, s, plugins, rank, folder, err);
    out->sites = f.point_count;
    out->rank = rank;
    if (kept[1] > 0) out->kept = kept[0] / kept[1];
    free(parts);
    free_parts(&f);
    return err->code;
}

/* ---- out of a model ---- */

static int32_t find_tensor(const session *s, const char *name) {
    int32_t count;
    const base_tensor *const t = model_tensors(s->model, &count);
    for (int32_t i = 0; i < count; i++)
        if (strcmp(t[i].name, name) == 0) return i;
    return -1;
}

/* tuned - base of one tensor, count elements; NULL: they have another shape. *changed: one is not 0. */
static double *change_of(session *base, session *tuned, int32_t tensor, int *changed, graft_error *err) {
    int32_t count;
    const base_tensor *const b = &model_tensors(base->model, &count)[tensor];
    const int32_t other = find_tensor(tuned, b->name);
    const base_tensor *const t = other < 0 ? NULL : &model_tensors(tuned->model, &count)[other];
    if (!t || t->in != b->in || t->out != b->out) {
        fail(err, GRAFT_USAGE, "%s: %s has no %s of the shape that %s has", model_folder(tuned->model),
             t ? "it" : "the model", b->name, model_folder(base->model));
        return NULL;
    }
    const int64_t size = b->out * (b->in ? b->in : 1);
    float *const before = mem_new((size_t)size, sizeof *before), *const after = mem_new((size_t)size, sizeof *after);
    double *const change = mem_new((size_t)size, sizeof *change);
    *changed = 0;
    if (model_read_tensor(base->model, tensor, before, err) == GRAFT_OK)
        model_read_tensor(tuned->model, other, after, err);
    for (int64_t i = 0; i < size; i++) {
        change[i] = (double)after[i] - (double)before[i];
        *changed |= change[i] != 0;
    }
    free(before);
    free(after);
    return change;
}

static int extract_point(session *base, session *tuned, int32_t point, int64_t rank, folder_parts *f, double kept[2],
                         uint8_t *seen, graft_error *err) {
    int32_t count;
    const adapt_point *const at = &model_points(base->model, &count)[point];
    const int32_t tensor = (int32_t)(at->tensor - model_tensors(base->model, &count));
    int changed;
    double *const change = change_of(base, tuned, tensor, &changed, err);
    seen[tensor] = 1;
    if (!err->code && changed) {
        double *const a = mem_new((size_t)(rank * at->in), sizeof *a), *const b =
                                                                           mem_new((size_t)(rank * at->out), sizeof *b);
        char *const name_a = peft_tensor_name(at->name, "lora_A.weight", at->layer, "default");
        char *const name_b = peft_tensor_name(at->name, "lora_B.weight", at->layer, "default");
        if (cut(change, at->out, at->in, rank, a, b, kept, err) == GRAFT_OK) {
            add_tensor(f, name_a, rank, at->in, a);
            add_tensor(f, name_b, at->out, rank, b);
            add_point(f, point);
        }
        free(a);
        free(b);
        free(name_a);
        free(name_b);
    }
    free(change);
    return err->code;
}

int combine_extract(session *base, session *tuned, registry *plugins, int64_t rank, const char *folder,
                    combine_report *out, graft_error *err) {
    folder_parts f = {0};
    double kept[2] = {0};
    int32_t points, tensors;
    const adapt_point *const at = model_points(base->model, &points);
    const base_tensor *const all = model_tensors(base->model, &tensors);
    uint8_t *const seen = mem_new((size_t)tensors + 1, 1);
    *out = (combine_report){.rank = rank, .kept = 1};
    for (int32_t p = 0; p < points && !err->code; p++)
        if (at[p].kinds & GRAFT_LINEAR && at[p].all_linear) extract_point(base, tuned, p, rank, &f, kept, seen, err);
    for (int32_t t = 0; t < tensors && !err->code; t++) {
        int changed = 0;
        if (!seen[t] && all[t].tied_to < 0) free(change_of(base, tuned, t, &changed, err));
        out->ignored += changed;
    }
    if (!err->code && f.point_count == 0)
        fail(err, GRAFT_USAGE, "the linear layers of %s are those of %s: there is nothing to extract",
             model_folder(tuned->model), model_folder(base->model));
    if (!err->code) write_parts(&f, base, plugins, rank, folder, err);
    out->sites = f.point_count;
    if (kept[1] > 0) out->kept = kept[0] / kept[1];
    free(seen);
    free_parts(&f);
    return err->code;
}
