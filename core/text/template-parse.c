/* template-parse — tokens to a tree: recursive descent over Jinja's statements (jinja2/parser.py). Unknown tags, filters and tests are
 * errors here, not while rendering. */
#include "text/template-parse.h"
#include <stdlib.h>
#include <string.h>

static node *parse_body(parser *p, const char *const *ends);

int parse_fail(parser *p, const char *what, const char *word) {
    return fail(p->err, GRAFT_FAILED, "%s line %d: %s%s%s", p->t->name, p->at->line, what, *word ? " " : "", word);
}

node *parse_new(parser *p, node_kind kind) {
    node *n = arena_new(&p->t->memory, 1, sizeof *n);
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

node *parse_pair(parser *p, node_kind kind, int op, node *a, node *b) {
    node *n = parse_new(p, kind);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

int parse_is_op(const parser *p, int op) {
    return p->at->kind == T_OPERATOR && p->at->op == op;
}
int parse_is_word(const parser *p, const char *word) {
    return p->at->kind == T_NAME && strcmp(p->at->text, word) == 0;
}
int parse_accept(parser *p, int op) {
    if (!parse_is_op(p, op)) return 0;
    p->at++;
    return 1;
}
int parse_accept_word(parser *p, const char *word) {
    if (!parse_is_word(p, word)) return 0;
    p->at++;
    return 1;
}
void parse_need(parser *p, int op) {
    const char text[2] = {(char)op, 0};
    if (!parse_accept(p, op)) parse_fail(p, "expected", text);
}
const char *parse_name(parser *p) {
    if (p->at->kind != T_NAME) {
        parse_fail(p, "expected a name", "");
        return "";
    }
    return (p->at++)->text;
}

int parse_enter(parser *p) {
    if (++p->depth > TEMPLATE_DEPTH) parse_fail(p, "this nests too deep", "");
    return !p->err->code;
}
void parse_leave(parser *p) {
    p->depth--;
}

node **parse_append(node **tail, node *item) {
    *tail = item;
    return &item->next;
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
    node *n = parse_new(p, N_IF);
    n->a = parse_expression(p, 1);
    end_block(p);
    n->body = parse_body(p, ends);
    if (parse_accept_word(p, "elif")) {
        n->other = parse_if(p);
        return n;
    }
    if (parse_accept_word(p, "else")) {
        static const char *const last[] = {"endif", NULL};
        end_block(p);
        n->other = parse_body(p, last);
    }
    if (!parse_accept_word(p, "endif")) parse_fail(p, "an {% if %} does not end", "");
    return n;
}

/* a, (b, c); with attributes also ns.a */
static node *parse_target(parser *p, int attributes) {
    node *first = NULL, **tail = &first;
    int count = 0;
    if (!parse_enter(p)) {
        parse_leave(p);
        return parse_new(p, N_TUPLE);
    }
    do {
        if (count && (parse_is_word(p, "in") || parse_is_op(p, '=') || parse_is_op(p, ')'))) break;
        node *n = NULL;
        if (parse_accept(p, '(')) {
            n = parse_target(p, attributes);
            parse_need(p, ')');
        } else {
            n = parse_new(p, N_NAME);
            n->name = parse_name(p);
        }
        if (attributes && n->kind == N_NAME && parse_accept(p, '.')) {
            n = parse_pair(p, N_ATTRIBUTE, 0, n, NULL);
            n->name = parse_name(p);
        }
        tail = parse_append(tail, n);
        count++;
    } while (parse_accept(p, ',') && !p->err->code);
    parse_leave(p);
    if (count == 1 && p->at[-1].op != ',') return first;
    node *n = parse_new(p, N_TUPLE);
    n->args = first;
    return n;
}

static node *parse_for(parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    node *n = parse_new(p, N_FOR);
    n->a = parse_target(p, 0);
    if (!parse_accept_word(p, "in")) parse_fail(p, "a {% for %} without `in`", "");
    n->b = parse_tuple(p, 0);
    if (parse_accept_word(p, "if")) n->c = parse_expression(p, 1);
    n->op = parse_accept_word(p, "recursive");
    end_block(p);
    n->body = parse_body(p, ends);
    if (parse_accept_word(p, "else")) {
        end_block(p);
        n->other = parse_body(p, last);
    }
    if (!parse_accept_word(p, "endfor")) parse_fail(p, "a {% for %} does not end", "");
    return n;
}

static node *parse_set(parser *p) {
    static const char *const ends[] = {"endset", NULL};
    node *n = parse_new(p, N_SET);
    n->a = parse_target(p, 1);
    if (parse_accept(p, '=')) {
        n->b = parse_tuple(p, 1);
        return n;
    }
    n->kind = N_SET_BLOCK;
    node *value_of = parse_new(p, N_CONST);
    n->b = value_of; /* the captured text, through its filters */
    while (parse_accept(p, '|'))
        n->b = parse_filter(p, n->b);
    n->c = value_of;
    end_block(p);
    n->body = parse_body(p, ends);
    if (!parse_accept_word(p, "endset")) parse_fail(p, "a {% set %} does not end", "");
    return n;
}

static node *parse_parameters(parser *p) { /* behind '(' */
    node *list = NULL, **tail = &list;
    while (!p->err->code && !parse_is_op(p, ')')) {
        node *n = parse_new(p, N_KEYWORD);
        n->name = parse_name(p);
        if (parse_accept(p, '=')) n->a = parse_expression(p, 1);
        tail = parse_append(tail, n);
        if (!parse_accept(p, ',')) break;
    }
    parse_need(p, ')');
    return list;
}

/* The inside of a tag to its end. */
static node *parse_inside(parser *p, node *n, const char *end) {
    const char *const ends[] = {end, NULL};
    end_block(p);
    n->body = parse_body(p, ends);
    if (!parse_accept_word(p, end)) parse_fail(p, "a tag does not end with", end);
    return n;
}

/* The same of a macro or call block; n->op: the special names it uses. */
static node *parse_macro_inside(parser *p, node *n, const char *end) {
    const int outside = p->uses;
    p->uses = 0;
    parse_inside(p, n, end);
    n->op = p->uses;
    p->uses |= outside;
    return n;
}

static node *parse_macro(parser *p) {
    node *n = parse_new(p, N_MACRO);
    n->name = parse_name(p);
    parse_need(p, '(');
    n->args = parse_parameters(p);
    return parse_macro_inside(p, n, "endmacro");
}

static node *parse_call_block(parser *p) {
    node *n = parse_new(p, N_CALL_BLOCK);
    n->name = "caller";
    if (parse_accept(p, '(')) n->args = parse_parameters(p);
    n->b = parse_expression(p, 1);
    if (n->b->kind != N_CALL) parse_fail(p, "{% call %} needs a call", "");
    return parse_macro_inside(p, n, "endcall");
}

static node *parse_with(parser *p) {
    node *n = parse_new(p, N_WITH), **tail = &n->args;
    while (p->at->kind != T_BLOCK_END && !p->err->code) {
        node *k = parse_new(p, N_KEYWORD);
        if (n->args) parse_need(p, ',');
        k->a = parse_target(p, 0);
        parse_need(p, '=');
        k->b = parse_expression(p, 1);
        tail = parse_append(tail, k);
    }
    return parse_inside(p, n, "endwith");
}

static node *parse_filter_block(parser *p) {
    node *n = parse_new(p, N_FILTER_BLOCK);
    n->c = parse_new(p, N_CONST);
    n->b = parse_filter(p, n->c);
    while (parse_accept(p, '|'))
        n->b = parse_filter(p, n->b);
    return parse_inside(p, n, "endfilter");
}

static node *parse_generation(parser *p) {
    p->t->generation = 1;
    return parse_inside(p, parse_new(p, N_GENERATION), "endgeneration");
}

static node *parse_statement(parser *p) { /* behind {% */
    node *n = NULL;
    const token *k = p->at;
    if (parse_accept_word(p, "if"))
        n = parse_if(p);
    else if (parse_accept_word(p, "for"))
        n = parse_for(p);
    else if (parse_accept_word(p, "set"))
        n = parse_set(p);
    else if (parse_accept_word(p, "macro"))
        n = parse_macro(p);
    else if (parse_accept_word(p, "generation"))
        n = parse_generation(p);
    else if (parse_accept_word(p, "with"))
        n = parse_with(p);
    else if (parse_accept_word(p, "filter"))
        n = parse_filter_block(p);
    else if (parse_accept_word(p, "call"))
        n = parse_call_block(p);
    else if (parse_accept_word(p, "break"))
        n = parse_new(p, N_BREAK);
    else if (parse_accept_word(p, "continue"))
        n = parse_new(p, N_CONTINUE);
    else
        parse_fail(p, "a tag that is not known:", k->text);
    if (n) end_block(p);
    return n;
}

static node *parse_body(parser *p, const char *const *ends) {
    node *first = NULL, **tail = &first;
    parse_enter(p);
    while (!p->err->code && p->at->kind != T_EOF) {
        node *n = NULL;
        if (p->at->kind == T_TEXT) {
            n = parse_new(p, N_TEXT);
            n->constant = value_text(p->at->text, p->at->length);
            p->at++;
        } else if (p->at->kind == T_OUTPUT) {
            p->at++;
            n = parse_new(p, N_OUTPUT);
            n->a = parse_tuple(p, 1);
            if (p->at->kind != T_OUTPUT_END)
                parse_fail(p, "expected the end of the output, not", p->at->text);
            else
                p->at++;
        } else if (p->at->kind == T_BLOCK) {
            p->at++;
            int end = 0;
            for (const char *const *e = ends; e && *e; e++)
                end |= parse_is_word(p, *e);
            if (end) break;
            n = parse_statement(p);
        } else {
            parse_fail(p, "something unexpected:", p->at->text);
        }
        if (!n) break;
        tail = parse_append(tail, n);
    }
    parse_leave(p);
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
