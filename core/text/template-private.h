#ifndef GRAFT_TEXT_TEMPLATE_PRIVATE_H
#define GRAFT_TEXT_TEMPLATE_PRIVATE_H
#include "text/template.h"

enum {
    TEMPLATE_DEPTH = 120,
    TEMPLATE_NESTING = 1000,
    TEMPLATE_STEPS = 8000000,
    TEMPLATE_OUTPUT = 64 << 20,
    TEMPLATE_VALUES = 8 << 20
};

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
    V_VIEW,      /* what keys(), values() and items() of a dict give */
    V_GENERATOR, /* what map, select ... give: true even when empty, without length, walked once */
    V_DICT,
    V_NAMESPACE,
    V_LOOP,
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
typedef struct rendering rendering;

/* Of what a value holds: its number, as often as it is held, and how deep it nests. Bounds every walk through it. */
typedef struct {
    int64_t weight, depth;
} load;
typedef struct {
    value *at;
    int64_t count, capacity;
    load load;
    int64_t taken;    /* GENERATOR: items that were walked over */
    const char *view; /* VIEW: "keys" ...; a range as it is written: "range(0, 3)" */
} value_list;
typedef struct {
    value *keys, *values;
    int64_t count, capacity;
    load load;
} value_dict;
typedef struct node node;
typedef struct frame frame;
typedef struct loop loop;
typedef struct method method;

/* A macro, or the body of a call block, with the scope that it was written in. */
typedef struct {
    const node *n;
    frame *scope;
} closure;

struct value {
    value_kind kind;
    union {
        int64_t i; /* BOOL, INT, FUNCTION */
        double f;
        struct {
            const char *text; /* UTF-8, NUL behind it or not */
            size_t length;
            const mark *marks;
            int safe;     /* markup: what is added to it is escaped (markupsafe) */
        } s;              /* STRING; UNDEFINED: its name */
        value_list *list; /* LIST, TUPLE, VIEW, GENERATOR */
        value_dict *dict; /* DICT, NAMESPACE */
        loop *loop;
        const closure *macro;
        const method *method;
    };
    const value *self; /* METHOD */
};

/* The variable `loop` of a {% for %}. */
struct loop {
    const node *n;
    frame *scope; /* that the loop stands in */
    value items, changed;
    int64_t at, depth;
};

/* A call of something built in: its arguments by parameter, NULL where none was given, and as they came. */
enum { PARAMETERS = 5 };
typedef struct {
    value on; /* of filters and methods */
    const char *name;
    int which; /* of several that share a function */
    const value *given[PARAMETERS];
    const value_list *args;
    const value_dict *keywords;
} invocation;

/* Parameters by name in order, "old! new! count": ! must be given; '/' in front: not by keyword; NULL: the function looks itself. */
struct method {
    const char *name, *parameters;
    value (*call)(rendering *r, const invocation *c);
    int which;
};

/* ---- syntax ---- */

/* Operators of one character are that character. */
enum { OP_EQ = 256, OP_NE, OP_LE, OP_GE, OP_FLOOR, OP_POWER, OP_IN, OP_NOT_IN };

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

/* Names that a macro has when it uses them. */
enum { USES_VARARGS = 1, USES_KWARGS = 2, USES_CALLER = 4 };

struct node {
    node_kind kind;
    int line,
        op; /* UNARY BINARY COMPARE: the operator; FILTER TEST: which; FOR: recursive; MACRO CALL_BLOCK: USES_... */
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
    int kept; /* a closure needs it */
};

typedef struct {
    strbuf text;
    mark *marks, *last; /* in order */
} sink;

struct rendering {
    const chat_template *t;
    arena memory;
    frame *now;                 /* innermost scope */
    sink *out, *outer;          /* where text goes now, and the one that becomes the result */
    template_rendering *result; /* of the outermost sink */
    time_t clock;
    int64_t steps, items;
    int depth, leave; /* leave: N_BREAK or N_CONTINUE on its way out */
    int line;
    graft_error *err;
};

/* Reports at the running line; the first one stays. */
void render_fail(rendering *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline int failed(const rendering *r) {
    return r->err->code != 0;
}
void render_step(rendering *r, int64_t count); /* that much work is done; an error when it is too much */

/* ---- template-value.c ---- */
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
void list_add_all(rendering *r, value list, value items);
value value_pair(rendering *r, value a, value b); /* a tuple */
void dict_put(rendering *r, value dict, value key, value item);
const value *dict_get(value dict, value key); /* NULL: absent */
const value *dict_word(value dict, const char *key);
value value_from_json(rendering *r, const json_t *j, int32_t message);
void count_items(rendering *r, int64_t count); /* memory, in items of the size of a value */
int value_true(value v);
int value_is_number(value v);   /* bool, int or float */
int value_is_list(value v);     /* its items are in v.list */
int value_is_sequence(value v); /* such a list with places: [i] and slices work */
double value_real(value v);     /* of a number */
int value_equal(value a, value b);
int value_less(rendering *r, value a, value b); /* Python's <; an error when they cannot be compared */
int value_in(rendering *r, value item, value whole);
int value_hashable(rendering *r, value key); /* an error when it cannot be a key */
int64_t value_weight(value v);               /* about how much work it is to walk through it */
const char *value_kind_name(value v);        /* Python's: "str", "NoneType" ... */
int64_t value_length(rendering *r, value v); /* len(v); strings in code points */
/* The items a for loop sees: of a list, the keys of a dict, the characters of a string; an error otherwise. A generator is
 * used up. */
value value_items(rendering *r, value v);

/* ---- template-text.c ---- */
value value_string(rendering *r, value v); /* str(v), marks kept */
void value_repr(rendering *r, value v, strbuf *out);
value value_join(rendering *r, value a, value b);                  /* strings, marks moved along */
value value_part(rendering *r, value s, size_t begin, size_t end); /* bytes of a string, marks cut along */
void sink_add(rendering *r, sink *to, value string);
value sink_take(rendering *r, sink *from);                 /* what was added, as a string; the sink is empty again */
value text_marked(rendering *r, value v, int32_t message); /* all of it is from that message, -1: none */
value text_escape(rendering *r, value v);                  /* a string for HTML; one that is safe as it is. Safe. */
size_t text_offset(const char *text, size_t length, int64_t points); /* byte of code point number `points` */
int64_t text_points(const char *text, size_t length);
/* The character at `at` into *c; its bytes. What is no UTF-8 counts byte by byte. */
size_t text_next(const char *text, size_t length, size_t at, int32_t *c);
/* Bytes of the white space (Python's) that begins at `at`; 0: none. */
int space_at(const char *text, size_t length, size_t at);
int text_is(const value *v, const char *word);

/* ---- template-call.c ---- */
int place_of(const char *const *names, const char *name, size_t length); /* -1: not there */
/* Fills c->given; 0 after an error. */
int bind_arguments(rendering *r, invocation *c, const char *parameters);
int64_t whole_argument(rendering *r, const invocation *c, int at, int64_t otherwise);
value call_value(rendering *r, value callee, const value_list *args, const value_dict *keywords);
value method_call(rendering *r, value on, const char *name); /* without arguments; on is a string */
value value_attribute(rendering *r, value on, const char *name, size_t length);
value value_item(rendering *r, value on, value key);
value value_member(rendering *r, value of, value path); /* "a.b.0", as the attribute arguments of filters have it */

/* ---- template-parse.c ---- */
node *template_parse(chat_template *t, const char *source, size_t length, graft_error *err);

/* ---- template-eval.c, template-run.c ---- */
value evaluate_node(rendering *r, const node *n);
void collect_arguments(rendering *r, const node *args, value *list, value *keywords);
value evaluate_filters(rendering *r, const node *filters, const node *from, value text);
void set_name(rendering *r, frame *in, const char *name, value v);
frame *frame_new(rendering *r, frame *up);
void run_body(rendering *r, const node *body);
value call_macro(rendering *r, const closure *m, const value_list *args, const value_dict *keywords,
                 const value *caller);
value call_loop(rendering *r, loop *l, value items);

/* ---- template-operators.c ---- */
value operate(rendering *r, int op, value a, value b);
value negate(rendering *r, int op, value a);
int compare(rendering *r, int op, value a, value b);
value slice(rendering *r, value of, const value parts[3]);
value text_percent(rendering *r, value text, value values); /* text % values; template-format.c */

/* ---- template-filters.c, template-tests.c, template-functions.c, template-methods.c ---- */
int filter_find(const char *name, size_t length); /* its number, -1: unknown */
value filter_call(rendering *r, int filter, value on, const value_list *args, const value_dict *keywords);
int test_find(const char *name, size_t length);
int test_call(rendering *r, int test, value on, const value_list *args);
int function_find(const char *name, size_t length); /* number of a global function, -1 */
value function_call(rendering *r, int function, const value_list *args, const value_dict *keywords);
const method *method_find(value on, const char *name, size_t length); /* NULL: it has none of that name */

#endif
