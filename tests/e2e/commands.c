/* What commands say to somebody who mistyped, and before they have read a weight. */
#include "base/file.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LORA "[adapter]\nplugin = lora\nrank = 4\n[train]\nsteps = 2\n"

static void expect_said(const char *folder, const char *words, int code, const char *said) {
    char *text;
    cr_expect_eq(kit_graft(folder, words, &text), code, "%s: %s", words, text);
    cr_expect(strstr(text, said), "graft %s: \"%s\" is not in: %s", words, said, text);
    free(text);
}

Test(commands, what_is_missing_is_named) {
    char *const folder = kit_make(2);
    expect_said(folder, "eval", 2, "MODEL... is missing");
    expect_said(folder, "train", 2, "RUN.INI is missing");
    expect_said(folder, "extract model", 2, "TUNED is missing");
    expect_said(folder, "prune", 2, "did you mean \"probe\"; graft help prune explains what it is in an INI file");
    expect_said(folder, "inspect nowhere", 1, "nowhere: there is no such file or folder; name a model or adapter");
    kit_remove(folder);
}

Test(commands, files_that_are_not_there_are_told_with_all_other_mistakes) {
    char *const folder = kit_make(2), *text;
    kit_ini(folder, "run", LORA);
    cr_expect_eq(kit_graft(folder,
                           "check run.ini --set model.path=no-model --set data.path=a.jsonl --set "
                           "adapter.start=no-adapter --set adapter.rank=0",
                           &text),
                 2);
    static const char *const said[] = {"[model] path names no-model, which is not there",
                                       "[data] path names a.jsonl, which is not there",
                                       "[adapter] start names no-adapter, which is not there", "rank = 0 is outside"};
    for (int i = 0; i < 4; i++)
        cr_expect(strstr(text, said[i]), "\"%s\" is not in: %s", said[i], text);
    free(text);
    kit_remove(folder);
}

Test(commands, options_that_contradict_each_other_are_refused) {
    char *const folder = kit_make(2);
    expect_said(folder, "generate model --ids 1 --sample --greedy", 2, "--sample wants one to be drawn");
    expect_said(folder, "generate model --ids 1 --greedy --temperature 0.7", 2, "--temperature wants one to be drawn");
    expect_said(folder, "chat model --top-k 3 --greedy", 2, "--top-k wants one to be drawn");
    expect_said(folder, "generate model --ids 1 --greedy --seed 3 --repetition-penalty 1.1 --max-new 2", 0, "");
    expect_said(folder, "train x.ini --resume --overwrite", 2, "contradict each other");
    kit_remove(folder);
}

Test(commands, a_folder_that_is_something_else_is_told_from_what_was_wanted) {
    char *const folder = kit_make(4);
    kit_ini(folder, "run", LORA);
    cr_assert_eq(kit_train(folder, "run", "--quiet --stop-after 1", NULL), 0);
    expect_said(
        folder, "generate model --ids 1 --adapter run", 2,
        "run holds a run that has not ended; its newest checkpoint is an adapter too: run/checkpoints/step-000001");
    expect_said(folder, "generate model --ids 1 --adapter run/checkpoints/step-000001 --max-new 2", 0, "");
    expect_said(folder, "generate run/checkpoints/step-000001 --ids 1", 2, "holds an adapter, no model");
    expect_said(folder, "generate model --ids 1 --adapter model", 2, "model holds a model, no adapter");
    expect_said(folder, "generate model --ids 1 --adapter run.ini", 2,
                "run.ini is not a folder; an adapter is a folder");
    expect_said(folder, "generate model --ids 1 --adapter config", 2, "config holds a model, no adapter");
    expect_said(folder, "generate model --ids 1 --adapter .", 2, ". holds no adapter");
    kit_remove(folder);
}

Test(commands, whole_numbers_are_printed_whole) {
    char *const folder = kit_make(2);
    kit_ini(folder, "run", LORA);
    expect_said(folder, "train run.ini --set train.batch_size=0", 2, "outside its bounds 1 to 1000000");
    expect_said(folder, "train run.ini --set train.batch_size=x", 2, "a whole number from 1 to 1000000 is wanted");
    kit_remove(folder);
}

Test(commands, a_place_that_cannot_be_written_is_refused_before_weights_are_read) {
    char *const folder = kit_make(2), *const weights = path_join(folder, "model/model.safetensors"), *text;
    graft_error err = {0};
    kit_ini(folder, "run", LORA);
    kit_ini(folder, "done", LORA);
    cr_assert_eq(kit_train(folder, "done", "--quiet", &text), 0, "%s", text);
    cr_expect_str_eq(strrchr(text, '/'), "/done\n", "quiet prints one line: %s", text);
    cr_expect_eq(strchr(text, '\n') - text, (ptrdiff_t)strlen(text) - 1, "quiet prints one line: %s", text);
    free(text);
    expect_said(folder, "check run.ini --set output.path=run.ini", 2, "run.ini is a file; name another folder");
    expect_said(folder, "check run.ini --set output.path=model", 2, "folder of the model itself");
    expect_said(folder, "check done.ini", 0, "ok; a run lies there already");
    expect_said(folder, "check run.ini", 0, "ok\n");
    char *const inner = path_join(folder, "done/checkpoints");
    cr_assert(!file_remove_tree(inner, &err) && !file_write(inner, "x", 1, &err), "%s", err.text);
    cr_assert_eq(file_remove_tree(weights, &err), GRAFT_OK); /* whoever reads them fails otherwise */
    expect_said(folder, "train run.ini --set output.path=run.ini", 2, "run.ini is a file; name another folder");
    expect_said(folder, "train run.ini --set output.path=run.ini/x/y", 2,
                "run.ini is a file, so there is no folder run.ini/x/y");
    expect_said(folder, "train done.ini --resume", 2, "checkpoints is a file");
    expect_said(folder, "merge model --adapter done -o run.ini", 2, "run.ini is a file; name another folder");
    free(inner);
    free(weights);
    kit_remove(folder);
}
