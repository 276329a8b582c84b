#ifndef GRAFT_TEXT_TEMPLATE_LEX_H
#define GRAFT_TEXT_TEMPLATE_LEX_H
#include "text/template-private.h"

typedef enum {
    T_TEXT,
    T_OUTPUT,
    T_OUTPUT_END,
    T_BLOCK,
    T_BLOCK_END,
    T_NAME,
    T_NUMBER,
    T_STRING,
    T_OPERATOR,
    T_EOF
} token_kind;

typedef struct {
    token_kind kind;
    int line, op;
    const char *text; /* TEXT, NAME; in the template's arena, NUL behind */
    size_t length;
    value constant; /* NUMBER, STRING */
} token;

/* All tokens, ended by T_EOF; the array is owned by the caller (free). NULL after an error. */
token *template_lex(chat_template *t, const char *source, size_t length, graft_error *err);

#endif
