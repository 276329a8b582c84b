/* checkpoint — the folders under PATH/checkpoints: step-000100 ..., and the link `best` to the one with the lowest validation loss.
 *
 * A checkpoint is written into a hidden folder, synced, and renamed: what is called step-... is complete, whenever the process
 * was killed. A folder that is given up is renamed away before it is removed. Leftovers of dead processes are swept up. The file
 * `checksums` in it tells later whether the others are still what was written. */
#ifndef GRAFT_RUN_CHECKPOINT_H
#define GRAFT_RUN_CHECKPOINT_H
#include "base/error.h"
#include <stdint.h>

/* The newest complete checkpoint of the output folder; NULL: there is none (step 0). Owned by the caller. */
char *checkpoint_newest(const char *output, int64_t *step);

int64_t checkpoint_step(const char *path); /* the number in its name; 0: it has none */

/* A new empty folder to write into, *folder owned by the caller. */
int checkpoint_begin(const char *output, int64_t step, char **folder, graft_error *err);
/* Seals it and makes it checkpoint `step`; one that stands there is replaced. */
int checkpoint_publish(const char *output, int64_t step, const char *folder, graft_error *err);
void checkpoint_abandon(const char *folder); /* removes what checkpoint_begin made */

/* Writes FOLDER/checksums: lines "crc32 bytes name" of all files below the folder. */
int checkpoint_seal(const char *folder, graft_error *err);
/* Compares every file with it; the error names the first that is missing or another one, and what to do. *sealed 0: there is
 * nothing to compare with (checkpoints of graft 0.1 before checksums). Files that nobody listed are not looked at. */
int checkpoint_verify(const char *folder, int *sealed, graft_error *err);

char *checkpoint_path(const char *output, int64_t step); /* owned by the caller */
/* Points `best` at the checkpoint of this step. */
int checkpoint_set_best(const char *output, int64_t step, graft_error *err);
/* Removes all but the newest `keep` (0: none is removed) and the best (0: there is none). */
int checkpoint_prune(const char *output, int64_t keep, int64_t best, graft_error *err);
/* Removes leftovers of writers and removers that died. */
void checkpoint_sweep(const char *output);

#endif
