/* What a formula means: every rule of the notation against the loop it stands for. */
#include "base/philox.h"
#include "formula-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS KIT_ROWS

static kit *world(void) {
    kit *const k =
        kit_new("x rows 6;y rows 6;z rows 4;A 4 6;B 4 6;C 6 4;v 6;u 4;w 12;q 6;t 1;d 2 3 4;p 24;S 3 6;e 6;f 6;code 5");
    kit_number(k, "s", 0.75);
    kit_number(k, "in", 6);
    kit_number(k, "j", 2);
    kit_number(k, "t0", 3);
    return k;
}

static kit *ran(kit *k, const char *text) {
    cr_assert_eq(kit_run(k, text, (kit_way){0}), 0, "%s", k->err.text);
    return k;
}

/* `text` gives each of the `count` elements of `name` the value of `wanted`, where e is the flat index and a, b the values of
 * two tensors before the run. */
#define EXPECT(k, text, name, wanted)                                                                                  \
    do {                                                                                                               \
        ran(k, text);                                                                                                  \
        const double *const got = kit_result(k, name);                                                                 \
        for (int64_t e = 0; e < kit_count(k, name); e++) {                                                             \
            const double want = (wanted);                                                                              \
            cr_assert_float_eq(got[e], want, 1e-13, "%s: element %d is %.17g, not %.17g", text, (int)e, got[e], want); \
        }                                                                                                              \
    } while (0)

Test(formula_grammar, stores) {
    kit *const k = world();
    const double *const y = kit_values(k, "y"), *const x = kit_values(k, "x");
    EXPECT(k, "y = x", "y", x[e]);
    EXPECT(k, "y += x", "y", y[e] + x[e]);
    EXPECT(k, "y -= x", "y", y[e] - x[e]);
    EXPECT(k, "y *= x", "y", y[e] * x[e]);
    EXPECT(k, "y /= x", "y", y[e] / x[e]);
    EXPECT(k, "y max= x", "y", fmax(y[e], x[e]));
    EXPECT(k, "y[n,i] max= x[n,i]", "y", fmax(y[e], x[e]));
    EXPECT(k, "y = 2", "y", 2);
    EXPECT(k, "  y =\n\tx ;; y += 1 ; ", "y", x[e] + 1);
    kit_free(k);
}

Test(formula_grammar, precedence_and_associativity_are_those_of_c) {
    kit *const k = world();
    const double *const v = kit_values(k, "v"), *const e1 = kit_values(k, "e");
    EXPECT(k, "f = 1 + 2 * 3 - 4 / 2 - 1", "f", 1 + 2 * 3 - 4 / 2 - 1);
    EXPECT(k, "f = v - e - s", "f", v[e] - e1[e] - 0.75);
    EXPECT(k, "f = v / e / s * v", "f", v[e] / e1[e] / 0.75 * v[e]);
    EXPECT(k, "f = -v * -e + +s", "f", -v[e] * -e1[e] + 0.75);
    EXPECT(k, "f = v < e == 1", "f", (v[e] < e1[e]) == 1);
    EXPECT(k, "f = v + 1 > e && v - 1 <= e || 0", "f", v[e] + 1 > e1[e] && v[e] - 1 <= e1[e]);
    EXPECT(k, "f = 1 || 0 && 0", "f", 1);
    EXPECT(k, "f = !v + !(v >= 0) + (v != e)", "f", (v[e] == 0) + !(v[e] >= 0) + (v[e] != e1[e]));
    EXPECT(k, "f = v > 0 ? e > 0 ? 1 : 2 : e > 0 ? 3 : 4", "f", v[e] > 0 ? e1[e] > 0 ? 1 : 2 : e1[e] > 0 ? 3 : 4);
    EXPECT(k, "f = v * (e + (s - v))", "f", v[e] * (e1[e] + (0.75 - v[e])));
    EXPECT(k, "f = 1.5e1 + .5 + 2. + 1E-1 + 3e+0", "f", 15 + .5 + 2 + 1e-1 + 3);
    kit_free(k);
}

Test(formula_grammar, functions) {
    kit *const k = world();
    const double *const v = kit_values(k, "v"), *const e1 = kit_values(k, "e");
    EXPECT(k, "f = sqrt(abs(v)) + exp(v) + log(v * v)", "f", sqrt(fabs(v[e])) + exp(v[e]) + log(v[e] * v[e]));
    EXPECT(k, "f = sign(v) + max(v, e) * min(v, 0.5)", "f",
           (v[e] > 0) - (v[e] < 0) + fmax(v[e], e1[e]) * fmin(v[e], 0.5));
    EXPECT(k, "f = pow(abs(v), 1.5) + tanh(v) + sigmoid(v)", "f",
           pow(fabs(v[e]), 1.5) + tanh(v[e]) + 1 / (1 + exp(-v[e])));
    EXPECT(k, "f = erf(v) + cos(v) + floor(5 * v) + round(5 * v)", "f",
           erf(v[e]) + cos(v[e]) + floor(5 * v[e]) + rint(5 * v[e]));
    EXPECT(k, "f = round(0.5) + round(1.5) + round(-2.5)", "f", 0 + 2 - 2);
    kit_free(k);
}

Test(formula_grammar, numbers_fold_in_double_with_the_values_of_the_run) {
    kit *const k = world();
    const double *const v = kit_values(k, "v");
    EXPECT(k, "f = v * (1 - pow(s, t0)) / sqrt(in)", "f", v[e] * ((1 - pow(0.75, 3)) / sqrt(6)));
    EXPECT(k, "f = v * (s > 0.5 ? in : 0) + max(s, j) - min(s, j) + abs(-s) + sign(-s)", "f",
           v[e] * 6 + 2 - 0.75 + 0.75 - 1);
    EXPECT(k, "f = v + floor(s) + round(s) + exp(0) + log(1) + tanh(0) + erf(0) + cos(0) + sigmoid(0)", "f",
           v[e] + 0 + 1 + 1 + 0 + 0 + 0 + 1 + 0.5);
    EXPECT(k, "f = v + (s < 1) + (s <= 1) + (s > 1) + (s >= 1) + (s == 1) + (s != 1) + (s && 0) + (s || 0) + !s", "f",
           v[e] + 1 + 1 + 0 + 0 + 0 + 1 + 0 + 1 + 0);
    kit_number(k, "s", 0.25);
    EXPECT(k, "f = v * (1 - pow(s, t0)) / sqrt(in)", "f", v[e] * ((1 - pow(0.25, 3)) / sqrt(6)));
    kit_free(k);
}

Test(formula_grammar, an_index_absent_on_the_left_is_summed) {
    kit *const k = world();
    const double *const x = kit_values(k, "x"), *const a = kit_values(k, "A"), *const v = kit_values(k, "v");
    ran(k, "e[i] = x[n,i]; u[r] += A[r,i]; z[n,r] = x[n,i] * A[r,i]; t[0] = v[i]");
    for (int i = 0; i < 6; i++) {
        double sum = 0;
        for (int n = 0; n < ROWS; n++)
            sum += x[n * 6 + i];
        cr_assert_float_eq(kit_result(k, "e")[i], sum, 1e-13);
    }
    double total = 0;
    for (int r = 0; r < 4; r++) {
        double sum = kit_values(k, "u")[r], product = 0;
        for (int i = 0; i < 6; i++)
            sum += a[r * 6 + i], product += x[2 * 6 + i] * a[r * 6 + i], total += r ? 0 : v[i];
        cr_assert_float_eq(kit_result(k, "u")[r], sum, 1e-13);
        cr_assert_float_eq(kit_result(k, "z")[2 * 4 + r], product, 1e-13);
    }
    cr_assert_float_eq(kit_result(k, "t")[0], total, 1e-13);
    kit_free(k);
}

Test(formula_grammar, max_takes_the_maximum_of_what_is_there_and_of_all_others) {
    kit *const k = world();
    const double *const x = kit_values(k, "x");
    for (int i = 0; i < 6; i++)
        kit_values(k, "e")[i] = i == 3 ? 100 : -100;
    ran(k, "e[i] max= abs(x[n,i]) + v[i]");
    for (int i = 0; i < 6; i++) {
        double most = i == 3 ? 100 : -100;
        for (int n = 0; n < ROWS; n++)
            most = fmax(most, fabs(x[n * 6 + i]) + kit_values(k, "v")[i]);
        cr_assert_float_eq(kit_result(k, "e")[i], most, 1e-13);
    }
    kit_free(k);
}

Test(formula_grammar, an_index_absent_on_the_right_broadcasts) {
    kit *const k = world();
    const double *const v = kit_values(k, "v"), *const u = kit_values(k, "u");
    EXPECT(k, "y[n,i] = v[i]", "y", v[e % 6]);
    EXPECT(k, "A[r,i] = u[r] + 1", "A", u[e / 6] + 1);
    EXPECT(k, "A[r,i] = 3", "A", 3);
    EXPECT(k, "A[r,i] = u[r] * v[i]", "A", u[e / 6] * v[e % 6]);
    kit_free(k);
}

Test(formula_grammar, outside_brackets_an_index_is_its_value_unless_a_name_has_it) {
    kit *const k = world();
    const double *const v = kit_values(k, "v");
    EXPECT(k, "A[r,i] = r == i", "A", e / 6 == e % 6);
    EXPECT(k, "A[r,i] = (i + 1) * v[i] - r", "A", (double)(e % 6 + 1) * v[e % 6] - (double)(e / 6));
    EXPECT(k, "A[r,j] = j", "A", 2); /* a number, whatever the index is called */
    EXPECT(k, "f[s] = s * v[s]", "f", 0.75 * v[e]);
    kit_free(k);
}

Test(formula_grammar, a_dimension_splits) {
    kit *const k = world();
    const double *const x = kit_values(k, "x"), *const p = kit_values(k, "p"), *const d = kit_values(k, "d");
    EXPECT(k, "d[a,b,c] = p[(a,b,c)]", "d", p[e]);
    EXPECT(k, "p[(c,b,a)] = d[a,b,c]", "p", d[e % 2 * 12 + e / 2 % 3 * 4 + e / 6]);
    EXPECT(k, "y[n,(a,b)] = x[n,(b,a)] * d[a,b,0]", "y", x[e / 6 * 6 + e % 6 % 3 * 2 + e % 6 / 3] * d[e % 6 * 4]);
    kit_free(k);
}

Test(formula_grammar, numbers_in_brackets_pick) {
    kit *const k = world();
    const double *const d = kit_values(k, "d"), *const s = kit_values(k, "S");
    EXPECT(k, "u[c] = d[1,2,c]", "u", d[12 + 2 * 4 + e]);
    EXPECT(k, "u[c] = d[=j-1,=j,c]", "u", d[12 + 2 * 4 + e]);
    EXPECT(k, "u[c] = d[=1, =min(j, 1), c]", "u", d[12 + 4 + e]);
    EXPECT(k, "S[2,i] = S[0,i] - S[1,i]", "S", e / 6 == 2 ? s[e - 12] - s[e - 6] : s[e]);
    EXPECT(k, "S[=j,i] = S[=j-1,i] + 2 * S[=j,i] * 0", "S", e / 6 == 2 ? s[e - 6] : s[e]);
    EXPECT(k, "S[1,i] *= 2", "S", e / 6 == 1 ? 2 * s[e] : s[e]);
    EXPECT(k, "t[0] = d[0,0,0]", "t", d[0]);
    kit_free(k);
}

Test(formula_grammar, gather) {
    kit *const k = world();
    double *const q = kit_values(k, "q"), *const code = kit_values(k, "code");
    for (int i = 0; i < 6; i++)
        q[i] = i == 5 ? 7 : (3 * i) % 5; /* 7 is outside: 0 */
    const double *const a = kit_values(k, "A"), *const v = kit_values(k, "v");
    EXPECT(k, "f[i] = code[q[i]] * v[i]", "f", e == 5 ? 0 : code[(3 * e) % 5] * v[e]);
    EXPECT(k, "f[i] = code[q[i] - 1]", "f",
           e == 0 || e == 5 ? 0 : code[(3 * e) % 5 - 1]); /* -1 and 6 are outside too */
    EXPECT(k, "f[i] = code[floor(abs(v[i]) * 5)]", "f", code[(int)(fabs(v[e]) * 5)]);
    EXPECT(k, "f[i] = A[q[i],i]", "f", e == 5 || (3 * e) % 5 == 4 ? 0 : a[(3 * e) % 5 * 6 + e]);
    EXPECT(k, "t = code[q[=j]]", "t", code[(3 * 2) % 5]);
    kit_free(k);
}

Test(formula_grammar, bare_tensors_have_their_indices_by_position) {
    kit *const k = world();
    const double *const a = kit_values(k, "A"), *const b = kit_values(k, "B"), *const t = kit_values(k, "t");
    EXPECT(k, "A = 0.5 * A + B * B", "A", 0.5 * a[e] + b[e] * b[e]);
    EXPECT(k, "A -= t * B", "A", a[e] - t[0] * b[e]);
    EXPECT(k, "y = x * t", "y", kit_values(k, "x")[e] * t[0]);
    double sum = 0;
    for (int i = 0; i < 24; i++)
        sum += a[i] * b[i];
    EXPECT(k, "t = A * B", "t", sum);
    EXPECT(k, "t -= s * A * B", "t", t[0] - 0.75 * sum);
    double most = -9;
    for (int i = 0; i < 24; i++)
        most = fmax(most, a[i]);
    EXPECT(k, "t max= A", "t", fmax(t[0], most));
    EXPECT(k, "y[n,i] *= t", "y", kit_values(k, "y")[e] * t[0]);
    kit_free(k);
}

Test(formula_grammar, an_index_may_stand_twice_on_the_right) {
    kit *const k = kit_new("M 5 5;t 1;v 5");
    const double *const m = kit_values(k, "M");
    EXPECT(k, "t = M[i,i]", "t", m[0] + m[6] + m[12] + m[18] + m[24]);
    EXPECT(k, "v[i] = M[i,i] * M[i,i]", "v", m[6 * e] * m[6 * e]);
    kit_free(k);
}

Test(formula_grammar, counting_sums_over_comparisons) {
    kit *const k = world();
    const double *const v = kit_values(k, "v"), *const code = kit_values(k, "code");
    EXPECT(k, "f[i] = v[i] > code[k]", "f", ({
               int n = 0;
               for (int i = 0; i < 5; i++)
                   n += v[e] > code[i];
               n;
           }));
    kit_free(k);
}

Test(formula_grammar, random_numbers_depend_on_seed_stream_statement_and_target) {
    kit *const k = kit_new("A 40 25;B 25 40;C 1000;D 40 25");
    const char *const text = "A = uniform(-1, 3); B = uniform(-1, 3); C = normal; D = 0.5 * normal()";
    ran(k, text);
    double first[1000], mean = 0, square = 0, normal_square = 0;
    memcpy(first, kit_result(k, "A"), sizeof first);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        cr_assert(first[i] >= -1 && first[i] < 3);
        mean += first[i] / 1000, square += first[i] * first[i] / 1000;
        normal_square += pow(kit_result(k, "C")[i], 2) / 1000;
        same += first[i] == kit_result(k, "B")[i] || kit_result(k, "C")[i] == 2 * kit_result(k, "D")[i];
    }
    cr_assert_eq(same, 0);
    cr_assert_float_eq(mean, 1, 5 * sqrt(16 / 12.0 / 1000));
    cr_assert_float_eq(square - mean * mean, 16 / 12.0, 0.2);
    cr_assert_float_eq(normal_square, 1, 5 * sqrt(2 / 1000.0));
    ran(k, text);
    cr_assert_arr_eq(kit_result(k, "A"), first, sizeof first); /* a pure function of its place */
    k->stream++;
    ran(k, text);
    cr_assert_neq(kit_result(k, "A")[0], first[0]);
    k->stream--, k->seed++;
    ran(k, text);
    cr_assert_neq(kit_result(k, "A")[0], first[0]);
    kit_free(k);
}

Test(formula_grammar, mt19937_is_torchs_stream_of_floats) {
    /* torch.manual_seed(0); torch.empty(4).uniform_(): the first four floats of the generator */
    static const double torch[4] = {0.4962565898895264, 0.7682217955589294, 0.08847743272781372, 0.13203048706054688};
    kit *const k = kit_new("A 2 2;B 1");
    EXPECT(k, "A = mt19937(0, 0)", "A", torch[e]);
    EXPECT(k, "B[i] = mt19937(0, 3)", "B", torch[3]);
    static const char *const wrong[] = {"A = mt19937(0.5, 0)", "A = mt19937(-1, 0)", "A = mt19937(0, 1e12)",
                                        "A = mt19937(1/0, 0)", "A = mt19937(0, 0/0)"};
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(kit_run(k, wrong[i], (kit_way){0}), GRAFT_FAILED, "%s is accepted", wrong[i]);
        cr_expect(strstr(k->err.text, "the seed is a whole number below 2^32, the first draw one up to 2^28"));
    }
    kit_free(k);
}
