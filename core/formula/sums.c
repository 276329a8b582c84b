/* sums — what a statement may not sum, and when it may read its own target (CONTRACT section 6, rule 5): the places where
 * index notation reads like something else. */
#include "formula/parts.h"
#include <string.h>

/* A value that is added to others must depend on every summed index, itself or through a factor around it (`cover`). */
static int check_added(const statement *s, int32_t number, uint32_t cover) {
    const node *const n = &s->node[number];
    const uint32_t lacks = s->summed & ~(n->indices | cover);
    char name[40];
    return lacks ? say(s, n->at, "index %s is summed and this added term lacks it: it would be added once for each",
                       index_name(s, __builtin_ctz(lacks), name))
                 : 0;
}

/* A sum does not pass through a function: `sqrt(a[i]*a[i])` would be a sum of roots. */
static int check_inside(const statement *s, int32_t number, uint32_t cover, int32_t at, const char *where) {
    const uint32_t inside = s->summed & s->node[number].indices & ~cover;
    char name[40];
    return inside ? say(s, at, "index %s is summed inside a %s: give the sum a statement of its own",
                        index_name(s, __builtin_ctz(inside), name), where)
                  : 0;
}

/* cover: summed indices that factors around this node bring. */
static int check_node(const statement *s, int32_t number, uint32_t cover) {
    const node *const n = &s->node[number];
    const uint32_t all = ~0u;
    if (n->kind == NODE_TENSOR && s->access[n->name].gather >= 0)
        return check_node(s, s->access[n->name].items[s->access[n->name].gather].node, all);
    if (n->kind != NODE_CALL || n->number) return 0;
    const int32_t a = n->argument[0], b = n->argument[1];
    uint32_t around[3] = {cover, cover, cover};
    switch (n->op) {
    case MAP_NEG:
        break;
    case MAP_ADD:
    case MAP_SUB:
        if (check_added(s, a, cover) || check_added(s, b, cover)) return GRAFT_FAILED;
        break;
    case MAP_MUL:
        around[0] |= s->node[b].indices;
        around[1] |= s->node[a].indices;
        break;
    case MAP_DIV:
        around[0] |= s->node[b].indices;
        around[1] = all;
        if (check_inside(s, b, cover | s->node[a].indices, s->node[b].at, "denominator")) return GRAFT_FAILED;
        break;
    case MAP_SELECT:
        around[0] = all;
        around[1] = around[2] = cover | s->node[a].indices;
        for (int32_t i = 1; i < 3; i++) {
            const node *const branch = &s->node[n->argument[i]];
            const int zero = branch->kind == NODE_VALUE && branch->value == 0;
            if (!zero && check_added(s, n->argument[i], around[i])) return GRAFT_FAILED;
        }
        break;
    case MAP_LT:
    case MAP_LE:
    case MAP_GT:
    case MAP_GE:
    case MAP_EQ:
    case MAP_NE:
    case MAP_AND:
    case MAP_OR:
    case MAP_NOT:
        around[0] = around[1] = all; /* counting: q[i] = (w[i] > level[k]) */
        break;
    default:
        around[0] = around[1] = all;
        if (check_inside(s, number, cover, n->at, "function")) return GRAFT_FAILED;
    }
    for (int32_t i = 0; i < n->arguments; i++)
        if (check_node(s, n->argument[i], around[i])) return GRAFT_FAILED;
    return 0;
}

int check_sums(const statement *s) {
    char name[40];
    if (!s->summed || s->store == MAP_MAXIMUM) return 0;
    if (s->store == MAP_TIMES || s->store == MAP_OVER)
        return say(s, s->access[0].at, "index %s is summed, which %s does not do",
                   index_name(s, __builtin_ctz(s->summed), name), s->store == MAP_TIMES ? "*=" : "/=");
    return check_node(s, s->expression, 0);
}

/* ---- the target ---- */

static int same_items(const statement *s, const access *a, const access *b) {
    if (a->rank != b->rank) return 0;
    for (int32_t d = 0; d < a->rank; d++) {
        const item *const x = &a->items[d], *const y = &b->items[d];
        if (x->kind != y->kind || x->kind == ITEM_GATHER || x->count != y->count) return 0;
        if (memcmp(x->index, y->index, sizeof x->index[0] * (size_t)x->count)) return 0;
        if (x->kind == ITEM_NUMBER && !number_same(s, x->node, y->node)) return 0;
    }
    return 1;
}

/* Two fixed places of one dimension that differ: as written, or as a run has to find (`distinct`). */
static int places_differ(statement *s, const item *x, const item *y) {
    if (x->kind != ITEM_NUMBER || y->kind != ITEM_NUMBER || number_same(s, x->node, y->node)) return 0;
    if (s->node[x->node].kind == NODE_VALUE && s->node[y->node].kind == NODE_VALUE) return 1;
    if (s->distinct[0] >= 0 && !(number_same(s, s->distinct[0], x->node) && number_same(s, s->distinct[1], y->node)))
        return 0;
    s->distinct[0] = x->node, s->distinct[1] = y->node;
    return 1;
}

/* Reading what is being written is defined where each element reads itself alone, or a part that is not written. */
int check_target_on_right(statement *s) {
    const access *const target = &s->access[0];
    for (int32_t i = 1; i < s->accesses; i++) {
        const access *const a = &s->access[i];
        if (a->tensor != target->tensor) continue;
        if (!s->summed && same_items(s, a, target)) continue;
        int apart = 0;
        for (int32_t d = 0; !apart && d < a->rank && d < target->rank; d++)
            apart = places_differ(s, &target->items[d], &a->items[d]);
        if (apart) continue;
        return say(s, a->at,
                   s->summed ? "'%s' is written by this statement and read in a sum; use another tensor"
                             : "'%s' is written by this statement and read at other places; use another tensor",
                   tensor_of(s, a)->name);
    }
    return 0;
}
