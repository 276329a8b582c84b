/* lower — a checked statement as steps.
 *
 * Its terms that sum over a product become gemm or weight calls, everything else one map. The map writes first, products add
 * to what it wrote; where the target rounds more coarsely than the device computes (bf16, packed), the terms meet in a
 * temporary and the target is rounded once. */
#include "formula/lower.h"
#include <string.h>

/* ---- places ---- */

place access_place(lowering *l, const access *a) {
    place at = {.tensor = a->tensor};
    pick picks[FORMULA_RANK];
    for (int32_t d = 0; a->brackets && d < a->rank; d++) {
        const item *const it = &a->items[d];
        if (it->kind != ITEM_NUMBER) continue;
        picks[at.picks++] = (pick){number_add(l->f, l->s, it->node), it->at - l->s->begin, it->stride, it->size};
    }
    if (!at.picks) return at;
    pick *const own = arena_new(&l->f->memory, (size_t)at.picks, sizeof *own);
    memcpy(own, picks, (size_t)at.picks * sizeof *own);
    at.pick = own;
    return at;
}

int32_t temp_add(lowering *l, uint32_t indices) {
    if (l->temps == FORMULA_TEMPS || set_cost(l, indices) > 0x1p48) {
        say(l->s, l->s->begin, "the statement needs %s; split it",
            l->temps == FORMULA_TEMPS ? "too many temporary tensors" : "a temporary tensor that is too large");
        return -1;
    }
    extent elements = {1, 0};
    for (; indices; indices &= indices - 1)
        elements = extent_times(elements, l->s->index[__builtin_ctz(indices)].size);
    l->temp[l->temps] = elements;
    return l->temps++;
}

int32_t piece_add(lowering *l, const piece *p) {
    if (l->pieces == PIECES) {
        say(l->s, l->s->begin, "the statement has too many products; split it");
        return -1;
    }
    l->piece[l->pieces] = *p;
    return l->pieces++;
}

step *step_new(lowering *l, step_kind kind) {
    step *const st = arena_new(&l->f->memory, 1, sizeof *st);
    st->kind = kind;
    return st;
}

void step_append(lowering *l, step *st) {
    *l->tail = st;
    l->tail = &st->next;
}

/* The indices of a set from the outermost (longest stride) to the innermost; without strides, as they came in the text. */
int32_t indices_in_order(uint32_t set, const extent *stride, int32_t order[FORMULA_INDICES]) {
    int32_t count = 0;
    for (; set; set &= set - 1) {
        const int32_t index = __builtin_ctz(set);
        int32_t at = count++;
        for (; stride && at > 0 && extent_cost(stride[order[at - 1]]) < extent_cost(stride[index]); at--)
            order[at] = order[at - 1];
        order[at] = index;
    }
    return count;
}

void dense_strides(const lowering *l, const int32_t *order, int32_t count, extent stride[FORMULA_INDICES]) {
    extent step_size = {1, 0};
    memset(stride, 0, FORMULA_INDICES * sizeof *stride);
    for (int32_t i = count - 1; i >= 0; i--) {
        stride[order[i]] = step_size;
        step_size = extent_times(step_size, l->s->index[order[i]].size);
    }
}

static output temp_output(const lowering *l, int32_t temp, const int32_t *order, int32_t count) {
    output to = {.at = {.tensor = ~temp}, .count = count, .plain = 1, .exact = 1};
    for (int32_t i = 0; i < count; i++)
        to.order[i] = order[i], to.indices |= 1u << order[i];
    dense_strides(l, order, count, to.stride);
    return to;
}

static int32_t temp_piece(lowering *l, const output *to) {
    piece p = {.node = -1, .indices = to->indices, .plain = 1, .at = to->at};
    memcpy(p.stride, to->stride, sizeof p.stride);
    return piece_add(l, &p);
}

int32_t materialize(lowering *l, uint32_t pieces, const int32_t *order, int32_t count) {
    uint32_t kept = 0, all = 0;
    for (int32_t i = 0; i < count; i++)
        kept |= 1u << order[i];
    for (uint32_t rest = pieces; rest; rest &= rest - 1)
        all |= l->piece[__builtin_ctz(rest)].indices;
    const int32_t temp = temp_add(l, kept);
    if (temp < 0) return -1;
    const output to = temp_output(l, temp, order, count);
    map_build b;
    map_begin(&b, l, &to, all & ~kept, MAP_SET);
    return map_pieces(&b, pieces) || map_end(&b) ? -1 : temp_piece(l, &to);
}

/* ---- terms ---- */

typedef struct {
    term t;
    int32_t is_product; /* its factors are in temporaries but for `last` */
    last_product last;
    step *prepared;  /* the last product, written straight to the target */
    uint32_t pieces; /* of a product that a map finishes, and the indices it still sums */
    uint32_t summed;
} job;

static output target_output(lowering *l) {
    const access *const a = &l->s->access[0];
    const formula_tensor *const t = &l->s->scope->tensors[a->tensor];
    output to = {.at = access_place(l, a), .indices = a->indices};
    for (int32_t d = 0; d < a->rank; d++)
        for (int32_t i = 0; i < a->items[d].count; i++)
            to.order[to.count++] = a->items[d].index[i];
    memcpy(to.stride, a->stride, sizeof to.stride);
    to.plain = t->store == STORE_PLAIN && dtype_is_float(t->type);
    to.exact = to.plain && !t->activation && (t->type == F32 || t->type == F64);
    return to;
}

/* Sums and differences come apart into terms. */
static int32_t take_apart(lowering *l, int32_t number, int32_t sign, job *jobs, int32_t count) {
    const node *const n = &l->s->node[number];
    const int additive =
        n->kind == NODE_CALL && !n->number && (n->op == MAP_ADD || n->op == MAP_SUB || n->op == MAP_NEG);
    if (additive && n->op == MAP_NEG) return take_apart(l, n->argument[0], -sign, jobs, count);
    if (additive) {
        count = take_apart(l, n->argument[0], sign, jobs, count);
        return take_apart(l, n->argument[1], n->op == MAP_SUB ? -sign : sign, jobs, count);
    }
    if (count == TERMS) {
        l->crowded = 1;
        return count;
    }
    jobs[count] = (job){.summed = n->indices & l->s->summed};
    jobs[count].t.node = number, jobs[count].t.sign = sign;
    return count + 1;
}

/* ---- multiplying out: x*(W + D) becomes x*W + x*D where the sum holds a handle or a product of its own ---- */

static int32_t new_call(lowering *l, map_op op, int32_t a, int32_t b) {
    statement *const s = l->s;
    if (s->nodes == FORMULA_NODES) {
        l->crowded = 1;
        return a;
    }
    const int32_t number = node_call(s, op, s->node[a].at, b < 0 ? 1 : 2, (int32_t[]){a, b < 0 ? 0 : b});
    node *const n = &s->node[number];
    n->indices = s->node[a].indices | (b < 0 ? 0 : s->node[b].indices);
    n->number = s->node[a].number && (b < 0 || s->node[b].number);
    return number;
}

static int is_handle(const lowering *l, const node *n) {
    return n->kind == NODE_TENSOR && l->s->scope->tensors[l->s->access[n->name].tensor].kind != FORMULA_TENSOR;
}

/* 1: holds a handle, or a product that sums an index and is larger than its factors: worth a call of its own. */
static int is_heavy(const lowering *l, int32_t number) {
    const node *const n = &l->s->node[number];
    if (is_handle(l, n)) return 1;
    if (n->kind != NODE_CALL || n->number) return 0;
    const int32_t a = n->argument[0], b = n->argument[1];
    if (n->op == MAP_NEG || n->op == MAP_DIV) return is_heavy(l, a);
    if (n->op != MAP_ADD && n->op != MAP_SUB && n->op != MAP_MUL) return 0;
    if (is_heavy(l, a) || is_heavy(l, b)) return 1;
    const uint32_t ia = l->s->node[a].indices, ib = l->s->node[b].indices;
    return n->op == MAP_MUL && (ia & ib & l->s->summed) && (ia | ib) != ia && (ia | ib) != ib;
}

static int is_heavy_sum(const lowering *l, int32_t number) {
    const node *const n = &l->s->node[number];
    return n->kind == NODE_CALL && (n->op == MAP_ADD || n->op == MAP_SUB || n->op == MAP_NEG) && is_heavy(l, number);
}

/* a·b or a/b, spread over the terms of a, or of b. */
static int32_t spread(lowering *l, map_op op, int32_t a, int32_t b) {
    if (l->crowded) return a;
    const int over_a = is_heavy_sum(l, a);
    if (!over_a && (op == MAP_DIV || !is_heavy_sum(l, b))) return new_call(l, op, a, b);
    const node sum = l->s->node[over_a ? a : b];
    int32_t part[2] = {-1, -1};
    for (int32_t i = 0; i < sum.arguments; i++)
        part[i] = over_a ? spread(l, op, sum.argument[i], b) : spread(l, op, a, sum.argument[i]);
    return new_call(l, sum.op, part[0], part[1]);
}

static int32_t multiply_out(lowering *l, int32_t number) {
    const node n = l->s->node[number];
    if (n.kind != NODE_CALL || n.number || !is_heavy(l, number) || l->crowded) return number;
    const int32_t a = multiply_out(l, n.argument[0]);
    const int32_t b = n.op == MAP_NEG ? -1 : n.op == MAP_DIV ? n.argument[1] : multiply_out(l, n.argument[1]);
    const int product = n.op == MAP_MUL || n.op == MAP_DIV;
    if (product && (is_heavy_sum(l, a) || (n.op == MAP_MUL && is_heavy_sum(l, b)))) return spread(l, n.op, a, b);
    return a == n.argument[0] && (b < 0 || b == n.argument[1]) ? number : new_call(l, n.op, a, b);
}

/* ---- one map ---- */

static map_store next_store(map_store store, int32_t first) {
    return first || store != MAP_SET ? store : MAP_PLUS;
}

static int whole_map(lowering *l, const output *to) {
    map_build b;
    map_begin(&b, l, to, l->s->summed, l->s->store);
    return map_node(&b, l->s->expression) || map_end(&b) ? GRAFT_FAILED : 0;
}

static int job_value(map_build *b, const job *j) {
    if (!j->is_product) return map_node(b, j->t.node);
    if (map_pieces(b, j->pieces)) return GRAFT_FAILED;
    if (!j->t.ups && !j->t.downs) return 0;
    const int32_t number = number_product(b->l->f, b->l->s, 1, j->t.up, j->t.ups, j->t.down, j->t.downs);
    return map_number(b, number) || map_operation(b, MAP_MUL);
}

/* All terms that sum over the same indices, as one map. */
static int jobs_map(lowering *l, const job *jobs, int32_t count, uint32_t summed, const output *to, map_store store) {
    map_build b;
    map_begin(&b, l, to, summed, store);
    int32_t any = 0;
    for (int32_t i = 0; i < count; i++) {
        const int negative = jobs[i].t.sign < 0;
        if (jobs[i].prepared || jobs[i].summed != summed) continue;
        if (job_value(&b, &jobs[i])) return GRAFT_FAILED;
        if ((any || negative) && map_operation(&b, !any ? MAP_NEG : negative ? MAP_SUB : MAP_ADD)) return GRAFT_FAILED;
        any = 1;
    }
    return map_end(&b);
}

/* ---- the statement ---- */

/* The last product of each term: straight into the target if strides allow, else into a temporary that a map adds. */
static int prepare_products(lowering *l, job *jobs, int32_t count, const output *to, int32_t may_add) {
    for (int32_t i = 0; i < count; i++) {
        job *const j = &jobs[i];
        if (!j->is_product) continue;
        j->pieces = j->last.a | j->last.b;
        j->summed = (j->last.ia | j->last.ib) & ~l->s->kept;
        if (j->last.kind != COMBINE_GEMM && j->last.kind != COMBINE_HANDLE) continue;
        int32_t result = -1;
        if (matrix_product(l, &j->last, to, may_add, &j->prepared, &result)) return GRAFT_FAILED;
        if (!j->prepared) j->pieces = 1u << result, j->summed = l->piece[result].indices & ~l->s->kept;
    }
    return 0;
}

static int append_jobs(lowering *l, job *jobs, int32_t count, const output *to, map_store store) {
    int32_t first = 1;
    for (int32_t i = 0; i < count; i++) {
        int seen = jobs[i].prepared != NULL;
        for (int32_t k = 0; k < i; k++)
            seen |= !jobs[k].prepared && jobs[k].summed == jobs[i].summed;
        if (seen) continue;
        if (jobs_map(l, jobs, count, jobs[i].summed, to, next_store(store, first))) return GRAFT_FAILED;
        first = 0;
    }
    for (int32_t i = 0; i < count; i++) {
        step *const st = jobs[i].prepared;
        const term *const t = &jobs[i].t;
        if (!st) continue;
        st->accumulate = next_store(store, first) != MAP_SET;
        st->alpha =
            number_product(l->f, l->s, store == MAP_MINUS ? -t->sign : t->sign, t->up, t->ups, t->down, t->downs);
        if (st->alpha < 0) return GRAFT_FAILED;
        step_append(l, st);
        first = 0;
    }
    return 0;
}

/* The terms meet in a temporary of the target's indices; the target is rounded once. */
static int append_rounded(lowering *l, job *jobs, int32_t count, const output *to) {
    const int32_t temp = temp_add(l, to->indices);
    if (temp < 0) return GRAFT_FAILED;
    const output meeting = temp_output(l, temp, to->order, to->count);
    if (prepare_products(l, jobs, count, &meeting, 0) || append_jobs(l, jobs, count, &meeting, MAP_SET))
        return GRAFT_FAILED;
    const int32_t all = temp_piece(l, &meeting);
    map_build b;
    if (all < 0) return GRAFT_FAILED;
    map_begin(&b, l, to, 0, l->s->store);
    return map_pieces(&b, 1u << all) || map_end(&b) ? GRAFT_FAILED : 0;
}

static int lower_terms(lowering *l, const output *to) {
    job jobs[TERMS];
    const int32_t root = multiply_out(l, l->s->expression), count = l->crowded ? 0 : take_apart(l, root, 1, jobs, 0);
    int32_t products = 0;
    if (l->crowded) return whole_map(l, to);
    for (int32_t i = 0; i < count; i++) {
        if (term_lower(l, &jobs[i].t, &jobs[i].is_product, &jobs[i].last)) return GRAFT_FAILED;
        products += jobs[i].is_product;
    }
    if (!products) return whole_map(l, to);
    if (count > 1 && !to->exact) return append_rounded(l, jobs, count, to);
    if (prepare_products(l, jobs, count, to, l->s->store != MAP_SET)) return GRAFT_FAILED;
    return append_jobs(l, jobs, count, to, l->s->store);
}

/* Two statements that draw random numbers draw different ones, in one program and in programs for different targets. */
static uint64_t salt_of(const statement *s, int32_t number) {
    uint64_t h = 14695981039346656037u; /* FNV-1a of the name, and a step of the golden ratio for each statement */
    for (const char *c = s->scope->tensors[s->access[0].tensor].name; *c; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211u;
    return h + (uint64_t)number * 0x9E3779B97F4A7C15u;
}

/* Puts the statement behind those that are in the program. */
static void keep_statement(const lowering *l, program_statement *out, int32_t number) {
    formula *const f = l->f;
    const statement *const s = l->s;
    for (int32_t i = 0; i < s->accesses; i++)
        out->uses |= (uint64_t)1 << s->access[i].tensor;
    f->writes |= (uint64_t)1 << s->access[0].tensor;
    for (int32_t i = s->store == MAP_SET; i < s->accesses; i++)
        f->reads |= (uint64_t)1 << s->access[i].tensor;
    out->text = arena_copy(&f->memory, s->text + s->begin, (size_t)(s->end - s->begin));
    out->salt = salt_of(s, number);
    out->temps = l->temps;
    out->temp = arena_new(&f->memory, (size_t)l->temps + 1, sizeof *out->temp);
    memcpy(out->temp, l->temp, (size_t)l->temps * sizeof *out->temp);
    program_statement **last = &f->statements;
    while (*last)
        last = &(*last)->next;
    *last = out;
}

int lower_statement(formula *f, statement *s, int32_t number, int32_t flags) {
    program_statement *const out = arena_new(&f->memory, 1, sizeof *out);
    lowering l; /* its arrays are written before they are read */
    l.f = f, l.s = s, l.tail = &out->steps;
    l.temps = l.pieces = l.crowded = 0;
    const output to = target_output(&l);
    const int adds = s->store == MAP_SET || s->store == MAP_PLUS || s->store == MAP_MINUS;
    const int one_map = !adds || !s->summed || s->random || (flags & LOWER_MAPS_ONLY);
    for (int32_t i = 0; i < 2; i++)
        out->distinct[i] = s->distinct[i] < 0 ? -1 : number_add(f, s, s->distinct[i]);
    if (s->err->code || (one_map ? whole_map(&l, &to) : lower_terms(&l, &to))) return GRAFT_FAILED;
    if (!s->absent) keep_statement(&l, out, number);
    return 0;
}
