/* Random programs of the map, fast table against reference: shapes, strides, types, reductions and stores by chance. Operations
 * that are exact in f32 must agree to the last bit, sums and library functions to their rounding. */
#include "compare.h"
#include "cpu-sets.h"
#include <string.h>

enum { PROGRAMS = 400, LENGTH = 24, OPERANDS = 4 };

static uint64_t drawn;
static int64_t draw(int64_t below) {
    return (int64_t)(philox_bits(11, 1, drawn++) % (uint64_t)below);
}

typedef struct {
    map_program p;
    map_call c;
    map_instruction code[LENGTH];
    double numbers[2];
} sample;

static const int16_t exact_unary[] = {MAP_NEG, MAP_NOT, MAP_ABS, MAP_SIGN, MAP_FLOOR, MAP_ROUND, MAP_SQRT};
static const int16_t exact_binary[] = {MAP_ADD, MAP_SUB, MAP_MUL, MAP_DIV, MAP_LT,  MAP_LE,  MAP_GT,     MAP_GE,
                                       MAP_EQ,  MAP_NE,  MAP_AND, MAP_OR,  MAP_MAX, MAP_MIN, MAP_UNIFORM};
static const int16_t smooth_unary[] = {MAP_EXP, MAP_TANH, MAP_SIGMOID, MAP_ERF, MAP_COS, MAP_ABS, MAP_NEG};
static const int16_t smooth_binary[] = {MAP_ADD, MAP_SUB, MAP_MAX, MAP_MIN};

#define PICK(list) list[draw(sizeof list / sizeof *list)]

/* A program that leaves one value; smooth ones keep their values small. */
static void write_code(sample *s, int smooth) {
    int top = 0, at = 0;
    while (at < LENGTH - 6 && (top == 0 || draw(12))) {
        const int64_t what = draw(7);
        map_instruction *i = &s->code[at++];
        if (top == 0 || (what < 2 && top < 5))
            *i = (map_instruction){draw(4) ? MAP_LOAD : draw(2) ? MAP_NUMBER : MAP_INDEX, 0}, top++;
        else if (what == 2 && top >= 3 && !smooth)
            *i = (map_instruction){MAP_SELECT, 0}, top -= 2;
        else if (what < 5 && top >= 2)
            *i = (map_instruction){smooth ? PICK(smooth_binary) : PICK(exact_binary), 0}, top--;
        else
            *i = (map_instruction){smooth ? PICK(smooth_unary) : PICK(exact_unary), 0};
        if (i->op == MAP_LOAD) i->arg = (int16_t)(1 + draw(OPERANDS - 1));
        if (i->op == MAP_NUMBER) i->arg = (int16_t)draw(2);
        if (i->op == MAP_INDEX) i->arg = (int16_t)draw(s->p.indices);
    }
    for (; top > 1; top--)
        s->code[at++] = (map_instruction){MAP_ADD, 0};
    s->p.length = at;
    s->p.code = s->code;
}

/* Extents and the operands' places; returns how many elements operand o needs. */
static void write_shape(sample *s, int64_t size[OPERANDS]) {
    s->p.indices = (int32_t)(1 + draw(4));
    s->p.kept = (int32_t)draw(s->p.indices + 1);
    for (int d = 0; d < s->p.indices; d++)
        s->c.extent[d] = draw(5) ? 1 + draw(9) : draw(2) ? 1 + draw(700) : 1;
    s->p.operands = OPERANDS;
    for (int o = 0; o < OPERANDS; o++) {
        map_operand *const m = &s->c.operand[o];
        const int turned = o > 0 && draw(2), gap = draw(4) == 0;
        int64_t run = gap ? 2 : 1;
        for (int i = 0; i < s->p.indices; i++) {
            const int d = turned ? i : s->p.indices - 1 - i;
            const int absent = o == 0 ? d >= s->p.kept : draw(4) == 0;
            m->stride[d] = absent ? 0 : run;
            if (!absent) run *= s->c.extent[d];
        }
        m->offset = draw(3);
        size[o] = run + 2 + m->offset;
    }
}

static void run_sample(int smooth) {
    static const int types[] = {F32, F32, BF16, F16, I32};
    sample s = {
        .numbers = {1.5, -0.25}
    };
    int64_t size[OPERANDS];
    write_shape(&s, size);
    write_code(&s, smooth);
    s.p.reduce_max = draw(3) == 0;
    s.p.store = (map_store)draw(6);
    if (s.p.store == MAP_OVER && smooth) s.p.store = MAP_SET;
    s.p.numbers = 2;
    s.c.numbers = s.numbers;
    s.c.seed = 5, s.c.stream = 6;
    pair p;
    pair_open(&p, "cpu", "ref");
    twin t[OPERANDS];
    for (int o = 0; o < OPERANDS; o++) {
        const int type = types[draw(o == 0 ? 3 : 5)];
        t[o] = type == I32 ? pair_indices(&p, size[o], 4) : pair_random(&p, type, size[o], 0.5);
    }
    FOR_BOTH(&p, k, side) {
        map_call c = s.c;
        for (int o = 0; o < OPERANDS; o++)
            c.operand[o].data = t[o].dev[side], c.operand[o].type = t[o].type[side];
        k->map(k, &s.p, &c);
    }
    const int sums = s.p.kept < s.p.indices && !s.p.reduce_max;
    const double unit = t[0].type[0] == BF16 ? 0x1p-7 : 0;
    pair_expect(&p, &t[0], smooth ? unit + 1e-4 : sums ? unit + 1e-5 : 0, smooth ? "smooth program" : "exact program");
    pair_close(&p);
}

static void programs(const char *set) {
    setenv("GRAFT_CPU", set, 1);
    drawn = 0;
    for (int i = 0; i < PROGRAMS; i++)
        run_sample(i % 3 == 2);
}
FOR_SETS(cpu_map, random_programs_equal_the_reference, programs)

/* The states of an 8-bit optimizer: codes and scales to the last bit, over several parts. */
static void blocks8(const char *set) {
    enum { N = 70003, BLOCKS = (N + 255) / 256 };
    static const map_instruction code[] = {
        {MAP_LOAD,   0},
        {MAP_NUMBER, 0},
        {MAP_MUL,    0},
        {MAP_LOAD,   1},
        {MAP_ADD,    0}
    };
    const double number = 0.9;
    setenv("GRAFT_CPU", set, 1);
    for (int kind = STORE_BLOCKS8; kind <= STORE_BLOCKS8_UNSIGNED; kind++) {
        pair p;
        pair_open(&p, "cpu", "ref");
        const twin codes = pair_zeros(&p, U8, N), scale = pair_random(&p, F32, BLOCKS, 1),
                   g = pair_random(&p, F32, N, 1);
        for (int step = 0; step < 2; step++)
            FOR_BOTH(&p, k, s) {
                const map_program m = {
                    .indices = 2, .kept = 2, .store = MAP_SET, .operands = 2, .numbers = 1, .length = 5, .code = code};
                map_call c = {
                    .extent = {1, N},
                      .numbers = &number
                };
                c.operand[0] = (map_operand){
                    .data = codes.dev[s],
                    .scale = scale.dev[s],
                    .type = U8,
                    .store = (store_kind)kind,
                    .stride = {N, 1}
                };
                c.operand[1] = (map_operand){
                    .data = g.dev[s], .type = F32, .stride = {N, 1}
                };
                k->map(k, &m, &c);
            }
        pair_expect(&p, &codes, 0, "codes");
        pair_expect(&p, &scale, 0, "absmax");
        pair_close(&p);
    }
}
FOR_SETS(cpu_map, eight_bit_states_equal_the_reference, blocks8)
