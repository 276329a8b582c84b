/* quant — every quantizer against the shared goldens: codes and scales to the last bit, by the fused kernels and by the formulas of
 * the plugin alike. */
#include "../kernels/golden.h"
#include "base/json.h"
#include "kernels/bits.h"
#include "kernels/codebook.h"
#include "quant-kit.h"
#include <math.h>
#include <string.h>

TestSuite(quant, .timeout = 60);

static json_t *cases(const char *file) {
    char *path = mem_format("%s/golden/quant/%s", SHARED_DIR, file);
    json_t *root = NULL;
    graft_error err = {0};
    if (access(path, R_OK)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(path, 0, &root, &err), 0, "%s", err.text);
    free(path);
    return root;
}

static const char *text_of(const json_t *c, const char *key) {
    return json_string_value(json_object_get(c, key));
}

static safetensors *case_data(const json_t *c) {
    char *name = mem_format("quant/%s", text_of(c, "file"));
    safetensors *st = golden_open(name);
    free(name);
    return st;
}

/* ---- 4 bits ---- */

static int is_listed(const json_t *list, int64_t value) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == value) return 1;
    return 0;
}

static int nibble(const uint8_t *codes, int64_t i) {
    return (int)bits_get(codes, i ^ 1, 4);
}

static void check_codes(const json_t *c, const safetensors *st, const uint8_t *mine, int64_t n, int64_t block,
                        const char *who) {
    int64_t near_count;
    uint8_t *want = golden_tensor(st, "packed_graft", U8, NULL), *allowed = golden_tensor(st, "near_codes", U8, NULL);
    int64_t *near = golden_tensor(st, "near", I64, &near_count);
    for (int64_t i = 0; i < n; i++) {
        const int code = nibble(mine, i);
        int fine = code == nibble(want, i) || is_listed(json_object_get(c, "unpinned_blocks"), i / block);
        for (int64_t j = 0; j < near_count; j++)
            fine |= near[j] == i && (code == allowed[2 * j] || code == allowed[2 * j + 1]);
        cr_expect(fine, "%s by %s: element %lld has code %d, not %d", text_of(c, "name"), who, (long long)i, code,
                  nibble(want, i));
    }
    free(want);
    free(allowed);
    free(near);
}

static void check_4bit(const json_t *c, const char *device) {
    safetensors *st = case_data(c);
    int64_t n, blocks;
    float *x = golden_tensor(st, "x", F32, &n), *absmax = golden_tensor(st, "absmax", F32, &blocks);
    const int64_t block = json_integer_value(json_object_get(c, "blocksize"));
    const json_t *shape = json_object_get(c, "shape");
    const int64_t out = json_array_size(shape) > 1 ? json_integer_value(json_array_get(shape, 0)) : 1;
    char *options = mem_format("type=%s block_size=%lld", text_of(c, "quant_type"), (long long)block);
    packed p = kit_pack(device, "quant-nf4", options, 0, x, out, n / out, F32);
    uint8_t *codes = kit_download(&p, p.t.w.data, (n + 1) / 2);
    float *scale = kit_download(&p, p.t.w.scale, blocks * 4), *fused = kit_read(&p), *formulas = kit_read_formulas(&p);
    check_codes(c, st, codes, n, block, device);
    for (int64_t b = 0; b < blocks && json_is_false(json_object_get(c, "double_quant")); b++)
        cr_expect(scale[b] == absmax[b] || (scale[b] == 0 && absmax[b] <= 1.1e-38f) ||
                      is_listed(json_object_get(c, "unpinned_blocks"), b),
                  "%s: absmax %lld", text_of(c, "name"), (long long)b);
    for (int64_t i = 0; i < n; i++)
        cr_expect(fused[i] == formulas[i] && isfinite(fused[i]), "%s: element %lld is %g by the kernel, %g by formula",
                  text_of(c, "name"), (long long)i, (double)fused[i], (double)formulas[i]);
    free(options);
    free(x);
    free(absmax);
    free(codes);
    free(scale);
    free(fused);
    free(formulas);
    kit_close(&p);
    safetensors_close(st);
}

static void each_4bit(const char *device) {
    json_t *root = cases("4bit.json");
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++)
        check_4bit(json_array_get(json_object_get(root, "cases"), i), device);
    json_decref(root);
}

Test(quant, nf4_and_fp4_by_the_fused_kernels) {
    each_4bit("cpu");
}

Test(quant, nf4_and_fp4_by_their_formulas) {
    each_4bit("ref"); /* the references run what the plugin wrote */
}

/* ---- 8 bits ---- */

static void check_int8(const json_t *c, const char *device, int flags) {
    safetensors *st = case_data(c);
    const int64_t out = json_integer_value(json_object_get(c, "out")),
                  in = json_integer_value(json_object_get(c, "in"));
    float *w = golden_tensor(st, "w", F32, NULL), *scb = golden_tensor(st, "SCB", F32, NULL);
    int8_t *want = golden_tensor(st, "CB_graft", I8, NULL);
    packed p = kit_pack(device, "quant-int8", "", flags, w, out, in, F32);
    const quantize_custom *own = (const quantize_custom *)(const void *)p.t.w.custom;
    int8_t *codes = kit_download(&p, own ? own->slots[0] : p.t.w.data, out * in);
    float *scale = kit_download(&p, own ? own->slots[1] : p.t.w.scale, out * 4), *deq = kit_read(&p),
          *formulas = kit_read_formulas(&p);
    cr_expect_arr_eq(codes, want, (size_t)(out * in), "%s on %s: codes", text_of(c, "name"), device);
    cr_expect_arr_eq(scale, scb, (size_t)out * sizeof *scb, "%s on %s: scales", text_of(c, "name"), device);
    for (int64_t i = 0; i < out * in; i++) {
        cr_expect_eq(deq[i], (float)want[i] * scb[i / in] * ROWS8_UNIT);
        cr_expect_eq(deq[i], formulas[i]);
    }
    free(w);
    free(scb);
    free(want);
    free(codes);
    free(scale);
    free(deq);
    free(formulas);
    kit_close(&p);
    safetensors_close(st);
}

Test(quant, int8_rows_by_kernels_formulas_and_as_a_custom_layout) {
    json_t *root = cases("int8.json");
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++)
        for (int flags = 0; flags <= KIT_CUSTOM; flags++) {
            check_int8(json_array_get(json_object_get(root, "cases"), i), "cpu", flags);
            check_int8(json_array_get(json_object_get(root, "cases"), i), "ref", flags);
        }
    json_decref(root);
}

/* The forward of LLM.int8 against exact sums of its codes; threshold 0 there quantizes x without outliers. */
static void check_decomposition(const json_t *c, const char *device) {
    safetensors *st = case_data(c);
    int64_t n, outs;
    const int64_t out = json_integer_value(json_object_get(c, "out")),
                  in = json_integer_value(json_object_get(c, "in"));
    const double threshold = json_number_value(json_object_get(c, "threshold"));
    float *w = golden_tensor(st, "w", F32, NULL), *x = golden_tensor(st, "x", F32, &n);
    float *bias = json_is_true(json_object_get(c, "bias")) ? golden_tensor(st, "bias", F32, NULL) : NULL;
    double *exact = golden_tensor(st, "y_exact_f32", F64, &outs), most = 1, apart = 0;
    char *options = mem_format("threshold=%g", threshold > 0 ? threshold : 65504.0);
    packed p = kit_pack(device, "quant-int8", options, 0, w, out, in, F32);
    void *dx = p.k->alloc(p.k, n * 4), *dy = p.k->alloc(p.k, outs * 4), *db = p.k->alloc(p.k, out * 4);
    p.k->upload(p.k, dx, x, n * 4);
    if (bias) p.k->upload(p.k, db, bias, out * 4);
    p.k->weight_forward(p.k, &p.t.w, bias ? db : NULL, dx, F32, dy, F32, n / in, 0, 1, NULL, 0);
    float *y = kit_download(&p, dy, outs * 4);
    for (int64_t i = 0; i < outs; i++) {
        most = fmax(most, fabs(exact[i]));
        apart = fmax(apart, fabs((double)y[i] - exact[i]));
    }
    cr_expect_leq(apart, 1e-3 * most, "%s on %s: y by %g", text_of(c, "name"), device, apart);
    free(options);
    free(w);
    free(x);
    free(bias);
    free(exact);
    free(y);
    p.k->release(p.k, dx);
    p.k->release(p.k, dy);
    p.k->release(p.k, db);
    kit_close(&p);
    safetensors_close(st);
}

/* The gradient of x goes through the weights that the codes stand for, whatever became of x on the way forward. */
static void check_int8_gradient(const json_t *c, const char *device) {
    safetensors *st = case_data(c);
    int64_t n, outs;
    const int64_t out = json_integer_value(json_object_get(c, "out")),
                  in = json_integer_value(json_object_get(c, "in"));
    float *w = golden_tensor(st, "w", F32, NULL), *dy = golden_tensor(st, "dy", F32, &outs),
          *want = golden_tensor(st, "dx_f32", F32, &n);
    packed p = kit_pack(device, "quant-int8", "threshold=6", 0, w, out, in, F32);
    void *from = p.k->alloc(p.k, outs * 4), *to = p.k->alloc(p.k, n * 4);
    p.k->upload(p.k, from, dy, outs * 4);
    p.k->weight_input_grad(p.k, &p.t.w, from, F32, to, F32, NULL, F32, n / in, 0, 1, NULL, 0);
    float *dx = kit_download(&p, to, n * 4);
    double most = 0, apart = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        apart = fmax(apart, fabs((double)dx[i] - (double)want[i]));
    }
    cr_expect_leq(apart, 1e-5 * most, "%s on %s: dx by %g of %g", text_of(c, "name"), device, apart, most);
    p.k->release(p.k, from);
    p.k->release(p.k, to);
    free(w), free(dy), free(want), free(dx);
    kit_close(&p);
    safetensors_close(st);
}

Test(quant, int8_gradients_pass_straight_through) {
    json_t *root = cases("int8.json");
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++) {
        check_int8_gradient(json_array_get(json_object_get(root, "cases"), i), "cpu");
        check_int8_gradient(json_array_get(json_object_get(root, "cases"), i), "ref");
    }
    json_decref(root);
}

Test(quant, int8_threshold_decomposes_x) {
    json_t *root = cases("int8.json");
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++) {
        check_decomposition(json_array_get(json_object_get(root, "cases"), i), "cpu");
        check_decomposition(json_array_get(json_object_get(root, "cases"), i), "fake");
    }
    json_decref(root);
}

/* ---- 2, 3, 4, 8 bits on grids ---- */

static void check_affine(const json_t *c, const char *device, int flags) {
    const char *kind = text_of(c, "kind"), *name = text_of(c, "name");
    const int bits = (int)json_integer_value(json_object_get(c, "bits"));
    const int64_t group = json_integer_value(json_object_get(c, "group"));
    const json_t *shape = json_object_get(c, "shape");
    const int64_t out = json_integer_value(json_array_get(shape, 0)), in = json_integer_value(json_array_get(shape, 1));
    const int64_t groups = (in + group - 1) / group;
    safetensors *st = case_data(c);
    float *w = golden_tensor(st, "w", F32, NULL), *scale = golden_tensor(st, "scale", F32, NULL),
          *zero = golden_tensor(st, "zero", F32, NULL), *deq = golden_tensor(st, "deq", F32, NULL);
    uint8_t *q = golden_tensor(st, "q", U8, NULL);
    const int real_zero = strcmp(kind, "float-zero") == 0;
    char *options = mem_format("bits=%d group_size=%lld symmetric=%s real_zero=%s", bits, (long long)group,
                               strcmp(kind, "sym") == 0 ? "yes" : "no", real_zero ? "yes" : "no");
    packed p = kit_pack(device, "quant-affine", options, flags, w, out, in, F32);
    float *mine = kit_read(&p), *formulas = kit_read_formulas(&p);
    for (int64_t i = 0; i < out * in; i++) {
        cr_expect_eq(mine[i], deq[i], "%s on %s: element %lld is %.9g, not %.9g", name, device, (long long)i,
                     (double)mine[i], (double)deq[i]);
        cr_expect_eq(mine[i], formulas[i]);
    }
    if (p.t.w.layout == WEIGHT_AFFINE) {
        float *scales = kit_download(&p, p.t.w.scale, out * groups * 4);
        uint8_t *codes = kit_download(&p, p.t.w.data, out * groups * group * bits / 8);
        void *zeros = p.t.w.zero ? kit_download(&p, p.t.w.zero, out * groups * (real_zero ? 4 : 1)) : NULL;
        cr_expect_arr_eq(scales, scale, (size_t)(out * groups) * 4, "%s: scales", name);
        for (int64_t g = 0; g < out * groups; g++)
            cr_expect_eq(!zeros      ? (float)(1 << (bits - 1))
                         : real_zero ? ((float *)zeros)[g]
                                     : (float)((uint8_t *)zeros)[g],
                         zero[g], "%s: zero %lld", name, (long long)g);
        for (int64_t i = 0; i < out * in; i++)
            cr_expect_eq(bits_get(codes, i / in * groups * group + i % in, bits), q[i], "%s: code %lld", name,
                         (long long)i);
        free(scales);
        free(codes);
        free(zeros);
    }
    free(w), free(scale), free(zero), free(deq), free(q), free(options), free(mine), free(formulas);
    kit_close(&p);
    safetensors_close(st);
}

static void each_affine(const char *device, int flags) {
    json_t *root = cases("lowbit.json");
    int seen = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++) {
        const json_t *c = json_array_get(json_object_get(root, "cases"), i);
        if (strcmp(text_of(c, "kind"), "normal-float") == 0) continue;
        check_affine(c, device, flags);
        seen++;
    }
    cr_expect_eq(seen, 21);
    json_decref(root);
}

Test(quant, affine_groups_on_the_cpu) {
    each_affine("cpu", 0);
}
Test(quant, affine_groups_by_the_reference) {
    each_affine("ref", 0);
}
Test(quant, affine_groups_as_a_custom_layout) {
    each_affine("cpu", KIT_CUSTOM);
    each_affine("fake", KIT_CUSTOM);
}

/* ---- by pieces ---- */

static void check_pieces(const char *device, const char *plugin, const char *options, int flags, int64_t out,
                         int64_t in) {
    graft_error err = {0};
    float *w = kit_random(out * in, 5, 0.05);
    packed whole = kit_pack(device, plugin, options, flags, w, out, in, F32),
           p = kit_pack(device, plugin, options, flags, w, out, in, F32);
    const int64_t unit = quantize_row_unit(p.q, &p.t), wide = dtype_bytes(p.k->real);
    quantize_release(p.k, &p.t.w);
    cr_assert_eq(quantize_begin(p.q, p.k, &p.t, &err), 0, "%s", err.text);
    cr_assert_leq(unit, out, "%s %s: a piece has %lld rows at least", plugin, options, (long long)unit);
    for (int64_t r = 0; r < out && !err.code; r += unit)
        quantize_rows(p.q, p.k, &p.t, r, out - r < unit ? out - r : unit, (char *)p.values + r * in * wide, &err);
    cr_assert(!err.code && !quantize_end(p.q, p.k, &p.t, &err), "%s", err.text);
    float *all = kit_read(&whole), *pieces = kit_read(&p);
    cr_expect_arr_eq(all, pieces, (size_t)(out * in) * sizeof *all, "%s %s on %s", plugin, options, device);
    free(w), free(all), free(pieces);
    kit_close(&whole);
    kit_close(&p);
}

Test(quant, packed_piece_by_piece_is_packed_the_same) {
    static const char *const devices[] = {"cpu", "ref", "fake"};
    for (int d = 0; d < 3; d++) {
        check_pieces(devices[d], "quant-nf4", "block_size=32", 0, 75, 104); /* pieces of 4 rows, the last of 3 */
        check_pieces(devices[d], "quant-nf4", "block_size=64 double_quant=yes", 0, 81, 37);
        check_pieces(devices[d], "quant-int8", "", 0, 33, 50);
        check_pieces(devices[d], "quant-affine", "bits=3 group_size=24", 0, 21, 70);
        check_pieces(devices[d], "quant-affine", "bits=4 group_size=32 refine=3", KIT_CUSTOM, 21, 70);
        check_pieces(devices[d], "quant-nf2", "block_size=24", 0, 35, 38);
    }
}

/* ---- NormalFloat of 2 and 4 bits, as LoftQ's own quantizer has it ---- */

static void check_normal_float(const json_t *c, const char *device) {
    const int bits = (int)json_integer_value(json_object_get(c, "bits"));
    const json_t *shape = json_object_get(c, "shape");
    const int64_t out = json_integer_value(json_array_get(shape, 0)), in = json_integer_value(json_array_get(shape, 1));
    safetensors *st = case_data(c);
    float *w = golden_tensor(st, "w", F32, NULL), *deq = golden_tensor(st, "deq", F32, NULL);
    packed p = kit_pack(device, bits == 2 ? "quant-nf2" : "quant-nf4", "block_size=64", 0, w, out, in, F32);
    float *mine = kit_read(&p), *formulas = kit_read_formulas(&p);
    for (int64_t i = 0; i < out * in; i++) {
        cr_expect_eq(mine[i], deq[i], "%s on %s: element %lld is %.9g, not %.9g", text_of(c, "name"), device,
                     (long long)i, (double)mine[i], (double)deq[i]);
        cr_expect_eq(mine[i], formulas[i]);
    }
    free(w), free(deq), free(mine), free(formulas);
    kit_close(&p);
    safetensors_close(st);
}

Test(quant, normal_floats_of_2_and_4_bits) {
    json_t *root = cases("lowbit.json");
    int seen = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(root, "cases")); i++) {
        const json_t *c = json_array_get(json_object_get(root, "cases"), i);
        if (strcmp(text_of(c, "kind"), "normal-float")) continue;
        check_normal_float(c, "cpu");
        check_normal_float(c, "fake");
        seen++;
    }
    cr_expect_eq(seen, 2);
    json_decref(root);
}
