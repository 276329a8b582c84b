/* Values of the reference that are known from elsewhere: products by hand, where a norm rounds, activations of PyTorch. */
#include "compare.h"
#include "golden.h"
#include "gradient.h"
#include <string.h>

Test(ref_values, gemm_equals_the_triple_loop_for_any_strides) {
    enum { B = 3, M = 4, N = 5, K = 6 };
    kernels *k = open_device("ref64", NULL);
    double a[B * K * M], b[N * K], c[B * M * N], old[B * M * N];
    fill_normal(a, B * K * M, 1, 1);
    fill_normal(b, N * K, 2, 1);
    fill_normal(old, B * M * N, 3, 1);
    for (int mode = 0; mode < 3; mode++) { /* set, add, add summing the batch into c[0] */
        memcpy(c, old, sizeof c);
        const gemm_call g = {
            .batch = B,
            .m = M,
            .n = N,
            .k = K,
            .a = {a, F64, 1, M, K * M, NULL},
            .b = {b, F64, 1, K, 0,     NULL},
            .c = c,
            .c_type = F64,
            .c_row = 1,
            .c_col = M,
            .c_batch = mode == 2 ? 0 : M * N,
            .alpha = -0.5,
            .accumulate = mode > 0
        };
        k->gemm(k, &g);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double all = old[i + j * M];
                for (int q = 0; q < B; q++) {
                    double sum = 0;
                    for (int p = 0; p < K; p++)
                        sum += a[q * K * M + i + p * M] * b[p + j * K];
                    all += -0.5 * sum;
                    const double want = (mode ? old[q * M * N + i + j * M] : 0) - 0.5 * sum;
                    if (mode < 2) cr_assert_float_eq(c[q * M * N + i + j * M], want, 1e-14);
                }
                if (mode == 2) cr_assert_float_eq(c[i + j * M], all, 1e-14);
            }
    }
    k->close(k);
}

Test(ref_values, one_hot_products_gather_and_scatter) {
    enum { T = 4, V = 5, D = 2 };
    kernels *k = open_device("ref", NULL);
    const int32_t ids[T] = {4, 1, -1, 1};
    const float table[V * D] = {0, 1, 10, 11, 20, 21, 30, 31, 40, 41}, dy[T * D] = {1, 2, 3, 4, 5, 6, 7, 8};
    float y[T * D], grad[V * D];
    for (int i = 0; i < V * D; i++)
        grad[i] = 100;
    gemm_call g = {
        .batch = 1,
        .m = T,
        .n = D,
        .k = V,
        .a = {.onehot = ids},
        .b = { table, F32, D, 1, 0, NULL},
        .c = y,
        .c_type = F32,
        .c_row = D,
        .c_col = 1,
        .alpha = 2
    };
    k->gemm(k, &g);
    const float gathered[] = {80, 82, 20, 22, 0, 0, 20, 22};
    cr_assert_arr_eq(y, gathered, sizeof y);
    g.m = V, g.k = T, g.b.data = dy, g.c = grad, g.onehot_transposed = 1, g.accumulate = 1, g.alpha = 1;
    k->gemm(k, &g);
    const float added[] = {100, 100, 110, 112, 100, 100, 100, 100, 101, 102};
    cr_assert_arr_eq(grad, added, sizeof grad);
    g.accumulate = 0;
    k->gemm(k, &g);
    const float alone[] = {0, 0, 10, 12, 0, 0, 0, 0, 1, 2};
    cr_assert_arr_eq(grad, alone, sizeof grad);
    k->close(k);
}

/* 1 + 2^-10 is 1 in bf16. */
Test(ref_values, beside_bf16_a_wide_f32_operand_is_rounded_and_a_narrow_one_is_not) {
    enum { WIDE = 65 };
    kernels *k = open_device("ref", NULL);
    float *a = mem_new(WIDE * WIDE, 4), c[WIDE];
    uint16_t one[WIDE * WIDE];
    for (int i = 0; i < WIDE * WIDE; i++) {
        a[i] = 1 + 0x1p-10f;
        one[i] = f32_to_bf16(1);
    }
    gemm_call g = {
        .batch = 1,
        .m = WIDE,
        .n = 1,
        .k = WIDE,
        .a = {a,   F32,  WIDE, 1, 0, NULL},
        .b = {one, BF16, 1,    1, 0, NULL},
        .c = c,
        .c_type = F32,
        .c_row = 1,
        .c_col = 1,
        .alpha = 1
    };
    k->gemm(k, &g);
    cr_assert_eq(c[0], WIDE);
    g.k = WIDE - 1;
    k->gemm(k, &g);
    cr_assert_eq(c[0], (WIDE - 1) * (1 + 0x1p-10f));
    free(a);
    k->close(k);
}

/* Llama rounds x̂ to bf16 before w is multiplied, Gemma multiplies first. */
Test(ref_values, norms_round_where_the_families_do) {
    enum { N = 3 };
    kernels *k = open_device("ref", NULL);
    const uint16_t x[N] = {f32_to_bf16(1), f32_to_bf16(2), f32_to_bf16(-3.5f)};
    const float w[N] = {1.01f, 0.37f, -0.73f};
    uint16_t y[N];
    const float r = 1 / sqrtf((1 + 4 + 12.25f) / 3);
    k->norm_forward(k, NORM_RMS, x, w, NULL, 0, y, BF16, 1, N);
    for (int i = 0; i < N; i++)
        cr_assert_eq(y[i], f32_to_bf16(w[i] * bf16_to_f32(f32_to_bf16(bf16_to_f32(x[i]) * r))));
    k->norm_forward(k, NORM_RMS_ONE_PLUS, x, w, NULL, 0, y, BF16, 1, N);
    for (int i = 0; i < N; i++)
        cr_assert_eq(y[i], f32_to_bf16((1 + w[i]) * (bf16_to_f32(x[i]) * r)));
    k->close(k);
}

Test(ref_values, layer_norm_has_mean_b_and_spread_w) {
    enum { N = 64 };
    kernels *k = open_device("ref64", NULL);
    double x[N], w[N], b[N], y[N], mean = 0, square = 0;
    fill_normal(x, N, 1, 5);
    for (int i = 0; i < N; i++)
        x[i] += 30, w[i] = 2, b[i] = 0.5;
    k->norm_forward(k, NORM_LAYER, x, w, b, 0, y, F64, 1, N);
    for (int i = 0; i < N; i++) {
        mean += y[i] / N;
        square += (y[i] - 0.5) * (y[i] - 0.5) / N;
    }
    cr_assert_float_eq(mean, 0.5, 1e-13);
    cr_assert_float_eq(square, 4, 1e-12);
    k->close(k);
}

Test(ref_values, even_logits_give_log_of_the_vocabulary) {
    kernels *k = open_device("ref64", NULL);
    double z[8] = {7, 7, 7, 7, 7, 7, 7, 7}, logp, lse;
    const int32_t target = 3;
    k->logprob(k, z, F64, 1, 8, &target, 0, &logp, &lse);
    cr_assert_float_eq(logp, -log(8), 1e-15);
    cr_assert_float_eq(lse, 7 + log(8), 1e-14);
    k->close(k);
}

/* Tolerances of golden/README-quant.md: absolute, 1e-15·max(1, |x|) in f64 and 3e-7·max(1, |x|) in f32. */
Test(ref_values, activations_are_those_of_pytorch) {
    static const char *const names[] = {"silu", "gelu_tanh", "gelu", "relu"};
    safetensors *st = golden_open("quant/numeric/activations.safetensors");
    kernels *wide = open_device("ref64", NULL), *narrow = open_device("ref", NULL);
    int64_t n;
    double *x = golden_tensor(st, "x", F64, &n);
    for (int act = ACT_SILU; act <= ACT_RELU; act++) {
        char name[40];
        double *value = golden_tensor(st, names[act], F64, &n);
        snprintf(name, sizeof name, "d_%s", names[act]);
        double *slope = golden_tensor(st, name, F64, &n);
        snprintf(name, sizeof name, "%s_f32", names[act]);
        double *single = golden_tensor(st, name, F64, &n);
        for (int64_t i = 0; i < n; i++) {
            double y, dy, one = 1;
            float x32 = (float)x[i], y32;
            wide->gate_forward(wide, (activation_kind)act, &x[i], NULL, 1, &y, F64, 1, 1);
            wide->gate_backward(wide, (activation_kind)act, &x[i], NULL, 1, &one, &dy, NULL, F64, 1, 1);
            narrow->gate_forward(narrow, (activation_kind)act, &x32, NULL, 1, &y32, F32, 1, 1);
            const double size = fmax(1, fabs(x[i]));
            cr_assert_float_eq(y, value[i], 1e-15 * size, "%s(%.17g) = %.17g instead of %.17g", names[act], x[i], y,
                               value[i]);
            cr_assert_float_eq(dy, slope[i], 1e-15 * size, "%s'(%.17g) = %.17g instead of %.17g", names[act], x[i], dy,
                               slope[i]);
            cr_assert_float_eq(y32, single[i], 3e-7 * size, "%s(%.9g) = %.9g in f32", names[act], x[i], y32);
        }
        free(single);
        free(slope);
        free(value);
    }
    free(x);
    narrow->close(narrow);
    wide->close(wide);
    safetensors_close(st);
}
