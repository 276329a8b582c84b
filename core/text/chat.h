/* chat — the chat template of a model folder, or one that the user names, with the folder's special tokens.
 *
 * Where a folder's template is looked for, first to last: chat_template.jinja, "chat_template" of tokenizer_config.json (a text,
 * or a list of {"name", "template"}), chat_template.json. Further ones by name: additional_chat_templates/NAME.jinja. Of several,
 * `tool_use` renders conversations with tools and `default` all others.
 * Built in, for models without one: chatml, alpaca, plain. Each begins with the BOS token (where it is not the EOS token as well)
 * and writes the EOS token behind every answer.
 * Source: transformers, tokenization_utils_base.py. Threads: read-only once open. */
#ifndef GRAFT_TEXT_CHAT_H
#define GRAFT_TEXT_CHAT_H
#include "text/template.h"

typedef struct chat chat;

/* `wanted`: NULL or "" is the folder's own; chatml, alpaca, plain; the path of a template file; or a template itself.
 * Errors: GRAFT_FAILED for bad files and, with a text that says what to do, for a folder that has none; GRAFT_USAGE when
 * `wanted` is nothing of that. *out is owned by the caller. */
int chat_open(const char *folder, const char *wanted, chat **out, graft_error *err);
void chat_free(chat *c); /* NULL allowed */

const char *chat_origin(const chat *c); /* "MODEL/chat_template.jinja", "built-in chatml" ... */
const char *chat_source(const chat *c); /* all that decides the text: templates and special tokens */
const char *chat_bos(const chat *c);    /* the BOS token, NULL: none                          */
const char *chat_header(const chat *c); /* what stands in front of an answer, "" when that cannot be told */
int chat_marks_answers(const chat *c);  /* 1: the template has {% generation %} tags          */

/* From now on a template that asks for the date is told this one; before, $SOURCE_DATE_EPOCH, else the clock. */
void chat_fix_date(chat *c, time_t now);
int chat_asks_date(const chat *c);

/* The text of `conversation` (text/conversation.h). now: as in template_render; 0: what chat_fix_date says. */
int chat_render(const chat *c, const json_t *conversation, int generation_prompt, time_t now, template_rendering *out,
                graft_error *err);

#endif
