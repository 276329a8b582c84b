/* bnb — bitsandbytes' tensors read: every number of the state is checked against the others before it is believed. */
#include "formats/bnb.h"
#include "formats/safetensors-set.h"
#include "kernels/codebook.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_LEAST = 32, BLOCK_MOST = 4096, STATE_LIMIT = 4096 };

static const char *const type_names[2] = {"nf4", "fp4"};

/* ---- names ---- */

static const tensor_info *find(const safetensors *st, const char *weight, const char *suffix) {
    char *const name = mem_format("%s%s", weight, suffix);
    const tensor_info *const t = safetensors_find(st, name);
    free(name);
    return t;
}

static const tensor_info *find_state(const safetensors *st, const char *weight, int fp4) {
    return find(st, weight, fp4 ? ".quant_state.bitsandbytes__fp4" : ".quant_state.bitsandbytes__nf4");
}

/* P.weight -> P.SCB, P.weight_format. */
static const tensor_info *find_beside(const safetensors *st, const char *weight, const char *name) {
    static const char tail[] = ".weight";
    const size_t length = strlen(weight), cut = sizeof tail - 1;
    if (length < cut || strcmp(weight + length - cut, tail) != 0) return NULL;
    char *const full = mem_format("%.*s.%s", (int)(length - cut), weight, name);
    const tensor_info *const t = safetensors_find(st, full);
    free(full);
    return t;
}

bnb_kind bnb_find(const safetensors *st, const char *weight) {
    if (find_state(st, weight, 0) || find_state(st, weight, 1)) return BNB_4BIT;
    return find_beside(st, weight, "SCB") ? BNB_8BIT : BNB_NONE;
}

/* ---- checks ---- */

static int refuse(const safetensors *st, const tensor_info *t, const char *wanted, graft_error *err) {
    char *const is = tensor_describe(t);
    fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %s; %s", safetensors_path(st, t->shard), t->name, is, wanted);
    free(is);
    return GRAFT_FAILED;
}

/* The tensor weight + suffix, a list of `count` elements of `type`. */
static int need_list(const safetensors *st, const char *weight, const char *suffix, dtype type, int64_t count,
                     const tensor_info **out, graft_error *err) {
    char *const name = mem_format("%s%s", weight, suffix);
    int rc = safetensors_need(st, name, out, err);
    free(name);
    if (rc != GRAFT_OK) return rc;
    if ((*out)->dtype == type && (*out)->rank == 1 && (*out)->count == count) return GRAFT_OK;
    char *const wanted = mem_format("%s [%lld] belongs to this weight", dtype_name(type), (long long)count);
    rc = refuse(st, *out, wanted, err);
    free(wanted);
    return rc;
}

/* Scales are largest magnitudes. */
static int check_scales(const safetensors *st, const tensor_info *t, const float *values, int64_t count,
                        graft_error *err) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]) || values[i] < 0)
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": element %lld is %g; a scale is a number from 0 on",
                        safetensors_path(st, t->shard), t->name, (long long)i, (double)values[i]);
    return GRAFT_OK;
}

/* The map of double quantization: ascending, up to 1. */
static int check_map(const safetensors *st, const tensor_info *t, const float map[256], graft_error *err) {
    int64_t wrong = map[0] >= -1 ? 1 : 0;
    while (wrong > 0 && wrong < 256 && map[wrong] > map[wrong - 1])
        wrong++;
    if (wrong == 256 && map[255] == 1) return GRAFT_OK;
    return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is no map of bitsandbytes: it must rise from -1 or more to 1",
                safetensors_path(st, t->shard), t->name);
}

static int is_block_size(int64_t n) {
    return n >= BLOCK_LEAST && n <= BLOCK_MOST && (n & (n - 1)) == 0;
}

/* No tensor may hang on the weight's name but those of its state, which 8 bits have none of. */
static int check_siblings(const safetensors *st, const char *weight, bnb_kind kind, graft_error *err) {
    static const char *const known[] = {"absmax",
                                        "quant_map",
                                        "nested_absmax",
                                        "nested_quant_map",
                                        "quant_state.bitsandbytes__nf4",
                                        "quant_state.bitsandbytes__fp4"};
    const size_t length = strlen(weight);
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const char *const name = safetensors_at(st, i)->name;
        if (strncmp(name, weight, length) != 0 || name[length] != '.') continue;
        int found = 0;
        for (size_t k = 0; kind == BNB_4BIT && k < sizeof known / sizeof *known; k++)
            found |= strcmp(name + length + 1, known[k]) == 0;
        if (!found)
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is no part of a bitsandbytes weight",
                        safetensors_name(st), name);
    }
    return GRAFT_OK;
}

/* ---- 4 bits: the JSON ---- */

static int read_shape(const json_t *list, const char *what, bnb_weight *w, graft_error *err) {
    const size_t rank = json_array_size(list);
    int64_t bytes;
    int whole = rank > 0 && rank <= TENSOR_RANK_MAX;
    for (size_t i = 0; whole && i < rank; i++) {
        const json_t *const extent = json_array_get(list, i);
        whole = json_is_integer(extent) && json_integer_value(extent) > 0;
        w->shape[i] = json_integer_value(extent);
    }
    w->rank = (int)rank;
    if (whole && safetensors_size(w->shape, w->rank, 8, &w->count, &bytes)) return GRAFT_OK;
    return fail(err, GRAFT_FAILED, "%s: \"shape\" is not a list of 1 to %d sizes", what, TENSOR_RANK_MAX);
}

static int read_block(const json_t *state, const char *what, const char *key, int64_t *out, graft_error *err) {
    const int rc = json_get_int(state, what, key, 0, out, err);
    if (rc != GRAFT_OK || is_block_size(*out)) return rc;
    return fail(err, GRAFT_FAILED, "%s: \"%s\" is %lld; a power of two from %d to %d is possible", what, key,
                (long long)*out, BLOCK_LEAST, BLOCK_MOST);
}

static int read_type(const json_t *state, const char *what, bnb_weight *w, graft_error *err) {
    const char *type, *quant;
    int rc = json_get_text(state, what, "quant_type", "", &quant, err);
    if (rc == GRAFT_OK) rc = json_get_text(state, what, "dtype", "", &type, err);
    if (rc != GRAFT_OK) return rc;
    if (strcmp(quant, type_names[w->fp4]) != 0)
        return fail(err, GRAFT_FAILED, "%s: \"quant_type\" is \"%s\", but the tensor's name says %s", what, quant,
                    type_names[w->fp4]);
    if (strcmp(type, "float32") == 0)
        w->type = F32;
    else if (strcmp(type, "float16") == 0)
        w->type = F16;
    else if (strcmp(type, "bfloat16") == 0)
        w->type = BF16;
    else
        return fail(err, GRAFT_FAILED, "%s: \"dtype\" is \"%s\"; float32, float16 and bfloat16 are possible", what,
                    type);
    return GRAFT_OK;
}

static int read_nesting(const json_t *state, const char *what, bnb_weight *w, graft_error *err) {
    const char *type;
    double offset;
    int rc = read_block(state, what, "nested_blocksize", &w->nested_block, err);
    if (rc == GRAFT_OK) rc = json_get_text(state, what, "nested_dtype", "", &type, err);
    if (rc == GRAFT_OK && strcmp(type, "float32") != 0)
        rc = fail(err, GRAFT_FAILED, "%s: \"nested_dtype\" is \"%s\"; float32 is possible", what, type);
    if (rc == GRAFT_OK) rc = json_get_real(state, what, "nested_offset", NAN, &offset, err);
    if (rc != GRAFT_OK) return rc;
    w->nested_offset = (float)offset;
    if (isfinite(w->nested_offset)) return GRAFT_OK;
    return fail(err, GRAFT_FAILED, "%s: \"nested_offset\" must be a number", what);
}

static int read_state(json_t *state, const char *what, bnb_weight *w, graft_error *err) {
    static const char *const known[] = {"quant_type",       "blocksize",    "dtype",        "shape",
                                        "nested_blocksize", "nested_dtype", "nested_offset"};
    const char *key;
    json_t *value;
    int rc = json_is_object(state) ? GRAFT_OK : fail(err, GRAFT_FAILED, "%s: is not a JSON object", what);
    json_object_foreach(state, key, value) {
        int found = 0;
        for (int i = 0; i < (w->nested ? 7 : 4); i++)
            found |= strcmp(key, known[i]) == 0;
        if (!found && rc == GRAFT_OK)
            rc = fail(err, GRAFT_FAILED, "%s: key \"%s\" has no place in a %s state", what, key,
                      w->nested ? "nested" : "plain");
    }
    if (rc == GRAFT_OK) rc = read_type(state, what, w, err);
    if (rc == GRAFT_OK) rc = read_block(state, what, "blocksize", &w->block, err);
    if (rc == GRAFT_OK) rc = read_shape(json_object_get(state, "shape"), what, w, err);
    return rc == GRAFT_OK && w->nested ? read_nesting(state, what, w, err) : rc;
}

/* The tensor whose bytes are JSON. */
static int read_state_tensor(const safetensors *st, const tensor_info *t, bnb_weight *w, graft_error *err) {
    char text[STATE_LIMIT];
    json_t *state = NULL;
    if (t->dtype != U8 || t->bytes > STATE_LIMIT) return refuse(st, t, "a short JSON text as U8 belongs there", err);
    char *const what = mem_format("%s: %s", safetensors_path(st, t->shard), t->name);
    int rc = safetensors_read(st, t, text, err);
    if (rc == GRAFT_OK) rc = json_read_text(text, (size_t)t->bytes, what, 0, &state, err);
    if (rc == GRAFT_OK) rc = read_state(state, what, w, err);
    json_decref(state);
    free(what);
    return rc;
}

/* ---- 4 bits: the tensors ---- */

static int read_maps(const safetensors *st, const char *weight, bnb_weight *w, graft_error *err) {
    const float *const book = w->fp4 ? codebook_fp4 : codebook_nf4;
    const tensor_info *t;
    int rc = need_list(st, weight, ".quant_map", F32, 16, &t, err);
    if (rc == GRAFT_OK) rc = safetensors_read(st, t, w->code, err);
    for (int i = 0; i < 16 && rc == GRAFT_OK; i++)
        if (!(fabsf(w->code[i] - book[i]) <= 1e-6f))
            rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\": code %d is %.9g; in %s it is %.9g",
                      safetensors_path(st, t->shard), t->name, i, (double)w->code[i], type_names[w->fp4],
                      (double)book[i]);
    if (rc != GRAFT_OK || !w->nested) return rc;
    w->nested_scales = (w->scales + w->nested_block - 1) / w->nested_block;
    rc = need_list(st, weight, ".nested_absmax", F32, w->nested_scales, &w->nested_absmax, err);
    if (rc == GRAFT_OK) rc = need_list(st, weight, ".nested_quant_map", F32, 256, &t, err);
    if (rc == GRAFT_OK) rc = safetensors_read(st, t, w->nested_code, err);
    return rc == GRAFT_OK ? check_map(st, t, w->nested_code, err) : rc;
}

static int read_4bit(const safetensors *st, const char *weight, bnb_weight *w, graft_error *err) {
    const tensor_info *const nf4 = find_state(st, weight, 0), *const fp4 = find_state(st, weight, 1);
    if (nf4 && fp4)
        return fail(err, GRAFT_FAILED, "%s: weight \"%s\" has two states, nf4 and fp4", safetensors_name(st), weight);
    w->kind = BNB_4BIT;
    w->fp4 = fp4 != NULL;
    w->nested = find(st, weight, ".nested_absmax") || find(st, weight, ".nested_quant_map");
    int rc = check_siblings(st, weight, BNB_4BIT, err);
    if (rc == GRAFT_OK && find_beside(st, weight, "SCB"))
        rc = fail(err, GRAFT_FAILED, "%s: weight \"%s\" has the state of 4 bits and the SCB of 8", safetensors_name(st),
                  weight);
    if (rc == GRAFT_OK) rc = read_state_tensor(st, fp4 ? fp4 : nf4, w, err);
    if (rc == GRAFT_OK) rc = safetensors_need(st, weight, &w->codes, err);
    if (rc != GRAFT_OK) return rc;
    const int64_t bytes = w->count / 2 + w->count % 2;
    w->scales = (w->count - 1) / w->block + 1;
    if (w->codes->bytes != bytes) {
        char *const wanted =
            mem_format("its state needs %lld bytes (%lld elements)", (long long)bytes, (long long)w->count);
        rc = refuse(st, w->codes, wanted, err);
        free(wanted);
        return rc;
    }
    rc = need_list(st, weight, ".absmax", w->nested ? U8 : F32, w->scales, &w->absmax, err);
    return rc == GRAFT_OK ? read_maps(st, weight, w, err) : rc;
}

/* ---- 8 bits ---- */

static int read_8bit(const safetensors *st, const char *weight, bnb_weight *w, graft_error *err) {
    const tensor_info *const format = find_beside(st, weight, "weight_format");
    w->kind = BNB_8BIT;
    w->absmax = find_beside(st, weight, "SCB");
    w->type = F32;
    int rc = check_siblings(st, weight, BNB_8BIT, err);
    if (rc == GRAFT_OK) rc = safetensors_need(st, weight, &w->codes, err);
    if (rc != GRAFT_OK) return rc;
    if (w->codes->dtype != I8 || w->codes->rank != 2)
        return refuse(st, w->codes, "a bitsandbytes weight is I8 [out, in]", err);
    w->rank = 2, w->count = w->codes->count, w->scales = w->codes->shape[0];
    memcpy(w->shape, w->codes->shape, sizeof w->shape);
    if (w->absmax->dtype != F32 || w->absmax->rank != 1 || w->absmax->count != w->scales) {
        char *const wanted = mem_format("F32 [%lld] belongs to this weight", (long long)w->scales);
        rc = refuse(st, w->absmax, wanted, err);
        free(wanted);
        return rc;
    }
    uint8_t order = 0;
    if (format && (format->dtype != U8 || format->count != 1)) return refuse(st, format, "one U8 belongs there", err);
    if (format) rc = safetensors_read(st, format, &order, err);
    if (rc == GRAFT_OK && order != 0)
        rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %d, an order of old GPUs; only 0 (rows) is read",
                  safetensors_path(st, format->shard), format->name, order);
    return rc;
}

int bnb_read(const safetensors *st, const char *weight, bnb_weight *out, graft_error *err) {
    *out = (bnb_weight){0};
    switch (bnb_find(st, weight)) {
    case BNB_4BIT:
        return read_4bit(st, weight, out, err);
    case BNB_8BIT:
        return read_8bit(st, weight, out, err);
    case BNB_NONE:
        break;
    }
    return fail(err, GRAFT_FAILED, "%s: weight \"%s\" has no state of bitsandbytes", safetensors_name(st), weight);
}

int bnb_names_code(bnb_weight *w) {
    const codebook_kind kind = codebook_of(w->code);
    w->fp4 = kind == CODEBOOK_FP4;
    return kind != CODEBOOK_OTHER;
}

/* ---- data ---- */

int bnb_read_codes(const safetensors *st, const bnb_weight *w, void *dst, graft_error *err) {
    return safetensors_read(st, w->codes, dst, err);
}

int bnb_read_nested(const safetensors *st, const bnb_weight *w, uint8_t *codes, float *nested_absmax,
                    graft_error *err) {
    int rc = safetensors_read(st, w->absmax, codes, err);
    if (rc == GRAFT_OK) rc = safetensors_read(st, w->nested_absmax, nested_absmax, err);
    return rc == GRAFT_OK ? check_scales(st, w->nested_absmax, nested_absmax, w->nested_scales, err) : rc;
}

int bnb_read_scales(const safetensors *st, const bnb_weight *w, float *dst, graft_error *err) {
    if (!w->nested) {
        const int rc = safetensors_read(st, w->absmax, dst, err);
        return rc == GRAFT_OK ? check_scales(st, w->absmax, dst, w->scales, err) : rc;
    }
    uint8_t *const codes = mem_new((size_t)w->scales, 1);
    float *const nested = mem_new((size_t)w->nested_scales, sizeof *nested);
    const int rc = bnb_read_nested(st, w, codes, nested, err);
    for (int64_t b = 0; b < w->scales && rc == GRAFT_OK; b++) {
        const float scaled = w->nested_code[codes[b]] * nested[b / w->nested_block]; /* rounded, then the sum is */
        dst[b] = scaled + w->nested_offset;
    }
    free(nested);
    free(codes);
    return rc;
}
