/* adapt-file — the tensors of one adapter in a folder: written for PEFT, read with every name and shape checked. */
#include "base/file.h"
#include "formats/safetensors.h"
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

static const char file_tensors[] = "adapter_model.safetensors";

static int belongs(const adapt_param *p, int32_t spec) {
    return p->spec == spec && (p->in_file || p->base);
}

/* Host values of one listed tensor in the file's orientation, f32; owned by the caller. */
static float *read_param(const adapt *a, const adapt_param *p) {
    kernels *k = a->device;
    void *raw = mem_new((size_t)p->count + 1, (size_t)dtype_bytes(k->real));
    float *own = mem_new((size_t)p->count + 1, sizeof *own);
    k->download(k, raw, p->data, p->count * dtype_bytes(k->real));
    dtype_convert(own, F32, raw, k->real, p->count);
    free(raw);
    if (!p->transposed || p->rank != 2)
        return own;
    float *turned = mem_new((size_t)p->count + 1, sizeof *turned);
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->cols; c++)
            turned[c * p->rows + r] = own[r * p->cols + c];
    free(own);
    return turned;
}

static void write_param(adapt *a, const adapt_param *p, const float *values) {
    kernels *k = a->device;
    void *raw = mem_new((size_t)p->count + 1, (size_t)dtype_bytes(k->real));
    float *turned = NULL;
    if (p->transposed && p->rank == 2) {
        turned = mem_new((size_t)p->count + 1, sizeof *turned);
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t c = 0; c < p->cols; c++)
                turned[r * p->cols + c] = values[c * p->rows + r];
        values = turned;
    }
    dtype_convert(raw, k->real, values, F32, p->count);
    k->upload(k, p->data, raw, p->count * dtype_bytes(k->real));
    free(turned);
    free(raw);
}

static void file_shape(const adapt_param *p, tensor_out *out) {
    out->rank = 0;
    if (p->site) {
        const slot_state *s = &p->site->slots[p->slot];
        out->rank = s->rank;
        memcpy(out->shape, s->shape, sizeof s->shape);
        return;
    }
    out->rank = p->rank;
    out->shape[0] = p->transposed && p->rank == 2 ? p->cols : p->rows;
    out->shape[1] = p->transposed ? p->rows : p->cols;
}

int adapt_save(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    tensor_out *list = mem_new((size_t)(a->param_count + a->buffer_count) + 1, sizeof *list);
    int64_t count = 0;
    const adapt_param *const lists[] = {a->params, a->buffers};
    const int32_t counts[] = {a->param_count, a->buffer_count};
    for (int32_t l = 0; l < 2; l++)
        for (int32_t p = 0; p < counts[l]; p++) {
            if (!belongs(&lists[l][p], spec))
                continue;
            tensor_out *t = &list[count++];
            *t = (tensor_out){.name = lists[l][p].name, .dtype = F32, .data = read_param(a, &lists[l][p])};
            file_shape(&lists[l][p], t);
        }
    char *path = path_join(folder, file_tensors);
    const safetensors_note note = {"format", "pt"};
    safetensors_write(path, list, count, &note, 1, err);
    for (int64_t t = 0; t < count; t++)
        free((void *)(uintptr_t)list[t].data);
    free(path);
    free(list);
    return err->code;
}

/* Equal when the extents are, extents of 1 aside: PEFT writes a vector as (n), (n, 1) or (1, n). */
static int same_shape(const tensor_info *info, const tensor_out *want) {
    int i = 0, w = 0;
    for (;;) {
        while (i < info->rank && info->shape[i] == 1)
            i++;
        while (w < want->rank && want->shape[w] == 1)
            w++;
        if (i == info->rank || w == want->rank)
            return i == info->rank && w == want->rank;
        if (info->shape[i++] != want->shape[w++])
            return 0;
    }
}

static int read_one(adapt *a, const safetensors *st, const adapt_param *p, graft_error *err) {
    const tensor_info *info;
    if (safetensors_need(st, p->name, &info, err))
        return err->code;
    tensor_out want = {0};
    file_shape(p, &want);
    if (!same_shape(info, &want)) {
        char *has = tensor_describe(info);
        fail(err, GRAFT_FAILED, "%s: %s is %s, but this model and adapter need [%lld%s%.0lld]", safetensors_name(st), p->name, has,
             (long long)want.shape[0], want.rank > 1 ? ", " : "", (long long)(want.rank > 1 ? want.shape[1] : 0));
        free(has);
        return err->code;
    }
    float *values = mem_new((size_t)p->count + 1, sizeof *values);
    if (safetensors_read_as(st, info, values, F32, err) == GRAFT_OK) {
        for (int64_t v = 0; v < p->count && !err->code; v++)
            if (values[v] - values[v] != 0)
                fail(err, GRAFT_FAILED, "%s: %s holds a value that is not finite (element %lld)", safetensors_name(st), p->name,
                     (long long)v);
        if (!err->code)
            write_param(a, p, values);
    }
    free(values);
    return err->code;
}

/* The frozen table that PEFT stores beside an adapted embedding; its values are the base's. */
static int known_extra(const char *name) {
    const size_t length = strlen(name);
    static const char tail[] = ".base_layer.weight";
    return length > sizeof tail && strcmp(name + length - (sizeof tail - 1), tail) == 0;
}

int adapt_load(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    char *path = path_join(folder, file_tensors);
    safetensors *st = NULL;
    strmap expected = {0};
    if (safetensors_open(path, &st, err))
        goto done;
    const adapt_param *const lists[] = {a->params, a->buffers};
    const int32_t counts[] = {a->param_count, a->buffer_count};
    for (int32_t l = 0; l < 2; l++)
        for (int32_t p = 0; p < counts[l] && !err->code; p++) {
            if (!belongs(&lists[l][p], spec))
                continue;
            strmap_put(&expected, lists[l][p].name, strlen(lists[l][p].name), 1);
            read_one(a, st, &lists[l][p], err);
        }
    for (int64_t t = 0; t < safetensors_count(st) && !err->code; t++) {
        const char *name = safetensors_at(st, t)->name;
        int64_t found;
        if (!strmap_get(&expected, name, strlen(name), &found) && !known_extra(name))
            fail(err, GRAFT_FAILED, "%s: tensor %s belongs to no site that the adapter's configuration selects in this model", path,
                 name);
    }
    if (!err->code)
        adapt_prepare(a, err);
done:
    strmap_free(&expected);
    safetensors_close(st);
    free(path);
    return err->code;
}
