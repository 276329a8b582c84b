/* checkpoint — publishing by rename. */
#include "run/checkpoint.h"
#include "base/file.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    int rc = sync_folder(folder, err);
    if (rc == GRAFT_OK && file_exists(path)) rc = discard(output, step, err);
    if (rc == GRAFT_OK && rename(folder, path) != 0)
        rc = fail(err, GRAFT_FAILED, "cannot rename %s to %s: %s", folder, path, strerror(errno));
    if (rc == GRAFT_OK) rc = sync_folder(parent, err);
    free(path);
    free(parent);
    return rc;
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
