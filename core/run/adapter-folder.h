/* adapter-folder — from a folder of PEFT to the technique that computes it, and back. */
#ifndef GRAFT_RUN_ADAPTER_FOLDER_H
#define GRAFT_RUN_ADAPTER_FOLDER_H
#include "formats/peft.h"
#include "model/model.h"
#include "plugin/registry.h"

/* What a technique says about its files. One that names no peft_type has its own name in capitals: nobody else reads it. */
peft_table adapter_table(const plugin_component *c, arena *memory);
/* 1: the technique has tensors for an adapter folder; 0: what it trains are base weights (full). */
int adapter_has_folder(const plugin_component *c);

/* Finds the component whose type and constant fields match FOLDER/adapter_config.json, applies every key to its options, and
 * fills *out; everything in it is owned by `memory` or by the registry. A key that changes the maths and that no technique
 * here knows is an error by name, with the techniques that come nearest. */
int adapter_folder_read(registry *plugins, const char *folder, adapt_spec *out, arena *memory, graft_error *err);

/* What a folder says about its base is true of this model: num_layers, hidden_size, and the frozen matrices that PEFT stores
 * beside an adapted embedding or head, which may be rounded (a warning). Behind adapt_bind. */
int adapter_folder_check(const char *folder, const adapt *a, int32_t which, model *m, graft_error *err);

/* [adapter] start = FOLDER: the settings of the section stand, those it leaves at their default come from the folder, a
 * contradiction is an error naming both values. given (option rows of the component): 1 where the INI gave the value. */
int adapter_folder_start(const char *folder, adapt_spec *spec, void *config, const uint8_t *given, arena *memory,
                         graft_error *err);

/* Writes FOLDER/adapter_config.json and the model card of one bound adapter, behind adapt_save, which writes the tensors and
 * runs the save hooks. The shortest names that select the adapter's sites in the model are written where PEFT would not read
 * the section's own targets as they are meant. */
int adapter_folder_write(const adapt_spec *spec, const adapt *a, int32_t which, model *m, const char *folder,
                         const char *base_model, graft_error *err);

/* The same of a plain LoRA at `sites` points of the model, whose tensors somebody else has written: alpha = rank. */
int adapter_folder_write_lora(registry *plugins, model *m, const int32_t *sites, int32_t count, int64_t rank,
                              const char *folder, graft_error *err);

#endif
