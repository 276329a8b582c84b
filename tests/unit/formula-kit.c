/* formula-kit — see the header. */
#include "formula-kit.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kit *counted; /* whose calls the wrapped kernels count; tests run one at a time in a process of their own */
static kernels *inner;

static void count_gemm(kernels *k, const gemm_call *g) {
    (void)k;
    counted->gemms++;
    inner->gemm(inner, g);
}
static void count_map(kernels *k, const map_program *p, const map_call *c) {
    (void)k;
    counted->maps++;
    inner->map(inner, p, c);
}
static void count_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                          dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                          int32_t count) {
    (void)k;
    counted->weights++;
    inner->weight_forward(inner, w, bias, x, x_type, y, y_type, rows, accumulate, alpha, terms, count);
}
static void count_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                       const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                       const lowrank_term *terms, int32_t count) {
    (void)k;
    counted->weights++;
    inner->weight_input_grad(inner, w, dy, dy_type, dx, dx_type, x, x_type, rows, accumulate, alpha, terms, count);
}
static void count_sqnorm(kernels *k, const weight *w, void *norms) {
    (void)k;
    counted->weights++;
    inner->weight_row_sqnorm(inner, w, norms);
}

/* ---- the world ---- */

kit *kit_new(const char *tensors) {
    kit *const k = mem_new(1, sizeof *k);
    char *const copy = mem_copy_text(tensors), *part_end = NULL;
    k->rows = KIT_ROWS, k->seed = 42, k->stream = 5;
    for (char *part = strtok_r(copy, ";", &part_end); part; part = strtok_r(NULL, ";", &part_end)) {
        char *word_end = NULL;
        formula_tensor *const t = &k->tensors[k->tensor_count++];
        t->name = mem_copy_text(strtok_r(part, " ", &word_end));
        t->may = FORMULA_READ | FORMULA_WRITE, t->type = F32;
        for (char *word; (word = strtok_r(NULL, " ", &word_end));)
            t->shape[t->rank++] = strcmp(word, "rows") == 0 ? FORMULA_ROWS : strtol(word, NULL, 10);
    }
    free(copy);
    return k;
}

void kit_free(kit *k) {
    for (int32_t i = 0; i < k->tensor_count; i++) {
        free(k->values[i]), free(k->result[i]);
        free((void *)(uintptr_t)k->tensors[i].name);
    }
    free(k->onehot);
    free(k);
}

static int32_t find(const kit *k, const char *name) {
    for (int32_t i = 0; i < k->tensor_count; i++)
        if (strcmp(k->tensors[i].name, name) == 0) return i;
    cr_assert_fail("the test names no tensor %s", name);
    return -1;
}

static double *filled(kit *k, int32_t t) {
    if (k->values[t]) return k->values[t];
    const formula_tensor *const info = &k->tensors[t];
    int64_t count = 1;
    for (int32_t d = 0; d < info->rank; d++)
        count *= info->shape[d] == FORMULA_ROWS ? k->rows : info->shape[d];
    k->count[t] = count;
    k->values[t] = mem_new((size_t)count, sizeof(double));
    k->result[t] = mem_new((size_t)count, sizeof(double));
    for (int64_t i = 0; i < count; i++) /* exact in f32 and bf16, so that types differ in arithmetic alone */
        k->values[t][i] = floor(2 * 127 * philox_uniform(7, (uint64_t)t, (uint64_t)i) - 127) / 128 + 0x1p-8;
    if (info->kind == FORMULA_ONEHOT) {
        const int64_t in = info->shape[1];
        k->onehot = mem_new((size_t)k->rows, sizeof *k->onehot);
        memset(k->values[t], 0, (size_t)count * sizeof(double));
        for (int64_t n = 0; n < k->rows; n++) {
            k->onehot[n] = (int32_t)((5 * n + 2) % in);
            k->values[t][n * in + k->onehot[n]] = 1;
        }
    }
    return k->values[t];
}

formula_tensor *kit_tensor(kit *k, const char *name) {
    return &k->tensors[find(k, name)];
}
double *kit_values(kit *k, const char *name) {
    return filled(k, find(k, name));
}
double *kit_result(kit *k, const char *name) {
    return k->result[find(k, name)];
}
int64_t kit_count(const kit *k, const char *name) {
    return k->count[find(k, name)];
}
void kit_number(kit *k, const char *name, double value) {
    int32_t n = 0;
    while (n < k->number_count && strcmp(k->numbers[n], name))
        n++;
    if (n == k->number_count) k->numbers[k->number_count++] = name;
    k->number_values[n] = value;
}

/* ---- runs ---- */

static formula_scope scope_of(const kit *k, formula_tensor *tensors, int32_t maps_only, dtype real) {
    for (int32_t i = 0; i < k->tensor_count; i++) {
        tensors[i] = k->tensors[i];
        if (maps_only) tensors[i].kind = FORMULA_TENSOR;
    }
    return (formula_scope){.tensors = tensors,
                           .tensor_count = k->tensor_count,
                           .numbers = k->numbers,
                           .number_count = k->number_count,
                           .where = "demo forward at layer.0",
                           .real = real};
}

static dtype stored_type(const formula_tensor *t, kit_way way, dtype real) {
    if (t->activation) return way.activation == F64 ? real : way.activation;
    return t->type == F32 ? real : t->type;
}

/* Packed stores keep what they get: (count) small whole numbers as nibbles or codes. */
static int64_t stored_bytes(const formula_tensor *t, dtype type, int64_t count) {
    return t->store == STORE_U4 || t->store == STORE_U4_HIGH ? (count + 1) / 2 : count * dtype_bytes(type);
}

static void *upload(kernels *d, const formula_tensor *t, dtype type, const double *values, int64_t count) {
    const int64_t bytes = stored_bytes(t, type, count);
    unsigned char *const host = mem_new((size_t)bytes + 8, 1);
    void *const dev = d->alloc(d, bytes + 8);
    if (t->store == STORE_PLAIN && dtype_is_float(type)) dtype_convert(host, type, values, F64, count);
    for (int64_t i = 0; i < count; i++) {
        if (t->store == STORE_U4 || t->store == STORE_U4_HIGH)
            host[i / 2] |= (unsigned char)(((int)values[i] & 15) << ((i % 2 == 0) == (t->store == STORE_U4) ? 0 : 4));
        else if (type == I8)
            ((int8_t *)host)[i] = (int8_t)values[i];
        else if (type == U8)
            host[i] = t->store == STORE_PLAIN ? (unsigned char)values[i] : 0;
    }
    d->upload(d, dev, host, bytes);
    free(host);
    return dev;
}

static void download(kernels *d, const formula_tensor *t, dtype type, const void *dev, double *values, int64_t count) {
    const int64_t bytes = stored_bytes(t, type, count);
    unsigned char *const host = mem_new((size_t)bytes + 8, 1);
    d->download(d, host, dev, bytes);
    if (t->store == STORE_PLAIN && dtype_is_float(type)) dtype_convert(values, F64, host, type, count);
    for (int64_t i = 0; i < count; i++) {
        if (t->store == STORE_U4 || t->store == STORE_U4_HIGH)
            values[i] = host[i / 2] >> ((i % 2 == 0) == (t->store == STORE_U4) ? 0 : 4) & 15;
        else if (type == I8)
            values[i] = ((int8_t *)host)[i];
        else if (type == U8)
            values[i] = host[i];
    }
    free(host);
}

int kit_check(kit *k, const char *text) {
    formula_tensor tensors[KIT_TENSORS];
    const formula_scope scope = scope_of(k, tensors, 0, F32);
    formula *f = NULL;
    memset(&k->err, 0, sizeof k->err);
    const int code = formula_compile(text, &scope, &f, &k->err);
    cr_assert_eq(code != 0, f == NULL);
    formula_free(f);
    return code;
}

int kit_run(kit *k, const char *text, kit_way way) {
    formula_tensor tensors[KIT_TENSORS];
    formula_binding bindings[KIT_TENSORS] = {0};
    weight weights[KIT_TENSORS] = {0};
    int32_t *ids = NULL;
    kernels table;
    formula *f = NULL;
    memset(&k->err, 0, sizeof k->err);
    if (kernels_open(way.device ? way.device : "ref64", NULL, &inner, &k->err)) cr_assert_fail("%s", k->err.text);
    const formula_scope scope = scope_of(k, tensors, way.maps_only, inner->real);
    const int64_t rows = way.rows_zero ? 0 : k->rows;
    if (formula_compile_as(text, &scope, way.maps_only ? LOWER_MAPS_ONLY : 0, &f, &k->err)) goto done;
    for (int32_t i = 0; i < k->tensor_count; i++) {
        filled(k, i);
        const dtype type = stored_type(&tensors[i], way, inner->real);
        bindings[i].data = upload(inner, &tensors[i], type, k->values[i], k->count[i]);
        if (tensors[i].store == STORE_BLOCKS8 || tensors[i].store == STORE_BLOCKS8_UNSIGNED)
            bindings[i].scale = inner->alloc(inner, (k->count[i] / 256 + 1) * 4);
        if (tensors[i].kind == FORMULA_WEIGHT) {
            weights[i] = (weight){.out = tensors[i].shape[0],
                                  .in = tensors[i].shape[1],
                                  .layout = WEIGHT_PLAIN,
                                  .type = type,
                                  .data = bindings[i].data};
            inner->weight_pack(inner, &weights[i]);
            bindings[i].w = &weights[i];
        }
        if (tensors[i].kind == FORMULA_ONEHOT) {
            ids = inner->alloc(inner, k->rows * 4);
            inner->upload(inner, ids, k->onehot, k->rows * 4);
            bindings[i].onehot = ids;
        }
    }
    table = *inner;
    table.gemm = count_gemm, table.map = count_map;
    table.weight_forward = count_forward, table.weight_input_grad = count_grad, table.weight_row_sqnorm = count_sqnorm;
    counted = k, k->gemms = k->maps = k->weights = 0;
    void *const scratch = inner->alloc(inner, formula_scratch(f, rows) + 64);
    const formula_run_call call = {.device = &table,
                                   .bindings = bindings,
                                   .numbers = k->number_values,
                                   .rows = rows,
                                   .activation = way.activation == F64 ? inner->real : way.activation,
                                   .scratch = scratch,
                                   .seed = k->seed,
                                   .stream = k->stream,
                                   .err = &k->err};
    formula_run(f, &call);
    inner->release(inner, scratch);
    for (int32_t i = 0; i < k->tensor_count; i++) {
        download(inner, &tensors[i], stored_type(&tensors[i], way, inner->real), bindings[i].data, k->result[i],
                 k->count[i]);
        if (weights[i].packed) inner->weight_unpack(inner, &weights[i]);
        inner->release(inner, bindings[i].data), inner->release(inner, bindings[i].scale);
    }
    inner->release(inner, ids);
done:
    formula_free(f);
    inner->close(inner);
    return k->err.code;
}

double kit_products_against_map(kit *k, const char *text) {
    double *expected[KIT_TENSORS], worst = 0;
    cr_assert_eq(kit_run(k, text, (kit_way){.maps_only = 1}), 0, "%s", k->err.text);
    for (int32_t i = 0; i < k->tensor_count; i++) {
        expected[i] = k->result[i];
        k->result[i] = mem_new((size_t)k->count[i], sizeof(double));
    }
    cr_assert_eq(kit_run(k, text, (kit_way){0}), 0, "%s", k->err.text);
    for (int32_t i = 0; i < k->tensor_count; i++) {
        double most = 1e-30, difference = 0;
        for (int64_t e = 0; e < k->count[i]; e++) {
            most = fmax(most, fabs(expected[i][e]));
            difference = fmax(difference, fabs(expected[i][e] - k->result[i][e]));
            if (isnan(expected[i][e]) || isnan(k->result[i][e])) difference = INFINITY;
        }
        worst = fmax(worst, difference / most);
        free(expected[i]);
    }
    return worst;
}
