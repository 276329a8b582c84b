/* map — the stack program of one statement on blocks of MAP_BLOCK elements. Equals kernels/ref/map.h: the same f32 operations
 * in the same order, so + - * / sqrt and comparisons to the last bit; exp and its kin to the few ulp of vector-math.h; sums
 * in double in another order. */
#include "kernels/bits.h"
#include "kernels/blocks8.h"
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"
#include <assert.h>
#include <math.h>

/* base/philox.h includes libm's names only */
#include "base/philox.h"

typedef struct {
    const map_plan *m;
    int64_t index[MAP_INDICES]; /* of the block's first element */
    int64_t flat;               /* of the target's element there */
    int64_t flat_step;          /* 1 along a kept index, 0 along a reduced one */
    float stack[MAP_STACK][MAP_BLOCK];
} run;

/* ---- operands ---- */

static int64_t operand_place(const run *r, const map_operand *o) {
    int64_t at = o->offset;
    for (int d = 0; d < r->m->program.indices; d++)
        at += r->index[d] * o->stride[d];
    return at;
}

static float element_8(const run *r, const map_operand *o, int64_t at) {
    return r->m->values8[o->store == STORE_BLOCKS8_UNSIGNED][((const uint8_t *)o->data)[at]] *
           ((const float *)o->scale)[at / BLOCKS8_BLOCK];
}

/* Bits of an element of a packed store; 0: it is none. */
static int store_bits(store_kind store) {
    return store == STORE_U2 ? 2 : store == STORE_U3 ? 3 : store == STORE_U4 || store == STORE_U4_HIGH ? 4 : 0;
}

/* With the high half first, two neighbours change places. */
static int64_t bits_place(store_kind store, int64_t at) {
    return store == STORE_U4_HIGH ? at ^ 1 : at;
}

static float element_plain(const map_operand *o, int64_t at) {
    float v;
    switch (o->type) {
    case F32:
        return ((const float *)o->data)[at];
    case BF16:
        return bf16_to_f32(((const uint16_t *)o->data)[at]);
    case F16:
        return f16_to_f32(((const uint16_t *)o->data)[at]);
    default:
        dtype_convert(&v, F32, (const char *)o->data + at * dtype_bytes(o->type), o->type, 1);
        return v;
    }
}

static float element(const run *r, const map_operand *o, int64_t at) {
    if (o->store == STORE_PLAIN) return element_plain(o, at);
    const int bits = store_bits(o->store);
    return bits ? (float)bits_get(o->data, bits_place(o->store, at), bits) : element_8(r, o, at);
}

INLINE void load_block(const map_operand *o, dtype type, int64_t at, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i += LANES)
        store_floats(to + i, load_n(o->data, type, at + i, n - i));
}

static void fill(float *to, float v, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_floats(to + i, all(v));
}

static void load_operand(const run *r, const map_operand *o, int64_t n, float *to) {
    const int64_t at = operand_place(r, o), stride = o->stride[r->m->inner];
    if (stride == 0)
        fill(to, element(r, o, at), n);
    else if (stride == 1 && o->store == STORE_PLAIN && o->type == F32)
        load_block(o, F32, at, n, to);
    else if (stride == 1 && o->store == STORE_PLAIN && o->type == BF16)
        load_block(o, BF16, at, n, to);
    else if (stride == 1 && o->store == STORE_PLAIN && o->type == F16)
        load_block(o, F16, at, n, to);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = element(r, o, at + i * stride);
}

/* k holds indices and becomes the values there. */
static void gather_operand(const run *r, const map_operand *o, int64_t n, float *k) {
    const int64_t at = operand_place(r, o), stride = o->stride[r->m->inner];
    for (int64_t i = 0; i < n; i++)
        k[i] = k[i] >= 0 && k[i] < (float)o->gather_extent ? element(r, o, at + i * stride + (int64_t)k[i] * o->gather)
                                                           : 0;
}

/* ---- instructions ---- */

#define EACH(expression)                                                                                               \
    for (int64_t i = 0; i < n; i += LANES) {                                                                           \
        const floats x = load_floats(a + i);                                                                           \
        store_floats(a + i, expression);                                                                               \
    }                                                                                                                  \
    return

INLINE floats truth(ints yes) {
    return select_floats(yes, all(1), all(0));
}

static void unary(int op, float *a, int64_t n) {
    switch (op) {
    case MAP_NEG:
        EACH(-x);
    case MAP_NOT:
        EACH(truth(x == 0));
    case MAP_SQRT:
        EACH(root(x));
    case MAP_EXP:
        EACH(vector_exp(x));
    case MAP_LOG:
        EACH(vector_log(x));
    case MAP_ABS:
        EACH(magnitude(x));
    case MAP_SIGN:
        EACH(truth(x > 0) - truth(x < 0));
    case MAP_TANH:
        EACH(vector_tanh(x));
    case MAP_SIGMOID:
        EACH(vector_sigmoid(x));
    case MAP_ERF:
        EACH(vector_erf(x));
    case MAP_ROUND:
        EACH(nearest_whole(x));
    case MAP_FLOOR:
        for (int64_t i = 0; i < n; i++)
            a[i] = floorf(a[i]);
        return;
    default: /* MAP_COS */
        for (int64_t i = 0; i < n; i++)
            a[i] = cosf(a[i]);
    }
}

#define EACH_PAIR(expression)                                                                                          \
    for (int64_t i = 0; i < n; i += LANES) {                                                                           \
        const floats x = load_floats(a + i), y = load_floats(b + i);                                                   \
        store_floats(a + i, expression);                                                                               \
    }                                                                                                                  \
    return

static void binary(int op, float *a, const float *b, int64_t n) {
    switch (op) {
    case MAP_ADD:
        EACH_PAIR(x + y);
    case MAP_SUB:
        EACH_PAIR(x - y);
    case MAP_MUL:
        EACH_PAIR(x * y);
    case MAP_DIV:
        EACH_PAIR(x / y);
    case MAP_LT:
        EACH_PAIR(truth(x < y));
    case MAP_LE:
        EACH_PAIR(truth(x <= y));
    case MAP_GT:
        EACH_PAIR(truth(x > y));
    case MAP_GE:
        EACH_PAIR(truth(x >= y));
    case MAP_EQ:
        EACH_PAIR(truth(x == y));
    case MAP_NE:
        EACH_PAIR(truth(x != y));
    case MAP_AND:
        EACH_PAIR(truth((x != 0) & (y != 0)));
    case MAP_OR:
        EACH_PAIR(truth((x != 0) | (y != 0)));
    case MAP_MAX:
        EACH_PAIR(largest(x, y));
    case MAP_MIN:
        EACH_PAIR(smallest(x, y));
    default: /* MAP_POW */
        for (int64_t i = 0; i < n; i++)
            a[i] = powf(a[i], b[i]);
    }
}

static void ternary(float *a, const float *yes, const float *no, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES)
        store_floats(a + i, select_floats(load_floats(a + i) != 0, load_floats(yes + i), load_floats(no + i)));
}

static void uniform(const run *r, float *low, const float *high, int64_t n) {
    const map_call *c = &r->m->call;
    for (int64_t i = 0; i < n; i++) {
        const double u = philox_uniform(c->seed, c->stream, (uint64_t)(r->flat + i * r->flat_step));
        low[i] = (float)((double)low[i] + ((double)high[i] - (double)low[i]) * u);
    }
}

static void normal(const run *r, float *to, int64_t n) {
    const map_call *c = &r->m->call;
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)philox_normal(c->seed, c->stream, (uint64_t)(r->flat + i * r->flat_step));
}

static void index_values(const run *r, int32_t index, int64_t n, float *to) {
    const int32_t d = r->m->index_of[index];
    const int64_t step = d == r->m->inner;
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(r->index[d] + i * step);
}

/* Leaves n values in stack[0]; what lies behind them up to a whole vector is arbitrary. */
static void run_block(run *r, int64_t n) {
    const map_program *p = &r->m->program;
    const map_call *c = &r->m->call;
    int top = -1;
    for (int32_t pc = 0; pc < p->length; pc++) {
        const int op = p->code[pc].op, arg = p->code[pc].arg;
        switch (op) {
        case MAP_LOAD:
            load_operand(r, &c->operand[arg], n, r->stack[++top]);
            break;
        case MAP_GATHER:
            gather_operand(r, &c->operand[arg], n, r->stack[top]);
            break;
        case MAP_NUMBER:
            fill(r->stack[++top], (float)c->numbers[arg], n);
            break;
        case MAP_INDEX:
            index_values(r, arg, n, r->stack[++top]);
            break;
        case MAP_NORMAL:
            normal(r, r->stack[++top], n);
            break;
        case MAP_UNIFORM:
            top--;
            uniform(r, r->stack[top], r->stack[top + 1], n);
            break;
        case MAP_SELECT:
            top -= 2;
            ternary(r->stack[top], r->stack[top + 1], r->stack[top + 2], n);
            break;
        case MAP_NEG:
        case MAP_NOT:
        case MAP_SQRT:
        case MAP_EXP:
        case MAP_LOG:
        case MAP_ABS:
        case MAP_SIGN:
        case MAP_TANH:
        case MAP_SIGMOID:
        case MAP_ERF:
        case MAP_COS:
        case MAP_FLOOR:
        case MAP_ROUND:
            unary(op, r->stack[top], n);
            break;
        default:
            top--;
            binary(op, r->stack[top], r->stack[top + 1], n);
        }
        assert(top >= 0 && top < MAP_STACK - 1 + (pc + 1 == p->length));
    }
    assert(top == 0);
}

/* ---- the target ---- */

INLINE floats combined(map_store how, floats old, floats v) {
    return how == MAP_PLUS    ? old + v
           : how == MAP_MINUS ? old - v
           : how == MAP_TIMES ? old * v
           : how == MAP_OVER  ? old / v
                              : largest(v, old);
}

INLINE void store_block(const map_operand *o, dtype type, int64_t at, int64_t n, const float *v) {
    for (int64_t i = 0; i < n; i += LANES)
        store_n(o->data, type, at + i, n - i, load_floats(v + i));
}

/* Whole numbers, ties to even, inside the type; NaN is 0. */
static void store_whole(const map_operand *o, int64_t at, int64_t stride, int64_t n, float *v) {
    const int bits = store_bits(o->store), is_signed = !bits && o->type == I8;
    const floats low = all(is_signed ? -128 : 0), high = all(is_signed ? 127 : bits ? (float)((1 << bits) - 1) : 255);
    for (int64_t i = 0; i < n; i += LANES) {
        const floats x = load_floats(v + i);
        store_floats(v + i, select_floats(x != x, all(0), largest(low, smallest(high, nearest_whole(x)))));
    }
    for (int64_t i = 0; i < n; i++, at += stride)
        if (bits)
            bits_put(o->data, bits_place(o->store, at), bits, (unsigned)v[i]);
        else if (is_signed)
            ((int8_t *)o->data)[at] = (int8_t)v[i];
        else
            ((uint8_t *)o->data)[at] = (uint8_t)v[i];
}

/* Combines n values with what the target holds and stores them. */
static void store_values(run *r, float *v, int64_t n) {
    const map_program *p = &r->m->program;
    const map_operand *o = &r->m->call.operand[0];
    const int64_t at = operand_place(r, o), stride = n > 1 ? o->stride[r->m->inner] : 1;
    if (p->store != MAP_SET) {
        float *const old = r->stack[1];
        load_operand(r, o, n, old);
        for (int64_t i = 0; i < n; i += LANES)
            store_floats(v + i, combined(p->store, load_floats(old + i), load_floats(v + i)));
    }
    if (store_bits(o->store) || (o->store == STORE_PLAIN && dtype_bytes(o->type) == 1))
        store_whole(o, at, stride, n, v);
    else if (o->store != STORE_PLAIN)
        for (int64_t i = 0; i < n; i += BLOCKS8_BLOCK)
            blocks8_quantize(r->m->values8[o->store == STORE_BLOCKS8_UNSIGNED], o->store == STORE_BLOCKS8, v + i,
                             n - i < BLOCKS8_BLOCK ? n - i : BLOCKS8_BLOCK, (uint8_t *)o->data + at + i,
                             (float *)o->scale + (at + i) / BLOCKS8_BLOCK);
    else if (stride == 1 && o->type == F32)
        store_block(o, F32, at, n, v);
    else if (stride == 1 && o->type == BF16)
        store_block(o, BF16, at, n, v);
    else if (stride == 1 && o->type == F16)
        store_block(o, F16, at, n, v);
    else
        for (int64_t i = 0; i < n; i++)
            store_part(o->data, o->type, at + i * stride, 1, all(v[i]));
}

/* Steps the indices first..end-1 but for `except`, the last one fastest; 0 when they are through (and all 0 again). */
static int advance(run *r, int first, int end, int except) {
    for (int d = end - 1; d >= first; d--) {
        if (d == except) continue;
        if (++r->index[d] < r->m->call.extent[d]) return 1;
        r->index[d] = 0;
    }
    return 0;
}

static int reduces_nothing(const map_plan *m) {
    for (int d = m->program.kept; d < m->program.indices; d++)
        if (m->call.extent[d] == 0) return 1;
    return 0;
}

/* n target elements along the inner kept index, all reduced indices inside. */
static void kept_block(run *r, int64_t n) {
    const map_program *p = &r->m->program;
    float *const v = r->stack[0];
    if (p->kept == p->indices) {
        run_block(r, n);
        store_values(r, v, n);
        return;
    }
    double sum[MAP_BLOCK];
    float most[MAP_BLOCK];
    for (int64_t i = 0; i < n; i++)
        sum[i] = 0, most[i] = -INFINITY;
    if (!reduces_nothing(r->m)) do {
            run_block(r, n);
            for (int64_t i = 0; i < n; i++) {
                sum[i] += (double)v[i];
                most[i] = v[i] > most[i] ? v[i] : most[i];
            }
        } while (advance(r, p->kept, p->indices, -1));
    for (int64_t i = 0; i < n; i++)
        v[i] = p->reduce_max ? most[i] : (float)sum[i];
    store_values(r, v, n);
}

/* One target element, blocks along the inner reduced index. */
static void reduced_element(run *r) {
    enum { SUMS = 16 };
    const map_program *p = &r->m->program;
    const int inner = r->m->inner;
    double sum[SUMS] = {0}, total = 0;
    float *const v = r->stack[0], most = -INFINITY;
    if (!reduces_nothing(r->m)) do
            for (int64_t i0 = 0; i0 < r->m->call.extent[inner]; i0 += MAP_BLOCK) {
                const int64_t left = r->m->call.extent[inner] - i0, n = left < MAP_BLOCK ? left : MAP_BLOCK;
                r->index[inner] = i0;
                run_block(r, n);
                for (int64_t i = 0; i < n; i++)
                    sum[i % SUMS] += (double)v[i];
                for (int64_t i = 0; p->reduce_max && i < n; i++)
                    most = v[i] > most ? v[i] : most;
            }
        while (advance(r, p->kept, p->indices, inner));
    r->index[inner] = 0;
    for (int i = 0; i < SUMS; i++)
        total += sum[i];
    v[0] = p->reduce_max ? most : (float)total;
    store_values(r, v, 1);
}

void NAME(map)(const map_plan *m, int64_t first, int64_t count) {
    run r;
    r.m = m;
    memset(r.index, 0, sizeof r.index);
    const int along_kept = m->inner < m->program.kept;
    int64_t rest = first;
    for (int d = m->program.kept - 1; d >= 0; d--) {
        r.index[d] = rest % m->call.extent[d];
        rest /= m->call.extent[d];
    }
    r.flat_step = along_kept;
    for (r.flat = first; r.flat < first + count;) {
        int64_t n = 1;
        if (along_kept) {
            n = m->call.extent[m->inner] - r.index[m->inner];
            if (n > MAP_BLOCK) n = MAP_BLOCK;
            if (n > first + count - r.flat) n = first + count - r.flat;
            kept_block(&r, n);
            r.index[m->inner] += n - 1;
        } else
            reduced_element(&r);
        r.flat += n;
        advance(&r, 0, m->program.kept, -1);
    }
}
