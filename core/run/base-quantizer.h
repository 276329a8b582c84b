/* base-quantizer — FOLDER/quantizer.ini beside an adapter: how its base was quantized in training. Other programs overlook it. */
#ifndef GRAFT_RUN_BASE_QUANTIZER_H
#define GRAFT_RUN_BASE_QUANTIZER_H
#include "run/recipe.h"

int base_quantizer_write(const recipe *r, const char *folder, graft_error *err);

int base_quantizer_known(const char *folder); /* 1: the folder says something */

/* 1: both adapters were trained on the same base, or neither says; 0: not. */
int base_quantizer_same(const char *folder, const char *other);

/* The recipe whose [quantizer] fits the adapters: `word` is a file that has one, "none", or NULL for what the folders say, if they
 * agree (else a warning). *out NULL: the base stays as it is stored. Owned by the caller. */
int base_quantizer_choose(registry *plugins, const char *word, const char *const *folders, int32_t count, recipe **out,
                          graft_error *err);

#endif
