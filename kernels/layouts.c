/* layouts — see layouts.h. Sums of a tile are kept in the real type and rounded once when they reach y or dx. */
#include "kernels/layouts.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { GRAD_ROWS = 512 /* rows of dx whose sums are kept at a time: every such stretch dequantizes W once */ };

/* ---- memory and maps ---- */

static void *room(kernels *k, int64_t bytes) {
    void *const dev = k->alloc(k, bytes);
    if (dev) return dev;
    fprintf(stderr, "error: out of memory: %lld bytes for tiles of a weight were wanted\n", (long long)bytes);
    _exit(1);
}

static map_operand dense(void *data, dtype type, int64_t row) {
    return (map_operand){
        .data = data, .type = type, .stride = {row, 1}
    };
}

static map_operand read_only(const void *data, dtype type, int64_t row) {
    return dense((void *)(uintptr_t)data, type, row);
}

/* Runs code over (rows, columns); kept = 1 reduces the columns. */
static void run_map(kernels *k, const map_instruction *code, int32_t length, int32_t kept, int32_t most,
                    map_store store, int64_t rows, int64_t columns, const map_operand *operand, int32_t operands,
                    const double *numbers) {
    const map_program p = {.indices = 2,
                           .kept = kept,
                           .reduce_max = most,
                           .store = store,
                           .operands = operands,
                           .numbers = 2,
                           .length = length,
                           .code = code};
    map_call c = {
        .extent = {rows, columns},
          .numbers = numbers
    };
    memcpy(c.operand, operand, (size_t)operands * sizeof *operand);
    k->map(k, &p, &c);
}

/* to (rows, columns) [+]= scale·from + bias, each with its stride from row to row. */
static void put(kernels *k, map_operand to, map_operand from, const void *bias, double scale, int64_t rows,
                int64_t columns, int32_t accumulate) {
    static const map_instruction code[] = {
        {MAP_LOAD,   1},
        {MAP_NUMBER, 0},
        {MAP_MUL,    0},
        {MAP_LOAD,   2},
        {MAP_ADD,    0}
    };
    const map_operand operand[] = {to, from, read_only(bias, k->real, 0)};
    run_map(k, code, bias ? 5 : 3, 2, 0, accumulate ? MAP_PLUS : MAP_SET, rows, columns, operand, bias ? 3 : 2, &scale);
}

/* ---- tiles of a custom weight ---- */

typedef struct {
    kernels *k;
    const weight *w;
    dtype type;         /* of the values that tile_read gives: BF16 beside BF16, else real, always rounded to w->type */
    void *real, *typed; /* dev (most, in); typed NULL: nothing is rounded */
    int64_t first, count;
} tile;

static tile tile_open(kernels *k, const weight *w, dtype beside) {
    const int64_t n = w->custom->most * w->in;
    tile t = {.k = k, .w = w, .type = k->real, .real = room(k, n * dtype_bytes(k->real))};
    if (w->type != k->real) t.typed = room(k, n * dtype_bytes(w->type));
    if (w->type == BF16 && beside == BF16) t.type = BF16;
    return t;
}

/* What is multiplied with the tile in its type: gemm would round a real beside BF16. *own: to be released. */
static const void *beside_tile(const tile *t, const void *x, dtype type, int64_t n, void **own) {
    *own = NULL;
    if (type == t->type) return x;
    *own = room(t->k, n * dtype_bytes(t->type));
    t->k->convert(t->k, *own, t->type, x, type, n);
    return *own;
}

static void tile_close(tile *t) {
    t->k->release(t->k, t->real);
    t->k->release(t->k, t->typed);
}

/* Reads rows first.., at most `most` of them. */
static const void *tile_read(tile *t, int64_t first, int64_t most) {
    const weight *w = t->w;
    const int64_t fit = w->custom->most < most ? w->custom->most : most;
    t->first = first, t->count = w->out - first < fit ? w->out - first : fit;
    w->custom->rows(w->custom, t->k, first, t->count, t->real);
    if (!t->typed) return t->real;
    t->k->convert(t->k, t->typed, w->type, t->real, t->k->real, t->count * w->in);
    if (t->type == w->type) return t->typed;
    t->k->convert(t->k, t->real, t->type, t->typed, w->type, t->count * w->in);
    return t->real;
}

static matrix rows_of(const void *data, dtype type, int64_t width) {
    return (matrix){.data = data, .type = type, .row = width, .col = 1};
}

static matrix columns_of(const void *data, dtype type, int64_t width) {
    return (matrix){.data = data, .type = type, .row = 1, .col = width};
}

/* c (m, n) dense real [+]= alpha·a·b over k. */
static void multiply(kernels *k, int64_t m, int64_t n, int64_t depth, matrix a, matrix b, void *c, double alpha,
                     int32_t accumulate) {
    const gemm_call g = {.batch = 1,
                         .m = m,
                         .n = n,
                         .k = depth,
                         .a = a,
                         .b = b,
                         .c = c,
                         .c_type = k->real,
                         .c_row = n,
                         .c_col = 1,
                         .alpha = alpha,
                         .accumulate = accumulate};
    k->gemm(k, &g);
}

static const void *element(const void *data, dtype type, int64_t at) {
    return data ? (const char *)data + at * dtype_bytes(type) : NULL;
}

static void custom_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                           dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                           int32_t count) {
    for (int32_t i = 0; i < count; i++) /* h = x·Aᵀ */
        multiply(k, rows, terms[i].rank, w->in, rows_of(terms[i].x ? terms[i].x : x, x_type, w->in),
                 columns_of(terms[i].a, terms[i].type, w->in), terms[i].h, 1, 0);
    tile t = tile_open(k, w, x_type);
    void *const sums = room(k, rows * w->custom->most * dtype_bytes(k->real)), *own;
    const void *const xs = beside_tile(&t, x, x_type, rows * w->in, &own);
    for (int64_t first = 0; first < w->out; first += t.count) {
        const void *const values = tile_read(&t, first, w->out);
        multiply(k, rows, t.count, w->in, rows_of(xs, t.type, w->in), columns_of(values, t.type, w->in), sums, alpha,
                 0);
        for (int32_t i = 0; i < count; i++) { /* s·h·Bᵀ */
            const lowrank_term *const l = &terms[i];
            const void *const b = element(l->b, l->type, first * l->rank);
            multiply(k, rows, t.count, l->rank, rows_of(l->h, k->real, l->rank), columns_of(b, l->type, l->rank), sums,
                     l->s, 1);
        }
        map_operand to = dense(y, y_type, w->out);
        to.offset = first;
        put(k, to, read_only(sums, k->real, t.count), element(bias, k->real, first), 1, rows, t.count, accumulate);
    }
    k->release(k, own);
    k->release(k, sums);
    tile_close(&t);
}

/* dh = s·dy·B;  dB += s·dyᵀ·h;  dA += dhᵀ·x */
static void term_backward(kernels *k, const weight *w, const lowrank_term *l, const void *dy, dtype dy_type,
                          const void *x, dtype x_type, int64_t rows) {
    multiply(k, rows, l->rank, w->out, rows_of(dy, dy_type, w->out), rows_of(l->b, l->type, l->rank), l->dh, l->s, 0);
    if (l->db)
        multiply(k, w->out, l->rank, rows, columns_of(dy, dy_type, w->out), rows_of(l->h, k->real, l->rank), l->db,
                 l->s, 1);
    if (l->da)
        multiply(k, l->rank, w->in, rows, columns_of(l->dh, k->real, l->rank), rows_of(l->x ? l->x : x, x_type, w->in),
                 l->da, 1, 1);
}

static void custom_input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                              const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                              const lowrank_term *terms, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        term_backward(k, w, &terms[i], dy, dy_type, x, x_type, rows);
    if (!dx || rows == 0) return;
    tile t = tile_open(k, w, dy_type);
    const int64_t stretch = rows < GRAD_ROWS ? rows : GRAD_ROWS;
    void *const sums = room(k, stretch * w->in * dtype_bytes(k->real)), *own;
    const void *const dys = beside_tile(&t, dy, dy_type, rows * w->out, &own);
    for (int64_t r = 0; r < rows; r += stretch) {
        const int64_t n = rows - r < stretch ? rows - r : stretch;
        k->zero(k, sums, n * w->in * dtype_bytes(k->real));
        for (int64_t first = 0; first < w->out; first += t.count) {
            const void *const values = tile_read(&t, first, w->out);
            multiply(k, n, w->in, t.count, rows_of(element(dys, t.type, r * w->out + first), t.type, w->out),
                     rows_of(values, t.type, w->in), sums, alpha, 1);
        }
        for (int32_t i = 0; i < count; i++)
            if (!terms[i].x)
                multiply(k, n, w->in, terms[i].rank,
                         rows_of(element(terms[i].dh, k->real, r * terms[i].rank), k->real, terms[i].rank),
                         rows_of(terms[i].a, terms[i].type, w->in), sums, 1, 1);
        map_operand to = dense(dx, dx_type, w->in);
        to.offset = r * w->in;
        put(k, to, read_only(sums, k->real, w->in), NULL, 1, n, w->in, accumulate);
    }
    k->release(k, own);
    k->release(k, sums);
    tile_close(&t);
}

static void custom_row_sqnorm(kernels *k, const weight *w, void *norms) {
    static const map_instruction square[] = {
        {MAP_LOAD, 1},
        {MAP_LOAD, 1},
        {MAP_MUL,  0}
    };
    tile t = tile_open(k, w, k->real);
    for (int64_t first = 0; first < w->out; first += t.count) {
        const void *const values = tile_read(&t, first, w->out);
        map_operand operand[] = {dense(norms, k->real, 1), read_only(values, t.type, w->in)};
        operand[0].offset = first;
        run_map(k, square, 3, 1, 0, MAP_SET, t.count, w->in, operand, 2, NULL);
    }
    tile_close(&t);
}

static void custom_read(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type) {
    tile t = tile_open(k, w, k->real);
    for (int64_t done = 0; done < rows; done += t.count) {
        const void *const values = tile_read(&t, first_row + done, rows - done);
        k->convert(k, (char *)to + done * w->in * dtype_bytes(type), type, values, t.type, t.count * w->in);
    }
    tile_close(&t);
}

static void custom_gather(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                          double scale) {
    enum { IDS = 256 };
    int32_t host[IDS];
    tile t = tile_open(k, w, k->real);
    for (int64_t n = 0; n < rows; n++) {
        if (n % IDS == 0) k->download(k, host, ids + n, (rows - n < IDS ? rows - n : IDS) * (int64_t)sizeof *host);
        const void *const values = tile_read(&t, host[n % IDS], 1);
        map_operand to = dense(y, type, w->in);
        to.offset = n * w->in;
        put(k, to, read_only(values, t.type, w->in), NULL, scale, 1, w->in, 0);
    }
    tile_close(&t);
}

/* ---- x through 8 bits ---- */

/* x' of the top comment, owned by the caller. `half`: x as f16, which is what LLM.int8 quantizes. */
static void *through_8_bits(kernels *k, const void *x, dtype type, int64_t rows, int64_t in, double threshold) {
    static const map_instruction largest[] = {
        {MAP_LOAD,   1},
        {MAP_ABS,    0},
        {MAP_NUMBER, 0},
        {MAP_LT,     0},
        {MAP_LOAD,   1},
        {MAP_ABS,    0},
        {MAP_NUMBER, 1},
        {MAP_SELECT, 0},
        {MAP_NUMBER, 1},
        {MAP_MAX,    0}
    };
    static const map_instruction rounded[] = {
        {MAP_LOAD,   1},
        {MAP_ABS,    0},
        {MAP_NUMBER, 0},
        {MAP_LT,     0},
        {MAP_LOAD,   1},
        {MAP_NUMBER, 1},
        {MAP_LOAD,   2},
        {MAP_DIV,    0},
        {MAP_MUL,    0},
        {MAP_ROUND,  0},
        {MAP_LOAD,   2},
        {MAP_MUL,    0},
        {MAP_NUMBER, 1},
        {MAP_DIV,    0},
        {MAP_LOAD,   3},
        {MAP_SELECT, 0}
    };
    const double least[] = {threshold, 1e-30}, top[] = {threshold, 127}; /* a row of zeros divides by 1e-30 */
    void *const half = room(k, rows * in * 2), *const most = room(k, rows * dtype_bytes(k->real)),
                *const to = room(k, rows * in * dtype_bytes(type));
    k->convert(k, half, F16, x, type, rows * in);
    const map_operand maximum[] = {dense(most, k->real, 1), read_only(half, F16, in)};
    run_map(k, largest, 10, 1, 1, MAP_SET, rows, in, maximum, 2, least);
    map_operand round[] = {dense(to, type, in), read_only(half, F16, in), dense(most, k->real, 1),
                           read_only(x, type, in)};
    round[2].stride[1] = 0;
    run_map(k, rounded, 16, 2, 0, MAP_SET, rows, in, round, 4, top);
    k->release(k, half);
    k->release(k, most);
    return to;
}

/* The adapters' terms read x itself. */
static void int8_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                         dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                         int32_t count) {
    enum { TERMS = 8 };
    lowrank_term own[TERMS];
    void *const through = through_8_bits(k, x, x_type, rows, w->in, (double)w->threshold);
    for (int32_t first = 0; first == 0 || first < count; first += TERMS) {
        const int32_t here = count - first < TERMS ? count - first : TERMS;
        for (int32_t i = 0; i < here; i++) {
            own[i] = terms[first + i];
            if (!own[i].x) own[i].x = x;
        }
        k->own.forward(k, w, first ? NULL : bias, first ? x : through, x_type, y, y_type, rows, first ? 1 : accumulate,
                       first ? 0 : alpha, own, here);
    }
    k->release(k, through);
}

/* ---- which ---- */

static void forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y, dtype y_type,
                    int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms, int32_t count) {
    (w->layout == WEIGHT_CUSTOM ? custom_forward
     : w->threshold > 0         ? int8_forward
                        : k->own.forward)(k, w, bias, x, x_type, y, y_type, rows, accumulate, alpha, terms, count);
}

static void input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                       const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                       const lowrank_term *terms, int32_t count) {
    (w->layout == WEIGHT_CUSTOM ? custom_input_grad : k->own.input_grad)(k, w, dy, dy_type, dx, dx_type, x, x_type,
                                                                         rows, accumulate, alpha, terms, count);
}

static void row_sqnorm(kernels *k, const weight *w, void *norms) {
    (w->layout == WEIGHT_CUSTOM ? custom_row_sqnorm : k->own.row_sqnorm)(k, w, norms);
}

static void read_rows(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type) {
    (w->layout == WEIGHT_CUSTOM ? custom_read : k->own.read)(k, w, first_row, rows, to, type);
}

static void gather(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type, double scale) {
    (w->layout == WEIGHT_CUSTOM ? custom_gather : k->own.gather)(k, w, ids, rows, y, type, scale);
}

void layouts_install(kernels *k) {
    k->own.forward = k->weight_forward, k->weight_forward = forward;
    k->own.input_grad = k->weight_input_grad, k->weight_input_grad = input_grad;
    k->own.row_sqnorm = k->weight_row_sqnorm, k->weight_row_sqnorm = row_sqnorm;
    k->own.read = k->weight_read, k->weight_read = read_rows;
    k->own.gather = k->weight_gather, k->weight_gather = gather;
}

int64_t layouts_scratch(const kernels *k, const weight *w, int64_t rows) {
    const int64_t real = dtype_bytes(k->real);
    if (w->layout == WEIGHT_ROWS8 && w->threshold > 0) return rows * (w->in * (2 + real) + real);
    if (w->layout != WEIGHT_CUSTOM) return 0;
    const int64_t forward_sums = rows * w->custom->most, grad_sums = (rows < GRAD_ROWS ? rows : GRAD_ROWS) * w->in;
    return w->custom->most * w->in * 2 * real + (forward_sums > grad_sums ? forward_sums : grad_sums) * real;
}
