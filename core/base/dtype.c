/* dtype — names and widths of the number formats, and a table of conversions.
 *
 * Every conversion is one rounding to nearest, ties to even. Elements are loaded and stored by memcpy, so tensors may
 * stand at any byte of a file's buffer; the loops have no branch and vectorize. */
#include "base/dtype.h"
#include <assert.h>

static const struct {
    const char *name;
    int bytes;
} formats[DTYPE_COUNT] = {
    [F64] = {"F64",     8},
      [F32] = {"F32",     4},
      [BF16] = {"BF16",    2},
      [F16] = {"F16",     2},
    [I64] = {"I64",     8},
      [I32] = {"I32",     4},
      [I16] = {"I16",     2},
      [I8] = {"I8",      1},
    [U8] = {"U8",      1},
      [BOOL8] = {"BOOL",    1},
      [U16] = {"U16",     2},
      [U32] = {"U32",     4},
    [U64] = {"U64",     8},
      [F8_E4M3] = {"F8_E4M3", 1},
      [F8_E5M2] = {"F8_E5M2", 1},
};

int dtype_bytes(dtype t) {
    assert(t < DTYPE_COUNT);
    return formats[t].bytes;
}

const char *dtype_name(dtype t) {
    assert(t < DTYPE_COUNT);
    return formats[t].name;
}

int dtype_parse(const char *name, dtype *out) {
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (strcmp(name, formats[t].name) == 0) {
            *out = (dtype)t;
            return 1;
        }
    return 0;
}

int dtype_is_float(dtype t) {
    return t == F64 || t == F32 || t == BF16 || t == F16;
}

static inline uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Written with masks: behind `?:` the compiler would branch around the sums below and not vectorize. */
static inline uint32_t select_bits(int condition, uint32_t yes, uint32_t no) {
    const uint32_t mask = -(uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* The exponent is moved from bias 15 to 127. A subnormal m·2^-24 is (1 + m/2^10)·2^-14 - 2^-14, exact in f32. */
static inline float widen_f16(uint16_t h) {
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t normal = magnitude + (112u << 23);
    const uint32_t special = magnitude | 0x7f800000u; /* infinity, NaN with its payload */
    const uint32_t small = bits_of(float_of(magnitude + (113u << 23)) - 0x1p-14f);
    const uint32_t finite = select_bits(magnitude < 0x400u << 13, small, normal);
    return float_of(sign | select_bits(magnitude >= 0x7c00u << 13, special, finite));
}

/* Adding 0.5 to a value below 2^-14 lets the adder round it to multiples of 2^-24, the subnormals of f16. */
static inline uint16_t narrow_f16(float f) {
    const uint32_t sign = bits_of(f) & 0x80000000u, magnitude = bits_of(f) ^ sign;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    const uint32_t small = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    const uint32_t special = select_bits(magnitude > 0x7f800000u, 0x7e00, 0x7c00);
    const uint32_t finite = select_bits(magnitude < 113u << 23, small, normal);
    return (uint16_t)(sign >> 16 | select_bits(magnitude >= 143u << 23, special, finite));
}

float f16_to_f32(uint16_t h) {
    return widen_f16(h);
}

uint16_t f32_to_f16(float f) {
    return narrow_f16(f);
}

/* f64 to f32 rounded to odd: cut towards zero, the last bit set when something was lost. Rounding that once more to a
 * 16-bit format gives what one rounding of the f64 would (f32 has more than two bits to spare). */
static inline float narrow_to_odd(double d) {
    const float f = (float)d;
    const double back = (double)f;
    if (back == d || d != d) return f;
    const int too_far = back > 0 || (back == 0 && d > 0) ? back > d : back < d;
    return float_of((bits_of(f) - (uint32_t)too_far) | 1);
}

static inline int32_t clamp_i32(int64_t x) {
    return (int32_t)(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x);
}
static inline int64_t clamp_i64(uint64_t x) {
    return (int64_t)(x > INT64_MAX ? INT64_MAX : x);
}

#define CONVERSION(name, source, target, value)                                                                        \
    static void name(void *dst, const void *src, int64_t n) {                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            source x;                                                                                                  \
            memcpy(&x, (const char *)src + i * (int64_t)sizeof x, sizeof x);                                           \
            const target y = value;                                                                                    \
            memcpy((char *)dst + i * (int64_t)sizeof y, &y, sizeof y);                                                 \
        }                                                                                                              \
    }
CONVERSION(f64_f32, double, float, (float)x)
CONVERSION(f64_bf16, double, uint16_t, f32_to_bf16(narrow_to_odd(x)))
CONVERSION(f64_f16, double, uint16_t, narrow_f16(narrow_to_odd(x)))
CONVERSION(f32_f64, float, double, (double)x)
CONVERSION(f32_bf16, float, uint16_t, f32_to_bf16(x))
CONVERSION(f32_f16, float, uint16_t, narrow_f16(x))
CONVERSION(bf16_f64, uint16_t, double, (double)bf16_to_f32(x))
CONVERSION(bf16_f32, uint16_t, float, bf16_to_f32(x))
CONVERSION(bf16_f16, uint16_t, uint16_t, narrow_f16(bf16_to_f32(x)))
CONVERSION(f16_f64, uint16_t, double, (double)widen_f16(x))
CONVERSION(f16_f32, uint16_t, float, widen_f16(x))
CONVERSION(f16_bf16, uint16_t, uint16_t, f32_to_bf16(widen_f16(x)))

/* Integers that do not fit are clamped: an id out of range stays out of range. */
#define FROM_INTEGER(name, source, as_i32, as_i64)                                                                     \
    CONVERSION(name##_f32, source, float, (float)x)                                                                    \
    CONVERSION(name##_f64, source, double, (double)x)                                                                  \
    CONVERSION(name##_i32, source, int32_t, as_i32)                                                                    \
    CONVERSION(name##_i64, source, int64_t, as_i64)
FROM_INTEGER(i64, int64_t, clamp_i32(x), x)
FROM_INTEGER(i32, int32_t, x, x)
FROM_INTEGER(i16, int16_t, x, x)
FROM_INTEGER(i8, int8_t, x, x)
FROM_INTEGER(u8, uint8_t, x, x)
FROM_INTEGER(u16, uint16_t, x, x)
FROM_INTEGER(u32, uint32_t, clamp_i32(x), x)
FROM_INTEGER(u64, uint64_t, clamp_i32(clamp_i64(x)), clamp_i64(x))

typedef void conversion(void *dst, const void *src, int64_t n);
#define INTEGER_ROW(name)                                                                                              \
    { [F32] = name##_f32, [F64] = name##_f64, [I32] = name##_i32, [I64] = name##_i64 }
static conversion *const conversions[DTYPE_COUNT][DTYPE_COUNT] = {
    [F64] = {[F32] = f64_f32,  [BF16] = f64_bf16, [F16] = f64_f16  },
    [F32] = {[F64] = f32_f64,  [BF16] = f32_bf16, [F16] = f32_f16  },
    [BF16] = {[F64] = bf16_f64, [F32] = bf16_f32,  [F16] = bf16_f16 },
    [F16] = {[F64] = f16_f64,  [F32] = f16_f32,   [BF16] = f16_bf16},
    [I64] = INTEGER_ROW(i64),
    [I32] = INTEGER_ROW(i32),
    [I16] = INTEGER_ROW(i16),
    [I8] = INTEGER_ROW(i8),
    [U8] = INTEGER_ROW(u8),
    [BOOL8] = INTEGER_ROW(u8),
    [U16] = INTEGER_ROW(u16),
    [U32] = INTEGER_ROW(u32),
    [U64] = INTEGER_ROW(u64),
};

void dtype_convert(void *dst, dtype dst_type, const void *src, dtype src_type, int64_t n) {
    if (n <= 0) return;
    if (dst_type == src_type) {
        memmove(dst, src, (size_t)n * (size_t)dtype_bytes(src_type));
        return;
    }
    conversion *const convert = conversions[src_type][dst_type];
    assert(convert && "no conversion between these two types");
    convert(dst, src, n);
}
