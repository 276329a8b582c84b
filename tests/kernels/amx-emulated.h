/* amx-emulated — the tile registers in plain C, in place of those of vector/tiles.h: what tile configuration, loads, stores and
 * the bf16 product do by the manual, with its errors (a tile used before a configuration, a row past it) as assertions. */
#ifndef GRAFT_TESTS_AMX_EMULATED_H
#define GRAFT_TESTS_AMX_EMULATED_H
#include "base/dtype.h"
#include <assert.h>
#include <string.h>

typedef struct {
    int configured;
    unsigned char tile[8][16][64];
} tile_registers;

static _Thread_local tile_registers tiles;

static inline void tile_configure(const tile_config *c) {
    assert(sizeof *c == 64 && c->palette == 1 && c->start_row == 0);
    for (int t = 0; t < 8; t++)
        assert(c->rows[t] == 16 && c->row_bytes[t] == 64);
    for (int t = 8; t < 16; t++)
        assert(c->rows[t] == 0 && c->row_bytes[t] == 0);
    memset(&tiles, 0, sizeof tiles);
    tiles.configured = 1;
}

static inline void tile_release(void) {
    tiles.configured = 0;
}

static inline void tile_zero(int t) {
    assert(tiles.configured);
    memset(tiles.tile[t], 0, sizeof tiles.tile[t]);
}

static inline void tile_load(int t, const void *from, int64_t stride_bytes) {
    assert(tiles.configured);
    for (int i = 0; i < 16; i++)
        memcpy(tiles.tile[t][i], (const char *)from + i * stride_bytes, 64);
}

static inline void tile_store(int t, void *to, int64_t stride_bytes) {
    assert(tiles.configured);
    for (int i = 0; i < 16; i++)
        memcpy((char *)to + i * stride_bytes, tiles.tile[t][i], 64);
}

static inline void tile_dot(int sum, int a, int b) {
    assert(tiles.configured && sum != a && sum != b && a != b);
    for (int i = 0; i < 16; i++) {
        uint16_t row[32], column[32];
        float s[16];
        memcpy(row, tiles.tile[a][i], 64);
        memcpy(s, tiles.tile[sum][i], 64);
        for (int p = 0; p < 16; p++) {
            memcpy(column, tiles.tile[b][p], 64);
            for (int j = 0; j < 16; j++) {
                s[j] += bf16_to_f32(row[2 * p]) * bf16_to_f32(column[2 * j]);
                s[j] += bf16_to_f32(row[2 * p + 1]) * bf16_to_f32(column[2 * j + 1]);
            }
        }
        memcpy(tiles.tile[sum][i], s, 64);
    }
}

#endif
