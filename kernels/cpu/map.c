/* map — statements on the team: merges indices, chooses the one to vectorise, cuts the target into parts. What has no fast
 * way (Mersenne twister, odd targets) is left to the reference. */
#include "kernels/cpu/split.h"
#include "kernels/cpu/vector/map-plan.h"

/* Elements follow each other and the first begins a byte: parts of whole eights never share one. */
static int is_dense(const map_plan *m) {
    const map_operand *o = &m->call.operand[0];
    int64_t stride = 1;
    for (int d = m->program.kept - 1; d >= 0; d--) {
        if (m->call.extent[d] != 1 && o->stride[d] != stride) return 0;
        stride *= m->call.extent[d];
    }
    return o->offset % 8 == 0;
}

static int fast_target(const map_plan *m) {
    const map_operand *o = &m->call.operand[0];
    if (o->store == STORE_BLOCKS8 || o->store == STORE_BLOCKS8_UNSIGNED) /* whole, dense, written by the block */
        return m->program.indices == 1 && m->program.kept == 1 && o->stride[0] == 1 && o->offset == 0;
    if (o->store != STORE_PLAIN) return is_dense(m);
    return o->type == F32 || o->type == BF16 || o->type == F16 || o->type == I8 || o->type == U8;
}

static int fast_program(const map_program *p) {
    for (int32_t pc = 0; pc < p->length; pc++)
        if (p->code[pc].op == MAP_MT19937) return 0;
    return 1;
}

static int uses_index(const map_program *p, int index) {
    for (int32_t pc = 0; pc < p->length; pc++)
        if (p->code[pc].op == MAP_INDEX && p->code[pc].arg == index) return 1;
    return 0;
}

/* Do indices d and d + 1 run on into each other in every operand? The strides of d + 1 are then those of both. */
static int merges(map_plan *m, int d) {
    if (m->call.extent[d] == 1) return 1;
    for (int32_t o = 0; o < m->program.operands && m->call.extent[d + 1] == 1; o++)
        m->call.operand[o].stride[d + 1] = m->call.operand[o].stride[d];
    if (m->call.extent[d + 1] == 1) return 1;
    for (int32_t o = 0; o < m->program.operands; o++) {
        const int64_t *stride = m->call.operand[o].stride;
        if (stride[d] != stride[d + 1] * m->call.extent[d + 1]) return 0;
    }
    return 1;
}

/* Index d goes: the following ones move down. */
static void remove_index(map_plan *m, int d) {
    for (int i = d; i + 1 < m->program.indices; i++) {
        m->call.extent[i] = m->call.extent[i + 1];
        for (int32_t o = 0; o < m->program.operands; o++)
            m->call.operand[o].stride[i] = m->call.operand[o].stride[i + 1];
    }
    for (int i = 0; i < MAP_INDICES; i++)
        if (m->index_of[i] > d) m->index_of[i]--;
    m->program.kept -= d < m->program.kept;
    m->program.indices--;
}

static map_plan plan_of(cpu *c, const map_program *p, const map_call *call) {
    map_plan m = {
        .program = *p, .call = *call, .values8 = {c->values8[0], c->values8[1]}
    };
    int used[MAP_INDICES];
    for (int d = 0; d < MAP_INDICES; d++) {
        m.index_of[d] = d;
        used[d] = d < p->indices && uses_index(p, d);
    }
    for (int d = p->indices - 2; d >= 0; d--) { /* merging d and d + 1 leaves their place at d */
        const int borders = d + 1 == m.program.kept, old = d + 1;
        if (borders || used[d] || used[old] || !merges(&m, d)) continue;
        m.call.extent[d + 1] *= m.call.extent[d];
        remove_index(&m, d);
    }
    if (m.program.indices == 0) { /* one element: an index of extent 1 */
        m.program.indices = m.program.kept = 1;
        m.call.extent[0] = 1;
        for (int32_t o = 0; o < p->operands; o++)
            m.call.operand[o].stride[0] = 0;
    }
    return m;
}

/* Operands, but for the target, whose elements lie side by side along index d. */
static int side_by_side(const map_plan *m, int d) {
    int count = 0;
    for (int32_t o = 1; o < m->program.operands; o++)
        count += m->call.operand[o].stride[d] == 1;
    return count;
}

static int inner_of(const map_plan *m) {
    const int kept = m->program.kept - 1, last = m->program.indices - 1;
    if (last == kept || kept < 0) return last;
    if (m->call.extent[kept] < 8) return last;
    return m->call.extent[last] >= 8 && side_by_side(m, last) >= side_by_side(m, kept) ? last : kept;
}

static void map_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    c->f->map(call, first, count);
}

void cpu_map(kernels *k, const map_program *p, const map_call *call) {
    cpu *const c = k->state;
    map_plan m = plan_of(c, p, call);
    if (!fast_program(p) || !fast_target(&m)) {
        c->ref->map(c->ref, p, call);
        return;
    }
    m.inner = inner_of(&m);
    int64_t elements = 1, terms = 1;
    for (int d = 0; d < m.program.indices; d++)
        *(d < m.program.kept ? &elements : &terms) *= m.call.extent[d];
    int64_t size = terms > 0 && terms < SPLIT_ELEMENTS ? SPLIT_ELEMENTS / terms : 1;
    if (size >= MAP_BLOCK)
        size -= size % MAP_BLOCK;
    else
        size = (size + 7) / 8 * 8; /* whole bytes of targets of few bits */
    split_run(c, elements, size, map_run, &m);
}
