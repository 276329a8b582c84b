/* settings — what decides the numbers of a run, written into checkpoints and compared when a run is resumed.
 *
 * Every key of the recipe counts but those that change no number (where things lie, how often something is logged, saved or
 * validated, how many threads work, whether activations are kept) and the length of the run, which is judged by its effect. */
#ifndef GRAFT_RUN_SETTINGS_H
#define GRAFT_RUN_SETTINGS_H
#include "run/data.h"
#include "run/recipe.h"
#include "run/session.h"

/* {"train.batch_size": "4", ..., "model.weights": digest, "data.digest": ...}; *out owned by the caller. */
int settings_make(const recipe *r, const session *s, data_source *d, int64_t slice_rows, json_t **out,
                  graft_error *err);

/* GRAFT_USAGE with every key whose value differs, the old one and the new one. `what` names the checkpoint. */
int settings_compare(const json_t *was, const json_t *is, const char *what, graft_error *err);

/* A digest of the weights of a model folder, all shards. */
int settings_weights(const char *folder, char hex[65], graft_error *err);

/* A digest of a file's size and of 256 blocks of it, evenly spread: tells weight files apart without reading them whole. */
int settings_fingerprint(const char *path, char hex[65], graft_error *err);

#endif
