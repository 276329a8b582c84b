/* Fast attention on documents of several tiles and blocks, against f64: groups of heads, windows, caches of keys, virtual
 * rows, head sizes with remainders. suite-layers.c holds the small hazards. */
#include "compare.h"
#include "cpu-sets.h"

typedef struct {
    int64_t heads, kv_heads, head_dim, window, virtual_rows;
    double softcap;
    int64_t past; /* keys of the first document that lie before its first query row */
} shape;

enum { ROWS = 430, FIRST = 401 }; /* query rows: two documents, one row of none between them */

/* The tested side goes on from what the reference got: the roundings of o must not count twice. */
static void give_reference(pair *p, const twin *t) {
    double *values = pair_get(p, t, 1);
    void *const raw = mem_new((size_t)t->n, 8);
    dtype_convert(raw, t->type[0], values, F64, t->n);
    p->k[0]->upload(p->k[0], t->dev[0], raw, t->n * dtype_bytes(t->type[0]));
    free(raw);
    free(values);
}

/* The root mean square of the error: single values may be what is left of large terms, their mean may not. */
static void expect_mean(const pair *p, const twin *t, double bound) {
    double *a = pair_get(p, t, 0), *b = pair_get(p, t, 1), error = 0, square = 0;
    for (int64_t i = 0; i < t->n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        square += b[i] * b[i];
    }
    cr_assert(sqrt(error) <= bound * sqrt(square), "mean error %g of %g", sqrt(error), sqrt(square));
    free(b);
    free(a);
}

static void attention_case(const shape *h, int act, double bound) {
    const int64_t q_width = h->heads * h->head_dim, k_width = h->kv_heads * h->head_dim, keys = ROWS + h->past;
    const attention_span spans[] = {
        {FIRST + 1, ROWS - FIRST - 1, h->past + FIRST + 1, ROWS - FIRST - 1},
        {0,         FIRST,            0,                   h->past + FIRST }
    };
    int32_t *q_pos = mem_new(ROWS, sizeof *q_pos), *k_pos = mem_new((size_t)keys, sizeof *k_pos);
    for (int64_t i = 0; i < keys; i++)
        k_pos[i] = (int32_t)(h->virtual_rows + (i > h->past + FIRST ? i - h->past - FIRST - 1 : i));
    for (int64_t i = 0; i < ROWS; i++)
        q_pos[i] = k_pos[i + h->past];
    pair p;
    pair_open(&p, "cpu", "ref64");
    const twin q_at = pair_bytes(&p, I32, q_pos, ROWS), k_at = pair_bytes(&p, I32, k_pos, keys);
    const twin q = pair_random(&p, act, ROWS * q_width, 1), k = pair_random(&p, act, keys * k_width, 1),
               v = pair_random(&p, act, keys * k_width, 1), d_o = pair_random(&p, act, ROWS * q_width, 1);
    const twin vk = pair_random(&p, act, h->virtual_rows * k_width, 1),
               vv = pair_random(&p, act, h->virtual_rows * k_width, 1);
    const twin o = pair_random(&p, act, ROWS * q_width, 1), lse = pair_random(&p, OWN, ROWS * h->heads, 1);
    const twin dq = pair_random(&p, act, ROWS * q_width, 1), dk = pair_zeros(&p, act, keys * k_width),
               dv = pair_zeros(&p, act, keys * k_width);
    const twin dvk = pair_random(&p, OWN, h->virtual_rows * k_width, 1),
               dvv = pair_random(&p, OWN, h->virtual_rows * k_width, 1);
    attention_call a[2];
    FOR_BOTH(&p, t, s) {
        a[s] = (attention_call){.type = q.type[s],
                                .q = q.dev[s],
                                .k = k.dev[s],
                                .v = v.dev[s],
                                .q_stride = q_width,
                                .k_stride = k_width,
                                .v_stride = k_width,
                                .o_stride = q_width,
                                .q_pos = q_at.dev[s],
                                .k_pos = k_at.dev[s],
                                .spans = spans,
                                .span_count = 2,
                                .rows = ROWS,
                                .heads = h->heads,
                                .kv_heads = h->kv_heads,
                                .head_dim = h->head_dim,
                                .scale = 1 / sqrt((double)h->head_dim),
                                .softcap = h->softcap,
                                .window = h->window,
                                .virtual_k = vk.dev[s],
                                .virtual_v = vv.dev[s],
                                .virtual_rows = h->virtual_rows,
                                .o = o.dev[s],
                                .lse = lse.dev[s],
                                .d_o = d_o.dev[s],
                                .dq = dq.dev[s],
                                .dk = dk.dev[s],
                                .dv = dv.dev[s],
                                .dvirtual_k = dvk.dev[s],
                                .dvirtual_v = dvv.dev[s]};
        t->attention_forward(t, &a[s]);
    }
    pair_expect(&p, &o, bound, "o");
    pair_expect(&p, &lse, act == BF16 ? 2e-5 : 2e-6, "lse");
    give_reference(&p, &o);
    give_reference(&p, &lse);
    FOR_BOTH(&p, t, s) t->attention_backward(t, &a[s]);
    const twin *const gradients[] = {&dq, &dk, &dv, &dvk, &dvv};
    for (int i = 0; i < 5; i++) {
        pair_expect(&p, gradients[i], 4 * bound, "a gradient");
        expect_mean(&p, gradients[i], bound / 4);
    }
    pair_close(&p);
    free(q_pos);
    free(k_pos);
}

/* f32: sums of some hundred products. bf16: P and dZ are rounded before they are multiplied and the result is once more. */
static void tiles(const char *set) {
    static const shape shapes[] = {
        {4, 1, 64,  0,   0,  0,  0 },
        {2, 2, 33,  130, 0,  0,  0 },
        {3, 3, 80,  0,   0,  30, 90},
        {8, 2, 20,  150, 37, 0,  0 },
        {2, 1, 128, 5,   2,  10, 3 }
    };
    setenv("GRAFT_CPU", set, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        attention_case(&shapes[i], OWN, 1e-5);
        attention_case(&shapes[i], BF16, 0x1p-6);
    }
}
FOR_SETS(cpu_attention, of_many_tiles_is_softmax_over_all_keys, tiles)
