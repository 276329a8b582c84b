/* fuzz-formula — any text compiles or is refused, and what compiles runs inside its tensors.
 *
 * With clang -fsanitize=fuzzer -DFUZZ this is a libFuzzer target; otherwise an executable that runs a fixed corpus and
 * deterministic mutations of it. The device is "ref": a sanitizer sees every read and write of it. */
#include "base/philox.h"
#include "formula/formula.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 3, TEXT_MAX = 4096, SMALL = 1 << 14 /* runs are kept short */ };

static const struct {
    formula_tensor tensor;
    int64_t bytes, scale_bytes;
} world[] = {
    {{"x", FORMULA_TENSOR, FORMULA_READ, 2, {FORMULA_ROWS, 6}, F32, STORE_PLAIN, 1, {0}},                  ROWS * 6 * 2, 0},
    {{"y", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {FORMULA_ROWS, 4}, F32, STORE_PLAIN, 1, {0}},
     ROWS * 4 * 2,
     0                                                                                                                    },
    {{"dy", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {FORMULA_ROWS, 4}, F32, STORE_PLAIN, 0, {0}},
     ROWS * 4 * 4,
     0                                                                                                                    },
    {{"W", FORMULA_WEIGHT, FORMULA_READ, 2, {4, 6}, BF16, STORE_PLAIN, 0, {0}},                            4 * 6 * 2,    0},
    {{"e", FORMULA_ONEHOT, FORMULA_READ, 2, {FORMULA_ROWS, 6}, F32, STORE_PLAIN, 0, {0}},                  ROWS * 4,     0},
    {{"A", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {2, 6}, F32, STORE_PLAIN, 0, {0}},             2 * 6 * 4,    0},
    {{"B", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {4, 2}, F32, STORE_PLAIN, 0, {3}},             11 * 4,       0},
    {{"H", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {FORMULA_ROWS, 2}, F32, STORE_PLAIN, 0, {0}},
     ROWS * 2 * 4,
     0                                                                                                                    },
    {{"dA", FORMULA_TENSOR, FORMULA_ADD, 2, {2, 6}, F32, STORE_PLAIN, 0, {0}},                             2 * 6 * 4,    0},
    {{"R", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 3, {3, 2, 2}, F32, STORE_PLAIN, 0, {0}},          12 * 4,       0},
    {{"T", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 4, {2, 3, 1, 2}, F32, STORE_PLAIN, 0, {0}},       12 * 4,       0},
    {{"c", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {4, 6}, U8, STORE_U4_HIGH, 0, {0}},            12,           0},
    {{"q", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 1, {6}, I8, STORE_PLAIN, 0, {0}},                 6,            0},
    {{"m", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {4, 100}, U8, STORE_BLOCKS8, 0, {0}},          400,          8},
    {{"v", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 1, {6}, F32, STORE_PLAIN, 0, {0}},                6 * 4,        0},
    {{"t", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 1, {1}, F32, STORE_PLAIN, 0, {0}},                4,            0},
    {{"Z", FORMULA_TENSOR, FORMULA_READ | FORMULA_WRITE, 2, {0, 6}, F32, STORE_PLAIN, 0, {0}},             0,            0},
    {{"no", FORMULA_TENSOR, 0, 2, {4, 6}, F32, STORE_PLAIN, 0, {0}},                                       0,            0},
};
enum { TENSORS = sizeof world / sizeof *world };
static const char *const names[] = {"s", "rank", "j", "lr"};
static const double numbers[] = {0.5, 2, 1, 1e-3};

static int64_t programs_run; /* proof that the target does more than refuse */

/* Each tensor gets an allocation of its own, exactly as large as it is. */
static void run(kernels *device, const formula *f) {
    static const int32_t ids[ROWS] = {5, -1, 0};
    formula_binding bindings[TENSORS] = {0};
    weight w = {.out = 4, .in = 6, .layout = WEIGHT_PLAIN, .type = BF16};
    for (int i = 0; i < TENSORS; i++) {
        bindings[i].data = world[i].bytes ? calloc(1, (size_t)world[i].bytes) : NULL;
        bindings[i].scale = world[i].scale_bytes ? calloc(1, (size_t)world[i].scale_bytes) : NULL;
        if (world[i].tensor.kind == FORMULA_WEIGHT) w.data = bindings[i].data, bindings[i].w = &w;
        if (world[i].tensor.kind == FORMULA_ONEHOT) bindings[i].onehot = ids;
    }
    for (int64_t rows = 0; rows <= ROWS; rows += ROWS) {
        void *const scratch = malloc((size_t)formula_scratch(f, rows));
        const formula_run_call call = {.device = device,
                                       .bindings = bindings,
                                       .numbers = numbers,
                                       .rows = rows,
                                       .activation = BF16,
                                       .scratch = scratch};
        formula_run(f, &call);
        free(scratch);
    }
    for (int i = 0; i < TENSORS; i++)
        free(bindings[i].data), free(bindings[i].scale);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    formula_tensor tensors[TENSORS];
    char text[TEXT_MAX + 1];
    kernels *device = NULL;
    graft_error err = {0};
    formula *f = NULL;
    const size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    if (length) memcpy(text, data, length);
    text[length] = '\0';
    for (int i = 0; i < TENSORS; i++)
        tensors[i] = world[i].tensor;
    const formula_scope scope = {
        .tensors = tensors, .tensor_count = TENSORS, .numbers = names, .number_count = 4, .where = "fuzz", .real = F32};
    double value;
    int64_t shape[FORMULA_RANK];
    int32_t rank;
    formula_number(text, names, numbers, 4, &value, NULL);
    formula_shape(text, names, numbers, 4, shape, &rank, NULL);
    if (formula_compile(text, &scope, &f, &err) != (f == NULL) || (!f && !err.text[0])) abort();
    if (f && formula_scratch(f, ROWS) < SMALL && !kernels_open("ref", NULL, &device, &err)) {
        run(device, f);
        device->close(device);
        programs_run++;
    }
    formula_free(f);
    return 0;
}

#ifndef FUZZ
static const char *const corpus[] = {
    "H[n,r] = x[n,i] * A[r,i]",
    "y[n,o] += s * H[n,r] * B[o,r]",
    "dA[r,i] += H[n,r] * x[n,i]",
    "y[n,o] = x[n,i] * W[o,i] - x[n,i] * v[i] * B[o,0]",
    "A[r,i] += dy[n,o] * B[o,r] * W[o,i]",
    "H[n,r] = e[n,i] * A[r,i] / (1 + rank)",
    "dA[r,i] -= H[n,r] * e[n,i] * t",
    "t = W[o,i] * W[o,i]",
    "dy[n,(a,b)] = x[n,(k,c)] * R[k,a,b] * T[c,k,0,=j]",
    "R[k,a,b] = R[k,a,b] * 2 + uniform(-1, 1)",
    "T[a,k,0,b] -= R[k,a,d] * R[k,d,b]",
    "R[k,a,b] = T[a,k,z,c] * T[c,k,z,b]",
    "dy[n,(a,b)] = x[n,(k,b)] * R[k,a,0]",
    "c[o,i] = dy[=j,o] * v[i] > A[r,i]",
    "c = 3 * c",
    "q[i] = v[i] * 127",
    "m = 0.9 * m + 0.1",
    "m[o,p] += B[o,r] * A[r,0]",
    "v[i] = A[q[i],i] + A[=j,i]",
    "A[1,i] = A[0,i] - A[=j-1,i]",
    "t max= abs(A)",
    "A = s * A + (lr > 0 ? A * A : 1)",
    "A[r,i] = r == i && !(A[r,i] < 0) || i >= 2",
    "Z[o,i] = A[r,i] * B[o,r]",
    "y = mt19937(0, 5)",
    "v = normal",
    "v /= sqrt(abs(v)) + 1e-8",
    "y[n,o] -= (H[n,r] - s) * (B[o,r] / (1 + rank)) * -t",
    "H[n,r] = v[i] * (x[n,i] * A[r,i] - lr * A[r,i])",
};
enum { CORPUS = sizeof corpus / sizeof *corpus, MUTATIONS = 20000 };

static uint64_t draw(uint64_t *at, uint64_t below) {
    return philox_bits(2024, 1, (*at)++) % below;
}

/* One to three statements of the corpus, with up to three characters changed, put in or taken out. */
static size_t mutate(uint64_t *at, char *text) {
    static const char alphabet[] = "xyWABHRTecqmvtZnoirkabsj0123.,;()[]=+-*/!<>&|?: max";
    size_t length = 0;
    for (uint64_t statements = 1 + draw(at, 3); statements; statements--)
        length += (size_t)snprintf(text + length, TEXT_MAX - length, "%s;", corpus[draw(at, CORPUS)]);
    for (uint64_t changes = draw(at, 4); changes; changes--) {
        const size_t place = draw(at, length);
        const char c = draw(at, 40) ? alphabet[draw(at, sizeof alphabet - 1)] : (char)draw(at, 256);
        switch (draw(at, 3)) {
        case 0:
            text[place] = c;
            break;
        case 1:
            memmove(text + place + 1, text + place, length - place);
            text[place] = c, length++;
            break;
        default:
            memmove(text + place, text + place + 1, length - place - 1), length--;
        }
    }
    return length;
}

int main(void) {
    char text[TEXT_MAX];
    uint64_t at = 0;
    for (int i = 0; i < CORPUS; i++)
        LLVMFuzzerTestOneInput((const uint8_t *)corpus[i], strlen(corpus[i]));
    const int64_t whole = programs_run;
    for (int i = 0; i < MUTATIONS; i++) {
        const size_t length = mutate(&at, text);
        LLVMFuzzerTestOneInput((const uint8_t *)text, length);
    }
    printf("%d texts, %d compiled and ran\n", CORPUS + MUTATIONS, (int)programs_run);
    return whole == CORPUS && programs_run > MUTATIONS / 10 ? 0 : 1;
}
#endif
