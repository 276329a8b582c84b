/* text-kit — see text-kit.h. */
#include "text-kit.h"
#include "base/file.h"
#include "config/option.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { LIBRARIES = 2 };

static char root[] = "/tmp/graft-text-XXXXXX";
static plugin_library *open_libraries[LIBRARIES];
static int open_count;
static arena memory;

void kit_begin(void) {
    cr_assert_not_null(mkdtemp(root));
}

void kit_end(void) {
    graft_error err = {0};
    for (int i = 0; i < open_count; i++)
        plugin_close(open_libraries[i]);
    arena_free(&memory);
    file_remove_tree(root, &err);
}

const char *kit_path(const char *name) {
    return arena_format(&memory, "%s/%s", root, name);
}

const char *kit_file(const char *name, const void *bytes, int64_t size) {
    const char *const path = kit_path(name);
    const size_t count = size < 0 ? strlen(bytes) : (size_t)size;
    remove(path); /* a file cut to nothing and written again is flushed at once by some file systems */
    FILE *const to = fopen(path, "wb");
    cr_assert(to && fwrite(bytes, 1, count, to) == count && fclose(to) == 0);
    return path;
}

const char *kit_gzip(const char *name, const void *bytes, int64_t size) {
    const char *const path = kit_path(name);
    const gzFile to = gzopen(path, "wb");
    cr_assert(size <= 0 || gzwrite(to, bytes, (unsigned)size) == (int)size);
    cr_assert_eq(gzclose(to), Z_OK);
    return path;
}

static const plugin_component *open_plugin(const char *name) {
    graft_error err = {0};
    for (int i = 0; i < open_count; i++)
        if (strcmp(open_libraries[i]->components[0].name, name) == 0) return &open_libraries[i]->components[0];
    char *const file = mem_format("%s/lib/graft/%s.so", BINARY_DIR, name);
    cr_assert_lt(open_count, LIBRARIES);
    cr_assert_eq(plugin_open(file, &open_libraries[open_count], &err), 0, "%s", err.text);
    free(file);
    return &open_libraries[open_count++]->components[0];
}

kit_loader kit_open_loader(const char *name, const char *options) {
    graft_error err = {0};
    const plugin_component *const c = open_plugin(name);
    kit_loader l = {c, arena_new(&memory, (size_t)c->config_size + 1, 1)};
    const option_set set = {c->options, c->option_count, l.config,
                            arena_new(&memory, (size_t)c->option_count + 1, sizeof(option_origin))};
    option_defaults(&set);
    char *const copy = arena_copy(&memory, options, strlen(options));
    for (char *at = copy, *next; at && *at; at = next) {
        next = strstr(at, "; ");
        if (next) *next = '\0', next += 2;
        char *const value = strchr(at, '=');
        cr_assert_not_null(value);
        *value = '\0';
        const int row = option_find(c->options, c->option_count, at);
        cr_assert_geq(row, 0, "%s has no option %s", name, at);
        cr_assert_eq(option_parse(&c->options[row], value + 1, l.config, &memory, &err), 0, "%s", err.text);
    }
    return l;
}

/* Adds the text, or the error, as one line without the folder. */
static void add_line(strbuf *out, const char *text, size_t length) {
    const size_t folder = strlen(root) + 1;
    for (size_t i = 0; i < length; i++) {
        if (length - i > folder && strncmp(text + i, root, folder - 1) == 0) {
            i += folder - 1;
            continue;
        }
        if (text[i] == '\n')
            strbuf_puts(out, "\\n");
        else
            strbuf_add(out, text + i, 1);
    }
}

char *kit_records(const char *loader, const char *options, const char *path) {
    const kit_loader l = kit_open_loader(loader, options);
    source *s = NULL;
    graft_error err = {0};
    text_record r = {0};
    strbuf out = {0};
    strbuf_puts(&out, "");
    if (source_open(&l.component->loader, l.config, path, &s, &err) == 0)
        for (int64_t i = 0; i < source_count(s); i++) {
            if (source_get(s, i, &r, &err)) break;
            if (i > 0) strbuf_puts(&out, "\n");
            for (int64_t p = 0; p < r.count; p++) {
                strbuf_printf(&out, "%c(", "TPCM"[r.parts[p].part]);
                add_line(&out, r.text.text + r.parts[p].begin, (size_t)(r.parts[p].end - r.parts[p].begin));
                strbuf_puts(&out, ")");
            }
        }
    if (err.code) {
        strbuf_puts(&out, out.length ? "\n! " : "! ");
        add_line(&out, err.text, strlen(err.text));
    }
    record_free(&r);
    source_close(s);
    return out.text;
}

void kit_expect_records(const char *loader, const char *options, const char *path, const char *wanted) {
    char *const got = kit_records(loader, options, path);
    cr_expect_str_eq(got, wanted, "got\n%s\nwanted\n%s", got, wanted);
    free(got);
}
