/* Data files: cut into records, read at any place, fields found, compressed or not. Loaders are those of the project. */
#include "text-kit.h"
#include "text/datafile.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(source, .init = kit_begin, .fini = kit_end);

/* ---- units ---- */

Test(source, paragraphs_are_runs_of_lines_with_text) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"one",                              "T(one)"                 },
        {"a\nb\n\nc\n",                      "T(a\\nb)\nT(c)"         },
        {"\n\n  a\n  b  \n \t \n\n\n c \n ", "T(  a\\n  b)\nT( c)"    },
        {"a\r\nb\r\n\r\nc\r\n",              "T(a\r\\nb)\nT(c)"       },
        {"\xEF\xBB\xBF"
         "a\n\nb",                  "T(a)\nT(b)"             },
        {"[1, 2]\n\n{",                      "T([1, 2])\nT({)"        },
        {"가나\n다\n\n라",               "T(가나\\n다)\nT(라)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kit_expect_records("text", "", kit_file("a.txt", cases[i].text, -1), cases[i].wanted);
}

Test(source, lines_are_lines_with_text) {
    kit_expect_records("text", "split=lines", kit_file("a.txt", "a\n\n \t\n  b c \r\n[d", -1), "T(a)\nT(  b c)\nT([d)");
}

Test(source, a_file_is_one_record_byte_for_byte) {
    kit_expect_records("text", "split=file", kit_file("a.txt", "\xEF\xBB\xBF\n\n a\n\nb \n\n", -1),
                       "T(\\n\\n a\\n\\nb \\n\\n)");
}

Test(source, a_file_without_text_has_no_records) {
    static const char *const texts[] = {"", "\n \n\t\r\n", "\xEF\xBB\xBF", "\xEF\xBB\xBF\n"};
    static const char *const splits[] = {"split=paragraphs", "split=lines", "split=file"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *const path = kit_file("a.txt", texts[i], -1);
        for (int k = 0; k < 3; k++)
            kit_expect_records("text", splits[k], path, "! a.txt holds no records");
        kit_expect_records("jsonl", "", path, "! a.txt holds no records");
    }
    kit_expect_records("jsonl", "", kit_file("a.json", " [ \n ] \n", -1), "! a.json holds no records");
}

Test(source, json_comes_as_lines_or_as_one_array) {
    static const char *const wanted = "T(a)\nT(b]\",[{\\\\)\nT(c)";
    static const char *const texts[] = {
        "{\"text\":\"a\"}\n{\"text\":\"b]\\\",[{\\\\\\\\\"}\n{\"text\":\"c\"}\n",
        "\xEF\xBB\xBF{\"text\":\"a\"}\r\n\r\n \n  {\"text\":\"b]\\\",[{\\\\\\\\\"}\r\n{\"text\":\"c\"}",
        "[{\"text\":\"a\"},{\"text\":\"b]\\\",[{\\\\\\\\\"},{\"text\":\"c\"}]",
        "\xEF\xBB\xBF \n[\n  {\n    \"text\": \"a\"\n  } ,\n  {\"text\": \"b]\\\",[{\\\\\\\\\", \"more\": [[1], "
        "{\"x\": \"}\"}]}\n,"
        "{\"text\":\"c\"}\n\n]\n\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        kit_expect_records("jsonl", "", kit_file("a.json", texts[i], -1), wanted);
}

/* ---- reading at any place ---- */

/* A file of some blocks whose characters, lines and records fall on the edges of blocks in all ways. */
static char *make_long(int64_t *size, int array, int64_t *records) {
    strbuf b = {0};
    uint32_t state = 1;
    if (array) strbuf_puts(&b, "[");
    for (*records = 0; b.length < 3 * DATAFILE_BLOCK + 1234; ++*records) {
        if (array && *records) strbuf_puts(&b, ",\n ");
        strbuf_printf(&b, "{\"text\": \"%lld ", (long long)*records);
        for (int n = (int)((state = state * 1664525u + 1013904223u) >> 24); n > 0; n--)
            strbuf_puts(&b, n % 3 ? "\xF0\x9F\x90\xB8" : n % 2 ? "\xEA\xB0\x80" : "\\\"");
        strbuf_puts(&b, array ? "\"}" : "\"}\n");
    }
    if (array) strbuf_puts(&b, "]");
    *size = (int64_t)b.length;
    return b.text;
}

Test(source, records_come_in_any_order_from_any_block) {
    const kit_loader l = kit_open_loader("jsonl", "");
    for (int array = 0; array < 2; array++) {
        int64_t size, records;
        char *const text = make_long(&size, array, &records);
        source *s = NULL;
        graft_error err = {0};
        text_record r = {0};
        const char *const path = kit_file("long.json", text, size);
        cr_assert_eq(source_open(&l.component->loader, l.config, path, &s, &err), 0, "%s", err.text);
        cr_assert_eq(source_count(s), records);
        for (int64_t k = 0; k < records; k++) {
            const int64_t i = k * 7919 % records;
            cr_assert_eq(source_get(s, i, &r, &err), 0, "%s", err.text);
            cr_assert_eq(r.count, 1);
            strbuf_add(&r.text, "", 1);
            cr_expect_eq(strtoll(r.text.text, NULL, 10), i);
        }
        record_free(&r);
        source_close(s);
        free(text);
    }
}

/* ---- compressed files and pipes ---- */

static void read_digest(const char *path, char hex[65]) {
    datafile f;
    graft_error err = {0};
    cr_assert_eq(datafile_open(path, &f, &err), 0, "%s", err.text);
    cr_assert_eq(datafile_digest(&f, hex, &err), 0);
    datafile_close(&f);
}

Test(source, compressed_text_is_the_same_text) {
    int64_t size, records;
    char plain[65], packed[65], *const text = make_long(&size, 0, &records);
    read_digest(kit_file("a.jsonl", text, size), plain);
    read_digest(kit_gzip("a.jsonl.gz", text, size), packed);
    cr_assert_str_eq(plain, packed);
    free(text);
    kit_expect_records("text", "", kit_gzip("a.txt.gz", "a\n\nb", 4), "T(a)\nT(b)");
}

static void *feed(void *path) {
    FILE *const to = fopen(path, "w");
    fputs("a\n\nb\n", to);
    fclose(to);
    return NULL;
}

Test(source, a_pipe_is_read_once_and_kept) {
    char *const path = mem_copy_text(kit_path("pipe"));
    pthread_t writer;
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(pthread_create(&writer, NULL, feed, path), 0);
    kit_expect_records("text", "", path, "T(a)\nT(b)");
    pthread_join(writer, NULL);
    free(path);
}

Test(source, a_file_that_becomes_shorter_is_an_error) {
    const kit_loader l = kit_open_loader("text", "");
    const char *const path = kit_file("a.txt", "one\n\ntwo\n\nthree", -1);
    source *s = NULL;
    graft_error err = {0};
    text_record r = {0};
    cr_assert_eq(source_open(&l.component->loader, l.config, path, &s, &err), 0);
    cr_assert_eq(truncate(path, 6), 0);
    cr_assert_eq(source_get(s, 0, &r, &err), 0, "%s", err.text);
    cr_assert_eq(source_get(s, 2, &r, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "a.txt became shorter while it is in use"), "%s", err.text);
    record_free(&r);
    source_close(s);
}

/* ---- fields ---- */

Test(source, fields_are_found_by_name_path_and_place) {
    static const char record[] =
        "{\"text\": \"t\", \"a\": {\"b\": {\"c\": \"deep\"}, \"b.c\": \"flat\"}, \"l\": [{\"x\": \"first\"}, "
        "\"second\"], "
        "\"n\": 42, \"r\": 0.1, \"yes\": true, \"no\": null, "
        "\"o\": {\"k\": [1, 2.5, \"\\uac00\"]}, \"nul\": \"a\\u0000b\", \"twice\": 1, \"twice\": \"last\"}";
    const char *const path = kit_file("a.jsonl", record, -1);
    static const struct {
        const char *option, *wanted;
    } cases[] = {
        {"text=a.b.c", "T(flat)"                      },
        {"text=a.b",   "T({\"c\": \"deep\"})"         },
        {"text=l.0.x", "T(first)"                     },
        {"text=l.1",   "T(second)"                    },
        {"text=n",     "T(42)"                        },
        {"text=r",     "T(0.1)"                       },
        {"text=yes",   "T(true)"                      },
        {"text=o",     "T({\"k\": [1, 2.5, \"가\"]})"},
        {"text=twice", "T(last)"                      },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kit_expect_records("jsonl", cases[i].option, path, cases[i].wanted);
    static const char *const absent[] = {"text=no",     "text=l.2", "text=l.x", "text=a.x",
                                         "text=text.x", "text=",    "text=.",   "text=a."};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        char *const got = kit_records("jsonl", absent[i], path);
        cr_expect(strncmp(got, "! a.jsonl:1: no known fields", 28) == 0, "%s: %s", absent[i], got);
        free(got);
    }
}

Test(source, a_number_of_any_size_does_not_matter) {
    kit_expect_records("jsonl", "",
                       kit_file("a.jsonl", "{\"id\": 123456789012345678901234567890, \"text\": \"t\"}", -1), "T(t)");
}

Test(source, a_text_may_hold_nul) {
    const kit_loader l = kit_open_loader("jsonl", "");
    source *s = NULL;
    graft_error err = {0};
    text_record r = {0};
    const char *const path = kit_file("a.jsonl", "{\"text\": \"a\\u0000b\"}", -1);
    cr_assert_eq(source_open(&l.component->loader, l.config, path, &s, &err), 0);
    cr_assert_eq(source_get(s, 0, &r, &err), 0, "%s", err.text);
    cr_assert(r.text.length == 3 && memcmp(r.text.text, "a\0b", 3) == 0);
    record_free(&r);
    source_close(s);
}

/* ---- all of the file ---- */

static int64_t halves_count(graft_source *s) {
    int64_t size;
    return s->services->bytes(s, &size) ? 2 : 0;
}

static void halves_get(graft_source *s, int64_t i) {
    int64_t size;
    const char *const bytes = s->services->bytes(s, &size);
    s->services->add(s, GRAFT_PART_TEXT, bytes + i * (size / 2), size / 2);
}

Test(source, a_loader_may_look_at_all_bytes) {
    static const graft_loader loader = {sizeof loader, halves_count, halves_get};
    source *s = NULL;
    graft_error err = {0};
    text_record r = {0};
    cr_assert_eq(source_open(&loader, NULL,
                             kit_file("a.bin",
                                      "\xEF\xBB\xBF"
                                      "ab\ncd\n",
                                      -1),
                             &s, &err),
                 0, "%s", err.text);
    cr_assert_eq(source_get(s, 1, &r, &err), 0, "%s", err.text);
    cr_expect(r.text.length == 3 && memcmp(r.text.text, "cd\n", 3) == 0);
    record_free(&r);
    source_close(s);
}

/* ---- a loader that does not keep the rules ---- */

static int64_t bad_count(graft_source *s) {
    return s->services->records(s, *(const int32_t *)s->self);
}

static void bad_get(graft_source *s, int64_t i) {
    int64_t length = 0;
    const int32_t deed = *(const int32_t *)s->self;
    const char *text = "x";
    if (deed == GRAFT_UNIT_LINE) text = s->services->record(s, i + 7, &length);
    if (deed == GRAFT_UNIT_PARAGRAPH) s->services->add(s, 9, text, 1);
    if (deed == GRAFT_UNIT_FILE) s->services->records(s, GRAFT_UNIT_LINE);
    s->services->add(s, GRAFT_PART_TEXT, text, deed == GRAFT_UNIT_JSON ? -1 : length);
}

Test(source, a_loader_that_breaks_a_rule_is_stopped) {
    static const graft_loader loader = {sizeof loader, bad_count, bad_get};
    static const char *const wanted[] = {"a part that this graft does not understand", "asks for piece 7 of 1",
                                         "a part that this graft does not understand", "outside of its count()"};
    const char *const path = kit_file("a.txt", "{}", -1);
    graft_error err = {0};
    for (int32_t deed = 0; deed < 4; deed++) {
        source *s = NULL;
        text_record r = {0};
        err = (graft_error){0};
        cr_assert_eq(source_open(&loader, &deed, path, &s, &err), 0, "%s", err.text);
        cr_expect_eq(source_get(s, 0, &r, &err), GRAFT_FAILED);
        cr_expect_not_null(strstr(err.text, wanted[deed]), "%s", err.text);
        record_free(&r);
        source_close(s);
    }
    const int32_t unknown = 4;
    source *s = NULL;
    err = (graft_error){0};
    cr_assert_eq(source_open(&loader, &unknown, path, &s, &err), GRAFT_FAILED);
    cr_assert_null(s);
}
