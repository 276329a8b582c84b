/* template-tests — what stands behind `is`. */
#include "text/template-private.h"
#include <string.h>

enum {
    IS_DEFINED,
    IS_UNDEFINED,
    IS_NONE,
    IS_STRING,
    IS_MAPPING,
    IS_ITERABLE,
    IS_SEQUENCE,
    IS_NUMBER,
    IS_INTEGER,
    IS_FLOAT,
    IS_BOOLEAN,
    IS_TRUE,
    IS_FALSE,
    IS_CALLABLE,
    IS_LOWER,
    IS_UPPER,
    IS_ODD,
    IS_EVEN,
    IS_FILTER,
    IS_TEST,
    IS_ESCAPED,
    IS_DIVISIBLE, /* those from here on have one argument */
    IS_SAME,
    IS_EQ,
    IS_NE,
    IS_LT,
    IS_GT,
    IS_LE,
    IS_GE,
    IS_IN
};

static const struct {
    const char *name;
    int test;
} tests[] = {
    {"defined",     IS_DEFINED  },
    {"undefined",   IS_UNDEFINED},
    {"none",        IS_NONE     },
    {"string",      IS_STRING   },
    {"mapping",     IS_MAPPING  },
    {"iterable",    IS_ITERABLE },
    {"sequence",    IS_SEQUENCE },
    {"number",      IS_NUMBER   },
    {"integer",     IS_INTEGER  },
    {"float",       IS_FLOAT    },
    {"boolean",     IS_BOOLEAN  },
    {"true",        IS_TRUE     },
    {"false",       IS_FALSE    },
    {"callable",    IS_CALLABLE },
    {"lower",       IS_LOWER    },
    {"upper",       IS_UPPER    },
    {"odd",         IS_ODD      },
    {"even",        IS_EVEN     },
    {"filter",      IS_FILTER   },
    {"test",        IS_TEST     },
    {"escaped",     IS_ESCAPED  },
    {"divisibleby", IS_DIVISIBLE},
    {"sameas",      IS_SAME     },
    {"equalto",     IS_EQ       },
    {"eq",          IS_EQ       },
    {"==",          IS_EQ       },
    {"ne",          IS_NE       },
    {"!=",          IS_NE       },
    {"lt",          IS_LT       },
    {"lessthan",    IS_LT       },
    {"<",           IS_LT       },
    {"gt",          IS_GT       },
    {"greaterthan", IS_GT       },
    {">",           IS_GT       },
    {"le",          IS_LE       },
    {"<=",          IS_LE       },
    {"ge",          IS_GE       },
    {">=",          IS_GE       },
    {"in",          IS_IN       },
};

int test_find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strlen(tests[i].name) == length && memcmp(tests[i].name, name, length) == 0) return (int)i;
    return -1;
}

static int divides(rendering *r, value on, value by) {
    const value rest = operate(r, '%', on, by);
    return !failed(r) && value_equal(rest, value_int(0));
}

static int is_same(value a, value b) {
    return a.kind == b.kind && (value_is_list(a)   ? a.list == b.list
                                : a.kind == V_DICT ? a.dict == b.dict
                                                   : value_equal(a, b));
}

int test_call(rendering *r, int number, value on, const value_list *args) {
    const int test = tests[number].test, wanted = test >= IS_DIVISIBLE;
    if (args->count != wanted) {
        render_fail(r, "the test '%s' takes %d argument%s", tests[number].name, wanted, wanted == 1 ? "" : "s");
        return 0;
    }
    const value arg = wanted ? args->at[0] : value_none();
    switch (test) {
    case IS_DEFINED:
        return on.kind != V_UNDEFINED;
    case IS_UNDEFINED:
        return on.kind == V_UNDEFINED;
    case IS_NONE:
        return on.kind == V_NONE;
    case IS_STRING:
        return on.kind == V_STRING;
    case IS_MAPPING:
        return on.kind == V_DICT;
    case IS_ITERABLE:
        return on.kind == V_STRING || on.kind == V_DICT || on.kind == V_UNDEFINED || on.kind == V_LOOP ||
               value_is_list(on);
    case IS_SEQUENCE:
        return on.kind == V_STRING || on.kind == V_DICT || on.kind == V_UNDEFINED || value_is_sequence(on);
    case IS_ESCAPED:
        return on.kind == V_STRING && on.s.safe;
    case IS_NUMBER:
        return value_is_number(on);
    case IS_INTEGER:
        return on.kind == V_INT;
    case IS_FLOAT:
        return on.kind == V_FLOAT;
    case IS_BOOLEAN:
        return on.kind == V_BOOL;
    case IS_TRUE:
    case IS_FALSE:
        return on.kind == V_BOOL && on.i == (test == IS_TRUE);
    case IS_CALLABLE: /* Undefined has a __call__ that raises */
        return on.kind == V_MACRO || on.kind == V_METHOD || on.kind == V_FUNCTION || on.kind == V_LOOP ||
               on.kind == V_UNDEFINED;
    case IS_LOWER:
    case IS_UPPER:
        return value_true(method_call(r, value_string(r, on), test == IS_LOWER ? "islower" : "isupper"));
    case IS_ODD:
        return value_equal(operate(r, '%', on, value_int(2)), value_int(1));
    case IS_EVEN:
        return divides(r, on, value_int(2));
    case IS_FILTER:
    case IS_TEST:
        return on.kind == V_STRING &&
               (test == IS_FILTER ? filter_find(on.s.text, on.s.length) : test_find(on.s.text, on.s.length)) >= 0;
    case IS_DIVISIBLE:
        return divides(r, on, arg);
    case IS_SAME:
        return is_same(on, arg);
    case IS_IN:
        return value_in(r, on, arg);
    default: {
        static const int operators[] = {OP_EQ, OP_NE, '<', '>', OP_LE, OP_GE};
        return compare(r, operators[test - IS_EQ], on, arg);
    }
    }
}
