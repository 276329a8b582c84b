/* template — chat templates: a bounded subset of Jinja2 as Hugging Face sets it up, interpreted.
 *
 * Settings: trim_blocks, lstrip_blocks, loop controls, {% generation %}, one final newline dropped, no autoescape, tojson as
 * Python's json.dumps without ASCII escapes; globals range, dict, namespace, raise_exception, strftime_now. Values behave as
 * Python's; lists and dicts cannot be changed (the immutable sandbox). Source: Jinja2 3.1, transformers chat_template_utils;
 * specs/models.md D. What is not known (a filter, a tag, include) is an error when the template is compiled.
 * A template reads nothing but its variables and cannot hang: steps, depth and output are bounded.
 * Threads: a compiled template is read-only; a rendering belongs to one thread. */
#ifndef GRAFT_TEXT_TEMPLATE_H
#define GRAFT_TEXT_TEMPLATE_H
#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include <time.h>

typedef struct chat_template chat_template;

/* `name` is for messages. Errors give the line. *out is owned by the caller. */
int template_compile(const char *source, size_t length, const char *name, chat_template **out, graft_error *err);
void template_free(chat_template *t);                /* NULL allowed */
int template_has_generation(const chat_template *t); /* 1: it has {% generation %} tags */

/* A piece of the output: bytes begin .. end - 1. */
typedef struct {
    int64_t begin, end;
    int32_t message; /* whose text it is: place in `messages`; of a generation span -1 */
} template_span;

/* {0} is empty and valid; template_rendering_free in any case. */
typedef struct {
    strbuf text;
    template_span *generation; /* inside {% generation %}, in order */
    int64_t generation_count, generation_capacity;
    template_span *said; /* what came, unchanged, out of the strings of a message (its role aside), in order */
    int64_t said_count, said_capacity;
} template_rendering;

/* Renders with the variables of `context`, an object (messages, add_generation_prompt, bos_token, tools ...; a member that is
 * absent is undefined, null is none). now: for strftime_now, 0 = the clock. Errors (GRAFT_FAILED): what raise_exception says,
 * what Jinja would raise, or a bound that was reached. */
int template_render(const chat_template *t, const json_t *context, time_t now, template_rendering *out,
                    graft_error *err);
void template_rendering_free(template_rendering *r);

#endif
