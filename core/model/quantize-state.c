/* quantize-state — packed weights as bitsandbytes stores them, from a state file or a model folder, onto the device. */
#include "formats/bnb.h"
#include "model/quantize-private.h"
#include <stdlib.h>
#include <string.h>

static int upload(kernels *k, void **to, const void *from, int64_t bytes, const char *name, graft_error *err) {
    *to = k->alloc(k, bytes);
    if (!*to) return fail(err, GRAFT_FAILED, "no memory for %lld bytes of %s", (long long)bytes, name);
    k->upload(k, *to, from, bytes);
    return GRAFT_OK;
}

static int upload_nested(kernels *k, weight *w, const safetensors *set, const bnb_weight *b, const char *name,
                         graft_error *err) {
    uint8_t *codes = mem_new((size_t)b->scales + 1, 1);
    float *scales = mem_new((size_t)b->nested_scales + 1, sizeof *scales);
    w->nested_block = b->nested_block;
    w->nested_offset = b->nested_offset;
    if (bnb_read_nested(set, b, codes, scales, err) == GRAFT_OK &&
        upload(k, &w->nested, codes, b->scales, name, err) == GRAFT_OK &&
        upload(k, &w->nested_scale, scales, b->nested_scales * 4, name, err) == GRAFT_OK)
        upload(k, &w->nested_code, b->nested_code, sizeof b->nested_code, name, err);
    free(codes);
    free(scales);
    return err->code;
}

static int upload_scales(kernels *k, weight *w, const safetensors *set, const bnb_weight *b, const char *name,
                         graft_error *err) {
    float *scales = mem_new((size_t)b->scales + 1, sizeof *scales);
    if (bnb_read_scales(set, b, scales, err) == GRAFT_OK) upload(k, &w->scale, scales, b->scales * 4, name, err);
    free(scales);
    return err->code;
}

int quantize_read(kernels *k, const safetensors *set, const char *name, base_tensor *t, int32_t *found,
                  graft_error *err) {
    bnb_weight b;
    *found = bnb_find(set, name) != BNB_NONE;
    if (!*found || bnb_read(set, name, &b, err)) return err->code;
    if (b.rank != 2 || b.shape[0] != t->out || b.shape[1] != t->in)
        return fail(err, GRAFT_FAILED, "%s: %s is packed as [%lld, %lld], but this model needs [%lld, %lld]",
                    safetensors_name(set), t->name, (long long)b.shape[0], (long long)(b.rank > 1 ? b.shape[1] : 0),
                    (long long)t->out, (long long)t->in);
    weight *w = &t->w;
    *w = (weight){.out = t->out,
                  .in = t->in,
                  .layout = b.kind == BNB_4BIT ? WEIGHT_CODEBOOK4 : WEIGHT_ROWS8,
                  .type = b.type,
                  .block = b.block};
    if (k->real == F64) w->type = F64;
    memcpy(w->code, b.code, sizeof w->code);
    const int64_t bytes = b.kind == BNB_4BIT ? (b.count + 1) / 2 : b.count;
    void *codes = mem_new((size_t)bytes + 1, 1);
    if (bnb_read_codes(set, &b, codes, err) == GRAFT_OK &&
        upload(k, &w->data, codes, bytes, t->name, err) == GRAFT_OK) {
        if (b.kind == BNB_4BIT && b.nested)
            upload_nested(k, w, set, &b, t->name, err);
        else
            upload_scales(k, w, set, &b, t->name, err);
    }
    free(codes);
    return err->code;
}

int quantize_from_state(quantize *q, kernels *device, base_tensor *t, int32_t *found, graft_error *err) {
    *found = 0;
    return q->state ? quantize_read(device, q->state, t->name, t, found, err) : GRAFT_OK;
}
