/* parse — text to tree, by recursive descent.
 *
 *   statement   target ('=' | '+=' | '-=' | '*=' | '/=' | 'max=') expression
 *   target      name [ '[' item {',' item} ']' ]
 *   item        name | '(' name {',' name} ')' | '=' expression | digits | expression that begins with name '[' or name '('
 *   expression  C's: ?: || && == != < <= > >= + - * / and the signs - + !
 *   primary     number | name | name '[' items ']' | name '(' expressions ')' | '(' expression ')' */
#include "formula/parts.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- characters ---- */

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* The next character that is no space; NUL at the end of the statement. */
static char peek(statement *s) {
    while (s->at < s->end && strchr(" \t\r\n", s->text[s->at]))
        s->at++;
    return s->at < s->end ? s->text[s->at] : '\0';
}

static int follows(statement *s, const char *token) {
    peek(s);
    const int32_t length = (int32_t)strlen(token);
    return s->end - s->at >= length && memcmp(s->text + s->at, token, (size_t)length) == 0;
}

static int accept(statement *s, const char *token) {
    if (!follows(s, token)) return 0;
    s->at += (int32_t)strlen(token);
    return 1;
}

static int unexpected(statement *s, const char *wanted) {
    const char c = peek(s);
    if (!c) return say(s, s->at, "the statement ends where %s is wanted", wanted);
    if (c < ' ' || c > '~') return say(s, s->at, "a character that formulas do not have; %s is wanted", wanted);
    return say(s, s->at, "'%c' stands where %s is wanted", c, wanted);
}

static int32_t word_length(const statement *s, int32_t at) {
    int32_t end = at;
    if (end < s->end && is_letter(s->text[end]))
        while (end < s->end && (is_letter(s->text[end]) || is_digit(s->text[end])))
            end++;
    return end - at;
}

static int word_is(const statement *s, int32_t at, int32_t length, const char *name) {
    return strlen(name) == (size_t)length && memcmp(s->text + at, name, (size_t)length) == 0;
}

/* ---- tree ---- */

void statement_open(statement *s, const char *text, int32_t begin, int32_t end, const formula_scope *scope,
                    graft_error *err) {
    memset(s, 0, offsetof(statement, node)); /* the rest is written before it is read */
    s->text = text, s->begin = s->at = begin, s->end = end;
    s->scope = scope, s->err = err;
    s->distinct[0] = s->distinct[1] = -1;
}

int32_t node_add(statement *s, node n) {
    if (s->nodes == FORMULA_NODES) {
        say(s, s->begin, "the statement is too long: it may have %d numbers, names and operators; split it",
            FORMULA_NODES);
        return -1;
    }
    s->node[s->nodes] = n;
    return s->nodes++;
}

int32_t node_call(statement *s, map_op op, int32_t at, int32_t arguments, const int32_t *argument) {
    node n = {.kind = NODE_CALL, .op = op, .at = at, .arguments = (int16_t)arguments};
    for (int32_t i = 0; i < arguments; i++)
        n.argument[i] = (int16_t)argument[i];
    return node_add(s, n);
}

int32_t index_of(const statement *s, int32_t at, int32_t length) {
    for (int32_t i = 0; i < s->indices; i++)
        if (s->index[i].length == length && memcmp(s->text + s->index[i].at, s->text + at, (size_t)length) == 0)
            return i;
    return -1;
}

static int32_t conditional(statement *s);

/* ---- brackets ---- */

static int index_word(statement *s, item *it) {
    peek(s);
    const int32_t length = word_length(s, s->at);
    if (!length) return unexpected(s, "an index");
    if (it->count == FORMULA_SPLIT) return say(s, s->at, "a dimension splits into at most %d indices", FORMULA_SPLIT);
    int32_t index = index_of(s, s->at, length);
    if (index < 0) {
        if (s->indices == FORMULA_INDICES)
            return say(s, s->at, "a statement has at most %d different indices; split it", FORMULA_INDICES);
        index = s->indices++;
        s->index[index] = (index_info){.at = s->at, .length = length, .known = -1};
    }
    it->index[it->count++] = (int16_t)index;
    s->at += length;
    return 0;
}

static int split(statement *s, item *it) {
    do
        if (index_word(s, it)) return GRAFT_FAILED;
    while (accept(s, ","));
    return accept(s, ")") ? 0 : unexpected(s, "',' or ')' of a split dimension");
}

static int item_expression(statement *s, item *it, item_kind kind) {
    it->kind = kind;
    it->node = (int16_t)conditional(s);
    return it->node < 0 ? GRAFT_FAILED : 0;
}

static int bracket_item(statement *s, item *it) {
    const char c = peek(s);
    *it = (item){.kind = ITEM_INDEX, .at = s->at, .node = -1};
    if (accept(s, "(")) return split(s, it);
    if (accept(s, "=")) return item_expression(s, it, ITEM_NUMBER);
    if (is_digit(c)) {
        if (item_expression(s, it, ITEM_NUMBER)) return GRAFT_FAILED;
        return s->node[it->node].kind == NODE_VALUE
                   ? 0
                   : say(s, it->at, "write an expression of numbers in brackets as '=...'");
    }
    const int32_t at = s->at, length = word_length(s, at);
    s->at += length;
    const int is_expression = length && (follows(s, "[") || follows(s, "("));
    s->at = at;
    if (is_expression) return item_expression(s, it, ITEM_GATHER);
    return length ? index_word(s, it) : unexpected(s, "an index, (k,b), a number, =number or a gather like q[n]");
}

/* A tensor's name at `at`, and its brackets if they follow. Returns the access, -1 when that failed. */
static int32_t tensor(statement *s, int32_t at, int32_t length) {
    if (s->accesses == FORMULA_ACCESSES) {
        say(s, at, "a statement names at most %d tensors; split it", FORMULA_ACCESSES);
        return -1;
    }
    const int32_t number = s->accesses++;
    access *const a = &s->access[number];
    *a = (access){.at = at, .length = length, .tensor = -1, .gather = -1};
    if (!accept(s, "[")) return number;
    a->brackets = 1;
    do {
        if (a->rank == FORMULA_RANK) {
            say(s, s->at, "a tensor has at most %d dimensions", FORMULA_RANK);
            return -1;
        }
        if (bracket_item(s, &a->items[a->rank++])) return -1;
    } while (accept(s, ","));
    if (accept(s, "]")) return number;
    unexpected(s, "',' or ']'");
    return -1;
}

/* ---- expressions ---- */

static const struct {
    char name[8];
    map_op op;
    int32_t arguments;
} functions[] = {
    {"sqrt",    MAP_SQRT,    1},
    {"exp",     MAP_EXP,     1},
    {"log",     MAP_LOG,     1},
    {"abs",     MAP_ABS,     1},
    {"sign",    MAP_SIGN,    1},
    {"max",     MAP_MAX,     2},
    {"min",     MAP_MIN,     2},
    {"pow",     MAP_POW,     2},
    {"tanh",    MAP_TANH,    1},
    {"sigmoid", MAP_SIGMOID, 1},
    {"erf",     MAP_ERF,     1},
    {"cos",     MAP_COS,     1},
    {"floor",   MAP_FLOOR,   1},
    {"round",   MAP_ROUND,   1},
    {"uniform", MAP_UNIFORM, 2},
    {"normal",  MAP_NORMAL,  0},
    {"mt19937", MAP_MT19937, 2},
};
enum { FUNCTIONS = (int)(sizeof functions / sizeof functions[0]) };

static int32_t unknown_function(statement *s, int32_t at, int32_t length) {
    const char *names[FUNCTIONS];
    for (int32_t i = 0; i < FUNCTIONS; i++)
        names[i] = functions[i].name;
    char word[64];
    const int32_t shown = length < 63 ? length : 63;
    memcpy(word, s->text + at, (size_t)shown), word[shown] = '\0';
    const char *const near = nearest_name(word, names, FUNCTIONS);
    say(s, at, "unknown function '%s'%s%s%s", word, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    return -1;
}

/* NAME '(' expressions ')', the parenthesis is read already. */
static int32_t function(statement *s, int32_t at, int32_t length) {
    int32_t f = 0;
    while (f < FUNCTIONS && !word_is(s, at, length, functions[f].name))
        f++;
    if (f == FUNCTIONS) return unknown_function(s, at, length);
    int32_t argument[2] = {0}, count = 0;
    if (!accept(s, ")")) {
        do {
            const int32_t a = conditional(s);
            if (a < 0) return -1;
            if (count < 2) argument[count] = a;
            count++;
        } while (accept(s, ","));
        if (!accept(s, ")")) {
            unexpected(s, "')'");
            return -1;
        }
    }
    const int32_t wanted = functions[f].arguments;
    if (count == wanted) return node_call(s, functions[f].op, at, count, argument);
    say(s, at, "%s takes %d argument%s, not %d", functions[f].name, wanted, wanted == 1 ? "" : "s", count);
    return -1;
}

/* Digits with a point and an exponent; C's other spellings (hexadecimal, inf) are not numbers here. */
static int32_t literal(statement *s) {
    char digits[64];
    const int32_t at = s->at;
    int32_t end = at, length;
    while (end < s->end && (is_digit(s->text[end]) || s->text[end] == '.'))
        end++;
    if (end < s->end && (s->text[end] == 'e' || s->text[end] == 'E')) {
        const int32_t sign = end + 1 < s->end && strchr("+-", s->text[end + 1]) ? 1 : 0;
        if (end + 1 + sign < s->end && is_digit(s->text[end + 1 + sign]))
            for (end += 1 + sign; end < s->end && is_digit(s->text[end]);)
                end++;
    }
    length = end - at;
    double value = 0;
    int whole = length < (int32_t)sizeof digits && !(end < s->end && is_letter(s->text[end]));
    if (whole) {
        char *stop;
        memcpy(digits, s->text + at, (size_t)length), digits[length] = '\0';
        value = strtod(digits, &stop);
        whole = stop == digits + length;
    }
    s->at = end;
    if (!whole) {
        say(s, at, "not a number; write 0.5, 12 or 1e-8");
        return -1;
    }
    return node_add(s, (node){.kind = NODE_VALUE, .at = at, .value = value, .number = 1});
}

static int32_t primary(statement *s) {
    const char c = peek(s);
    const int32_t at = s->at;
    if (is_digit(c) || c == '.') return literal(s);
    if (accept(s, "(")) {
        const int32_t inner = conditional(s);
        if (inner < 0 || accept(s, ")")) return inner;
        unexpected(s, "')' or an operator");
        return -1;
    }
    const int32_t length = word_length(s, at);
    if (!length) {
        unexpected(s, "a number, a name or '('");
        return -1;
    }
    s->at += length;
    if (accept(s, "(")) return function(s, at, length);
    if (!follows(s, "[")) return node_add(s, (node){.kind = NODE_WORD, .at = at, .length = length});
    const int32_t name = tensor(s, at, length);
    return name < 0 ? -1 : node_add(s, (node){.kind = NODE_TENSOR, .at = at, .length = length, .name = name});
}

static int too_deep(statement *s) {
    if (++s->depth <= FORMULA_DEPTH) return 0;
    say(s, s->at, "too many parentheses and signs inside each other (at most %d)", FORMULA_DEPTH);
    return 1;
}

static int32_t unary(statement *s) {
    const char c = peek(s);
    const int32_t at = s->at;
    if (c != '-' && c != '+' && c != '!') return primary(s);
    if (too_deep(s)) return -1;
    s->at++;
    const int32_t operand = unary(s);
    s->depth--;
    if (operand < 0 || c == '+') return operand;
    return node_call(s, c == '-' ? MAP_NEG : MAP_NOT, at, 1, &operand);
}

/* Longer spellings stand first. */
static const struct {
    char text[3];
    int8_t level, op;
} operators[] = {
    {"||", 1, MAP_OR },
    {"&&", 2, MAP_AND},
    {"==", 3, MAP_EQ },
    {"!=", 3, MAP_NE },
    {"<=", 4, MAP_LE },
    {">=", 4, MAP_GE },
    {"<",  4, MAP_LT },
    {">",  4, MAP_GT },
    {"+",  5, MAP_ADD},
    {"-",  5, MAP_SUB},
    {"*",  6, MAP_MUL},
    {"/",  6, MAP_DIV}
};
enum { OPERATORS = (int)(sizeof operators / sizeof operators[0]) };

/* Operators of `level` and above, those of one level from left to right. */
static int32_t binary(statement *s, int32_t level) {
    int32_t left = unary(s);
    while (left >= 0) {
        const char c = peek(s);
        int32_t o = 0;
        while (o < OPERATORS && (operators[o].text[0] != c || !follows(s, operators[o].text)))
            o++;
        if (o == OPERATORS || operators[o].level < level) break;
        const int32_t at = s->at;
        s->at += (int32_t)strlen(operators[o].text);
        const int32_t right = binary(s, operators[o].level + 1);
        left = right < 0 ? -1 : node_call(s, (map_op)operators[o].op, at, 2, (int32_t[]){left, right});
    }
    return left;
}

static int32_t conditional(statement *s) {
    if (too_deep(s)) return -1;
    int32_t result = binary(s, 1);
    const int32_t at = (peek(s), s->at);
    if (result >= 0 && accept(s, "?")) {
        const int32_t yes = conditional(s);
        int32_t no = -1;
        if (yes >= 0 && !accept(s, ":"))
            unexpected(s, "':' or an operator");
        else if (yes >= 0)
            no = conditional(s);
        result = no < 0 ? -1 : node_call(s, MAP_SELECT, at, 3, (int32_t[]){result, yes, no});
    }
    s->depth--;
    return result;
}

/* ---- entries ---- */

static int store_operator(statement *s, map_store *store) {
    static const struct {
        char text[5];
        map_store store;
    } stores[] = {
        {"+=",   MAP_PLUS   },
        {"-=",   MAP_MINUS  },
        {"*=",   MAP_TIMES  },
        {"/=",   MAP_OVER   },
        {"max=", MAP_MAXIMUM},
        {"=",    MAP_SET    }
    };
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++)
        if (!follows(s, "==") && accept(s, stores[i].text)) {
            *store = stores[i].store;
            return 0;
        }
    return unexpected(s, "=, +=, -=, *=, /= or max=");
}

int parse_statement(statement *s) {
    peek(s);
    const int32_t at = s->at, length = word_length(s, at);
    if (!length) return unexpected(s, "the name of a tensor");
    s->at += length;
    if (tensor(s, at, length) < 0 || store_operator(s, &s->store)) return GRAFT_FAILED;
    s->expression = conditional(s);
    if (s->expression < 0) return GRAFT_FAILED;
    return peek(s) ? unexpected(s, "an operator or ';'") : 0;
}

int parse_numbers(statement *s, int32_t *nodes, int32_t limit, int32_t *count) {
    *count = 0;
    do {
        if (*count == limit) return say(s, s->at, "there may be at most %d expression%s", limit, limit == 1 ? "" : "s");
        if ((nodes[(*count)++] = conditional(s)) < 0) return GRAFT_FAILED;
    } while (accept(s, ","));
    return peek(s) ? unexpected(s, limit == 1 ? "an operator" : "an operator or ','") : 0;
}
