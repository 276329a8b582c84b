/* text-kit — what the tests of text data share: files in a folder of their own, loaders of the build with options, records as
 * readable text. */
#ifndef GRAFT_TESTS_TEXT_KIT_H
#define GRAFT_TESTS_TEXT_KIT_H
#include "base/memory.h"
#include "plugin/host.h"
#include "text/source.h"

void kit_begin(void); /* makes the folder; for .init and .fini of a suite */
void kit_end(void);
const char *kit_path(const char *name); /* in the folder; valid until kit_end */
/* Writes a file there and returns its path. size -1: text up to its NUL. */
const char *kit_file(const char *name, const void *bytes, int64_t size);
const char *kit_gzip(const char *name, const void *bytes, int64_t size);

typedef struct {
    const plugin_component *component;
    void *config;
} kit_loader;
/* "jsonl" or "text" with options "key=value; key=value". Valid until kit_end. */
kit_loader kit_open_loader(const char *name, const char *options);

/* All records, one a line, parts as T(text) P(prompt) C(completion) M(messages) with \n written as \\n; or "! " and the error,
 * where the folder is left out. Owned by the caller. */
char *kit_records(const char *loader, const char *options, const char *path);
void kit_expect_records(const char *loader, const char *options, const char *path, const char *wanted);

#endif
