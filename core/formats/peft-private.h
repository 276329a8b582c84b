/* peft-private — JSON values that the reader and the writer of adapter_config.json share; private to this room. */
#ifndef GRAFT_FORMATS_PEFT_PRIVATE_H
#define GRAFT_FORMATS_PEFT_PRIVATE_H
#include "formats/peft.h"

/* A value as graft_field writes it: JSON, or a bare word, which is a text. A new reference. */
json_t *peft_value(const char *text);

/* 1 when the type is one of PEFT's or AdapterHub's: its keys are known. */
int peft_knows(const char *type);

/* null, false, 0, "", [] and {}: says nothing. NULL counts as null. */
int peft_is_empty(const json_t *value);

/* Puts `value` (stolen) under a key, in a member object where the key has a dot; members stay sorted. */
void peft_put(json_t *root, const char *key, json_t *value);

/* The member called `key` or, with a dot in it, the member of a member; NULL when absent. Borrowed. */
json_t *peft_member(const json_t *object, const char *key);

#endif
