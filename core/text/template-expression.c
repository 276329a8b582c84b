/* template-expression — the expressions of Jinja, by precedence (jinja2/parser.py). */
#include "text/template-parse.h"
#include <string.h>

static node *parse_unary(parser *p, int filters);

static node *parse_arguments(parser *p) { /* behind '(' */
    node *list = NULL, **tail = &list;
    while (!p->err->code && !parse_is_op(p, ')')) {
        node *n;
        if (parse_is_op(p, '*') || parse_is_op(p, OP_POWER)) { /* f(*list, **dict) */
            n = parse_pair(p, N_UNPACK, (p->at++)->op, NULL, NULL);
            n->a = parse_expression(p, 1);
        } else if (p->at->kind == T_NAME && p->at[1].kind == T_OPERATOR && p->at[1].op == '=') {
            n = parse_new(p, N_KEYWORD);
            n->name = (p->at++)->text;
            p->at++;
            n->a = parse_expression(p, 1);
        } else {
            n = parse_expression(p, 1);
        }
        tail = parse_append(tail, n);
        if (!parse_accept(p, ',')) break;
    }
    parse_need(p, ')');
    return list;
}

node *parse_tuple(parser *p, int conditions) {
    node *first = parse_expression(p, conditions);
    if (!parse_is_op(p, ',')) return first;
    node *n = parse_new(p, N_TUPLE), **tail = parse_append(&n->args, first);
    while (parse_accept(p, ',') && !p->err->code) {
        if (p->at->kind == T_BLOCK_END || p->at->kind == T_OUTPUT_END || parse_is_op(p, ')')) break;
        if (!conditions && (parse_is_word(p, "if") || parse_is_word(p, "recursive"))) break;
        tail = parse_append(tail, parse_expression(p, conditions));
    }
    return n;
}

static node *parse_list(parser *p, node_kind kind, int close) {
    node *n = parse_new(p, kind), **tail = &n->args;
    while (!p->err->code && !parse_is_op(p, close)) {
        node *item = parse_expression(p, 1);
        if (kind == N_DICT) {
            parse_need(p, ':');
            item = parse_pair(p, N_KEYWORD, 0, item, parse_expression(p, 1));
        }
        tail = parse_append(tail, item);
        if (!parse_accept(p, ',')) break;
    }
    parse_need(p, close);
    return n;
}

static node *parse_constant(parser *p, value v) {
    node *n = parse_new(p, N_CONST);
    n->constant = v;
    p->at++;
    return n;
}

static node *parse_primary(parser *p) {
    const token *k = p->at;
    if (k->kind == T_STRING && p->at[1].kind == T_STRING) { /* adjacent strings are one */
        strbuf text = {0};
        for (; p->at->kind == T_STRING; p->at++)
            strbuf_add(&text, p->at->text, p->at->length);
        p->at--;
        const char *kept = arena_copy(&p->t->memory, text.text ? text.text : "", text.length);
        const size_t length = text.length;
        strbuf_free(&text);
        return parse_constant(p, value_text(kept, length));
    }
    if (k->kind == T_NUMBER || k->kind == T_STRING) return parse_constant(p, k->constant);
    if (parse_is_word(p, "true") || parse_is_word(p, "True")) return parse_constant(p, value_bool(1));
    if (parse_is_word(p, "false") || parse_is_word(p, "False")) return parse_constant(p, value_bool(0));
    if (parse_is_word(p, "none") || parse_is_word(p, "None")) return parse_constant(p, value_none());
    if (k->kind == T_NAME) {
        static const char *const special[] = {"varargs", "kwargs", "caller", NULL};
        node *n = parse_new(p, N_NAME);
        n->name = (p->at++)->text;
        const int which = place_of(special, n->name, strlen(n->name));
        if (which >= 0) p->uses |= 1 << which; /* USES_... */
        return n;
    }
    if (parse_accept(p, '(')) {
        if (parse_accept(p, ')')) return parse_new(p, N_TUPLE);
        node *n = parse_tuple(p, 1);
        parse_need(p, ')');
        return n;
    }
    if (parse_accept(p, '[')) return parse_list(p, N_LIST, ']');
    if (parse_accept(p, '{')) return parse_list(p, N_DICT, '}');
    parse_fail(p, "expected an expression, not", k->kind == T_OPERATOR ? k->text : "the end of the tag");
    return parse_new(p, N_CONST);
}

static node *parse_subscript(parser *p, node *of) { /* behind '[' */
    node *parts[3] = {0}, *n = NULL;
    int part = 0;
    if (!parse_is_op(p, ':')) parts[0] = parse_expression(p, 1);
    while (part < 2 && parse_accept(p, ':')) {
        part++;
        if (!parse_is_op(p, ':') && !parse_is_op(p, ']')) parts[part] = parse_expression(p, 1);
    }
    parse_need(p, ']');
    if (part == 0) return parse_pair(p, N_ITEM, 0, of, parts[0]);
    n = parse_pair(p, N_SLICE, 0, of, parts[0]);
    n->c = parts[1];
    n->other = parts[2];
    return n;
}

static node *parse_postfix(parser *p, node *n) {
    for (int links = 0; !p->err->code; links++) {
        if (links > 200) parse_fail(p, "an expression that is too long", "");
        if (parse_accept(p, '.')) {
            if (p->at->kind == T_NUMBER) {
                node *index = parse_constant(p, p->at->constant);
                n = parse_pair(p, N_ITEM, 0, n, index);
                continue;
            }
            n = parse_pair(p, N_ATTRIBUTE, 0, n, NULL);
            n->name = parse_name(p);
        } else if (parse_accept(p, '[')) {
            n = parse_subscript(p, n);
        } else if (parse_accept(p, '(')) {
            n = parse_pair(p, N_CALL, 0, n, NULL);
            n->args = parse_arguments(p);
        } else {
            return n;
        }
    }
    return n;
}

node *parse_filter(parser *p, node *on) { /* behind '|' */
    node *n = parse_pair(p, N_FILTER, 0, on, NULL);
    n->name = parse_name(p);
    n->op = filter_find(n->name, strlen(n->name));
    if (n->op < 0) parse_fail(p, "no filter named", n->name);
    if (parse_accept(p, '(')) n->args = parse_arguments(p);
    return n;
}

static node *parse_test(parser *p, node *on) { /* behind `is` */
    const int negated = parse_accept_word(p, "not");
    node *n = parse_pair(p, N_TEST, 0, on, NULL);
    n->name = parse_name(p);
    n->op = test_find(n->name, strlen(n->name));
    if (n->op < 0) parse_fail(p, "no test named", n->name);
    const token *k = p->at;
    if (parse_accept(p, '(')) {
        n->args = parse_arguments(p);
    } else if ((k->kind == T_NAME && !parse_is_word(p, "else") && !parse_is_word(p, "or") && !parse_is_word(p, "and") &&
                !parse_is_word(p, "if") && !parse_is_word(p, "is") && !parse_is_word(p, "in") &&
                !parse_is_word(p, "not")) ||
               k->kind == T_NUMBER || k->kind == T_STRING || parse_is_op(p, '[') || parse_is_op(p, '{')) {
        n->args = parse_postfix(p, parse_primary(p));
    }
    return negated ? parse_pair(p, N_NOT, 0, n, NULL) : n;
}

static node *parse_unary(parser *p, int filters) {
    node *n;
    if (!parse_enter(p)) {
        parse_leave(p);
        return parse_new(p, N_CONST);
    }
    if (parse_is_op(p, '-') || parse_is_op(p, '+')) {
        const int op = (p->at++)->op;
        n = parse_pair(p, N_UNARY, op, parse_unary(p, 0), NULL);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    while (filters && !p->err->code) {
        if (parse_accept(p, '|'))
            n = parse_filter(p, n);
        else if (parse_accept_word(p, "is"))
            n = parse_test(p, n);
        else if (parse_accept(p, '(')) {
            n = parse_pair(p, N_CALL, 0, n, NULL);
            n->args = parse_arguments(p);
        } else
            break;
    }
    parse_leave(p);
    return n;
}

static node *parse_power(parser *p) {
    node *n = parse_unary(p, 1);
    while (!p->err->code && parse_accept(p, OP_POWER))
        n = parse_pair(p, N_BINARY, OP_POWER, n, parse_unary(p, 1));
    return n;
}

static node *parse_product(parser *p) {
    node *n = parse_power(p);
    while (!p->err->code &&
           (parse_is_op(p, '*') || parse_is_op(p, '/') || parse_is_op(p, OP_FLOOR) || parse_is_op(p, '%'))) {
        const int op = (p->at++)->op;
        n = parse_pair(p, N_BINARY, op, n, parse_power(p));
    }
    return n;
}

static node *parse_concat(parser *p) {
    node *n = parse_product(p);
    while (!p->err->code && parse_accept(p, '~'))
        n = parse_pair(p, N_BINARY, '~', n, parse_product(p));
    return n;
}

static node *parse_sum(parser *p) {
    node *n = parse_concat(p);
    while (!p->err->code && (parse_is_op(p, '+') || parse_is_op(p, '-'))) {
        const int op = (p->at++)->op;
        n = parse_pair(p, N_BINARY, op, n, parse_concat(p));
    }
    return n;
}

/* a < b < c: every link compares with the one before; args holds the links. */
static node *parse_compare(parser *p) {
    node *n = parse_sum(p), *chain = NULL, **tail = &chain;
    for (;;) {
        int op = 0;
        if (p->at->kind == T_OPERATOR && (p->at->op == OP_EQ || p->at->op == OP_NE || p->at->op == OP_LE ||
                                          p->at->op == OP_GE || p->at->op == '<' || p->at->op == '>'))
            op = p->at->op;
        else if (parse_is_word(p, "in"))
            op = OP_IN;
        else if (parse_is_word(p, "not") && p->at[1].kind == T_NAME && strcmp(p->at[1].text, "in") == 0)
            op = OP_NOT_IN;
        if (!op || p->err->code) break;
        p->at += op == OP_NOT_IN ? 2 : 1;
        tail = parse_append(tail, parse_pair(p, N_COMPARE, op, parse_sum(p), NULL));
    }
    if (!chain) return n;
    node *whole = parse_pair(p, N_COMPARE, 0, n, NULL);
    whole->args = chain;
    return whole;
}

static node *parse_not(parser *p) {
    node *n = !parse_enter(p)               ? parse_new(p, N_CONST)
              : parse_accept_word(p, "not") ? parse_pair(p, N_NOT, 0, parse_not(p), NULL)
                                            : parse_compare(p);
    parse_leave(p);
    return n;
}

static node *parse_and(parser *p) {
    node *n = parse_not(p);
    while (!p->err->code && parse_accept_word(p, "and"))
        n = parse_pair(p, N_AND, 0, n, parse_not(p));
    return n;
}

static node *parse_or(parser *p) {
    node *n = parse_and(p);
    while (!p->err->code && parse_accept_word(p, "or"))
        n = parse_pair(p, N_OR, 0, n, parse_and(p));
    return n;
}

node *parse_expression(parser *p, int conditions) {
    node *n = parse_enter(p) ? parse_or(p) : parse_new(p, N_CONST);
    while (!p->err->code && conditions && parse_accept_word(p, "if")) {
        node *condition = parse_or(p), *otherwise = parse_accept_word(p, "else") ? parse_expression(p, 1) : NULL;
        n = parse_pair(p, N_IF_ELSE, 0, condition, n);
        n->c = otherwise;
    }
    parse_leave(p);
    return n;
}
