/* product — a term of several factors: the cheapest order of multiplying them two at a time.
 *
 * For every set of factors the indices of its product are those that the target or the other factors need; the rest is summed
 * as soon as its last factor comes in. The cost of a set is the least over its splits into two (dynamic programming). */
#include "formula/lower.h"
#include <math.h>
#include <string.h>

enum { SETS = 1 << FACTORS };
static const double gemm_speed = 16; /* products of a gemm for one element of a map */

typedef struct {
    double cost[SETS];
    uint32_t inside[SETS], indices[SETS]; /* of the factors; of their product */
    uint8_t split[SETS];
} order_plan;

/* ---- factors ---- */

int say_handle(const lowering *l, const piece *p) {
    const statement *const s = l->s;
    const node *const n = &s->node[p->node];
    const char *const name = s->scope->tensors[s->access[n->name].tensor].name;
    if (p->handle == FORMULA_ONEHOT)
        return say(s, n->at,
                   "'%s' is one-hot here: it may stand only in a product that sums over one of its two indices", name);
    return say(s, n->at,
               "'%s' is a handle here: it may stand only in a product with rows that sums over one of its two indices, "
               "or in the row sum %s[o,i] * %s[o,i]",
               name, name, name);
}

/* The two indices of a handle. */
static int handle_indices(const lowering *l, const piece *p, int32_t index[2]) {
    const access *const a = &l->s->access[l->s->node[p->node].name];
    if (a->rank != 2) return 0;
    for (int32_t d = 0; d < 2; d++) {
        if (a->items[d].kind != ITEM_INDEX || a->items[d].count != 1) return 0;
        index[d] = a->items[d].index[0];
    }
    return index[0] != index[1];
}

static int32_t factor_piece(lowering *l, int32_t number, int32_t inverse) {
    const node *const n = &l->s->node[number];
    piece p = {.node = number, .inverse = inverse, .indices = n->indices};
    if (n->kind == NODE_TENSOR) {
        const access *const a = &l->s->access[n->name];
        const formula_tensor *const t = &l->s->scope->tensors[a->tensor];
        int32_t index[2];
        p.handle = t->kind == FORMULA_TENSOR ? 0 : (int32_t)t->kind;
        p.plain = !p.handle && !inverse && a->gather < 0 && t->store == STORE_PLAIN && dtype_is_float(t->type);
        p.at = access_place(l, a);
        memcpy(p.stride, a->stride, sizeof p.stride);
        if (p.handle && (inverse || !handle_indices(l, &p, index))) return say_handle(l, &p), -1;
    }
    return piece_add(l, &p);
}

/* The factors and numbers of a product. *crowded: too many of them. */
static int collect(lowering *l, term *t, int32_t number, int32_t inverse, int32_t *crowded) {
    const node *const n = &l->s->node[number];
    if (n->number) {
        int32_t *const count = inverse ? &t->downs : &t->ups;
        if (*count == FACTORS)
            *crowded = 1;
        else
            (inverse ? t->down : t->up)[(*count)++] = (int16_t)number;
        return 0;
    }
    if (n->kind == NODE_CALL && n->op == MAP_NEG) {
        t->sign = -t->sign;
        return collect(l, t, n->argument[0], inverse, crowded);
    }
    if (n->kind == NODE_CALL && (n->op == MAP_MUL || n->op == MAP_DIV)) {
        if (collect(l, t, n->argument[0], inverse, crowded)) return GRAFT_FAILED;
        return collect(l, t, n->argument[1], inverse ^ (n->op == MAP_DIV), crowded);
    }
    if (t->factors == FACTORS) {
        *crowded = 1;
        return 0;
    }
    const int32_t p = factor_piece(l, number, inverse);
    t->factor[t->factors++] = (int16_t)p;
    return p < 0 ? GRAFT_FAILED : 0;
}

/* ---- the row sum of W·W ---- */

/* Two factors that are the same handle with the same indices (o,i), i summed and nowhere else: a temporary over o. */
static int square_handles(lowering *l, term *t) {
    for (int32_t a = 0; a < t->factors; a++)
        for (int32_t b = a + 1; b < t->factors; b++) {
            const piece *const p = &l->piece[t->factor[a]], *const q = &l->piece[t->factor[b]];
            int32_t row[2], other[2];
            if (p->handle != FORMULA_WEIGHT || q->handle != FORMULA_WEIGHT || p->at.tensor != q->at.tensor) continue;
            if (!handle_indices(l, p, row) || !handle_indices(l, q, other) || row[0] != other[0] || row[1] != other[1])
                continue;
            uint32_t elsewhere = l->s->kept;
            for (int32_t i = 0; i < t->factors; i++)
                elsewhere |= i == a || i == b ? 0 : l->piece[t->factor[i]].indices;
            if (elsewhere >> row[1] & 1) continue;
            const int32_t temp = temp_add(l, 1u << row[0]);
            if (temp < 0) return GRAFT_FAILED;
            step *const st = step_new(l, STEP_WEIGHT_SQNORM);
            st->weight = (weight_step){.w = p->at.tensor, .y = {.tensor = ~temp}};
            step_append(l, st);
            piece norm = {.node = -1, .indices = 1u << row[0], .plain = 1, .at = st->weight.y};
            norm.stride[row[0]] = (extent){1, 0};
            const int32_t result = piece_add(l, &norm);
            if (result < 0) return GRAFT_FAILED;
            t->factor[a] = (int16_t)result;
            t->factor[b] = t->factor[--t->factors];
            t->squared = 1;
        }
    return 0;
}

/* ---- which two first ---- */

/* A handle times `other` sums over exactly one of its indices, and the other factor knows nothing of the second. */
static int can_use_handle(const lowering *l, const piece *handle, uint32_t other, uint32_t result) {
    int32_t index[2];
    if (!handle_indices(l, handle, index)) return 0;
    for (int32_t c = 0; c < 2; c++) {
        const uint32_t summed = 1u << index[c], stays = 1u << index[1 - c];
        if ((other & summed) && !(result & summed) && !(other & stays) && (result & stays)) return 1;
    }
    return 0;
}

static const piece *single(const lowering *l, const term *t, uint32_t set) {
    return set & (set - 1) ? NULL : &l->piece[t->factor[__builtin_ctz(set)]];
}

static combine kind_of(const lowering *l, const term *t, const order_plan *o, uint32_t a, uint32_t b) {
    const uint32_t ia = o->indices[a], ib = o->indices[b], result = o->indices[a | b];
    const piece *const pa = single(l, t, a), *const pb = single(l, t, b);
    const int ha = pa && pa->handle, hb = pb && pb->handle;
    if (ha && hb) return COMBINE_NONE;
    if (ha || hb) return can_use_handle(l, ha ? pa : pb, ha ? ib : ia, result) ? COMBINE_HANDLE : COMBINE_NONE;
    if (!((ia | ib) & ~result)) return COMBINE_LAZY;
    return (ia ^ ib) & result ? COMBINE_GEMM : COMBINE_REDUCE;
}

static double cost_of(const lowering *l, const order_plan *o, combine kind, uint32_t a, uint32_t b) {
    const double all = set_cost(l, o->indices[a] | o->indices[b]);
    switch (kind) {
    case COMBINE_NONE:
        return INFINITY;
    case COMBINE_LAZY:
    case COMBINE_REDUCE:
        return all;
    case COMBINE_GEMM:
    case COMBINE_HANDLE:
        break;
    }
    return all / gemm_speed + set_cost(l, o->indices[a | b]);
}

static void plan_order(const lowering *l, const term *t, order_plan *o) {
    const uint32_t all = (1u << t->factors) - 1;
    o->inside[0] = 0;
    for (uint32_t set = 1; set <= all; set++)
        o->inside[set] = o->inside[set & (set - 1)] | l->piece[t->factor[__builtin_ctz(set)]].indices;
    for (uint32_t set = 1; set <= all; set++) {
        const piece *const one = single(l, t, set);
        o->indices[set] = o->inside[set] & (l->s->kept | o->inside[all & ~set]);
        o->cost[set] = one ? 0 : INFINITY;
        o->split[set] = 0;
        if (one && o->indices[set] != o->inside[set])
            o->cost[set] = one->handle ? INFINITY : set_cost(l, o->inside[set]);
        for (uint32_t a = (set - 1) & set; a > (set ^ a); a = (a - 1) & set) {
            const double cost = o->cost[a] + o->cost[set ^ a] + cost_of(l, o, kind_of(l, t, o, a, set ^ a), a, set ^ a);
            if (cost < o->cost[set]) o->cost[set] = cost, o->split[set] = (uint8_t)a;
        }
    }
}

static int needs_products(const lowering *l, const term *t, const order_plan *o, uint32_t set) {
    if (single(l, t, set)) return 0;
    const uint32_t a = o->split[set], b = set ^ a;
    const combine kind = kind_of(l, t, o, a, b);
    return kind == COMBINE_GEMM || kind == COMBINE_HANDLE || needs_products(l, t, o, a) || needs_products(l, t, o, b);
}

/* ---- steps ---- */

static int lower_set(lowering *l, const term *t, const order_plan *o, uint32_t set, uint32_t *pieces);

static int lower_split(lowering *l, const term *t, const order_plan *o, uint32_t set, last_product *p) {
    const uint32_t a = o->split[set], b = set ^ a;
    *p = (last_product){
        .kind = kind_of(l, t, o, a, b), .ia = o->indices[a], .ib = o->indices[b], .indices = o->indices[set]};
    return lower_set(l, t, o, a, &p->a) || lower_set(l, t, o, b, &p->b) ? GRAFT_FAILED : 0;
}

/* The pieces whose product is the set's: itself, still to be multiplied, or a temporary. */
static int lower_set(lowering *l, const term *t, const order_plan *o, uint32_t set, uint32_t *pieces) {
    int32_t order[FORMULA_INDICES], result = -1;
    last_product p;
    if (single(l, t, set)) {
        const int32_t factor = t->factor[__builtin_ctz(set)];
        *pieces = 1u << factor;
        if (o->indices[set] == o->inside[set]) return 0;
        const int32_t count = indices_in_order(o->indices[set], l->piece[factor].stride, order);
        result = materialize(l, *pieces, order, count);
    } else {
        step *none = NULL;
        if (lower_split(l, t, o, set, &p)) return GRAFT_FAILED;
        *pieces = p.a | p.b;
        if (p.kind == COMBINE_LAZY) return 0;
        if (p.kind == COMBINE_REDUCE)
            result = materialize(l, *pieces, order, indices_in_order(p.indices, NULL, order));
        else if (matrix_product(l, &p, NULL, 0, &none, &result))
            return GRAFT_FAILED;
    }
    *pieces = result < 0 ? 0 : 1u << result;
    return result < 0 ? GRAFT_FAILED : 0;
}

static int say_impossible(const lowering *l, const term *t) {
    for (int32_t i = 0; i < t->factors; i++)
        if (l->piece[t->factor[i]].handle) return say_handle(l, &l->piece[t->factor[i]]);
    return say(l->s, l->s->node[t->node].at, "this product cannot be computed");
}

/* Where the term is no product, a map reads the tree itself: *t and the pieces stay as they were. */
int term_lower(lowering *l, term *t, int32_t *is_product, last_product *last) {
    order_plan o;
    term p = *t;
    int32_t crowded = 0;
    const int32_t pieces_before = l->pieces;
    if (collect(l, &p, p.node, 0, &crowded)) return GRAFT_FAILED;
    if (crowded || !p.factors) return 0;
    if (square_handles(l, &p)) return GRAFT_FAILED;
    const uint32_t all = (1u << p.factors) - 1;
    plan_order(l, &p, &o);
    if (isinf(o.cost[all])) return say_impossible(l, &p);
    *is_product = p.squared || needs_products(l, &p, &o, all);
    if (!*is_product) {
        l->pieces = pieces_before;
        return 0;
    }
    *t = p;
    if (!single(l, &p, all)) return lower_split(l, &p, &o, all, last);
    *last =
        (last_product){.kind = COMBINE_REDUCE, .a = 1u << p.factor[0], .ia = o.inside[all], .indices = o.indices[all]};
    return 0;
}
