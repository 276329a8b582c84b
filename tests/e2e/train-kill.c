/* A run that is killed at any moment leaves checkpoints that are whole: it goes on and ends with the bytes of a run that was
 * never killed. */
#include "base/memory.h"
#include "base/philox.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char sections[] = "[adapter]\nplugin = lora\nrank = 4\ntargets = all-linear\ndropout = 0.1\n"
                               "[optimizer]\nplugin = adamw\nlr = 0.01\n[schedule]\nplugin = cosine\n"
                               "[train]\neval_every = 3\nsave_every = 1\nkeep = 2\nthreads = 1\n";

/* Starts a part of the run and kills it after `milliseconds`; 1 when it had ended by itself. */
static int run_and_kill(const char *folder, const char *options, int milliseconds) {
    const pid_t child = kit_start(folder, "killed", options);
    int status;
    nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L}, NULL);
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) return 0;
    char *const log = kit_read(folder, "killed.log");
    cr_assert_eq(WEXITSTATUS(status), 0, "%s", log);
    free(log);
    return 1;
}

Test(kill, a_run_killed_again_and_again_ends_as_if_it_had_not_been, .timeout = 120) {
    char *const folder = kit_make(40), *text;
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "killed", sections);
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", &text), 0, "%s", text);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    free(text);
    const double took = (double)(ended.tv_sec - begun.tv_sec) * 1e3 + (double)(ended.tv_nsec - begun.tv_nsec) * 1e-6;
    const uint64_t seed = (uint64_t)getpid() << 32 ^ (uint64_t)ended.tv_nsec;
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    int kills = 0;
    for (int i = 0; i < 12; i++, kills++)
        if (run_and_kill(folder, "--quiet --resume", 1 + (int)(took * 0.5 * philox_uniform(seed, 0, (uint64_t)i))))
            break;
    cr_assert_eq(kit_train(folder, "killed", "--quiet --resume", &text), 0, "after %d kills (seed %llu): %s", kills,
                 (unsigned long long)seed, text);
    cr_expect(kit_same(folder, "whole", "killed", "metrics.jsonl"), "seed %llu", (unsigned long long)seed);
    cr_expect(kit_same(folder, "whole", "killed", "adapter_model.safetensors"), "seed %llu", (unsigned long long)seed);
    cr_expect(kit_same(folder, "whole", "killed", "result.json"), "seed %llu", (unsigned long long)seed);
    free(text);
    kit_remove(folder);
}

/* Files may grow to 32 KiB: the state of the optimizer does not fit, everything else does. */
Test(kill, a_full_disk_is_named_and_leaves_the_last_checkpoint) {
    char *const folder = kit_make(8), *text;
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "killed", sections);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", NULL), 0);
    cr_assert_eq(kit_train(folder, "killed", "--quiet --stop-after 3", NULL), 0);
    char *const line = mem_format("trap '' XFSZ; ulimit -f 64; '%s/bin/graft' train '%s/killed.ini' --quiet --resume "
                                  "> '%s/killed.log' 2>&1",
                                  BINARY_DIR, folder, folder);
    const int status = system(line);
    text = kit_read(folder, "killed.log");
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %d: %s", status, text);
    cr_expect(strstr(text, "state.safetensors") && strstr(text, "step 4"), "%s", text);
    cr_expect(kit_has(folder, "killed/checkpoints/step-000003") && !kit_has(folder, "killed/checkpoints/step-000004"));
    free(text);
    cr_assert_eq(kit_train(folder, "killed", "--quiet --resume", &text), 0, "%s", text);
    cr_expect(kit_same(folder, "whole", "killed", "metrics.jsonl"));
    cr_expect(kit_same(folder, "whole", "killed", "adapter_model.safetensors"));
    free(line);
    free(text);
    kit_remove(folder);
}
