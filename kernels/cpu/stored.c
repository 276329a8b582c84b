/* stored — weights looked at and made: rows read and gathered, their norms, quantization. Values and codes equal those of
 * kernels/ref/weights.h to the last bit; the norms are sums in double. */
#include "kernels/codebook.h"
#include "kernels/cpu/split.h"

enum {
    CHUNK = 1024,       /* values decoded at a time */
    BLOCKS_BYTES = 4096 /* codes of a part of a quantization, about */
};

typedef struct {
    const weight *w;
    const int32_t *ids;
    int64_t first_row;
    void *to;
    dtype type;
    double scale;
} look;

/* n values of row o from column i on, as they are stored (plain) or as F32; *type says which. */
static const void *stored(const cpu *c, const weight *w, int64_t o, int64_t i, int64_t n, float room[CHUNK],
                          dtype *type) {
    if (w->layout == WEIGHT_PLAIN) {
        *type = w->type;
        return split_at(w->data, w->type, o * w->in + i);
    }
    c->f->decode(w, o, i, n, room, F32);
    *type = F32;
    return room;
}

/* to's rows first.. from those ids (or first_row on) name. */
static void look_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const look *a = call;
    const int64_t in = a->w->in;
    float room[CHUNK];
    for (int64_t n = first; n < first + count; n++)
        for (int64_t i = 0; i < in; i += CHUNK) {
            const int64_t left = in - i < CHUNK ? in - i : CHUNK;
            dtype type;
            const void *from = stored(c, a->w, a->ids ? a->ids[n] : a->first_row + n, i, left, room, &type);
            c->f->convert(split_at(a->to, a->type, n * in + i), a->type, from, type, left, (float)a->scale);
        }
}

static int known(dtype t) {
    return t == F32 || t == BF16 || t == F16;
}

void cpu_weight_read(kernels *k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type) {
    cpu *const c = k->state;
    const look a = {.w = w, .first_row = first_row, .to = to, .type = type, .scale = 1};
    if (known(type) && known(w->type))
        split_run(c, rows, split_rows(w->in), look_run, &a);
    else
        c->ref->weight_read(c->ref, w, first_row, rows, to, type);
}

void cpu_weight_gather(kernels *k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type,
                       double scale) {
    cpu *const c = k->state;
    const look a = {.w = w, .ids = ids, .to = y, .type = type, .scale = scale};
    if (known(type) && known(w->type))
        split_run(c, rows, split_rows(w->in), look_run, &a);
    else
        c->ref->weight_gather(c->ref, w, ids, rows, y, type, scale);
}

static void norms_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const look *a = call;
    float room[CHUNK];
    for (int64_t o = first; o < first + count; o++) {
        double sum = 0;
        for (int64_t i = 0; i < a->w->in; i += CHUNK) {
            const int64_t left = a->w->in - i < CHUNK ? a->w->in - i : CHUNK;
            dtype type;
            const void *from = stored(c, a->w, o, i, left, room, &type);
            sum += c->f->sqnorm(from, type, left);
        }
        ((float *)a->to)[o] = (float)sum;
    }
}

void cpu_weight_row_sqnorm(kernels *k, const weight *w, void *norms) {
    cpu *const c = k->state;
    const look a = {.w = w, .to = norms};
    if (known(w->type))
        split_run(c, w->out, split_rows(w->in), norms_run, &a);
    else
        c->ref->weight_row_sqnorm(c->ref, w, norms);
}

static void codebook_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const look *a = call;
    const weight *w = a->w;
    const int64_t size = w->out * w->in;
    for (int64_t b = first; b < first + count; b++) {
        const int64_t at = b * w->block, n = size - at < w->block ? size - at : w->block;
        ((float *)w->scale)[b] = c->f->quantize_block(codebook_of(w->code), w->code, (const float *)a->to + at, n,
                                                      (uint8_t *)w->data + at / 2);
    }
}

static void rows8_run(const cpu *c, const void *call, int64_t first, int64_t count, int64_t part) {
    (void)part;
    const look *a = call;
    const weight *w = a->w;
    for (int64_t o = first; o < first + count; o++)
        ((float *)w->scale)[o] =
            c->f->quantize_row8((const float *)a->to + o * w->in, w->in, (int8_t *)w->data + o * w->in);
}

void cpu_weight_quantize(kernels *k, weight *w, const void *from) {
    cpu *const c = k->state;
    const look a = {.w = w, .to = (void *)(uintptr_t)from};
    if (w->layout == WEIGHT_ROWS8)
        split_run(c, w->out, split_rows(w->in), rows8_run, &a);
    else if (w->layout == WEIGHT_CODEBOOK4 && w->block % 2 == 0)
        split_run(c, split_parts(w->out * w->in, w->block), 2 * BLOCKS_BYTES / w->block, codebook_run, &a);
    else
        c->ref->weight_quantize(c->ref, w, from);
}
