/* The fast table beside the reference, at every instruction set this machine has: the shared suite of all functions. */
#include "cpu-sets.h"
#include "table-suite.h"

/* f32: sums of a few hundred products in another order and rounding, exp and its kin to 2 ulp.
 * bf16: what is rounded to bf16 from two f32 values a little apart may be one unit (2^-7) apart. */
static void every_function(const char *set) {
    static const struct {
        int act;
        double bound;
    } types[] = {
        {OWN,  2e-6     },
        {BF16, 0x1.1p-7 },
        {F16,  0x1.1p-10},
    };
    setenv("GRAFT_CPU", set, 1);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < suite_part_count; i++) {
            pair p;
            pair_open(&p, "cpu", types[t].act == OWN ? "ref64" : "ref");
            cr_assert_str_eq(p.k[0]->isa, set);
            suite_parts[i].run(&p, types[t].act, types[t].bound);
            pair_close(&p);
        }
}

FOR_SETS(cpu_tables, every_function_equals_the_reference, every_function)
