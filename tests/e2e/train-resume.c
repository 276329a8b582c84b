/* Runs that stop and go on: the same bytes as a run that never stopped, whatever is trained and however it stopped; and what
 * may not be resumed is said. */
#include "base/file.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ADAMW "[optimizer]\nplugin = adamw\nlr = 0.01\n[schedule]\nplugin = cosine\nwarmup_steps = 2\n"
#define LORA  "[adapter]\nplugin = lora\nrank = 4\ntargets = all-linear\ndropout = 0.1\n"

/* `stops` are the steps to stop behind, one after the other, ended by 0. */
static void check_resume(const char *sections, const char *const *results, const int *stops) {
    char *const folder = kit_make(8), *text;
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "parts", sections);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", &text), 0, "%s", text);
    free(text);
    for (int i = 0; stops[i]; i++) {
        char *const options = mem_format("--quiet --stop-after %d%s", stops[i], i ? " --resume" : "");
        cr_assert_eq(kit_train(folder, "parts", options, &text), 0, "%s", text);
        cr_assert(!kit_has(folder, "parts/result.json"));
        free(text);
        free(options);
    }
    cr_assert_eq(kit_train(folder, "parts", "--quiet --resume", &text), 0, "%s", text);
    free(text);
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"), "metrics differ");
    cr_expect(kit_same(folder, "whole", "parts", "result.json"), "results differ");
    for (int i = 0; results[i]; i++)
        cr_expect(kit_same(folder, "whole", "parts", results[i]), "%s differs", results[i]);
    kit_remove(folder);
}

static const char *const adapter_files[] = {"adapter_model.safetensors", "adapter_config.json", NULL};
static const char *const model_files[] = {"model.safetensors", "config.json", NULL};

Test(resume, lora_with_dropout_goes_on_as_if_it_had_never_stopped) {
    check_resume(LORA ADAMW "[train]\nsteps = 8\neval_every = 3\nsave_every = 2\n", adapter_files, (int[]){3, 4, 7, 0});
}

Test(resume, full_fine_tuning_with_momentum_goes_on_as_if_it_had_never_stopped) {
    check_resume("[adapter]\nplugin = full\n[optimizer]\nplugin = sgd\nlr = 0.05\nmomentum = 0.9\n[train]\nsteps = 8\n",
                 model_files, (int[]){5, 0});
}

Test(resume, states_of_8_bits_and_groups_go_on_as_if_they_had_never_stopped) {
    check_resume("[adapter]\nplugin = full\n[optimizer]\nplugin = adamw\nlr = 0.01\nstate = 8bit\nno_decay = "
                 "*norm.weight\nlr_scale = *.mlp.*:0.5\n[train]\nsteps = 8\n",
                 model_files, (int[]){5, 0});
}

Test(resume, lora_on_a_quantized_base_goes_on_as_if_it_had_never_stopped) {
    check_resume(LORA ADAMW "[quantizer]\nplugin = quant-nf4\n[train]\nsteps = 8\n", adapter_files, (int[]){1, 0});
}

Test(resume, several_adapters_go_on_as_if_they_had_never_stopped) {
    static const char *const files[] = {"first/adapter_model.safetensors", "second/adapter_model.safetensors", NULL};
    check_resume("[adapter.first]\nplugin = lora\nrank = 2\ntargets = q_proj, v_proj\n"
                 "[adapter.second]\nplugin = rslora\nrank = 4\ntargets = q_proj, down_proj\n" ADAMW
                 "[train]\nsteps = 8\n",
                 files, (int[]){4, 0});
}

Test(resume, a_finished_run_stays_as_it_is) {
    char *const folder = kit_make(3), *text;
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet", NULL), 0);
    char *const before = kit_read(folder, "run/metrics.jsonl");
    cr_assert_eq(kit_train(folder, "run", "--quiet --resume", &text), 0, "%s", text);
    char *const after = kit_read(folder, "run/metrics.jsonl");
    cr_expect_str_eq(before, after);
    free(before);
    free(after);
    free(text);
    kit_remove(folder);
}

Test(resume, a_run_that_is_to_stop_where_it_stands_does_no_step) {
    char *const folder = kit_make(6), *text;
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 4", NULL), 0);
    cr_expect_eq(kit_train(folder, "run", "--quiet --resume --stop-after 3", &text), 0, "%s", text);
    cr_expect(strstr(text, "stopped behind step 4, goes on with --resume"), "%s", text);
    cr_expect(!kit_has(folder, "run/checkpoints/step-000005") && !kit_has(folder, "run/result.json"));
    free(text);
    kit_remove(folder);
}

Test(resume, ctrl_c_ends_behind_the_step_with_a_checkpoint_and_exit_code_130) {
    char *const folder = kit_make(60), *text;
    kit_ini(folder, "whole", LORA ADAMW);
    kit_ini(folder, "parts", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", NULL), 0);
    const pid_t child = kit_start(folder, "parts", "--quiet");
    for (int i = 0; i < 2000 && !kit_has(folder, "parts/metrics.jsonl"); i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    int status;
    kill(child, SIGINT);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 130, "status %d", status);
    cr_expect(kit_has(folder, "parts/checkpoints"));
    cr_assert_eq(kit_train(folder, "parts", "--quiet --resume", &text), 0, "%s", text);
    cr_expect(kit_same(folder, "whole", "parts", "metrics.jsonl"));
    cr_expect(kit_same(folder, "whole", "parts", "adapter_model.safetensors"));
    free(text);
    kit_remove(folder);
}

/* ---- what may change between the parts ---- */

static void expect_refused(const char *folder, const char *name, const char *options, const char *words) {
    char *text;
    cr_expect_eq(kit_train(folder, name, options, &text), 2, "%s: %s", options, text);
    cr_expect(strstr(text, words), "%s: \"%s\" is not in: %s", options, words, text);
    free(text);
}

Test(resume, settings_that_change_the_numbers_are_refused_with_key_and_both_values) {
    char *const folder = kit_make(6);
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 4", NULL), 0);
    expect_refused(folder, "run", "--resume --set optimizer.lr=0.02", "optimizer.lr: was 0.01, is 0.02");
    expect_refused(folder, "run", "--resume --set adapter.alpha=3", "adapter.alpha: was 16, is 3");
    expect_refused(folder, "run", "--resume --set train.seed=1", "train.seed: was 42, is 1");
    expect_refused(folder, "run", "--resume --set train.slice_tokens=48", "train.slice_tokens: was 96, is 48");
    expect_refused(folder, "run", "--resume --set train.steps=5", "learning rate of step");
    char *text;
    cr_expect_eq(kit_train(folder, "run", "--quiet --resume --set train.threads=1 --set train.save_every=1", &text), 0,
                 "%s", text);
    free(text);
    kit_remove(folder);
}

Test(resume, what_is_wrong_with_a_checkpoint_is_said_before_weights_are_read) {
    char *const folder = kit_make(6), *const weights = mem_format("%s/model/model.safetensors", folder);
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 4", NULL), 0);
    FILE *const file = fopen(weights, "r+"); /* a number that is not finite: who reads the weights fails */
    cr_assert(file && fseek(file, -4, SEEK_END) == 0 && fwrite("\0\0\xc0\x7f", 4, 1, file) == 1 && !fclose(file));
    expect_refused(folder, "run", "--resume", "model.weights: was");
    free(weights);
    kit_remove(folder);
}

Test(resume, a_run_without_a_fall_of_the_learning_rate_may_be_made_longer) {
    char *const folder = kit_make(6), *text;
    static const char sections[] = LORA "[optimizer]\nplugin = adamw\nlr = 0.01\n[schedule]\nplugin = constant\n";
    kit_ini(folder, "whole", sections);
    kit_ini(folder, "parts", sections);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", NULL), 0);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --set train.steps=2", NULL), 0);
    cr_assert_eq(kit_train(folder, "parts", "--quiet --resume", &text), 0, "%s", text);
    cr_expect(kit_same(folder, "whole", "parts", "adapter_model.safetensors"));
    free(text);
    kit_remove(folder);
}

Test(resume, the_output_folder_is_never_taken_by_surprise) {
    char *const folder = kit_make(2), *text;
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet --resume", &text), 0, "nothing there yet: %s", text);
    free(text);
    expect_refused(folder, "run", "", "not empty");
    char *const foreign = mem_format("--overwrite --set output.path=%s/config", folder);
    expect_refused(folder, "run", foreign, "holds no run");
    free(foreign);
    char *const beside = mem_format("--set output.path=%s", folder); /* where the INI itself is called run.ini */
    expect_refused(folder, "run", beside, "not empty");
    free(beside);
    char *const own = mem_format("--set output.path=%s/model", folder);
    expect_refused(folder, "run", own, "folder of the model itself");
    cr_assert_eq(kit_train(folder, "run", "--quiet --overwrite", &text), 0, "%s", text);
    free(own);
    free(text);
    kit_remove(folder);
}

/* ---- damaged checkpoints ---- */

Test(resume, a_damaged_checkpoint_is_named) {
    char *const folder = kit_make(4), *text;
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 2", NULL), 0);
    char *const state = mem_format("%s/run/checkpoints/step-000002/state.safetensors", folder);
    cr_assert_eq(truncate(state, 1000), 0);
    cr_expect_eq(kit_train(folder, "run", "--quiet --resume", &text), 1);
    cr_expect(strstr(text, "step-000002/state.safetensors"), "%s", text);
    free(state);
    free(text);
    kit_remove(folder);
}

/* Replaces `word` in FOLDER/PATH, once, by another of the same length. */
static void edit(const char *folder, const char *path, const char *word, const char *by) {
    graft_error err = {0};
    char *const full = path_join(folder, path), *const text = kit_read(folder, path), *const at = strstr(text, word);
    cr_assert(at && strlen(word) == strlen(by), "%s has no %s: %s", path, word, text);
    memcpy(at, by, strlen(by));
    cr_assert_eq(file_write(full, text, (int64_t)strlen(text), &err), GRAFT_OK, "%s", err.text);
    free(full);
    free(text);
}

static void expect_failure(const char *folder, const char *words, const char *also) {
    char *text;
    cr_expect_eq(kit_train(folder, "run", "--quiet --resume", &text), 1, "%s", text);
    cr_expect(strstr(text, words) && strstr(text, also), "\"%s\" or \"%s\" is not in: %s", words, also, text);
    free(text);
}

Test(resume, a_checkpoint_that_was_edited_renamed_or_lost_a_file_is_refused_with_what_to_do) {
    char *const folder = kit_make(6);
    kit_ini(folder, "run", LORA ADAMW "[train]\nsave_every = 2\n");
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 4", NULL), 0);
    char *const newer = mem_format("%s/run/checkpoints/step-000004", folder),
                *const other = mem_format("%s/run/checkpoints/step-000005", folder),
                *const sums = mem_format("%s/checksums", newer);
    static const char numbers[] = "run/checkpoints/step-000004/trainer.json";
    edit(folder, numbers, "\"step\": 4", "\"step\": 3");
    expect_failure(folder, "step-000004/trainer.json is not what was written", "remove the folder");
    edit(folder, numbers, "\"step\": 3", "\"step\": 4");
    edit(folder, "run/checkpoints/step-000004/adapter_config.json", "\"r\": 4", "\"r\": 5");
    expect_failure(folder, "step-000004/adapter_config.json is not what was written", "remove the folder");
    edit(folder, "run/checkpoints/step-000004/adapter_config.json", "\"r\": 5", "\"r\": 4");
    cr_assert_eq(rename(newer, other), 0);
    expect_failure(folder, "step-000005/trainer.json stands at step 4", "its name back");
    cr_assert_eq(rename(other, newer), 0);
    cr_assert_eq(unlink(sums), 0);
    expect_failure(folder, "step-000004/checksums is missing", "remove the folder");
    /* as it is before checksums were there: numbers must fit together */
    edit(folder, numbers, "\"format\": 2", "\"format\": 1");
    edit(folder, numbers, "\"updates\": 4", "\"updates\": 5");
    expect_failure(folder, "updates and skipped is 5, more than step (4)", "trainer.json");
    edit(folder, numbers, "\"updates\": 5", "\"updates\": 4");
    char *text;
    cr_expect_eq(kit_train(folder, "run", "--quiet --resume", &text), 0, "%s", text);
    free(text);
    free(newer);
    free(other);
    free(sums);
    kit_remove(folder);
}

/* ---- metrics.jsonl between the parts ---- */

/* The text from line `first` on. */
static const char *lines_from(const char *text, int first) {
    for (; first > 1 && text; first--)
        text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL;
    return text ? text : "";
}

Test(resume, metrics_that_were_removed_or_cut_go_on_as_an_unbroken_run_has_them, .timeout = 120) {
    char *const folder = kit_make(6), *text;
    kit_ini(folder, "whole", LORA ADAMW);
    kit_ini(folder, "run", LORA ADAMW);
    cr_assert_eq(kit_train(folder, "whole", "--quiet", NULL), 0);
    char *const whole = kit_read(folder, "whole/metrics.jsonl"), *const path =
                                                                     mem_format("%s/run/metrics.jsonl", folder);
    const char *const fourth = lines_from(whole, 4), *const fifth = lines_from(whole, 5);
    const struct {
        const char *left; /* up to here */
        const char *added, *said;
        const char *kept; /* up to here */
    } rows[] = {
        {NULL,       "",                                               "was removed",        whole },
        {fourth + 9, "",                                               "was cut or changed", fourth}, /* within a line */
        {fifth - 1,  "",                                               NULL,                 fifth }, /* its line break */
        {fifth,      "{\"step\": 5, \"loss\": 9}\n{\"step\": 6, \"lo", NULL,                 fifth }, /* past the checkpoint */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graft_error err = {0};
        cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 4 --overwrite", NULL), 0);
        char *const damaged =
            mem_format("%.*s%s", rows[i].left ? (int)(rows[i].left - whole) : 0, whole, rows[i].added);
        if (rows[i].left)
            cr_assert_eq(file_write(path, damaged, (int64_t)strlen(damaged), &err), GRAFT_OK, "%s", err.text);
        else
            cr_assert_eq(unlink(path), 0);
        cr_assert_eq(kit_train(folder, "run", "--resume", &text), 0, "%s", text);
        cr_expect(rows[i].said ? strstr(text, rows[i].said) != NULL : !strstr(text, "metrics.jsonl"), "%s", text);
        char *const wanted = mem_format("%.*s%s", (int)(rows[i].kept - whole), whole, fifth), *const is = kit_read(
                                                                                                  folder,
                                                                                                  "run/metrics.jsonl");
        cr_expect_str_eq(is, wanted, "row %zu", i);
        free(damaged);
        free(wanted);
        free(is);
        free(text);
    }
    free(whole);
    free(path);
    kit_remove(folder);
}

/* ---- what must not change a bit ---- */

Test(training, threads_and_micro_batches_and_keeping_activations_change_no_bit) {
    char *const folder = kit_make(4), *text;
    static const char *const more[] = {"--set train.threads=1", "--set train.threads=5",
                                       "--set train.checkpoint_activations=yes", "--set train.accumulate=4"};
    kit_ini(folder, "run", LORA ADAMW "[train]\nthreads = 2\ncheckpoint_activations = no\n");
    cr_assert_eq(kit_train(folder, "run", "--quiet", NULL), 0);
    for (int i = 0; i < 4; i++) {
        char *const options = mem_format("--quiet --set output.path=%s/other%d %s", folder, i, more[i]);
        char *const name = mem_format("other%d", i);
        cr_assert_eq(kit_train(folder, "run", options, &text), 0, "%s", text);
        cr_expect(kit_same(folder, "run", name, "metrics.jsonl"), "%s", more[i]);
        cr_expect(kit_same(folder, "run", name, "adapter_model.safetensors"), "%s", more[i]);
        free(options);
        free(name);
        free(text);
    }
    kit_remove(folder);
}
