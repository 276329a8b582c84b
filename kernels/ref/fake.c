/* fake — a device whose memory the host cannot touch: the reference table over mappings that are PROT_NONE except inside
 * its own functions. Whatever reads or writes device data behind the table's back faults on the spot, as it would on a GPU.
 * An allocation ends (up to its alignment of 64) at a page that stays closed for ever, so a kernel that runs over faults too. */
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    char *begin;
    size_t open_bytes; /* whole pages that open and close; one more page behind them stays closed */
    void *dev;
} region;

typedef struct {
    kernels *ref;
    region *regions;
    int64_t count, capacity;
    size_t page;
} fake;

static void protect_all(const fake *f, int protection) {
    for (int64_t i = 0; i < f->count; i++)
        if (mprotect(f->regions[i].begin, f->regions[i].open_bytes, protection)) {
            perror("graft: the fake device cannot protect its memory");
            abort();
        }
}

static kernels *enter(const kernels *k) {
    const fake *f = k->state;
    protect_all(f, PROT_READ | PROT_WRITE);
    return f->ref;
}

static void leave(const kernels *k) {
    protect_all(k->state, PROT_NONE);
}

static void *fake_alloc(kernels *k, int64_t bytes) {
    fake *f = k->state;
    const size_t size = ((size_t)(bytes > 0 ? bytes : 1) + 63) / 64 * 64,
                 pages = (size + f->page - 1) / f->page * f->page;
    char *begin = mmap(NULL, pages + f->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) return NULL;
    mem_reserve(f->regions, f->count, f->capacity);
    f->regions[f->count++] = (region){begin, pages, begin + pages - size};
    return begin + pages - size;
}

static void fake_release(kernels *k, void *dev) {
    fake *f = k->state;
    if (!dev) return;
    int64_t i = 0;
    while (i < f->count && f->regions[i].dev != dev)
        i++;
    assert(i < f->count && "not an allocation of this device");
    munmap(f->regions[i].begin, f->regions[i].open_bytes + f->page);
    f->regions[i] = f->regions[--f->count];
}

static void fake_close(kernels *k) {
    fake *f = k->state;
    while (f->count)
        fake_release(k, f->regions[0].dev);
    free(f->regions);
    f->ref->close(f->ref);
    free(f);
    free(k);
}

/* Each function opens the memory, calls the reference, closes the memory. */
#define PASS(name, parameters, ...)                                                                                    \
    static void fake_##name parameters {                                                                               \
        kernels *ref = enter(k);                                                                                       \
        ref->name(ref, __VA_ARGS__);                                                                                   \
        leave(k);                                                                                                      \
    }

PASS(upload, (kernels * k, void *dev, const void *host, int64_t bytes), dev, host, bytes)
PASS(download, (kernels * k, void *host, const void *dev, int64_t bytes), host, dev, bytes)
PASS(copy, (kernels * k, void *dev, const void *from, int64_t bytes), dev, from, bytes)
PASS(zero, (kernels * k, void *dev, int64_t bytes), dev, bytes)
PASS(convert, (kernels * k, void *dev, dtype type, const void *from, dtype from_type, int64_t n), dev, type, from,
     from_type, n)
PASS(gemm, (kernels * k, const gemm_call *g), g)
PASS(map, (kernels * k, const map_program *p, const map_call *c), p, c)
PASS(weight_pack, (kernels * k, weight *w), w)
PASS(weight_unpack, (kernels * k, weight *w), w)
PASS(weight_forward,
     (kernels * k, const weight *w, const void *bias, const void *x, dtype x_type, void *y, dtype y_type, int64_t rows,
      int32_t accumulate, double alpha, const lowrank_term *terms, int32_t count),
     w, bias, x, x_type, y, y_type, rows, accumulate, alpha, terms, count)
PASS(weight_input_grad,
     (kernels * k, const weight *w, const void *dy, dtype dy_type, void *dx, dtype dx_type, const void *x, dtype x_type,
      int64_t rows, int32_t accumulate, double alpha, const lowrank_term *terms, int32_t count),
     w, dy, dy_type, dx, dx_type, x, x_type, rows, accumulate, alpha, terms, count)
PASS(weight_row_sqnorm, (kernels * k, const weight *w, void *norms), w, norms)
PASS(weight_read, (kernels * k, const weight *w, int64_t first_row, int64_t rows, void *to, dtype type), w, first_row,
     rows, to, type)
PASS(weight_gather, (kernels * k, const weight *w, const int32_t *ids, int64_t rows, void *y, dtype type, double scale),
     w, ids, rows, y, type, scale)
PASS(weight_quantize, (kernels * k, weight *w, const void *from), w, from)
PASS(norm_forward,
     (kernels * k, norm_kind kind, const void *x, const void *w, const void *b, double eps, void *y, dtype type,
      int64_t rows, int64_t width),
     kind, x, w, b, eps, y, type, rows, width)
PASS(norm_backward,
     (kernels * k, norm_kind kind, const void *x, const void *w, double eps, const void *dy, void *dx, void *dw,
      void *db, dtype type, int64_t rows, int64_t width, int32_t accumulate),
     kind, x, w, eps, dy, dx, dw, db, type, rows, width, accumulate)
PASS(rope,
     (kernels * k, void *x, dtype type, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim, int64_t pairs,
      const int32_t *positions, const float *inv_freq, double factor, int32_t inverse),
     x, type, rows, stride, heads, head_dim, pairs, positions, inv_freq, factor, inverse)
PASS(attention_forward, (kernels * k, const attention_call *a), a)
PASS(attention_backward, (kernels * k, const attention_call *a), a)
PASS(gate_forward,
     (kernels * k, activation_kind act, const void *gate, const void *up, int64_t stride, void *h, dtype type,
      int64_t rows, int64_t width),
     act, gate, up, stride, h, type, rows, width)
PASS(gate_backward,
     (kernels * k, activation_kind act, const void *gate, const void *up, int64_t stride, const void *dh, void *dgate,
      void *dup, dtype type, int64_t rows, int64_t width),
     act, gate, up, stride, dh, dgate, dup, type, rows, width)
PASS(add, (kernels * k, void *y, const void *x, dtype type, int64_t n), y, x, type, n)
PASS(column_sum, (kernels * k, const void *x, dtype type, int64_t rows, int64_t width, void *sums), x, type, rows,
     width, sums)
PASS(scatter_rows,
     (kernels * k, const int32_t *ids, const void *dy, dtype type, int64_t rows, int64_t width, double scale,
      int64_t skip, void *table_grad),
     ids, dy, type, rows, width, scale, skip, table_grad)
PASS(pick_rows,
     (kernels * k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to, dtype type), rows,
     count, width, from, to, type)
PASS(place_rows,
     (kernels * k, const int32_t *rows, int64_t count, int64_t width, const void *from, void *to, dtype type), rows,
     count, width, from, to, type)
PASS(dropout,
     (kernels * k, const void *x, void *y, dtype type, int64_t rows, int64_t width, double p, uint64_t seed,
      uint64_t stream, const int64_t *row_key, int32_t accumulate),
     x, y, type, rows, width, p, seed, stream, row_key, accumulate)
PASS(logprob,
     (kernels * k, const void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target, double cap,
      void *logp, void *lse),
     logits, type, rows, vocab, target, cap, logp, lse)
PASS(logprob_grad,
     (kernels * k, void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target, double cap,
      const void *lse, const void *dlogp),
     logits, type, rows, vocab, target, cap, lse, dlogp)
PASS(softcap, (kernels * k, void *logits, dtype type, int64_t n, double cap), logits, type, n, cap)
PASS(scale, (kernels * k, void *x, dtype type, int64_t n, double factor), x, type, n, factor)

static int64_t fake_weight_packed_bytes(kernels *k, const weight *w) {
    const fake *f = k->state;
    return f->ref->weight_packed_bytes(f->ref, w);
}

static double fake_sqnorm(kernels *k, const void *x, dtype type, int64_t n) {
    kernels *ref = enter(k);
    const double sum = ref->sqnorm(ref, x, type, n);
    leave(k);
    return sum;
}

int fake_open(team *threads, kernels **out, graft_error *err) {
    fake *f = mem_new(1, sizeof *f);
    f->page = (size_t)sysconf(_SC_PAGESIZE);
    if (ref_open(threads, &f->ref, err)) {
        free(f);
        return err->code;
    }
    *out = mem_new(1, sizeof **out);
    **out = (kernels){
        .name = "fake",
        .isa = "",
        .real = f->ref->real,
        .multiplies_bf16 = 1, /* stands for a GPU */
        .threads = threads,
        .state = f,
        .alloc = fake_alloc,
        .release = fake_release,
        .upload = fake_upload,
        .download = fake_download,
        .copy = fake_copy,
        .zero = fake_zero,
        .convert = fake_convert,
        .close = fake_close,
        .gemm = fake_gemm,
        .map = fake_map,
        .weight_packed_bytes = fake_weight_packed_bytes,
        .weight_pack = fake_weight_pack,
        .weight_unpack = fake_weight_unpack,
        .weight_forward = fake_weight_forward,
        .weight_input_grad = fake_weight_input_grad,
        .weight_row_sqnorm = fake_weight_row_sqnorm,
        .weight_read = fake_weight_read,
        .weight_gather = fake_weight_gather,
        .weight_quantize = fake_weight_quantize,
        .norm_forward = fake_norm_forward,
        .norm_backward = fake_norm_backward,
        .rope = fake_rope,
        .attention_forward = fake_attention_forward,
        .attention_backward = fake_attention_backward,
        .gate_forward = fake_gate_forward,
        .gate_backward = fake_gate_backward,
        .add = fake_add,
        .column_sum = fake_column_sum,
        .scatter_rows = fake_scatter_rows,
        .pick_rows = fake_pick_rows,
        .place_rows = fake_place_rows,
        .dropout = fake_dropout,
        .logprob = fake_logprob,
        .logprob_grad = fake_logprob_grad,
        .softcap = fake_softcap,
        .sqnorm = fake_sqnorm,
        .scale = fake_scale,
    };
    return GRAFT_OK;
}
