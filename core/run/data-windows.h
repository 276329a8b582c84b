/* data-windows — a text as overlapping windows, for its perplexity with a stride.
 *
 *   windows begin at 0, stride, 2·stride ... and hold up to `context` tokens; the one that reaches the end is the last
 *   a window scores the tokens that no window before it held, each with all that stands in front of it in the window
 * So with a stride below the context every token but the first is predicted from context - stride tokens at least.
 * Source: the guide "Perplexity of fixed-length models" in the documentation of transformers, but for its mean: here every token
 * counts once, there every window does. */
#ifndef GRAFT_RUN_DATA_WINDOWS_H
#define GRAFT_RUN_DATA_WINDOWS_H
#include "run/data.h"

/* 1 <= stride <= context, context >= 2. A data_source for validation alone: fetch is NULL. The file is text, at most 256 MiB; it is
 * encoded as a whole with the tokens that the tokenizer puts around a text. *out is released with its close. */
int data_windows_open(const char *path, const char *model_folder, int64_t context, int64_t stride, data_source **out,
                      graft_error *err);

#endif
