/* Option tables: what a value may be, what is said when it is not, and where a value came from. */
#include "config/option.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

typedef struct {
    int64_t rank;
    double alpha;
    int32_t packing, mode;
    const char *note, *file;
} settings;

static const graft_option rows[] = {
    GRAFT_OPTION_INT(settings, rank, 8, 1, 65536, "width of the update", NULL),
    GRAFT_OPTION_REAL(settings, alpha, 2e-4, -1, 1000, "scale", NULL),
    GRAFT_OPTION_BOOL(settings, packing, 1, "pack", NULL),
    GRAFT_OPTION_CHOICE(settings, mode, "right|left|drop", 1, "cut", NULL),
    GRAFT_OPTION_TEXT(settings, note, "none", "anything", NULL),
    GRAFT_OPTION_PATH(settings, file, NULL, "a file", NULL),
};
enum { ROWS = sizeof rows / sizeof rows[0] };

Test(option, the_table_of_these_tests_is_valid) {
    graft_error err = {0};
    cr_assert_eq(option_check(rows, ROWS, sizeof(settings), &err), GRAFT_OK, "%s", err.text);
}

typedef struct {
    char key[16], text[48], wanted[96]; /* the value as it is written again, or "! text of the error" */
} parsing;

ParameterizedTestParameters(option, parses) {
    static parsing cases[] = {
        {"rank",    "16",                   "16"                                                                    },
        {"rank",    "+16",                  "16"                                                                    },
        {"rank",    "1e3",                  "1000"                                                                  },
        {"rank",    "65536",                "65536"                                                                 },
        {"rank",    "2.0",                  "2"                                                                     },
        {"rank",    "65537",                "! rank = 65537 is outside its bounds 1 to 65536"                       },
        {"rank",    "0",                    "! rank = 0 is outside its bounds 1 to 65536"                           },
        {"rank",    "1.5",                  "! rank = 1.5: a whole number from 1 to 65536 is wanted"                },
        {"rank",    "",                     "! rank = : a whole number from 1 to 65536 is wanted"                   },
        {"rank",    "8k",                   "! rank = 8k: a whole number"                                           },
        {"rank",    "0x10",                 "! rank = 0x10: a whole number"                                         },
        {"rank",    "1 6",                  "! rank = 1 6: a whole number"                                          },
        {"rank",    "99999999999999999999", "! rank = 99999999999999999999"                                         },
        {"rank",    "1e400",                "! rank = 1e400: a whole number"                                        },
        {"alpha",   "0.1",                  "0.1"                                                                   },
        {"alpha",   "-1",                   "-1"                                                                    },
        {"alpha",   "1e-300",               "1e-300"                                                                },
        {"alpha",   ".5",                   "0.5"                                                                   },
        {"alpha",   "nan",                  "! alpha = nan: a number from -1 to 1000 is wanted"                     },
        {"alpha",   "inf",                  "! alpha = inf: a number"                                               },
        {"alpha",   "1e999",                "! alpha = 1e999: a number"                                             },
        {"alpha",   "0x1p3",                "! alpha = 0x1p3: a number"                                             },
        {"alpha",   "1,5",                  "! alpha = 1,5: a number"                                               },
        {"alpha",   "1e",                   "! alpha = 1e: a number"                                                },
        {"alpha",   "1001",                 "! alpha = 1001 is outside its bounds -1 to 1000"                       },
        {"packing", "yes",                  "yes"                                                                   },
        {"packing", "true",                 "yes"                                                                   },
        {"packing", "on",                   "yes"                                                                   },
        {"packing", "1",                    "yes"                                                                   },
        {"packing", "no",                   "no"                                                                    },
        {"packing", "false",                "no"                                                                    },
        {"packing", "off",                  "no"                                                                    },
        {"packing", "0",                    "no"                                                                    },
        {"packing", "2",                    "! packing = 2: write yes or no"                                        },
        {"packing", "",                     "! packing = : write yes or no"                                         },
        {"mode",    "right",                "right"                                                                 },
        {"mode",    "drop",                 "drop"                                                                  },
        {"mode",    "rigth",                "! mode = rigth: the choices are right|left|drop; did you mean 'right'?"},
        {"mode",    "righ",                 "! did you mean 'right'?"                                               },
        {"mode",    "1",                    "! mode = 1: the choices are right|left|drop"                           },
        {"mode",    "right|left",           "! mode = right|left: the choices"                                      },
        {"note",    "",                     ""                                                                      },
        {"note",    "a, b = c",             "a, b = c"                                                              },
        {"file",    "x/y z",                "x/y z"                                                                 },
    };
    return cr_make_param_array(parsing, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(parsing *p, option, parses) {
    settings s = {0};
    arena memory = {0};
    strbuf out = {0};
    graft_error err = {0};
    const graft_option *const row = &rows[option_find(rows, ROWS, p->key)];
    if (option_parse(row, p->text, &s, &memory, &err) == GRAFT_OK)
        option_format(row, &s, &out);
    else
        cr_expect_eq(err.code, GRAFT_USAGE);
    if (p->wanted[0] == '!')
        cr_expect(strstr(err.text, p->wanted + 2), "%s = '%s' gives: %s%s", p->key, p->text, err.text,
                  out.text ? out.text : "");
    else
        cr_expect_str_eq(out.text ? out.text : "", p->wanted, "%s = '%s': %s", p->key, p->text, err.text);
    strbuf_free(&out);
    arena_free(&memory);
}

Test(option, reals_are_written_so_that_they_read_back) {
    static const double values[] = {0.1, 1.0 / 3, 2e-4, 5e-324, 0.30000000000000004, 999.99999999999989};
    for (int i = 0; i < 6; i++) {
        settings s = {.alpha = values[i]}, again = {0};
        arena memory = {0};
        strbuf text = {0};
        option_format(&rows[1], &s, &text);
        cr_assert_eq(option_parse(&rows[1], text.text, &again, &memory, NULL), GRAFT_OK, "%s", text.text);
        cr_assert_eq(again.alpha, values[i]);
        strbuf_free(&text);
    }
}

typedef struct {
    double lr;
} core;

static const graft_option core_rows[] = {GRAFT_OPTION_REAL(core, lr, 1, 0, 10, "rate", NULL)};

static const char *home(const char *key) {
    return strcmp(key, "save_every") == 0 ? "train" : NULL;
}

/* Fills a core struct and a settings struct from one section [o]. */
static problems fill(const char *text, const char *set, int complete, settings *s, core *c, option_origin *origins) {
    static ini_file f;
    static arena memory;
    problems p = {0};
    ini_read_text("run.ini", text, (int64_t)strlen(text), &f, &p);
    if (set) ini_override(&f, set, &p);
    const option_set sets[] = {
        {core_rows, 1,    c, origins    },
        {rows,      ROWS, s, origins + 1}
    };
    option_fill(&f, ini_find(&f, "o"), sets, 2, complete, home, &memory, &p);
    return p;
}

Test(option, a_section_fills_several_tables_and_says_from_where) {
    settings s;
    core c;
    option_origin from[1 + ROWS];
    problems p = fill("[o]\nlr = 3\nmode = drop\nnote =\n", "o.rank=4", 1, &s, &c, from);
    cr_assert_eq(p.count, 0);
    cr_assert(c.lr == 3 && s.rank == 4 && s.mode == 2 && s.packing == 1 && s.alpha == 2e-4);
    cr_assert_str_empty(s.note);
    cr_assert_str_empty(s.file, "a text is never NULL");
    cr_assert_str_eq(from[0].file, "run.ini");
    cr_assert_eq(from[0].line, 2);
    cr_assert_str_eq(from[1].file, "--set");
    cr_assert_null(from[2].file);
    const option_set set = {rows, ROWS, &s, from + 1};
    cr_assert(option_is_set(&set, "rank") && !option_is_set(&set, "alpha") && !option_is_set(&set, "nothing"));
    double number;
    cr_assert(option_number(&rows[3], &s, &number) && number == 2);
    cr_assert_not(option_number(&rows[4], &s, &number));
}

Test(option, unknown_keys_are_named_with_the_nearest_of_all_tables) {
    settings s;
    core c;
    option_origin from[1 + ROWS];
    problems p = fill("[o]\nrnak = 3\nLr = 2\nzzzz = 1\npacking = maybe\n", "o.alpa=1", 1, &s, &c, from);
    static const char *const wanted[] = {
        "run.ini:2: [o] has no key 'rnak'; did you mean 'rank'?",
        "run.ini:3: [o] has no key 'Lr'; did you mean 'lr'?",
        "run.ini:4: [o] has no key 'zzzz'",
        "run.ini:5: [o] packing = maybe: write yes or no",
        "--set o.alpa: [o] has no key 'alpa'; did you mean 'alpha'?",
    };
    cr_assert_eq(p.count, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_str_eq(p.at[i].text, wanted[i]);
    problems_free(&p);
}

Test(option, names_of_other_programs_are_answered_with_those_used_here) {
    settings s;
    core c;
    option_origin from[1 + ROWS];
    problems p = fill("[o]\nlora_alpha = 3\nlearning_rate = 2\nmax_grad_norm = 1\ntemplate = a\nsave_every = 1\n", NULL,
                      1, &s, &c, from);
    static const char *const wanted[] = {
        "run.ini:2: [o] has no key 'lora_alpha'; here it is 'alpha' in [adapter]",
        "run.ini:3: [o] has no key 'learning_rate'; here it is 'lr' in [optimizer]",
        "run.ini:4: [o] has no key 'max_grad_norm'; here it is 'clip_norm' in [train]",
        "run.ini:5: [o] has no key 'template'; here it is 'chat_template' in [data]",
        "run.ini:6: [o] has no key 'save_every'; here it is 'save_every' in [train]",
    };
    cr_assert_eq(p.count, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_str_eq(p.at[i].text, wanted[i]);
    problems_free(&p);
}

Test(option, without_the_plugin_s_table_unknown_keys_are_no_mistake_but_bad_values_are) {
    settings s;
    core c;
    option_origin from[1 + ROWS];
    problems p = fill("[o]\nunknown = 3\nlr = fast\n", NULL, 0, &s, &c, from);
    cr_assert_eq(p.count, 1);
    cr_assert_str_eq(p.at[0].text, "run.ini:3: [o] lr = fast: a number from 0 to 10 is wanted");
    problems_free(&p);
}

Test(option, help_shows_default_doc_and_what_is_allowed) {
    strbuf out = {0};
    option_help(rows, ROWS, &out);
    cr_assert_str_eq(out.text, "  rank     8       width of the update (whole number, 1 to 65536)\n"
                               "  alpha    0.0002  scale (number, -1 to 1000)\n"
                               "  packing  yes     pack (yes | no)\n"
                               "  mode     left    cut (right | left | drop)\n"
                               "  note     none    anything (text)\n"
                               "  file             a file (path)\n");
    strbuf_free(&out);
}

Test(option, the_ini_lines_of_a_table_read_back_as_its_defaults) {
    strbuf out = {0};
    strbuf_puts(&out, "[o]\n");
    option_ini(rows, ROWS, &out);
    settings s;
    core c;
    option_origin from[1 + ROWS];
    problems p = fill(out.text, NULL, 1, &s, &c, from);
    cr_assert_eq(p.count, 0, "%s", out.text);
    cr_assert(s.rank == 8 && s.alpha == 2e-4 && s.packing == 1 && s.mode == 1);
    cr_assert_str_eq(s.note, "none");
    cr_assert_str_empty(s.file);
    cr_assert_not_null(from[1].file);
    strbuf_free(&out);
}
