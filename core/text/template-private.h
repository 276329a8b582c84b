#ifndef GRAFT_TEXT_TEMPLATE_PRIVATE_H
#define GRAFT_TEXT_TEMPLATE_PRIVATE_H
#include "text/template.h"

enum { TEMPLATE_DEPTH = 120, TEMPLATE_STEPS = 8000000, TEMPLATE_OUTPUT = 64 << 20, TEMPLATE_VALUES = 8 << 20 };

/* ---- values: Python's, immutable, in the rendering's arena ---- */
typedef enum {
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_NAMESPACE,
    V_MACRO,
    V_METHOD,
    V_FUNCTION
} value_kind;

/* Which bytes of a string came out of which message. */
typedef struct mark {
    size_t begin, end;
    int32_t message;
    const struct mark *next;
} mark;

typedef struct value value;
typedef struct {
    value *at;
    int64_t count, capacity;
    int64_t weight; /* of what it holds, as often as it holds it: bounds every walk through it */
} value_list;
typedef struct {
    value *keys, *values;
    int64_t count, capacity;
    int64_t weight; /* as of a list */
} value_dict;
typedef struct node node;
typedef struct frame frame;

struct value {
    value_kind kind;
    union {
        int64_t i; /* BOOL, INT, FUNCTION */
        double f;
        struct {
            const char *text; /* UTF-8, NUL behind it or not */
            size_t length;
            const mark *marks;
        } s; /* STRING; UNDEFINED: its name; METHOD: its name */
        value_list *list;
        value_dict *dict; /* DICT, NAMESPACE */
        const node *macro;
    };
    const value *self; /* METHOD */
};

/* ---- syntax ---- */
typedef enum {
    /* expressions */
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_UNARY,
    N_BINARY,
    N_COMPARE,
    N_AND,
    N_OR,
    N_NOT,
    N_IF_ELSE,
    N_ATTRIBUTE,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_KEYWORD,
    N_UNPACK,
    /* statements */
    N_TEXT,
    N_OUTPUT,
    N_IF,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_GENERATION,
    N_BREAK,
    N_CONTINUE,
    N_WITH,
    N_FILTER_BLOCK,
    N_CALL_BLOCK
} node_kind;

struct node {
    node_kind kind;
    int line, op; /* op: of UNARY BINARY COMPARE, the token's character; which builtin of FILTER and TEST */
    value constant;
    const char *name;
    node *a, *b, *c;    /* operands; of FOR: target, iterable, filter */
    node *body, *other; /* of statements: lists linked by next */
    node *args, *next;
};

struct chat_template {
    arena memory;
    char *name;
    node *body;
    int generation;
};

/* ---- rendering ---- */
struct frame {
    value_dict names;
    frame *up;
};

typedef struct {
    strbuf text;
    mark *marks, *last; /* in order */
} sink;

typedef struct {
    const chat_template *t;
    arena memory;
    frame *root, *now;          /* context, innermost scope */
    sink *out, *outer;          /* where text goes now, and the one that becomes the result */
    template_rendering *result; /* of the outermost sink */
    time_t clock;
    int64_t steps, items;
    int depth, leave; /* leave: N_BREAK or N_CONTINUE on its way out */
    int line;
    graft_error *err;
} rendering;

/* Reports at the running line; the first one stays. */
void render_fail(rendering *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline int failed(const rendering *r) {
    return r->err->code != 0;
}

/* template-value.c */
value value_none(void);
value value_bool(int truth);
value value_int(int64_t i);
value value_float(double f);
value value_undefined(const char *name);
value value_text(const char *text, size_t length); /* borrowed */
value value_copy(rendering *r, const char *text, size_t length);
value value_words(const char *text);
value value_new_list(rendering *r, value_kind kind);
value value_new_dict(rendering *r, value_kind kind);
void list_add(rendering *r, value list, value item);
void dict_put(rendering *r, value dict, value key, value item);
const value *dict_get(value dict, value key); /* NULL: absent */
const value *dict_word(value dict, const char *key);
value value_from_json(rendering *r, const json_t *j, int32_t message);
int value_true(value v);
int value_equal(value a, value b);
int value_less(rendering *r, value a, value b); /* Python's <; an error when they cannot be compared */
int value_in(rendering *r, value item, value whole);
int64_t value_weight(value v);             /* about how much work it is to walk through it */
value value_string(rendering *r, value v); /* str(v), marks kept */
void value_repr(rendering *r, value v, strbuf *out);
const char *value_kind_name(value v);                              /* Python's: "str", "NoneType" ... */
value value_join(rendering *r, value a, value b);                  /* strings, marks moved along */
value value_part(rendering *r, value s, size_t begin, size_t end); /* bytes of a string, marks cut along */
int64_t value_length(rendering *r, value v);                       /* len(v); strings in code points */
/* The items a for loop sees: of a list, the keys of a dict, the characters of a string; an error otherwise. */
value value_items(rendering *r, value v);
size_t text_offset(const char *text, size_t length, int64_t points); /* byte of code point number `points` */
int64_t text_points(const char *text, size_t length);
int space_at(const char *text, size_t length,
             size_t at); /* bytes of the white space that begins at `at` (Python's), 0: none */

/* template-parse.c */
node *template_parse(chat_template *t, const char *source, size_t length, graft_error *err);

/* template-eval.c */
value evaluate_node(rendering *r, const node *n);
value call_value(rendering *r, value callee, const value_list *args, const value_dict *keywords);
void sink_add(rendering *r, value string);

/* template-builtins.c */
int filter_find(const char *name, size_t length); /* its number, -1: unknown */
int test_find(const char *name, size_t length);
value filter_call(rendering *r, int filter, value on, const value_list *args, const value_dict *keywords);
int test_call(rendering *r, int test, value on, const value_list *args);
int method_exists(value on, const char *name, size_t length);
value method_call(rendering *r, value method, const value_list *args, const value_dict *keywords);
int function_find(const char *name, size_t length); /* number of a global function, -1 */
value function_call(rendering *r, int function, const value_list *args, const value_dict *keywords);
value value_attribute(rendering *r, value on, const char *name, size_t length);
value value_item(rendering *r, value on, value key);

#endif
