/* template-parse — what the parsers of expressions and of statements share. */
#ifndef GRAFT_TEXT_TEMPLATE_PARSE_H
#define GRAFT_TEXT_TEMPLATE_PARSE_H
#include "text/template-lex.h"

typedef struct {
    chat_template *t;
    const token *at;
    int depth, uses; /* uses: USES_... of the macro being read */
    graft_error *err;
} parser;

int parse_fail(parser *p, const char *what, const char *word);
int parse_enter(parser *p); /* one level deeper; 0 after an error, then too, parse_leave */
void parse_leave(parser *p);

node *parse_new(parser *p, node_kind kind);
node *parse_pair(parser *p, node_kind kind, int op, node *a, node *b);
node **parse_append(node **tail, node *item); /* the new tail */

int parse_is_op(const parser *p, int op);
int parse_is_word(const parser *p, const char *word);
int parse_accept(parser *p, int op);
int parse_accept_word(parser *p, const char *word);
void parse_need(parser *p, int op);
const char *parse_name(parser *p);

/* ---- template-expression.c ---- */
node *parse_expression(parser *p, int conditions); /* conditions: `a if b` belongs to it */
node *parse_tuple(parser *p, int conditions);      /* a, b */
node *parse_filter(parser *p, node *on);           /* behind '|' */

#endif
