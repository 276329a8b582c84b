/* peft — adapter_config.json of Hugging Face PEFT (and of AdapterHub): read, applied to a technique's options, written.
 *
 * Which keys a technique has is not known here: its table of options (`file`) and fields says so. A key with a dot is
 * a member of an object: "loftq_config.loftq_iter". When a file is read each of its keys must be a field (and match),
 * an option (and lie within its bounds), a key of the core (below), empty (null, false, 0, "", [], {}), at PEFT's own
 * default, or a dropout; any other would change the result if it were left out, so it is refused by name.
 * Source: PEFT 0.21, config.py and tuners/<type>/config.py; specs/peft.md 4.5, 4.6. */
#ifndef GRAFT_FORMATS_PEFT_H
#define GRAFT_FORMATS_PEFT_H
#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/targets.h"
#include <graft/graft.h>

/* Which places of a module's tensors were kept (AdaLoRA): "MODULE.lora_E": [true, false, ...]. */
typedef struct {
    const char *name;
    const uint8_t *mask; /* (count) 1: kept */
    int64_t count;
} peft_kept;

/* The part of the file that the core understands. Texts are never NULL. When one is built for writing everything may be
 * borrowed and `file`, `path`, `memory` stay empty. */
typedef struct {
    const char *path;     /* of the file, for messages                                                       */
    const char *type;     /* peft_type, "LORA"; "ADAPTER_HUB" for a folder of AdapterHub                      */
    targets_list targets; /* target_modules, exclude_modules, layers_to_transform, layers_pattern            */
    int has_targets;      /* 0: target_modules is null, the model's family decides                           */
    const char *const *modules_to_save;
    int32_t modules_to_save_count;
    const char *bias; /* "none" "all" "lora_only"                                                            */
    int32_t fan_in_fan_out;
    const char *const *rank_patterns; /* the first that matches a module gives its rank (targets_pattern)     */
    const double *ranks;
    int32_t rank_pattern_count;
    const char *const *alpha_patterns;
    const double *alphas;
    int32_t alpha_pattern_count;
    const peft_kept *kept; /* rank_pattern, where its values are lists of booleans */
    int32_t kept_count;
    const char *base_model, *revision, *task_type; /* "": null                                          */
    const char *name;                              /* the adapter's (AdapterHub), "": none              */
    json_t *facts; /* writing: keys about the base model, each used where the type has it; borrowed, may be NULL */
    json_t *file;
    arena memory;
} peft_config;

/* What a technique declares about the file; borrowed. */
typedef struct {
    const char *name; /* of the component, for messages */
    const graft_option *options;
    const graft_field *fields;
    int32_t option_count, field_count;
} peft_table;

/* Reads FOLDER/adapter_config.json and checks the core's keys. Released with peft_config_free, after an error too. */
int peft_config_read(const char *folder, peft_config *out, graft_error *err);
void peft_config_free(peft_config *c);

/* 1 when every field of the technique matches the file: how the technique of a folder is found. */
int peft_config_suits(const peft_config *c, const peft_table *table);

/* Writes the options that the file gives into the options struct `into` (others stay as they are), and refuses what the
 * technique does not know. given (option_count, may be NULL): 1 where the file gave the value. Texts go to `memory`. */
int peft_config_apply(const peft_config *c, const peft_table *table, void *into, uint8_t *given, arena *memory,
                      graft_error *err);

/* Writes FOLDER/adapter_config.json as PEFT 0.21 does: every key that PEFT writes for this type, sorted, indented by
 * 2, no newline at the end (or as AdapterHub does, for its type). The type is the field peft_type of the table, whose
 * fields may hold a key twice: the last counts, and counts more than an option. Target names are sorted; patterns keep
 * their order, which decides. task_type "" is written as CAUSAL_LM. */
int peft_config_write(const char *folder, const peft_config *c, const peft_table *table, const void *config,
                      graft_error *err);

/* Writes FOLDER/README.md, the model card: what it is, what it belongs to, how it is loaded. */
typedef struct {
    const char *base_model, *technique, *doc, *paper; /* "" = left out */
    const char *const *facts;                         /* lines "rank = 8" */
    int32_t fact_count;
} peft_card;
int peft_card_write(const char *folder, const peft_card *card, graft_error *err);

/* PEFT's default values of a type's keys as a new object; an empty one for a type that is not known. */
json_t *peft_defaults(const char *type);

#endif
