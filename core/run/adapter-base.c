/* adapter-base — what an adapter folder says about its base, against the model that it is put on. */
#include "base/dtype.h"
#include "base/log.h"
#include "formats/peft-tensors.h"
#include "run/adapter-folder.h"
#include <stdlib.h>
#include <string.h>

/* A number of the configuration that is the model's, or null. */
static int check_number(const peft_config *c, const char *key, int64_t ours, graft_error *err) {
    const json_t *const value = json_object_get(c->file, key);
    if (!value || json_is_null(value) || (json_is_number(value) && json_number_value(value) == (double)ours))
        return GRAFT_OK;
    char *const shown = json_dumps(value, JSON_ENCODE_ANY);
    fail(err, GRAFT_FAILED, "%s: \"%s\" is %s, this model has %lld: the adapter belongs to another base", c->path, key,
         shown, (long long)ours);
    free(shown);
    return GRAFT_FAILED;
}

static int32_t index_of(const base_tensor *t, const base_tensor *all, int32_t count) {
    int32_t i = 0;
    while (i < count && &all[i] != t)
        i++;
    return t->tied_to >= 0 ? t->tied_to : i;
}

/* A matrix as the file has it (base_layer) against the model's: the same numbers, at the file's precision. */
static int check_table(model *m, const safetensors *st, const tensor_info *info, int32_t tensor, graft_error *err) {
    float *const theirs = mem_new((size_t)info->count + 1, sizeof *theirs), *const ours = mem_new(
                                                                                (size_t)info->count + 1, sizeof *ours);
    void *const rounded = mem_new((size_t)info->count + 1, (size_t)dtype_bytes(info->dtype));
    int64_t other = -1, coarse = 0;
    if (safetensors_read_as(st, info, theirs, F32, err) == GRAFT_OK &&
        model_read_stored(m, tensor, ours, err) == GRAFT_OK) {
        for (int64_t i = 0; i < info->count; i++)
            coarse += ours[i] != theirs[i];
        dtype_convert(rounded, info->dtype, ours, F32, info->count);
        dtype_convert(ours, F32, rounded, info->dtype, info->count);
        for (int64_t i = 0; i < info->count && other < 0; i++)
            if (ours[i] != theirs[i]) other = i;
    }
    if (other >= 0)
        fail(
            err, GRAFT_FAILED,
            "%s: \"%s\" is not this model's: element %lld is %g there and %g here; the adapter belongs to another base",
            safetensors_name(st), info->name, (long long)other, (double)theirs[other], (double)ours[other]);
    else if (coarse && !err->code)
        log_warn("%s: \"%s\" is this model's, rounded to %s; the model's own numbers are used", safetensors_name(st),
                 info->name, dtype_name(info->dtype));
    free(theirs);
    free(ours);
    free(rounded);
    return err->code;
}

static int check_tables(const char *folder, const adapt *a, int32_t which, model *m, graft_error *err) {
    safetensors *st = NULL;
    int32_t points, tensors, point;
    const adapt_point *const at = model_points(m, &points);
    const base_tensor *const all = model_tensors(m, &tensors);
    if (peft_tensors_open(folder, &st, err)) return err->code;
    for (int32_t n = 0; (point = adapt_site(a, which, n)) >= 0 && !err->code; n++) {
        const base_tensor *const t = at[point].tensor;
        if (at[point].layer >= 0 || !t || !t->in) continue;
        char *const name = peft_tensor_name(at[point].name, ADAPT_BASE_TABLE, -1, "default");
        const tensor_info *const info = safetensors_find(st, name);
        if (info && info->count == t->out * t->in && dtype_is_float(info->dtype))
            check_table(m, st, info, index_of(t, all, tensors), err);
        free(name);
    }
    safetensors_close(st);
    return err->code;
}

int adapter_folder_check(const char *folder, const adapt *a, int32_t which, model *m, graft_error *err) {
    const model_shape *const s = model_descriptor(m);
    peft_config c;
    if (peft_config_read(folder, &c, err) == GRAFT_OK && check_number(&c, "num_layers", s->layers, err) == GRAFT_OK &&
        check_number(&c, "hidden_size", s->hidden, err) == GRAFT_OK)
        check_tables(folder, a, which, m, err);
    peft_config_free(&c);
    return err->code;
}
