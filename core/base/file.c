/* file — whole files in, atomic files out, folders and paths. */
#include "base/file.h"
#include "base/memory.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, LINKS_MAX = 40 };

static int fail_system(graft_error *err, const char *deed, const char *path) {
    return fail(err, GRAFT_FAILED, "cannot %s %s: %s", deed, path, strerror(errno));
}

/* ---- reading ---- */

/* Reads `fd` to its end; `guess` is the size it should have. */
static int read_all(int fd, const char *path, int64_t guess, int64_t limit, char **out, int64_t *size,
                    graft_error *err) {
    int64_t capacity = guess < limit ? guess + 1 : limit + 1, length = 0; /* + 1: sees the end, or one byte too many */
    char *text = mem_grow(NULL, (size_t)capacity + 1, 1);
    for (;;) {
        if (length == capacity) {
            capacity = capacity > limit / 2 ? limit + 1 : 2 * capacity;
            text = mem_grow(text, (size_t)capacity + 1, 1);
        }
        const ssize_t got = read(fd, text + length, (size_t)(capacity - length));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            fail_system(err, "read", path);
            break;
        }
        length += got;
        if (length > limit) {
            fail(err, GRAFT_FAILED, "%s is larger than the %lld bytes that are read of such a file", path,
                 (long long)limit);
            break;
        }
        if (got > 0) continue;
        text[length] = '\0';
        *out = text, *size = length;
        return GRAFT_OK;
    }
    free(text);
    return GRAFT_FAILED;
}

int file_read(const char *path, int64_t limit, char **out, int64_t *size, graft_error *err) {
    assert(limit >= 0 && limit < INT64_MAX - 1);
    *out = NULL, *size = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_system(err, "read", path);
    struct stat s;
    int rc;
    if (fstat(fd, &s) != 0)
        rc = fail_system(err, "read", path);
    else if (S_ISDIR(s.st_mode))
        rc = fail(err, GRAFT_FAILED, "cannot read %s: it is a folder", path);
    else if (S_ISREG(s.st_mode) && s.st_size > limit)
        rc = fail(err, GRAFT_FAILED, "%s has %lld bytes; at most %lld are read of such a file", path,
                  (long long)s.st_size, (long long)limit);
    else
        rc = read_all(fd, path, s.st_size > 0 ? s.st_size : 4096, limit, out, size, err);
    close(fd);
    return rc;
}

/* ---- writing ---- */

struct file_writer {
    char *path;   /* as the caller named it */
    char *target; /* links resolved */
    char *temp;   /* NULL: written in place */
    FILE *stream;
};

/* Follows symbolic links at the end of `path`, also to a file that does not exist yet; NULL when they run in a circle. */
static char *resolve_links(const char *path) {
    char *now = mem_copy_text(path);
    for (int links = 0; links < LINKS_MAX; links++) {
        struct stat s;
        char text[PATH_MAX];
        ssize_t length;
        if (lstat(now, &s) != 0 || !S_ISLNK(s.st_mode) || (length = readlink(now, text, sizeof text - 1)) < 0)
            return now;
        text[length] = '\0';
        char *const folder = path_folder(now);
        free(now);
        now = path_join(folder, text);
        free(folder);
    }
    free(now);
    errno = ELOOP;
    return NULL;
}

static void writer_free(file_writer *w) {
    free(w->path);
    free(w->target);
    free(w->temp);
    free(w);
}

/* Opens the temporary file; one that a dead process of the same number left behind is replaced. */
static int open_temp(const char *temp, mode_t mode) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = open(temp, flags, mode);
    if (fd < 0 && errno == EEXIST && unlink(temp) == 0) fd = open(temp, flags, mode);
    return fd;
}

static int writer_open(file_writer *w) {
    struct stat s;
    const int exists = stat(w->path, &s) == 0;
    if (exists && S_ISDIR(s.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (exists && !S_ISREG(s.st_mode)) return open(w->path, O_WRONLY | O_CLOEXEC);
    if (exists && access(w->path, W_OK) != 0) return -1; /* rename would not ask */
    w->target = resolve_links(w->path);
    if (!w->target) return -1;
    w->temp = mem_format("%s.tmp.%ld", w->target, (long)getpid());
    const int fd = open_temp(w->temp, 0666);
    if (fd >= 0 && exists && fchmod(fd, s.st_mode & 07777) != 0) {
        const int reason = errno;
        close(fd);
        unlink(w->temp);
        errno = reason;
        return -1;
    }
    return fd;
}

int file_create(const char *path, file_writer **out, graft_error *err) {
    *out = NULL;
    file_writer *const w = mem_new(1, sizeof *w);
    w->path = mem_copy_text(path);
    const int fd = writer_open(w);
    w->stream = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!w->stream) {
        const int rc = fail_system(err, "write", path);
        if (fd >= 0) close(fd);
        if (fd >= 0 && w->temp) unlink(w->temp);
        writer_free(w);
        return rc;
    }
    setvbuf(w->stream, NULL, _IOFBF, BUFFER_BYTES);
    *out = w;
    return GRAFT_OK;
}

int file_put(file_writer *w, const void *bytes, int64_t count, graft_error *err) {
    assert(count >= 0);
    if (count > 0 && fwrite(bytes, 1, (size_t)count, w->stream) != (size_t)count)
        return fail_system(err, "write", w->path);
    return GRAFT_OK;
}

/* fsync, where the thing behind fd knows what that is (pipes and some devices do not). */
static int sync_if_possible(int fd) {
    return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS ? 0 : -1;
}

static int sync_folder(const char *target) {
    char *const folder = path_folder(target);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) return 0; /* writable but not readable: nothing to sync through */
    const int rc = sync_if_possible(fd);
    close(fd);
    return rc;
}

int file_commit(file_writer *w, graft_error *err) {
    int rc = GRAFT_OK;
    if (ferror(w->stream))
        rc = fail(err, GRAFT_FAILED, "cannot write %s: an earlier part could not be written", w->path);
    else if (fflush(w->stream) != 0 || sync_if_possible(fileno(w->stream)) != 0)
        rc = fail_system(err, "write", w->path);
    if (fclose(w->stream) != 0 && rc == GRAFT_OK) rc = fail_system(err, "write", w->path);
    if (w->temp && rc == GRAFT_OK && rename(w->temp, w->target) != 0) rc = fail_system(err, "replace", w->path);
    if (w->temp && rc != GRAFT_OK) unlink(w->temp);
    if (w->temp && rc == GRAFT_OK && sync_folder(w->target) != 0) rc = fail_system(err, "sync the folder of", w->path);
    writer_free(w);
    return rc;
}

void file_abandon(file_writer *w) {
    if (!w) return;
    fclose(w->stream);
    if (w->temp) unlink(w->temp);
    writer_free(w);
}

int file_write(const char *path, const void *bytes, int64_t count, graft_error *err) {
    file_writer *w;
    int rc = file_create(path, &w, err);
    if (rc != GRAFT_OK) return rc;
    rc = file_put(w, bytes, count, err);
    if (rc == GRAFT_OK) return file_commit(w, err);
    file_abandon(w);
    return rc;
}

/* ---- folders and paths ---- */

int file_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

int file_is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

int file_make_folders(const char *path, graft_error *err) {
    char *const part = mem_copy_text(path);
    int rc = GRAFT_OK;
    char *end = part;
    for (int last = 0; !last && rc == GRAFT_OK;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        last = end[strspn(end, "/")] == '\0';
        const char kept = *end;
        *end = '\0';
        if (!file_is_folder(part) && mkdir(part, 0777) != 0 && !(errno == EEXIST && file_is_folder(part)))
            rc = fail_system(err, "make folder", part);
        *end = kept;
    }
    free(part);
    return rc;
}

/* The path, or the nearest above it that is there; owned by the caller. */
static char *nearest_above(const char *path) {
    char *at = mem_copy_text(*path ? path : ".");
    while (access(at, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        char *const above = path_folder(at);
        free(at);
        at = above;
    }
    return at;
}

int64_t file_room(const char *path) {
    struct statvfs s;
    char *const at = nearest_above(path);
    const int known = statvfs(at, &s) == 0 && s.f_blocks > 0;
    free(at);
    return known ? (int64_t)s.f_bavail * (int64_t)s.f_frsize : -1;
}

int file_check_folder(const char *path, graft_error *err) {
    char *const at = nearest_above(path);
    const int whole = strcmp(at, path) == 0;
    if (file_exists(at) && !file_is_folder(at))
        fail(err, GRAFT_USAGE, "%s is a file%s%s; name another folder", at, whole ? "" : ", so there is no folder ",
             whole ? "" : path);
    else if (access(at, W_OK | X_OK) != 0)
        fail(err, GRAFT_USAGE, "cannot write into %s: %s; name another folder", at, strerror(errno));
    free(at);
    return err->code;
}

static int remove_entries(const char *folder, graft_error *err) {
    DIR *const entries = opendir(folder);
    if (!entries) return fail_system(err, "remove", folder);
    int rc = GRAFT_OK;
    for (struct dirent *e; rc == GRAFT_OK && (e = readdir(entries));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *const path = path_join(folder, e->d_name);
        rc = file_remove_tree(path, err);
        free(path);
    }
    closedir(entries);
    return rc;
}

int file_remove_tree(const char *path, graft_error *err) {
    struct stat s;
    if (lstat(path, &s) != 0) return errno == ENOENT ? GRAFT_OK : fail_system(err, "remove", path);
    if (S_ISDIR(s.st_mode)) {
        const int rc = remove_entries(path, err);
        if (rc != GRAFT_OK) return rc;
    }
    return remove(path) == 0 || errno == ENOENT ? GRAFT_OK : fail_system(err, "remove", path);
}

char *path_join(const char *folder, const char *name) {
    const size_t length = strlen(folder);
    if (name[0] == '/' || length == 0) return mem_copy_text(name);
    return mem_format("%s%s%s", folder, folder[length - 1] == '/' ? "" : "/", name);
}

char *path_folder(const char *path) {
    char *const copy = mem_copy_text(path); /* dirname writes into what it gets */
    char *const folder = mem_copy_text(dirname(copy));
    free(copy);
    return folder;
}

char *path_absolute(const char *path) {
    while (strncmp(path, "./", 2) == 0)
        path += 2 + strspn(path + 2, "/");
    char *const here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    if (!here) return mem_copy_text(path);
    char *const absolute = path[0] == '\0' || strcmp(path, ".") == 0 ? mem_copy_text(here) : path_join(here, path);
    free(here);
    return absolute;
}

int path_same(const char *a, const char *b) {
    char *const real_a = realpath(a, NULL), *const real_b = realpath(b, NULL);
    const int same = real_a && real_b && strcmp(real_a, real_b) == 0;
    free(real_a);
    free(real_b);
    return same;
}
