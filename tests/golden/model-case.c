#include "model-case.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        cr_assert_eq(call, GRAFT_OK, "%s: %s", #call, err.text);                                                       \
    } while (0)

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **case_folders(void) {
    static const char *const roots[] = {SHARED_DIR "/golden/models", SOURCE_DIR "/tests/golden/data/models"};
    const char *root = file_is_folder(roots[0]) ? roots[0] : roots[1];
    if (root == roots[1]) fprintf(stderr, "skipped: the shared model cases are not there; the committed ones run\n");
    char **list = mem_new(64, sizeof *list);
    int count = 0;
    DIR *d = opendir(root);
    for (struct dirent *e; d && (e = readdir(d)) && count < 63;)
        if (e->d_name[0] != '.') list[count++] = path_join(root, e->d_name);
    if (d) closedir(d);
    cr_assert_gt(count, 0, "no case under %s", root);
    qsort(list, (size_t)count, sizeof *list, by_name);
    return list;
}

float *tensor_f32(const safetensors *st, const char *name, int64_t *count) {
    const tensor_info *info = safetensors_find(st, name);
    if (!info) return NULL;
    float *out = mem_new((size_t)info->count, sizeof *out);
    MUST(safetensors_read_as(st, info, out, F32, &err));
    if (count) *count = info->count;
    return out;
}

int64_t *tensor_i64(const safetensors *st, const char *name, int64_t *count) {
    const tensor_info *info = safetensors_find(st, name);
    if (!info) return NULL;
    int64_t *out = mem_new((size_t)info->count, sizeof *out);
    MUST(safetensors_read_as(st, info, out, I64, &err));
    if (count) *count = info->count;
    return out;
}

/* Rows whose mask is 1; a document is a row of the batch, or a run of one document_id. Positions count padding too. */
void case_read_batch(model_case *c) {
    int64_t *ids = tensor_i64(c->data, "input_ids", NULL), *labels = tensor_i64(c->data, "labels", NULL);
    int64_t *mask = tensor_i64(c->data, "attention_mask", NULL), *documents = tensor_i64(c->data, "document_ids", NULL);
    int64_t *positions = tensor_i64(c->data, "position_ids", NULL);
    const tensor_info *shape = safetensors_find(c->data, "input_ids");
    c->B = shape->shape[0];
    c->T = shape->shape[1];
    const size_t n = (size_t)(c->B * c->T);
    c->ids = mem_new(n, sizeof *c->ids);
    c->positions = mem_new(n, sizeof *c->positions);
    c->target = mem_new(n, sizeof *c->target);
    c->start = mem_new(n + 1, sizeof *c->start);
    c->place = mem_new(n, sizeof *c->place);
    for (int64_t b = 0; b < c->B; b++)
        for (int64_t t = 0; t < c->T; t++) {
            const int64_t i = b * c->T + t;
            const int same = t > 0 && mask[i - 1] && (!documents || documents[i] == documents[i - 1]);
            if (!mask[i]) continue;
            if (!same) c->start[c->documents++] = c->rows;
            const int next = t + 1 < c->T && mask[i + 1] && (!documents || documents[i + 1] == documents[i]);
            c->ids[c->rows] = (int32_t)ids[i];
            c->positions[c->rows] = (int32_t)(positions ? positions[i] : t);
            c->target[c->rows] = next && labels[i + 1] >= 0 ? (int32_t)labels[i + 1] : -1;
            c->targets += c->target[c->rows] >= 0;
            c->place[c->rows++] = i;
        }
    c->start[c->documents] = c->rows;
    c->in = (model_rows){.rows = c->rows,
                         .ids = c->ids,
                         .positions = c->positions,
                         .documents = c->documents,
                         .start = c->start,
                         .targets = c->target,
                         .longest = positions ? 0 : c->T};
    free(ids);
    free(labels);
    free(mask);
    free(documents);
    free(positions);
}

void case_open(model_case *c, const char *folder) {
    *c = (model_case){.folder = mem_copy_text(folder)};
    c->name = strrchr(c->folder, '/') + 1;
    char *paths[] = {path_join(folder, "case.json"), path_join(folder, "case.safetensors"),
                     path_join(folder, "grads.safetensors")};
    MUST(json_read_file(paths[0], 0, &c->meta, &err));
    MUST(safetensors_open(paths[1], &c->data, &err));
    MUST(safetensors_open(paths[2], &c->grads, &err));
    c->V = (int64_t)json_integer_value(json_object_get(json_object_get(c->meta, "shape"), "vocab"));
    case_read_batch(c);
    for (int i = 0; i < 3; i++)
        free(paths[i]);
}

void case_close(model_case *c) {
    json_decref(c->meta);
    safetensors_close(c->data);
    safetensors_close(c->grads);
    free(c->folder);
    free(c->ids);
    free(c->positions);
    free(c->target);
    free(c->start);
    free(c->place);
}

double case_number(const model_case *c, const char *key) {
    const json_t *v = json_object_get(c->meta, key);
    cr_assert(json_is_number(v), "%s: no number %s in case.json", c->name, key);
    return json_number_value(v);
}

double case_tolerance(const model_case *c, const char *key) {
    const json_t *v = json_object_get(json_object_get(c->meta, "tolerances"), key);
    cr_assert(json_is_number(v), "%s: no tolerance %s in case.json", c->name, key);
    return json_number_value(v);
}

kernels *device_open(const char *name) {
    kernels *k = NULL;
    MUST(kernels_open(name, NULL, &k, &err));
    return k;
}

loaded model_loaded(const char *folder, const char *device, dtype activation, int flags, workspace_config c) {
    loaded l = {.k = device_open(device)};
    int32_t count;
    MUST(model_open(folder, &l.m, &err));
    base_tensor *t = model_tensors(l.m, &count);
    for (int32_t i = 0; (flags & TRAIN_ALL) && i < count; i++)
        t[i].trained = t[i].tied_to < 0;
    MUST(model_load(l.m, l.k, activation, NULL, NULL, &err));
    c.backward = !(flags & NO_BACKWARD);
    c.checkpoint = (flags & CHECKPOINT) != 0;
    MUST(workspace_create(l.m, NULL, &c, &l.w, &err));
    return l;
}

void loaded_close(loaded *l) {
    workspace_free(l->w);
    model_close(l->m);
    l->k->close(l->k);
}

static double nll(const void *self, const graft_batch *b, float *dlogp) {
    (void)self;
    double loss = 0;
    for (int64_t i = 0; i < b->tokens; i++) {
        dlogp[i] = (float)(-(double)b->weight[i] / b->total);
        if (b->logp) loss -= (double)b->weight[i] * (double)b->logp[i] / b->total;
    }
    return loss;
}

const graft_objective mean_nll = {.size = sizeof mean_nll, .flags = GRAFT_WEIGHTS_KNOWN, .loss = nll};
const graft_objective mean_nll_late = {.size = sizeof mean_nll_late, .loss = nll};

double train_once(workspace *w, const model_rows *rows, const graft_objective *f, double total) {
    const model_objective o = {.functions = f, .total = total};
    double loss = 0;
    model_zero_gradients(w);
    MUST(model_train_slice(w, rows, &o, &loss, &err));
    return loss;
}

void download_real(kernels *k, double *to, const void *dev, int64_t n) {
    void *raw = mem_new((size_t)n, (size_t)dtype_bytes(k->real));
    k->download(k, raw, dev, n * dtype_bytes(k->real));
    dtype_convert(to, F64, raw, k->real, n);
    free(raw);
}

double *gradient_of(const loaded *l, int32_t tensor) {
    int32_t count;
    const base_tensor *t = &model_tensors(l->m, &count)[tensor];
    const int64_t in = t->in ? t->in : 1, n = t->out * in;
    double *wide = mem_new((size_t)n, sizeof *wide), *out = mem_new((size_t)n, sizeof *out);
    download_real(l->k, wide, t->grad, n);
    for (int64_t o = 0; o < t->out; o++)
        for (int64_t i = 0; i < in; i++)
            out[t->transposed ? i * t->out + o : o * in + i] = wide[o * in + i];
    free(wide);
    return out;
}
