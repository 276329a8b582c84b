/* isa — see isa.h. */
#include "kernels/cpu/isa.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int has_avx512_bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static const struct {
    isa set;
    int (*here)(void);
} sets[] = {
  /* the best first */
    {{"avx512-bf16", &vector_functions_avx512bf16}, has_avx512_bf16},
    {{"avx512", &vector_functions_avx512},          has_avx512     },
    {{"avx2", &vector_functions_avx2},              has_avx2       },
};
enum { COUNT = sizeof sets / sizeof *sets };

int isa_choose(isa *out, graft_error *err) {
    const char *const wanted = getenv("GRAFT_CPU");
    strbuf have = {0};
    __builtin_cpu_init();
    *out = (isa){"", NULL};
    for (int i = COUNT - 1; i >= 0; i--) {
        if (!sets[i].here()) continue;
        strbuf_printf(&have, "%s%s", have.text ? ", " : "", sets[i].set.name);
        if (!wanted || !*wanted || !strcmp(wanted, sets[i].set.name)) *out = sets[i].set;
    }
    if (wanted && *wanted && !out->functions) {
        int known = 0;
        for (int i = 0; i < COUNT; i++)
            known |= !strcmp(wanted, sets[i].set.name);
        fail(err, GRAFT_USAGE, "GRAFT_CPU=%s: %s; this machine has: %s", wanted,
             known ? "this machine lacks these instructions" : "no such instruction set is known",
             have.text ? have.text : "none of avx2, avx512, avx512-bf16");
        strbuf_free(&have);
        return GRAFT_USAGE;
    }
    strbuf_free(&have);
    return GRAFT_OK;
}
#else
int isa_choose(isa *out, graft_error *err) {
    const char *const wanted = getenv("GRAFT_CPU");
    *out = (isa){"", NULL};
    if (wanted && *wanted)
        return fail(err, GRAFT_USAGE, "GRAFT_CPU=%s: this machine has no instruction set that graft knows by name",
                    wanted);
    return GRAFT_OK;
}
#endif
