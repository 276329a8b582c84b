/* peft-private — JSON values that the reader and the writer of adapter_config.json share; private to this room. */
#ifndef GRAFT_FORMATS_PEFT_PRIVATE_H
#define GRAFT_FORMATS_PEFT_PRIVATE_H
#include "formats/peft.h"

/* A value as graft_field writes it: JSON, or a bare word, which is a text. A new reference. */
json_t *peft_value(const char *text);

/* null, false, 0, "", [] and {}: says nothing. NULL counts as null. */
int peft_is_empty(const json_t *value);

/* The member called `key` or, with a dot in it, the member of a member; NULL when absent. Borrowed. */
json_t *peft_member(const json_t *object, const char *key);

#endif
