/* gptq — see gptq.h. A column of qweight is, word after word, the stream of bits that a row is on the device, so reading and
 * writing codes turns a matrix of words and never looks at a code. */
#include "formats/gptq.h"
#include "kernels/bits.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_MOST = 1 << 16 };

/* ---- config.json ---- */

/* What a key must hold, where it is there at all, for the tensors to mean what gptq.h says. */
static int check_keys(const json_t *q, const char *what, graft_error *err) {
    static const struct {
        const char *key, *allowed, *why;
    } keys[] = {
        {"pack_dtype",       "int32", "codes are read from words of 32 bits"   },
        {"is_marlin_format", NULL,    "Marlin orders codes for one kind of GPU"},
        {"rotation",         NULL,    "a rotated model computes something else"},
        {"adapter",          NULL,    "its corrections would be missing"       },
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *const value = json_object_get(q, keys[i].key);
        const char *const text = json_string_value(value);
        if (!value || json_is_null(value) || json_is_false(value) || (text && !*text)) continue;
        if (text && keys[i].allowed && strcmp(text, keys[i].allowed) == 0) continue;
        char *const is = json_dumps(value, JSON_ENCODE_ANY);
        fail(err, GRAFT_FAILED, "%s: quantization_config: \"%s\" is %s: %s", what, keys[i].key, is, keys[i].why);
        free(is);
        return GRAFT_FAILED;
    }
    return GRAFT_OK;
}

/* "dynamic" may only say what stays as it is ("-:PATTERN"), which the tensors say themselves. */
static int check_dynamic(const json_t *q, const char *what, graft_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(q, "dynamic"), key, value) {
        if (strncmp(key, "-:", 2) != 0)
            return fail(
                err, GRAFT_FAILED,
                "%s: quantization_config: \"dynamic\" gives modules settings of their own (%s); one setting for "
                "all is read",
                what, key);
    }
    return GRAFT_OK;
}

int gptq_config_read(const json_t *q, const char *what, gptq_config *out, graft_error *err) {
    const char *format, *also;
    int64_t bits, group;
    int symmetric, by_order;
    if (check_keys(q, what, err) || check_dynamic(q, what, err) || json_get_int(q, what, "bits", 0, &bits, err) ||
        json_get_int(q, what, "group_size", 0, &group, err) || json_get_bool(q, what, "sym", 0, &symmetric, err) ||
        json_get_bool(q, what, "desc_act", 0, &by_order, err) || json_get_text(q, what, "format", "gptq", &also, err) ||
        json_get_text(q, what, "checkpoint_format", also, &format, err))
        return err->code;
    if (strcmp(format, also) != 0 && json_object_get(q, "format"))
        return fail(err, GRAFT_FAILED,
                    "%s: quantization_config: \"checkpoint_format\" is \"%s\", but \"format\" is \"%s\"", what, format,
                    also);
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return fail(err, GRAFT_FAILED, "%s: quantization_config: \"bits\" is %lld; 2, 3, 4 and 8 are read", what,
                    (long long)bits);
    if (group != -1 && (group < 8 || group > GROUP_MOST || group % 8))
        return fail(err, GRAFT_FAILED,
                    "%s: quantization_config: \"group_size\" is %lld; -1 and multiples of 8 up to %d are read", what,
                    (long long)group, GROUP_MOST);
    if (strcmp(format, "gptq") != 0 && strcmp(format, "gptq_v2") != 0)
        return fail(err, GRAFT_FAILED,
                    "%s: quantization_config: \"checkpoint_format\" is \"%s\"; \"gptq\" and \"gptq_v2\" are read", what,
                    format);
    *out = (gptq_config){(int32_t)bits, group, symmetric, strcmp(format, "gptq_v2") == 0, by_order};
    return GRAFT_OK;
}

/* "-:^MODULE$", the dots of the name escaped. */
static void add_plain(json_t *dynamic, const char *module) {
    strbuf pattern = {0};
    strbuf_printf(&pattern, "-:^");
    for (const char *c = module; *c; c++)
        strbuf_printf(&pattern, *c == '.' ? "\\%c" : "%c", *c);
    strbuf_printf(&pattern, "$");
    json_object_set_new(dynamic, pattern.text, json_object());
    strbuf_free(&pattern);
}

/* Where layers stay plain, some tools look for their patterns in "dynamic", others for the rest in a list. */
json_t *gptq_config_write(const gptq_config *c, const char *const *modules, const int32_t *packed, int32_t count) {
    json_t *const dynamic = json_object(), *const names = json_array();
    const char *const format = c->plain_zeros ? "gptq_v2" : "gptq";
    int head = 0;
    for (int32_t i = 0; i < count; i++) {
        const int is_head = strcmp(modules[i], "lm_head") == 0; /* left alone by itself */
        head |= is_head && packed[i];
        if (packed[i])
            json_array_append_new(names, json_string(modules[i]));
        else if (!is_head)
            add_plain(dynamic, modules[i]);
    }
    json_t *const q =
        json_pack("{s:I, s:s, s:b, s:s, s:I, s:b, s:s, s:s, s:b}", "bits", (json_int_t)c->bits, "checkpoint_format",
                  format, "desc_act", 0, "format", format, "group_size", (json_int_t)c->group_size, "lm_head", head,
                  "pack_dtype", "int32", "quant_method", "gptq", "sym", c->symmetric);
    if (json_object_size(dynamic)) {
        json_object_set(q, "dynamic", dynamic);
        json_object_set_new(q, "modules_in_block_to_quantize", json_pack("[O]", names));
    }
    json_decref(dynamic);
    json_decref(names);
    return q;
}

/* ---- checks ---- */

int gptq_lay_out(const gptq_config *c, int64_t out, int64_t in, const char *name, gptq_weight *w, graft_error *err) {
    if (in * c->bits % 32 || out * c->bits % 32)
        return fail(
            err, GRAFT_USAGE,
            "%s is [%lld, %lld]: GPTQ's files keep %d bits in words of 32, so both sides must be multiples of %d", name,
            (long long)out, (long long)in, (int)c->bits, c->bits == 3 ? 32 : 32 / c->bits);
    *w = (gptq_weight){.config = *c, .out = out, .in = in, .groups = 1, .group = (in + 7) / 8 * 8};
    if (c->group_size > 0 && c->group_size < in) {
        w->group = c->group_size;
        w->groups = (in + w->group - 1) / w->group;
    }
    w->row = w->groups * w->group * c->bits / 8;
    return GRAFT_OK;
}

/* P.SUFFIX beside P.qweight: (rows, columns), or a list when columns is 0. */
static int need(const safetensors *st, const tensor_info *codes, const char *suffix, int64_t rows, int64_t columns,
                const tensor_info **out, graft_error *err) {
    const size_t module = strlen(codes->name) - strlen("qweight");
    char *const name = mem_format("%.*s%s", (int)module, codes->name, suffix);
    int rc = safetensors_need(st, name, out, err);
    free(name);
    if (rc != GRAFT_OK) return rc;
    const tensor_info *const t = *out;
    const int scales = strcmp(suffix, "scales") == 0;
    const int typed = scales ? t->dtype == F16 || t->dtype == BF16 || t->dtype == F32 : t->dtype == I32;
    if (typed && t->rank == (columns ? 2 : 1) && t->shape[0] == rows && (!columns || t->shape[1] == columns))
        return GRAFT_OK;
    char *const is = tensor_describe(t);
    rc = columns ? fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %s; %s [%lld, %lld] belongs to this weight",
                        safetensors_path(st, t->shard), t->name, is, scales ? "F16" : "I32", (long long)rows,
                        (long long)columns)
                 : fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %s; I32 [%lld] belongs to this weight",
                        safetensors_path(st, t->shard), t->name, is, (long long)rows);
    free(is);
    return rc;
}

/* Inputs must lie in the order of the weight. */
static int check_order(const safetensors *st, const gptq_weight *w, graft_error *err) {
    if (!w->order) {
        if (!w->config.by_order) return GRAFT_OK;
        return fail(err, GRAFT_FAILED, "%s: config.json says desc_act, but %s has no g_idx", safetensors_name(st),
                    w->codes->name);
    }
    int32_t *const order = mem_new((size_t)w->in, sizeof *order);
    safetensors_read(st, w->order, order, err);
    for (int64_t i = 0; i < w->in && !err->code; i++)
        if (order[i] != i / w->group)
            fail(err, GRAFT_FAILED,
                 "%s: tensor \"%s\": input %lld belongs to group %d, not %lld: weights in the order of activations "
                 "(desc_act) are not read",
                 safetensors_path(st, w->order->shard), w->order->name, (long long)i, (int)order[i],
                 (long long)(i / w->group));
    free(order);
    return err->code;
}

int gptq_read(const safetensors *st, const tensor_info *codes, const gptq_config *c, int64_t out, int64_t in,
              gptq_weight *w, graft_error *err) {
    if (gptq_lay_out(c, out, in, codes->name, w, err)) {
        err->code = GRAFT_FAILED;
        return err->code;
    }
    if (need(st, codes, "qweight", in * c->bits / 32, out, &w->codes, err) ||
        need(st, codes, "qzeros", w->groups, out * c->bits / 32, &w->zeros, err) ||
        need(st, codes, "scales", w->groups, out, &w->scales, err))
        return err->code;
    char *const order = mem_format("%.*sg_idx", (int)(strlen(codes->name) - strlen("qweight")), codes->name);
    if (safetensors_find(st, order)) need(st, codes, "g_idx", in, 0, &w->order, err);
    free(order);
    return err->code ? err->code : check_order(st, w, err);
}

/* ---- data ---- */

/* Words (rows, columns) to (columns, rows), a row of the target every `pitch` bytes, by tiles that stay in the cache. */
static void turn_words(uint8_t *to, int64_t pitch, const uint8_t *from, int64_t from_pitch, int64_t rows,
                       int64_t columns) {
    enum { TILE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < columns; c0 += TILE)
            for (int64_t r = r0; r < r0 + TILE && r < rows; r++)
                for (int64_t c = c0; c < c0 + TILE && c < columns; c++)
                    memcpy(to + c * pitch + 4 * r, from + r * from_pitch + 4 * c, 4);
}

int gptq_read_codes(const safetensors *st, const gptq_weight *w, uint8_t *dst, graft_error *err) {
    uint8_t *const words = mem_new((size_t)w->codes->bytes + 1, 1);
    if (safetensors_read(st, w->codes, words, err) == GRAFT_OK) {
        memset(dst, 0, (size_t)(w->out * w->row));
        turn_words(dst, w->row, words, 4 * w->out, w->codes->shape[0], w->out);
    }
    free(words);
    return err->code;
}

void gptq_write_codes(const gptq_weight *w, const uint8_t *codes, uint8_t *words) {
    turn_words(words, 4 * w->out, codes, w->row, w->out, w->in * w->config.bits / 32);
}

int gptq_read_scales(const safetensors *st, const gptq_weight *w, float *dst, graft_error *err) {
    float *const columns = mem_new((size_t)w->scales->count + 1, sizeof *columns);
    safetensors_read_as(st, w->scales, columns, F32, err);
    for (int64_t i = 0; i < w->scales->count && !err->code; i++) {
        dst[i % w->out * w->groups + i / w->out] = columns[i];
        if (!isfinite(columns[i]))
            fail(err, GRAFT_FAILED, "%s: tensor \"%s\": element %lld is %g", safetensors_path(st, w->scales->shard),
                 w->scales->name, (long long)i, (double)columns[i]);
    }
    free(columns);
    return err->code;
}

int gptq_read_zeros(const safetensors *st, const gptq_weight *w, uint8_t *dst, graft_error *err) {
    const int bits = w->config.bits;
    const unsigned less = w->config.plain_zeros ? 0 : 1;
    uint8_t *const words = mem_new((size_t)w->zeros->bytes + 1, 1);
    safetensors_read(st, w->zeros, words, err);
    for (int64_t i = 0; i < w->groups * w->out && !err->code; i++) {
        const unsigned zero = bits_get(words, i, bits) + less;
        dst[i % w->out * w->groups + i / w->out] = (uint8_t)zero;
        if (zero > 255 || (w->config.symmetric && zero != 1u << (bits - 1)))
            fail(err, GRAFT_FAILED, "%s: tensor \"%s\": zero point %lld is %u%s", safetensors_path(st, w->zeros->shard),
                 w->zeros->name, (long long)i, zero,
                 zero > 255 ? ", beyond 255" : ", but config.json says \"sym\": they would all lie in the middle");
    }
    free(words);
    return err->code;
}

/* ---- writing ---- */

static tensor_out *add(tensor_out *list, int32_t *count, const char *name, dtype type, int64_t rows, int64_t columns,
                       const void *data) {
    tensor_out *const t = &list[(*count)++];
    *t = (tensor_out){
        .name = name, .dtype = type, .rank = columns ? 2 : 1, .shape = {rows, columns},
                       .data = data
    };
    return t;
}

/* (out, groups) to (groups, out), as halves where that changes none of them. */
static const void *turn_scales(const gptq_weight *w, const float *scales, arena *memory, dtype *type) {
    const int64_t count = w->out * w->groups;
    float *const turned = arena_new(memory, (size_t)count, sizeof *turned);
    *type = F16;
    for (int64_t i = 0; i < count; i++) {
        turned[i] = scales[i % w->out * w->groups + i / w->out];
        if (f16_to_f32(f32_to_f16(turned[i])) != turned[i]) *type = F32;
    }
    if (*type == F32) return turned;
    uint16_t *const halves = arena_new(memory, (size_t)count, sizeof *halves);
    dtype_convert(halves, F16, turned, F32, count);
    return halves;
}

int32_t gptq_tensors(const char *weight, const gptq_weight *w, const void *codes, const float *scales,
                     const uint8_t *zeros, arena *memory, tensor_out list[GPTQ_TENSORS]) {
    const int module = (int)(strlen(weight) - strlen("weight")), bits = w->config.bits;
    const unsigned less = w->config.plain_zeros ? 0 : 1;
    uint8_t *const words = arena_new(memory, (size_t)(w->groups * w->out * bits / 8), 1);
    int32_t *const order = arena_new(memory, (size_t)w->in, sizeof *order), count = 0;
    for (int64_t i = 0; i < w->groups * w->out; i++)
        bits_put(words, i, bits, (zeros ? zeros[i % w->out * w->groups + i / w->out] : 1u << (bits - 1)) - less);
    for (int64_t i = 0; i < w->in; i++)
        order[i] = (int32_t)(i / w->group);
    dtype type;
    const void *const turned = turn_scales(w, scales, memory, &type);
    add(list, &count, arena_format(memory, "%.*sqweight", module, weight), I32, w->in * bits / 32, w->out, codes);
    add(list, &count, arena_format(memory, "%.*sqzeros", module, weight), I32, w->groups, w->out * bits / 32, words);
    add(list, &count, arena_format(memory, "%.*sscales", module, weight), type, w->groups, w->out, turned);
    add(list, &count, arena_format(memory, "%.*sg_idx", module, weight), I32, w->in, 0, order);
    return count;
}
