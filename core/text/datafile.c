/* datafile — opening, decompressing, checking, reading. */
#include "text/datafile.h"
#include "base/digest.h"
#include "base/memory.h"
#include "text/utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static int fail_system(graft_error *err, const char *deed, const char *path) {
    return fail(err, GRAFT_FAILED, "cannot %s %s: %s", deed, path, strerror(errno));
}

/* ---- reading ---- */

int datafile_read(const datafile *f, int64_t at, int64_t count, char *into, graft_error *err) {
    while (count > 0) {
        const ssize_t got = pread(f->fd, into, (size_t)count, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_system(err, "read", f->path);
        if (got == 0) return fail(err, GRAFT_FAILED, "%s became shorter while it is in use", f->path);
        into += got, at += got, count -= got;
    }
    return GRAFT_OK;
}

static int64_t block_at(const datafile *f, int64_t at) {
    return f->size - at < DATAFILE_BLOCK ? f->size - at : DATAFILE_BLOCK;
}

static int64_t count_lines(const char *bytes, int64_t length) {
    int64_t lines = 0;
    for (const char *end = bytes + length; (bytes = memchr(bytes, '\n', (size_t)(end - bytes))); bytes++)
        lines++;
    return lines;
}

int64_t datafile_lines(const datafile *f, int64_t from, int64_t to) {
    char *const block = mem_new(DATAFILE_BLOCK, 1);
    graft_error err = {0};
    int64_t lines = 0;
    for (int64_t count; from < to && !err.code; from += count) {
        count = to - from < DATAFILE_BLOCK ? to - from : DATAFILE_BLOCK;
        if (datafile_read(f, from, count, block, &err) == GRAFT_OK) lines += count_lines(block, count);
    }
    free(block);
    return err.code ? -1 : lines;
}

int64_t datafile_line(const datafile *f, int64_t at) {
    return datafile_lines(f, 0, at) + 1;
}

int datafile_digest(const datafile *f, char hex[65], graft_error *err) {
    char *const block = mem_new(DATAFILE_BLOCK, 1);
    sha256 sum;
    sha256_begin(&sum);
    for (int64_t at = 0; at < f->size && !err->code; at += DATAFILE_BLOCK)
        if (datafile_read(f, at, block_at(f, at), block, err) == GRAFT_OK)
            sha256_add(&sum, block, (size_t)block_at(f, at));
    sha256_end(&sum, hex);
    free(block);
    return err->code;
}

/* ---- checking ---- */

/* The byte at `bad` of a block that begins at `at`, in line `line` and `column` bytes behind its start. */
static int fail_byte(const datafile *f, const char *block, int64_t at, int64_t bad, int64_t line, int64_t line_begin,
                     graft_error *err) {
    line += count_lines(block, bad);
    for (int64_t i = bad; i > 0; i--)
        if (block[i - 1] == '\n') {
            line_begin = at + i;
            break;
        }
    const unsigned char byte = (unsigned char)block[bad];
    const int utf16 = at + bad == 0 && (byte == 0xFF || byte == 0xFE);
    return fail(err, GRAFT_FAILED,
                "%s:%lld: byte %lld of the line (%lld of the file) is 0x%02X: %s; save the file as UTF-8", f->path,
                (long long)line, (long long)(at + bad - line_begin + 1), (long long)(at + bad + 1), byte,
                !byte   ? "text has no NUL"
                : utf16 ? "this seems to be UTF-16"
                        : "this is not UTF-8");
}

/* A block ends where a character does. */
int datafile_check(const datafile *f, graft_error *err) {
    char *const block = mem_new(DATAFILE_BLOCK, 1);
    int64_t line = 1, line_begin = 0;
    for (int64_t at = 0, good; at < f->size && !err->code; at += good) {
        const int64_t count = block_at(f, at);
        if (datafile_read(f, at, count, block, err)) break;
        good = utf8_valid(block, count);
        const char *const nul = memchr(block, '\0', (size_t)good);
        uint32_t code = 0;
        if (good < count) utf8_decode(block + good, count - good, &code);
        if (nul || code == UTF8_BAD || (code == UTF8_CUT && at + count == f->size)) {
            fail_byte(f, block, at, nul ? nul - block : good, line, line_begin, err);
            break;
        }
        line += count_lines(block, good);
        const char *const last = memrchr(block, '\n', (size_t)good);
        if (last) line_begin = at + (last - block) + 1;
    }
    free(block);
    return err->code;
}

/* ---- opening ---- */

static int open_temporary(graft_error *err) {
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = "/tmp";
    char *const name = mem_format("%s/graft-data-XXXXXX", folder);
    const int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        fail_system(err, "create a temporary file in", folder);
    else
        unlink(name);
    free(name);
    return fd;
}

static int write_all(int fd, const char *bytes, int64_t count) {
    while (count > 0) {
        const ssize_t put = write(fd, bytes, (size_t)count);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return 0;
        bytes += put, count -= put;
    }
    return 1;
}

/* Replaces f->fd by a temporary file with the text; zlib hands through what is not compressed. */
static int unpack(datafile *f, graft_error *err) {
    const int from = f->fd;
    f->fd = open_temporary(err);
    gzFile in = f->fd < 0 ? NULL : gzdopen(from, "rb");
    char *const block = mem_new(DATAFILE_BLOCK, 1);
    int got = 0;
    while (in && (got = gzread(in, block, DATAFILE_BLOCK)) > 0)
        if (!write_all(f->fd, block, got)) {
            fail(err, GRAFT_FAILED, "cannot write the temporary copy of %s: %s", f->path, strerror(errno));
            break;
        }
    int code = Z_OK;
    const char *const why = in ? gzerror(in, &code) : NULL;
    if (!in) fail_system(err, "decompress", f->path);
    if (code == Z_ERRNO) fail_system(err, "read", f->path);
    if (got < 0 || code < 0) { /* zlib puts "<fd:3>: " in front */
        const char *const reason = strstr(why, ">: ");
        fail(err, GRAFT_FAILED, "%s: damaged gzip data: %s", f->path, reason ? reason + 3 : why);
    }
    free(block);
    if (in)
        gzclose(in);
    else
        close(from);
    return err->code;
}

static int prepare(datafile *f, graft_error *err) {
    struct stat s;
    unsigned char magic[2] = {0};
    if (fstat(f->fd, &s)) return fail_system(err, "read", f->path);
    if (S_ISDIR(s.st_mode)) return fail(err, GRAFT_FAILED, "cannot read %s: it is a folder, not a file", f->path);
    const int gzip = S_ISREG(s.st_mode) && pread(f->fd, magic, 2, 0) == 2 && magic[0] == 0x1F && magic[1] == 0x8B;
    f->packed = gzip;
    if ((gzip || !S_ISREG(s.st_mode)) && unpack(f, err)) return err->code;
    if (fstat(f->fd, &s)) return fail_system(err, "read", f->path);
    f->size = s.st_size;
    char mark[3];
    if (f->size >= 3 && datafile_read(f, 0, 3, mark, err)) return err->code;
    if (f->size >= 3 && memcmp(mark, "\xEF\xBB\xBF", 3) == 0) f->begin = 3;
    return GRAFT_OK;
}

int datafile_open_unchecked(const char *path, datafile *out, graft_error *err) {
    *out = (datafile){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (out->fd < 0) return fail_system(err, "read", path);
    out->path = mem_copy_text(path);
    if (prepare(out, err)) datafile_close(out);
    return err->code;
}

int datafile_open(const char *path, datafile *out, graft_error *err) {
    if (datafile_open_unchecked(path, out, err)) return err->code;
    if (datafile_check(out, err)) datafile_close(out);
    return err->code;
}

void datafile_close(datafile *f) {
    if (f->path && f->fd >= 0) close(f->fd);
    free(f->path);
    *f = (datafile){.fd = -1};
}
