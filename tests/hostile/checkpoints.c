/* checkpoints — damaged in every way that a disk, a copy or a person may damage them: resuming says what is wrong and ends
 * with exit code 1 or 2, or goes on where the damage changed nothing that matters; it never crashes. */
#include "../e2e/train-kit.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "run/checkpoint.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MUTANTS = 24 };

typedef struct {
    char *folder, *path, *bytes;
    int64_t size;
} victim;

static void damage(const victim *v, uint64_t seed) {
    graft_error err = {0};
    char *const copy = mem_new((size_t)v->size + 1, 1);
    memcpy(copy, v->bytes, (size_t)v->size);
    int64_t size = v->size;
    const uint64_t kind = philox_bits(seed, 0, 0) % 4,
                   at = philox_bits(seed, 0, 1) % (uint64_t)(v->size < 4000 ? v->size : 4000);
    if (kind == 0)
        size = (int64_t)(philox_bits(seed, 0, 2) % (uint64_t)v->size); /* cut off */
    else if (kind == 1)
        copy[at] = (char)philox_bits(seed, 0, 3); /* another byte */
    else if (kind == 2)
        for (uint64_t i = at; i < (uint64_t)v->size && i < at + 40; i++) /* digits grow */
            copy[i] = copy[i] >= '0' && copy[i] <= '9' ? '9' : copy[i];
    else
        memset(copy + at, 0, (size_t)(v->size - (int64_t)at < 64 ? v->size - (int64_t)at : 64)); /* a lost sector */
    cr_assert_eq(file_write(v->path, copy, size, &err), GRAFT_OK, "%s", err.text);
    free(copy);
}

/* `sealed`: the damage was there before the checksums were written, so that what reads the file meets it. */
static void check(const char *file, int sealed) {
    graft_error err = {0};
    victim v = {.folder = kit_make(4)};
    char *text;
    kit_ini(v.folder, "run", "[adapter]\nplugin = lora\nrank = 2\ntargets = q_proj\n[train]\nsteps = 4\n");
    cr_assert_eq(kit_train(v.folder, "run", "--quiet --stop-after 2", &text), 0, "%s", text);
    free(text);
    char *const checkpoint = mem_format("%s/run/checkpoints/step-000002", v.folder);
    v.path = path_join(checkpoint, file);
    cr_assert_eq(file_read(v.path, 1 << 24, &v.bytes, &v.size, &err), GRAFT_OK, "%s", err.text);
    for (uint64_t seed = 0; seed < MUTANTS; seed++) {
        damage(&v, seed);
        if (sealed) cr_assert_eq(checkpoint_seal(checkpoint, &err), GRAFT_OK, "%s", err.text);
        /* where the damage is harmless the run goes on for a step: the next mutant meets the same checkpoint again */
        const int code = kit_train(v.folder, "run", "--quiet --resume --stop-after 3", &text);
        cr_expect(code >= 0 && code <= 2, "seed %llu: exit code %d: %s", (unsigned long long)seed, code, text);
        cr_expect(code == 0 || strstr(text, "step-000002"), "seed %llu: the checkpoint is not named: %s",
                  (unsigned long long)seed, text);
        char *const later = mem_format("%s/run/checkpoints/step-000003", v.folder);
        cr_assert_eq(file_remove_tree(later, &err), GRAFT_OK);
        free(later);
        free(text);
    }
    free(checkpoint);
    free(v.path);
    free(v.bytes);
    kit_remove(v.folder);
}

Test(checkpoints, damaged_numbers_never_crash_a_run, .timeout = 120) {
    check("trainer.json", 1);
}

Test(checkpoints, damaged_tensors_never_crash_a_run, .timeout = 120) {
    check("state.safetensors", 1);
}

Test(checkpoints, damaged_checksums_never_crash_a_run, .timeout = 120) {
    check("checksums", 0);
}
