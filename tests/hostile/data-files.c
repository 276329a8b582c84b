/* Damaged data files: an error that names the file and, where there is one, the line; never a crash. */
#include "../unit/text-kit.h"
#include "base/file.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(data_files, .init = kit_begin, .fini = kit_end);

typedef struct {
    const char *bytes;
    int64_t size; /* -1: a text */
    const char *wanted;
} hostile_case;

static void expect_end(const char *loader, const char *path, const char *wanted, size_t number) {
    char *const got = kit_records(loader, "", path), *const error = strstr(got, "! ");
    cr_expect(error && (error == got || error[-1] == '\n') && strncmp(error + 2, wanted, strlen(wanted)) == 0,
              "case %zu: got\n%s\nwanted\n%s", number, got, wanted);
    free(got);
}

static void check(const char *loader, const hostile_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++)
        expect_end(loader, kit_file("bad", cases[i].bytes, cases[i].size), cases[i].wanted, i);
}

#define GOOD "{\"text\": \"a\"}\n"

Test(data_files, bytes_that_are_no_text_are_named_by_line_and_byte) {
    static const hostile_case cases[] = {
        {GOOD "b\xFFz\n",             -1,
         "bad:2: byte 2 of the line (16 of the file) is 0xFF: this is not UTF-8; save the file as UTF-8"              },
        {"\xFF\xFE"
         "a\0b\0",           6,  "bad:1: byte 1 of the line (1 of the file) is 0xFF: this seems to be UTF-16"},
        {GOOD GOOD "\0",              29, "bad:3: byte 1 of the line (29 of the file) is 0x00: text has no NUL"       },
        {"ab\xE2\x82",                -1, "bad:1: byte 3 of the line (3 of the file) is 0xE2: this is not UTF-8"      },
        {"\xC0\xAF",                  -1, "bad:1: byte 1 of the line (1 of the file) is 0xC0"                         },
        {"\n\n\n\xED\xA0\x80",        -1, "bad:4: byte 1 of the line (4 of the file) is 0xED"                         },
        {"{\"text\": \"\xE9t\xE9\"}", -1, "bad:1: byte 11 of the line (11 of the file) is 0xE9"                       },
    };
    check("jsonl", cases, sizeof cases / sizeof *cases);
    check("text", cases, sizeof cases / sizeof *cases);
}

/* So that on_error = skip leaves out the line, not the file. */
Test(data_files, records_beside_one_that_is_no_text_can_be_had) {
    static const char *const files[][2] = {
        {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n{\"text\": \"b\"}\n{\"text\": \"\xE9\"}\n"   },
        {"a.json",  "[{\"text\": \"a\"},\n{\"text\": \"\xFF\"},\n{\"text\": \"b\"},\n{\"text\": \"\xE9\"}]"},
        {"a.csv",   "text\na\n\xFF\nb\n\xE9\n"                                                             },
    };
    for (size_t i = 0; i < 3; i++) {
        const kit_loader l = kit_open_loader("jsonl", "");
        source *s = NULL;
        text_record r = {0};
        graft_error none = {0}, first = {0}, second = {0};
        cr_assert_eq(source_open(&l.component->loader, l.config, kit_file(files[i][0], files[i][1], -1), &s, &none), 0);
        cr_assert_eq(source_count(s), 4);
        cr_expect_eq(source_get(s, 1, &r, &first), GRAFT_FAILED);
        cr_expect_not_null(strstr(first.text, "is 0xFF: this is not UTF-8"), "%s", first.text);
        cr_expect_eq(source_get(s, 0, &r, &none), 0);
        cr_expect_eq(source_get(s, 2, &r, &none), 0);
        cr_expect_eq(r.text.text[0], 'b');
        cr_expect_eq(source_get(s, 3, &r, &second), GRAFT_FAILED);
        cr_expect_not_null(strstr(second.text, i == 2 ? ":5: " : ":4: "), "%s", second.text);
        source_close(s);
        record_free(&r);
    }
}

Test(data_files, a_table_that_names_a_field_twice_is_refused) {
    expect_end("jsonl", kit_file("bad.csv", "prompt,prompt,completion\na,b,c\n", -1),
               "bad.csv: the first row of the table", 0);
}

Test(data_files, a_bad_byte_behind_many_blocks_is_named) {
    const int64_t size = (3 << 20) + 100;
    char *const text = mem_new((size_t)size, 1);
    memset(text, 'x', (size_t)size);
    for (int64_t i = 99; i < size; i += 100)
        text[i] = '\n';
    for (int edge = -3; edge < 3; edge++) { /* around the edge of a block */
        const int64_t at = (2 << 20) + edge;
        char wanted[100];
        const char before = text[at];
        text[at] = (char)0x80;
        snprintf(wanted, sizeof wanted, "long:%lld: byte %lld of the line (%lld of the file) is 0x80",
                 (long long)(at / 100 + 1), (long long)(at % 100 + 1), (long long)(at + 1));
        expect_end("text", kit_file("long", text, size), wanted, (size_t)(edge + 3));
        text[at] = before;
    }
    free(text);
}

Test(data_files, damaged_json_is_named_by_line) {
    static const hostile_case cases[] = {
        {GOOD "{\"text\": \"a\n",                    -1, "bad:2: not valid JSON at column "                     },
        {GOOD "\n{\"text\" \"a\"}\n",                -1, "bad:3: not valid JSON at column 11: ':' expected"     },
        {GOOD "garbage",                             -1, "bad:2: not valid JSON"                                },
        {GOOD "{} {}",                               -1, "bad:2: not valid JSON"                                },
        {"{\n  \"text\": \"a\"\n}\n",                -1, "bad:1: not valid JSON at column 1"                    },
        {GOOD "{\"text\": 1e999}",                   -1, "bad:2: not valid JSON"                                },
        {GOOD "{\"text\": NaN}",                     -1, "bad:2: not valid JSON"                                },
        {GOOD "{\"text\": \"\\ud800\"}",             -1, "bad:2: not valid JSON"                                },
        {GOOD "\"text\"",                            -1, "bad:2: a record must be a JSON object"                },
        {GOOD "[\"text\"]",                          -1, "bad:2: a record must be a JSON object"                },
        {GOOD "17",                                  -1, "bad:2: a record must be a JSON object"                },
        {GOOD "null",                                -1, "bad:2: a record must be a JSON object"                },
        {GOOD "{}",                                  -1, "bad:2: no known fields"                               },
        {GOOD "{\"text\": null}",                    -1, "bad:2: no known fields"                               },
        {"[\n{\"text\": \"a\"},\n{\"text\": \"b\"",  -1,
         "bad:3: the file ends inside the JSON element that begins here"                                        },
        {"[\n{\"text\": \"a\"},\n{\"text\": \"b\"}", -1,
         "bad:3: the file ends inside the JSON array; its ']' is missing"                                       },
        {"[\n{\"text\": \"a\"},\n",                  -1, "bad:3: the file ends inside the JSON array"           },
        {"[",                                        -1, "bad:1: the file ends inside the JSON array"           },
        {"[\n{\"text\": \"a\"},\n]",                 -1,
         "bad:3: an element of the JSON array is missing, or there is a comma too many"                         },
        {"[\n,{\"text\": \"a\"}]",                   -1, "bad:2: an element of the JSON array is missing"       },
        {"[{\"text\": \"a\"},\n\n,{\"text\": 1}]",   -1, "bad:3: an element of the JSON array is missing"       },
        {"[{\"text\": \"a\"}]\n\n[",                 -1, "bad:3: there is text behind the end of the JSON array"},
        {"[{\"text\": \"a\"}]]",                     -1, "bad:1: there is text behind the end of the JSON array"},
        {"[\n{\"text\": \"a\"}\n{\"text\": 1}]",     -1, "bad:3: not valid JSON"                                },
        {"[\n\n{\"text\":\n \"a\"],\n1]",            -1, "bad:4: not valid JSON"                                },
        {"[\n}]",                                    -1, "bad:2: not valid JSON"                                },
        {"[{\"text\": \"a\"}, \"x]",                 -1, "bad:1: the file ends inside the JSON element"         },
    };
    check("jsonl", cases, sizeof cases / sizeof *cases);
}

Test(data_files, files_that_cannot_be_read_say_why) {
    expect_end("jsonl", kit_path("none"), "cannot read none: No such file or directory", 0);
    mkdir(kit_path("folder"), 0700);
    expect_end("jsonl", kit_path("folder"), "cannot read folder: it is a folder, not a file", 1);
    expect_end("text", "/dev/null", "/dev/null holds no records", 2);
}

Test(data_files, deep_nesting_is_an_error) {
    enum { DEPTH = 2000000 };
    char *const text = mem_new(DEPTH + 1, 1);
    memset(text, '[', DEPTH);
    text[0] = '{';
    expect_end("jsonl", kit_file("deep", text, DEPTH), "deep:1: not valid JSON", 0);
    text[0] = '[';
    expect_end("jsonl", kit_file("deep", text, DEPTH), "deep:1: the file ends inside the JSON element", 1);
    memset(text + DEPTH / 2, ']', DEPTH / 2);
    expect_end("jsonl", kit_file("deep", text, DEPTH), "deep:1: not valid JSON", 2);
    free(text);
}

Test(data_files, a_line_of_a_million_bytes_is_a_record) {
    enum { LONG = 1000000 };
    char *const text = mem_new(LONG + 40, 1);
    memset(text, 'x', LONG);
    memcpy(text, "{\"text\": \"", 10);
    memcpy(text + LONG, "\"}\n" GOOD, 16);
    char *const got = kit_records("jsonl", "", kit_file("long", text, LONG + 16));
    cr_expect(strlen(got) == LONG - 10 + 3 + 5 && strcmp(got + LONG - 10 + 2, ")\nT(a)") == 0);
    free(got);
    free(text);
}

Test(data_files, a_record_too_large_for_memory_is_refused_and_the_next_one_can_be_had) {
    const int64_t size = SOURCE_PIECE_MOST + 10;
    char *const text = mem_new((size_t)size + 3, 1);
    memset(text, 'x', (size_t)size);
    memcpy(text + size, "\na\n", 3);
    const kit_loader l = kit_open_loader("text", "split=lines");
    source *s = NULL;
    text_record r = {0};
    graft_error none = {0}, err = {0};
    cr_assert_eq(source_open(&l.component->loader, l.config, kit_file("large", text, size + 3), &s, &none), 0);
    cr_expect_eq(source_get(s, 0, &r, &err), GRAFT_FAILED);
    cr_expect_not_null(strstr(err.text, "large:1: the piece that begins here is larger than 64 MiB"), "%s", err.text);
    cr_expect_eq(source_get(s, 1, &r, &none), 0);
    cr_expect_eq(r.text.length, 1);
    source_close(s);
    record_free(&r);
    free(text);
}

Test(data_files, damaged_gzip_is_an_error) {
    strbuf text = {0};
    for (int i = 0; i < 20000; i++)
        strbuf_printf(&text, "{\"text\": \"%d\"}\n", i * 7919);
    const char *const path = kit_gzip("a.gz", text.text, (int64_t)text.length);
    char *bytes;
    int64_t size;
    graft_error err = {0};
    cr_assert_eq(file_read(path, 1 << 24, &bytes, &size, &err), 0);
    const int64_t cuts[] = {2, 3, 9, 10, 11, size / 2, size - 9, size - 8, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        expect_end("jsonl", kit_file("cut.gz", bytes, cuts[i]), "cut.gz: damaged gzip data", i);
    for (int64_t at = 10; at < size; at += size / 40) {
        bytes[at] ^= 0x10;
        expect_end("jsonl", kit_file("bad.gz", bytes, size), "bad.gz", (size_t)at);
        bytes[at] ^= 0x10;
    }
    free(bytes);
    strbuf_free(&text);
}

/* Whatever single bytes are changed, added or lost: records, or an error that names the file. */
Test(data_files, random_damage_never_crashes) {
    static const char *const texts[] = {
        "{\"text\": \"a \\u00e9 \\\"x\\\"\"}\n{\"prompt\": \"p\", \"completion\": {\"k\": [1, 2]}}\n{\"instruction\": "
        "\"i\", \"output\": \"o\"}\n",
        "[\n {\"text\": \"a]\"},\n {\"prompt\": \"p\", \"completion\": \"\xEA\xB0\x80\"} ,\n {\"instruction\": \"i\", "
        "\"input\": \"\", \"output\": \"o\"}\n]\n"};
    uint32_t state = 12345;
    for (int round = 0; round < 4000; round++) {
        char bytes[300];
        int64_t size = (int64_t)strlen(texts[round % 2]);
        memcpy(bytes, texts[round % 2], (size_t)size);
        for (int n = 1 + round % 3; n > 0; n--) {
            state = state * 1664525u + 1013904223u;
            const int64_t at = (state >> 8) % size;
            const char byte = "[]{},:\"\\\n\0\xFF\xC3xe1 "[(state >> 4) % 17];
            if (state % 3 == 0) {
                bytes[at] = byte;
            } else if (state % 3 == 1) {
                memmove(bytes + at, bytes + at + 1, (size_t)(size-- - at - 1));
            } else {
                memmove(bytes + at + 1, bytes + at, (size_t)(size++ - at));
                bytes[at] = byte;
            }
        }
        char *const got = kit_records("jsonl", "", kit_file("bad", bytes, size)), *const error = strstr(got, "! ");
        cr_expect(!error || strncmp(error, "! bad", 5) == 0, "%s", got);
        free(got);
    }
}
