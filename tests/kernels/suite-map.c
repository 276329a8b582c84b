/* suite-map — table-suite.h: every operator, store and reduction of maps. */
#include "table-suite.h"
#include <stdio.h>

/* y[i,j] (how)= op(x[i,j], v[j], 2): one program for every operator of one or two operands. */
static void map_operator(pair *p, int act, map_op op, int operands, map_store how, double bound) {
    enum { I = 5, J = 133 };
    const twin x = pair_random(p, act, I * J, 1.3), v = pair_random(p, OWN, J, 1.1), y = pair_random(p, act, I * J, 1);
    const map_instruction code[] = {
        {MAP_LOAD,    1},
        {MAP_LOAD,    2},
        {(int16_t)op, 0}
    };
    const map_program program = {.indices = 2, .kept = 2, .store = how, .operands = 3, .length = 3, .code = code};
    const map_instruction single[] = {
        {MAP_LOAD,    1},
        {(int16_t)op, 0}
    };
    const map_program one = {.indices = 2, .kept = 2, .store = how, .operands = 3, .length = 2, .code = single};
    FOR_BOTH(p, t, s) {
        const map_call c = {
            .extent = {I,                                                         J},
            .operand = { {y.dev[s], NULL, y.type[s], STORE_PLAIN, {J, 1}, 0, 0, 0},
                       {x.dev[s], NULL, x.type[s], STORE_PLAIN, {J, 1}, 0, 0, 0},
                       {v.dev[s], NULL, v.type[s], STORE_PLAIN, {0, 1}, 0, 0, 0}}
        };
        t->map(t, operands == 2 ? &program : &one, &c);
    }
    char what[40];
    snprintf(what, sizeof what, "map op %d store %d", op, how);
    pair_expect(p, &y, bound, what);
}

/* y[i] = Σ_jk or max_jk of x[i,j,k]·z[k,j], also over nothing. */
static void map_reduction(pair *p, int act, int maximum, map_store how, int64_t J, double bound) {
    enum { I = 7, K = 67 };
    const twin x = pair_random(p, act, I * J * K, 1), z = pair_random(p, act, J * K, 1), y = pair_random(p, OWN, I, 3);
    const map_instruction code[] = {
        {MAP_LOAD, 1},
        {MAP_LOAD, 2},
        {MAP_MUL,  0}
    };
    const map_program program = {
        .indices = 3, .kept = 1, .reduce_max = maximum, .store = how, .operands = 3, .length = 3, .code = code};
    FOR_BOTH(p, t, s) {
        const map_call c = {
            .extent = {I,                                                            J,  K},
            .operand = {{y.dev[s], NULL, y.type[s], STORE_PLAIN, {1, 0, 0}, 0, 0, 0},
                       {x.dev[s], NULL, x.type[s], STORE_PLAIN, {J * K, K, 1}, 0, 0, 0},
                       {z.dev[s], NULL, z.type[s], STORE_PLAIN, {0, 1, J}, 0, 0, 0}       }
        };
        t->map(t, &program, &c);
    }
    pair_expect(p, &y, 10 * bound, maximum ? "maximum" : "sum");
}

/* y[n,i] = code[q[n,i]]·scale[n]: a gather, 4-bit loads of either order. */
static void map_gather4(pair *p, store_kind store, double bound) {
    enum { N = 9, I = 31 };
    uint8_t packed[(N * I + 1) / 2];
    for (size_t i = 0; i < sizeof packed; i++)
        packed[i] = (uint8_t)philox_bits(5, 5, i);
    const twin q = pair_bytes(p, U8, packed, sizeof packed), code16 = pair_random(p, OWN, 14, 1),
               scale = pair_random(p, OWN, N, 1);
    const twin y = pair_zeros(p, OWN, N * I);
    const map_instruction code[] = {
        {MAP_LOAD,   1},
        {MAP_GATHER, 2},
        {MAP_LOAD,   3},
        {MAP_MUL,    0}
    };
    const map_program program = {.indices = 2, .kept = 2, .operands = 4, .length = 4, .code = code};
    FOR_BOTH(p, t, s) {
        const map_call c = {
            .extent = {N,                                                                    I},
            .operand = { {y.dev[s], NULL, y.type[s], STORE_PLAIN, {I, 1}, 0, 0, 0},
                       {q.dev[s], NULL, U8, store, {I, 1}, 0, 0, 0},
                       {code16.dev[s], NULL, code16.type[s], STORE_PLAIN, {0, 0}, 0, 1, 14},
                       {scale.dev[s], NULL, scale.type[s], STORE_PLAIN, {1, 0}, 0, 0, 0}}
        };
        t->map(t, &program, &c);
    }
    pair_expect(p, &y, bound, "gathered");
}

/* q[n,i] = x[n,i] into 4 bits (x: whole numbers, some outside 0..15); codes may differ nowhere. */
static void map_store4(pair *p, store_kind store) {
    enum { N = 7, I = 37 };
    double values[N * I];
    for (int i = 0; i < N * I; i++)
        values[i] = (double)(philox_bits(3, 1, (uint64_t)i) % 20) - 2;
    const twin x = pair_put(p, OWN, values, N * I), q = pair_zeros(p, U8, (N * I + 1) / 2);
    const map_instruction code[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {.indices = 2, .kept = 2, .operands = 2, .length = 1, .code = code};
    FOR_BOTH(p, t, s) {
        const map_call c = {
            .extent = {N,                                            I          },
            .operand = {{q.dev[s], NULL, U8, store, {I, 1}, 0, 0, 0},
                       {x.dev[s], NULL, x.type[s], STORE_PLAIN, {I, 1}, 0, 0, 0}}
        };
        t->map(t, &program, &c);
    }
    pair_expect(p, &q, 0, "4-bit codes");
}

/* m = 0.9·m + 0.1·g with m in blocks of 8 bits; codes are equal where the f32 arithmetic is. */
static void map_blocks8(pair *p, store_kind store, double bound) {
    enum { N = 1000, BLOCKS = 4 };
    const twin g = pair_random(p, OWN, N, 0.1), codes = pair_zeros(p, U8, N), scale = pair_zeros(p, F32, BLOCKS);
    const twin out = pair_zeros(p, OWN, N);
    const map_instruction code[] = {
        {MAP_NUMBER, 0},
        {MAP_LOAD,   0},
        {MAP_MUL,    0},
        {MAP_NUMBER, 1},
        {MAP_LOAD,   1},
        {MAP_ABS,    0},
        {MAP_MUL,    0},
        {MAP_ADD,    0}
    };
    const map_instruction read[] = {
        {MAP_LOAD, 1}
    };
    const map_program step = {.indices = 1, .kept = 1, .operands = 2, .numbers = 2, .length = 8, .code = code};
    const map_program get = {.indices = 1, .kept = 1, .operands = 2, .length = 1, .code = read};
    const double numbers[] = {0.9, 0.1};
    for (int round = 0; round < 3; round++)
        FOR_BOTH(p, t, s) {
            const map_operand m = {codes.dev[s], scale.dev[s], U8, store, {1}, 0, 0, 0};
            const map_call c = {
                .extent = {N                                                      },
                .operand = { m, {g.dev[s], NULL, g.type[s], STORE_PLAIN, {1}, 0, 0, 0}},
                .numbers = numbers
            };
            t->map(t, &step, &c);
            const map_call d = {
                .extent = {N },
                  .operand = { {out.dev[s], NULL, out.type[s], STORE_PLAIN, {1}, 0, 0, 0}, m}
            };
            t->map(t, &get, &d);
        }
    pair_expect(p, &scale, bound, "absmax");
    pair_expect(p, &out, bound > 0 ? 0.01 : 0, "8-bit values"); /* a code may fall to the other side of a middle */
}

/* Draws: y[i,j] = uniform(-1, 3), normal, mt19937(seed, first) and index arithmetic. */
static void map_draws(pair *p, double bound) {
    enum { I = 13, J = 97 };
    static const map_instruction uniform[] = {
        {MAP_NUMBER,  0},
        {MAP_NUMBER,  1},
        {MAP_UNIFORM, 0}
    };
    static const map_instruction normal[] = {
        {MAP_NORMAL, 0}
    };
    static const map_instruction twister[] = {
        {MAP_NUMBER,  2},
        {MAP_NUMBER,  3},
        {MAP_MT19937, 0}
    };
    static const map_instruction select[] = {
        {MAP_INDEX,  0},
        {MAP_INDEX,  1},
        {MAP_LT,     0},
        {MAP_INDEX,  1},
        {MAP_NUMBER, 0},
        {MAP_SELECT, 0}
    };
    static const struct {
        const map_instruction *code;
        int32_t length;
    } programs[] = {
        {uniform, 3},
        {normal,  1},
        {twister, 3},
        {select,  6}
    };
    const double numbers[] = {-1, 3, 4123456789.0, 1000};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        const twin y = pair_zeros(p, OWN, I * J);
        const map_program program = {.indices = 2,
                                     .kept = 2,
                                     .operands = 1,
                                     .numbers = 4,
                                     .length = programs[i].length,
                                     .code = programs[i].code};
        FOR_BOTH(p, t, s) {
            const map_call c = {
                .extent = {I, J},
                .operand = {{y.dev[s], NULL, y.type[s], STORE_PLAIN, {J, 1}, 0, 0, 0}},
                .numbers = numbers,
                .seed = 42,
                .stream = 1ull << 40
            };
            t->map(t, &program, &c);
        }
        pair_expect(p, &y, bound, "drawn");
    }
}

void suite_map(pair *p, int act, double bound) {
    static const map_op two[] = {MAP_ADD, MAP_SUB, MAP_MUL, MAP_DIV, MAP_LT, MAP_LE,  MAP_GT,
                                 MAP_GE,  MAP_EQ,  MAP_NE,  MAP_AND, MAP_OR, MAP_MAX, MAP_MIN};
    static const map_op one[] = {MAP_NEG,     MAP_NOT, MAP_EXP, MAP_ABS,   MAP_SIGN, MAP_TANH,
                                 MAP_SIGMOID, MAP_ERF, MAP_COS, MAP_FLOOR, MAP_ROUND};
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        map_operator(p, act, two[i], 2, MAP_SET, bound);
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        map_operator(p, act, one[i], 1, MAP_SET, bound);
    for (int how = MAP_PLUS; how <= MAP_MAXIMUM; how++)
        map_operator(p, act, MAP_MUL, 2, (map_store)how, bound);
    for (int maximum = 0; maximum < 2; maximum++) {
        map_reduction(p, act, maximum, MAP_SET, 11, bound);
        map_reduction(p, act, maximum, maximum ? MAP_MAXIMUM : MAP_PLUS, 1, bound);
        map_reduction(p, act, maximum, maximum ? MAP_MAXIMUM : MAP_MINUS, 0, bound);
    }
    map_gather4(p, STORE_U4, bound);
    map_gather4(p, STORE_U4_HIGH, bound);
    map_store4(p, STORE_U4);
    map_store4(p, STORE_U4_HIGH);
    map_blocks8(p, STORE_BLOCKS8, bound);
    map_blocks8(p, STORE_BLOCKS8_UNSIGNED, bound);
    map_draws(p, bound);
}
