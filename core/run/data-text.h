/* data-text — a loader plugin's records as the sequences of a run.
 *
 * Opening encodes every record once: errors of the whole file are found then, and what is dropped or cut is told. In memory
 * stay some bytes a record; fetch reads and encodes again what it gives.
 *   validation: eval_path, or a share of the records of `path` drawn by the seed (whole records: pieces of one are never on
 *     both sides). It is neither packed nor shuffled.
 *   packing: several documents a row, never longer than max_length; best fit decreasing, or in the order of the file
 *     without shuffle. Document numbers keep them apart.
 *   order: a permutation by Philox of (seed, epoch); the last step of an epoch has what is left. */
#ifndef GRAFT_RUN_DATA_TEXT_H
#define GRAFT_RUN_DATA_TEXT_H
#include "run/data.h"
#include "run/recipe.h"

/* `model_folder` has tokenizer.json and says which tokens end a text. Its digest is that of texts and tokens; settings are
 * compared by name (run/settings.h). GRAFT_USAGE where a setting is to blame. *out is released with its close; the recipe
 * must outlive it. */
int data_text_open(const recipe *r, const char *model_folder, data_source **out, graft_error *err);

#endif
