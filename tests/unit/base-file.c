/* A file is either the old one or the new one, links stay links, and every error names the path. */
#include "base/file.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = BINARY_DIR "/base-file-XXXXXX";

static void set_up(void) {
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

static void tear_down(void) {
    graft_error err = {0};
    cr_assert_eq(file_remove_tree(folder, &err), 0, "%s", err.text);
    cr_assert_not(file_exists(folder));
}
TestSuite(file, .init = set_up, .fini = tear_down);

static void put(const char *path, const char *text) {
    graft_error err = {0};
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
}

static void holds(const char *path, const char *text) {
    graft_error err = {0};
    char *got;
    int64_t size;
    cr_assert_eq(file_read(path, 1 << 20, &got, &size, &err), 0, "%s", err.text);
    cr_assert_eq(size, (int64_t)strlen(text));
    cr_assert_str_eq(got, text);
    free(got);
}

static int entries(void) {
    int count = 0;
    DIR *const d = opendir(".");
    while (readdir(d))
        count++;
    closedir(d);
    return count - 2;
}

Test(file, new_text_appears_at_commit_and_not_before) {
    graft_error err = {0};
    put("a", "old");
    file_writer *w;
    cr_assert_eq(file_create("a", &w, &err), 0);
    cr_assert_eq(file_put(w, "new", 3, &err), 0);
    holds("a", "old");
    cr_assert_eq(file_commit(w, &err), 0);
    holds("a", "new");
    cr_assert_eq(entries(), 1);
}

Test(file, abandoned_write_leaves_the_old_file_and_nothing_else) {
    graft_error err = {0};
    put("a", "old");
    file_writer *w;
    cr_assert_eq(file_create("a", &w, &err), 0);
    cr_assert_eq(file_put(w, "new", 3, &err), 0);
    file_abandon(w);
    file_abandon(NULL);
    holds("a", "old");
    cr_assert_eq(entries(), 1);
}

/* A limit on the size of files stands for a disk that is full in the middle. */
Test(file, failing_write_leaves_the_old_file_and_names_the_path) {
    put("a", "old");
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 1 << 16, .rlim_max = RLIM_INFINITY});
    char *const large = mem_new(1 << 22, 1);
    graft_error err = {0};
    cr_assert_eq(file_write("a", large, 1 << 22, &err), GRAFT_FAILED);
    cr_assert_str_eq(err.text, "cannot write a: File too large");
    holds("a", "old");
    err = (graft_error){0};
    file_writer *w; /* small parts fail only when the buffer is emptied, at the latest in commit */
    cr_assert_eq(file_create("a", &w, &err), 0);
    for (int i = 0; i < 1000; i++)
        file_put(w, large, 100, &err);
    cr_assert_eq(file_commit(w, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "cannot write a: "));
    holds("a", "old");
    cr_assert_eq(entries(), 1);
    free(large);
}

Test(file, full_disk_is_an_error_that_names_the_path) {
    graft_error err = {0};
    cr_assert_eq(file_write("/dev/full", "text", 4, &err), GRAFT_FAILED);
    cr_assert_str_eq(err.text, "cannot write /dev/full: No space left on device");
}

Test(file, links_stay_links_also_through_others_and_to_nothing_yet) {
    cr_assert_eq(mkdir("real", 0777), 0);
    cr_assert_eq(symlink("real/target", "link"), 0);
    cr_assert_eq(symlink("link", "outer"), 0);
    struct stat s;
    for (int round = 0; round < 2; round++) { /* first the target is missing, then it is replaced */
        put("outer", round ? "second" : "first");
        holds("real/target", round ? "second" : "first");
        cr_assert(lstat("outer", &s) == 0 && S_ISLNK(s.st_mode));
        cr_assert(lstat("link", &s) == 0 && S_ISLNK(s.st_mode));
    }
    cr_assert_eq(symlink("circle", "circle"), 0);
    graft_error err = {0};
    cr_assert_eq(file_write("circle", "x", 1, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "circle"));
}

Test(file, devices_are_written_in_place) {
    put("/dev/null", "text");
    struct stat s;
    cr_assert(stat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode));
}

static void *read_pipe(void *out) {
    const int fd = open("pipe", O_RDONLY);
    ssize_t got, at = 0;
    while ((got = read(fd, (char *)out + at, (size_t)(63 - at))) > 0)
        at += got;
    close(fd);
    return NULL;
}

Test(file, pipes_are_written_in_place) {
    char got[64] = {0};
    pthread_t reader;
    cr_assert_eq(mkfifo("pipe", 0666), 0);
    pthread_create(&reader, NULL, read_pipe, got);
    put("pipe", "through the pipe");
    pthread_join(reader, NULL);
    cr_assert_str_eq(got, "through the pipe");
    struct stat s;
    cr_assert(stat("pipe", &s) == 0 && S_ISFIFO(s.st_mode));
}

Test(file, mode_of_the_old_file_is_kept) {
    put("a", "old");
    chmod("a", 0640);
    put("a", "new");
    struct stat s;
    cr_assert(stat("a", &s) == 0 && (s.st_mode & 07777) == 0640);
}

Test(file, temporary_file_of_a_dead_process_is_no_obstacle) {
    char *const temp = mem_format("a.tmp.%ld", (long)getpid());
    put(temp, "left behind by a process that had our number");
    put("a", "new");
    holds("a", "new");
    cr_assert_eq(entries(), 1);
    free(temp);
}

Test(file, reading_is_bounded_and_every_error_names_the_path) {
    graft_error err[5] = {0};
    char *text;
    int64_t size;
    put("a", "12345");
    cr_assert_eq(file_read("a", 4, &text, &size, &err[0]), GRAFT_FAILED);
    cr_assert_str_eq(err[0].text, "a has 5 bytes; at most 4 are read of such a file");
    cr_assert_null(text);
    cr_assert_eq(file_read("a", 5, &text, &size, &err[1]), 0);
    free(text);
    cr_assert_eq(file_read("b", 5, &text, &size, &err[1]), GRAFT_FAILED);
    cr_assert_str_eq(err[1].text, "cannot read b: No such file or directory");
    cr_assert_eq(file_read(".", 5, &text, &size, &err[2]), GRAFT_FAILED);
    cr_assert_not_null(strstr(err[2].text, "folder"));
    cr_assert_eq(file_read("/dev/zero", 100000, &text, &size, &err[3]), GRAFT_FAILED);
    cr_assert_not_null(strstr(err[3].text, "/dev/zero"));
    cr_assert_eq(file_write("no/such/folder", "", 0, &err[4]), GRAFT_FAILED);
    cr_assert_not_null(strstr(err[4].text, "no/such/folder"));
}

Test(file, empty_files_and_files_without_a_size_are_read) {
    put("empty", "");
    holds("empty", "");
    graft_error err = {0};
    char *text;
    int64_t size;
    cr_assert_eq(file_read("/proc/self/status", 1 << 20, &text, &size, &err), 0, "%s", err.text);
    cr_assert(size > 100 && (int64_t)strlen(text) == size);
    free(text);
}

Test(file, folders_are_not_written_over) {
    graft_error err = {0};
    cr_assert_eq(mkdir("d", 0777), 0);
    cr_assert_eq(file_write("d", "x", 1, &err), GRAFT_FAILED);
    cr_assert_str_eq(err.text, "cannot write d: Is a directory");
}

Test(file, folders_are_made_as_deep_as_wanted) {
    graft_error err = {0};
    cr_assert_eq(file_make_folders("x//y/z/", &err), 0, "%s", err.text);
    cr_assert_eq(file_make_folders("x/y/z", &err), 0, "%s", err.text);
    cr_assert_eq(file_make_folders("/", &err), 0, "%s", err.text);
    cr_assert(file_is_folder("x/y/z"));
    put("x/file", "");
    cr_assert_eq(file_make_folders("x/file/z", &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "x/file"));
}

Test(file, removing_a_tree_does_not_follow_links) {
    graft_error err = {0};
    cr_assert_eq(file_make_folders("tree/deep/er", &err), 0);
    cr_assert_eq(mkdir("other", 0777), 0);
    put("other/kept", "x");
    put("tree/deep/gone", "x");
    cr_assert_eq(symlink("../other", "tree/link"), 0);
    cr_assert_eq(file_remove_tree("tree", &err), 0, "%s", err.text);
    cr_assert_not(file_exists("tree"));
    holds("other/kept", "x");
    cr_assert_eq(file_remove_tree("tree", &err), 0, "a missing tree is no error: %s", err.text);
}

static void equals(char *got, const char *want) {
    cr_assert_str_eq(got, want);
    free(got);
}

Test(path, join_folder_and_absolute) {
    equals(path_join("a", "b"), "a/b");
    equals(path_join("a/", "b"), "a/b");
    equals(path_join("", "b"), "b");
    equals(path_join("a", "/b"), "/b");
    equals(path_folder("a/b"), "a");
    equals(path_folder("b"), ".");
    equals(path_folder("/b"), "/");
    equals(path_folder("a/b/"), "a");
    cr_assert_eq(chdir("/usr"), 0);
    equals(path_absolute("a/b"), "/usr/a/b");
    equals(path_absolute("./a"), "/usr/a");
    equals(path_absolute("."), "/usr");
    equals(path_absolute("../x"), "/usr/../x");
    equals(path_absolute("/x"), "/x");
}
