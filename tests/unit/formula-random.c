/* Products drawn at random — shapes, orders of dimensions, split dimensions, extents of 1, rows, two to four factors, sums
 * within factors — equal the one map that defines them. */
#include "base/philox.h"
#include "formula-kit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INDICES = 6, TRIALS = 3000 };

typedef struct {
    uint64_t at;
    int extent[INDICES]; /* index 0 counts rows */
    char declared[800], text[800];
} random_program;

static int draw(random_program *p, int below) {
    return (int)(philox_bits(99, 3, p->at++) % (uint64_t)below);
}

static void put(char *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(char *to, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t length = strlen(to);
    vsnprintf(to + length, 800 - length, format, args);
    va_end(args);
}

/* Some of the indices in `from`, in any order. */
static int choose(random_program *p, unsigned from, int most, int *chosen) {
    int count = 0;
    const int wanted = 1 + draw(p, most);
    for (int tries = 0; (tries < 20 || !count) && count < wanted; tries++) {
        const int index = draw(p, INDICES);
        if (from >> index & 1) chosen[count++] = index, from &= ~(1u << index);
    }
    return count;
}

/* Declares tensor `name` over the indices and appends its access; neighbours may share a dimension. */
static void tensor(random_program *p, const char *name, const int *index, int count) {
    put(p->declared, "%s%s", p->declared[0] ? ";" : "", name);
    put(p->text, "%s[", name);
    for (int i = 0; i < count; i++) {
        const int split = i + 1 < count && index[i] && index[i + 1] && draw(p, 4) == 0;
        if (i) put(p->text, ",");
        if (split) {
            put(p->declared, " %d", p->extent[index[i]] * p->extent[index[i + 1]]);
            put(p->text, "(%c,%c)", 'a' + index[i], 'a' + index[i + 1]);
            i++;
        } else {
            if (index[i])
                put(p->declared, " %d", p->extent[index[i]]);
            else
                put(p->declared, " rows");
            put(p->text, "%c", 'a' + index[i]);
        }
    }
    put(p->text, "]");
}

/* A term over all indices, so that it lacks none that is summed. */
static void add_term(random_program *p, unsigned used) {
    static const char *const before[] = {" + 2 * (", " - (", " - s * -(", " + (-"};
    int all[INDICES], count = 0;
    for (int i = 0; i < INDICES; i++)
        if (used >> i & 1) all[count++] = i;
    put(p->text, "%s", before[draw(p, 4)]);
    tensor(p, "Y", all, count);
    put(p->text, draw(p, 2) ? " * -" : " / (2 + ");
    const int divides = p->text[strlen(p->text) - 1] != '-';
    tensor(p, "Z", all, 1 + draw(p, count));
    put(p->text, divides ? "))" : ")");
}

static void make(random_program *p) {
    static const char *const stores[] = {"=", "+=", "-="};
    p->declared[0] = p->text[0] = '\0';
    p->extent[0] = KIT_ROWS;
    for (int i = 1; i < INDICES; i++)
        p->extent[i] = 1 + draw(p, 5);
    int factor[4][4], length[4], target[4];
    const int factors = 2 + draw(p, 3);
    unsigned used = 0;
    for (int f = 0; f < factors; f++) {
        length[f] = choose(p, ~0u, 3, factor[f]);
        for (int i = 0; i < length[f]; i++)
            used |= 1u << factor[f][i];
    }
    tensor(p, "T", target, choose(p, used, 3, target));
    put(p->text, " %s %s", stores[draw(p, 3)], draw(p, 4) ? "" : "-s * ");
    for (int f = 0; f < factors; f++) {
        char name[2] = {(char)('F' + f), '\0'}, other[2] = {(char)('P' + f), '\0'};
        if (f) put(p->text, " * ");
        if (draw(p, 5) == 0) {
            put(p->text, "(");
            tensor(p, name, factor[f], length[f]);
            put(p->text, draw(p, 2) ? " - " : " + s * ");
            tensor(p, other, factor[f], length[f]);
            put(p->text, ")");
        } else {
            tensor(p, name, factor[f], length[f]);
        }
    }
    if (draw(p, 6) == 0) put(p->text, " / (3 + s)");
    if (__builtin_popcount(used) <= 4 && draw(p, 3)) add_term(p, used);
}

/* The first factor becomes a handle where it can be one: W (out, in), or a one-hot (rows, in). */
static int make_handle(random_program *p, kit *k) {
    formula_tensor *const f = kit_tensor(k, "F");
    if (f->rank != 2 || f->shape[1] == FORMULA_ROWS || draw(p, 2)) return 0;
    f->kind = f->shape[0] == FORMULA_ROWS ? FORMULA_ONEHOT : FORMULA_WEIGHT;
    return 1;
}

Test(formula_random, products_equal_the_map) {
    random_program p = {0};
    int products = 0, with_maps = 0, handles = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        make(&p);
        kit *const k = kit_new(p.declared);
        const int handle = make_handle(&p, k);
        kit_number(k, "s", 0.75);
        kit_tensor(k, "T")->activation = draw(&p, 2); /* its terms meet in a temporary */
        if (kit_check(k, p.text)) { /* the parts of a split that nothing tells; a handle where none may stand */
            cr_assert(
                strstr(k->err.text, "nothing tells the extents") ||
                    (handle && (strstr(k->err.text, "is a handle here") || strstr(k->err.text, "is one-hot here"))),
                "%s\n%s", p.declared, k->err.text);
        } else {
            const double difference = kit_products_against_map(k, p.text);
            cr_expect_leq(difference, 1e-12, "%g: %s with %s", difference, p.text, p.declared);
            products += k->gemms > 0;
            with_maps += k->maps > 0 && k->gemms > 0;
            handles += handle && k->gemms + k->weights > 0;
        }
        kit_free(k);
    }
    fprintf(stderr, "%d programs with products, %d of them with maps too, %d with handles\n", products, with_maps,
            handles);
    cr_assert(products > TRIALS / 3 && with_maps > TRIALS / 20 && handles > TRIALS / 50);
}
