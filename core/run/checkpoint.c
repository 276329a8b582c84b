/* checkpoint — publishing by rename. */
#include "run/checkpoint.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char checksums[] = "checksums";

static char *folder_of(const char *output) {
    return path_join(output, "checkpoints");
}

static char *name_of(int64_t step) {
    return mem_format("step-%06lld", (long long)step);
}

/* The step of "step-000100"; 0: it is called otherwise. */
static int64_t step_of(const char *name) {
    char *end;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return 0;
    const long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' && step > 0 ? step : 0;
}

/* All checkpoints, newest first; *steps owned by the caller. */
static int64_t list(const char *output, int64_t **steps) {
    char *const folder = folder_of(output);
    DIR *const entries = opendir(folder);
    int64_t count = 0, capacity = 0;
    *steps = NULL;
    for (struct dirent *e; entries && (e = readdir(entries));) {
        const int64_t step = step_of(e->d_name);
        if (step == 0) continue;
        mem_reserve(*steps, count, capacity);
        int64_t at = count++;
        for (; at > 0 && (*steps)[at - 1] < step; at--)
            (*steps)[at] = (*steps)[at - 1];
        (*steps)[at] = step;
    }
    if (entries) closedir(entries);
    free(folder);
    return count;
}

int64_t checkpoint_step(const char *path) {
    const char *const slash = strrchr(path, '/');
    return step_of(slash ? slash + 1 : path);
}

static char *path_of(const char *output, int64_t step) {
    char *const folder = folder_of(output), *const name = name_of(step), *const path = path_join(folder, name);
    free(folder);
    free(name);
    return path;
}

char *checkpoint_newest(const char *output, int64_t *step) {
    int64_t *steps;
    const int64_t count = list(output, &steps);
    *step = count ? steps[0] : 0;
    free(steps);
    return count ? path_of(output, *step) : NULL;
}

int checkpoint_begin(const char *output, int64_t step, char **folder, graft_error *err) {
    char *const parent = folder_of(output), *const name =
                                                mem_format(".step-%06lld.new.%ld", (long long)step, (long)getpid());
    *folder = path_join(parent, name);
    if (file_remove_tree(*folder, err) == GRAFT_OK) file_make_folders(*folder, err);
    free(parent);
    free(name);
    return err->code;
}

void checkpoint_abandon(const char *folder) {
    graft_error ignored = {0};
    file_remove_tree(folder, &ignored);
}

static int sync_folder(const char *path, graft_error *err) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
        fail(err, GRAFT_FAILED, "cannot sync %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return err->code;
}

/* Out of sight first, so that half a folder never looks like a checkpoint. */
static int discard(const char *output, int64_t step, graft_error *err) {
    char *const path = path_of(output, step), *const parent = folder_of(output);
    char *const name = mem_format(".step-%06lld.old.%ld", (long long)step, (long)getpid()), *const away =
                                                                                                path_join(parent, name);
    int rc = file_remove_tree(away, err);
    if (rc == GRAFT_OK && rename(path, away) != 0 && errno != ENOENT)
        rc = fail(err, GRAFT_FAILED, "cannot remove %s: %s", path, strerror(errno));
    if (rc == GRAFT_OK) rc = file_remove_tree(away, err);
    free(path);
    free(parent);
    free(name);
    free(away);
    return rc;
}

int checkpoint_publish(const char *output, int64_t step, const char *folder, graft_error *err) {
    char *const path = path_of(output, step), *const parent = folder_of(output);
    int rc = checkpoint_seal(folder, err);
    if (rc == GRAFT_OK) rc = sync_folder(folder, err);
    if (rc == GRAFT_OK && file_exists(path)) rc = discard(output, step, err);
    if (rc == GRAFT_OK && rename(folder, path) != 0)
        rc = fail(err, GRAFT_FAILED, "cannot rename %s to %s: %s", folder, path, strerror(errno));
    if (rc == GRAFT_OK) rc = sync_folder(parent, err);
    free(path);
    free(parent);
    return rc;
}

/* ---- what was written is what is read ---- */

/* CRC-32 and size. It is there against accidents and slips of an editor, at the speed of memory; SHA-256 is 20 times slower. */
static int checksum(const char *path, uint32_t *crc, int64_t *size, graft_error *err) {
    enum { CHUNK = 1 << 20 };
    FILE *const file = fopen(path, "r");
    if (!file) return fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
    char *const chunk = mem_new(CHUNK, 1);
    *crc = 0, *size = 0;
    for (size_t got; (got = fread(chunk, 1, CHUNK, file)) > 0; *size += (int64_t)got)
        *crc = digest_crc32(*crc, chunk, got);
    if (ferror(file)) fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
    fclose(file);
    free(chunk);
    return err->code;
}

/* Lines "crc32 bytes name" of all files below `folder`, whose names begin with `prefix`; model cards may be edited. */
static int list_checksums(const char *folder, const char *prefix, strbuf *out, graft_error *err) {
    DIR *const entries = opendir(folder);
    if (!entries) return fail(err, GRAFT_FAILED, "cannot read %s: %s", folder, strerror(errno));
    for (struct dirent *e; !err->code && (e = readdir(entries));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, checksums) == 0 || strcmp(e->d_name, "README.md") == 0) continue;
        char *const path = path_join(folder, e->d_name), *const name = mem_format("%s%s", prefix, e->d_name);
        uint32_t crc;
        int64_t size;
        if (file_is_folder(path)) {
            char *const inside = mem_format("%s/", name);
            list_checksums(path, inside, out, err);
            free(inside);
        } else if (checksum(path, &crc, &size, err) == GRAFT_OK) {
            strbuf_printf(out, "%08x %lld %s\n", (unsigned)crc, (long long)size, name);
        }
        free(path);
        free(name);
    }
    closedir(entries);
    return err->code;
}

int checkpoint_seal(const char *folder, graft_error *err) {
    strbuf text = {0};
    char *const path = path_join(folder, checksums);
    if (list_checksums(folder, "", &text, err) == GRAFT_OK)
        file_write(path, text.text ? text.text : "", (int64_t)text.length, err);
    strbuf_free(&text);
    free(path);
    return err->code;
}

static int broken(const char *folder, const char *name, const char *how, graft_error *err) {
    return fail(err, GRAFT_FAILED,
                "%s/%s %s, so this checkpoint is not to be trusted; remove the folder %s and --resume goes on from the "
                "checkpoint before it, or begin anew with --overwrite",
                folder, name, how, folder);
}

static int verify_line(const char *folder, const char *line, graft_error *err) {
    unsigned wanted;
    long long bytes;
    int name = 0;
    uint32_t crc;
    int64_t size;
    if (sscanf(line, "%8x %lld %n", &wanted, &bytes, &name) != 2 || !line[name])
        return broken(folder, checksums, "is damaged", err);
    char *const path = path_join(folder, line + name);
    if (!file_exists(path))
        broken(folder, line + name, "is missing", err);
    else if (checksum(path, &crc, &size, err) == GRAFT_OK && (crc != wanted || size != bytes))
        broken(folder, line + name, "is not what was written there: it was changed or damaged", err);
    free(path);
    return err->code;
}

int checkpoint_verify(const char *folder, int *sealed, graft_error *err) {
    enum { MOST = 1 << 24 };
    char *const path = path_join(folder, checksums), *text = NULL, *rest = NULL;
    int64_t size;
    *sealed = file_exists(path);
    if (*sealed && file_read(path, MOST, &text, &size, err) == GRAFT_OK)
        for (char *line = strtok_r(text, "\n", &rest); line && !err->code; line = strtok_r(NULL, "\n", &rest))
            verify_line(folder, line, err);
    free(text);
    free(path);
    return err->code;
}

char *checkpoint_path(const char *output, int64_t step) {
    char *const parent = folder_of(output), *const name = name_of(step), *const path = path_join(parent, name);
    free(parent);
    free(name);
    return path;
}

int checkpoint_set_best(const char *output, int64_t step, graft_error *err) {
    char *const parent = folder_of(output), *const name = name_of(step), *const best = path_join(parent, "best");
    char *const link = mem_format("%s/.best.new.%ld", parent, (long)getpid());
    unlink(link);
    if (symlink(name, link) != 0 || rename(link, best) != 0)
        fail(err, GRAFT_FAILED, "cannot link %s to %s: %s", best, name, strerror(errno));
    free(parent);
    free(name);
    free(best);
    free(link);
    return err->code;
}

int checkpoint_prune(const char *output, int64_t keep, int64_t best, graft_error *err) {
    int64_t *steps;
    const int64_t count = list(output, &steps);
    for (int64_t i = keep; keep > 0 && i < count && !err->code; i++)
        if (steps[i] != best) discard(output, steps[i], err);
    free(steps);
    return err->code;
}

void checkpoint_sweep(const char *output) {
    char *const parent = folder_of(output);
    DIR *const entries = opendir(parent);
    for (struct dirent *e; entries && (e = readdir(entries));) {
        if (strncmp(e->d_name, ".step-", 6) != 0 && strncmp(e->d_name, ".best.", 6) != 0) continue;
        char *const path = path_join(parent, e->d_name);
        checkpoint_abandon(path);
        free(path);
    }
    if (entries) closedir(entries);
    free(parent);
}
