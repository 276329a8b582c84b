/* The products of AMX on a machine without it: vector/amx.c compiled over plain C tiles (amx-emulated.h) and run through the
 * whole table: shapes with rests of rows, columns and k, transposed operands, low-rank terms, quantized weights, attention. */
#include "base/team.h"
#include "kernels/cpu/isa.h"
#include "kernels/layouts.h"
#include "table-suite.h"
#include <stdio.h>

extern const multiply_functions multiply_functions_amxemulated;

static kernels *open_emulated(team *threads) {
    graft_error err = {0};
    isa set;
    kernels *k = NULL;
    setenv("GRAFT_CPU", "avx512-bf16", 1);
    if (isa_choose(&set, &err)) {
        fprintf(stderr, "skipped: the emulation needs avx512-bf16, which is not there (%s)\n", err.text);
        cr_skip_test("no avx512-bf16");
    }
    set.name = "amx", set.multiply = &multiply_functions_amxemulated;
    cr_assert_eq(cpu_open_set(&set, threads, &k, &err), 0, "%s", err.text);
    layouts_install(k); /* as kernels_open does */
    return k;
}

Test(cpu_amx, every_function_equals_the_reference) {
    static const struct {
        int act;
        double bound;
    } types[] = {
        {OWN,  2e-6    },
        {BF16, 0x1.1p-7},
    };
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < suite_part_count; i++) {
            pair p = {
                .k = {open_emulated(NULL), open_device(types[t].act == OWN ? "ref64" : "ref", NULL)}
            };
            suite_parts[i].run(&p, types[t].act, types[t].bound);
            pair_close(&p);
        }
}

/* bf16 products past the sizes of the suite: several strips, panels, parts and passes. */
Test(cpu_amx, products_of_many_tiles_equal_the_reference) {
    static const int64_t shapes[][3] = {
        {70,  100, 96  },
        {33,  31,  1500},
        {129, 300, 65  },
        {16,  16,  32  },
        {32,  32,  31  },
        {5,   257, 640 }
    };
    team *const threads = team_create(2);
    pair p = {
        .k = {open_emulated(threads), open_device("ref64", NULL)}
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int turned = 0; turned < 4; turned++) {
            const int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
            const int a_turned = turned & 1, b_turned = turned / 2;
            const twin a = pair_random(&p, BF16, m * k, 1), b = pair_random(&p, BF16, k * n, 1),
                       c = pair_random(&p, OWN, m * n, 1);
            FOR_BOTH(&p, t, s) {
                const gemm_call g = {
                    .batch = 1,
                    .m = m,
                    .n = n,
                    .k = k,
                    .a = {a.dev[s], BF16, a_turned ? 1 : k, a_turned ? m : 1, 0, NULL},
                    .b = {b.dev[s], BF16, b_turned ? 1 : n, b_turned ? k : 1, 0, NULL},
                    .c = c.dev[s],
                    .c_type = c.type[s],
                    .c_row = n,
                    .c_col = 1,
                    .alpha = 1,
                    .accumulate = turned > 1
                };
                t->gemm(t, &g);
            }
            pair_expect(&p, &c, 2e-5, "c");
            pair_release(&p);
        }
    pair_close(&p);
    team_destroy(threads);
}
