/* extents — how far the indices of a statement run, and the strides with which they move through its tensors. */
#include "formula/parts.h"
#include <assert.h>
#include <math.h>

static const int64_t elements_max = (int64_t)1 << 48; /* of a tensor, without its rows */

static int is_scalar(const formula_tensor *t) {
    return t->rank == 0 || (t->rank == 1 && t->shape[0] == 1);
}

static extent dimension(const formula_tensor *t, int32_t d) {
    return t->shape[d] == FORMULA_ROWS ? (extent){1, 1} : (extent){t->shape[d], 0};
}

/* Access `a` says that `index` runs to `size`. */
static int tell(statement *s, int32_t index, extent size, int32_t a, int32_t at) {
    index_info *const i = &s->index[index];
    if (i->known < 0) {
        i->known = a, i->size = size;
        return 0;
    }
    if (extent_equal(i->size, size)) return 0;
    char name[40], before[24], here[24];
    return say(s, at, "index %s has extent %s in %s and %s in %s", index_name(s, index, name),
               say_extent(i->size, before), tensor_of(s, &s->access[i->known])->name, say_extent(size, here),
               tensor_of(s, &s->access[a])->name);
}

/* (k,b): the last extent that is missing is what the others leave. *open: more than one is missing. */
static int tell_split(statement *s, int32_t a, const item *it, extent size, int32_t *open) {
    int32_t missing = -1, count = 0;
    int64_t product = 1;
    char text[24];
    const char *const name = tensor_of(s, &s->access[a])->name;
    if (size.power) return say(s, it->at, "the rows of '%s' cannot be split", name);
    for (int32_t i = 0; i < it->count; i++) {
        const index_info *const part = &s->index[it->index[i]];
        if (part->known < 0)
            missing = it->index[i], count++;
        else if (part->size.power || __builtin_mul_overflow(product, part->size.n, &product))
            return say(s, it->at, "the indices in parentheses do not make the extent %s of '%s'",
                       say_extent(size, text), name);
    }
    if (count > 1) {
        *open = it->at;
        return 0;
    }
    if (product < 1 || size.n % product || (count == 0 && product != size.n))
        return say(s, it->at, "the indices in parentheses make %lld of the extent %s of '%s'", (long long)product,
                   say_extent(size, text), name);
    return count ? tell(s, missing, (extent){size.n / product, 0}, a, it->at) : 0;
}

static int tell_brackets(statement *s, int32_t number, int32_t splits, int32_t *open) {
    const access *const a = &s->access[number];
    const formula_tensor *const t = tensor_of(s, a);
    for (int32_t d = 0; d < a->rank; d++) {
        const item *const it = &a->items[d];
        const extent size = dimension(t, d);
        if (it->kind != ITEM_INDEX || (it->count > 1) != splits || !size.n) continue;
        if (splits ? tell_split(s, number, it, size, open) : tell(s, it->index[0], size, number, it->at))
            return GRAFT_FAILED;
    }
    return 0;
}

/* Indices by position, for tensors without brackets. */
static int tell_bare(statement *s, int32_t number, int32_t *like) {
    access *const a = &s->access[number];
    const formula_tensor *const t = tensor_of(s, a);
    if (is_scalar(t)) return 0;
    if (*like < 0) {
        *like = number;
        for (int32_t d = 0; d < t->rank; d++)
            s->index[s->indices++] = (index_info){.known = number, .size = dimension(t, d)};
    }
    const formula_tensor *const first = tensor_of(s, &s->access[*like]);
    int equal = t->rank == first->rank;
    for (int32_t d = 0; equal && d < t->rank; d++)
        equal = t->shape[d] == first->shape[d] || !t->shape[d] || !first->shape[d];
    if (!equal)
        return say(s, a->at, "'%s' and '%s' stand without brackets and differ in shape; write their indices",
                   first->name, t->name);
    a->rank = t->rank;
    for (int32_t d = 0; d < t->rank; d++)
        a->items[d] = (item){.kind = ITEM_INDEX, .at = a->at, .count = 1, .index = {(int16_t)d}, .node = -1};
    return 0;
}

static int check_tensors(statement *s, int32_t *bracketed, int32_t *bare) {
    for (int32_t i = 0; i < s->accesses; i++) {
        const access *const a = &s->access[i];
        const formula_tensor *const t = tensor_of(s, a);
        int64_t elements = 1;
        assert(t->rank >= 0 && t->rank <= FORMULA_RANK);
        for (int32_t d = 0; d < t->rank; d++) {
            s->absent |= t->shape[d] == 0;
            if (t->shape[d] > 0 &&
                (__builtin_mul_overflow(elements, t->shape[d], &elements) || elements > elements_max))
                return say(s, a->at, "'%s' is too large", t->name);
        }
        if (a->brackets && a->rank != t->rank)
            return say(s, a->at, "'%s' has %d dimension%s, not %d", t->name, t->rank, t->rank == 1 ? "" : "s", a->rank);
        if (a->brackets) *bracketed = i;
        if (!a->brackets && !is_scalar(t)) *bare = *bare < 0 ? i : *bare;
    }
    return 0;
}

int check_extents(statement *s) {
    int32_t bracketed = -1, bare = -1, like = -1, open = -1, before;
    if (check_tensors(s, &bracketed, &bare)) return GRAFT_FAILED;
    if (bracketed >= 0 && bare >= 0)
        return say(s, s->access[bare].at, "'%s' stands without brackets beside tensors with indices; write its indices",
                   tensor_of(s, &s->access[bare])->name);
    for (int32_t i = 0; i < s->accesses; i++)
        if (s->access[i].brackets ? tell_brackets(s, i, 0, &open) : tell_bare(s, i, &like)) return GRAFT_FAILED;
    int32_t known = -1;
    do { /* each round of splits may tell what another one needs */
        before = known, known = 0, open = -1;
        for (int32_t i = 0; i < s->accesses; i++)
            if (s->access[i].brackets && tell_brackets(s, i, 1, &open)) return GRAFT_FAILED;
        for (int32_t i = 0; i < s->indices; i++)
            known += s->index[i].known >= 0;
    } while (known != before);
    if (open >= 0 && !s->absent) return say(s, open, "nothing tells the extents of the indices in parentheses");
    for (int32_t i = 0; i < s->indices; i++)
        if (s->index[i].known < 0)
            s->index[i].size = (extent){1, 0}; /* of an absent tensor alone: the statement is skipped */
    return 0;
}

/* ---- strides ---- */

static int move(statement *s, access *a, int32_t index, extent stride, int32_t at) {
    extent *const own = &a->stride[index];
    a->indices |= 1u << index;
    if (own->n && own->power != stride.power)
        return say(s, at, "an index stands twice in '%s', over its rows too", tensor_of(s, a)->name);
    *own = (extent){own->n + stride.n, stride.power};
    return 0;
}

static int check_number_item(statement *s, const access *a, const item *it) {
    const node *const n = &s->node[it->node];
    const char *const name = tensor_of(s, a)->name;
    char text[24];
    if (!n->number) return say(s, it->at, "only numbers may stand behind '=' in brackets");
    if (n->kind != NODE_VALUE || s->absent) return 0;
    if (n->value != floor(n->value)) return say(s, it->at, "an index is a whole number");
    if (it->size.power || n->value < (double)it->size.n) return 0;
    return say(s, it->at, "index %.0f is outside '%s', which has extent %s there", n->value, name,
               say_extent(it->size, text));
}

static int check_gather_item(statement *s, access *a, int32_t d) {
    if (a == s->access) return say(s, a->items[d].at, "a gather may stand on the right side only");
    if (a->gather >= 0)
        return say(s, a->items[d].at, "'%s' has two gathered dimensions; one is possible", tensor_of(s, a)->name);
    a->gather = d;
    return 0;
}

static int access_strides(statement *s, access *a) {
    const formula_tensor *const t = tensor_of(s, a);
    extent stride = {1, 0};
    for (int32_t d = a->rank - 1; d >= 0; d--) {
        item *const it = &a->items[d];
        if (t->stride[d]) stride = (extent){t->stride[d], 0};
        it->stride = stride, it->size = dimension(t, d);
        if (it->kind == ITEM_NUMBER && check_number_item(s, a, it)) return GRAFT_FAILED;
        if (it->kind == ITEM_GATHER && check_gather_item(s, a, d)) return GRAFT_FAILED;
        extent inner = stride;
        for (int32_t i = it->count - 1; i >= 0; i--) {
            if (move(s, a, it->index[i], inner, it->at)) return GRAFT_FAILED;
            inner = extent_times(inner, s->index[it->index[i]].size);
        }
        stride = extent_times(stride, it->size);
    }
    return 0;
}

int set_strides(statement *s) {
    for (int32_t i = 0; i < s->accesses; i++)
        if (access_strides(s, &s->access[i])) return GRAFT_FAILED;
    return 0;
}
