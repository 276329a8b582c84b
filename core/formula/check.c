/* check — what the words of a statement mean, what it may read and write, and in which order its rules are checked. */
#include "formula/parts.h"
#include <string.h>

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

/* An element is written once, and a packed tensor as a whole. */
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

/* ---- entries ---- */

int check_statement(statement *s) {
    if (resolve(s) || check_target(s) || check_left(s) || check_reads(s) || check_extents(s) || describe_nodes(s) ||
        set_strides(s))
        return GRAFT_FAILED;
    s->kept = s->access[0].indices;
    s->summed = s->node[s->expression].indices & ~s->kept;
    return check_target_on_right(s) || check_sums(s) ? GRAFT_FAILED : 0;
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
