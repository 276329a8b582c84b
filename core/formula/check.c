/* check — what the words of a statement mean, how far its indices run, and the rules of CONTRACT section 6. */
#include "formula/parts.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const int64_t elements_max = (int64_t)1 << 48; /* of a tensor, without its rows */

/* ---- names ---- */

static int word_is(const statement *s, int32_t at, int32_t length, const char *name) {
    return strncmp(name, s->text + at, (size_t)length) == 0 && name[length] == '\0';
}

static int32_t find_tensor(const statement *s, int32_t at, int32_t length) {
    for (int32_t i = 0; i < s->scope->tensor_count; i++)
        if (word_is(s, at, length, s->scope->tensors[i].name)) return i;
    return -1;
}

static int32_t find_number(const statement *s, int32_t at, int32_t length) {
    for (int32_t i = 0; i < s->scope->number_count; i++)
        if (word_is(s, at, length, s->scope->numbers[i])) return i;
    return -1;
}

static const formula_tensor *tensor_of(const statement *s, const access *a) {
    return &s->scope->tensors[a->tensor];
}

static int is_scalar(const formula_tensor *t) {
    return t->rank == 0 || (t->rank == 1 && t->shape[0] == 1);
}

/* A bare word on the right: a tensor, a number, the value of an index, or `normal`. */
static int resolve_word(statement *s, node *n) {
    const int32_t tensor = find_tensor(s, n->at, n->length), number = find_number(s, n->at, n->length);
    const int32_t index = index_of(s, n->at, n->length);
    if (tensor >= 0) {
        if (s->accesses == FORMULA_ACCESSES)
            return say(s, n->at, "a statement names at most %d tensors; split it", FORMULA_ACCESSES);
        n->kind = NODE_TENSOR, n->name = s->accesses;
        s->access[s->accesses++] = (access){.at = n->at, .length = n->length, .tensor = tensor, .gather = -1};
    } else if (number >= 0) {
        n->kind = NODE_NUMBER, n->name = number;
    } else if (index >= 0) {
        n->kind = NODE_INDEX, n->name = index;
    } else if (word_is(s, n->at, n->length, "normal")) {
        n->kind = NODE_CALL, n->op = MAP_NORMAL, n->arguments = 0;
    } else {
        return say_unknown(s, n->at, n->length, 1);
    }
    return 0;
}

static int resolve_access(statement *s, access *a) {
    a->tensor = find_tensor(s, a->at, a->length);
    if (a->tensor >= 0) return 0;
    if (find_number(s, a->at, a->length) < 0) return say_unknown(s, a->at, a->length, 1);
    return say(s, a->at, "'%.*s' is a number: it has no indices and no formula writes it", (int)a->length,
               s->text + a->at);
}

static int resolve(statement *s) {
    for (int32_t i = 0; i < s->accesses; i++)
        if (resolve_access(s, &s->access[i])) return GRAFT_FAILED;
    for (int32_t i = 0; i < s->nodes; i++)
        if (s->node[i].kind == NODE_WORD && resolve_word(s, &s->node[i])) return GRAFT_FAILED;
    return 0;
}

/* ---- what may be read and written ---- */

static int check_target(const statement *s) {
    const access *const a = &s->access[0];
    const formula_tensor *const t = tensor_of(s, a);
    if (!t->may) return say(s, a->at, "'%s' is not there in this callback", t->name);
    if (t->kind != FORMULA_TENSOR) return say(s, a->at, "'%s' is a handle here and cannot be written", t->name);
    if (t->may & FORMULA_WRITE) return 0;
    if (!(t->may & FORMULA_ADD)) return say(s, a->at, "'%s' may not be written here, only read", t->name);
    if (s->store == MAP_PLUS || s->store == MAP_MINUS) return 0;
    return say(s, a->at, "'%s' is summed up over calls: it takes only += and -= here", t->name);
}

static int check_reads(const statement *s) {
    for (int32_t i = 1; i < s->accesses; i++) {
        const access *const a = &s->access[i];
        const formula_tensor *const t = tensor_of(s, a);
        if (!t->may) return say(s, a->at, "'%s' is not there in this callback", t->name);
        if (!(t->may & FORMULA_READ)) return say(s, a->at, "'%s' may not be read here, only written", t->name);
    }
    return 0;
}

/* ---- extents ---- */

static extent dimension(const formula_tensor *t, int32_t d) {
    return t->shape[d] == FORMULA_ROWS ? (extent){1, 1} : (extent){t->shape[d], 0};
}

static const char *index_name(const statement *s, int32_t index, char name[40]) {
    const index_info *const i = &s->index[index];
    if (i->length)
        snprintf(name, 40, "%.*s", (int)i->length, s->text + i->at);
    else
        snprintf(name, 40, "%d (by position)", (int)index + 1);
    return name;
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

static int check_extents(statement *s) {
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

static int set_strides(statement *s, access *a) {
    const formula_tensor *const t = tensor_of(s, a);
    extent stride = {1, 0};
    for (int32_t d = a->rank - 1; d >= 0; d--) {
        item *const it = &a->items[d];
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

/* ---- what each node depends on ---- */

static int is_random(map_op op) {
    return op == MAP_UNIFORM || op == MAP_NORMAL || op == MAP_MT19937;
}

static uint32_t access_indices(const statement *s, const access *a) {
    uint32_t bits = 0;
    for (int32_t d = 0; d < a->rank; d++) {
        const item *const it = &a->items[d];
        for (int32_t i = 0; i < it->count; i++)
            bits |= 1u << it->index[i];
        if (it->kind == ITEM_GATHER) bits |= s->node[it->node].indices;
    }
    return bits;
}

/* Arguments stand before the node that takes them, so one pass in order is enough. */
static int describe_nodes(statement *s) {
    for (int32_t i = 0; i < s->nodes; i++) {
        node *const n = &s->node[i];
        if (n->kind == NODE_TENSOR) n->indices = access_indices(s, &s->access[n->name]);
        if (n->kind == NODE_INDEX) n->indices = 1u << n->name;
        if (n->kind == NODE_NUMBER) n->number = 1;
        if (n->kind != NODE_CALL) continue;
        n->number = !is_random(n->op);
        for (int32_t a = 0; a < n->arguments; a++) {
            n->indices |= s->node[n->argument[a]].indices;
            n->number &= s->node[n->argument[a]].number;
        }
        if (n->op == MAP_MT19937 && !(s->node[n->argument[0]].number && s->node[n->argument[1]].number))
            return say(s, n->at, "mt19937 takes two numbers, a seed and the draw to begin with");
        if (is_random(n->op) && s->random++)
            return say(s, n->at, "a statement draws random numbers once: both would draw the same; split it");
    }
    return 0;
}

/* ---- sums ---- */

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
static int check_sums(const statement *s, int32_t number, uint32_t cover) {
    const node *const n = &s->node[number];
    const uint32_t all = ~0u;
    if (n->kind == NODE_TENSOR && s->access[n->name].gather >= 0)
        return check_sums(s, s->access[n->name].items[s->access[n->name].gather].node, all);
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
        if (check_sums(s, n->argument[i], around[i])) return GRAFT_FAILED;
    return 0;
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

/* Two fixed places of one dimension. 1: they differ; 2: they must differ at run time. */
static int places_differ(statement *s, const item *x, const item *y) {
    if (x->kind != ITEM_NUMBER || y->kind != ITEM_NUMBER || number_same(s, x->node, y->node)) return 0;
    if (s->node[x->node].kind == NODE_VALUE && s->node[y->node].kind == NODE_VALUE) return 1;
    if (s->distinct[0] >= 0 && !(number_same(s, s->distinct[0], x->node) && number_same(s, s->distinct[1], y->node)))
        return 0;
    s->distinct[0] = x->node, s->distinct[1] = y->node;
    return 1;
}

/* Reading what is being written is defined where each element reads itself alone, or a part that is not written. */
static int check_target_on_right(statement *s) {
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

static int check_left(const statement *s) {
    const access *const a = &s->access[0];
    const formula_tensor *const t = tensor_of(s, a);
    uint32_t seen = 0;
    for (int32_t d = 0; d < a->rank; d++) {
        if (a->items[d].kind == ITEM_NUMBER && t->store != STORE_PLAIN)
            return say(s, a->items[d].at, "'%s' is stored in packed form and written whole only", t->name);
        for (int32_t i = 0; i < a->items[d].count; i++) {
            const uint32_t bit = 1u << a->items[d].index[i];
            char name[40];
            if (seen & bit)
                return say(s, a->items[d].at, "index %s stands twice on the left",
                           index_name(s, a->items[d].index[i], name));
            seen |= bit;
        }
    }
    return 0;
}

int check_statement(statement *s) {
    if (resolve(s) || check_target(s) || check_left(s) || check_reads(s) || check_extents(s) || describe_nodes(s))
        return GRAFT_FAILED;
    for (int32_t i = 0; i < s->accesses; i++)
        if (set_strides(s, &s->access[i])) return GRAFT_FAILED;
    s->kept = s->access[0].indices;
    s->summed = s->node[s->expression].indices & ~s->kept;
    if (check_target_on_right(s)) return GRAFT_FAILED;
    if (!s->summed || s->store == MAP_MAXIMUM) return 0;
    char name[40];
    if (s->store == MAP_TIMES || s->store == MAP_OVER)
        return say(s, s->access[0].at, "index %s is summed, which %s does not do",
                   index_name(s, __builtin_ctz(s->summed), name), s->store == MAP_TIMES ? "*=" : "/=");
    return check_sums(s, s->expression, 0);
}

int check_numbers(statement *s) {
    for (int32_t i = 0; i < s->nodes; i++) {
        node *const n = &s->node[i];
        if (n->kind == NODE_TENSOR) return say(s, n->at, "a number has no brackets");
        if (n->kind == NODE_CALL && is_random(n->op)) return say(s, n->at, "a number is not drawn at random");
        if (n->kind != NODE_WORD) continue;
        n->name = find_number(s, n->at, n->length);
        if (n->name < 0) return say_unknown(s, n->at, n->length, 0);
        n->kind = NODE_NUMBER;
    }
    return describe_nodes(s);
}
