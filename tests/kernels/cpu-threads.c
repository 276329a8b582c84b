/* No result of the fast table depends on the number of threads: every function that cuts work into parts, on shapes of many
 * parts, with 1, 2 and 5 threads, byte by byte. */
#include "base/digest.h"
#include "compare.h"
#include "cpu-sets.h"
#include "kernels/codebook.h"
#include <string.h>

enum { ROWS = 400, WIDTH = 320, OUT = 450, RANK = 12, HEADS = 4, KV = 2, DIM = 40, RESULTS = 128 };

typedef struct {
    kernels *k;
    pair p; /* for its makers of numbers: both sides are the same table */
    uint32_t crc[RESULTS];
    int count;
} bench;

static void *numbers(bench *b, dtype type, int64_t n) {
    return pair_random(&b->p, (int)type, n, 1).dev[0];
}

static void result(bench *b, const void *dev, dtype type, int64_t n) {
    cr_assert_lt(b->count, RESULTS);
    void *const host = mem_new((size_t)n, (size_t)dtype_bytes(type));
    b->k->download(b->k, host, dev, n * dtype_bytes(type));
    b->crc[b->count++] = digest_crc32(0, host, (size_t)(n * dtype_bytes(type)));
    free(host);
}

static void product(bench *b, dtype type, int64_t m, int64_t n, int64_t k) {
    void *const x = numbers(b, type, m * k), *const y = numbers(b, type, k * n), *const c = numbers(b, F32, m * n);
    const gemm_call g = {
        .batch = 1,
        .m = m,
        .n = n,
        .k = k,
        .a = {x, type, k, 1, 0, NULL},
        .b = {y, type, 1, k, 0, NULL},
        .c = c,
        .c_type = F32,
        .c_row = n,
        .c_col = 1,
        .alpha = 1,
        .accumulate = 1
    };
    b->k->gemm(b->k, &g);
    result(b, c, F32, m * n);
}

static void layer(bench *b, dtype type, weight_layout layout) {
    kernels *const k = b->k;
    weight w = {.out = OUT, .in = WIDTH, .layout = layout, .type = type, .block = 64};
    w.data = numbers(b, layout == WEIGHT_PLAIN ? type : F32, OUT * WIDTH), w.scale = numbers(b, F32, OUT * WIDTH);
    memcpy(w.code, codebook_nf4, sizeof w.code);
    if (layout != WEIGHT_PLAIN) k->weight_quantize(k, &w, numbers(b, F32, OUT * WIDTH));
    lowrank_term t = {.type = F32,
                      .rank = RANK,
                      .s = 2,
                      .a = numbers(b, F32, RANK * WIDTH),
                      .b = numbers(b, F32, RANK * OUT),
                      .h = numbers(b, F32, RANK * ROWS),
                      .dh = numbers(b, F32, RANK * ROWS),
                      .da = numbers(b, F32, RANK * WIDTH),
                      .db = numbers(b, F32, RANK * OUT)};
    void *const x = numbers(b, type, ROWS * WIDTH), *const y = numbers(b, type, ROWS * OUT);
    void *const dy = numbers(b, type, ROWS * OUT), *const dx = numbers(b, type, ROWS * WIDTH),
                *norms = numbers(b, F32, OUT);
    k->weight_forward(k, &w, NULL, x, type, y, type, ROWS, 0, 1, &t, 1);
    k->weight_input_grad(k, &w, dy, type, dx, type, x, type, ROWS, 0, 1, &t, 1);
    k->weight_row_sqnorm(k, &w, norms);
    result(b, y, type, ROWS * OUT);
    result(b, dx, type, ROWS * WIDTH);
    result(b, t.da, F32, RANK * WIDTH);
    result(b, t.db, F32, RANK * OUT);
    result(b, norms, F32, OUT);
}

static void attend(bench *b, dtype type) {
    enum { Q = HEADS * DIM, K = KV * DIM, VIRTUAL = 3 };
    static const attention_span spans[] = {
        {0,   300, 0,   300},
        {300, 100, 300, 100}
    };
    int32_t positions[ROWS];
    for (int i = 0; i < ROWS; i++)
        positions[i] = VIRTUAL + (i < 300 ? i : i - 300);
    const int32_t *const at = pair_bytes(&b->p, I32, positions, ROWS).dev[0];
    attention_call a = {.type = type,
                        .q = numbers(b, type, ROWS * Q),
                        .k = numbers(b, type, ROWS * K),
                        .v = numbers(b, type, ROWS * K),
                        .q_stride = Q,
                        .k_stride = K,
                        .v_stride = K,
                        .o_stride = Q,
                        .q_pos = at,
                        .k_pos = at,
                        .spans = spans,
                        .span_count = 2,
                        .rows = ROWS,
                        .heads = HEADS,
                        .kv_heads = KV,
                        .head_dim = DIM,
                        .scale = 0.2,
                        .window = 100,
                        .virtual_k = numbers(b, type, VIRTUAL * K),
                        .virtual_v = numbers(b, type, VIRTUAL * K),
                        .virtual_rows = VIRTUAL,
                        .o = numbers(b, type, ROWS * Q),
                        .lse = numbers(b, F32, ROWS * HEADS),
                        .d_o = numbers(b, type, ROWS * Q),
                        .dq = numbers(b, type, ROWS * Q),
                        .dk = numbers(b, type, ROWS * K),
                        .dv = numbers(b, type, ROWS * K),
                        .dvirtual_k = numbers(b, F32, VIRTUAL * K),
                        .dvirtual_v = numbers(b, F32, VIRTUAL * K)};
    b->k->attention_forward(b->k, &a);
    b->k->attention_backward(b->k, &a);
    result(b, a.o, type, ROWS * Q);
    result(b, a.dq, type, ROWS * Q);
    result(b, a.dk, type, ROWS * K);
    result(b, a.dv, type, ROWS * K);
    result(b, a.dvirtual_k, F32, VIRTUAL * K);
    result(b, a.dvirtual_v, F32, VIRTUAL * K);
}

static void sums(bench *b, dtype type) {
    kernels *const k = b->k;
    void *const x = numbers(b, type, ROWS * WIDTH), *const dy = numbers(b, type, ROWS * WIDTH),
                *w = numbers(b, F32, WIDTH);
    void *const dx = numbers(b, type, ROWS * WIDTH), *const dw = numbers(b, F32, WIDTH),
                *const db = numbers(b, F32, WIDTH);
    k->norm_backward(k, NORM_LAYER, x, w, 1e-6, dy, dx, dw, db, type, ROWS, WIDTH, 0);
    k->column_sum(k, x, type, ROWS, WIDTH, db);
    result(b, dx, type, ROWS * WIDTH);
    result(b, dw, F32, WIDTH);
    result(b, db, F32, WIDTH);
    const double norm = k->sqnorm(k, x, type, ROWS * WIDTH);
    b->crc[b->count++] = digest_crc32(0, &norm, sizeof norm);
    int32_t ids[ROWS];
    for (int i = 0; i < ROWS; i++)
        ids[i] = i * 7 % 31;
    void *const table = numbers(b, F32, 31 * WIDTH), *const at = pair_bytes(&b->p, I32, ids, ROWS).dev[0];
    k->scatter_rows(k, at, dy, type, ROWS, WIDTH, 0.5, -1, table);
    result(b, table, F32, 31 * WIDTH);
}

/* t[j] += Σ_n x[n,j]·y[n,j] and its maximum, along both kinds of inner index; draws. */
static void maps(bench *b) {
    static const map_instruction code[] = {
        {MAP_LOAD,    1},
        {MAP_LOAD,    2},
        {MAP_MUL,     0},
        {MAP_NUMBER,  0},
        {MAP_NUMBER,  1},
        {MAP_UNIFORM, 0},
        {MAP_ADD,     0}
    };
    const double range[] = {-1, 1};
    for (int i = 0; i < 8; i++) {
        const int turned = i % 2, kept = i / 4 ? 2 : 1;
        map_program p = {.indices = 2,
                         .kept = kept,
                         .reduce_max = i / 2 % 2,
                         .store = MAP_PLUS,
                         .operands = 3,
                         .numbers = 2,
                         .length = 7,
                         .code = code};
        map_call c = {
            .extent = {WIDTH, ROWS},
              .numbers = range, .seed = 3, .stream = 4
        };
        const int64_t size = kept == 2 ? ROWS * WIDTH : WIDTH;
        c.operand[0] = (map_operand){
            .data = numbers(b, F32, size), .type = F32, .stride = {kept == 2 ? ROWS : 1, kept == 2}
        };
        for (int o = 1; o < 3; o++)
            c.operand[o] = (map_operand){
                .data = numbers(b, BF16, ROWS * WIDTH),
                .type = BF16,
                .stride = {turned ? ROWS : 1, turned ? 1 : WIDTH}
            };
        b->k->map(b->k, &p, &c);
        result(b, c.operand[0].data, F32, size);
    }
}

static void everything(bench *b) {
    static const dtype types[] = {F32, BF16};
    for (int t = 0; t < 2; t++) {
        product(b, types[t], 400, 500, 600);
        product(b, types[t], 30, 50, 9000);
        product(b, types[t], 2000, 1, 300);
        for (int layout = 0; layout < 3; layout++)
            layer(b, types[t], (weight_layout)layout);
        pair_release(&b->p);
        attend(b, types[t]);
        sums(b, types[t]);
        pair_release(&b->p);
    }
    maps(b);
}

static void any_number_of_threads(const char *set) {
    static const int counts[] = {1, 2, 5};
    static bench runs[3];
    setenv("GRAFT_CPU", set, 1);
    for (int i = 0; i < 3; i++) {
        team *const threads = team_create(counts[i]);
        runs[i] = (bench){0};
        runs[i].k = open_device("cpu", threads);
        runs[i].p.k[0] = runs[i].k, runs[i].p.k[1] = open_device("ref", NULL);
        everything(&runs[i]);
        pair_close(&runs[i].p);
        team_destroy(threads);
        for (int r = 0; r < runs[0].count; r++)
            cr_assert_eq(runs[0].crc[r], runs[i].crc[r], "result %d with %d threads", r, counts[i]);
    }
}
FOR_SETS(cpu_threads, change_no_bit_of_any_result, any_number_of_threads)
