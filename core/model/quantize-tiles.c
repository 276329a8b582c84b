/* quantize-tiles — a matrix through the formulas of its quantizer, some blocks at a time: device memory for one tile only. */
#include "model/model-private.h"
#include "model/quantize-private.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TILE = 1 << 18, ROWS_LEAST = 8, ROWS_MOST = 256 }; /* elements of a tile, about; its rows */

int64_t quantize_tile_rows(const quantize_program *p) {
    const int64_t rows = TILE / p->pitch / ROWS_LEAST * ROWS_LEAST;
    return rows < ROWS_LEAST ? ROWS_LEAST : rows > ROWS_MOST ? ROWS_MOST : rows;
}

/* Blocks that hold `rows` rows wherever they begin. */
static int64_t tile_blocks(const quantize_program *p, int64_t rows) {
    return (rows * p->pitch + p->width - 1) / p->width + 1 + p->align;
}

/* ---- the memory of a tile ---- */

static void *take(kernels *k, int64_t bytes, graft_error *err) {
    void *const dev = err->code ? NULL : k->alloc(k, bytes);
    if (!dev) fail(err, GRAFT_FAILED, "no memory for a tile of %lld bytes", (long long)bytes);
    return dev;
}

static int open_tile(quantize *q, quantize_program *p, kernels *k, graft_error *err) {
    if (p->device) return GRAFT_OK;
    const plugin_component *comp = q->in.component;
    const int64_t wide = dtype_bytes(k->real);
    int64_t scratch = 0;
    p->device = k;
    p->tile = tile_blocks(p, quantize_tile_rows(p));
    p->w = take(k, p->tile * p->width * wide, err);
    for (int32_t s = 0; s < comp->slot_count && !err->code; s++) {
        const graft_slot *d = &comp->slots[s];
        const int64_t n = quantize_slot_elements(p, s, p->tile);
        if (quantize_is_stored(d) || d->role == GRAFT_NUMBER || n == 0) continue;
        p->temps[s] = take(k, n * (p->names[1 + s].activation ? wide : 4), err);
        if (d->values && !err->code) upload_as(k, p->temps[s], k->real, d->values, F64, n);
    }
    for (int32_t i = 0; i < p->quantize.count + p->dequantize.count; i++) {
        const formula *f = i < p->quantize.count ? p->quantize.step[i] : p->dequantize.step[i - p->quantize.count];
        const int64_t bytes = formula_scratch(f, p->tile);
        if (bytes > scratch) scratch = bytes;
    }
    p->scratch = take(k, scratch, err);
    return err->code;
}

/* ---- one tile ---- */

/* Where a stored slot of the weight lies. */
static char *slot_data(const quantize *q, const weight *w, int32_t slot) {
    if (w->layout == WEIGHT_CUSTOM) return ((const quantize_custom *)(const void *)w->custom)->slots[slot];
    return slot == q->codes ? w->data : slot == q->scale ? w->scale : slot == q->zero ? w->zero : NULL;
}

/* Runs the steps on blocks first .. first + blocks - 1, `first` a multiple of the alignment. */
static int run_tile(quantize *q, quantize_program *p, kernels *k, const quantize_steps *steps, const weight *w,
                    int64_t first, int64_t blocks, graft_error *err) {
    const plugin_component *comp = q->in.component;
    formula_binding bindings[1 + QUANTIZE_SLOTS] = {{.data = p->w}};
    double numbers[QUANTIZE_NUMBERS];
    memcpy(numbers, q->numbers, sizeof numbers);
    quantize_set_sizes(q, p, numbers, blocks);
    for (int32_t s = 0; s < comp->slot_count; s++) {
        bindings[1 + s].data = p->temps[s];
        if (!quantize_is_stored(&comp->slots[s])) continue;
        char *const data = slot_data(q, w, s);
        if (data && quantize_slot_elements(p, s, 1)) bindings[1 + s].data = data + quantize_slot_bytes(p, s, first);
    }
    for (int32_t i = 0; i < steps->count && !err->code; i++) {
        const formula_run_call run = {.device = k,
                                      .bindings = bindings,
                                      .numbers = numbers,
                                      .rows = blocks,
                                      .activation = k->real,
                                      .scratch = p->scratch,
                                      .err = err};
        formula_run(steps->step[i], &run);
    }
    return err->code;
}

/* TEMP slots are zero when quantize begins. */
static void zero_temps(const quantize *q, quantize_program *p, kernels *k, int64_t blocks) {
    const plugin_component *comp = q->in.component;
    for (int32_t s = 0; s < comp->slot_count; s++)
        if (p->temps[s] && comp->slots[s].role == GRAFT_TEMP)
            k->zero(k, p->temps[s],
                    quantize_slot_elements(p, s, blocks) * (p->names[1 + s].activation ? dtype_bytes(k->real) : 2));
}

/* ---- whole matrices ---- */

/* Behind its `in` elements a row of the tile has the last of them again and again. */
static void fill_rows(quantize_program *p, kernels *k, int64_t rows, int64_t in) {
    static const map_instruction load[] = {
        {MAP_LOAD, 1}
    };
    const map_program program = {.indices = 2, .kept = 2, .store = MAP_SET, .operands = 2, .length = 1, .code = load};
    const map_call call = {
        .extent = {rows,                                                                   p->pitch - in},
        .operand = {{.data = p->w, .type = k->real, .stride = {p->pitch, 1}, .offset = in},
                   {.data = p->w, .type = k->real, .stride = {p->pitch, 0}, .offset = in - 1}           },
    };
    k->map(k, &program, &call);
}

/* Blocks first.. of the matrix into the tile, filled up: the matrix with zeros, rows with their last element, which changes no
 * minimum and no maximum. */
static void load_tile(quantize_program *p, kernels *k, const weight *w, const void *values, int64_t rows, int64_t first,
                      int64_t blocks) {
    const int64_t wide = dtype_bytes(k->real), begin = first * p->width, n = blocks * p->width;
    k->zero(k, p->w, n * wide);
    if (p->pitch == w->in) {
        const int64_t left = rows * w->in - begin;
        k->copy(k, p->w, (const char *)values + begin * wide, (left < n ? left : n) * wide);
        return;
    }
    const int64_t here = n / p->pitch; /* whole rows */
    copy_columns(k, (columns){p->w, k->real, p->pitch},
                 (columns){(char *)(uintptr_t)values + begin / p->pitch * w->in * wide, k->real, w->in}, here, w->in,
                 0);
    fill_rows(p, k, here, w->in);
}

int quantize_by_formulas(quantize *q, kernels *k, const weight *w, int64_t row, int64_t rows, const void *values,
                         graft_error *err) {
    quantize_program *p = quantize_program_for(q, w->in, err);
    if (!p || open_tile(q, p, k, err)) return err->code;
    const int64_t begin = row * p->pitch / p->width, blocks = quantize_blocks(p, rows);
    /* a stretch begins a byte in every slot and, where rows are filled up, a row */
    int64_t most = quantize_tile_rows(p) * p->pitch / p->width / p->align * p->align;
    if (most < p->align) most = p->align;
    for (int64_t first = 0; first < blocks && !err->code; first += most) {
        const int64_t here = blocks - first < most ? blocks - first : most;
        zero_temps(q, p, k, here);
        load_tile(p, k, w, values, rows, first, here);
        run_tile(q, p, k, &p->quantize, w, begin + first, here, err);
    }
    return err->code;
}

static int read_tile(quantize *q, quantize_program *p, kernels *k, const weight *w, int64_t row, int64_t count,
                     void *to, graft_error *err) {
    const int64_t wide = dtype_bytes(k->real), begin = row * p->pitch, end = (row + count) * p->pitch;
    const int64_t first = begin / p->width / p->align * p->align, last = (end + p->width - 1) / p->width;
    if (run_tile(q, p, k, &p->dequantize, w, first, last - first, err)) return err->code;
    copy_columns(k, (columns){to, k->real, w->in},
                 (columns){(char *)p->w + (begin - first * p->width) * wide, k->real, p->pitch}, count, w->in, 0);
    return GRAFT_OK;
}

int quantize_rows_by_formulas(quantize *q, kernels *k, const weight *w, int64_t first, int64_t count, void *to,
                              graft_error *err) {
    quantize_program *p = quantize_program_for(q, w->in, err);
    if (!p || open_tile(q, p, k, err)) return err->code;
    const int64_t most = quantize_tile_rows(p), row = w->in * dtype_bytes(k->real);
    for (int64_t r = 0; r < count && !err->code; r += most)
        read_tile(q, p, k, w, first + r, count - r < most ? count - r : most, (char *)to + r * row, err);
    return err->code;
}

/* Everything that can fail has been tried when the weight was packed. */
void quantize_custom_rows(const weight_custom *c, kernels *k, int64_t first, int64_t count, void *to) {
    const quantize_custom *own = (const quantize_custom *)(const void *)c;
    const weight w = {.out = own->out, .in = own->in, .layout = WEIGHT_CUSTOM, .custom = c};
    graft_error err = {0};
    if (quantize_rows_by_formulas(own->q, k, &w, first, count, to, &err)) {
        fprintf(stderr, "error: %s\n", err.text);
        _exit(1);
    }
}
