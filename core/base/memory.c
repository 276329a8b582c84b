/* memory — checked allocation, arenas, growing text, a string map (open addressing, linear probing). */
#include "base/memory.h"
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* _exit: other threads may be at work, so destructors must not run beneath them. */
static _Noreturn void out_of_memory(size_t count, size_t size) {
    fprintf(stderr, "error: out of memory: %zu x %zu bytes were wanted\n", count, size);
    _exit(1);
}

static size_t product(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) out_of_memory(count, size);
    return bytes;
}

void *mem_new(size_t count, size_t size) {
    void *const p = count && size ? calloc(count, size) : calloc(1, 1);
    if (!p) out_of_memory(count, size);
    return p;
}

void *mem_grow(void *old, size_t count, size_t size) {
    const size_t bytes = product(count, size);
    void *const p = realloc(old, bytes ? bytes : 1);
    if (!p) out_of_memory(count, size);
    return p;
}

char *mem_copy_text(const char *text) {
    const size_t bytes = strlen(text) + 1;
    return memcpy(mem_grow(NULL, bytes, 1), text, bytes);
}

/* The length of formatted text; `args` stays usable. */
__attribute__((format(printf, 1, 0))) static size_t formatted_length(const char *format, va_list args) {
    va_list copy;
    va_copy(copy, args);
    const int length = vsnprintf(NULL, 0, format, copy);
    va_end(copy);
    return length < 0 ? 0 : (size_t)length;
}

char *mem_format(const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t bytes = formatted_length(format, args) + 1;
    char *const text = mem_new(bytes, 1);
    vsnprintf(text, bytes, format, args);
    va_end(args);
    return text;
}

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    alignas(16) unsigned char bytes[];
};

enum { CHUNK_MIN = 4096, CHUNK_MAX = 1 << 20 };

static struct arena_chunk *chunk_new(size_t size) {
    if (size > SIZE_MAX - sizeof(struct arena_chunk)) out_of_memory(size, 1);
    struct arena_chunk *const chunk = mem_new(sizeof *chunk + size, 1);
    chunk->size = size;
    return chunk;
}

void *arena_new(arena *a, size_t count, size_t size) {
    size_t bytes = product(count, size);
    if (bytes > SIZE_MAX - 15) out_of_memory(count, size);
    bytes = (bytes + 15) & ~(size_t)15;
    struct arena_chunk *head = a->chunks;
    if (head &&
        bytes > CHUNK_MAX / 4) { /* large: a chunk of its own behind the head, which stays open for small things */
        struct arena_chunk *const own = chunk_new(bytes);
        own->next = head->next, head->next = own;
        own->used = bytes;
        return own->bytes;
    }
    if (!head || bytes > head->size - head->used) {
        size_t room = head ? 2 * head->size : CHUNK_MIN;
        if (room > CHUNK_MAX) room = CHUNK_MAX;
        if (room < bytes) room = bytes;
        head = chunk_new(room);
        head->next = a->chunks;
        a->chunks = head;
    }
    void *const p = head->bytes + head->used;
    head->used += bytes;
    return p;
}

char *arena_copy(arena *a, const char *text, size_t length) {
    if (length == SIZE_MAX) out_of_memory(length, 1);
    char *const copy = arena_new(a, length + 1, 1);
    if (length) memcpy(copy, text, length);
    return copy;
}

char *arena_format(arena *a, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t bytes = formatted_length(format, args) + 1;
    char *const text = arena_new(a, bytes, 1);
    vsnprintf(text, bytes, format, args);
    va_end(args);
    return text;
}

void arena_adopt(arena *a, arena *from) {
    struct arena_chunk **end = &a->chunks; /* at the end: the open chunk of `a` stays the first */
    while (*end)
        end = &(*end)->next;
    *end = from->chunks;
    *from = (arena){0};
}
void arena_free(arena *a) {
    for (struct arena_chunk *chunk = a->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    a->chunks = NULL;
}

/* Makes room for `length` more bytes and the NUL behind them. */
static void strbuf_reserve(strbuf *b, size_t length) {
    size_t wanted;
    if (__builtin_add_overflow(b->length, length, &wanted) || wanted > SIZE_MAX / 2) out_of_memory(length, 1);
    if (wanted < b->capacity) return;
    b->capacity = wanted + wanted / 2 + 32;
    b->text = mem_grow(b->text, b->capacity, 1);
}

void strbuf_add(strbuf *b, const char *bytes, size_t length) {
    strbuf_reserve(b, length);
    if (length) memcpy(b->text + b->length, bytes, length);
    b->length += length;
    b->text[b->length] = '\0';
}

void strbuf_puts(strbuf *b, const char *text) {
    strbuf_add(b, text, strlen(text));
}

void strbuf_printf(strbuf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t length = formatted_length(format, args);
    strbuf_reserve(b, length);
    vsnprintf(b->text + b->length, length + 1, format, args);
    b->length += length;
    va_end(args);
}

void strbuf_free(strbuf *b) {
    free(b->text);
    *b = (strbuf){0};
}

struct strmap_slot {
    const char *key; /* NULL: free */
    size_t length;
    uint64_t hash;
    int64_t value;
};

/* Eight bytes at a time, multiplied by an odd constant (2^64 / golden ratio), high bits folded down. */
static uint64_t hash_of(const char *key, size_t length) {
    uint64_t hash = length * 0x9E3779B97F4A7C15u;
    while (length) {
        const size_t step = length < 8 ? length : 8;
        uint64_t word = 0;
        memcpy(&word, key, step);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
        key += step, length -= step;
    }
    return hash;
}

/* The slot that holds the key, or the free one where it belongs. */
static struct strmap_slot *find_slot(const strmap *m, const char *key, size_t length, uint64_t hash) {
    size_t i = hash & (m->capacity - 1);
    for (;; i = (i + 1) & (m->capacity - 1)) {
        struct strmap_slot *const slot = &m->slots[i];
        if (!slot->key) return slot;
        if (slot->hash == hash && slot->length == length && memcmp(slot->key, key, length) == 0) return slot;
    }
}

static void rehash(strmap *m) {
    strmap larger = {.count = m->count, .capacity = m->capacity ? 2 * m->capacity : 16, .keys = m->keys};
    larger.slots = mem_new(larger.capacity, sizeof *larger.slots);
    for (size_t i = 0; i < m->capacity; i++)
        if (m->slots[i].key) *find_slot(&larger, m->slots[i].key, m->slots[i].length, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    *m = larger;
}

void strmap_put(strmap *m, const char *key, size_t length, int64_t value) {
    if (2 * (m->count + 1) > m->capacity) rehash(m);
    const uint64_t hash = hash_of(key, length);
    struct strmap_slot *const slot = find_slot(m, key, length, hash);
    if (!slot->key) {
        *slot = (struct strmap_slot){arena_copy(&m->keys, key, length), length, hash, 0};
        m->count++;
    }
    slot->value = value;
}

int strmap_get(const strmap *m, const char *key, size_t length, int64_t *value) {
    if (m->count == 0) return 0;
    const struct strmap_slot *const slot = find_slot(m, key, length, hash_of(key, length));
    if (!slot->key) return 0;
    *value = slot->value;
    return 1;
}

void strmap_free(strmap *m) {
    free(m->slots);
    arena_free(&m->keys);
    *m = (strmap){0};
}
