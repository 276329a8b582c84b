/* Templates that want to hang, to fill the memory, to overflow the stack or to read what is not theirs: each ends in an error,
 * within a second or two and a bounded memory. */
#include "base/memory.h"
#include "text/chat.h"
#include "text/conversation.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { SECONDS_MOST = 20, MEMORY_MOST = 2000 << 10 /* KiB */ };

static long peak_kib(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_maxrss;
}

/* Compiles and renders; the error, "" when there was none. */
static graft_error render(const char *source, size_t length) {
    graft_error err = {0};
    chat_template *t = NULL;
    template_rendering out = {0};
    json_t *const context = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "Hi");
    if (template_compile(source, length, "hostile", &t, &err) == GRAFT_OK) template_render(t, context, 1, &out, &err);
    template_free(t);
    template_rendering_free(&out);
    json_decref(context);
    return err;
}

/* Two values with 2^99 leaves, and a hundred lists. */
#define DOUBLED                                                                                                        \
    "{% set ns = namespace(a=[], b=[]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}"                        \
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}"

static void expect_refused(const char *source) {
    const clock_t begin = clock();
    const graft_error err = render(source, strlen(source));
    cr_expect(err.code == GRAFT_FAILED && *err.text, "%.200s is refused", source);
    cr_expect_lt((double)(clock() - begin) / CLOCKS_PER_SEC, SECONDS_MOST, "%.200s: %s", source, err.text);
}

Test(hostile_templates, endless_work_and_endless_text_are_errors) {
    static const char *const sources[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro m(x) %}{% if x %}{{ m(x - 1) }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(100) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(9223372036854775807) %}{% endfor %}",
        "{% for i in range(0, 10, 0) %}{% endfor %}",
        "{% for i in range(-9223372036854775807, 9223372036854775807) %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% "
        "endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'abc' }}",
        "{{ 'x' * 9223372036854775807 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ 9223372036854775807 + 1 }}{{ -9223372036854775807 - 2 }}{{ raise_exception('wrapped') }}",
        "{% set ns = namespace(s='x') %}{% for i in range(200) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(200) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='x') %}{% for i in range(200) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor "
        "%}{{ ns.s }}",
        DOUBLED "{% if ns.a == ns.b %}{% endif %}",
        DOUBLED "{% if ns.a in [ns.b] %}{% endif %}",
        DOUBLED "{{ [ns.a, ns.b] | unique | list | length }}",
        DOUBLED "{{ [ns.a, ns.b] | sort | length }}",
        DOUBLED "{{ {ns.a: 1, ns.b: 2} | length }}",
        DOUBLED "{{ ns.a | string }}",
        DOUBLED "{{ ns.a | tojson }}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | "
        "tojson }}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] | join(ns.s) %}{% endfor "
        "%}{{ ns.s }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns.me.me | tojson }}{{ raise_exception('itself') }}",
        "{% for i in range(90000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "{% set s = 'x' * 9000000 %}{% set t = 'x' * 9000000 %}{% for i in range(90000) %}{% for j in range(90000) %}"
        "{% if s == t %}{% endif %}{% endfor %}{% endfor %}",
        "{% set s = ' ' * 9000000 %}{% for i in range(90000) %}{% for j in range(90000) %}{{ s.strip() }}{% endfor "
        "%}{% endfor %}",
        "{% set s = range(90000) | list %}{% for i in s %}{% for j in s %}{% if s == s %}{% endif %}{% endfor %}{% "
        "endfor %}",
        "{{ 1 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}{{ (-9223372036854775807 - 1) % -1 }}{{ raise_exception('') }}{{ x.y.z "
        "}}",
        "{{ messages | tojson(indent=1000000000) }}{{ nothing.at.all }}",
        "{{ 'a'.split('') }}",
        "{{ messages[99999999999].role.x }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro "
        "%}{{ n() }}",
        "{% set ns = namespace(a=(), b=()) %}{% for i in range(90000) %}{% set ns.a = (ns.a,) %}{% set ns.b = (ns.b,) "
        "%}{% endfor %}{{ ns.a == ns.b }}{{ {ns.a: 1} }}",
        "{{ ('a' * 9000000).rfind('b' ~ 'a' * 4000000) }}{{ ('a' * 9000000).rfind('a' * 4000000 ~ 'b') }}"
        "{{ ('a' * 9000000).rfind('ab' ~ 'a' * 4000000) }}{{ nothing.at.all }}",
        "{{ ('\u03a3' * 9000000).lower() | length }}{{ nothing.at.all }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x' | center(9223372036854775807) }}",
        "{{ 'a\nb' | indent(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1.5 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ [1] | batch(1000000000, 'x') | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{{ (range(90000) | list * 100) | sort | unique | list }}",
        "{{ ''.join(['x' * 9000000] * 100) }}",
        "{{ ('x' * 60000000) | replace('x', '<<<') | escape }}",
        "{{ '\\x' }}{{ '\\ud800' }}",
        "{{ 99999999999999999999 }}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        expect_refused(sources[i]);
    cr_expect_lt(peak_kib(), MEMORY_MOST, "%ld KiB", peak_kib());
}

static void expect_nested(const char *open, const char *middle, const char *close, int depth) {
    strbuf b = {0};
    for (int i = 0; i < depth; i++)
        strbuf_puts(&b, open);
    strbuf_puts(&b, middle);
    for (int i = 0; i < depth; i++)
        strbuf_puts(&b, close);
    const graft_error err = render(b.text, b.length);
    cr_expect(err.code == GRAFT_FAILED, "%d times %s", depth, open);
    strbuf_free(&b);
}

Test(hostile_templates, deep_nesting_does_not_overflow_the_stack) {
    expect_nested("{% if true %}", "x", "{% endif %}", 100000);
    expect_nested("{% for i in [1] %}", "x", "{% endfor %}", 100000);
    expect_nested("{% generation %}", "x", "{% endgeneration %}", 100000);
    expect_nested("{% macro m() %}", "x", "{% endmacro %}", 100000);
    const char *const inside[][2] = {
        {"(",      ")"      },
        {"[",      "]"      },
        {"{'a': ", "}"      },
        {"not ",   ""       },
        {"-",      ""       },
        {"1 if ",  " else 2"},
        {"f(",     ")"      },
        {"x[",     "]"      },
    };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        strbuf b = {0};
        strbuf_puts(&b, "{{ ");
        for (int n = 0; n < 200000; n++)
            strbuf_puts(&b, inside[i][0]);
        strbuf_puts(&b, "1");
        for (int n = 0; n < 200000; n++)
            strbuf_puts(&b, inside[i][1]);
        strbuf_puts(&b, " }}");
        const graft_error err = render(b.text, b.length);
        cr_expect(err.code == GRAFT_FAILED, "200000 times %s", inside[i][0]);
        strbuf_free(&b);
    }
}

Test(hostile_templates, nothing_outside_of_the_variables_can_be_read) {
    static const char *const sources[] = {
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as p %}",
        "{% extends 'x' %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum() }}",
        "{{ ('%999999999d' | format(1)) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ open('/etc/passwd') }}",
        "{{ messages.append(1) }}",
        "{% set messages[0].role = 'x' %}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        expect_refused(sources[i]);
}

/* Every beginning of a template, and every template with one byte changed, is compiled or refused. */
Test(hostile_templates, damaged_templates_are_compiled_or_refused) {
    static const char source[] =
        "{%- set ns = namespace(a=[1, 'b', {'c': none}]) -%}{% macro m(x, y=2) %}{{ x ~ y }}{% endmacro %}"
        "{% for k, v in {'a': 1}.items() if v is defined and v != 2 %}{% if loop.first and not loop.last %}{% continue "
        "%}"
        "{% elif k in 'abc' %}{{ m(k, y=v)[::-1] | upper | tojson(indent=2) }}{% else %}{% break %}{% endif %}{% "
        "endfor %}"
        "{% generation %}{{ messages[0]['content'].split('i')[0] | trim }}{% endgeneration %}{# end #}\n";
    static const char bytes[] = "{}%#'\"\\()[]-|.,:=~\n\x80\xFF";
    char changed[sizeof source];
    for (size_t n = 0; n < sizeof source; n++)
        render(source, n);
    for (size_t n = 0; n + 1 < sizeof source; n++)
        for (size_t b = 0; b + 1 < sizeof bytes; b++) {
            memcpy(changed, source, sizeof source);
            changed[n] = bytes[b];
            render(changed, sizeof source - 1);
        }
}

Test(hostile_templates, damaged_conversations_are_refused_by_name) {
    static const struct {
        const char *json, *part;
    } cases[] = {
        {"{}",                                           "a list of messages"         },
        {"[]",                                           "no messages"                },
        {"[3]",                                          "message 1 must be an object"},
        {"[{\"role\": \"user\"}, {\"content\": \"x\"}]", "message 2 has no \"role\""  },
        {"[{\"role\": 3}]",                              "must be a text"             },
        {"[{\"from\": \"alien\", \"value\": \"x\"}]",    "\"alien\""                  },
        {"{\"messages\": {\"role\": \"user\"}}",         "a list of messages"         },
        {"[{\"role\": \"user\", \"content\": \"x\"}",    "conversation"               },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        json_t *out = NULL;
        conversation_parse(cases[i].json, strlen(cases[i].json), "the conversation", &out, &err);
        cr_expect(!out && err.code == GRAFT_FAILED && strstr(err.text, cases[i].part), "%s: %s", cases[i].json,
                  err.text);
    }
}
