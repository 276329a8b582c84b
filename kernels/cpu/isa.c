/* isa — see isa.h. */
#include "kernels/cpu/isa.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>

/* Bits of CPUID, and what the system saves of registers (XCR0). */
typedef struct {
    uint32_t leaf1_c, leaf7_b, leaf7_d, leaf7_1_a;
    uint64_t saved;
} features;

static features features_here(void) {
    features f = {0};
    uint32_t a, b, c, d, low, high;
    if (__get_cpuid(1, &a, &b, &c, &d)) f.leaf1_c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) f.leaf7_b = b, f.leaf7_d = d;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.leaf7_1_a = a;
    if (f.leaf1_c & bit_OSXSAVE) {
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        f.saved = (uint64_t)high << 32 | low;
    }
    return f;
}

static int all_of(uint64_t bits, uint64_t wanted) {
    return (bits & wanted) == wanted;
}

static int has_avx2(const features *f) {
    return all_of(f->saved, 0x6) && all_of(f->leaf1_c, bit_FMA | bit_F16C | bit_AVX) && all_of(f->leaf7_b, bit_AVX2);
}

static int has_avx512(const features *f) {
    return has_avx2(f) && all_of(f->saved, 0xe0) &&
           all_of(f->leaf7_b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | (uint32_t)bit_AVX512VL);
}

static int has_avx512_bf16(const features *f) {
    return has_avx512(f) && all_of(f->leaf7_1_a, 1u << 5);
}

/* The system gives a process its tile registers when it asks for them. */
static int has_amx(const features *f) {
    enum { ASK = 0x1023 /* ARCH_REQ_XCOMP_PERM */, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    return has_avx512_bf16(f) && all_of(f->saved, 0x60000) && all_of(f->leaf7_d, AMX_BF16 | AMX_TILE) &&
           syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}

static const struct {
    isa set;
    int (*here)(const features *f);
} sets[] = {
  /* the best first */
    {{"amx", &vector_functions_avx512bf16, &multiply_functions_amx}, has_amx        },
    {{"avx512-bf16", &vector_functions_avx512bf16, NULL},            has_avx512_bf16},
    {{"avx512", &vector_functions_avx512, NULL},                     has_avx512     },
    {{"avx2", &vector_functions_avx2, NULL},                         has_avx2       },
};
enum { COUNT = sizeof sets / sizeof *sets };

int isa_choose(isa *out, graft_error *err) {
    const char *const wanted = getenv("GRAFT_CPU");
    strbuf have = {0};
    const features f = features_here();
    *out = (isa){"", NULL, NULL};
    for (int i = COUNT - 1; i >= 0; i--) {
        if (!sets[i].here(&f)) continue;
        strbuf_printf(&have, "%s%s", have.text ? ", " : "", sets[i].set.name);
        if (!wanted || !*wanted || !strcmp(wanted, sets[i].set.name)) *out = sets[i].set;
    }
    if (wanted && *wanted && !out->functions) {
        int known = 0;
        for (int i = 0; i < COUNT; i++)
            known |= !strcmp(wanted, sets[i].set.name);
        fail(err, GRAFT_USAGE, "GRAFT_CPU=%s: %s; this machine has: %s", wanted,
             known ? "this machine lacks these instructions" : "no such instruction set is known",
             have.text ? have.text : "none of avx2, avx512, avx512-bf16, amx");
        strbuf_free(&have);
        return GRAFT_USAGE;
    }
    strbuf_free(&have);
    return GRAFT_OK;
}
#else
int isa_choose(isa *out, graft_error *err) {
    const char *const wanted = getenv("GRAFT_CPU");
    *out = (isa){"", NULL, NULL};
    if (wanted && *wanted)
        return fail(err, GRAFT_USAGE, "GRAFT_CPU=%s: this machine has no instruction set that graft knows by name",
                    wanted);
    return GRAFT_OK;
}
#endif
