/* quantize-model — the numbers in the files against those the device reads, one tensor at a time. */
#include "run/quantize-model.h"
#include "base/file.h"
#include "run/base-digest.h"
#include <math.h>
#include <stdlib.h>

static const int64_t shard_bytes = INT64_C(5000000000);

int quantize_check_folder(const session *s, graft_error *err) {
    const base_tensor *const t = model_packed_in_files(s->model);
    return t ? fail(err, GRAFT_USAGE, "%s is packed already (%s): quantize the model that it was made from",
                    model_folder(s->model), t->name)
             : GRAFT_OK;
}

static int measure_tensor(session *s, int32_t tensor, const base_tensor *t, quantize_layer *to, double *lost,
                          double *size, graft_error *err) {
    const int64_t n = t->out * t->in;
    float *const before = mem_new((size_t)n, sizeof *before), *const after = mem_new((size_t)n, sizeof *after);
    double apart = 0, all = 0, most = 0;
    if (model_read_stored(s->model, tensor, before, err) == GRAFT_OK &&
        model_read_tensor(s->model, tensor, after, err) == GRAFT_OK)
        for (int64_t i = 0; i < n; i++) {
            const double v = (double)before[i], d = fabs(v - (double)after[i]);
            apart += d * d;
            all += v * v;
            most = d > most ? d : most;
        }
    free(before);
    free(after);
    *to = (quantize_layer){.name = t->name,
                           .out = t->out,
                           .in = t->in,
                           .bytes = quantize_bytes(s->quantizer, t),
                           .relative = all > 0 ? sqrt(apart / all) : 0,
                           .largest = most};
    *lost += apart;
    *size += all;
    return err->code;
}

int quantize_measure(session *s, quantize_report *out, graft_error *err) {
    int32_t count;
    const base_tensor *const all = model_tensors(s->model, &count);
    double lost = 0, size = 0;
    *out = (quantize_report){.layers = mem_new((size_t)count + 1, sizeof *out->layers)};
    for (int32_t i = 0; i < count && !err->code; i++) {
        const base_tensor *const t = &all[i];
        if (t->tied_to >= 0 || t->w.layout == WEIGHT_PLAIN) continue;
        quantize_layer *const layer = &out->layers[out->count++];
        if (measure_tensor(s, i, t, layer, &lost, &size, err)) break;
        out->values += t->out * t->in;
        out->stored += t->out * t->in * dtype_bytes(t->stored);
        out->bytes += layer->bytes;
        if (!out->worst || layer->relative > out->worst->relative) out->worst = layer;
    }
    out->relative = size > 0 ? sqrt(lost / size) : 0;
    if (!err->code && out->count == 0)
        fail(err, GRAFT_USAGE, "%s: the quantizer's targets select nothing", model_folder(s->model));
    return err->code;
}

void quantize_report_free(quantize_report *r) {
    free(r->layers);
    *r = (quantize_report){0};
}

int quantize_write(session *s, const char *folder, graft_error *err) {
    const model_saving how = {.type = DTYPE_COUNT, .shard_bytes = shard_bytes, .packed = 1};
    if (path_same(folder, model_folder(s->model)))
        return fail(err, GRAFT_USAGE, "%s is the folder of the model itself; name another folder", folder);
    return model_save_as(s->model, folder, &how, err) ||
                   base_digest_write(folder, "quantized_from", model_folder(s->model), err)
               ? err->code
               : GRAFT_OK;
}
