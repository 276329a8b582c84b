/* product — see product.h. Passes, parts and packing; the arithmetic is multiply's. */
#include "kernels/cpu/product.h"
#include <assert.h>
#include <string.h>

enum {
    ROWS_ONCE = 1024, /* rows of a part whose k fits one pass: only a group of strips of sums is alive */
    ROWS_AGAIN = 512, /* rows of a part with several passes: its sums wait in the second cache         */
    ROWS_GOOD = 256,  /* fewer rows let packing take more than 5 % of a part                           */
    ROWS_LEAST = 64,
    PANELS_GOOD =
        2, /* fewer panels of a part read A too often from behind the second cache                           */
    PARTS_GOOD = 24,  /* parts that keep a few threads evenly busy ...                                 */
    PARTS_LEAST = 8,  /* ... and those worth worse parts                                               */
    SMALL_K = 128,    /* a term of at most this k joins the last pass of the one before                */
    SLICES = 16,      /* of k, at most: their sums are kept apart and added in order                   */
    SLICE_PASSES = 4, /* of a slice, at least                                                          */
    DIRECT_ROWS = 32, /* so few rows read B where it lies                                              */
    GROUP = 32,       /* rows a turned target is finished by: a cache line of it                       */
    DECODE_K = 256,   /* k of a quantized tile decoded at a time: it stays in the first cache          */
    DECODE_ROWS = 32,
    STEP_BYTES = 4, /* of one column in a packed step: an f32 or a pair of bf16                      */
};

typedef struct {
    cpu *c;
    const product *p;
    const multiply_functions *f;
    int64_t depth[PRODUCT_TERMS];  /* k of a pass; 0: the term joins the last pass before it */
    int64_t passes, rows, columns; /* in all; rows and columns of a part          */
    int64_t row_parts, column_parts, slices;
    int64_t sums_row; /* of the sums of a part, or of all with slices */
    float *sums;      /* slices > 1: (batch, slices, m, sums_row)     */
} plan;

/* The stretch of k that one pass multiplies: of `term` from `first` on, and all of the `joined` terms after it. */
typedef struct {
    int term, joined;
    int64_t first, k;
} pass;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t parts_of(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

static int64_t steps_of(dtype step, int64_t k) {
    return step == BF16 ? (k + 1) / 2 : k;
}

static const char *element_at(const void *data, dtype type, int64_t i) {
    return (const char *)data + i * dtype_bytes(type);
}

static int64_t term_passes(const plan *q, int t) {
    return q->depth[t] ? parts_of(q->p->terms[t].k, q->depth[t]) : 0;
}

static pass pass_at(const plan *q, int64_t number) {
    const product *p = q->p;
    int t = 0;
    for (; number >= term_passes(q, t); t++)
        number -= term_passes(q, t);
    pass s = {.term = t, .first = number * q->depth[t]};
    s.k = least(q->depth[t], p->terms[t].k - s.first);
    if (s.first + s.k == p->terms[t].k)
        while (t + s.joined + 1 < p->count && q->depth[t + s.joined + 1] == 0)
            s.joined++;
    return s;
}

static int64_t parts(const plan *q) {
    return q->p->batch * q->row_parts * q->column_parts;
}

/* Parts of at most so many rows and columns: rows evenly in pairs of strips, columns in panels. */
static void cut(plan *q, int64_t rows, int64_t columns) {
    const int64_t even = 2 * q->f->strip;
    q->row_parts = parts_of(q->p->m, rows), q->column_parts = parts_of(q->p->n, columns);
    q->rows = parts_of(parts_of(q->p->m, q->row_parts), even) * even, q->columns = columns;
    q->row_parts = parts_of(q->p->m, q->rows);
}

/* A last pass of little k would cost as much as a whole one, so a k somewhat over the depth is taken at once. */
static int64_t depth_of(const multiply_functions *f, const product_term *t) {
    const int64_t depth = f->depth_bytes / dtype_bytes(t->step);
    return t->k <= depth + depth / 4 ? t->k : depth;
}

/* Panels a part should keep. Rows of a quantized W are decoded block by block: cut short, they cost more blocks. An A that
 * must be packed is packed once for every part beside another. */
static int64_t panels_good(const multiply_functions *f, const product *p) {
    for (int t = 0; t < p->count; t++) {
        const product_term *m = &p->terms[t];
        if (m->k > SMALL_K && ((m->b.w && m->b.deep != 1) || m->a.deep != 1)) return f->panels;
    }
    return PANELS_GOOD;
}

/* Passes and parts, from the sizes of the product alone. */
static plan plan_of(cpu *c, const product *p) {
    plan q = {.c = c, .p = p, .f = &c->f->multiply, .slices = 1};
    for (int t = 0, joined = 0; t < p->count; t++) {
        joined = t > 0 && p->terms[t].k <= SMALL_K && joined + 1 < MULTIPLY_RUNS ? joined + 1 : 0;
        q.depth[t] = joined ? 0 : depth_of(q.f, &p->terms[t]);
        q.passes += term_passes(&q, t);
    }
    cut(&q, least(q.passes > 1 ? ROWS_AGAIN : ROWS_ONCE, p->m), q.f->panels * q.f->panel);
    while (parts(&q) < PARTS_GOOD && q.columns > panels_good(q.f, p) * q.f->panel)
        cut(&q, q.rows, q.columns - q.f->panel);
    while (parts(&q) < PARTS_GOOD && q.rows > ROWS_GOOD)
        cut(&q, q.rows / 2 > ROWS_GOOD ? q.rows / 2 : ROWS_GOOD, q.columns);
    if (parts(&q) < PARTS_LEAST && q.passes >= 2 * SLICE_PASSES) {
        cut(&q, q.rows, q.f->panels * q.f->panel);
        q.slices = least(SLICES, q.passes / SLICE_PASSES);
        return q;
    }
    while (parts(&q) < PARTS_LEAST && q.columns > q.f->panel)
        cut(&q, q.rows, q.columns - q.f->panel);
    while (parts(&q) < PARTS_LEAST && q.rows > ROWS_LEAST)
        cut(&q, q.rows / 2 > ROWS_LEAST ? q.rows / 2 : ROWS_LEAST, q.columns);
    return q;
}

/* ---- B ---- */

/* Decodes and packs a stretch of k of a quantized side; tile: room for one decoded piece. */
static void pack_weight(const plan *q, const product_term *t, int64_t k0, int64_t k, int64_t n0, int64_t n,
                        char *panels, char *tile) {
    const vector_functions *f = q->c->f;
    const int64_t steps = steps_of(t->step, k), bytes = dtype_bytes(t->step);
    if (t->b.deep == 1) { /* columns of B are rows of W: a panel at a time, some k of it at a time */
        const pack_source from = {tile, t->step, 1, DECODE_K};
        for (int64_t j = 0; j < n; j += q->f->panel)
            for (int64_t p = 0; p < k; p += DECODE_K) {
                const int64_t deep = least(DECODE_K, k - p), wide = least(q->f->panel, n - j);
                for (int64_t i = 0; i < wide; i++)
                    f->decode(t->b.w, n0 + j + i, k0 + p, deep, tile + i * DECODE_K * bytes, t->step);
                q->f->pack(panels + j * steps * STEP_BYTES, t->step, steps, steps_of(t->step, p), &from, deep, wide);
            }
        return;
    }
    const pack_source from = {tile, t->step, n, 1};
    for (int64_t p = 0; p < k; p += DECODE_ROWS) { /* rows of B are rows of W: some rows of all panels at a time */
        const int64_t deep = least(DECODE_ROWS, k - p);
        for (int64_t i = 0; i < deep; i++)
            f->decode(t->b.w, k0 + p + i, n0, n, tile + i * n * bytes, t->step);
        q->f->pack(panels, t->step, steps, steps_of(t->step, p), &from, deep, n);
    }
}

/* Columns of B as the strips meet them: the panels, or the matrix itself where few rows would not pay for packing it. */
typedef struct {
    const char *data;
    int64_t column_bytes, row; /* row: multiply_run's b_row */
} columns;

static int is_direct(const plan *q, const product_term *t) {
    const product_side *b = &t->b;
    return t->step == F32 && !b->w && b->outer == 1 && b->deep != 0 && b->type != F16 && q->p->m <= DIRECT_ROWS &&
           q->p->n % q->f->lanes == 0;
}

/* Those of columns n0.. and one term's stretch of k; *room moves behind what was packed. */
static columns pack_term(const plan *q, const product_term *t, int64_t batch, int64_t k0, int64_t k, int64_t n0,
                         int64_t n, char **room, char *tile) {
    const product_side *b = &t->b;
    const int64_t steps = steps_of(t->step, k);
    const columns packed = {*room, steps * STEP_BYTES, 0};
    if (b->w)
        pack_weight(q, t, k0, k, n0, n, *room, tile);
    else {
        const char *at = element_at(b->data, b->type, batch * b->batch + k0 * b->deep + n0 * b->outer);
        const pack_source from = {at, b->type, b->deep, b->outer};
        if (is_direct(q, t)) return (columns){at, dtype_bytes(b->type), b->deep};
        q->f->pack(*room, t->step, steps, 0, &from, k, n);
    }
    *room += parts_of(n, q->f->lanes) * q->f->lanes * steps * STEP_BYTES;
    return packed;
}

/* ---- A ---- */

/* The rows of a strip made into (rows, row) steps in `room`. */
static void convert_strip(const plan *q, const product_term *t, int64_t rows, const char *from, int64_t k, int64_t row,
                          char *room) {
    const product_side *a = &t->a;
    const vector_functions *f = q->c->f;
    const int64_t bytes = dtype_bytes(t->step);
    for (int64_t r = 0; r < rows; r++, room += row * bytes) {
        if (k < row) memset(room + k * bytes, 0, (size_t)bytes);
        if (a->deep == 1)
            f->convert(room, t->step, from + r * a->outer * dtype_bytes(a->type), a->type, k, t->scale);
        else
            for (int64_t p = 0; p < k; p++)
                f->convert(room + p * bytes, t->step, from + (r * a->outer + p * a->deep) * dtype_bytes(a->type),
                           a->type, 1, t->scale);
    }
}

/* Strip number `strip` of a part (rows i.. of A, `left` rows to the part's end) where it lies, or converted into `room`. An A
 * whose rows lie side by side is packed like a panel, which serves all strips of its rows. */
static void load_strip(const plan *q, const product_term *t, int64_t batch, int64_t i, int64_t strip, int64_t left,
                       int64_t k0, int64_t k, char *room, multiply_run *run) {
    const product_side *a = &t->a;
    const int64_t steps = steps_of(t->step, k), deep = t->step == BF16 ? 2 : 1, row = steps * deep;
    const char *from = element_at(a->data, a->type, batch * a->batch + i * a->outer + k0 * a->deep);
    *run = (multiply_run){.a = room, .row = row, .next = deep, .steps = steps, .type = t->step};
    if (a->deep == 1 && a->type == t->step && t->scale == 1 && k == row)
        run->a = from, run->row = a->outer;
    else if (a->outer == 1 && t->scale == 1 && q->f->pack_rows)
        q->f->pack_rows(room, t->step, from, a->type, a->deep, k, least(left, q->f->strip));
    else if (a->outer == 1 && t->scale == 1) {
        const int64_t number = strip % (q->f->panel / q->f->strip), rows = left + number * q->f->strip;
        const pack_source panel = {from, a->type, a->deep, 1};
        const int64_t width = rows < q->f->panel ? parts_of(rows, q->f->lanes) * q->f->lanes : q->f->panel;
        if (number == 0) q->f->pack(room, t->step, steps, 0, &panel, k, least(rows, q->f->panel));
        run->a = room + number * q->f->strip * STEP_BYTES;
        run->row = deep, run->next = deep * width;
    } else
        convert_strip(q, t, least(left, q->f->strip), from, k, row, room);
}

/* ---- parts ---- */

/* Bytes of the rooms of a part: a member's scratch is panels, then sums, then strips of A, then a decoded tile. */
static int64_t panels_bytes(const multiply_functions *f) {
    return (f->depth_bytes * 5 / 4 + 4 + (MULTIPLY_RUNS - 1) * SMALL_K * STEP_BYTES) * f->panels * f->panel;
}
static int64_t sums_bytes(const multiply_functions *f) {
    return ROWS_AGAIN * f->panels * f->panel * (int64_t)sizeof(float);
}
static int64_t strip_bytes(const multiply_functions *f, int run) {
    return f->panel * (run ? SMALL_K * 4 : f->depth_bytes * 5 / 4 + 4);
}
static int64_t tile_bytes(const multiply_functions *f) {
    const int64_t down = f->panel * DECODE_K, across = DECODE_ROWS * f->panels * f->panel;
    return 4 * (down > across ? down : across);
}

int64_t product_scratch_bytes(const multiply_functions *f) {
    return panels_bytes(f) + sums_bytes(f) + strip_bytes(f, 0) + (MULTIPLY_RUNS - 1) * strip_bytes(f, 1) +
           tile_bytes(f);
}

typedef struct {
    int64_t batch, i0, rows, j0, columns;
    multiply_target to;
    char *panels, *strips, *tile;
    float *sums; /* of element (i0, j0) */
} part;

/* Rows whose sums are finished together. */
static int64_t group_of(const plan *q) {
    return q->p->to.col == 1 ? q->f->strip : GROUP;
}

/* One pass of a part: packs the panels, runs the strips. keep: every row has its own sums, else one group of rows. */
static void run_pass(const plan *q, const part *r, const pass *s, int add, int keep, int finish) {
    const product_term *terms = &q->p->terms[s->term];
    const int runs = 1 + s->joined;
    const int64_t strip = q->f->strip, group = group_of(q);
    columns b[MULTIPLY_RUNS];
    char *next = r->panels;
    for (int u = 0; u < runs; u++)
        b[u] = pack_term(q, &terms[u], r->batch, u ? 0 : s->first, u ? terms[u].k : s->k, r->j0, r->columns, &next,
                         r->tile);
    for (int64_t i = 0; i < r->rows; i += strip) {
        float *const sums = r->sums + (keep ? i : i % group) * q->sums_row;
        multiply_run run[MULTIPLY_RUNS];
        char *room = r->strips;
        for (int u = 0; u < runs; room += strip_bytes(q->f, u), u++) {
            load_strip(q, &terms[u], r->batch, r->i0 + i, i / strip, r->rows - i, u ? 0 : s->first,
                       u ? terms[u].k : s->k, room, &run[u]);
            run[u].b_row = b[u].row, run[u].b_type = terms[u].b.type;
        }
        for (int64_t j = 0; j < r->columns; j += q->f->panel) {
            for (int u = 0; u < runs; u++)
                run[u].b = b[u].data + j * b[u].column_bytes;
            q->f->multiply(run, runs, least(strip, r->rows - i), least(q->f->panel, r->columns - j), sums + j,
                           q->sums_row, add);
        }
        const int64_t from = i / group * group, end = least(i + strip, r->rows);
        if (finish && (end == r->rows || end % group == 0))
            q->f->finish(r->sums + (keep ? from : 0) * q->sums_row, q->sums_row, end - from, r->columns, &r->to,
                         r->i0 + from, r->j0);
    }
}

static void run_part(void *context, int number, int member) {
    const plan *q = context;
    const product *p = q->p;
    const int64_t row_part = number % q->row_parts, column_part = number / q->row_parts % q->column_parts;
    const int64_t above = number / q->row_parts / q->column_parts, slice = above % q->slices;
    part r = {.batch = above / q->slices, .i0 = row_part * q->rows, .j0 = column_part * q->columns, .to = p->to};
    r.rows = least(q->rows, p->m - r.i0), r.columns = least(q->columns, p->n - r.j0);
    r.to.data = (char *)p->to.data + r.batch * p->to_batch * dtype_bytes(p->to.type);
    r.panels = cpu_scratch(q->c, member);
    r.sums = (float *)(r.panels + panels_bytes(q->f));
    r.strips = (char *)r.sums + sums_bytes(q->f);
    r.tile = r.strips + strip_bytes(q->f, 0) + (MULTIPLY_RUNS - 1) * strip_bytes(q->f, 1);
    if (q->slices > 1) r.sums = q->sums + (above * p->m + r.i0) * q->sums_row + r.j0;
    if (q->f->begin) q->f->begin();
    const int64_t begin = q->passes * slice / q->slices, end = q->passes * (slice + 1) / q->slices;
    for (int64_t number_of = begin; number_of < end; number_of++) {
        const pass s = pass_at(q, number_of);
        run_pass(q, &r, &s, number_of > begin, q->passes > 1, q->slices == 1 && number_of + 1 == end);
    }
    if (q->f->end) q->f->end();
}

/* Adds the slices of some rows in order and finishes them. */
static void join_part(void *context, int number, int member) {
    (void)member;
    const plan *q = context;
    const product *p = q->p;
    const int64_t groups = parts_of(p->m, GROUP), batch = number / groups, i = number % groups * GROUP;
    const int64_t rows = least(GROUP, p->m - i), size = p->m * q->sums_row;
    float *sums = q->sums + batch * q->slices * size + i * q->sums_row;
    for (int64_t slice = 1; slice < q->slices; slice++)
        q->c->f->add(sums, sums + slice * size, F32, rows * q->sums_row);
    multiply_target to = p->to;
    to.data = (char *)p->to.data + batch * p->to_batch * dtype_bytes(p->to.type);
    q->f->finish(sums, q->sums_row, rows, p->n, &to, i, 0);
}

/* No k: the target becomes its bias. */
static void empty_product(cpu *c, const product *p) {
    const multiply_functions *f = &c->f->multiply;
    float *const zeros = cpu_scratch(c, 0);
    memset(zeros, 0, (size_t)f->panel * sizeof *zeros);
    for (int64_t batch = 0; batch < p->batch; batch++) {
        multiply_target to = p->to;
        to.data = (char *)p->to.data + batch * p->to_batch * dtype_bytes(p->to.type);
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < p->n; j += f->panel)
                f->finish(zeros, f->panel, 1, least(f->panel, p->n - j), &to, i, j);
    }
}

/* Is the product better done as targetᵀ = Bᵀ·Aᵀ? When n would leave most of a vector empty and m would not. */
static int is_better_turned(const cpu *c, const product *p) {
    for (int t = 0; t < p->count; t++)
        if (p->terms[t].b.w) return 0;
    return p->n < c->f->multiply.lanes / 2 && p->m >= c->f->multiply.lanes;
}

static void turn(product *p) {
    for (int t = 0; t < p->count; t++) {
        const product_side a = p->terms[t].a;
        p->terms[t].a = p->terms[t].b, p->terms[t].b = a;
    }
    const int64_t m = p->m, row = p->to.row;
    p->m = p->n, p->n = m;
    p->to.row = p->to.col, p->to.col = row;
    p->to.bias_down = !p->to.bias_down;
}

void product_run(cpu *c, const product *given) {
    product p = *given;
    p.count = 0;
    for (int t = 0; t < given->count; t++)
        if (given->terms[t].k > 0) p.terms[p.count++] = given->terms[t];
    if (p.batch <= 0 || p.m <= 0 || p.n <= 0) return;
    if (p.count == 0) {
        empty_product(c, &p);
        return;
    }
    if (is_better_turned(c, &p)) turn(&p);
    plan q = plan_of(c, &p);
    q.sums_row = parts_of(q.slices > 1 ? p.n : q.columns, q.f->lanes) * q.f->lanes;
    if (q.slices > 1) q.sums = cpu_shared(c, p.batch * q.slices * p.m * q.sums_row * (int64_t)sizeof(float));
    team_run(c->threads, (int)(parts(&q) * q.slices), run_part, &q);
    if (q.slices > 1) team_run(c->threads, (int)(p.batch * parts_of(p.m, GROUP)), join_part, &q);
}
