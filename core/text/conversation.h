/* conversation — messages of a chat as data files have them, brought into the one form that templates know.
 *
 *   [{"role", "content", ...}, ...]                      as Hugging Face has it
 *   [{"from", "value"}, ...]                             ShareGPT: human, gpt, system, tool, function_call, observation ...
 *   {"messages": [...], "tools": [...], ...}             either list, with further variables of the template;
 *                                                        "conversations" and "conversation" are other names of the list
 * Further members of messages (tool_calls, reasoning_content, name) are kept. */
#ifndef GRAFT_TEXT_CONVERSATION_H
#define GRAFT_TEXT_CONVERSATION_H
#include "base/error.h"
#include "base/json.h"

/* *out: {"messages": [{"role": ..., ...}], ...}, owned by the caller; texts of `from` are shared. The error names the message and
 * what it lacks. At least one message. */
int conversation_read(json_t *from, json_t **out, graft_error *err);
/* The same from JSON text. `name` is for messages. */
int conversation_parse(const char *text, size_t length, const char *name, json_t **out, graft_error *err);

/* Appends `answer` (JSON of a list of messages or of one, else a text) as what the assistant says. */
int conversation_answer(json_t *conversation, const char *answer, size_t length, graft_error *err);

int conversation_is_assistant(const json_t *conversation, int64_t message);
int64_t conversation_count(const json_t *conversation);

#endif
