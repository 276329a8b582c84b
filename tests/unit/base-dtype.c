/* Conversions between number formats against torch's (tests/golden/data/numeric) and against their own definition. */
#include "base/digest.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define DATA SOURCE_DIR "/tests/golden/data/numeric/"
static const double infinite = INFINITY;

static double value_of_f16(uint16_t h) { /* straight from the definition of binary16 */
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double magnitude = exponent == 31  ? (fraction ? NAN : infinite)
                             : exponent == 0 ? ldexp(fraction, -24)
                                             : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

static double value_of_bf16(uint16_t h) {
    return (double)bf16_to_f32(h);
}

/* The bytes of one tensor of a small safetensors file. */
static const char *tensor(const char *file, const json_t *header, const char *name, int64_t *count) {
    const json_t *const entry = json_object_get(header, name);
    cr_assert_not_null(entry, "%s is not in the file", name);
    uint64_t header_length;
    memcpy(&header_length, file, 8);
    *count = json_integer_value(json_array_get(json_object_get(entry, "shape"), 0));
    return file + 8 + header_length + json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
}

static int is_nan16(uint16_t h, int exponent_mask) {
    return (h & 0x7fff) > exponent_mask;
}

Test(dtype, f32_rounds_to_bf16_and_f16_as_torch_does) {
    graft_error err = {0};
    char *file;
    int64_t size, n;
    json_t *header;
    cr_assert_eq(file_read(DATA "rounding.safetensors", 1 << 20, &file, &size, &err), 0, "%s", err.text);
    uint64_t header_length;
    memcpy(&header_length, file, 8);
    cr_assert_eq(json_read_text(file + 8, header_length, "header", 0, &header, &err), 0, "%s", err.text);
    const char *const from = tensor(file, header, "f32", &n);
    const struct {
        const char *name;
        dtype type;
        int exponent;
    } cases[] = {
        {"bf16", BF16, 0x7f80},
        {"f16",  F16,  0x7c00}
    };
    for (int c = 0; c < 2; c++) {
        const char *const want = tensor(file, header, cases[c].name, &n);
        uint16_t *const got = mem_new((size_t)n, 2);
        dtype_convert(got, cases[c].type, from, F32, n);
        for (int64_t i = 0; i < n; i++) {
            uint16_t w;
            uint32_t bits;
            memcpy(&w, want + 2 * i, 2);
            memcpy(&bits, from + 4 * i, 4);
            if (is_nan16(w, cases[c].exponent))
                cr_assert(is_nan16(got[i], cases[c].exponent), "%08x", bits);
            else
                cr_assert_eq(got[i], w, "%s of %08x is %04x, not %04x", cases[c].name, bits, w, got[i]);
        }
        free(got);
    }
    json_decref(header);
    free(file);
}

Test(dtype, all_65536_patterns_widen_to_their_value) {
    const struct {
        dtype type;
        double (*value)(uint16_t);
        uint32_t crc; /* of torch's f32 values, NaN as +0 */
    } cases[] = {
        {F16,  value_of_f16,  0xef9d25e2},
        {BF16, value_of_bf16, 0xb6ca4a2a}
    };
    enum { N = 65536 };
    uint16_t *const all = mem_new(N, 2), *const back = mem_new(N, 2);
    float *const wide = mem_new(N, sizeof *wide);
    double *const wider = mem_new(N, sizeof *wider);
    for (int i = 0; i < N; i++)
        all[i] = (uint16_t)i;
    for (int c = 0; c < 2; c++) {
        dtype_convert(wide, F32, all, cases[c].type, N);
        dtype_convert(wider, F64, all, cases[c].type, N);
        dtype_convert(back, cases[c].type, wide, F32, N);
        for (int i = 0; i < N; i++) {
            const double value = cases[c].value(all[i]);
            if (isnan(value)) {
                cr_assert(isnan(wide[i]) && isnan(wider[i]) && isnan(cases[c].value(back[i])));
                wide[i] = 0;
                continue;
            }
            cr_assert_eq((double)wide[i], value, "%04x", i);
            cr_assert_eq(wider[i], value);
            cr_assert_eq(back[i], all[i], "%04x came back as %04x", i, back[i]);
        }
        cr_assert_eq(digest_crc32(0, wide, N * sizeof *wide), cases[c].crc);
    }
    free(all), free(back), free(wide), free(wider);
}

/* The nearest of all finite values (ties: the even one) by walking the patterns: rounding as it is defined. */
static uint16_t nearest_pattern(double d, double (*value)(uint16_t), uint16_t largest) {
    const double magnitude = fabs(d);
    int low = 0, high = largest;
    while (low < high) { /* the greatest pattern that is not above the magnitude */
        const int middle = (low + high + 1) / 2;
        if (value((uint16_t)middle) <= magnitude)
            low = middle;
        else
            high = middle - 1;
    }
    const double below = value((uint16_t)low), step = below - value((uint16_t)(low - (low > 0)));
    const double above = low == largest ? below + step : value((uint16_t)(low + 1)); /* beyond the largest: infinity */
    const double down = magnitude - below, up = above - magnitude;
    const int rounded = down < up || (down == up && low % 2 == 0) ? low : low + 1;
    return (uint16_t)(rounded | (signbit(d) ? 0x8000 : 0));
}

Test(dtype, f64_is_rounded_once_not_twice) {
    enum { N = 200000 };
    double *const from = mem_new(N, sizeof *from);
    uint16_t *const bf16 = mem_new(N, 2), *const f16 = mem_new(N, 2);
    for (int i = 0; i < N;
         i++) { /* near the middle between two values, where a rounding to f32 on the way goes wrong */
        const uint64_t bits = philox_bits(3, 0, (uint64_t)i);
        const double middle = i % 2 ? value_of_f16(bits & 0x7bff) + value_of_f16((bits & 0x7bff) + 1)
                                    : value_of_bf16(bits & 0x7f7e) + value_of_bf16((bits & 0x7f7e) + 1);
        const int nudge = (int)(bits >> 20 & 3) - 1;
        const double x = middle / 2;
        from[i] = (nudge == 0 ? x : nudge < 0 ? nextafter(x, 0) : nudge == 1 ? nextafter(x, infinite) : x * 1.001);
        if (bits >> 40 & 1) from[i] = -from[i];
        if (!isfinite(from[i])) from[i] = 0;
    }
    dtype_convert(bf16, BF16, from, F64, N);
    dtype_convert(f16, F16, from, F64, N);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(f16[i], nearest_pattern(from[i], value_of_f16, 0x7bff), "%a became f16 %04x", from[i], f16[i]);
        cr_assert_eq(bf16[i], nearest_pattern(from[i], value_of_bf16, 0x7f7f), "%a became bf16 %04x", from[i], bf16[i]);
    }
    free(from), free(bf16), free(f16);
}

Test(dtype, f64_extremes_keep_their_kind) {
    const double from[] = {infinite, -infinite, NAN, 1e308, -1e308, 5e-324, -5e-324, -0.0, 0.0};
    enum { N = sizeof from / sizeof *from };
    const uint16_t want[2][N] = {
        {0x7c00, 0xfc00, 0, 0x7c00, 0xfc00, 0, 0x8000, 0x8000, 0},
        {0x7f80, 0xff80, 0, 0x7f80, 0xff80, 0, 0x8000, 0x8000, 0}
    };
    for (int c = 0; c < 2; c++) {
        uint16_t got[N];
        dtype_convert(got, c ? BF16 : F16, from, F64, N);
        for (int i = 0; i < N; i++)
            if (isnan(from[i]))
                cr_assert(is_nan16(got[i], c ? 0x7f80 : 0x7c00));
            else
                cr_assert_eq(got[i], want[c][i], "case %d: %04x", i, got[i]);
    }
}

Test(dtype, single_values_convert_like_rows) {
    for (uint32_t i = 0; i < 65536; i += 7) {
        const uint32_t bits = i << 16 | i;
        float f, g;
        uint16_t h;
        memcpy(&f, &bits, 4);
        dtype_convert(&h, F16, &f, F32, 1);
        cr_assert_eq(f32_to_f16(f), h);
        dtype_convert(&g, F32, &h, F16, 1);
        cr_assert(f16_to_f32(h) == g || (isnan(g) && isnan(f16_to_f32(h))));
    }
}

Test(dtype, tensors_may_stand_at_odd_addresses_and_be_converted_in_place) {
    char source[64] = {0}, target[64] = {0};
    const float values[3] = {1.5f, -2.0f, 0x1p-24f};
    memcpy(source + 1, values, sizeof values);
    dtype_convert(target + 3, F16, source + 1, F32, 3);
    float back[3];
    dtype_convert(back, F32, target + 3, F16, 3);
    cr_assert_arr_eq(back, values, sizeof values);
    uint16_t row[19];
    for (int i = 0; i < 19; i++)
        row[i] = f32_to_bf16((float)i);
    dtype_convert(row, F16, row, BF16, 19);
    for (int i = 0; i < 19; i++)
        cr_assert_eq(f16_to_f32(row[i]), (float)i);
}

Test(dtype, integers_reach_every_target_and_are_clamped_where_they_do_not_fit) {
    const int64_t wide[] = {-100, 0, 7, INT64_C(5000000005), INT64_MIN};
    int32_t narrow[5];
    dtype_convert(narrow, I32, wide, I64, 5);
    cr_assert_arr_eq(narrow, ((int32_t[]){-100, 0, 7, INT32_MAX, INT32_MIN}), sizeof narrow);
    const uint64_t huge[] = {UINT64_MAX, 1};
    int64_t clamped[2];
    float floats[2];
    dtype_convert(clamped, I64, huge, U64, 2);
    dtype_convert(floats, F32, huge, U64, 2);
    cr_assert_arr_eq(clamped, ((int64_t[]){INT64_MAX, 1}), sizeof clamped);
    cr_assert_eq(floats[0], 0x1p64f);
    static const dtype integers[] = {I64, I32, I16, I8, U8, BOOL8, U16, U32, U64}, targets[] = {F32, F64, I32, I64};
    for (size_t s = 0; s < sizeof integers / sizeof *integers; s++)
        for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
            char one[8] = {1}, out[8];
            double value;
            int64_t whole;
            dtype_convert(out, targets[t], one, integers[s], 1);
            if (dtype_is_float(targets[t])) {
                dtype_convert(&value, F64, out, targets[t], 1);
                cr_assert_eq(value, 1);
            } else {
                dtype_convert(&whole, I64, out, targets[t], 1);
                cr_assert_eq(whole, 1);
            }
        }
}

Test(dtype, names_are_those_of_safetensors) {
    for (int t = 0; t < DTYPE_COUNT; t++) {
        dtype back;
        cr_assert(dtype_parse(dtype_name((dtype)t), &back));
        cr_assert_eq((int)back, t);
        cr_assert(dtype_bytes((dtype)t) >= 1 && dtype_bytes((dtype)t) <= 8);
    }
    dtype t;
    cr_assert(dtype_parse("BOOL", &t) && t == BOOL8);
    cr_assert_not(dtype_parse("bf16", &t));
    cr_assert_not(dtype_parse("", &t));
}
