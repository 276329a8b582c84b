/* Maps of the reference against loops written by hand. */
#include "compare.h"
#include "gradient.h"
#include "kernels/blocks8.h"
#include "kernels/mt19937.h"
#include <string.h>

static map_operand dense(void *data, dtype type, int64_t s0, int64_t s1, int64_t s2) {
    return (map_operand){
        .data = data, .type = type, .stride = {s0, s1, s2}
    };
}

/* p -= lr·m / (sqrt(v) + eps), lr folded to a number: an optimizer's line. */
Test(ref_map, an_adam_step_equals_its_loop) {
    enum { N = 300 };
    kernels *k = open_device("ref64", NULL);
    double p[N], m[N], v[N], want[N];
    fill_normal(p, N, 1, 1);
    fill_normal(m, N, 2, 1);
    for (int i = 0; i < N; i++) {
        v[i] = m[i] * m[i] + 0.1 * i;
        want[i] = p[i] - 0.01 * m[i] / (sqrt(v[i]) + 1e-8);
    }
    const map_instruction code[] = {
        {MAP_NUMBER, 0},
        {MAP_LOAD,   1},
        {MAP_MUL,    0},
        {MAP_LOAD,   2},
        {MAP_SQRT,   0},
        {MAP_NUMBER, 1},
        {MAP_ADD,    0},
        {MAP_DIV,    0}
    };
    const double numbers[] = {0.01, 1e-8};
    const map_program program = {
        .indices = 1, .kept = 1, .store = MAP_MINUS, .operands = 3, .numbers = 2, .length = 8, .code = code};
    const map_call c = {
        .extent = {N  },
        .operand = { dense(p, F64, 1, 0, 0), dense(m, F64, 1, 0, 0), dense(v, F64, 1, 0, 0)},
        .numbers = numbers
    };
    k->map(k, &program, &c);
    cr_assert_arr_eq(p, want, sizeof p);
    k->close(k);
}

/* y[i] = Σ_jk and max_jk of a[i,j,k] + b[k] - j, y turned into every third place of a longer array. */
Test(ref_map, reductions_equal_their_loops_and_leave_other_places_alone) {
    enum { I = 3, J = 4, K = 5 };
    kernels *k = open_device("ref64", NULL);
    double a[I * J * K], b[K], y[2 + 3 * I];
    fill_normal(a, I * J * K, 1, 1);
    fill_normal(b, K, 2, 1);
    const map_instruction code[] = {
        {MAP_LOAD,  1},
        {MAP_LOAD,  2},
        {MAP_ADD,   0},
        {MAP_INDEX, 1},
        {MAP_SUB,   0}
    };
    for (int maximum = 0; maximum < 2; maximum++) {
        for (int i = 0; i < 2 + 3 * I; i++)
            y[i] = 100;
        const map_program program = {
            .indices = 3, .kept = 1, .reduce_max = maximum, .operands = 3, .length = 5, .code = code};
        map_call c = {
            .extent = {I,  J, K },
            .operand = { dense(y, F64, 3, 0, 0), dense(a, F64, J * K, K, 1), dense(b, F64, 0, 0, 1)}
        };
        c.operand[0].offset = 2;
        k->map(k, &program, &c);
        for (int i = 0; i < I; i++) {
            double sum = 0, most = -INFINITY;
            for (int j = 0; j < J; j++)
                for (int l = 0; l < K; l++) {
                    const double v = a[(i * J + j) * K + l] + b[l] - j;
                    sum += v;
                    most = v > most ? v : most;
                }
            cr_assert_eq(y[2 + 3 * i], maximum ? most : sum);
            cr_assert_eq(y[3 + 3 * i], 100);
        }
    }
    k->close(k);
}

Test(ref_map, the_six_ways_to_store) {
    kernels *k = open_device("ref64", NULL);
    static const double want[] = {4, 10, 2, 24, 1.5, 6};
    const map_instruction code[] = {
        {MAP_LOAD, 1}
    };
    for (int how = MAP_SET; how <= MAP_MAXIMUM; how++) {
        double y = 6, x = 4;
        const map_program program = {.store = (map_store)how, .operands = 2, .length = 1, .code = code};
        const map_call c = {
            .operand = {dense(&y, F64, 0, 0, 0), dense(&x, F64, 0, 0, 0)}
        };
        k->map(k, &program, &c);
        cr_assert_eq(y, want[how], "%d gives %g", how, y);
    }
    k->close(k);
}

/* One operator on given values, without indices. */
static double operate(kernels *k, map_op op, int count, double a, double b, double c3) {
    const double numbers[] = {a, b, c3};
    const map_instruction code[] = {
        {MAP_NUMBER,  0},
        {MAP_NUMBER,  1},
        {MAP_NUMBER,  2},
        {(int16_t)op, 0}
    };
    map_instruction used[4];
    memcpy(used, code, sizeof used);
    used[count] = code[3];
    double y = 0;
    const map_program program = {.operands = 1, .numbers = 3, .length = count + 1, .code = used};
    const map_call c = {.operand = {dense(&y, F64, 0, 0, 0)}, .numbers = numbers};
    k->map(k, &program, &c);
    return y;
}

Test(ref_map, operators_mean_what_the_notation_says) {
    kernels *k = open_device("ref64", NULL);
    static const struct {
        map_op op;
        int count;
        double a, b, c, want;
    } cases[] = {
        {MAP_SUB,     2, 5,    3,   0, 2       },
        {MAP_DIV,     2, 1,    4,   0, 0.25    },
        {MAP_DIV,     2, 1,    0,   0, INFINITY},
        {MAP_NEG,     1, 2,    0,   0, -2      },
        {MAP_LT,      2, 1,    2,   0, 1       },
        {MAP_LT,      2, 2,    2,   0, 0       },
        {MAP_LE,      2, 2,    2,   0, 1       },
        {MAP_GT,      2, 3,    2,   0, 1       },
        {MAP_GE,      2, 1,    2,   0, 0       },
        {MAP_EQ,      2, 2,    2,   0, 1       },
        {MAP_NE,      2, 2,    2,   0, 0       },
        {MAP_AND,     2, 2,    -1,  0, 1       },
        {MAP_AND,     2, 2,    0,   0, 0       },
        {MAP_OR,      2, 0,    0.5, 0, 1       },
        {MAP_OR,      2, 0,    0,   0, 0       },
        {MAP_NOT,     1, 0,    0,   0, 1       },
        {MAP_NOT,     1, 3,    0,   0, 0       },
        {MAP_SELECT,  3, 1,    7,   8, 7       },
        {MAP_SELECT,  3, 0,    7,   8, 8       },
        {MAP_SIGN,    1, -0.3, 0,   0, -1      },
        {MAP_SIGN,    1, 0,    0,   0, 0       },
        {MAP_MAX,     2, -1,   2,   0, 2       },
        {MAP_MIN,     2, -1,   2,   0, -1      },
        {MAP_POW,     2, 2,    10,  0, 1024    },
        {MAP_FLOOR,   1, -1.5, 0,   0, -2      },
        {MAP_ROUND,   1, 2.5,  0,   0, 2       },
        {MAP_ROUND,   1, -3.5, 0,   0, -4      },
        {MAP_ABS,     1, -3,   0,   0, 3       },
        {MAP_SIGMOID, 1, 0,    0,   0, 0.5     },
        {MAP_SQRT,    1, 9,    0,   0, 3       },
        {MAP_EXP,     1, 0,    0,   0, 1       },
        {MAP_LOG,     1, 1,    0,   0, 0       },
        {MAP_COS,     1, 0,    0,   0, 1       },
        {MAP_SIGMOID, 1, -1e4, 0,   0, 0       },
        {MAP_TANH,    1, 1e4,  0,   0, 1       },
        {MAP_ERF,     1, -1e4, 0,   0, -1      },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double y = operate(k, cases[i].op, cases[i].count, cases[i].a, cases[i].b, cases[i].c);
        cr_assert_eq(y, cases[i].want, "case %zu gives %g instead of %g", i, y, cases[i].want);
    }
    k->close(k);
}

Test(ref_map, a_gather_outside_its_extent_is_zero) {
    kernels *k = open_device("ref", NULL);
    const int32_t at[] = {-1, 0, 3, 4, 2147483647};
    const float table[] = {99, 10, 11, 12, 13, 99};
    float y[5];
    const map_instruction code[] = {
        {MAP_LOAD,   1},
        {MAP_GATHER, 2}
    };
    const map_program program = {.indices = 1, .kept = 1, .operands = 3, .length = 2, .code = code};
    map_call c = {
        .extent = {5                                                          },
        .operand = { dense(y, F32, 1, 0, 0),
                   {.type = I32, .stride = {1}},
                   {.type = F32, .offset = 1, .gather = 1, .gather_extent = 4}}
    };
    memcpy(&c.operand[1].data, &(const void *){at}, sizeof(void *));
    memcpy(&c.operand[2].data, &(const void *){table}, sizeof(void *));
    k->map(k, &program, &c);
    const float want[] = {0, 10, 13, 0, 0};
    cr_assert_arr_eq(y, want, sizeof y);
    k->close(k);
}

Test(ref_map, four_bit_elements_lie_two_in_a_byte_in_either_order) {
    kernels *k = open_device("ref", NULL);
    float x[5] = {1, 2.5f, 15.7f, -3, 7}, back[5];
    const map_instruction code[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {.indices = 1, .kept = 1, .operands = 2, .length = 1, .code = code};
    for (int high = 0; high < 2; high++) {
        uint8_t q[4] = {0, 0, 0xab, 0xcd};
        const map_operand packed = {.data = q, .type = U8, .store = high ? STORE_U4_HIGH : STORE_U4, .stride = {1}};
        const map_call write = {
            .extent = {5  },
              .operand = { packed, dense(x, F32, 1, 0, 0)}
        };
        k->map(k, &program, &write);
        /* 2.5 rounds to 2, 15.7 and -3 stay inside 0..15; the half byte past the end keeps what it held */
        const uint8_t low_first[] = {0x21, 0x0f, 0xa7, 0xcd}, high_first[] = {0x12, 0xf0, 0x7b, 0xcd};
        cr_assert_arr_eq(q, high ? high_first : low_first, 4);
        const map_call read = {
            .extent = {5      },
              .operand = { dense(back, F32, 1, 0, 0), packed}
        };
        k->map(k, &program, &read);
        const float want[] = {1, 2, 15, 0, 7};
        cr_assert_arr_eq(back, want, sizeof back);
    }
    k->close(k);
}

Test(ref_map, eight_bit_blocks_keep_absmax_sign_and_two_percent) {
    enum { N = 600 };
    kernels *k = open_device("ref", NULL);
    float x[N], back[N], scale[3];
    uint8_t q[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)philox_normal(1, 2, (uint64_t)i) * (i % 7 ? 1 : 1e-9f);
    memset(x + 256, 0, 256 * sizeof *x);
    const map_instruction code[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {.indices = 1, .kept = 1, .operands = 2, .length = 1, .code = code};
    const map_operand blocks = {.data = q, .scale = scale, .type = U8, .store = STORE_BLOCKS8, .stride = {1}};
    const map_call write = {
        .extent = {N  },
          .operand = { blocks, dense(x, F32, 1, 0, 0)}
    };
    const map_call read = {
        .extent = {N      },
          .operand = { dense(back, F32, 1, 0, 0), blocks}
    };
    k->map(k, &program, &write);
    k->map(k, &program, &read);
    for (int b = 0; b < 3; b++) {
        float absmax = 0;
        for (int i = b * 256; i < N && i < (b + 1) * 256; i++)
            absmax = fabsf(x[i]) > absmax ? fabsf(x[i]) : absmax;
        cr_assert_eq(scale[b], absmax);
    }
    for (int i = 0; i < N; i++) {
        cr_assert_leq(fabsf(back[i] - x[i]), 0.02f * scale[i / 256]);
        if (x[i] < 0) cr_assert(back[i] < 0, "a negative state never comes back as 0 or positive");
        if (x[i] == 0) cr_assert_eq(back[i], 0);
    }
    k->close(k);
}

Test(ref_map, draws_are_functions_of_the_flat_index) {
    enum { I = 3, J = 4 };
    kernels *k = open_device("ref64", NULL);
    double y[I * J];
    const double numbers[] = {-2, 6};
    const map_instruction uniform[] =
        {
            {MAP_NUMBER,  0},
            {MAP_NUMBER,  1},
            {MAP_UNIFORM, 0}
    },
                          normal[] = {{MAP_NORMAL, 0}};
    map_program program = {.indices = 2, .kept = 2, .operands = 1, .numbers = 2, .length = 3, .code = uniform};
    /* the target lies transposed: its flat index is that of its indices, not of its place */
    const map_call c = {
        .extent = {I,  J },
          .operand = { dense(y, F64, 1, I, 0)},
          .numbers = numbers, .seed = 3, .stream = 4
    };
    k->map(k, &program, &c);
    for (int i = 0; i < I * J; i++)
        cr_assert_eq(y[i % J * I + i / J], -2 + 8 * philox_uniform(3, 4, (uint64_t)i));
    program.code = normal, program.length = 1;
    k->map(k, &program, &c);
    for (int i = 0; i < I * J; i++)
        cr_assert_eq(y[i % J * I + i / J], philox_normal(3, 4, (uint64_t)i));
    k->close(k);
}

/* The C++ standard names draw 10000 of the default seed: 4123659995. */
Test(ref_map, the_twister_is_mt19937) {
    kernels *k = open_device("ref", NULL);
    float y[3];
    const double numbers[] = {5489, 9998};
    const map_instruction code[] = {
        {MAP_NUMBER,  0},
        {MAP_NUMBER,  1},
        {MAP_MT19937, 0}
    };
    const map_program program = {.indices = 1, .kept = 1, .operands = 1, .numbers = 2, .length = 3, .code = code};
    const map_call c = {.extent = {3}, .operand = {dense(y, F32, 1, 0, 0)}, .numbers = numbers};
    k->map(k, &program, &c);
    cr_assert_eq(y[1], (float)(4123659995u & 0xffffff) * 0x1p-24f);
    mt19937 g;
    mt19937_seed(&g, 5489);
    cr_assert_eq(mt19937_draw(&g), 3499211612u);
    cr_assert_eq(mt19937_draw(&g), 581869302u);
    k->close(k);
}

Test(ref_map, integer_targets_round_to_even_and_stay_inside) {
    kernels *k = open_device("ref", NULL);
    float x[6] = {2.5f, -2.5f, 300, -300, NAN, 126.6f};
    int8_t y[6];
    const map_instruction code[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {.indices = 1, .kept = 1, .operands = 2, .length = 1, .code = code};
    const map_call c = {
        .extent = {6  },
          .operand = { dense(y, I8, 1, 0, 0), dense(x, F32, 1, 0, 0)}
    };
    k->map(k, &program, &c);
    const int8_t want[] = {2, -2, 127, -128, 0, 127};
    cr_assert_arr_eq(y, want, sizeof y);
    k->close(k);
}
