/* adapt-file — the tensors of one adapter in a folder: written for PEFT, read with every name and shape checked. */
#include "base/file.h"
#include "formats/peft-tensors.h"
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const adapt_param **at;
    int64_t count;
} chosen;

/* What a folder of this adapter holds: its parameters and buffers with a file name, and base tensors it trained. */
static chosen choose(const adapt *a, int32_t spec) {
    chosen c = {.at = mem_new((size_t)(a->param_count + a->buffer_count) + 1, sizeof *c.at)};
    for (int32_t p = 0; p < a->param_count; p++)
        if (a->params[p].spec == spec && (a->params[p].in_file || a->params[p].base)) c.at[c.count++] = &a->params[p];
    for (int32_t p = 0; p < a->buffer_count; p++)
        if (a->buffers[p].spec == spec && a->buffers[p].in_file) c.at[c.count++] = &a->buffers[p];
    return c;
}

static void file_shape(const adapt_param *p, int *rank, int64_t *shape) {
    if (p->site) {
        const slot_state *s = &p->site->slots[p->slot];
        *rank = s->rank;
        memcpy(shape, s->shape, sizeof s->shape);
        return;
    }
    const int turned = p->transposed && p->rank == 2;
    *rank = p->rank;
    shape[0] = turned ? p->cols : p->rows;
    shape[1] = turned ? p->rows : p->cols;
}

/* (rows, cols) -> (cols, rows), or a copy: a trained Conv1D lies transposed in the file. */
static void turn(const float *from, float *to, int64_t rows, int64_t cols, int turned) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            to[turned ? c * rows + r : r * cols + c] = from[r * cols + c];
}

int adapt_save(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    kernels *k = a->device;
    const chosen c = choose(a, spec);
    tensor_out *list = mem_new((size_t)c.count + 1, sizeof *list);
    for (int64_t t = 0; t < c.count; t++) {
        const adapt_param *p = c.at[t];
        void *raw = mem_new((size_t)p->count + 1, (size_t)dtype_bytes(k->real));
        float *values = mem_new((size_t)p->count + 1, sizeof *values),
              *filed = mem_new((size_t)p->count + 1, sizeof *filed);
        k->download(k, raw, p->data, p->count * dtype_bytes(k->real));
        dtype_convert(values, F32, raw, k->real, p->count);
        turn(values, filed, p->rows, p->count / (p->rows ? p->rows : 1), p->transposed && p->rank == 2);
        list[t] = (tensor_out){.name = p->name, .dtype = F32, .data = filed};
        file_shape(p, &list[t].rank, list[t].shape);
        free(values);
        free(raw);
    }
    char *path = path_join(folder, "adapter_model.safetensors");
    const safetensors_note note = {"format", "pt"};
    safetensors_write(path, list, c.count, &note, 1, err);
    for (int64_t t = 0; t < c.count; t++)
        free((void *)(uintptr_t)list[t].data);
    free(path);
    free(list);
    free(c.at);
    return err->code;
}

static int read_param(adapt *a, const safetensors *st, const adapt_param *p, const tensor_info *info,
                      graft_error *err) {
    kernels *k = a->device;
    float *filed = mem_new((size_t)p->count + 1, sizeof *filed),
          *values = mem_new((size_t)p->count + 1, sizeof *values);
    void *raw = mem_new((size_t)p->count + 1, (size_t)dtype_bytes(k->real));
    if (peft_tensor_read(st, info, filed, err) == GRAFT_OK) {
        const int turned = p->transposed && p->rank == 2;
        const int64_t cols = p->count / (p->rows ? p->rows : 1);
        turn(filed, values, turned ? cols : p->rows, turned ? p->rows : cols, turned);
        dtype_convert(raw, k->real, values, F32, p->count);
        k->upload(k, p->data, raw, p->count * dtype_bytes(k->real));
    }
    free(filed);
    free(values);
    free(raw);
    return err->code;
}

/* PEFT stores the frozen table beside an adapted embedding; its values are the base's and may be absent. */
static int64_t add_tables(const adapt *a, int32_t spec, peft_tensor *list, char **names, int64_t count) {
    const technique *t = &a->techniques[spec];
    for (int32_t n = 0; n < t->count; n++)
        if (t->instances[n]->site.onehot) {
            names[count] = peft_tensor_name(t->instances[n]->site.name, "base_layer.weight", -1, "default");
            list[count] = (peft_tensor){
                .name = names[count],
                .rank = 2,
                .optional = 1,
                .shape = {t->instances[n]->site.in, t->instances[n]->site.out}
            };
            count++;
        }
    return count;
}

int adapt_load(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    safetensors *st = NULL;
    const chosen c = choose(a, spec);
    const size_t most = (size_t)(c.count + a->techniques[spec].count) + 1;
    peft_tensor *list = mem_new(most, sizeof *list);
    char **names = mem_new(most, sizeof *names);
    for (int64_t t = 0; t < c.count; t++) {
        list[t].name = c.at[t]->name;
        file_shape(c.at[t], &list[t].rank, list[t].shape);
    }
    const int64_t count = add_tables(a, spec, list, names, c.count);
    if (peft_tensors_open(folder, &st, err) == GRAFT_OK) peft_tensors_match(st, list, count, err);
    for (int64_t t = 0; t < c.count && !err->code; t++)
        read_param(a, st, c.at[t], list[t].found, err);
    if (!err->code) adapt_prepare(a, err);
    for (int64_t t = c.count; t < count; t++)
        free(names[t]);
    safetensors_close(st);
    free(list);
    free(names);
    free(c.at);
    return err->code;
}
