/* attention — softmax attention inside documents, the obvious way: all scores of a row, then their softmax.
 *
 *   z = scale·q·k      t = softcap·tanh(z / softcap)  (no softcap: t = z)      p = exp(t - lse),  lse = log Σ exp t
 *   o = Σ_j p_j·v_j
 *   dv_j += p_j·do     dp_j = do·v_j     dt_j = p_j·(dp_j - do·o)     dz_j = dt_j·(1 - (t/softcap)²)
 *   dq   += scale·dz_j·k_j               dk_j += scale·dz_j·q
 * Query head h reads key head h / (heads / kv_heads); key gradients sum over the query heads of their group.
 * Keys of a span are numbered j: first the virtual rows, then the document's. */

static int64_t attention_keys(const attention_call *a, const attention_span *s) {
    return a->virtual_rows + s->k_count;
}

/* Does query row i (of the call) see key j? */
static int attention_sees(const attention_call *a, const attention_span *s, int64_t i, int64_t j) {
    const int64_t q = a->q_pos[i], k = j < a->virtual_rows ? j : a->k_pos[s->k0 + j - a->virtual_rows];
    return (j < a->virtual_rows || k <= q) && (a->window <= 0 || q - k < a->window);
}

/* Where feature 0 of key j lies in k (stride k_stride) or v (v_stride), or in the virtual rows. */
static int64_t attention_place(const attention_call *a, const attention_span *s, int64_t j, int64_t stride,
                               int64_t head) {
    const int64_t row = j < a->virtual_rows ? j * a->kv_heads * a->head_dim : (s->k0 + j - a->virtual_rows) * stride;
    return row + head * a->head_dim;
}

/* Σ_d x[d]·key_j[d], where x is row i, head h of q or do and the keys are k or v. */
static real attention_dot(const attention_call *a, const attention_span *s, const void *x, int64_t x_at, int64_t j,
                          int64_t head, int values) {
    const void *keys = j < a->virtual_rows ? (values ? a->virtual_v : a->virtual_k) : (values ? a->v : a->k);
    const int64_t at = attention_place(a, s, j, values ? a->v_stride : a->k_stride, head);
    wide sum = 0;
    for (int64_t d = 0; d < a->head_dim; d++)
        sum += (wide)load(x, a->type, x_at + d) * load(keys, a->type, at + d);
    return (real)sum;
}

static real attention_score(const attention_call *a, const attention_span *s, int64_t i, int64_t h, int64_t j) {
    const int64_t group = a->heads / a->kv_heads;
    const real z = (real)a->scale * attention_dot(a, s, a->q, i * a->q_stride + h * a->head_dim, j, h / group, 0);
    return a->softcap > 0 ? (real)a->softcap * tanh(z / (real)a->softcap) : z;
}

/* Writes 0 to the heads of every row of q's kind: rows of no span keep it. */
static void attention_clear(const attention_call *a, void *x, int64_t stride) {
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t d = 0; d < a->heads * a->head_dim; d++)
            store(x, a->type, i * stride + d, 0);
}

/* One query row and head. t: room for one score a key. A row that sees no key keeps o = 0 and has lse = -infinity. */
static void attention_row(const attention_call *a, const attention_span *s, int64_t i, int64_t h, real *t) {
    const int64_t keys = attention_keys(a, s), head = h / (a->heads / a->kv_heads);
    real most = -(real)INFINITY;
    for (int64_t j = 0; j < keys; j++) {
        t[j] = attention_sees(a, s, i, j) ? attention_score(a, s, i, h, j) : -(real)INFINITY;
        most = t[j] > most ? t[j] : most;
    }
    wide sum = 0;
    for (int64_t j = 0; j < keys; j++)
        sum += t[j] = attention_sees(a, s, i, j) ? exp(t[j] - most) : 0;
    for (int64_t d = 0; d < a->head_dim && sum != 0; d++) {
        wide o = 0;
        for (int64_t j = 0; j < keys; j++) {
            const int64_t at = attention_place(a, s, j, a->v_stride, head) + d;
            if (t[j] != 0) o += t[j] / sum * load(j < a->virtual_rows ? a->virtual_v : a->v, a->type, at);
        }
        store(a->o, a->type, i * a->o_stride + h * a->head_dim + d, o);
    }
    if (a->lse) ((real *)a->lse)[i * a->heads + h] = (real)(most + log(sum));
}

static void ref_attention_forward(kernels *k, const attention_call *a) {
    (void)k;
    attention_clear(a, a->o, a->o_stride);
    if (a->lse) memset(a->lse, 0, (size_t)(a->rows * a->heads) * sizeof(real));
    for (const attention_span *s = a->spans; s < a->spans + a->span_count; s++) {
        real *t = mem_new((size_t)attention_keys(a, s), sizeof *t);
        for (int64_t i = s->q0; i < s->q0 + s->q_count; i++)
            for (int64_t h = 0; h < a->heads; h++)
                attention_row(a, s, i, h, t);
        free(t);
    }
}

/* Sums of gradients: of the virtual rows and of the key rows of the call, (rows, kv_heads·head_dim). */
typedef struct {
    wide *dk, *dv, *dvirtual_k, *dvirtual_v, *dq; /* dq: of one row and head */
} attention_sums;

/* One query row and head of the backward pass. */
static void attention_row_grad(const attention_call *a, const attention_span *s, int64_t i, int64_t h,
                               const attention_sums *sums) {
    const int64_t D = a->head_dim, head = h / (a->heads / a->kv_heads), width = a->kv_heads * D;
    const int64_t q_at = i * a->q_stride + h * D, o_at = i * a->o_stride + h * D;
    wide do_o = 0;
    for (int64_t d = 0; d < D; d++)
        do_o += (wide)load(a->d_o, a->type, o_at + d) * load(a->o, a->type, o_at + d);
    memset(sums->dq, 0, (size_t)D * sizeof *sums->dq);
    for (int64_t j = 0; j < attention_keys(a, s); j++) {
        if (!attention_sees(a, s, i, j)) continue;
        const int real_key = j >= a->virtual_rows;
        const real t = attention_score(a, s, i, h, j), p = exp(t - ((const real *)a->lse)[i * a->heads + h]);
        const real dp = attention_dot(a, s, a->d_o, o_at, j, head, 1), dt = p * (real)(dp - do_o);
        const real dz = a->softcap > 0 ? dt * (1 - (t / (real)a->softcap) * (t / (real)a->softcap)) : dt;
        const int64_t k_at = attention_place(a, s, j, a->k_stride, head), to = attention_place(a, s, j, width, head);
        for (int64_t d = 0; d < D; d++) {
            sums->dq[d] += a->scale * dz * load(real_key ? a->k : a->virtual_k, a->type, k_at + d);
            (real_key ? sums->dk : sums->dvirtual_k)[to + d] += a->scale * dz * load(a->q, a->type, q_at + d);
            (real_key ? sums->dv : sums->dvirtual_v)[to + d] += (wide)p * load(a->d_o, a->type, o_at + d);
        }
    }
    for (int64_t d = 0; d < D; d++)
        store(a->dq, a->type, q_at + d, sums->dq[d]);
}

/* Stores the key rows of the spans; rows of no span are left alone. */
static void attention_store_keys(const attention_call *a, const wide *sums, void *to, int64_t stride) {
    const int64_t width = a->kv_heads * a->head_dim;
    for (const attention_span *s = a->spans; s < a->spans + a->span_count; s++)
        for (int64_t j = s->k0; j < s->k0 + s->k_count; j++)
            for (int64_t d = 0; d < width; d++)
                store(to, a->type, j * stride + d, sums[j * width + d]);
}

static void add_sums(real *to, const wide *sums, int64_t n) {
    for (int64_t i = 0; to && i < n; i++)
        to[i] = (real)(to[i] + sums[i]);
}

static void ref_attention_backward(kernels *k, const attention_call *a) {
    (void)k;
    const int64_t width = a->kv_heads * a->head_dim;
    int64_t key_rows = 0;
    for (const attention_span *s = a->spans; s < a->spans + a->span_count; s++)
        key_rows = s->k0 + s->k_count > key_rows ? s->k0 + s->k_count : key_rows;
    const size_t keys = (size_t)(key_rows * width), virtual_keys = (size_t)(a->virtual_rows * width);
    const attention_sums sums = {mem_new(keys, sizeof(wide)), mem_new(keys, sizeof(wide)),
                                 mem_new(virtual_keys, sizeof(wide)), mem_new(virtual_keys, sizeof(wide)),
                                 mem_new((size_t)a->head_dim, sizeof(wide))};
    attention_clear(a, a->dq, a->q_stride);
    for (const attention_span *s = a->spans; s < a->spans + a->span_count; s++)
        for (int64_t i = s->q0; i < s->q0 + s->q_count; i++)
            for (int64_t h = 0; h < a->heads; h++)
                attention_row_grad(a, s, i, h, &sums);
    attention_store_keys(a, sums.dk, a->dk, a->k_stride);
    attention_store_keys(a, sums.dv, a->dv, a->v_stride);
    add_sums(a->dvirtual_k, sums.dvirtual_k, (int64_t)virtual_keys);
    add_sums(a->dvirtual_v, sums.dvirtual_v, (int64_t)virtual_keys);
    free(sums.dq);
    free(sums.dvirtual_v);
    free(sums.dvirtual_k);
    free(sums.dv);
    free(sums.dk);
}
