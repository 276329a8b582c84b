/* vector — the widest vectors of the instruction set this file is compiled for, and how numbers get in and out of them.
 * Every file of this folder is compiled once per instruction set (kernels/CMakeLists.txt) with CPU_ISA = avx2, avx512 or
 * avx512bf16; NAME(x) gives its symbols their suffix. All loads and stores are unaligned.
 * bf16 stores round to nearest, ties to even, as base/dtype.h does: same bits, except that a NaN may keep other ones and that
 * the bf16 instruction of avx512bf16 makes 0 of a subnormal. */
#ifndef GRAFT_CPU_VECTOR_H
#define GRAFT_CPU_VECTOR_H
#include "base/dtype.h"
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define NAME_OF(x, isa) x##_##isa
#define NAME_IN(x, isa) NAME_OF(x, isa)
#define NAME(x)         NAME_IN(x, CPU_ISA)
#define INLINE          static inline __attribute__((always_inline))
#if defined(__clang__)
#    define UNROLL _Pragma("clang loop unroll(full)")
#else
#    define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif

#if !defined(CPU_PANEL_VECTORS)
#    define CPU_PANEL_VECTORS 3
#endif
enum { PANEL = CPU_PANEL_VECTORS * LANES /* columns of packed B that one strip of A meets at a time */ };

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

INLINE floats all(float v) {
    return v - (floats){0};
}

INLINE floats load_floats(const void *from) {
    floats v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store_floats(void *to, floats v) {
    memcpy(to, &v, sizeof v);
}

/* a·b + c, rounded once. */
INLINE floats fused(floats a, floats b, floats c) {
#if defined(__AVX512F__)
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return (floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
}

INLINE floats largest(floats a, floats b) { /* b where one is NaN */
#if defined(__AVX512F__)
    return (floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return (floats)_mm256_max_ps((__m256)a, (__m256)b);
#endif
}

INLINE floats smallest(floats a, floats b) { /* b where one is NaN */
#if defined(__AVX512F__)
    return (floats)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return (floats)_mm256_min_ps((__m256)a, (__m256)b);
#endif
}

INLINE floats select_floats(ints where, floats yes, floats no) { /* where: all bits of a lane or none */
    return (floats)((where & (ints)yes) | (~where & (ints)no));
}

INLINE floats nearest_whole(floats v) { /* ties to even */
#if defined(__AVX512F__)
    return (floats)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (floats)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
}

INLINE floats root(floats v) {
#if defined(__AVX512F__)
    return (floats)_mm512_sqrt_ps((__m512)v);
#else
    return (floats)_mm256_sqrt_ps((__m256)v);
#endif
}

INLINE floats magnitude(floats v) {
    return (floats)((ints)v & 0x7fffffff);
}

/* The lanes added (largest) in a fixed tree. */
INLINE float lanes_sum(floats v) {
    float lane[LANES];
    store_floats(lane, v);
    for (int step = LANES / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            lane[i] += lane[i + step];
    return lane[0];
}

INLINE float lanes_largest(floats v) {
    float lane[LANES];
    store_floats(lane, v);
    for (int step = LANES / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            lane[i] = lane[i] > lane[i + step] ? lane[i] : lane[i + step];
    return lane[0];
}

INLINE floats widen_bf16(halves h) {
#if defined(__AVX512F__)
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
#endif
}

/* Rounds in integers: exact for subnormals too. */
INLINE halves round_bf16(floats v) {
    const words bits = (words)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const words nan = (words)((bits & 0x7fffffff) > 0x7f800000), quiet = bits >> 16 | 0x40;
    const words kept = (nan & quiet) | (~nan & rounded);
#if defined(__AVX512F__)
    return (halves)_mm512_cvtepi32_epi16((__m512i)kept);
#else
    const __m256i packed = _mm256_packus_epi32((__m256i)kept, _mm256_setzero_si256());
    return (halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#endif
}

/* The same by the instruction, where there is one. */
INLINE halves narrow_bf16(floats v) {
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)v);
#else
    return round_bf16(v);
#endif
}

INLINE floats widen_f16(halves h) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtph_ps((__m256i)h);
#else
    return (floats)_mm256_cvtph_ps((__m128i)h);
#endif
}

INLINE halves narrow_f16(floats v) {
#if defined(__AVX512F__)
    return (halves)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (halves)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
}

INLINE halves load_halves(const void *from) {
    halves v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store_halves(void *to, halves v) {
    memcpy(to, &v, sizeof v);
}

/* Where element i of an array of `type` (2 or 4 bytes) lies. */
INLINE const void *place(const void *data, dtype type, int64_t i) {
    return (const char *)data + i * (type == F32 ? 4 : 2);
}

INLINE void *place_out(void *data, dtype type, int64_t i) {
    return (char *)data + i * (type == F32 ? 4 : 2);
}

/* LANES elements from element i of an F32, BF16 or F16 array. `type` is best a constant. */
INLINE floats load(const void *data, dtype type, int64_t i) {
    const void *at = place(data, type, i);
    return type == F32 ? load_floats(at) : type == BF16 ? widen_bf16(load_halves(at)) : widen_f16(load_halves(at));
}

INLINE void store(void *data, dtype type, int64_t i, floats v) {
    void *at = place_out(data, type, i);
    if (type == F32)
        store_floats(at, v);
    else
        store_halves(at, type == BF16 ? narrow_bf16(v) : narrow_f16(v));
}

/* The same for the last n < LANES elements: the others are 0 and are not touched. */
INLINE floats load_part(const void *data, dtype type, int64_t i, int64_t n) {
    const void *at = place(data, type, i);
#if defined(__AVX512F__)
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (type == F32) return (floats)_mm512_maskz_loadu_ps(mask, at);
    const halves h = (halves)_mm256_maskz_loadu_epi16(mask, at);
#else
    if (type == F32) {
        floats v = {0};
        memcpy(&v, at, (size_t)n * 4);
        return v;
    }
    halves h = {0};
    memcpy(&h, at, (size_t)n * 2);
#endif
    return type == BF16 ? widen_bf16(h) : widen_f16(h);
}

INLINE void store_part(void *data, dtype type, int64_t i, int64_t n, floats v) {
    void *at = place_out(data, type, i);
    const halves h = type == BF16 ? narrow_bf16(v) : narrow_f16(v);
#if defined(__AVX512F__)
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (type == F32)
        _mm512_mask_storeu_ps(at, mask, (__m512)v);
    else
        _mm256_mask_storeu_epi16(at, mask, (__m256i)h);
#else
    if (type == F32)
        memcpy(at, &v, (size_t)n * 4);
    else
        memcpy(at, &h, (size_t)n * 2);
#endif
}

/* Whole vectors or the last part: n elements are left. */
INLINE floats load_n(const void *data, dtype type, int64_t i, int64_t n) {
    return n >= LANES ? load(data, type, i) : load_part(data, type, i, n);
}

INLINE void store_n(void *data, dtype type, int64_t i, int64_t n, floats v) {
    if (n >= LANES)
        store(data, type, i, v);
    else
        store_part(data, type, i, n, v);
}

/* v with the lanes from n on made `fill`. */
INLINE floats first_lanes(floats v, int64_t n, float fill) {
    if (n >= LANES) return v;
    float lane[LANES];
    store_floats(lane, v);
    for (int64_t i = n; i < LANES; i++)
        lane[i] = fill;
    return load_floats(lane);
}

#endif
