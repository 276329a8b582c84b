/* templates — expressions, filters, scopes and white space as Jinja2 has them under Hugging Face's settings; what is expected is what
 * Jinja2 3.1 printed. */
#include "base/json.h"
#include "text/template.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *source, *text; /* NULL: an error */
} row;

static const char variables[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\", \"n\": 2}, {\"role\": \"assistant\", \"content\": "
    "\"Yo\", \"n\": 1}, {\"role\": \"User\", \"content\": null, \"n\": 3}], \"s\": \"Hello World\", \"l\": [3, 1,"
    " 2], \"d\": {\"b\": 1, \"a\": 2, \"C\": 3}, \"tree\": [{\"v\": \"1\", \"c\": [{\"v\": \"1.1\"}]}, {\"v\": "
    "\"2\"}]}";

static void check(const row *rows, size_t count) {
    graft_error err = {0};
    json_t *context = NULL;
    cr_assert_eq(json_read_text(variables, strlen(variables), "variables", 0, &context, &err), 0, "%s", err.text);
    for (size_t i = 0; i < count; i++) {
        chat_template *t = NULL;
        template_rendering out = {0};
        err = (graft_error){0};
        if (template_compile(rows[i].source, strlen(rows[i].source), "t", &t, &err) == GRAFT_OK)
            template_render(t, context, 1, &out, &err);
        if (rows[i].text)
            cr_expect(!err.code && strcmp(out.text.text ? out.text.text : "", rows[i].text) == 0,
                      "%s: \"%s\" instead of \"%s\" %s", rows[i].source, out.text.text, rows[i].text, err.text);
        else
            cr_expect(err.code, "%s is an error", rows[i].source);
        template_rendering_free(&out);
        template_free(t);
    }
    json_decref(context);
}

Test(templates, generators_are_true_have_no_length_and_are_walked_once) {
    static const row rows[] = {
        {"{{ 'y' if messages|selectattr('role', 'equalto', 'tool') else 'n' }}",      "y"              },
        {"{{ 'y' if messages|selectattr('role', 'equalto', 'tool')|list else 'n' }}", "n"              },
        {"{{ messages|map(attribute='role')|length }}",                               NULL             },
        {"{% set g = l|select('gt', 1) %}{{ g|first }},{{ g|list }},{{ g|list }}",    "3,[2],[]"       },
        {"{{ (l|map('string'))[0] is defined }}",                                     "False"          },
        {"{{ l|map('string')|reverse }}",                                             "['2', '1', '3']"},
        {"{{ l|select|last }}",                                                       NULL             },
        {"{{ 1 in (l|reject('none')) }}",                                             "True"           },
        {"{{ l|map('int')|tojson }}",                                                 NULL             },
        {"{{ messages|map(attribute='x', default='z')|join(' ') }}",                  "z z z"          },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, what_is_added_to_markup_is_escaped) {
    static const row rows[] = {
        {"{{ ('<a>'|safe) + '<b>' }}",           "<a>&lt;b&gt;"                  },
        {"{{ ('<a>'|safe) ~ '<b>' }}",           "<a><b>"                        },
        {"{{ '<b>' + ('&'|e) }}",                "&lt;b&gt;&amp;"                },
        {"{{ ('<'|e|upper) + '>' }}",            "&LT;&gt;"                      },
        {"{{ ('-'|safe).join(['<', '>']) }}",    "&lt;-&gt;"                     },
        {"{{ (d|tojson|safe) + '' }}",           "{\"b\": 1, \"a\": 2, \"C\": 3}"},
        {"{{ ('<x>'|safe)|replace('x', '<') }}", "<<>"                           },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, scopes_end_where_those_of_jinja_do) {
    static const row rows[] = {
        {"{% for i in l %}{% set x = i %}{% endfor %}{{ x }}.",                                                         "."  },
        {"{% if true %}{% set x = 1 %}{% endif %}{{ x }}",                                                              "1"  },
        {"{% set q %}{% set x = 1 %}{{ x }}{% endset %}{{ q }}{{ x }}.",                                                "1." },
        {"{% macro m() %}<{{ caller() }}>{% endmacro %}{% for i in l %}{% call m() %}{{ i }}{% endcall %}{% endfor %}",
         "<3><1><2>"                                                                                                         },
        {"{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",                                   "312"},
        {"{% with x = 1, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}.",                                                  "1." },
        {"{% with a, b = (1, 2) %}{{ a + b }}{% endwith %}",                                                            "3"  },
        {"{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}.",                                           "1." },
        {"{% filter upper %}{% set x = 1 %}a{{ x }}{% endfilter %}{{ x }}.",                                            "A1."},
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, macros_take_what_they_name) {
    static const row rows[] = {
        {"{% macro m(a, b='d') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=2) }}", "1d2"         },
        {"{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",                        NULL          },
        {"{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x=1) }}",                         NULL          },
        {"{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", "(2,){'k': 3}"},
        {"{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",                NULL          },
        {"{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",                      NULL          },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, loops_know_where_they_are) {
    static const row rows[] = {
        {"{% for i in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i > 1) }}{{ loop.depth }} {% endfor %}",
         "aTrue1 bTrue1 aTrue1 "                                                                                           },
        {"{% for i in tree recursive %}{{ i.v }}@{{ loop.depth }} {{ loop(i.c) if i.c }}{% endfor %}",
         "1@1 1.1@2 2@1 "                                                                                                  },
        {"{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}",
         "1/2,2/2"                                                                                                         },
        {"{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",                             "123"        },
        {"{{ loop is defined }}",                                                                             "False"      },
        {"{% for i in 1, 2 %}{{ i }}{{ loop.nextitem is defined }}{% endfor %}",                              "1True2False"},
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, filters_check_their_arguments) {
    static const row rows[] = {
        {"{{ s|trim('Hd', 'x') }}",                   NULL                },
        {"{{ s|replace('l') }}",                      NULL                },
        {"{{ l|join(sep=',') }}",                     NULL                },
        {"{{ s|default(1, 2, 3) }}",                  NULL                },
        {"{{ l|sort(reverse=true, reverse=false) }}", NULL                },
        {"{{ s|upper(1) }}",                          NULL                },
        {"{{ s.upper(1) }}",                          NULL                },
        {"{{ s.split(maxsplit=1) }}",                 "['Hello', 'World']"},
        {"{{ s.strip(chars='H') }}",                  NULL                },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, filters_do_what_those_of_jinja_do) {
    static const row rows[] = {
        {"{{ 2.675|round(2) }} {{ 42|round }} {{ 2.5|round }} {{ 1.21|round(1, 'ceil') }}", "2.67 42 2.0 1.3"                },
        {"{{ '0x1F'|int(0, 16) }} {{ '1_0'|int }} {{ ' 3.7 '|float }} {{ 'x'|int('no') }}", "31 10 3.7 no"                   },
        {"{{ \"they're (all)-new\"|title }} {{ \"they're\".title() }}",                     "They're (All)-New They'Re"      },
        {"{{ 'a\\nb\\x0bc\\n'|indent(2, true) }}|",                                         "  a\n  b\n  c\n|"               },
        {"{{ 'foo bar baz qux'|truncate(9, leeway=0) }}",                                   "foo..."                         },
        {"{{ messages|groupby('role')|map('first')|join(',') }}",                           "assistant,user"                 },
        {"{{ messages|sort(attribute='n')|map(attribute='n')|list }}",                      "[1, 2, 3]"                      },
        {"{{ l|batch(2, 'x')|list }}{{ l|slice(2)|list }}",                                 "[[3, 1], [2, 'x']][[3, 1], [2]]"},
        {"{{ ['b', 'A', 'a']|unique|list }}{{ ['b', 'A']|sort }}{{ ['b', 'A']|max }}",      "['b', 'A']['A', 'b']b"          },
        {"{{ [1, 'a']|sort }}",                                                             NULL                             },
        {"{{ d|dictsort(by='value', reverse=true) }}",                                      "[('C', 3), ('a', 2), ('b', 1)]" },
        {"{{ {'b': 1, 'a': [1, {'c': none}]}|tojson(indent=2, sort_keys=true) }}",
         "{\n  \"a\": [\n    1,\n    {\n      \"c\": null\n    }\n  ],\n  \"b\": 1\n}"                                       },
        {"{{ {'é': '<\\u0001\"'}|tojson(ensure_ascii=true, separators=(',', ':')) }}",
         "{\"\\u00e9\":\"<\\u0001\\\"\"}"                                                                                    },
        {"{{ {1: 2, none: true}|tojson }}",                                                 "{\"1\": 2, \"null\": true}"     },
        {"{{ 'a-b c'|wordcount }} {{ 'abc'|center(7) }}|",                                  "3   abc  |"                     },
        {"{{ l|sum(start=10) }} {{ messages|sum(attribute='n') }}",                         "16 6"                           },
        {"{{ [[1, 2], [3]]|sum(start=[]) }}",                                               "[1, 2, 3]"                      },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, values_print_and_compare_as_in_python) {
    static const row rows[] = {
        {"{{ d.keys() }} {{ d.items() }} {{ range(1, 4) }} {{ range(3)[1] }}",
         "dict_keys(['b', 'a', 'C']) dict_items([('b', 1), ('a', 2), ('C', 3)]) range(1, 4) 1"                                                                  },
        {"{{ [1.0, 1e16, 1e-7, 'a\\'b', none, true, (1,)] }}",                                                  "[1.0, 1e+16, 1e-07, \"a'b\", None, True, (1,)]"},
        {"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // -2 }} {{ -1 % 0.1 }} {{ 2 ** -1 }} {{ 0 ** -1 }}",               NULL                                            },
        {"{{ [1] * 2 + [3] }} {{ 2 * 'ab' }} {{ (1,) + (2,) }}",                                                "[1, 1, 3] abab (1, 2)"                         },
        {"{{ 1 < 2 < 3 > 2 }} {{ [1, 2] < [1, 3] }} {{ true == 1 }} {{ 'a' < 'b' }}",                           "True True True True"                           },
        {"{{ {[1]: 2} }}",                                                                                      NULL                                            },
        {"{{ 1 < 'a' }}",                                                                                       NULL                                            },
        {"{{ d.pop is defined }} {{ d.get('zz', 5) }} {{ d['items'] is defined }}",                             "False 5 True"                                  },
        {"{{ l.append(4) }}",                                                                                   NULL                                            },
        {"{{ 0x1f + 0o17 + 0b11 + 1_000 }} {{ '\\x41\\u00e9\\101' }}",                                          "1049 AéA"                                     },
        {"{{ 'ß'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'ﬁ'|upper }} {{ 'x1y'.title() }} {{ 'aB'.swapcase() }}",
         "SS ας FI X1Y Ab"                                                                                                                                    },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, texts_take_values_by_percent_and_format) {
    static const row rows[] = {
        {"{{ '%s|%5d|%-4s|%05.1f|%x|%%|%r' % ('a', 42, 'b', 3.14159, 255, 'q') }}",              "a|   42|b   |003.1|ff|%|'q'"},
        {"{{ '%(a)s' % {'a': 1} }} {{ '%s' % l }} {{ '%s-%s'|format(1, 2) }}",                   "1 [3, 1, 2] 1-2"            },
        {"{{ '%s' % (1, 2) }}",                                                                  NULL                         },
        {"{{ '%d' % 'a' }}",                                                                     NULL                         },
        {"{{ '{} {}'.format(1, 2) }}|{{ '{0} {x:>5}|{y:.2f}|{{}}'.format('a', x='b', y=2) }}",   "1 2|a     b|2.00|{}"        },
        {"{{ '{:,}|{:<6}|{:^6}|{:+d}|{:08.3f}|{!r}'.format(1234567, 'a', 'b', 5, -1.5, 'q') }}",
         "1,234,567|a     |  b   |+5|-001.500|'q'"                                                                            },
        {"{{ '{a[k]} {b.n}'.format(a={'k': 1}, b=namespace(n=2)) }}",                            "1 2"                        },
        {"{{ '{'.format() }}",                                                                   NULL                         },
        {"{{ '{:{w}}|'.format('a', w=4) }}",                                                     "a   |"                      },
    };
    check(rows, sizeof rows / sizeof *rows);
}

Test(templates, tags_and_white_space_close_as_in_jinja) {
    static const row rows[] = {
        {"a\n  {%+ if true %}\nb{%- endif +%}\nc", "a\n  b\nc"  },
        {"{%- raw -%} {{ x }} {%+ endraw +%}\nx",  "{{ x }} \nx"},
        {"{% raw %}\n{% x %}{% endraw %}\ny",      "\n{% x %}y" },
        {"a {#- c -#} b {#-#} c",                  "ab c"       },
        {"  {# c #}\nx",                           "x"          },
        {"{{ 'a' -}}   b   {{- 'c' }}",            "abc"        },
        {"{{ x +}}",                               NULL         },
    };
    check(rows, sizeof rows / sizeof *rows);
}
