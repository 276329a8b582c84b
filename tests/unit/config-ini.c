/* The INI reader: what is read, with which line, and that every mistake of a file is found. */
#include "config/ini.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All problems as one text, one a line. */
static char *listed(const problems *p) {
    char *text = NULL;
    size_t size;
    FILE *const to = open_memstream(&text, &size);
    problems_print(p, to);
    fclose(to);
    return text;
}

static ini_file read_good(const char *text) {
    ini_file f;
    problems p = {0};
    ini_read_text("run.ini", text, (int64_t)strlen(text), &f, &p);
    cr_assert_eq(p.count, 0, "%s", listed(&p));
    return f;
}

static void expect_problems(const char *text, size_t size, const char *wanted) {
    ini_file f;
    problems p = {0};
    ini_read_text("run.ini", text, (int64_t)size, &f, &p);
    char *const found = listed(&p);
    cr_expect_str_eq(found, wanted);
    free(found);
    problems_free(&p);
    ini_free(&f);
}

static const char *value(const ini_file *f, const char *section, const char *key) {
    const ini_entry *const e = ini_entry_of(ini_find(f, section), key);
    return e ? e->value : NULL;
}

Test(ini, reads_sections_in_order_and_keys_with_their_lines) {
    ini_file f = read_good(
        "; a comment\n\n[model]\npath = a b.c   ; folder\n# another\n[adapter.main]\nrank=16\nempty =\n[x]\n");
    cr_assert_eq(f.count, 3);
    cr_assert_str_eq(f.sections[0].name, "model");
    cr_assert_str_eq(f.sections[1].name, "adapter.main");
    cr_assert_str_eq(f.sections[2].name, "x", "an empty section is there");
    cr_assert_eq(f.sections[1].line, 6);
    cr_assert_str_eq(value(&f, "model", "path"), "a b.c");
    cr_assert_str_eq(value(&f, "adapter.main", "rank"), "16");
    cr_assert_eq(ini_entry_of(&f.sections[1], "rank")->line, 7);
    cr_assert_str_eq(value(&f, "adapter.main", "empty"), "");
    cr_assert_null(value(&f, "model", "rank"));
    cr_assert_null(value(&f, "none", "rank"));
    ini_free(&f);
}

Test(ini, byte_order_mark_line_ends_and_indentation_have_no_meaning) {
    ini_file f = read_good("\xEF\xBB\xBF[a]\r\n  x = 1\r\n\ty = 2 \r\n   [b] ; behind it\r\n    z = 3");
    cr_assert_str_eq(value(&f, "a", "x"), "1");
    cr_assert_str_eq(value(&f, "a", "y"), "2");
    cr_assert_str_eq(value(&f, "b", "z"), "3");
    cr_assert_eq(ini_entry_of(ini_find(&f, "b"), "z")->line, 5);
    ini_free(&f);
}

Test(ini, values_keep_semicolons_hashes_and_equal_signs_that_are_no_comment) {
    ini_file f = read_good("[a]\nx = a;b # c=d\ny = \xC3\xA4;\nz = k:v, l:w\n");
    cr_assert_str_eq(value(&f, "a", "x"), "a;b # c=d");
    cr_assert_str_eq(value(&f, "a", "y"), "\xC3\xA4;");
    cr_assert_str_eq(value(&f, "a", "z"), "k:v, l:w");
    ini_free(&f);
}

Test(ini, long_lines_are_read_whole) {
    for (size_t length = 150; length <= 60000; length += length < 260 ? 1 : 9973) {
        char *const text = malloc(length + 64), *const wanted = malloc(length + 1);
        for (size_t i = 0; i < length; i++)
            wanted[i] = i % 7 == 3 ? ' ' : (char)('a' + i % 23);
        wanted[0] = '#', wanted[length - 1] = ';', wanted[length - 2] = 'x', wanted[length] = '\0';
        sprintf(text, "[a]\nkey = %s \t; comment ; more\nnext = 1\n", wanted);
        ini_file f = read_good(text);
        cr_assert_str_eq(value(&f, "a", "key"), wanted, "length %zu", length);
        cr_assert_eq(ini_entry_of(ini_find(&f, "a"), "next")->line, 3);
        ini_free(&f);
        free(text), free(wanted);
    }
}

Test(ini, all_mistakes_are_found_in_one_go) {
    static const char text[] = "before = 1\n"
                               "[model]\n"
                               "path = x\n"
                               "nonsense\n"
                               "path = y\n"
                               "= 3\n"
                               "[data\n"
                               "skipped = 1\n"
                               "[model]\n"
                               "path = z\n"
                               "[a b]\n"
                               "[]\n"
                               "[c] d = 1\n"
                               "[ok]\n"
                               "k = v\n"
                               "last";
    expect_problems(text, sizeof text - 1,
                    "run.ini:1: `before = 1` stands in front of the first [section]\n"
                    "run.ini:4: a line has the form `key = value`\n"
                    "run.ini:5: [model] path stands here and in line 3; keep one of them\n"
                    "run.ini:6: the key in front of '=' is missing\n"
                    "run.ini:7: a section header needs its ']'\n"
                    "run.ini:9: [model] stands here and in line 2; put its keys in one place\n"
                    "run.ini:10: [model] path stands here and in line 3; keep one of them\n"
                    "run.ini:11: [a b] is no section name: letters, digits, '-', '_' and '.' make one\n"
                    "run.ini:12: [] is no section name: letters, digits, '-', '_' and '.' make one\n"
                    "run.ini:13: what stands behind [c] belongs on a line of its own\n"
                    "run.ini:16: a line has the form `key = value`\n");
}

Test(ini, names_have_49_characters_at_most) {
    char name[51], text[256], wanted[256];
    memset(name, 'n', 49), name[49] = '\0';
    sprintf(text, "[%s]\n%s = 1\n", name, name);
    ini_file f = read_good(text);
    cr_assert_str_eq(value(&f, name, name), "1");
    ini_free(&f);
    name[49] = 'n', name[50] = '\0';
    sprintf(text, "[%s]\n[a]\n%s = 1\n", name, name);
    sprintf(wanted,
            "run.ini:1: [%.40s...] is 50 characters long; a section name has at most 49\n"
            "run.ini:3: the key `%.40s...` is 50 characters long; a key has at most 49\n",
            name, name);
    expect_problems(text, strlen(text), wanted);
}

Test(ini, what_is_no_text_is_refused_with_its_line) {
    expect_problems("[a]\nx = \0y\n", 11, "run.ini:2: holds the byte 0x00: this is no text file\n");
    expect_problems("\x7f\x45LF\x02", 5, "run.ini:1: holds the byte 0x7f: this is no text file\n");
    expect_problems("\xFF\xFE[\0a\0]\0", 8, "run.ini:1: holds the byte 0x00: this is no text file\n");
    expect_problems("[a]\nx = caf\xE9\ny = 1\ny = 2\n", 24,
                    "run.ini:2: is not valid UTF-8; save the file in that encoding\n"
                    "run.ini:4: [a] y stands here and in line 3; keep one of them\n");
    expect_problems("", 0, "");
}

Test(ini, a_line_of_a_megabyte_is_refused_and_the_rest_read) {
    const size_t size = 1 << 20;
    char *const text = malloc(size + 64);
    size_t at = (size_t)sprintf(text, "[a]\nx = ");
    memset(text + at, 'v', size);
    at += size;
    at += (size_t)sprintf(text + at, "\nx = 1\nx = 2\n");
    expect_problems(text, at,
                    "run.ini:2: the line is 1048580 bytes long; at most 65536 are read\n"
                    "run.ini:4: [a] x stands here and in line 3; keep one of them\n");
    memset(text + 4, 'k', size);
    expect_problems(text, 4 + 60000, "run.ini:2: a line has the form `key = value`\n");
    free(text);
}

Test(ini, garbage_lines_are_counted_not_kept) {
    enum { LINES = 5000 };
    char *const text = malloc(4 + 2 * LINES);
    memcpy(text, "[a]\n", 4);
    for (int i = 0; i < LINES; i++)
        memcpy(text + 4 + 2 * i, "?\n", 2);
    ini_file f;
    problems p = {0};
    ini_read_text("run.ini", text, 4 + 2 * LINES, &f, &p);
    cr_assert_eq(p.count, 200);
    cr_assert_eq(p.left_out, LINES - 200);
    graft_error err = {0};
    cr_assert_eq(problems_fail(&p, &err), GRAFT_USAGE);
    cr_assert(strstr(err.text, "run.ini:2: ") == err.text);
    cr_assert(strstr(err.text, "\n... and 49"), "%s", err.text);
    problems_free(&p);
    ini_free(&f);
    free(text);
}

Test(ini, random_bytes_never_crash) {
    static const char letters[] = "[]=;:# \t\r\n\n\nab.0\xEF\xBB\xBF\x01\x80";
    unsigned state = 1;
    char text[400];
    for (int round = 0; round < 20000; round++) {
        const size_t size = (state = state * 1664525u + 1013904223u) >> 24;
        for (size_t i = 0; i < size; i++)
            text[i] = letters[((state = state * 1664525u + 1013904223u) >> 16) % (sizeof letters - 1)];
        ini_file f;
        problems p = {0};
        ini_read_text("run.ini", text, (int64_t)size, &f, &p);
        problems_free(&p);
        ini_free(&f);
    }
}

Test(ini, a_missing_file_is_named) {
    ini_file f;
    problems p = {0};
    cr_assert_not(ini_read("/nowhere/run.ini", &f, &p));
    char *const text = listed(&p);
    cr_assert_str_eq(text, "cannot read /nowhere/run.ini: No such file or directory\n");
    free(text);
    problems_free(&p);
    ini_free(&f);
}

Test(ini, set_replaces_adds_and_names_itself) {
    ini_file f = read_good("[adapter.main]\nrank = 4\n");
    problems p = {0};
    ini_override(&f, "adapter.main.rank=8", &p);
    ini_override(&f, "adapter.main.rank = 16 ", &p);
    ini_override(&f, "model.path=a=b.c", &p);
    cr_assert_eq(p.count, 0);
    cr_assert_str_eq(value(&f, "adapter.main", "rank"), "16");
    cr_assert_str_eq(value(&f, "model", "path"), "a=b.c");
    const ini_section *const s = ini_find(&f, "adapter.main");
    cr_assert_eq(s->count, 1);
    ini_problem(&f, s, &s->entries[0], &p, "too %s", "large");
    ini_override(&f, "rank=8", &p);
    ini_override(&f, "model.path", &p);
    ini_override(&f, ".path=1", &p);
    ini_override(&f, "model.=1", &p);
    ini_override(&f, "data.path=a ;b", &p);
    ini_override(&f, "data.path=a\nb", &p);
    char *const text = listed(&p);
    cr_assert_str_eq(
        text, "--set adapter.main.rank: too large\n"
              "--set rank=8: the form is section.key=value\n"
              "--set model.path: the form is section.key=value\n"
              "--set .path=1: the form is section.key=value\n"
              "--set model.=1: the form is section.key=value\n"
              "--set data.path: its value cannot stand in an INI file (line break, ' ;', not UTF-8, or too long)\n"
              "--set data.path: its value cannot stand in an INI file (line break, ' ;', not UTF-8, or too long)\n");
    free(text);
    problems_free(&p);
    ini_free(&f);
}
