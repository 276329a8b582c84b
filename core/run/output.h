/* output — the folder of a run: adapter_config.json + adapter_model.safetensors (or a whole model folder where base weights were
 * trained), README.md, run.ini, metrics.jsonl, result.json, checkpoints/. Several adapters lie in subfolders by their names. */
#ifndef GRAFT_RUN_OUTPUT_H
#define GRAFT_RUN_OUTPUT_H
#include "run/recipe.h"
#include "run/session.h"

/* Before anything is computed: is the folder free, or resumed, or to be overwritten? Writes nothing. *checkpoint: the newest to
 * go on from, NULL to begin anew; owned by the caller. Errors (GRAFT_USAGE): files without `resume` or `overwrite`, a folder
 * that is no run's, the model's own folder. */
int output_check(const recipe *r, int resume, int overwrite, char **checkpoint, graft_error *err);

/* Makes the folder, removes the former run (overwrite), sweeps up leftovers, writes run.ini. */
int output_begin(const recipe *r, int overwrite, graft_error *err);

/* Where a technique changed the base for good (LoftQ in several rounds), the base as it lies on the device, once, into
 * FOLDER/base: packed as it is. Then *base_model, owned by the caller, becomes that folder. An error when no file holds it. */
int output_write_base(const session *s, const char *folder, char **base_model, graft_error *err);

/* Writes the adapters as they are now into `folder` (the output or a checkpoint); a section that trains base weights writes
 * nothing here. */
int output_write_adapters(const session *s, const char *folder, const char *base_model, graft_error *err);
/* All that the run gives: the adapters, and the model folder where base weights were trained. */
int output_write(const session *s, const char *folder, const char *base_model, graft_error *err);

/* Reads back what output_write wrote, the way every other command reads it, and compares bit by bit with the device (weights of
 * a model folder: as they are rounded to the file's type). The device holds the same afterwards. */
int output_verify(const session *s, registry *plugins, const char *folder, graft_error *err);

/* 1: the section's tensors go into an adapter folder; 0: it trains base weights, which go into a model folder. */
int output_is_adapter(const session *s, int32_t spec);

#endif
