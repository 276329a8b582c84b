/* memory — host memory: checked allocation, arenas, growing text, a string map.
 *
 * Sizes that come from a file are bounded by its reader before they get here. When the system has no memory left these
 * functions print how much was wanted and end the program with exit code 1 (checkpoints on disk are atomic): no caller
 * tests for NULL. Threads: objects are not shared between threads without a lock of the owner's. */
#ifndef GRAFT_BASE_MEMORY_H
#define GRAFT_BASE_MEMORY_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void *mem_new(size_t count, size_t size);             /* zeroed; owned by the caller, released with free()       */
void *mem_grow(void *old, size_t count, size_t size); /* realloc; new bytes are not zeroed                       */
char *mem_copy_text(const char *text);                /* strdup                                                  */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* owned by the caller           */

/* Grows `array` (element type known from the pointer) so that index `count` is valid; capacity doubles. */
#define mem_reserve(array, count, capacity)                                                                            \
    ((count) < (capacity) ? (void)0                                                                                    \
                          : (void)((capacity) = (capacity) ? 2 * (capacity) : 8,                                       \
                                   (array) = mem_grow((array), (size_t)(capacity), sizeof *(array))))

/* arena: many small things with one lifetime. {0} is empty and valid. */
typedef struct {
    struct arena_chunk *chunks;
} arena;
void *arena_new(arena *a, size_t count, size_t size);        /* zeroed, aligned to 16, owned by the arena */
char *arena_copy(arena *a, const char *text, size_t length); /* adds the terminating NUL */
char *arena_format(arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_adopt(arena *a, arena *from); /* takes over all that `from` owns, which becomes {0} */
void arena_free(arena *a);               /* releases everything and leaves {0} */

/* strbuf: growing text. {0} is empty and valid; `text` is NULL only while nothing was ever added. */
typedef struct {
    char *text;
    size_t length, capacity;
} strbuf;
void strbuf_add(strbuf *b, const char *bytes, size_t length);
void strbuf_puts(strbuf *b, const char *text);
void strbuf_printf(strbuf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_free(strbuf *b);

/* strmap: byte strings to int64. {0} is empty and valid; keys are copied. */
typedef struct {
    struct strmap_slot *slots;
    size_t count, capacity;
    arena keys;
} strmap;
void strmap_put(strmap *m, const char *key, size_t length, int64_t value);       /* replaces */
int strmap_get(const strmap *m, const char *key, size_t length, int64_t *value); /* 1 when found */
void strmap_free(strmap *m);

#endif
