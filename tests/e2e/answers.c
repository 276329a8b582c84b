/* `graft eval` on what models write: the quickstart's task before and after tuning, as a file of answers, and what it refuses. */
#include "base/json.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(answers, .timeout = 180);

#define QUICKSTART SOURCE_DIR "/examples/quickstart"
#define MODEL      "eval " QUICKSTART "/model --data " QUICKSTART "/eval.jsonl"

static json_t *json_said(const char *folder, const char *words) {
    char *const all = mem_format("%s --json 2> messages", words), *text;
    json_t *value = NULL;
    graft_error err = {0};
    cr_assert_eq(kit_graft(folder, all, &text), 0, "%s", text);
    cr_assert_eq(json_read_text(text, strlen(text), "output", 0, &value, &err), 0, "%s: %s", err.text, text);
    free(all);
    free(text);
    return value;
}

static double number_of(const json_t *rows, size_t row, const char *key) {
    const json_t *value = json_object_get(json_array_get(rows, row), key);
    cr_expect(json_is_number(value), "%s", key);
    return json_number_value(value);
}

static const char *verdict_of(const json_t *rows, size_t row, const char *metric) {
    const json_t *changes = json_object_get(json_array_get(rows, row), "changes");
    return json_string_value(json_object_get(json_object_get(changes, metric), "verdict"));
}

Test(answers, tuning_makes_the_quickstart_answer_and_every_way_to_score_says_so) {
    char *const folder = kit_make(1), *text;
    cr_assert_eq(kit_graft(folder,
                           "train " QUICKSTART "/lora.ini --quiet --set train.epochs=20 --set output.path=lora --set "
                           "model.path=" QUICKSTART "/model --set data.path=" QUICKSTART "/train.jsonl --set "
                           "data.eval_path=",
                           &text),
                 0, "%s", text);
    free(text);
    cr_assert_eq(kit_graft(folder, "merge " QUICKSTART "/model --adapter lora -o merged", &text), 0, "%s", text);
    free(text);

    json_t *rows = json_said(folder, MODEL " merged --adapter lora --metrics exact_match,loss,bleu --max-new 64 "
                                           "--output many.jsonl");
    cr_assert_eq(json_array_size(rows), 3);
    cr_expect_float_eq(number_of(rows, 0, "exact_match"), 0, 0);
    cr_expect_geq(number_of(rows, 1, "exact_match"), 0.5);
    cr_expect_float_eq(number_of(rows, 2, "exact_match"), number_of(rows, 1, "exact_match"), 0, "merged");
    cr_expect_str_eq(verdict_of(rows, 1, "exact_match"), "better");
    cr_expect_str_eq(verdict_of(rows, 1, "loss"), "better");

    /* one by one the same; and scored again from the file of answers */
    json_t *one = json_said(folder, MODEL " merged --adapter lora --metrics exact_match,loss,bleu --max-new 64 "
                                          "--output one.jsonl --batch 1");
    cr_expect(json_equal(one, rows));
    char *const many = kit_read(folder, "many.jsonl"), *const single = kit_read(folder, "one.jsonl");
    cr_expect_str_eq(many, single);
    json_t *again = json_said(folder, "eval --predictions many.jsonl --metrics bleu,exact_match");
    cr_assert_eq(json_array_size(again), 3);
    for (size_t r = 0; r < 3; r++) {
        cr_expect_float_eq(number_of(again, r, "bleu"), number_of(rows, r, "bleu"), 1e-9);
        cr_expect_float_eq(number_of(again, r, "exact_match"), number_of(rows, r, "exact_match"), 0);
    }
    free(many);
    free(single);
    json_decref(again);
    json_decref(one);
    json_decref(rows);
    kit_remove(folder);
}

static void write_file(const char *folder, const char *words) {
    char *const command = mem_format("cd %s && printf '%%s\\n' %s", folder, words);
    cr_assert_eq(system(command), 0);
    free(command);
}

static void expect_refused(const char *folder, const char *words, const char *said) {
    char *text;
    cr_expect_eq(kit_graft(folder, words, &text), 2, "%s: %s", words, text);
    cr_expect(strstr(text, said), "%s: %s", words, text);
    free(text);
}

Test(answers, several_files_of_predictions_stand_side_by_side) {
    char *const folder = kit_make(1);
    write_file(folder, "'{\"prediction\": \"a b c d\", \"reference\": \"a b c d\"}' "
                       "'{\"prediction\": \"\", \"references\": [\"x\", \"y\"]}' > good.jsonl");
    write_file(folder, "'{\"response\": \"a b\", \"target\": \"a b c d\"}' '{\"output\": \"y\", \"answer\": \"y\"}' > "
                       "other.jsonl");
    json_t *rows = json_said(folder, "eval --predictions good.jsonl --predictions other.jsonl --metrics "
                                     "exact_match,rouge1,chrf++");
    cr_expect_float_eq(number_of(rows, 0, "exact_match"), 0.5, 0);
    cr_expect_float_eq(number_of(rows, 1, "exact_match"), 0.5, 0);
    cr_expect_float_eq(number_of(rows, 1, "rouge1"), (2 * 0.5 / 1.5 + 1) / 2, 1e-9);
    cr_expect_str_eq(verdict_of(rows, 1, "exact_match"), "unclear");
    json_decref(rows);
    kit_remove(folder);
}

Test(answers, choices_are_counted_and_their_records_named_when_they_are_wrong) {
    char *const folder = kit_make(1), *text;
    write_file(folder, "'{\"question\": \"Question: Where does the fox live?\", \"choices\": [\"x\", \"the forest\"], "
                       "\"answer\": \"B\"}' '{\"ctx\": \"The\", \"endings\": [\"fox\"], \"label\": \"0\"}' "
                       "'{\"question\": \"The\", \"choices\": {\"text\": [\"fox\", \"!\"], \"label\": [\"1\", \"2\"]}, "
                       "\"answerKey\": \"2\"}' > good.jsonl");
    write_file(folder, "'{\"question\": \"The\", \"choices\": [\"x\"], \"answer\": \"B\"}' > bad.jsonl");
    json_t *rows = json_said(folder, "eval " QUICKSTART "/model --data good.jsonl --metrics acc,acc_norm,acc_bytes "
                                     "--output out.jsonl");
    cr_expect_float_eq(number_of(rows, 0, "records"), 3, 0);
    cr_expect_geq(number_of(rows, 0, "acc"), 0.33);
    char *const lines = kit_read(folder, "out.jsonl");
    cr_expect(strstr(lines, "\"right\":1") && strstr(lines, "\"loglikelihoods\":["), "%s", lines);
    free(lines);
    json_decref(rows);
    cr_expect_eq(kit_graft(folder, "eval " QUICKSTART "/model --data bad.jsonl --metrics acc", &text), 1, "%s", text);
    cr_expect(strstr(text, "bad.jsonl:1: the answer is neither"), "%s", text);
    free(text);
    kit_remove(folder);
}

Test(answers, what_cannot_be_measured_is_refused_with_a_reason) {
    char *const folder = kit_make(1);
    expect_refused(folder, MODEL " --metrics blue", "there is no metric \"blue\"; there are loss, perplexity");
    expect_refused(folder, MODEL " --metrics acc,loss", "stand alone");
    expect_refused(folder, MODEL " --stride 4", "need a --text FILE");
    expect_refused(folder, "eval " QUICKSTART "/model --text " QUICKSTART "/story.txt --stride 9 --context 8",
                   "must not exceed the context");
    expect_refused(folder, "eval --predictions x --metrics loss", "need a model");
    expect_refused(folder, "eval " QUICKSTART "/model --predictions x", "no model or adapter goes with it");
    kit_remove(folder);
}
