/* aligned — see aligned.h. */
#include "text/aligned.h"
#include "base/memory.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

span view_span(const view *v, int64_t begin, int64_t end) {
    if (v->from) return (span){v->from[begin].begin, v->from[end - 1].end};
    while (utf8_continues(v->bytes[begin]))
        begin--;
    while (end < v->length && utf8_continues(v->bytes[end]))
        end++;
    return (span){v->origin + (int32_t)begin, v->origin + (int32_t)end};
}

view view_part(const view *v, int64_t begin, int64_t end) {
    const int32_t origin = !v->from ? v->origin + (int32_t)begin : begin < end ? v->from[begin].begin : v->origin;
    return (view){v->bytes + begin, v->from ? v->from + begin : NULL, end - begin, origin};
}

static void reserve(aligned *a, int64_t more) {
    if (a->length + more <= a->capacity) return;
    a->capacity = 2 * (a->length + more) + 64;
    a->bytes = mem_grow(a->bytes, (size_t)a->capacity, 1);
    a->from = mem_grow(a->from, (size_t)a->capacity, sizeof *a->from);
}

void aligned_add(aligned *a, const char *bytes, int64_t length, span from) {
    reserve(a, length);
    if (length) memcpy(a->bytes + a->length, bytes, (size_t)length);
    for (int64_t i = 0; i < length; i++)
        a->from[a->length + i] = from;
    a->length += length;
}

void aligned_copy(aligned *a, const view *v, int64_t begin, int64_t end) {
    const int64_t length = end - begin;
    if (length <= 0) return;
    reserve(a, length);
    memcpy(a->bytes + a->length, v->bytes + begin, (size_t)length);
    span *const to = a->from + a->length;
    if (v->from) {
        memcpy(to, v->from + begin, (size_t)length * sizeof *to);
    } else {
        for (int64_t i = 0; i < length;) {
            const int size = utf8_size(v->bytes[begin + i]);
            const int32_t at = v->origin + (int32_t)(begin + i);
            for (int k = 0; k < size; k++, i++)
                to[i] = (span){at, at + size};
        }
    }
    a->length += length;
}

view aligned_view(const aligned *a, int32_t origin) {
    return (view){a->bytes ? a->bytes : "", a->from, a->length, origin};
}

void aligned_free(aligned *a) {
    free(a->bytes);
    free(a->from);
    *a = (aligned){0};
}

void pieces_add(pieces *p, int64_t begin, int64_t end) {
    mem_reserve(p->items, p->count, p->capacity);
    p->items[p->count++] = (piece){begin, end};
}
