/* weights — base matrices W (out, in) in the form they are stored in, and the low-rank terms on top.
 *
 *   PLAIN      W[o,i] = data[o,i]
 *   CODEBOOK4  W[o,i] = code[nibble]·absmax[block]                        one f32 product, one rounding to w->type
 *   ROWS8      W[o,i] = (q[o,i]·scale[o])·(1/127)                         two f32 products, one rounding to w->type
 *   AFFINE     W[o,i] = scale[o,g]·(q[o,i] - zero[o,g])                   f32, one rounding to w->type; CUSTOM: layouts.h
 *
 *   forward    y  = alpha·x·Wᵀ + bias + Σ_t s·h·Bᵀ,  h = x·Aᵀ            rounded once
 *   backward   dh = s·dy·B   dx = alpha·dy·W + Σ_t dh·A   dB += s·dyᵀ·h   dA += dhᵀ·x */

/* absmax of block b of a CODEBOOK4 weight; rebuilt from nested statistics with two f32 roundings. */
static float weight_absmax(const weight *w, int64_t b) {
    if (w->scale) return ((const float *)w->scale)[b];
    const float *code = w->nested_code, *scale = w->nested_scale;
    const float product = code[((const uint8_t *)w->nested)[b]] * scale[b / w->nested_block];
    return product + w->nested_offset;
}

static real weight_affine(const weight *w, int64_t o, int64_t i) {
    const int64_t groups = (w->in + w->block - 1) / w->block, g = o * groups + i / w->block;
    const float q = (float)bits_get(w->data, g * w->block + i % w->block, w->bits);
    const float zero = w->zero ? (float)load(w->zero, w->zero_type, g) : (float)(1 << (w->bits - 1));
    return rounded(w->type, ((const float *)w->scale)[g] * (q - zero));
}

static real weight_at(const weight *w, int64_t o, int64_t i) {
    const int64_t flat = o * w->in + i;
    if (w->layout == WEIGHT_PLAIN) return load(w->data, w->type, flat);
    if (w->layout == WEIGHT_CODEBOOK4) {
        const int c = ((const uint8_t *)w->data)[flat / 2] >> (flat % 2 ? 0 : 4) & 15;
        return rounded(w->type, w->code[c] * weight_absmax(w, flat / w->block));
    }
    if (w->layout == WEIGHT_AFFINE) return weight_affine(w, o, i);
    const float q = ((const int8_t *)w->data)[flat];
    return rounded(w->type, q * ((const float *)w->scale)[o] * ROWS8_UNIT);
}

static void weight_row(const weight *w, int64_t o, real *to) {
    for (int64_t i = 0; i < w->in; i++)
        to[i] = weight_at(w, o, i);
}

/* W as it lies is what these loops read. */
static int64_t ref_weight_packed_bytes(kernels *k, const weight *w) {
    (void)k;
    (void)w;
    return 0;
}

static void ref_weight_pack(kernels *k, weight *w) {
    (void)k;
    w->packed = NULL;
}

static void ref_weight_unpack(kernels *k, weight *w) {
    (void)k;
    w->packed = NULL;
}

static wide dot(const real *a, const real *b, int64_t n) {
    wide sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (wide)a[i] * b[i];
    return sum;
}

/* h[n,r] = Σ_i x[n,i]·A[r,i] */
static void term_forward(const lowrank_term *t, const real *layer_x, dtype x_type, int64_t rows, int64_t in) {
    real *own = t->x ? widened(t->x, x_type, rows * in) : NULL, *a = widened(t->a, t->type, t->rank * in);
    const real *x = own ? own : layer_x;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t r = 0; r < t->rank; r++)
            ((real *)t->h)[n * t->rank + r] = (real)dot(x + n * in, a + r * in, in);
    free(a);
    free(own);
}

/* s·Σ_r h[n,r]·B[o,r] */
static wide term_at(const lowrank_term *t, int64_t n, int64_t o) {
    wide sum = 0;
    for (int64_t r = 0; r < t->rank; r++)
        sum += (wide)((const real *)t->h)[n * t->rank + r] * load(t->b, t->type, o * t->rank + r);
    return t->s * sum;
}

static void ref_weight_forward(kernels *k, const weight *w, const void *bias, const void *x, dtype x_type, void *y,
                               dtype y_type, int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms,
                               int32_t count) {
    (void)k;
    real *xs = widened(x, x_type, rows * w->in), *row = mem_new((size_t)w->in, sizeof *row);
    for (int32_t t = 0; t < count; t++)
        term_forward(&terms[t], xs, x_type, rows, w->in);
    for (int64_t o = 0; o < w->out; o++) {
        weight_row(w, o, row);
        for (int64_t n = 0; n < rows; n++) {
            const int64_t at = n * w->out + o;
            wide v = alpha * dot(xs + n * w->in, row, w->in) + (bias ? ((const real *)bias)[o] : 0);
            for (int32_t t = 0; t < count; t++)
                v += term_at(&terms[t], n, o);
            store(y, y_type, at, accumulate ? load(y, y_type, at) + v : v);
        }
    }
    free(row);
    free(xs);
}

/* dh[n,r] = s·Σ_o dy[n,o]·B[o,r];  dB[o,r] += s·Σ_n dy[n,o]·h[n,r];  dA[r,i] += Σ_n dh[n,r]·x[n,i] */
static void term_backward(const lowrank_term *t, const weight *w, const real *dy, const void *x, dtype x_type,
                          int64_t rows) {
    const int64_t rank = t->rank;
    const real *h = t->h;
    real *dh = t->dh, *da = t->da, *db = t->db;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t n = 0; n < rows; n++) {
            wide sum = 0;
            for (int64_t o = 0; o < w->out; o++)
                sum += (wide)dy[n * w->out + o] * load(t->b, t->type, o * rank + r);
            dh[n * rank + r] = (real)(t->s * sum);
        }
    for (int64_t o = 0; db && o < w->out; o++)
        for (int64_t r = 0; r < rank; r++) {
            wide sum = 0;
            for (int64_t n = 0; n < rows; n++)
                sum += (wide)dy[n * w->out + o] * h[n * rank + r];
            db[o * rank + r] = (real)(db[o * rank + r] + t->s * sum);
        }
    for (int64_t r = 0; da && r < rank; r++)
        for (int64_t i = 0; i < w->in; i++) {
            wide sum = 0;
            for (int64_t n = 0; n < rows; n++)
                sum += (wide)dh[n * rank + r] * load(t->x ? t->x : x, x_type, n * w->in + i);
            da[r * w->in + i] = (real)(da[r * w->in + i] + sum);
        }
}

/* dx[n,:] += Σ_r dh[n,r]·A[r,:]; a term with its own x leaves dh to the caller. */
static void term_input_grad(const lowrank_term *t, int64_t in, int64_t rows, wide *dx) {
    if (t->x) return;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t r = 0; r < t->rank; r++)
            for (int64_t i = 0; i < in; i++)
                dx[n * in + i] += (wide)((const real *)t->dh)[n * t->rank + r] * load(t->a, t->type, r * in + i);
}

static void ref_weight_input_grad(kernels *k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type,
                                  const void *x, dtype x_type, int64_t rows, int32_t accumulate, double alpha,
                                  const lowrank_term *terms, int32_t count) {
    (void)k;
    const int64_t size = rows * w->in;
    real *dys = widened(dy, dy_type, rows * w->out), *row = mem_new((size_t)w->in, sizeof *row);
    for (int32_t t = 0; t < count; t++)
        term_backward(&terms[t], w, dys, x, x_type, rows);
    if (dx) {
        wide *sum = mem_new((size_t)size, sizeof *sum);
        for (int64_t o = 0; o < w->out; o++) {
            weight_row(w, o, row);
            for (int64_t n = 0; n < rows; n++)
                for (int64_t i = 0; i < w->in; i++)
                    sum[n * w->in + i] += alpha * dys[n * w->out + o] * row[i];
        }
        for (int32_t t = 0; t < count; t++)
            term_input_grad(&terms[t], w->in, rows, sum);
        for (int64_t i = 0; i < size; i++)
            store(dx, dx_type, i, accumulate ? load(dx, dx_type, i) + sum[i] : sum[i]);
        free(sum);
    }
    free(row);
    free(dys);
}

static void ref_weight_row_sqnorm(kernels *k, const weight *w, void *norms) {
    (void)k;
    real *row = mem_new((size_t)w->in, sizeof *row);
    for (int64_t o = 0; o < w->out; o++) {
        weight_row(w, o, row);
        ((real *)norms)[o] = (real)dot(row, row, w->in);
    }
    free(row);
}

static void ref_weight_read(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type) {
    (void)k;
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < w->in; i++)
            store(to, type, o * w->in + i, weight_at(w, first_row + o, i));
}

static void ref_weight_gather(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                              double scale) {
    (void)k;
    for (int64_t n = 0; n < rows; n++) {
        assert(ids[n] >= 0 && ids[n] < w->out);
        for (int64_t i = 0; i < w->in; i++)
            store(y, type, n * w->in + i, (real)scale * weight_at(w, ids[n], i));
    }
}

/* Blocks over the flattened matrix; the missing last element of an odd one is packed as 0. */
static void quantize_codebook4(weight *w, const real *from) {
    const codebook_kind kind = codebook_of(w->code);
    const int64_t size = w->out * w->in;
    uint8_t *codes = w->data;
    for (int64_t first = 0; first < size; first += w->block) {
        const int64_t end = first + w->block < size ? first + w->block : size;
        float absmax = 0;
        for (int64_t i = first; i < end; i++)
            absmax = fabsf((float)from[i]) > absmax ? fabsf((float)from[i]) : absmax;
        ((float *)w->scale)[first / w->block] = absmax;
        const float inverse = codebook_inverse(absmax);
        for (int64_t i = first; i < end; i++) {
            const int c = codebook_encode(kind, w->code, (float)from[i] * inverse);
            codes[i / 2] = (uint8_t)(i % 2 ? codes[i / 2] | c : c << 4);
        }
    }
    if (size % 2) codes[size / 2] |= (uint8_t)codebook_encode(kind, w->code, 0);
}

/* Values pass through f16 on the way, as in LLM.int8. */
static void quantize_rows8(weight *w, const real *from) {
    for (int64_t o = 0; o < w->out; o++) {
        float absmax = 0;
        for (int64_t i = 0; i < w->in; i++) {
            const float v = fabsf((float)rounded(F16, from[o * w->in + i]));
            absmax = v > absmax ? v : absmax;
        }
        const float factor = absmax > 0 ? 127.0f / absmax : 0;
        ((float *)w->scale)[o] = absmax;
        for (int64_t i = 0; i < w->in; i++) {
            const float v = (float)rounded(F16, from[o * w->in + i]) * factor;
            ((int8_t *)w->data)[o * w->in + i] = (int8_t)whole(v, -127, 127);
        }
    }
}

static void ref_weight_quantize(kernels *k, weight *w, const void *from) {
    (void)k;
    if (w->layout == WEIGHT_CODEBOOK4) quantize_codebook4(w, from);
    if (w->layout == WEIGHT_ROWS8) quantize_rows8(w, from);
}
