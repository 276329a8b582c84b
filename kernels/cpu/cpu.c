/* cpu — the table of the fast CPU kernels: the reference, and a fast twin in place of whatever has one. On a machine without
 * AVX2 it is the reference alone. */
#include "kernels/cpu/cpu.h"
#include "base/memory.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/product.h"
#include "kernels/tables.h"
#include <stdlib.h>

enum { SCRATCH_ALIGN = 1 << 16 };

static void cpu_close(kernels *k) {
    cpu *const c = k->state;
    pages_unmap(c->shared, c->shared_bytes);
    pages_unmap(c->scratch, c->scratch_bytes * team_threads(c->threads));
    c->ref->close(c->ref);
    free(c);
    free(k);
}

static void cpu_map(kernels *k, const map_program *p, const map_call *c) {
    cpu *const s = k->state;
    s->ref->map(s->ref, p, c);
}

static void fill_table(kernels *k) {
    k->gemm = cpu_gemm;
    k->weight_forward = cpu_weight_forward;
    k->weight_input_grad = cpu_weight_input_grad;
    k->add = cpu_add;
    k->scale = cpu_scale;
    k->softcap = cpu_softcap;
    k->convert = cpu_convert;
    k->zero = cpu_zero;
    k->copy = cpu_copy;
    k->sqnorm = cpu_sqnorm;
    k->column_sum = cpu_column_sum;
    k->norm_forward = cpu_norm_forward;
    k->norm_backward = cpu_norm_backward;
    k->rope = cpu_rope;
    k->gate_forward = cpu_gate_forward;
    k->gate_backward = cpu_gate_backward;
    k->logprob = cpu_logprob;
    k->logprob_grad = cpu_logprob_grad;
    k->pick_rows = cpu_pick_rows;
    k->place_rows = cpu_place_rows;
    k->scatter_rows = cpu_scatter_rows;
    k->dropout = cpu_dropout;
}

int cpu_open(team *threads, kernels **out, graft_error *err) {
    isa set;
    kernels *ref;
    if (isa_choose(&set, err) || ref_open(threads, &ref, err)) return err->code;
    cpu *const c = mem_new(1, sizeof *c);
    *c = (cpu){.ref = ref, .f = set.functions, .threads = threads};
    kernels *const k = mem_new(1, sizeof *k);
    *k = *ref;
    k->name = "cpu", k->isa = set.name, k->state = c;
    k->alloc = cpu_alloc, k->release = cpu_release, k->close = cpu_close;
    k->map = cpu_map;
    if (c->f) {
        k->multiplies_bf16 = c->f->multiply.bf16;
        const int64_t bytes = product_scratch_bytes(&c->f->multiply);
        c->scratch_bytes = (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
        c->scratch = pages_map(c->scratch_bytes * team_threads(threads));
        if (!c->scratch) {
            cpu_close(k);
            return fail(err, GRAFT_FAILED, "no memory for the scratch of the CPU kernels (%lld bytes a thread)",
                        (long long)c->scratch_bytes);
        }
        fill_table(k);
    }
    *out = k;
    return GRAFT_OK;
}
