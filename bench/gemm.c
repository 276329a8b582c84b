/* bench-gemm — the products of a training step in TFLOP/s, oneDNN and graft's own in turns, best and median of each.
 *
 *   bench-gemm [ROUNDS] [THREADS] [number of the only shape]
 *
 * Columns: oneDNN with W as it is stored, and with W in its own order; ours: forward, forward + LoRA r16, NF4 forward, input
 * gradient, the same with LoRA r16 and dA, dB, and from NF4. A rate counts the base product's 2·T·N·K only, so a low-rank
 * column shows what the terms cost. f32 with GRAFT_CPU=avx2 or avx512. */
#include "base/log.h"
#include "base/memory.h"
#include "base/philox.h"
#include "kernels/codebook.h"
#include "kernels/cpu/calibrate.h"
#include "onednn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RANK = 16, ROUNDS_MAX = 1000 };

typedef enum { DNNL_PLAIN, DNNL_PACKED, FORWARD, FORWARD_LORA, FORWARD_NF4, GRAD, GRAD_LORA, GRAD_NF4, KINDS } kind;
static const char *const names[KINDS] = {"dnnl W", "dnnl any", "fwd", "fwd+r16", "fwd nf4", "dX", "dX+r16", "dX nf4"};

typedef struct {
    kernels *k;
    int64_t t, n, kk; /* rows, out, in */
    dtype type;
    void *x, *y, *dy, *dx;
    weight plain, nf4;
    lowrank_term term;
    onednn_product *dnnl[2];
} bench;

/* With one thread the processor time: what else runs on the machine does not count. */
static double seconds(int threads) {
    struct timespec now;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *numbers(kernels *k, dtype type, int64_t n, uint64_t stream) {
    char *const dev = k->alloc(k, n * dtype_bytes(type));
    if (!dev) {
        log_error("out of memory: %lld numbers were wanted", (long long)n);
        exit(1);
    }
    float some[4096];
    char narrow[sizeof some];
    for (int i = 0; i < 4096; i++)
        some[i] = (float)philox_normal(3, stream, (uint64_t)i);
    dtype_convert(narrow, type, some, F32, 4096);
    for (int64_t i = 0; i < n; i += 4096)
        k->upload(k, dev + i * dtype_bytes(type), narrow, (n - i < 4096 ? n - i : 4096) * dtype_bytes(type));
    return dev;
}

static bench bench_make(kernels *k, int64_t t, int64_t n, int64_t kk) {
    bench b = {.k = k, .t = t, .n = n, .kk = kk, .type = k->multiplies_bf16 ? BF16 : F32};
    b.x = numbers(k, b.type, t * kk, 1), b.dy = numbers(k, b.type, t * n, 2);
    b.y = numbers(k, b.type, t * n, 3), b.dx = numbers(k, b.type, t * kk, 4);
    b.plain =
        (weight){.out = n, .in = kk, .layout = WEIGHT_PLAIN, .type = b.type, .data = numbers(k, b.type, n * kk, 5)};
    b.nf4 = (weight){.out = n, .in = kk, .layout = WEIGHT_CODEBOOK4, .type = b.type, .block = 64};
    b.nf4.data = numbers(k, F32, n * kk / 8, 6), b.nf4.scale = numbers(k, F32, n * kk / 64 + 1, 7);
    memcpy(b.nf4.code, codebook_nf4, sizeof b.nf4.code);
    b.term = (lowrank_term){.type = F32, .rank = RANK, .s = 2};
    b.term.a = numbers(k, F32, RANK * kk, 8), b.term.b = numbers(k, F32, RANK * n, 9);
    b.term.h = numbers(k, F32, RANK * t, 10), b.term.dh = numbers(k, F32, RANK * t, 11);
    b.term.da = numbers(k, F32, RANK * kk, 12), b.term.db = numbers(k, F32, RANK * n, 13);
    for (int packed = 0; packed < 2; packed++)
        b.dnnl[packed] = onednn_create(t, n, kk, b.type, 1, packed, b.x, b.plain.data, b.y);
    return b;
}

static void bench_free(bench *b) {
    void *const all[] = {b->x,
                         b->y,
                         b->dy,
                         b->dx,
                         b->plain.data,
                         b->nf4.data,
                         b->nf4.scale,
                         (void *)(uintptr_t)b->term.a,
                         (void *)(uintptr_t)b->term.b,
                         b->term.h,
                         b->term.dh,
                         b->term.da,
                         b->term.db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->k->release(b->k, all[i]);
    for (int packed = 0; packed < 2; packed++)
        onednn_destroy(b->dnnl[packed]);
}

static int bench_run(bench *b, kind what) {
    const weight *w = what == FORWARD_NF4 || what == GRAD_NF4 ? &b->nf4 : &b->plain;
    const int terms = what == FORWARD_LORA || what == GRAD_LORA;
    if (what == DNNL_PLAIN || what == DNNL_PACKED) {
        if (!b->dnnl[what]) return 0;
        onednn_run(b->dnnl[what]);
    } else if (what < GRAD)
        b->k->weight_forward(b->k, w, NULL, b->x, b->type, b->y, b->type, b->t, 0, 1, &b->term, terms);
    else
        b->k->weight_input_grad(b->k, w, b->dy, b->type, b->dx, b->type, b->x, b->type, b->t, 0, 1, &b->term, terms);
    return 1;
}

static int ascending(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void measure(kernels *k, const int64_t *shape, int rounds) {
    bench b = bench_make(k, shape[0], shape[1], shape[2]);
    static double times[KINDS][ROUNDS_MAX];
    int there[KINDS];
    for (int r = -1; r < rounds; r++) /* the first round warms up */
        for (int what = 0; what < KINDS; what++) {
            const double begin = seconds(team_threads(k->threads));
            there[what] = bench_run(&b, what);
            if (r >= 0) times[what][r] = seconds(team_threads(k->threads)) - begin;
        }
    const double work = 2e-12 * (double)shape[0] * (double)shape[1] * (double)shape[2];
    printf("%5ld %6ld %6ld", (long)shape[0], (long)shape[1], (long)shape[2]);
    for (int what = 0; what < KINDS; what++) {
        qsort(times[what], (size_t)rounds, sizeof(double), ascending);
        if (there[what])
            printf(" | %5.3f %5.3f", work / times[what][0], work / times[what][rounds / 2]);
        else
            printf(" |     -     -");
    }
    printf("\n");
    fflush(stdout);
    bench_free(&b);
}

int main(int argc, char **argv) {
    static const int64_t shapes[][3] = {
        {512,  2048,   640 },
        {512,  640,    2048},
        {512,  1024,   640 },
        {512,  640,    1024},
        {512,  1536,   576 },
        {512,  576,    1536},
        {512,  576,    576 },
        {512,  4864,   896 },
        {512,  896,    4864},
        {1024, 2048,   2048},
        {2048, 2048,   2048},
        {128,  2048,   640 },
        {32,   2048,   2048},
        {1,    8192,   2048},
        {128,  262144, 640 },
        {256,  262144, 640 },
        {512,  49152,  576 }
    };
    if (!getenv(
            "OMP_WAIT_POLICY")) { /* OpenMP's waiting threads would take our processors; it reads this at its start */
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    const int wanted = argc > 1 ? atoi(argv[1]) : 15, rounds = wanted < 1            ? 1
                                                               : wanted > ROUNDS_MAX ? ROUNDS_MAX
                                                                                     : wanted;
    const int only = argc > 3 ? atoi(argv[3]) : -1;
    team *const threads = team_create(argc > 2 ? atoi(argv[2]) : 0);
    graft_error err = {0};
    kernels *k;
    if (kernels_open("cpu", threads, &k, &err)) {
        log_error("%s", err.text);
        return err.code;
    }
    onednn_threads(team_threads(threads));
    printf("isa %s, %d threads, oneDNN %s, calibrated %.3f TF; best and median of %d\n    T      N      K", k->isa,
           team_threads(threads), onednn_version(), cpu_calibrate_gemm(k), rounds);
    for (int what = 0; what < KINDS; what++)
        printf(" | %11s", names[what]);
    printf("\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (only < 0 || (int)i == only) measure(k, shapes[i], rounds);
    k->close(k);
    team_destroy(threads);
    return 0;
}
