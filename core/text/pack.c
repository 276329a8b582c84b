/* pack — see pack.h. Every strategy gives each segment a row; rows are then laid out by counting. */
#include "text/pack.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

void packing_free(packing *p) {
    free(p->segments);
    free(p->first);
    *p = (packing){0};
}

void packing_append(packing *to, packing *from, int64_t first_document) {
    const int64_t segments = to->rows ? to->first[to->rows] : 0, more = from->rows ? from->first[from->rows] : 0;
    to->segments = mem_grow(to->segments, (size_t)(segments + more) + 1, sizeof *to->segments);
    to->first = mem_grow(to->first, (size_t)(to->rows + from->rows) + 1, sizeof *to->first);
    for (int64_t i = 0; i < more; i++) {
        to->segments[segments + i] = from->segments[i];
        to->segments[segments + i].document += (uint32_t)first_document;
    }
    for (int64_t r = 0; r <= from->rows; r++)
        to->first[to->rows + r] = segments + (from->rows ? from->first[r] : 0);
    to->rows += from->rows;
    packing_free(from);
}

/* ---- segments and their rows ---- */

typedef struct {
    pack_segment *at; /* in the order of placing */
    int32_t *row;     /* of each                 */
    int64_t count, capacity, rows;
} placing;

static void add(placing *p, int64_t document, int64_t begin, int64_t length) {
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->at = mem_grow(p->at, (size_t)p->capacity, sizeof *p->at);
        p->row = mem_grow(p->row, (size_t)p->capacity, sizeof *p->row);
    }
    p->row[p->count] = (int32_t)p->rows;
    p->at[p->count++] = (pack_segment){(uint32_t)document, (int32_t)begin, (int32_t)length};
}

/* The segments sorted by their rows, in the order of placing within a row. */
static packing lay_out(placing *p) {
    packing out = {.rows = p->rows};
    out.segments = mem_new((size_t)p->count + 1, sizeof *out.segments);
    out.first = mem_new((size_t)p->rows + 2, sizeof *out.first);
    int64_t *const next =
        out.first + 1; /* where the next segment of a row goes; in the end where the row behind begins */
    for (int64_t i = 0; i < p->count; i++)
        if (p->row[i] + 1 < p->rows) next[p->row[i] + 1]++;
    for (int64_t r = 1; r < p->rows; r++)
        next[r] += next[r - 1];
    for (int64_t i = 0; i < p->count; i++)
        out.segments[next[p->row[i]]++] = p->at[i];
    free(p->at);
    free(p->row);
    return out;
}

/* Documents as segments: cut at the capacity, or split into several. Row 0 for all. */
static placing take(const int64_t *lengths, int64_t count, int64_t capacity, int split) {
    placing p = {0};
    for (int64_t d = 0; d < count; d++)
        for (int64_t begin = 0; begin < lengths[d] && (split || begin == 0); begin += capacity)
            add(&p, d, begin, lengths[d] - begin < capacity ? lengths[d] - begin : capacity);
    return p;
}

static int is_longer(const void *a, const void *b) {
    const pack_segment *const x = a, *const y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    if (x->document != y->document) return x->document < y->document ? -1 : 1;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* ---- the first place that holds enough ---- */

/* A tree of maxima over `leaves` values (a power of two): node n has the children 2n and 2n + 1. */
typedef struct {
    int64_t *largest;
    int64_t leaves;
} tree;

static tree tree_new(int64_t values) {
    tree t = {.leaves = 1};
    while (t.leaves < values)
        t.leaves *= 2;
    t.largest = mem_new((size_t)t.leaves * 2, sizeof *t.largest);
    return t;
}

static void tree_set(tree *t, int64_t place, int64_t value) {
    int64_t n = t->leaves + place;
    t->largest[n] = value;
    for (n /= 2; n > 0; n /= 2) {
        const int64_t *const child = t->largest + 2 * n;
        t->largest[n] = child[0] > child[1] ? child[0] : child[1];
    }
}

/* The first place with a value of at least `wanted` (> 0), -1: none. */
static int64_t tree_first(const tree *t, int64_t wanted) {
    if (t->largest[1] < wanted) return -1;
    int64_t n = 1;
    while (n < t->leaves)
        n = 2 * n + (t->largest[2 * n] < wanted);
    return n - t->leaves;
}

/* ---- strategies ---- */

packing pack_best_fit(const int64_t *lengths, int64_t count, int64_t capacity, int split) {
    placing p = take(lengths, count, capacity, split);
    if (p.count > 0) qsort(p.at, (size_t)p.count, sizeof *p.at, is_longer);
    /* the rows with s tokens of space form a queue from head[s] to tail[s], rows numbered from 1; place s of the tree holds s
     * while there are any */
    int64_t *const head = mem_new((size_t)capacity + 1, sizeof *head), *const tail =
                                                                           mem_new((size_t)capacity + 1, sizeof *tail);
    int32_t *const behind = mem_new((size_t)p.count + 1, sizeof *behind);
    tree spaces = tree_new(capacity + 1);
    for (int64_t i = 0; i < p.count; i++) {
        const int64_t length = p.at[i].length;
        int64_t space = tree_first(&spaces, length), row;
        if (space < 0) {
            row = ++p.rows, space = capacity;
        } else {
            row = head[space], head[space] = behind[row];
            if (!head[space]) tree_set(&spaces, space, 0);
        }
        p.row[i] = (int32_t)row - 1;
        space -= length;
        behind[row] = 0;
        if (head[space])
            behind[tail[space]] = (int32_t)row;
        else
            head[space] = row, tree_set(&spaces, space, space);
        tail[space] = row;
    }
    free(head);
    free(tail);
    free(behind);
    free(spaces.largest);
    return lay_out(&p);
}

packing pack_first_fit(const int64_t *lengths, int64_t count, int64_t capacity) {
    placing p = take(lengths, count, capacity, 0);
    if (p.count > 0) qsort(p.at, (size_t)p.count, sizeof *p.at, is_longer);
    tree rows = tree_new(p.count); /* the space of each row */
    for (int64_t i = 0; i < p.count; i++) {
        int64_t row = tree_first(&rows, p.at[i].length);
        const int64_t space = row < 0 ? capacity : rows.largest[rows.leaves + row];
        if (row < 0) row = p.rows++;
        p.row[i] = (int32_t)row;
        tree_set(&rows, row, space - p.at[i].length);
    }
    free(rows.largest);
    return lay_out(&p);
}

packing pack_sequential(const int64_t *lengths, int64_t count, int64_t capacity) {
    placing p = take(lengths, count, capacity, 0);
    int64_t space = 0;
    for (int64_t i = 0; i < p.count; i++) {
        if (p.at[i].length > space) p.rows++, space = capacity;
        p.row[i] = (int32_t)p.rows - 1;
        space -= p.at[i].length;
    }
    return lay_out(&p);
}

packing pack_wrapped(const int64_t *lengths, int64_t count, int64_t capacity) {
    placing p = {0};
    int64_t space = capacity;
    for (int64_t d = 0; d < count; d++)
        for (int64_t begin = 0, length; begin < lengths[d]; begin += length) {
            if (space == 0) p.rows++, space = capacity;
            length = lengths[d] - begin < space ? lengths[d] - begin : space;
            add(&p, d, begin, length);
            space -= length;
        }
    p.rows += p.count > 0;
    return lay_out(&p);
}
