/* Products of formulas: every statement of the techniques, as gemm and weight calls, equals the one map that defines it. */
#include "formula-kit.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char name[32];
    char tensors[320];
    char text[640];
    int32_t gemms, weights; /* calls it compiles to */
} program;

/* W is a handle and X a one-hot tensor; x and y have the activation type. */
#define LAYER "x rows 12;y rows 10;dx rows 12;dy rows 10;W 10 12;"

static program programs[] = {
    {"lora forward",          LAYER "A 4 12;B 10 4;H rows 4",                                                            "H[n,r] = x[n,i] * A[r,i]; y[n,o] += s * H[n,r] * B[o,r]",     2,  0},
    {"lora backward",         LAYER "A 4 12;B 10 4;H rows 4;dA 4 12;dB 10 4;dH rows 4",
     "dB[o,r] += s * dy[n,o] * H[n,r]; dH[n,r] = s * dy[n,o] * B[o,r]; dA[r,i] += dH[n,r] * x[n,i]; "
     "dx[n,i] += dH[n,r] * A[r,i]",                                                                                                                                                     4,  0},
    {"lora in one statement", LAYER "A 4 12;B 10 4",                                                                     "y[n,o] += s * x[n,i] * A[r,i] * B[o,r]",                      2,  0},
    {"dora prepare",          LAYER "A 4 12;B 10 4;U 4 10;G 4 4;c 10;m 10;g 10",
     "U[r,o] = A[r,i] * W[o,i]; G[r,q] = A[r,i] * A[q,i]; c[o] = W[o,i] * W[o,i]; c[o] += 2 * s * B[o,r] * U[r,o]; "
     "c[o] += s * s * B[o,r] * G[r,q] * B[o,q]; g[o] = m[o] / sqrt(abs(c[o]) + 1)",                                                                                                     2,  2},
    {"dora forward",          LAYER "A 4 12;B 10 4;H rows 4;z rows 10;g 10",
     "H[n,r] = x[n,i] * A[r,i]; z[n,o] = x[n,i] * W[o,i]; y[n,o] += (g[o] - 1) * z[n,o]; "
     "z[n,o] += s * H[n,r] * B[o,r]; y[n,o] += s * g[o] * H[n,r] * B[o,r]",                                                                                                             3,  1},
    {"dora backward",         LAYER "A 4 12;B 10 4;H rows 4;z rows 10;g 10;c 10;dB 10 4;dm 10;dH rows 4",
     "dm[o] += dy[n,o] * z[n,o] / sqrt(abs(c[o]) + 1) * g[o]; dB[o,r] += s * g[o] * dy[n,o] * H[n,r]; "
     "dH[n,r] = s * g[o] * dy[n,o] * B[o,r]; dx[n,i] += dy[n,o] * (g[o] - 1) * W[o,i]",                                                                                                 2,  1},
    {"ia3",                   LAYER "l 10;k 12;dl 10;dk 12",
     "y[n,o] *= l[o]; dl[o] += dy[n,o] * y[n,o] / l[o]; dy[n,o] *= l[o]; dk[i] += dy[n,o] * W[o,i] * x[n,i]",                                                                           0,  1},
    {"vera forward",          LAYER "A 4 12;B 10 4;b 10;d 4;H rows 4",
     "H[n,r] = x[n,i] * A[r,i]; y[n,o] += b[o] * B[o,r] * d[r] * H[n,r]",                                                                                                               2,  0},
    {"vera backward",         LAYER "A 4 12;B 10 4;b 10;d 4;H rows 4;db 10;dd 4;Q rows 4",
     "db[o] += dy[n,o] * B[o,r] * d[r] * H[n,r]; Q[n,r] = dy[n,o] * b[o] * B[o,r]; dd[r] += Q[n,r] * H[n,r]; "
     "dx[n,i] += Q[n,r] * d[r] * A[r,i]; dx[n,i] += dy[n,o] * b[o] * B[o,r] * d[r] * A[r,i]",                                                                                           -1, 0},
    {"oft",                   "x rows 12;y rows 12;dx rows 12;dy rows 12;R 3 4 4;dR 3 4 4;Q 3 4 4;T 3 4 4",
     "y[n,(k,b)] = x[n,(k,c)] * R[k,c,b]; dR[k,c,b] += x[n,(k,c)] * dy[n,(k,b)]; dx[n,(k,c)] += dy[n,(k,b)] * "
     "R[k,c,b]; "
     "T[k,a,c] = Q[k,a,b] * Q[k,b,c]; T[k,a,c] -= Q[k,b,a] * T2[k,b,c]; T2[k,a,b] = Q[k,a,b] - Q[k,b,a]",                                                                               -1, 0},
    {"loha",                  "D 10 12;dD 10 12;a 10 3;b 3 12;c 10 5;d 5 12;da 10 3;db 3 12;dd 5 12",
     "D[o,i] = s * a[o,r] * b[r,i] * c[o,q] * d[q,i]; da[o,r] += s * dD[o,i] * b[r,i] * c[o,q] * d[q,i]; "
     "db[r,i] += s * dD[o,i] * a[o,r] * c[o,q] * d[q,i]; dd[q,i] += s * dD[o,i] * a[o,r] * b[r,i] * c[o,q]",                                                                            8,  0},
    {"lokr",                  "x rows 12;y rows 10;dx rows 12;dy rows 10;U 2 3;V 5 4;a 5 2;b 2 4;dU 2 3;dV 5 4;D 10 12",
     "V[b,d] = a[b,r] * b[r,d]; y[n,(a,b)] += s * x[n,(c,d)] * U[a,c] * V[b,d]; "
     "dU[a,c] += s * dy[n,(a,b)] * x[n,(c,d)] * V[b,d]; dV[b,d] += s * dy[n,(a,b)] * x[n,(c,d)] * U[a,c]; "
     "dx[n,(c,d)] += s * dy[n,(a,b)] * U[a,c] * V[b,d]; D[(a,b),(c,d)] = U[a,c] * V[b,d]",                                                                                              -1, 0},
    {"adalora",               LAYER "A 4 12;B 10 4;E 4;dE 4;dA 4 12;G 4 4;loss 1",
     "y[n,o] += s * x[n,i] * A[r,i] * E[r] * B[o,r]; dE[r] += s * dy[n,o] * B[o,r] * A[r,i] * x[n,i]; "
     "G[r,q] = A[r,i] * A[q,i]; G[r,q] -= r == q; loss += G * G; dA[r,i] += 4 * s * G[r,q] * A[q,i]",                                                                                   -1, 0},
    {"bottleneck",
     "x rows 12;y rows 12;D 4 12;e 4;U 12 4;f 12;z rows 4;h rows 4;dy rows 12;dz rows 4;dU 12 4;df 12;dx rows 12",       "z[n,r] = x[n,i] * D[r,i]; z[n,r] += e[r]; h = max(z, 0); y[n,o] += s * h[n,r] * U[o,r]; y[n,o] += s * f[o]; "
     "dU[o,r] += s * dy[n,o] * h[n,r]; df[o] += s * dy[n,o]; dz[n,r] = s * dy[n,o] * U[o,r] * (z[n,r] > 0); "
     "dx[n,i] += dz[n,r] * D[r,i]",                                   -1, 0},
    {"muon",                  "X 4 12;A 4 4;B 4 4;Y 4 12;norm 1",
     "norm = X * X; X = X / sqrt(norm); A[i,j] = X[i,k] * X[j,k]; B = 0.5 * A; B[i,j] += s * A[i,k] * A[k,j]; "
     "Y = 3.4 * X; Y[i,k] += B[i,j] * X[j,k]",                                                                                                                                          3,  0},
    {"sums of products",      LAYER "A 4 12;B 10 4;H rows 4;G rows 4;C 10 4;d 10",
     "y[n,o] -= d[o] * (H[n,r] * B[o,r] - s * G[n,r] * C[o,r]); y[n,o] = H[n,r] * B[o,r] + G[n,r] * C[o,r]; "
     "H[n,r] = x[n,i] * (A[r,i] - 1); H[n,r] = -(x[n,i] * A[r,i]) / s",                                                                                                                 -1, 0},
    {"W in sums",             LAYER "D 10 12;h 10;f 1;c 10",
     "y[n,o] = x[n,i] * (W[o,i] + D[o,i]); y[n,o] += h[o] * x[n,i] * W[o,i] / 2; f = W[o,i] * W[o,i]; f -= s * W * W; "
     "c[o] -= h[o] * W[o,i] * W[o,i]",                                                                                                                                                  -1, 5},
    {"W transposed",          "A 4 12;U 10 4;V 12 4;B 10 4;W 10 12;u 12;v 10;a 12",
     "U[o,r] = W[o,i] * A[r,i]; U[o,r] -= s * W[o,i] * A[r,i]; V[i,r] += W[o,i] * B[o,r]; v[o] = W[o,i] * u[i]; a[i] = "
     "W[o,i] * v[o]; "
     "v[o] += W[o,i] * u[i] * a[i]",                                                                                                                                                    0,  6},
    {"one-hot",               "X rows 12;A 4 12;H rows 4;dH rows 4;dA 4 12;E 12 4;l 12;dE 12 4;m rows;v rows;w 12",
     "H[n,r] = X[n,i] * A[r,i]; dA[r,i] += s * dH[n,r] * X[n,i]; H[n,r] += s * X[n,i] * E[i,r]; "
     "dE[i,r] = dH[n,r] * X[n,i]; H[n,r] -= X[n,i] * l[i] * A[r,i]; dE[i,r] += m[n] * dH[n,r] * X[n,i]; "
     "v[n] = X[n,i] * l[i]; w[i] += m[n] * X[n,i]",                                                                                                                                     8,  0},
    {"order of dimensions",   "a 3 5 4;b 4 3 6;c 6 5 3;d 5 6;e 2 3 5 4;f 4 2 3 6;g 2 5 6;h 5 3 6",
     "c[n,m,k] = a[k,m,j] * b[j,k,n]; d[m,n] = a[k,m,j] * b[j,k,n]; d[m,n] += a[k,m,j] * b[j,k,n]; "
     "g[p,m,n] = e[p,k,m,j] * f[j,p,k,n]; h[m,k,n] = a[k,m,j] * b[j,k,n]; c[n,m,k] -= s * a[k,m,j] * b[j,k,n]",                                                                         6,  0},
    {"fixed places",          "a 3 5 4;b 4 3 6;c 6 5 3;q 5 6",
     "q[m,n] = a[1,m,j] * b[j,=two,n]; c[n,m,=two-1] += s * a[0,m,j] * b[j,2,n]; q[m,n] += a[k,m,3] * b[0,k,n]",                                                                        3,  0},
    {"vectors and scalars",   "A 6 8;u 8;v 6;t 1;k 6 8;z 1",
     "v[o] = A[o,i] * u[i]; u[i] += v[o] * A[o,i]; t = v[o] * A[o,i] * u[i]; A[o,i] += t * v[o] * u[i]; z = A * k; z "
     "-= A * k; "
     "v[o] = t * A[o,i] * u[i]; k[o,i] += t",                                                                                                                                           -1, 0},
    {"many factors",          LAYER "A 4 12;B 10 4;e 4;g 10;l 12;m rows",
     "y[n,o] += s * m[n] * x[n,i] * l[i] * A[r,i] * e[r] * B[o,r] * g[o]; "
     "y[n,o] += m[n] / (1 + abs(l[i])) * x[n,i] * A[r,i] / (2 * s) * B[o,r] / g[o]",                                                                                                    -1, 0},
    {"broadcast results",     "a 3 4;b 5 4;c 3 5 6;d 6 3 5",                                                             "c[i,j,k] = a[i,r] * b[j,r]; d[k,i,j] -= s * a[i,r] * b[j,r]",
     2,                                                                                                                                                                                     0},
    {"unequal sums",          "a 3 4;b 5 4;c 3 5;e 3 5;p 2 4",
     "c[i,j] = a[i,r] * b[j,r] + a[i,r] * e[i,j]; c[i,j] += a[i,r] * b[j,r] * p[q,r]",                                                                                                  -1, 0},
};
enum { PROGRAMS = sizeof programs / sizeof *programs };

static kit *world(const program *p) {
    char tensors[400];
    strcpy(tensors, p->tensors);
    if (strcmp(p->name, "oft") == 0) strcat(tensors, ";T2 3 4 4");
    kit *const k = kit_new(tensors);
    for (int32_t i = 0; i < k->tensor_count; i++) {
        formula_tensor *const t = &k->tensors[i];
        if (strcmp(t->name, "W") == 0) t->kind = FORMULA_WEIGHT;
        if (strcmp(t->name, "X") == 0 && strcmp(p->name, "one-hot") == 0) t->kind = FORMULA_ONEHOT;
        t->activation = t->shape[0] == FORMULA_ROWS && (t->shape[1] == 12 || t->shape[1] == 10) && t->rank == 2;
    }
    kit_number(k, "s", 0.75);
    kit_number(k, "two", 2);
    return k;
}

ParameterizedTestParameters(formula, products_equal_the_map_in_f64) {
    return cr_make_param_array(program, programs, PROGRAMS);
}
ParameterizedTest(program *p, formula, products_equal_the_map_in_f64) {
    kit *const k = world(p);
    const double difference = kit_products_against_map(k, p->text);
    cr_expect_leq(difference, 1e-12, "%s: %g", p->name, difference);
    if (p->gemms >= 0) cr_expect_eq(k->gemms, p->gemms, "%s: %d products, %d wanted", p->name, k->gemms, p->gemms);
    if (p->weights >= 0)
        cr_expect_eq(k->weights, p->weights, "%s: %d weight calls, %d wanted", p->name, k->weights, p->weights);
    kit_free(k);
}

/* f32: each value is a sum of at most a few hundred products of numbers below 1, in f32 at the worst. */
ParameterizedTestParameters(formula, products_in_f32_equal_the_map_in_f64) {
    return cr_make_param_array(program, programs, PROGRAMS);
}
ParameterizedTest(program *p, formula, products_in_f32_equal_the_map_in_f64) {
    kit *const k = world(p);
    cr_assert_eq(kit_run(k, p->text, (kit_way){.maps_only = 1}), 0, "%s", k->err.text);
    double *expected[KIT_TENSORS];
    for (int32_t i = 0; i < k->tensor_count; i++) {
        expected[i] = k->result[i];
        k->result[i] = mem_new((size_t)k->count[i], sizeof(double));
    }
    static const char *const devices[] = {"ref", "fake", "cpu"};
    for (int d = 0; d < 3; d++) {
        cr_assert_eq(kit_run(k, p->text, (kit_way){.device = devices[d]}), 0, "%s", k->err.text);
        for (int32_t i = 0; i < k->tensor_count; i++) {
            double most = 1e-30, difference = 0;
            for (int64_t e = 0; e < k->count[i]; e++)
                most = fmax(most, fabs(expected[i][e])),
                difference = fmax(difference, fabs(expected[i][e] - k->result[i][e]));
            cr_expect_leq(difference / most, 2e-5, "%s on %s: %s", p->name, devices[d], k->tensors[i].name);
        }
    }
    for (int32_t i = 0; i < k->tensor_count; i++)
        free(expected[i]);
    kit_free(k);
}

ParameterizedTestParameters(formula, no_rows_are_no_error) {
    return cr_make_param_array(program, programs, PROGRAMS);
}
ParameterizedTest(program *p, formula, no_rows_are_no_error) {
    kit *const k = world(p);
    cr_assert_eq(kit_run(k, p->text, (kit_way){.rows_zero = 1}), 0, "%s", k->err.text);
    kit_free(k);
}
