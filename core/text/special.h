/* special — the special tokens that a model folder names: bos_token, eos_token, unk_token, sep_token, pad_token, cls_token,
 * mask_token of tokenizer_config.json, else of special_tokens_map.json; each a text, or an object with the text as its content. */
#ifndef GRAFT_TEXT_SPECIAL_H
#define GRAFT_TEXT_SPECIAL_H
#include "base/error.h"
#include "base/json.h"

/* *out: {"bos_token": "<s>", ...}, owned by the caller. Files that are missing say nothing. */
int special_read(const char *folder, json_t **out, graft_error *err);
/* FOLDER/NAME as a JSON object, *out NULL when there is no such file. Huge integers are read as reals. */
int special_read_file(const char *folder, const char *name, json_t **out, graft_error *err);

#endif
