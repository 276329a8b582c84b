/* ends — the tokens that end a text: what a model is taught to write when it is done, and what stops it.
 *
 * Sources, first to last: eos_token of tokenizer_config.json, eos_token_id of generation_config.json, of config.json. */
#ifndef GRAFT_TEXT_ENDS_H
#define GRAFT_TEXT_ENDS_H
#include "text/tokenizer.h"

enum { TEXT_ENDS_MOST = 40 };

typedef struct {
    int32_t id[TEXT_ENDS_MOST]; /* all that end a text                                                          */
    int32_t count;
    int32_t written; /* the one to append in training: the tokenizer's if generation stops at it, else the first that
                        generation stops at; -1: the folder names none                                            */
} text_ends;

/* Files that are missing say nothing. An id without a token in `t` is left out. Errors name the file and the key. */
int text_ends_read(const char *folder, const tokenizer *t, text_ends *out, graft_error *err);
int text_ends_has(const text_ends *e, int32_t id);
/* One more, unless it is there already or no token of `t`. */
void text_ends_add(text_ends *e, const tokenizer *t, int64_t id);

#endif
