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
}

Test(formula_random, products_equal_the_map) {
    random_program p = {0};
    int products = 0, temporaries = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        make(&p);
        /* index letters must be told: a split whose parts stand nowhere else is refused, and rightly so */
        kit *const k = kit_new(p.declared);
        kit_number(k, "s", 0.75);
        if (kit_check(k, p.text)) {
            cr_assert(strstr(k->err.text, "nothing tells the extents"), "%s\n%s", p.declared, k->err.text);
        } else {
            const double difference = kit_products_against_map(k, p.text);
            cr_expect_leq(difference, 1e-12, "%g: %s with %s", difference, p.text, p.declared);
            products += k->gemms > 0;
            temporaries += k->maps > 0 && k->gemms > 0;
        }
        kit_free(k);
    }
    cr_assert(products > TRIALS / 3 && temporaries > TRIALS / 20, "%d programs with products, %d with maps too",
              products, temporaries);
    fprintf(stderr, "%d programs with products, %d of them with maps too\n", products, temporaries);
}
