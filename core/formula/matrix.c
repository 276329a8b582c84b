/* matrix — one product of two factors as a gemm or weight call.
 *
 * An index belongs to the batch (both factors and the result), to m (the first factor and the result), to n (the second and
 * the result) or to k (both factors). Each class must be one dimension: its indices merge where strides allow, one index
 * may move to an empty batch, and a side that still does not fit is copied to a dense temporary. */
#include "formula/lower.h"
#include <math.h>
#include <string.h>

enum { A, B, C, SIDES };

/* What the product reads or writes. */
typedef struct {
    uint32_t pieces, indices;
    place at;
    const extent *stride; /* as it lies; NULL: not as gemm wants it */
} side;

/* The order of a side's indices if it is copied, and the strides it has then. */
typedef struct {
    int32_t order[FORMULA_INDICES], count;
    extent stride[FORMULA_INDICES];
} layout;

typedef struct {
    uint32_t batch, m, n, k;
} classes;

typedef struct {
    side side[SIDES];
    classes c;
    int32_t handle;  /* FORMULA_ONEHOT: side A; FORMULA_WEIGHT: side B; else 0 */
    int32_t may_add; /* 1: the result is added to: a summed index may be the batch */
} problem;

typedef struct {
    extent size, stride[SIDES];
} dimension;

/* ---- fitting ---- */

/* The indices of `set`, ordered by the strides `by`, as one dimension of the sides that are not NULL. 1: they are one. */
static int merge(const lowering *l, uint32_t set, const extent *by, const extent *const side_stride[SIDES],
                 dimension *d) {
    int32_t order[FORMULA_INDICES];
    *d = (dimension){
        .size = {1, 0}
    };
    int first = 1;
    for (int32_t i = indices_in_order(set, by, order) - 1; i >= 0; i--) {
        const extent size = l->s->index[order[i]].size;
        if (extent_equal(size, (extent){1, 0})) continue;
        for (int32_t o = 0; o < SIDES; o++) {
            const extent stride = side_stride[o] ? side_stride[o][order[i]] : (extent){0};
            if (!first && side_stride[o] && !extent_equal(stride, extent_times(d->stride[o], d->size))) return 0;
            if (first) d->stride[o] = stride;
        }
        d->size = extent_times(d->size, size);
        first = 0;
    }
    return 1;
}

/* Which strides order a class: those of a side that stays where it is. */
typedef struct {
    const extent *batch, *m, *n, *k;
} orders;

static int merge_classes(const lowering *l, classes c, const orders *by, const extent *const stride[SIDES],
                         gemm_step *g) {
    dimension batch, m, n, k;
    if (!merge(l, c.batch, by->batch, stride, &batch) ||
        !merge(l, c.m, by->m, (const extent *const[SIDES]){stride[A], NULL, stride[C]}, &m) ||
        !merge(l, c.n, by->n, (const extent *const[SIDES]){NULL, stride[B], stride[C]}, &n) ||
        !merge(l, c.k, by->k, (const extent *const[SIDES]){stride[A], stride[B], NULL}, &k))
        return 0;
    *g = (gemm_step){.batch = batch.size, .m = m.size, .n = n.size, .k = k.size};
    g->a = (matrix_place){.row = m.stride[A], .col = k.stride[A], .batch = batch.stride[A]};
    g->b = (matrix_place){.row = k.stride[B], .col = n.stride[B], .batch = batch.stride[B]};
    g->c = (matrix_place){.row = m.stride[C], .col = n.stride[C], .batch = batch.stride[C]};
    return 1;
}

/* A weight call reads and writes dense rows. */
static int is_dense(const matrix_place *p, extent rows, extent cols) {
    const extent one = {1, 0};
    return (extent_equal(cols, one) || extent_equal(p->col, one)) &&
           (extent_equal(rows, one) || extent_equal(p->row, cols));
}

/* Of the indices that may move to an empty batch, the shortest: few large products instead of many small ones. */
static int move_to_batch(const lowering *l, const problem *p, const orders *by, const extent *const stride[SIDES],
                         gemm_step *g) {
    double shortest = INFINITY;
    for (uint32_t rest = p->c.m | p->c.n | (p->may_add ? p->c.k : 0); rest; rest &= rest - 1) {
        const uint32_t moved = rest & ~(rest - 1);
        const classes c = {moved, p->c.m & ~moved, p->c.n & ~moved, p->c.k & ~moved};
        gemm_step tried;
        if (set_cost(l, moved) >= shortest || !merge_classes(l, c, by, stride, &tried)) continue;
        shortest = set_cost(l, moved);
        *g = tried;
    }
    return shortest < INFINITY;
}

static int fits(const lowering *l, const problem *p, const orders *by, const extent *const stride[SIDES],
                gemm_step *g) {
    if (merge_classes(l, p->c, by, stride, g))
        return p->handle != FORMULA_WEIGHT || (is_dense(&g->a, g->m, g->k) && is_dense(&g->c, g->m, g->n));
    return !p->handle && !p->c.batch && move_to_batch(l, p, by, stride, g);
}

static void lay_out(const lowering *l, layout *to, const uint32_t set[3], const extent *const by[3]) {
    to->count = 0;
    for (int32_t i = 0; i < 3; i++) {
        int32_t order[FORMULA_INDICES];
        const int32_t count = indices_in_order(set[i], by[i], order);
        memcpy(to->order + to->count, order, (size_t)count * sizeof *order);
        to->count += count;
    }
    dense_strides(l, to->order, to->count, to->stride);
}

/* Tries with the sides of `copies` (bits) in dense temporaries. */
static int try_copies(const lowering *l, const problem *p, int32_t copies, layout copy[SIDES], gemm_step *g) {
    const extent *stride[SIDES];
    for (int32_t i = 0; i < SIDES; i++)
        stride[i] = copies >> i & 1 ? NULL : p->side[i].stride;
    const extent *const b = p->handle == FORMULA_WEIGHT ? NULL : stride[B];
    const orders by = {stride[C]   ? stride[C]
                       : stride[A] ? stride[A]
                                   : b,
                       stride[C] ? stride[C] : stride[A], stride[C] ? stride[C] : b, stride[A] ? stride[A] : b};
    lay_out(l, &copy[A], (const uint32_t[3]){p->c.batch, p->c.m, p->c.k},
            (const extent *const[3]){by.batch, by.m, by.k});
    lay_out(l, &copy[B], (const uint32_t[3]){p->c.batch, p->c.k, p->c.n},
            (const extent *const[3]){by.batch, by.k, by.n});
    lay_out(l, &copy[C], (const uint32_t[3]){p->c.batch, p->c.m, p->c.n},
            (const extent *const[3]){by.batch, by.m, by.n});
    for (int32_t i = 0; i < SIDES; i++)
        stride[i] = copies >> i & 1 ? copy[i].stride : stride[i];
    if (p->handle == FORMULA_WEIGHT) stride[B] = NULL;
    return fits(l, p, &by, stride, g);
}

/* The cheapest set of copies that makes the product one call. */
static int32_t choose_copies(const lowering *l, const problem *p, layout copy[SIDES], gemm_step *g) {
    const int32_t fixed = p->handle == FORMULA_ONEHOT ? 1 << A : p->handle == FORMULA_WEIGHT ? 1 << B : 0;
    int32_t must = 0, best = -1;
    double least = INFINITY;
    for (int32_t i = 0; i < SIDES; i++)
        must |= !p->side[i].stride && !(fixed >> i & 1) ? 1 << i : 0;
    for (int32_t copies = 0; copies < 1 << SIDES; copies++) {
        layout tried[SIDES];
        gemm_step step_tried;
        double cost = 0;
        if ((copies & must) != must || (copies & fixed)) continue;
        for (int32_t i = 0; i < SIDES; i++)
            cost += copies >> i & 1 ? 1 + set_cost(l, p->side[i].indices) : 0;
        if (cost >= least || !try_copies(l, p, copies, tried, &step_tried)) continue;
        least = cost, best = copies, *g = step_tried;
        memcpy(copy, tried, sizeof tried);
    }
    return best;
}

/* ---- the step ---- */

static side factor_side(const lowering *l, uint32_t pieces, uint32_t indices) {
    const piece *const p = &l->piece[__builtin_ctz(pieces)];
    const int alone = !(pieces & (pieces - 1));
    return (side){pieces, indices, alone ? p->at : (place){0}, alone && p->plain ? p->stride : NULL};
}

static int32_t handle_of(const lowering *l, uint32_t pieces) {
    return pieces & (pieces - 1) ? 0 : l->piece[__builtin_ctz(pieces)].handle;
}

static const access *handle_access(const lowering *l, const side *s) {
    return &l->s->access[l->s->node[l->piece[__builtin_ctz(s->pieces)].node].name];
}

static int sums_rows_of_onehot(const lowering *l, const problem *p) {
    return p->handle == FORMULA_ONEHOT && (p->c.k >> handle_access(l, &p->side[A])->items[0].index[0] & 1);
}

/* A one-hot factor becomes side A, a weight side B. The target is side C if it holds the result as it is and, where the call
 * adds to an element more than once (a scatter, a summed batch), rounds no more often than once. */
static problem pose(const lowering *l, const last_product *p, const output *to, int32_t may_add) {
    const int32_t ha = handle_of(l, p->a), hb = handle_of(l, p->b);
    const int swap = ha == FORMULA_WEIGHT || hb == FORMULA_ONEHOT;
    problem q = {.handle = ha ? ha : hb};
    q.side[A] = factor_side(l, swap ? p->b : p->a, swap ? p->ib : p->ia);
    q.side[B] = factor_side(l, swap ? p->a : p->b, swap ? p->ia : p->ib);
    const uint32_t a = q.side[A].indices, b = q.side[B].indices, c = p->indices;
    q.c = (classes){a & b & c, a & c & ~b, b & c & ~a, a & b & ~c};
    if (q.handle == FORMULA_ONEHOT) q.side[A].stride = l->piece[__builtin_ctz(q.side[A].pieces)].stride;
    const int direct = to && to->plain && to->indices == c && (to->exact || !sums_rows_of_onehot(l, &q));
    q.side[C] = (side){0, c, direct ? to->at : (place){0}, direct ? to->stride : NULL};
    q.may_add = may_add && direct && to->exact;
    return q;
}

static step *weight_call(lowering *l, const problem *p, const gemm_step *g) {
    const access *const w = handle_access(l, &p->side[B]);
    const int forward = p->c.k >> w->items[1].index[0] & 1; /* sums over `in` */
    step *const st = step_new(l, forward ? STEP_WEIGHT_FORWARD : STEP_WEIGHT_GRAD);
    st->weight = (weight_step){.w = w->tensor, .x = g->a.at, .y = g->c.at, .rows = g->m};
    return st;
}

static step *matrix_call(lowering *l, const problem *p, const gemm_step *g) {
    step *const st = step_new(l, STEP_GEMM);
    st->gemm = *g;
    st->gemm.onehot = p->handle == FORMULA_ONEHOT;
    st->gemm.transposed = sums_rows_of_onehot(l, p);
    return st;
}

int matrix_product(lowering *l, const last_product *product, const output *to, int32_t may_add, step **prepared,
                   int32_t *result) {
    const problem p = pose(l, product, to, may_add);
    layout copy[SIDES];
    gemm_step g;
    const int32_t copies = choose_copies(l, &p, copy, &g);
    place at[SIDES] = {p.side[A].at, p.side[B].at, p.side[C].at};
    for (int32_t i = A; i <= B; i++) {
        if (!(copies >> i & 1)) continue;
        const int32_t made = materialize(l, p.side[i].pieces, copy[i].order, copy[i].count);
        if (made < 0) return GRAFT_FAILED;
        at[i] = l->piece[made].at;
    }
    if (copies >> C & 1) {
        const int32_t temp = temp_add(l, product->indices);
        if (temp < 0) return GRAFT_FAILED;
        piece made = {.node = -1, .indices = product->indices, .plain = 1, .at = {.tensor = ~temp}};
        memcpy(made.stride, copy[C].stride, sizeof made.stride);
        at[C] = made.at;
        *result = piece_add(l, &made);
        if (*result < 0) return GRAFT_FAILED;
    }
    g.a.at = at[A], g.b.at = at[B], g.c.at = at[C];
    step *const st = p.handle == FORMULA_WEIGHT ? weight_call(l, &p, &g) : matrix_call(l, &p, &g);
    if (!(copies >> C & 1)) {
        *prepared = st;
        return 0;
    }
    st->alpha = number_constant(l->f, 1);
    step_append(l, st);
    return 0;
}
