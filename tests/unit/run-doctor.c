/* The label doctor: what it counts, what it refuses, and how a person overrides it. The model of the quickstart has a token a byte
 * and ends texts with <|endoftext|>. */
#include "base/file.h"
#include "run/doctor.h"
#include "text-kit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL SOURCE_DIR "/examples/quickstart/model"
#define CHAT(question, answer)                                                                                         \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"" question                                                    \
    "\"}, {\"role\": \"assistant\", \"content\": \"" answer "\"}]}\n"

TestSuite(doctor, .init = kit_begin, .fini = kit_end);

typedef struct {
    registry *plugins;
    recipe *recipe;
    data_source *data;
    graft_error err;
} opened;

static opened open_data(const char *records, const char *settings) {
    opened o = {.plugins = registry_create()};
    char *const ini = mem_format("[data]\npath = %s\n%s\n", kit_file("a.jsonl", records, -1), settings);
    recipe_load(o.plugins, kit_file("run.ini", ini, -1), NULL, 0, 0, &o.recipe, NULL, &o.err);
    if (o.recipe) data_text_open(o.recipe, MODEL, &o.data, &o.err);
    free(ini);
    return o;
}

static void close_data(opened *o) {
    if (o->data) o->data->close(o->data);
    recipe_free(o->recipe);
    registry_free(o->plugins);
}

static int64_t count_of(const json_t *report, const char *key) {
    return json_integer_value(json_object_get(json_object_get(report, "train"), key));
}

/* The message of the check, "" when all is well. */
static void expect_check(const char *records, const char *settings, const char *part) {
    opened o = open_data(records, settings);
    graft_error err = {0};
    cr_assert_not_null(o.data, "%s", o.err.text);
    doctor_check(o.recipe, o.data, 1, &err);
    if (*part)
        cr_expect(err.code == GRAFT_USAGE && strstr(err.text, part), "%s", err.text);
    else
        cr_expect(!err.code, "%s", err.text);
    close_data(&o);
}

Test(doctor, counts_what_is_learned_cut_dropped_and_doubled) {
    opened o = open_data(CHAT("a", "bcd") CHAT("a", "bcd")
                             CHAT("a", "") "{\"text\": \"\"}\n"
                                           "{\"messages\": [{\"role\": \"user\", \"content\": \"alone\"}]}\n"
                                           "{\"messages\": 3}\n",
                         "chat_template = plain\non_error = skip\n");
    graft_error err = {0};
    json_t *report = NULL;
    cr_assert_not_null(o.data, "%s", o.err.text);
    cr_assert_eq(doctor_json(o.recipe, o.data, 1, &report, &err), 0, "%s", err.text);
    cr_expect_eq(count_of(report, "records"), 6);
    cr_expect_eq(count_of(report, "used"), 3);
    cr_expect_eq(count_of(report, "duplicates"), 1);
    cr_expect_eq(count_of(report, "learn_end"), 3);
    cr_expect_eq(count_of(report, "supervised"), 5 + 5 + 2, "a space, the answer, the end");
    const json_t *const dropped = json_object_get(json_object_get(report, "train"), "dropped");
    cr_expect_eq(json_integer_value(json_object_get(dropped, "no_target")), 1);
    cr_expect_eq(json_integer_value(json_object_get(dropped, "empty")), 1);
    cr_expect_eq(json_integer_value(json_object_get(dropped, "damaged")), 1);
    const json_t *const sample = json_array_get(json_object_get(report, "samples"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(sample, "text")), "User: a\nAssistant: bcd<|endoftext|>\n");
    cr_expect_str_eq(json_string_value(json_object_get(sample, "mask")), "000000000000000000111110");
    json_decref(report);
    close_data(&o);
}

Test(doctor, refuses_conversations_that_never_teach_an_end) {
    expect_check(CHAT("a", "bcd"), "chat_template = plain\n", "");
    expect_check(CHAT("a", "bcdefgh"), "chat_template = plain\nmax_length = 20\n", "[data] allow = no_eos");
    expect_check(CHAT("a", "bcdefgh"), "chat_template = plain\nmax_length = 20\nallow = no_eos\n", "");
    expect_check(CHAT("a", "b"), "chat_template = {{ messages[0].content }}: {{ messages[1].content }}.\n",
                 "(<|endoftext|>)");
    expect_check(CHAT("a", "bcd"), "chat_template = plain\nallow = no_oes\n",
                 "\"no_oes\" is none of no_eos, doubled_bos");
}

#define PAIR(prompt, completion) "{\"prompt\": \"" prompt "\", \"completion\": \"" completion "\"}\n"

Test(doctor, what_is_measured_alone_need_not_teach_an_end) {
    opened o = open_data(PAIR("a", "bcd"), "append_eos = no\n");
    graft_error err = {0};
    cr_assert_not_null(o.data, "%s", o.err.text);
    cr_expect_eq(doctor_check(o.recipe, o.data, 0, &err), GRAFT_OK, "%s", err.text);
    cr_expect_eq(doctor_check(o.recipe, o.data, 1, &err), GRAFT_USAGE);
    close_data(&o);
}

Test(doctor, refuses_completions_that_never_teach_an_end) {
    expect_check(PAIR("a", "bcd"), "", "");
    expect_check(PAIR("a", "bcd"), "append_eos = no\n", "(<|endoftext|>): append_eos = no writes none");
    expect_check(PAIR("a", "bcd"), "append_eos = no\nallow = no_eos\n", "");
    expect_check(PAIR("a", "bcd<|endoftext|>"), "append_eos = no\n", "");
    expect_check(PAIR("a", "bcd"), "max_length = 3\n", "max_length cuts all ends off");
    expect_check("{\"text\": \"as in pretraining\"}\n", "append_eos = no\n", "");
}

Test(doctor, says_what_each_file_is_and_which_fields_are_read) {
    opened o = open_data("{\"id\": 1, \"prompt\": \"a\", \"completion\": \"b\", \"note\": null}\n"
                         "{\"id\": 2, \"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}\n"
                         "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n"
                         "{\"id\": 3, \"prompt\": \"a\", \"completion\": \"c\"}\n",
                         "");
    static const char *const kinds[] = {"prompt and completion", "Alpaca", "chosen and rejected"};
    static const json_int_t records[] = {2, 1, 1};
    graft_error err = {0};
    json_t *report = NULL;
    cr_assert_eq(doctor_json(o.recipe, o.data, 0, &report, &err), 0, "%s", err.text);
    const json_t *const file = json_array_get(json_object_get(report, "files"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(file, "format")), "JSONL");
    const json_t *const list = json_object_get(file, "kinds");
    cr_assert_eq(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *const kind = json_array_get(list, i);
        cr_expect_str_eq(json_string_value(json_object_get(kind, "kind")), kinds[i]);
        cr_expect_eq(json_integer_value(json_object_get(kind, "records")), records[i]);
    }
    char *const used = json_dumps(json_object_get(json_array_get(list, 1), "fields"), 0);
    char *const ignored = json_dumps(json_object_get(file, "ignored"), 0);
    cr_expect_str_eq(used, "[\"instruction\", \"output\"]");
    cr_expect_str_eq(ignored, "[\"id\", \"input\", \"rejected\"]");
    free(used), free(ignored);
    json_decref(report);
    close_data(&o);
}

Test(doctor, shows_samples_of_each_file_in_turn) {
    char *const second = mem_copy_text(kit_file("b.jsonl", PAIR("c", "d"), -1));
    char *const settings = mem_format("path = %s, %s, %s\n", kit_file("c.jsonl", PAIR("e", "f") PAIR("g", "h"), -1),
                                      second, kit_file("d.jsonl", PAIR("i", "j") PAIR("k", "l") PAIR("m", "n"), -1));
    static const char *const wanted[] = {"ef", "cd", "ij", "gh", "kl"};
    opened o = {.plugins = registry_create()};
    char *const ini = mem_format("[data]\n%s", settings);
    graft_error err = {0};
    json_t *report = NULL;
    cr_assert_eq(recipe_load(o.plugins, kit_file("run.ini", ini, -1), NULL, 0, 0, &o.recipe, NULL, &err), 0);
    cr_assert_eq(data_text_open(o.recipe, MODEL, &o.data, &err), 0, "%s", err.text);
    cr_assert_eq(doctor_json(o.recipe, o.data, 5, &report, &err), 0, "%s", err.text);
    const json_t *const samples = json_object_get(report, "samples");
    cr_assert_eq(json_array_size(samples), 5);
    for (size_t i = 0; i < 5; i++)
        cr_expect_str_eq(json_string_value(json_object_get(json_array_get(samples, i), "text")), wanted[i]);
    json_decref(report);
    close_data(&o);
    free(second), free(settings), free(ini);
}

Test(doctor, the_day_that_a_template_names_is_the_one_of_the_setting) {
    opened o = open_data(CHAT("a", "b"), "date = 2024-07-26\nchat_template = {{ strftime_now('%d %b %Y') }}{{ "
                                         "messages[1].content }}{{ eos_token }}\n");
    graft_error err = {0};
    data_text_piece p;
    cr_assert_not_null(o.data, "%s", o.err.text);
    cr_assert_eq(data_text_sample(o.data, 0, &p, &err), 0);
    cr_expect_eq(strncmp(p.whole->text, "26 Jul 2024b", 12), 0, "%s", p.whole->text);
    cr_expect_str_eq(o.data->date, "2024-07-26"); /* so a run resumed on another day is told */
    close_data(&o);
    o = open_data(CHAT("a", "b"), "chat_template = plain\n");
    cr_expect_str_eq(o.data->date, "");
    close_data(&o);
    o = open_data(CHAT("a", "b"), "chat_template = plain\ndate = 2024-7\n");
    cr_expect(strstr(o.err.text, "date is no day"), "%s", o.err.text);
    close_data(&o);
}

Test(doctor, refuses_two_begin_tokens) {
    const char *const twice =
        "chat_template = {{ bos_token }}{{ bos_token }}{{ messages[1].content }}{{ eos_token }}\n";
    char *const allowed = mem_format("%sallow = doubled_bos\n", twice);
    expect_check(CHAT("a", "b"), twice, "1 of 1 conversations begin with two BOS tokens");
    expect_check(CHAT("a", "b"), allowed, "");
    free(allowed);
}

static void expect_remark(const char *records, const char *settings, const char *part) {
    opened o = open_data(records, settings);
    graft_error err = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *const to = open_memstream(&text, &size);
    cr_assert_not_null(o.data, "%s", o.err.text);
    doctor_print(o.recipe, o.data, 0, 0, to, &err);
    fclose(to);
    cr_expect(strstr(text, part), "%s", text);
    free(text);
    close_data(&o);
}

Test(doctor, says_why_a_conversation_cannot_teach_where_to_stop) {
    expect_remark(CHAT("a", "b") CHAT("a", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                  "chat_template = plain\nmax_length = 28\n",
                  "1 conversation that cannot teach where to stop: the end is cut off at max_length = 28");
    expect_remark(
        CHAT("a", "b") CHAT("a", "c"),
        "chat_template = all: {{ messages[1].content }}{% if messages[1].content == 'b' %}{{ eos_token }}{% endif "
        "%}\ntrain_on = all\nappend_eos = no\n",
        "1 conversation that cannot teach where to stop: the template writes no end token");
}

Test(doctor, a_conversation_without_any_template_is_refused_with_its_line) {
    opened o = open_data(CHAT("a", "b"), "");
    cr_expect_null(o.data);
    cr_expect(strstr(o.err.text, "a.jsonl:1: a record of messages needs a chat template"), "%s", o.err.text);
    close_data(&o);
}

Test(doctor, what_a_file_says_commands_no_terminal) {
    opened o = open_data(CHAT("\\u001b[2J", "b"), "chat_template = plain\n");
    graft_error err = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *const to = open_memstream(&text, &size);
    cr_assert_not_null(o.data, "%s", o.err.text);
    doctor_print(o.recipe, o.data, 1, 0, to, &err);
    fclose(to);
    cr_expect(strstr(text, "User: \\x1b[2J\nAssistant:[[ b<|endoftext|>]]"), "%s", text);
    free(text);
    close_data(&o);
}
