/* safetensors-type — the element types of the format and the sizes that follow from them. */
#include "formats/safetensors-set.h"
#include <string.h>

/* In the order of the reference's enum, which decides where its writer puts a tensor. */
static const struct {
    const char *name;
    int bits;
} types[] = {
    {"BOOL",        8 },
    {"F4",          4 },
    {"F6_E2M3",     6 },
    {"F6_E3M2",     6 },
    {"U8",          8 },
    {"I8",          8 },
    {"F8_E5M2",     8 },
    {"F8_E4M3",     8 },
    {"F8_E8M0",     8 },
    {"F8_E4M3FNUZ", 8 },
    {"F8_E5M2FNUZ", 8 },
    {"I16",         16},
    {"U16",         16},
    {"F16",         16},
    {"BF16",        16},
    {"I32",         32},
    {"U32",         32},
    {"F32",         32},
    {"C64",         64},
    {"F64",         64},
    {"I64",         64},
    {"U64",         64},
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

int safetensors_type_order(const char *type) {
    for (int i = 0; i < TYPE_COUNT; i++)
        if (strcmp(type, types[i].name) == 0) return i;
    return -1;
}

int safetensors_type_bits(int order) {
    return types[order].bits;
}

const char *safetensors_type_name(int order) {
    return types[order].name;
}

int safetensors_size(const int64_t *shape, int rank, int bits, int64_t *count, int64_t *bytes) {
    int64_t n = 1, all;
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n)) return 0;
    if (__builtin_mul_overflow(n, (int64_t)bits, &all) || all % 8 != 0) return 0;
    *count = n, *bytes = all / 8;
    return 1;
}

char *tensor_describe(const tensor_info *info) {
    strbuf text = {0};
    strbuf_printf(&text, "%s [", info->type);
    for (int i = 0; i < info->rank; i++)
        strbuf_printf(&text, "%s%lld", i ? ", " : "", (long long)info->shape[i]);
    strbuf_puts(&text, "]");
    return text.text;
}
