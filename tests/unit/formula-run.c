/* How programs run: types and their rounding, stored forms, what is absent, what depends on the call. */
#include "formula-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double to_bf16(double v) {
    return bf16_to_f32(f32_to_bf16((float)v));
}

/* ---- types ---- */

static kit *layer(void) {
    kit *const k = kit_new(
        "x rows 128;y rows 96;A 80 128;B 96 80;H rows 80;G rows 80;C 96 80;d 96;dA 80 128;dH rows 80;dx rows 128");
    for (int i = 0; i < 2; i++)
        kit_tensor(k, i ? "x" : "y")->activation = 1;
    kit_tensor(k, "dx")->activation = 1;
    kit_number(k, "s", 0.75);
    return k;
}

/* One rounding: the result is the f64 value rounded to bf16, but for f32's own error right at a tie. */
static void expect_rounded_once(kit *k, const char *text, const char *name) {
    cr_assert_eq(kit_run(k, text, (kit_way){.maps_only = 1}), 0, "%s", k->err.text);
    const int64_t count = kit_count(k, name);
    double *const exact = mem_new((size_t)count, sizeof *exact);
    memcpy(exact, kit_result(k, name), (size_t)count * sizeof *exact);
    cr_assert_eq(kit_run(k, text, (kit_way){.device = "ref", .activation = BF16}), 0, "%s", k->err.text);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; i++)
        wrong += kit_result(k, name)[i] != to_bf16(exact[i]);
    cr_expect_leq(wrong, count / 100, "%s: %d of %d elements are not rounded once", text, (int)wrong, (int)count);
    free(exact);
}

Test(formula_run, a_statement_rounds_a_bf16_target_once) {
    kit *const k = layer();
    expect_rounded_once(k, "y[n,o] += s * H[n,r] * B[o,r]", "y");
    cr_expect_eq(k->gemms, 1);
    cr_expect_eq(k->maps, 0);
    expect_rounded_once(k, "y[n,o] += H[n,r] * B[o,r] - G[n,r] * C[o,r]", "y");
    cr_expect_eq(k->gemms, 2);
    expect_rounded_once(k, "y[n,o] -= d[o] * H[n,r] * B[o,r] + G[n,r] * C[o,r] * s", "y");
    expect_rounded_once(k, "y[n,o] = 3 * y[n,o] + d[o] / 3", "y");
    kit_free(k);
}

Test(formula_run, f32_targets_take_several_products_without_a_temporary) {
    kit *const k = kit_new("y rows 9;H rows 4;B 9 4;G rows 4;C 9 4");
    cr_assert_eq(kit_run(k, "y[n,o] += H[n,r] * B[o,r] - G[n,r] * C[o,r]", (kit_way){0}), 0);
    cr_assert_eq(k->gemms, 2);
    cr_assert_eq(k->maps, 0);
    kit_free(k);
}

Test(formula_run, products_of_f32_gradients_from_bf16_activations_stay_f32) {
    kit *const k = layer();
    const char *const text = "dA[r,i] += dH[n,r] * x[n,i]";
    cr_assert_eq(kit_run(k, text, (kit_way){.maps_only = 1}), 0);
    double *const exact = mem_new((size_t)kit_count(k, "dA"), sizeof *exact);
    memcpy(exact, kit_result(k, "dA"), (size_t)kit_count(k, "dA") * sizeof *exact);
    cr_assert_eq(kit_run(k, text, (kit_way){.device = "ref", .activation = BF16}), 0);
    for (int64_t i = 0; i < kit_count(k, "dA"); i++) /* the values are exact in bf16: 7 rows of products below 1 */
        cr_assert_float_eq(kit_result(k, "dA")[i], exact[i], 1e-6);
    free(exact);
    kit_free(k);
}

/* ---- stored forms ---- */

Test(formula_run, nf4_is_counting_thresholds_and_a_gather) {
    kit *const k = kit_new("w 128;absmax 8;codes 128;code 16;levels 15;back 128");
    kit_tensor(k, "codes")->type = U8;
    kit_tensor(k, "codes")->store = STORE_U4_HIGH;
    double *const w = kit_values(k, "w"), *const code = kit_values(k, "code"), *const levels = kit_values(k, "levels");
    for (int i = 0; i < 16; i++)
        code[i] = (i - 7) / 8.0;
    for (int i = 0; i < 15; i++)
        levels[i] = (code[i] + code[i + 1]) / 2;
    cr_assert_eq(kit_run(k,
                         "absmax = 0; absmax[b] max= abs(w[(b,j)]); codes[(b,j)] = w[(b,j)] / absmax[b] > levels[l]; "
                         "back[(b,j)] = code[codes[(b,j)]] * absmax[b]",
                         (kit_way){0}),
                 0, "%s", k->err.text);
    for (int i = 0; i < 128; i++) {
        double most = 0;
        for (int j = i / 16 * 16; j < i / 16 * 16 + 16; j++)
            most = fmax(most, fabs(w[j]));
        int c = 0;
        for (int l = 0; l < 15; l++)
            c += w[i] / most > levels[l];
        cr_assert_eq(kit_result(k, "absmax")[i / 16], most);
        cr_assert_eq(kit_result(k, "codes")[i], c);
        cr_assert_eq(kit_result(k, "back")[i], code[c] * most);
    }
    kit_free(k);
}

Test(formula_run, i8_and_u4_are_loaded_and_stored_rounded) {
    kit *const k = kit_new("w 6 4;q 6 4;n 6 4;scale 6;back 6 4;A 4 3;y 6 3");
    kit_tensor(k, "q")->type = I8;
    kit_tensor(k, "n")->type = U8;
    kit_tensor(k, "n")->store = STORE_U4;
    const double *const w = kit_values(k, "w"), *const a = kit_values(k, "A");
    for (int i = 0; i < 24; i++)
        kit_values(k, "q")[i] = kit_values(k, "n")[i] = i % 16;
    cr_assert_eq(kit_run(k,
                         "scale = 0; scale[o] max= abs(w[o,i]); q[o,i] = w[o,i] * 127 / scale[o]; n[o,i] = 7.4 * "
                         "w[o,i] / scale[o] + 7.5; "
                         "back[o,i] = q[o,i] * scale[o] / 127; y[o,c] = q[o,i] * A[i,c]",
                         (kit_way){0}),
                 0, "%s", k->err.text);
    cr_assert_eq(k->gemms, 1); /* q is widened first */
    for (int o = 0; o < 6; o++) {
        double most = 0, product = 0;
        for (int i = 0; i < 4; i++)
            most = fmax(most, fabs(w[o * 4 + i]));
        for (int i = 0; i < 4; i++) {
            const double q = rint(w[o * 4 + i] * 127 / most);
            cr_assert_eq(kit_result(k, "q")[o * 4 + i], q);
            cr_assert_eq(kit_result(k, "n")[o * 4 + i], rint(7.4 * w[o * 4 + i] / most + 7.5));
            cr_assert_float_eq(kit_result(k, "back")[o * 4 + i], q * most / 127, 1e-15);
            product += q * a[i * 3];
        }
        cr_assert_float_eq(kit_result(k, "y")[o * 3], product, 1e-12);
    }
    kit_free(k);
}

Test(formula_run, adamw_keeps_its_state_in_8_bits) {
    kit *const k = kit_new("p 600;g 600;m 600;v 600;back 600");
    for (int i = 0; i < 2; i++) {
        kit_tensor(k, i ? "v" : "m")->type = U8;
        kit_tensor(k, i ? "v" : "m")->store = i ? STORE_BLOCKS8_UNSIGNED : STORE_BLOCKS8;
    }
    kit_number(k, "beta1", 0.9);
    kit_number(k, "beta2", 0.999);
    cr_assert_eq(kit_run(k,
                         "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g * g; back = m; p -= 0.01 * "
                         "m / (sqrt(v) + 1e-3)",
                         (kit_way){.device = "ref"}),
                 0, "%s", k->err.text);
    for (int i = 0; i < 600; i++) /* codes of the dynamic map: within 1/64 of the block's largest */
        cr_assert_float_eq(kit_result(k, "back")[i], 0.1 * kit_values(k, "g")[i], 0.1 / 64);
    kit_free(k);
}

/* ---- what is absent ---- */

Test(formula_run, statements_that_name_an_absent_slot_are_checked_and_skipped) {
    kit *const k = kit_new("y rows 6;H rows 4;B 6 4;C 0 4;w 0;v 6;u 3 0");
    const double *const y = kit_values(k, "y");
    cr_assert_eq(
        kit_run(k, "y[n,o] = H[n,r] * C[o,r]; v = w; v = w + 1; v[(a,b)] = u[a,b]; v[i] += u[j,i]", (kit_way){0}), 0,
        "%s", k->err.text);
    for (int64_t i = 0; i < kit_count(k, "y"); i++)
        cr_assert_eq(kit_result(k, "y")[i], y[i]);
    cr_assert_eq(k->gemms + k->maps, 0);
    static const char *const wrong[] = {"y[n,o] = H[n,r] * C[r,o]", /* o is 6 in y, whatever C would be */
                                        "y[n,o] = b + C[o,r]", "y[n,o] = H[n,r] + C[o,i]", "y[n,o] *= H[n,r] * C[o,r]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_eq(kit_check(k, wrong[i]), GRAFT_FAILED, "%s is accepted", wrong[i]);
    kit_free(k);
}

/* The public way, with bindings as the caller likes them. */
typedef struct {
    kernels *device;
    formula_tensor tensors[5];
    formula_binding bindings[5];
    double data[2][6];
} plain;

static plain plain_open(void) {
    plain p = {
        .tensors = {{.name = "a", .shape = {2, 3}},
                    {.name = "b", .shape = {2, 3}},
                    {.name = "T", .shape = {2, 2}},
                    {.name = "W", .kind = FORMULA_WEIGHT, .shape = {2, 3}},
                    {.name = "x", .kind = FORMULA_ONEHOT, .shape = {FORMULA_ROWS, 3}}}
    };
    cr_assert_eq(kernels_open("ref64", NULL, &p.device, NULL), 0);
    for (int i = 0; i < 5; i++)
        p.tensors[i].may = FORMULA_READ | FORMULA_WRITE, p.tensors[i].type = F32, p.tensors[i].rank = 2;
    for (int i = 0; i < 12; i++)
        p.data[i / 6][i % 6] = i / 6 + i % 6 + 1;
    return p;
}

static int plain_run(plain *p, const char *text, const double *numbers, graft_error *err) {
    static const char *const names[] = {"i", "j"};
    const formula_scope scope = {.tensors = p->tensors, .tensor_count = 5, .numbers = names, .number_count = 2};
    formula *f = NULL;
    if (formula_compile(text, &scope, &f, err)) return err->code;
    const formula_run_call call = {
        .device = p->device, .bindings = p->bindings, .numbers = numbers, .rows = 2, .err = err};
    const int code = formula_run(f, &call);
    formula_free(f);
    return code;
}

Test(formula_run, statements_without_a_binding_are_skipped) {
    plain p = plain_open();
    graft_error err = {0};
    p.bindings[0].data = p.data[0];
    cr_assert_eq(plain_run(&p, "a = 7; a = b; b = a; a[q,i] += W[o,i] * T[q,o]", NULL, &err), 0, "%s", err.text);
    for (int j = 0; j < 6; j++)
        cr_assert(p.data[0][j] == 7 && p.data[1][j] == j + 2);
    p.device->close(p.device);
}

Test(formula_run, a_number_in_brackets_is_checked_when_it_is_known) {
    plain p = plain_open();
    for (int i = 0; i < 2; i++)
        p.bindings[i].data = p.data[i];
    static const struct {
        double i, j;
        const char *error;
    } cases[] = {
        {0,   1,     NULL                                                                                             },
        {1,   0,     NULL                                                                                             },
        {2,   0,     "2 in brackets is no index of a dimension of 2\n  a[=i,k] = a[=j,k] + b[=i,k]\n    ^"            },
        {-1,  0,     "-1 in brackets is no index of a dimension of 2\n  a[=i,k] = a[=j,k] + b[=i,k]\n    ^"           },
        {0.5, 0,     "0.5 in brackets is no index of a dimension of 2\n  a[=i,k] = a[=j,k] + b[=i,k]\n    ^"          },
        {0,   NAN,   "nan in brackets is no index of a dimension of 2\n  a[=i,k] = a[=j,k] + b[=i,k]\n              ^"},
        {0,   1e300,
         "1e+300 in brackets is no index of a dimension of 2\n  a[=i,k] = a[=j,k] + b[=i,k]\n              ^"         },
        {1,   1,     "the statement reads index 1, which it writes\n  a[=i,k] = a[=j,k] + b[=i,k]"                    }
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        graft_error err = {0};
        const double numbers[] = {cases[c].i, cases[c].j};
        for (int j = 0; j < 6; j++)
            p.data[0][j] = j, p.data[1][j] = 10 * j;
        cr_expect_eq(plain_run(&p, "a[=i,k] = a[=j,k] + b[=i,k]", numbers, &err), cases[c].error ? GRAFT_FAILED : 0);
        cr_expect_str_eq(err.text, cases[c].error ? cases[c].error : "");
        for (int j = 0; j < 3 && !cases[c].error; j++)
            cr_expect_eq(p.data[0][(int)cases[c].i * 3 + j], (int)cases[c].j * 3 + j + 10 * ((int)cases[c].i * 3 + j));
        for (int j = 0; j < 6 && cases[c].error; j++)
            cr_expect_eq(p.data[0][j], j);
    }
    p.device->close(p.device);
}

/* ---- what a program tells ---- */

Test(formula_run, uses_say_what_is_read_and_written) {
    plain p = plain_open();
    const formula_scope scope = {.tensors = p.tensors, .tensor_count = 5};
    static const struct {
        const char *text;
        uint64_t reads, writes;
    } cases[] = {
        {"a = 1",                     0,          1},
        {"a += 1",                    1,          1},
        {"a = 2 * b",                 2,          1},
        {"a = b; b = a",              3,          3},
        {"a *= 3",                    1,          1},
        {"a max= b",                  3,          1},
        {"T[n,o] = b[n,i] * W[o,i]",  2 | 8,      4},
        {"a[o,i] += T[o,n] * x[n,i]", 1 | 4 | 16, 1}
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        graft_error err = {0};
        formula *f = NULL;
        uint64_t reads, writes;
        p.tensors[2].shape[1] = c == 7 ? FORMULA_ROWS : 2;
        formula_compile(cases[c].text, &scope, &f, &err);
        cr_assert_eq(err.code, 0, "%s", err.text);
        formula_uses(f, &reads, &writes);
        cr_expect(reads == cases[c].reads && writes == cases[c].writes, "%s", cases[c].text);
        formula_free(f);
    }
    p.device->close(p.device);
}

Test(formula_run, scratch_is_what_the_widest_statement_needs_and_grows_with_rows) {
    formula_tensor t[] = {
        {.name = "x", .rank = 2, .shape = {FORMULA_ROWS, 64}},
        {.name = "y", .rank = 2, .shape = {FORMULA_ROWS, 48}},
        {.name = "A", .rank = 2, .shape = {8, 64}           },
        {.name = "B", .rank = 2, .shape = {48, 8}           }
    };
    for (int i = 0; i < 4; i++)
        t[i].may = FORMULA_READ | FORMULA_WRITE, t[i].type = F32;
    for (int real = 0; real < 2; real++) {
        const formula_scope scope = {.tensors = t, .tensor_count = 4, .real = real ? F32 : F64};
        graft_error err = {0};
        formula *f = NULL;
        formula_compile("y[n,o] += x[n,i] * A[r,i] * B[o,r]; y += 1", &scope, &f, &err);
        cr_assert_eq(err.code, 0, "%s", err.text);
        cr_expect_eq(formula_scratch(f, 0), 0);
        cr_expect_eq(formula_scratch(f, 100), 100 * 8 * (real ? 4 : 8));
        cr_expect_eq(formula_scratch(f, 1), 64);
        formula_free(f);
    }
}
