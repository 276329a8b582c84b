/* `graft eval` gives the number that training gave at its end: on a quantized base, and with rows in front of the text. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRAIN "[optimizer]\nlr = 0.05\n[train]\nsteps = 4\n"

static void train(const char *folder, const char *name, const char *sections) {
    char *text;
    kit_ini(folder, name, sections);
    cr_assert_eq(kit_train(folder, name, "--quiet", &text), 0, "%s", text);
    free(text);
}

static json_t *json_of(const char *text) {
    json_t *value = NULL;
    graft_error err = {0};
    cr_assert_eq(json_read_text(text, strlen(text), "output", 0, &value, &err), GRAFT_OK, "%s: %s", err.text, text);
    return value;
}

/* The rows of `graft eval OPTIONS --json`; messages go elsewhere. */
static json_t *evaluate(const char *folder, const char *options) {
    char *const words = mem_format("eval model %s --json 2> messages", options), *text;
    cr_assert_eq(kit_graft(folder, words, &text), 0, "%s", text);
    json_t *const rows = json_of(text);
    free(words);
    free(text);
    return rows;
}

static double loss_of(const json_t *rows, size_t row) {
    return json_number_value(json_object_get(json_array_get(rows, row), "loss"));
}

static const char *text_of(const json_t *rows, size_t row, const char *key) {
    const char *const text = json_string_value(json_object_get(json_array_get(rows, row), key));
    return text ? text : "";
}

static double trained_loss(const char *folder, const char *name, const char *key) {
    char *const path = mem_format("%s/result.json", name), *const text = kit_read(folder, path);
    json_t *const result = json_of(text);
    const double loss = json_number_value(json_object_get(result, key));
    json_decref(result);
    free(path);
    free(text);
    return loss;
}

Test(evaluate, an_adapter_of_a_quantized_base_is_measured_on_that_base) {
    char *const folder = kit_make(4), *text;
    train(folder, "q", "[quantizer]\nplugin = quant-nf4\nblock_size = 32\n[adapter]\nplugin = lora\nrank = 4\n" TRAIN);
    train(folder, "plain", "[adapter]\nplugin = lora\nrank = 4\n" TRAIN);
    json_t *rows = evaluate(folder, "--adapter q --ini plain.ini");
    cr_assert_eq(json_array_size(rows), 2);
    cr_expect_float_eq(loss_of(rows, 0), trained_loss(folder, "q", "eval_before"), 1e-6);
    cr_expect_float_eq(loss_of(rows, 1), trained_loss(folder, "q", "eval_after"), 1e-6);
    cr_expect_str_eq(text_of(rows, 1, "quantizer"), "quant-nf4");
    json_decref(rows);
    char *const note = kit_read(folder, "messages");
    cr_expect(strstr(note, "q/quantizer.ini says; --quantizer none"), "%s", note);
    free(note);
    rows = evaluate(folder, "--adapter q --ini plain.ini --quantizer none");
    cr_expect_float_eq(loss_of(rows, 0), trained_loss(folder, "plain", "eval_before"), 1e-6);
    cr_expect_gt(fabs(loss_of(rows, 1) - trained_loss(folder, "q", "eval_after")), 1e-5);
    json_decref(rows);
    /* each on its own base, which has a row in front */
    rows = evaluate(folder, "--adapter plain --adapter q --ini plain.ini");
    cr_assert_eq(json_array_size(rows), 4);
    cr_expect_str_eq(text_of(rows, 1, "name"), "plain");
    cr_expect_float_eq(loss_of(rows, 1), trained_loss(folder, "plain", "eval_after"), 1e-6);
    cr_expect_str_eq(text_of(rows, 2, "quantizer"), "quant-nf4");
    cr_expect_float_eq(loss_of(rows, 2), trained_loss(folder, "q", "eval_before"), 1e-6);
    cr_expect_float_eq(loss_of(rows, 3), trained_loss(folder, "q", "eval_after"), 1e-6);
    json_decref(rows);
    /* generating and merging take the same base */
    cr_expect_eq(kit_graft(folder, "generate model --adapter q --ids 3,4 --max-new 2", &text), 0, "%s", text);
    cr_expect(strstr(text, "quantized by quant-nf4"), "%s", text);
    free(text);
    cr_expect_eq(kit_graft(folder, "merge model --adapter q -o merged", &text), 0, "%s", text);
    cr_expect(strstr(text, "quantized by quant-nf4"), "%s", text);
    free(text);
    cr_assert_eq(kit_graft(folder, "eval merged --ini plain.ini --json 2> messages", &text), 0, "%s", text);
    rows = json_of(text);
    cr_expect_float_eq(loss_of(rows, 0), trained_loss(folder, "q", "eval_after"), 1e-4);
    json_decref(rows);
    free(text);
    cr_expect_eq(kit_graft(folder, "generate model --adapter q --adapter plain --ids 3 --max-new 2", &text), 0, "%s",
                 text);
    cr_expect(strstr(text, "q and plain were trained on bases that were quantized differently"), "%s", text);
    free(text);
    /* so does what is made of several, and who goes on without it is told */
    cr_expect_eq(kit_graft(folder, "merge model --adapter q --adapter q --combine linear -o both", &text), 0, "%s",
                 text);
    cr_expect(kit_same(folder, "q", "both", "quantizer.ini"));
    free(text);
    char *const options = mem_format("--set adapter.start=%s/q --set output.path=%s/again", folder, folder);
    cr_expect_eq(kit_train(folder, "plain", options, &text), 0, "%s", text);
    cr_expect(strstr(text, "q was trained on a quantized base, this run's is not"), "%s", text);
    free(options);
    free(text);
    kit_remove(folder);
}

Test(evaluate, rows_in_front_of_the_text_are_measured_as_they_were_trained) {
    char *const folder = kit_make(4);
    train(folder, "prompt", "[adapter]\nplugin = prompt\ntokens = 5\nspread = 1\n" TRAIN);
    train(folder, "prefix", "[adapter]\nplugin = prefix\ntokens = 3\nspread = 1\n" TRAIN);
    json_t *const rows = evaluate(folder, "--adapter prompt --adapter prefix --ini prompt.ini");
    cr_assert_eq(json_array_size(rows), 3);
    cr_expect_float_eq(loss_of(rows, 1), trained_loss(folder, "prompt", "eval_after"), 1e-6);
    cr_expect_float_eq(loss_of(rows, 2), trained_loss(folder, "prefix", "eval_after"), 1e-6);
    json_decref(rows);
    kit_remove(folder);
}

static void put(const char *folder, const char *name, const char *text) {
    graft_error err = {0};
    char *const path = path_join(folder, name);
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), GRAFT_OK, "%s", err.text);
    free(path);
}

/* Rows of packed conversations hold more documents than a pass of prompt tuning has room for by itself. */
Test(evaluate, packed_rows_behind_virtual_ones_are_trained_measured_and_talked_to) {
    char *const folder = kit_make(2), *text, *alone, *off;
    static const char *const names[] = {"prompt", "prefix"};
    static const char quickstart[] = SOURCE_DIR "/examples/quickstart";
    put(folder, "hello", "Hello\n");
    put(folder, "off", "/adapter none\nHello\n");
    for (int i = 0; i < 2; i++) {
        char *const sections = mem_format("[adapter]\nplugin = %s\ntokens = 6\nspread = 0.05\n" TRAIN, names[i]);
        char *const options = mem_format("--quiet --set model.path=%s/model --set data.loader=jsonl --set "
                                         "data.path=%s/train.jsonl --set data.eval_path=%s/eval.jsonl --set "
                                         "data.packing=yes --set data.max_length=1024",
                                         quickstart, quickstart, quickstart);
        kit_ini(folder, names[i], sections);
        cr_assert_eq(kit_train(folder, names[i], options, &text), 0, "%s", text);
        free(text);
        char *const words = mem_format("eval %s/model --adapter %s --json 2> messages", quickstart, names[i]);
        cr_assert_eq(kit_graft(folder, words, &text), 0, "%s", text);
        json_t *const rows = json_of(text);
        cr_expect_float_eq(loss_of(rows, 1), trained_loss(folder, names[i], "eval_after"), 1e-6, "%s", names[i]);
        json_decref(rows);
        free(text);
        /* a conversation without the adapter is one with the base */
        char *const talk =
            mem_format("chat %s/model --adapter %s --template plain --greedy --max-new 12 < off", quickstart, names[i]);
        cr_assert_eq(kit_graft(folder, talk, &off), 0, "%s", off);
        char *const base = mem_format("chat %s/model --template plain --greedy --max-new 12 < hello", quickstart);
        cr_assert_eq(kit_graft(folder, base, &alone), 0, "%s", alone);
        cr_expect_str_eq(off, alone, "%s", names[i]);
        char *const strings[] = {sections, options, words, talk, base, off, alone};
        for (int k = 0; k < 7; k++)
            free(strings[k]);
    }
    kit_remove(folder);
}
