/* elf — dlopen maps a file by its program headers and dies with SIGBUS on one that was cut short; so the headers are
 * compared with the size of the file first. Everything else is left to dlopen, which refuses it with a text. */
#include "plugin/host.h"
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_at(int fd, void *to, size_t count, off_t offset) {
    return pread(fd, to, count, offset) == (ssize_t)count;
}

static int check_segments(int fd, const char *file, const ElfW(Ehdr) * header, uint64_t size, graft_error *err) {
    for (int i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        const uint64_t at = header->e_phoff + (uint64_t)i * sizeof segment;
        if (header->e_phoff > size || at > size - sizeof segment || !read_at(fd, &segment, sizeof segment, (off_t)at) ||
            segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
            return fail(err, GRAFT_FAILED, "%s is cut short: it has %llu bytes, and its segment %d lies behind them",
                        file, (unsigned long long)size, i);
    }
    return GRAFT_OK;
}

int plugin_check_elf(const char *file, graft_error *err) {
    const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat s;
    ElfW(Ehdr) header;
    int rc = GRAFT_OK;
    if (fd < 0 || fstat(fd, &s) != 0)
        rc = fail(err, GRAFT_FAILED, "cannot read %s: %s", file, strerror(errno));
    else if (!S_ISREG(s.st_mode) || !read_at(fd, &header, sizeof header, 0) ||
             memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_type != ET_DYN ||
             header.e_phentsize != sizeof(ElfW(Phdr)))
        rc = fail(err, GRAFT_FAILED, "%s is no shared object of this system", file);
    else
        rc = check_segments(fd, file, &header, (uint64_t)s.st_size, err);
    if (fd >= 0) close(fd);
    return rc;
}
