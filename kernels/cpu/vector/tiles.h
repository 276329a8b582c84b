/* tiles — the tile registers of AMX by name, so that a test can put plain C in their place (TILES_EMULATED).
 * A tile holds 16 rows of 64 bytes: 16 x 16 f32, or 16 x 32 bf16. Source: Intel 64 and IA-32 SDM volume 1, chapter 18. */
#ifndef GRAFT_CPU_TILES_H
#define GRAFT_CPU_TILES_H
#include <stdint.h>

enum { TILE = 16 /* rows, and words of a row */ };

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#if defined(TILES_EMULATED)
#    include "amx-emulated.h"
#else
#    include <immintrin.h>
#    define tile_configure(config)           _tile_loadconfig(config)
#    define tile_release()                   _tile_release()
#    define tile_zero(t)                     _tile_zero(t)
#    define tile_load(t, from, stride_bytes) _tile_loadd(t, from, stride_bytes)
#    define tile_store(t, to, stride_bytes)  _tile_stored(t, to, stride_bytes)
#    define tile_dot(sum, a, b)              _tile_dpbf16ps(sum, a, b) /* sum[i,j] += Σ_p a[i,2p]·b[p,2j] + a[i,2p+1]·b[p,2j+1] */
#endif

#endif
