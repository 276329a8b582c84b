/* JSON as Python writes it. The expected texts are what CPython 3's json.dumps and repr give. */
#include "formats/jsontext.h"
#include <criterion/criterion.h>
#include <stdlib.h>

static void expect_real(double value, const char *want) {
    strbuf text = {0};
    jsontext_real(&text, value);
    cr_expect_str_eq(text.text, want);
    strbuf_free(&text);
}

Test(formats_jsontext, reals_are_the_shortest_that_read_back) {
    expect_real(0, "0.0");
    expect_real(-0.0, "-0.0");
    expect_real(16, "16.0");
    expect_real(0.1, "0.1");
    expect_real(0.05, "0.05");
    expect_real(1e-5, "1e-05");
    expect_real(0.0001, "0.0001");
    expect_real(0.00012345, "0.00012345");
    expect_real(6e-05, "6e-05");
    expect_real(123456.75, "123456.75");
    expect_real(1e15, "1000000000000000.0");
    expect_real(1e16, "1e+16");
    expect_real(1.5e300, "1.5e+300");
    expect_real(0.0370941162109375, "0.0370941162109375");
    expect_real(1.4707388877868652, "1.4707388877868652");
    expect_real(5e-324, "5e-324");
    expect_real(9007199254740993.0, "9007199254740992.0");
}

Test(formats_jsontext, texts_are_escaped_as_python_does) {
    strbuf ascii = {0}, utf8 = {0};
    static const char text[] = "a\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80";
    jsontext_quote(&ascii, text, 1);
    jsontext_quote(&utf8, text, 0);
    cr_expect_str_eq(ascii.text, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u00e9\\u65e5\\ud83d\\ude00\"");
    cr_expect_str_eq(utf8.text, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80\"");
    strbuf_free(&ascii);
    strbuf_free(&utf8);
}

Test(formats_jsontext, values_are_laid_out_as_python_does) {
    json_t *const value =
        json_loads("{\"b\": [1, -2.5, true, null], \"a\": {\"x\": \"y\"}, \"e\": [], \"o\": {}}", 0, NULL);
    json_t *const sorted = jsontext_sorted(value);
    strbuf line = {0}, lines = {0};
    jsontext_add(&line, value, 0);
    jsontext_add(&lines, sorted, 2);
    cr_expect_str_eq(line.text, "{\"b\": [1, -2.5, true, null], \"a\": {\"x\": \"y\"}, \"e\": [], \"o\": {}}");
    cr_expect_str_eq(lines.text,
                     "{\n  \"a\": {\n    \"x\": \"y\"\n  },\n  \"b\": [\n    1,\n    -2.5,\n    true,\n    null\n  ],\n"
                     "  \"e\": [],\n  \"o\": {}\n}");
    strbuf_free(&line);
    strbuf_free(&lines);
    json_decref(sorted);
    json_decref(value);
}
