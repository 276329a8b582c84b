/* dtype — number formats of tensors and their exact conversions (round to nearest, ties to even; NaN stays NaN). */
#ifndef GRAFT_BASE_DTYPE_H
#define GRAFT_BASE_DTYPE_H
#include <stdint.h>
#include <string.h>

typedef enum {
    F64 = 0,
    F32,
    BF16,
    F16,
    I64,
    I32,
    I16,
    I8,
    U8,
    BOOL8,
    U16,
    U32,
    U64,
    F8_E4M3,
    F8_E5M2,
    DTYPE_COUNT
} dtype;

int dtype_bytes(dtype t);
const char *dtype_name(dtype t);               /* as in safetensors: "F32", "BF16", "BOOL" ... */
int dtype_parse(const char *name, dtype *out); /* safetensors' name; 1 when known */
int dtype_is_float(dtype t);                   /* F64 F32 BF16 F16 */

static inline float bf16_to_f32(uint16_t h) {
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* NaN, made quiet */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);

/* Converts n elements between any two of F64 F32 BF16 F16, and from any integer type to F32, F64, I32 or I64
 * (integers that do not fit are clamped). Addresses need no alignment.
 * dst and src must not overlap unless both types have the same width and dst == src. A pair outside that list is a bug (assert). */
void dtype_convert(void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n);

#endif
