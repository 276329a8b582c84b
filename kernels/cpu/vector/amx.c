/* amx — products of bf16 in tiles: 32 x 32 sums in four tile registers, two of A and two of B. B's panels (32 columns, pairs of
 * k woven) and A's rows are read as the other instruction sets read them; what a tile does not fill (k past the last 32, rows
 * past the last 16, F32 runs) is multiplied by multiply.c on the same sums.
 * Equals multiply.c but for the order in which a sum adds up. A thread configures its tiles for one part of the work. */
#include "kernels/cpu/vector/step.h"
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/tiles.h"

enum { STRIP = 2 * TILE, VECTOR_STRIP = LANES / 2, PAIR_BYTES = 4, ROW_BYTES = TILE * PAIR_BYTES };

/* Registers 0 to 3: sums; 4 and 5: A; 6 and 7: B. */
static const tile_config config = {
    .palette = 1,
    .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES},
    .rows = {TILE,      TILE,      TILE,      TILE,      TILE,      TILE,      TILE,      TILE     },
};

static void begin(void) {
    tile_configure(&config);
}

static void end(void) {
    tile_release();
}

/* A run without its first `steps` steps and `row` rows; width: words of a step of the panel. */
INLINE multiply_run run_after(const multiply_run *r, int64_t row, int64_t steps, int64_t width) {
    const int64_t bytes = r->type == BF16 ? 2 : 4;
    multiply_run rest = *r;
    rest.a = (const char *)r->a + (row * r->row + steps * r->next) * bytes;
    rest.b = (const char *)r->b + steps * width * PAIR_BYTES;
    rest.steps -= steps;
    return rest;
}

INLINE void dot_run(const multiply_run *r, const int tall, const int wide, int64_t width) {
    const int64_t a_bytes = r->row * 2, b_bytes = width * PAIR_BYTES;
    const char *a = r->a, *b = r->b;
    for (int64_t s = 0; s + TILE <= r->steps; s += TILE, a += ROW_BYTES, b += TILE * b_bytes) {
        tile_load(4, a, a_bytes);
        tile_load(6, b, b_bytes);
        tile_dot(0, 4, 6);
        if (wide) {
            tile_load(7, b + ROW_BYTES, b_bytes);
            tile_dot(1, 4, 7);
        }
        if (tall) {
            tile_load(5, a + TILE * a_bytes, a_bytes);
            tile_dot(2, 5, 6);
        }
        if (tall && wide) tile_dot(3, 5, 7);
    }
}

/* 16 or 32 rows (tall) and columns (wide), all whole chunks of k. */
INLINE void tile_block(const multiply_run *runs, int count, const int tall, const int wide, int64_t width, float *c,
                       int64_t c_row, int add) {
    const int64_t bytes = c_row * (int64_t)sizeof(float);
    float *const below = c + TILE * c_row;
    if (add) {
        tile_load(0, c, bytes);
        if (wide) tile_load(1, c + TILE, bytes);
        if (tall) tile_load(2, below, bytes);
        if (tall && wide) tile_load(3, below + TILE, bytes);
    } else {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
    }
    for (int u = 0; u < count; u++)
        if (runs[u].type == BF16) dot_run(&runs[u], tall, wide, width);
    tile_store(0, c, bytes);
    if (wide) tile_store(1, c + TILE, bytes);
    if (tall) tile_store(2, below, bytes);
    if (tall && wide) tile_store(3, below + TILE, bytes);
}

/* What the tiles left of their runs, and all of the rows they did not take. */
static void vector_rows(const multiply_run *runs, int count, int64_t from, int64_t rows, int whole_runs,
                        int64_t columns, int64_t width, float *c, int64_t c_row, int add) {
    for (int64_t i = from; i < from + rows; i += VECTOR_STRIP) {
        const int64_t here = from + rows - i < VECTOR_STRIP ? from + rows - i : VECTOR_STRIP;
        multiply_run rest[MULTIPLY_RUNS];
        int left = 0;
        for (int u = 0; u < count; u++) {
            const int64_t done = runs[u].type == BF16 && !whole_runs ? runs[u].steps / TILE * TILE : 0;
            if (runs[u].steps > done) rest[left++] = run_after(&runs[u], i, done, width);
        }
        if (left || (whole_runs && !add)) multiply_avx512bf16(rest, left, here, columns, c + i * c_row, c_row, add);
    }
}

static void multiply_tiles(const multiply_run *runs, int count, int64_t rows, int64_t columns, float *c, int64_t c_row,
                           int add) {
    const int64_t width = (columns + LANES - 1) / LANES * LANES, tiled = rows / TILE * TILE;
    const int wide = width > TILE;
    if (tiled == STRIP)
        wide ? tile_block(runs, count, 1, 1, width, c, c_row, add)
             : tile_block(runs, count, 1, 0, width, c, c_row, add);
    else if (tiled == TILE)
        wide ? tile_block(runs, count, 0, 1, width, c, c_row, add)
             : tile_block(runs, count, 0, 0, width, c, c_row, add);
    if (tiled) vector_rows(runs, count, 0, tiled, 0, columns, width, c, c_row, 1);
    if (rows > tiled) vector_rows(runs, count, tiled, rows - tiled, 1, columns, width, c, c_row, add);
}

/* Rows of A that lie side by side, turned into rows of steps: a tile loads rows only. */
INLINE void turn_rows(uint32_t *to, dtype type, const void *from, dtype from_type, int64_t down, int64_t k,
                      int64_t rows) {
    const int64_t deep = type == BF16 ? 2 : 1, steps = (k + deep - 1) / deep;
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t s = 0; s < steps; s += LANES) {
            const int64_t left = rows - i, count = steps - s < LANES ? steps - s : LANES;
            words r[LANES];
            for (int t = 0; t < LANES; t++)
                r[t] = t < count ? step_across(type, from, from_type, (s + t) * deep * down + i, down,
                                               k - (s + t) * deep, left)
                                 : (words){0};
            transpose_words(r);
            for (int64_t t = 0; t < LANES && t < left; t++)
                memcpy(to + (i + t) * steps + s, &r[t], (size_t)count * sizeof *to);
        }
}

static void pack_rows(void *to, dtype type, const void *from, dtype from_type, int64_t down, int64_t k, int64_t rows) {
    if (type == F32 && from_type == F32)
        turn_rows(to, F32, from, F32, down, k, rows);
    else if (type == F32)
        turn_rows(to, F32, from, from_type, down, k, rows);
    else if (from_type == BF16)
        turn_rows(to, BF16, from, BF16, down, k, rows);
    else
        turn_rows(to, BF16, from, from_type, down, k, rows);
}

const multiply_functions NAME(multiply_functions) = {
    .strip = STRIP,
    .panel = PANEL,
    .lanes = LANES,
    .panels = 8,
    .bf16 = 1,
    .depth_bytes = 2048,
    .begin = begin,
    .end = end,
    .multiply = multiply_tiles,
    .pack = NAME(pack),
    .pack_rows = pack_rows,
    .finish = finish_avx512bf16,
};
