/* cpu — the table of the fast CPU kernels: the reference, and a fast twin in place of whatever has one. On a machine without
 * AVX2 it is the reference alone. */
#include "kernels/cpu/cpu.h"
#include "base/memory.h"
#include "kernels/blocks8.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/product.h"
#include "kernels/tables.h"
#include <stdlib.h>

static void cpu_close(kernels *k) {
    cpu *const c = k->state;
    pages_unmap(c->shared, c->shared_bytes);
    pages_unmap(c->scratch, c->scratch_bytes * team_threads(c->threads));
    c->ref->close(c->ref);
    free(c);
    free(k);
}

/* The reference's map keeps its tables in its own state. */
static void reference_map(kernels *k, const map_program *p, const map_call *call) {
    cpu *const c = k->state;
    c->ref->map(c->ref, p, call);
}

static void fill_table(kernels *k) {
    k->map = cpu_map;
    k->attention_forward = cpu_attention_forward;
    k->attention_backward = cpu_attention_backward;
    k->gemm = cpu_gemm;
    k->weight_forward = cpu_weight_forward;
    k->weight_input_grad = cpu_weight_input_grad;
    k->weight_row_sqnorm = cpu_weight_row_sqnorm;
    k->weight_read = cpu_weight_read;
    k->weight_gather = cpu_weight_gather;
    k->weight_quantize = cpu_weight_quantize;
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

int cpu_open_set(const isa *set, team *threads, kernels **out, graft_error *err) {
    kernels *ref;
    if (ref_open(threads, &ref, err)) return err->code;
    cpu *const c = mem_new(1, sizeof *c);
    kernels *const k = mem_new(1, sizeof *k);
    c->ref = ref, c->threads = threads;
    blocks8_map(0, c->values8[0]);
    blocks8_map(1, c->values8[1]);
    *k = *ref;
    k->name = "cpu", k->isa = set->name, k->state = c;
    k->alloc = cpu_alloc, k->release = cpu_release, k->close = cpu_close;
    k->map = reference_map;
    if (set->functions) {
        c->own = *set->functions, c->f = &c->own;
        if (set->multiply) c->own.multiply = *set->multiply;
        k->multiplies_bf16 = c->own.multiply.bf16;
        cpu_reserve_scratch(c, product_scratch_bytes(&c->own.multiply));
        fill_table(k);
    }
    *out = k;
    return GRAFT_OK;
}

int cpu_open(team *threads, kernels **out, graft_error *err) {
    isa set;
    return isa_choose(&set, err) ? err->code : cpu_open_set(&set, threads, out, err);
}
