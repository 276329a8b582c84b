/* template-parse — tokens to a tree: recursive descent over Jinja's grammar (jinja2/parser.py). Unknown tags, filters and tests
 * are errors here, not while rendering. */
#include "text/template-lex.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    chat_template *t;
    const token *at;
    int depth;
    graft_error *err;
} parser;

static node *parse_expression(parser *p);
static node *parse_unary(parser *p, int filters);
static node *parse_body(parser *p, const char *const *ends);

static int parse_fail(parser *p, const char *what, const char *word) {
    return fail(p->err, GRAFT_FAILED, "%s line %d: %s%s%s", p->t->name, p->at->line, what, *word ? " " : "", word);
}

static node *make(parser *p, node_kind kind) {
    node *n = arena_new(&p->t->memory, 1, sizeof *n);
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

static node *make_two(parser *p, node_kind kind, int op, node *a, node *b) {
    node *n = make(p, kind);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static int is_op(const parser *p, int op) {
    return p->at->kind == T_OPERATOR && p->at->op == op;
}
static int is_word(const parser *p, const char *word) {
    return p->at->kind == T_NAME && strcmp(p->at->text, word) == 0;
}
static int accept_op(parser *p, int op) {
    if (!is_op(p, op)) return 0;
    p->at++;
    return 1;
}
static int accept_word(parser *p, const char *word) {
    if (!is_word(p, word)) return 0;
    p->at++;
    return 1;
}
static void need_op(parser *p, int op) {
    const char text[2] = {(char)op, 0};
    if (!accept_op(p, op)) parse_fail(p, "expected", text);
}
static const char *need_name(parser *p) {
    if (p->at->kind != T_NAME) {
        parse_fail(p, "expected a name", "");
        return "";
    }
    return (p->at++)->text;
}

/* ---- expressions ---- */

static node *append(node *list, node *item) {
    if (!list) return item;
    node *last = list;
    while (last->next)
        last = last->next;
    last->next = item;
    return list;
}

static node *parse_arguments(parser *p) { /* behind '(' */
    node *list = NULL;
    while (!p->err->code && !is_op(p, ')')) {
        if (is_op(p, '*') || is_op(p, OP_POWER)) { /* f(*list, **dict) */
            node *n = make_two(p, N_UNPACK, (p->at++)->op, NULL, NULL);
            n->a = parse_expression(p);
            list = append(list, n);
        } else if (p->at->kind == T_NAME && p->at[1].kind == T_OPERATOR && p->at[1].op == '=') {
            node *n = make(p, N_KEYWORD);
            n->name = (p->at++)->text;
            p->at++;
            n->a = parse_expression(p);
            list = append(list, n);
        } else {
            list = append(list, parse_expression(p));
        }
        if (!accept_op(p, ',')) break;
    }
    need_op(p, ')');
    return list;
}

static node *parse_tuple(parser *p, int conditions) {
    node *first = conditions ? parse_expression(p) : parse_unary(p, 1);
    if (!is_op(p, ',')) return first;
    node *n = make(p, N_TUPLE);
    n->args = first;
    while (accept_op(p, ',') && !p->err->code) {
        if (p->at->kind == T_BLOCK_END || p->at->kind == T_OUTPUT_END || is_op(p, ')') || is_op(p, '=')) break;
        n->args = append(n->args, conditions ? parse_expression(p) : parse_unary(p, 1));
    }
    return n;
}

static node *parse_list(parser *p, node_kind kind, int close) {
    node *n = make(p, kind);
    while (!p->err->code && !is_op(p, close)) {
        node *item = parse_expression(p);
        if (kind == N_DICT) {
            need_op(p, ':');
            item = make_two(p, N_KEYWORD, 0, item, parse_expression(p));
        }
        n->args = append(n->args, item);
        if (!accept_op(p, ',')) break;
    }
    need_op(p, close);
    return n;
}

static node *parse_constant(parser *p, value v) {
    node *n = make(p, N_CONST);
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
    if (is_word(p, "true") || is_word(p, "True")) return parse_constant(p, value_bool(1));
    if (is_word(p, "false") || is_word(p, "False")) return parse_constant(p, value_bool(0));
    if (is_word(p, "none") || is_word(p, "None")) return parse_constant(p, value_none());
    if (k->kind == T_NAME) {
        node *n = make(p, N_NAME);
        n->name = (p->at++)->text;
        return n;
    }
    if (accept_op(p, '(')) {
        if (accept_op(p, ')')) return make(p, N_TUPLE);
        node *n = parse_tuple(p, 1);
        need_op(p, ')');
        return n;
    }
    if (accept_op(p, '[')) return parse_list(p, N_LIST, ']');
    if (accept_op(p, '{')) return parse_list(p, N_DICT, '}');
    parse_fail(p, "expected an expression, not", k->kind == T_OPERATOR ? k->text : "the end of the tag");
    return make(p, N_CONST);
}

static node *parse_subscript(parser *p, node *of) { /* behind '[' */
    node *parts[3] = {0}, *n = NULL;
    int part = 0;
    if (!is_op(p, ':')) parts[0] = parse_expression(p);
    while (part < 2 && accept_op(p, ':')) {
        part++;
        if (!is_op(p, ':') && !is_op(p, ']')) parts[part] = parse_expression(p);
    }
    need_op(p, ']');
    if (part == 0) return make_two(p, N_ITEM, 0, of, parts[0]);
    n = make_two(p, N_SLICE, 0, of, parts[0]);
    n->c = parts[1];
    n->other = parts[2];
    return n;
}

static node *parse_postfix(parser *p, node *n) {
    for (int links = 0; !p->err->code; links++) {
        if (links > 200) parse_fail(p, "an expression that is too long", "");
        if (accept_op(p, '.')) {
            if (p->at->kind == T_NUMBER) {
                node *index = parse_constant(p, p->at->constant);
                n = make_two(p, N_ITEM, 0, n, index);
                continue;
            }
            n = make_two(p, N_ATTRIBUTE, 0, n, NULL);
            n->name = need_name(p);
        } else if (accept_op(p, '[')) {
            n = parse_subscript(p, n);
        } else if (accept_op(p, '(')) {
            n = make_two(p, N_CALL, 0, n, NULL);
            n->args = parse_arguments(p);
        } else {
            return n;
        }
    }
    return n;
}

static node *parse_filter(parser *p, node *on) { /* behind '|' */
    node *n = make_two(p, N_FILTER, 0, on, NULL);
    n->name = need_name(p);
    n->op = filter_find(n->name, strlen(n->name));
    if (n->op < 0) parse_fail(p, "no filter named", n->name);
    if (accept_op(p, '(')) n->args = parse_arguments(p);
    return n;
}

static node *parse_test(parser *p, node *on) { /* behind `is` */
    const int negated = accept_word(p, "not");
    node *n = make_two(p, N_TEST, 0, on, NULL);
    n->name = need_name(p);
    n->op = test_find(n->name, strlen(n->name));
    if (n->op < 0) parse_fail(p, "no test named", n->name);
    const token *k = p->at;
    if (accept_op(p, '(')) {
        n->args = parse_arguments(p);
    } else if ((k->kind == T_NAME && !is_word(p, "else") && !is_word(p, "or") && !is_word(p, "and") &&
                !is_word(p, "if") && !is_word(p, "is") && !is_word(p, "in") && !is_word(p, "not")) ||
               k->kind == T_NUMBER || k->kind == T_STRING || is_op(p, '[') || is_op(p, '{')) {
        n->args = parse_postfix(p, parse_primary(p));
    }
    return negated ? make_two(p, N_NOT, 0, n, NULL) : n;
}

static node *parse_unary(parser *p, int filters) {
    node *n;
    if (++p->depth > TEMPLATE_DEPTH) parse_fail(p, "an expression that nests too deep", "");
    if (p->err->code) {
        p->depth--;
        return make(p, N_CONST);
    }
    if (is_op(p, '-') || is_op(p, '+')) {
        const int op = (p->at++)->op;
        n = make_two(p, N_UNARY, op, parse_unary(p, 0), NULL);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    while (filters && !p->err->code) {
        if (accept_op(p, '|'))
            n = parse_filter(p, n);
        else if (accept_word(p, "is"))
            n = parse_test(p, n);
        else if (accept_op(p, '(')) {
            n = make_two(p, N_CALL, 0, n, NULL);
            n->args = parse_arguments(p);
        } else
            break;
    }
    p->depth--;
    return n;
}

static node *parse_power(parser *p) {
    node *n = parse_unary(p, 1);
    while (!p->err->code && accept_op(p, OP_POWER))
        n = make_two(p, N_BINARY, OP_POWER, n, parse_unary(p, 1));
    return n;
}

static node *parse_product(parser *p) {
    node *n = parse_power(p);
    while (!p->err->code && (is_op(p, '*') || is_op(p, '/') || is_op(p, OP_FLOOR) || is_op(p, '%'))) {
        const int op = (p->at++)->op;
        n = make_two(p, N_BINARY, op, n, parse_power(p));
    }
    return n;
}

static node *parse_concat(parser *p) {
    node *n = parse_product(p);
    while (!p->err->code && accept_op(p, '~'))
        n = make_two(p, N_BINARY, '~', n, parse_product(p));
    return n;
}

static node *parse_sum(parser *p) {
    node *n = parse_concat(p);
    while (!p->err->code && (is_op(p, '+') || is_op(p, '-'))) {
        const int op = (p->at++)->op;
        n = make_two(p, N_BINARY, op, n, parse_concat(p));
    }
    return n;
}

/* a < b < c: every link compares with the one before; args holds the links. */
static node *parse_compare(parser *p) {
    node *n = parse_sum(p), *chain = NULL;
    for (;;) {
        int op = 0;
        if (p->at->kind == T_OPERATOR && (p->at->op == OP_EQ || p->at->op == OP_NE || p->at->op == OP_LE ||
                                          p->at->op == OP_GE || p->at->op == '<' || p->at->op == '>'))
            op = p->at->op;
        else if (is_word(p, "in"))
            op = OP_IN;
        else if (is_word(p, "not") && p->at[1].kind == T_NAME && strcmp(p->at[1].text, "in") == 0)
            op = OP_NOT_IN;
        if (!op || p->err->code) break;
        p->at += op == OP_NOT_IN ? 2 : 1;
        node *link = make_two(p, N_COMPARE, op, parse_sum(p), NULL);
        chain = append(chain, link);
    }
    if (!chain) return n;
    node *whole = make_two(p, N_COMPARE, 0, n, NULL);
    whole->args = chain;
    return whole;
}

static node *parse_not(parser *p) {
    if (++p->depth > TEMPLATE_DEPTH) parse_fail(p, "an expression that nests too deep", "");
    node *n = p->err->code            ? make(p, N_CONST)
              : accept_word(p, "not") ? make_two(p, N_NOT, 0, parse_not(p), NULL)
                                      : parse_compare(p);
    p->depth--;
    return n;
}

static node *parse_and(parser *p) {
    node *n = parse_not(p);
    while (!p->err->code && accept_word(p, "and"))
        n = make_two(p, N_AND, 0, n, parse_not(p));
    return n;
}

static node *parse_or(parser *p) {
    node *n = parse_and(p);
    while (!p->err->code && accept_word(p, "or"))
        n = make_two(p, N_OR, 0, n, parse_and(p));
    return n;
}

static node *parse_expression(parser *p) {
    if (++p->depth > TEMPLATE_DEPTH) parse_fail(p, "an expression that nests too deep", "");
    node *n = p->err->code ? make(p, N_CONST) : parse_or(p);
    while (!p->err->code && accept_word(p, "if")) {
        node *condition = parse_or(p), *otherwise = accept_word(p, "else") ? parse_expression(p) : NULL;
        n = make_two(p, N_IF_ELSE, 0, condition, n);
        n->c = otherwise;
    }
    p->depth--;
    return n;
}

/* ---- statements ---- */

static void end_block(parser *p) {
    if (p->at->kind == T_BLOCK_END)
        p->at++;
    else
        parse_fail(p, "expected the end of the tag, not", p->at->text);
}

static node *parse_if(parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    node *n = make(p, N_IF);
    n->a = parse_expression(p);
    end_block(p);
    n->body = parse_body(p, ends);
    if (accept_word(p, "elif")) {
        n->other = parse_if(p);
        return n;
    }
    if (accept_word(p, "else")) {
        static const char *const last[] = {"endif", NULL};
        end_block(p);
        n->other = parse_body(p, last);
    }
    if (!accept_word(p, "endif")) parse_fail(p, "an {% if %} does not end", "");
    return n;
}

static node *parse_target(parser *p, int attributes) {
    node *first = NULL;
    const int wrapped = accept_op(p, '(');
    int count = 0, comma = 0;
    do {
        if (count && (is_word(p, "in") || is_op(p, '=') || is_op(p, ')'))) break;
        node *n = make(p, N_NAME);
        n->name = need_name(p);
        if (attributes && accept_op(p, '.')) {
            node *of = n;
            n = make_two(p, N_ATTRIBUTE, 0, of, NULL);
            n->name = need_name(p);
        }
        first = append(first, n);
        count++;
        comma = is_op(p, ',');
    } while (accept_op(p, ',') && !p->err->code);
    if (wrapped) need_op(p, ')');
    if (count == 1 && !comma && !wrapped) return first;
    node *n = make(p, N_TUPLE);
    n->args = first;
    return n;
}

static node *parse_for(parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    node *n = make(p, N_FOR);
    n->a = parse_target(p, 0);
    if (!accept_word(p, "in")) parse_fail(p, "a {% for %} without `in`", "");
    n->b = parse_or(p);
    if (is_op(p, ',')) { /* for x in a, b */
        node *tuple = make(p, N_TUPLE);
        tuple->args = n->b;
        while (accept_op(p, ',') && !p->err->code)
            tuple->args = append(tuple->args, parse_or(p));
        n->b = tuple;
    }
    if (accept_word(p, "if")) n->c = parse_expression(p);
    if (is_word(p, "recursive")) parse_fail(p, "recursive loops are not supported", "");
    end_block(p);
    n->body = parse_body(p, ends);
    if (accept_word(p, "else")) {
        end_block(p);
        n->other = parse_body(p, last);
    }
    if (!accept_word(p, "endfor")) parse_fail(p, "a {% for %} does not end", "");
    return n;
}

static node *parse_set(parser *p) {
    static const char *const ends[] = {"endset", NULL};
    node *n = make(p, N_SET);
    n->a = parse_target(p, 1);
    if (accept_op(p, '=')) {
        n->b = parse_tuple(p, 1);
        return n;
    }
    n->kind = N_SET_BLOCK;
    node *value_of = make(p, N_CONST);
    n->b = value_of; /* the captured text, through its filters */
    while (accept_op(p, '|'))
        n->b = parse_filter(p, n->b);
    n->c = value_of;
    end_block(p);
    n->body = parse_body(p, ends);
    if (!accept_word(p, "endset")) parse_fail(p, "a {% set %} does not end", "");
    return n;
}

static node *parse_parameters(parser *p) { /* behind '(' */
    node *list = NULL;
    while (!p->err->code && !is_op(p, ')')) {
        node *n = make(p, N_KEYWORD);
        n->name = need_name(p);
        if (accept_op(p, '=')) n->a = parse_expression(p);
        list = append(list, n);
        if (!accept_op(p, ',')) break;
    }
    need_op(p, ')');
    return list;
}

static node *parse_macro(parser *p) {
    static const char *const ends[] = {"endmacro", NULL};
    node *n = make(p, N_MACRO);
    n->name = need_name(p);
    need_op(p, '(');
    n->args = parse_parameters(p);
    end_block(p);
    n->body = parse_body(p, ends);
    if (!accept_word(p, "endmacro")) parse_fail(p, "a {% macro %} does not end", "");
    return n;
}

static node *parse_block_of(parser *p, node_kind kind, const char *end) {
    const char *const ends[] = {end, NULL};
    node *n = make(p, kind);
    if (kind == N_WITH) {
        while (p->at->kind == T_NAME && !p->err->code) {
            node *k = make(p, N_KEYWORD);
            k->name = need_name(p);
            need_op(p, '=');
            k->a = parse_expression(p);
            n->args = append(n->args, k);
            if (!accept_op(p, ',')) break;
        }
    } else if (kind == N_FILTER_BLOCK) {
        n->c = make(p, N_CONST);
        n->b = parse_filter(p, n->c);
        while (accept_op(p, '|'))
            n->b = parse_filter(p, n->b);
    } else if (kind == N_CALL_BLOCK) {
        if (accept_op(p, '(')) n->args = parse_parameters(p);
        n->b = parse_expression(p);
        n->name = "caller";
        if (n->b->kind != N_CALL) parse_fail(p, "{% call %} needs a call", "");
    }
    end_block(p);
    n->body = parse_body(p, ends);
    if (!accept_word(p, end)) parse_fail(p, "a tag does not end with", end);
    p->t->generation |= kind == N_GENERATION;
    return n;
}

static node *parse_statement(parser *p) { /* behind {% */
    node *n = NULL;
    const token *k = p->at;
    if (accept_word(p, "if"))
        n = parse_if(p);
    else if (accept_word(p, "for"))
        n = parse_for(p);
    else if (accept_word(p, "set"))
        n = parse_set(p);
    else if (accept_word(p, "macro"))
        n = parse_macro(p);
    else if (accept_word(p, "generation"))
        n = parse_block_of(p, N_GENERATION, "endgeneration");
    else if (accept_word(p, "with"))
        n = parse_block_of(p, N_WITH, "endwith");
    else if (accept_word(p, "filter"))
        n = parse_block_of(p, N_FILTER_BLOCK, "endfilter");
    else if (accept_word(p, "call"))
        n = parse_block_of(p, N_CALL_BLOCK, "endcall");
    else if (accept_word(p, "break"))
        n = make(p, N_BREAK);
    else if (accept_word(p, "continue"))
        n = make(p, N_CONTINUE);
    else
        parse_fail(p, "a tag that is not known:", k->text);
    if (n) end_block(p);
    return n;
}

static node *parse_body(parser *p, const char *const *ends) {
    node *first = NULL, *last = NULL;
    if (++p->depth > TEMPLATE_DEPTH) parse_fail(p, "tags that nest too deep", "");
    while (!p->err->code && p->at->kind != T_EOF) {
        node *n = NULL;
        if (p->at->kind == T_TEXT) {
            n = make(p, N_TEXT);
            n->constant = value_text(p->at->text, p->at->length);
            p->at++;
        } else if (p->at->kind == T_OUTPUT) {
            p->at++;
            n = make(p, N_OUTPUT);
            n->a = parse_tuple(p, 1);
            if (p->at->kind != T_OUTPUT_END)
                parse_fail(p, "expected the end of the output, not", p->at->text);
            else
                p->at++;
        } else if (p->at->kind == T_BLOCK) {
            p->at++;
            int end = 0;
            for (const char *const *e = ends; e && *e; e++)
                end |= is_word(p, *e);
            if (end) break;
            n = parse_statement(p);
        } else {
            parse_fail(p, "something unexpected:", p->at->text);
        }
        if (!n) break;
        if (last)
            last->next = n;
        else
            first = n;
        last = n;
    }
    p->depth--;
    return first;
}

node *template_parse(chat_template *t, const char *source, size_t length, graft_error *err) {
    token *tokens = template_lex(t, source, length, err);
    if (!tokens) return NULL;
    parser p = {.t = t, .at = tokens, .err = err};
    node *body = parse_body(&p, NULL);
    free(tokens);
    return err->code ? NULL : body;
}
