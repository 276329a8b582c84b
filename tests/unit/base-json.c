/* What readers of model folders rely on: errors name file, line, column; types are checked; known traps are handled. */
#include "base/file.h"
#include "base/json.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *parse(const char *text, size_t flags) {
    graft_error err = {0};
    json_t *value;
    cr_assert_eq(json_read_text(text, strlen(text), "test", flags, &value, &err), 0, "%s", err.text);
    return value;
}

static void refuse(const char *text, const char *want) {
    graft_error err = {0};
    json_t *value;
    cr_assert_eq(json_read_text(text, strlen(text), "a.json", 0, &value, &err), GRAFT_FAILED);
    cr_assert_null(value);
    cr_assert_not_null(strstr(err.text, want), "\"%s\" is not in \"%s\"", want, err.text);
}

Test(json, errors_name_file_line_and_column) {
    refuse("{\n  \"a\": 1,\n  \"b\" 2\n}", "a.json:3:7: ");
    refuse("{\"a\": 1", "a.json:1:7: ");
    refuse("", "a.json:1:0: ");
    refuse("{\"a\": \"\xff\"}", "a.json:1:");
    refuse("{\"a\": 1, \"a\": 2}", "duplicate");
    refuse("{\"model_max_length\": 1000000000000000019884624838656}", "a.json:1:");
}

Test(json, deep_nesting_is_an_error_and_no_crash) {
    enum { DEPTH = 1000000 };
    char *const text = malloc(DEPTH + 1);
    memset(text, '[', DEPTH);
    text[DEPTH] = '\0';
    refuse(text, "a.json:1:");
    free(text);
}

Test(json, duplicates_and_nul_can_be_read_where_a_file_needs_them) {
    json_t *const value = parse("{\"a\": 1, \"a\": 2, \"t\": \"x\\u0000y\"}", JSON_LENIENT_DUPLICATES);
    cr_assert_eq(json_integer_value(json_object_get(value, "a")), 2);
    cr_assert_eq(json_string_length(json_object_get(value, "t")), 3);
    json_decref(value);
}

/* What transformers writes for "no limit". */
Test(json, huge_integer_of_tokenizer_configs_is_read_as_a_real) {
    json_t *const value =
        parse("{\"model_max_length\": 1000000000000000019884624838656, \"n\": 512}", JSON_DECODE_INT_AS_REAL);
    graft_error err = {0};
    double real;
    int64_t n;
    cr_assert_eq(json_get_real(value, "c", "model_max_length", 0, &real, &err), 0);
    cr_assert_eq(real, 1e30);
    cr_assert_eq(json_get_int(value, "c", "n", 0, &n, &err), 0);
    cr_assert_eq(n, 512);
    cr_assert_eq(json_get_int(value, "c", "model_max_length", 0, &n, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "model_max_length"));
    json_decref(value);
}

Test(json, real_tokenizer_config_is_read) {
    const char *const path = SHARED_DIR "/models/tinystories656k/tokenizer_config.json";
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: the tokenizer config of tinystories656k is not there\n");
        cr_skip_test();
    }
    graft_error err = {0};
    json_t *value;
    cr_assert_eq(json_read_file(path, JSON_DECODE_INT_AS_REAL, &value, &err), 0, "%s", err.text);
    json_decref(value);
}

Test(json, look_ups_give_value_or_default) {
    json_t *const o = parse("{\"i\": 7, \"w\": 28.0, \"r\": 1e-5, \"b\": false, \"t\": \"silu\", \"z\": null}", 0);
    graft_error err = {0};
    int64_t i, w, missing, null;
    double r, whole;
    int b;
    const char *t, *none;
    int rc = json_get_int(o, "c", "i", 0, &i, &err) | json_get_int(o, "c", "w", 0, &w, &err) |
             json_get_int(o, "c", "none", -3, &missing, &err) | json_get_int(o, "c", "z", -4, &null, &err) |
             json_get_real(o, "c", "r", 0, &r, &err) | json_get_real(o, "c", "i", 0, &whole, &err) |
             json_get_bool(o, "c", "b", 1, &b, &err) | json_get_text(o, "c", "t", "gelu", &t, &err) |
             json_get_text(o, "c", "none", NULL, &none, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    cr_assert(i == 7 && w == 28 && missing == -3 && null == -4 && b == 0 && !none);
    cr_assert(r == 1e-5 && whole == 7);
    cr_assert_str_eq(t, "silu");
    json_decref(o);
}

Test(json, wrong_types_name_file_key_found_and_wanted) {
    json_t *const o = parse("{\"a\": \"7\", \"b\": 1, \"c\": 1.5, \"d\": true, \"e\": [1]}", 0);
    int64_t i;
    double r;
    int b;
    const char *t;
    graft_error err[6] = {0};
    cr_assert_eq(json_get_int(o, "config.json", "a", 0, &i, &err[0]), GRAFT_FAILED);
    cr_assert_str_eq(err[0].text, "config.json: \"a\" is a text; it must be an integer");
    cr_assert_eq(json_get_int(o, "config.json", "c", 0, &i, &err[1]), GRAFT_FAILED);
    cr_assert_str_eq(err[1].text, "config.json: \"c\" is 1.5; it must be an integer");
    cr_assert_eq(json_get_int(o, "config.json", "d", 0, &i, &err[2]), GRAFT_FAILED);
    cr_assert_eq(json_get_real(o, "config.json", "e", 0, &r, &err[3]), GRAFT_FAILED);
    cr_assert_str_eq(err[3].text, "config.json: \"e\" is an array; it must be a number");
    cr_assert_eq(json_get_bool(o, "config.json", "b", 0, &b, &err[4]), GRAFT_FAILED);
    cr_assert_eq(json_get_text(o, "config.json", "b", NULL, &t, &err[5]), GRAFT_FAILED);
    json_decref(o);
}

Test(json, reals_are_written_as_short_as_they_read_back) {
    char path[] = BINARY_DIR "/base-json-XXXXXX", *text;
    close(mkstemp(path));
    graft_error err = {0};
    int64_t size;
    const char *const cases[][2] = {
        {"{\"lora_dropout\": 0.05, \"lr\": [2e-4, 16.0]}", "{\"lora_dropout\": 0.05, \"lr\": [0.0002, 16.0]}\n"},
        {"[0.1, 0.30000000000000004]",                     "[0.10000000000000001, 0.30000000000000004]\n"      }
    };
    for (int i = 0; i < 2; i++) {
        json_t *const value = parse(cases[i][0], 0);
        cr_assert_eq(json_write_file(path, value, 0, &err), 0, "%s", err.text);
        cr_assert_eq(file_read(path, 1000, &text, &size, &err), 0, "%s", err.text);
        cr_assert_str_eq(text, cases[i][1]);
        free(text);
        json_decref(value);
    }
    unlink(path);
}

Test(json, what_is_written_is_read_back) {
    char path[] = BINARY_DIR "/base-json-XXXXXX";
    close(mkstemp(path));
    graft_error err = {0};
    json_t *const value = parse("{\"b\": [1, 2.5, \"ä\"], \"a\": {}}", 0);
    json_t *back;
    cr_assert_eq(json_write_file(path, value, JSON_INDENT(2), &err), 0, "%s", err.text);
    cr_assert_eq(json_read_file(path, 0, &back, &err), 0, "%s", err.text);
    cr_assert(json_equal(value, back));
    unlink(path);
    json_decref(back);
    cr_assert_eq(json_read_file(path, 0, &back, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, path));
    cr_assert_eq(json_write_file("/dev/full", value, 0, (err = (graft_error){0}, &err)), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "/dev/full"));
    json_decref(value);
}
