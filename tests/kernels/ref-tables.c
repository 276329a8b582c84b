/* The reference tables beside each other: ref is ref64 up to f32 rounding, fake is ref to the last bit. */
#include "table-suite.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

Test(ref_tables, ref_is_ref64_rounded_to_f32) {
    for (int i = 0; i < suite_part_count; i++) {
        pair p;
        pair_open(&p, "ref", "ref64");
        suite_parts[i].run(&p, OWN,
                           5e-7); /* 4 ulp: the library's exp, tanh, erf and pow are not exact to the last bit */
        pair_close(&p);
    }
}

/* Also: no function writes or reads past the end of a tensor, because each ends at a closed page. */
Test(ref_tables, fake_equals_ref_bit_for_bit) {
    static const int types[] = {OWN, BF16, F16};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < suite_part_count; i++) {
            pair p;
            pair_open(&p, "fake", "ref");
            suite_parts[i].run(&p, types[t], 0);
            pair_close(&p);
        }
}

/* Runs act(dev) in a child and returns the signal that ended it, 0 for none. */
static int signal_of(void (*act)(kernels *k, char *dev), kernels *k, char *dev) {
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit with a report instead */
        act(k, dev);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void read_first(kernels *k, char *dev) {
    (void)k;
    (void)*(volatile char *)dev;
}
static void write_last(kernels *k, char *dev) {
    (void)k;
    ((volatile char *)dev)[99] = 1;
}
static void zero_within(kernels *k, char *dev) {
    k->zero(k, dev, 128);
}
static void zero_past_the_end(kernels *k, char *dev) {
    k->zero(k, dev, 129); /* 100 bytes asked for, 128 with the alignment */
}
static void read_after_release(kernels *k, char *dev) {
    k->release(k, dev);
    char c;
    k->download(k, &c, dev, 1);
}

Test(ref_tables, fake_device_faults_when_the_host_touches_it) {
    kernels *k = open_device("fake", NULL);
    char *const dev = k->alloc(k, 100), *const other = k->alloc(k, 100);
    const char sent[] = "sixteen letters!";
    char back[sizeof sent];
    k->upload(k, dev, sent, sizeof sent);
    k->download(k, back, dev, sizeof sent);
    cr_assert_str_eq(back, sent);
    cr_assert_eq(signal_of(read_first, k, dev), SIGSEGV);
    cr_assert_eq(signal_of(write_last, k, dev), SIGSEGV);
    cr_assert_eq(signal_of(read_first, k, other), SIGSEGV);
    cr_assert_eq(signal_of(zero_within, k, dev), 0);
    cr_assert_eq(signal_of(zero_past_the_end, k, dev), SIGSEGV);
    cr_assert_eq(signal_of(read_after_release, k, dev), SIGSEGV);
    k->close(k);
}

Test(ref_tables, an_unknown_device_is_named_with_those_there_are) {
    graft_error err = {0};
    kernels *k = NULL;
    cr_assert_eq(kernels_open("ref46", NULL, &k, &err), GRAFT_USAGE);
    cr_assert_null(k);
    cr_assert_not_null(strstr(err.text, "ref46"));
    cr_assert_not_null(strstr(err.text, "did you mean \"ref64\""));
    cr_assert_not_null(strstr(err.text, "cpu, ref, ref64, fake"));
}
