/* recipe — the settings of one run: an INI file, checked against the core's tables and those of its plugins.
 *
 * recipe_load fills plain structs; a `use` beside them holds the chosen component and its options struct. Every mistake of
 * the file is found in one go. Paths are as written (relative to the current directory); empty means not given. Texts
 * and lists are owned by the recipe; components by the registry, which must outlive it. Threads: read-only once loaded. */
#ifndef GRAFT_RUN_RECIPE_H
#define GRAFT_RUN_RECIPE_H
#include "config/option.h"
#include "plugin/registry.h"

/* Places of the words in the CHOICE keys below. */
enum { RECIPE_PRECISION_AUTO, RECIPE_PRECISION_F32, RECIPE_PRECISION_BF16 };
enum { RECIPE_DEVICE_AUTO, RECIPE_DEVICE_CPU, RECIPE_DEVICE_CUDA, RECIPE_DEVICE_FAKE };
enum {
    RECIPE_TRUNCATE_RIGHT,
    RECIPE_TRUNCATE_LEFT,
    RECIPE_TRUNCATE_DROP,
    RECIPE_TRUNCATE_SPLIT,
    RECIPE_TRUNCATE_MIDDLE
};
enum { RECIPE_TRAIN_ON_ASSISTANT, RECIPE_TRAIN_ON_COMPLETION, RECIPE_TRAIN_ON_LAST, RECIPE_TRAIN_ON_ALL };
enum { RECIPE_ERROR_STOP, RECIPE_ERROR_SKIP };
enum { RECIPE_BIAS_NONE, RECIPE_BIAS_ALL, RECIPE_BIAS_LORA_ONLY };
enum { RECIPE_AUTO, RECIPE_YES, RECIPE_NO };
enum { RECIPE_STATE_32BIT, RECIPE_STATE_8BIT };

/* The plugin of a section. component NULL: the section is absent and nothing needs its default. */
typedef struct {
    const plugin_component *component;
    void *config; /* its options struct, config_size bytes */
} recipe_use;

typedef struct {
    const char *path;          /* folder of the model */
    int32_t precision, device; /* RECIPE_PRECISION_..., RECIPE_DEVICE_... */
} recipe_model;

typedef struct {
    const char *loader, *path, *eval_path, *weights;
    double eval_split;                     /* share of the records, 0: none */
    int64_t max_length;                    /* tokens                        */
    int32_t packing, shuffle;              /* 0 | 1                         */
    int32_t truncation;                    /* RECIPE_TRUNCATE_...           */
    int32_t append_eos;                    /* 0 | 1                         */
    int64_t calibration, calibration_seed; /* sequences that techniques observe before training */
    const char *chat_template, *date, *allow;
    int64_t day;                /* `date` as seconds since 1970, 0: not given */
    int32_t train_on, on_error; /* RECIPE_TRAIN_ON_..., RECIPE_ERROR_... */
    int32_t group_by_length;    /* 0 | 1                                 */
    /* the texts above as lists */
    const char **paths, **eval_paths;
    double *shares; /* (path_count) the weights; NULL: none are given */
    int32_t path_count, eval_path_count;
    recipe_use use;
} recipe_data;

typedef struct {
    const char *plugin, *targets, *exclude;
    const char *state; /* file of packed tensors that replaces quantizing */
    const char **target_list, **exclude_list;
    int32_t target_count, exclude_count;
    recipe_use use;
} recipe_quantizer;

typedef struct {
    const char *name; /* of [adapter.NAME], "" of [adapter] */
    const char *plugin, *targets, *exclude, *layers, *modules_to_save, *rank_pattern, *alpha_pattern, *start;
    int32_t bias, fan_in_fan_out; /* RECIPE_BIAS_..., RECIPE_AUTO ... */
    /* the texts above as lists; without targets: NULL, 0 */
    const char **target_list, **exclude_list, **save_list;
    int32_t target_count, exclude_count, save_count;
    int64_t *layer_list;
    int32_t layer_count;
    const char **rank_patterns, **alpha_patterns;
    double *ranks, *alphas; /* beside their patterns */
    int32_t rank_pattern_count, alpha_pattern_count;
    recipe_use use;
} recipe_adapter;

typedef struct {
    const char *plugin, *lr_scale, *no_decay;
    double lr;
    int32_t state; /* RECIPE_STATE_... */
    /* the texts above as lists */
    const char **scaled, **decay_free;
    double *scales; /* of lr, beside their patterns */
    int32_t scaled_count, decay_free_count;
    recipe_use use;
} recipe_optimizer;

typedef struct {
    const char *plugin;
    int64_t warmup_steps;
    double warmup_ratio; /* of all steps; at most one of the two is not 0 */
    recipe_use use;
} recipe_schedule;

typedef struct {
    const char *plugin;
    recipe_use use;
} recipe_objective;

typedef struct {
    double epochs;
    int64_t steps;                             /* optimizer steps; 0: by epochs                            */
    int64_t batch_size, accumulate;            /* sequences a step = their product                         */
    double clip_norm;                          /* 0: off                                                   */
    int64_t seed, slice_tokens;                /* slice_tokens 0: automatic                                */
    int32_t checkpoint_activations;            /* RECIPE_AUTO ...                                          */
    int64_t log_every, eval_every, save_every; /* optimizer steps, 0: never (eval: at the end)   */
    int64_t patience;                          /* validations without a lower loss, 0: any number          */
    int32_t load_best;                         /* 1: the result is that of the lowest validation loss      */
    int64_t keep, threads;                     /* checkpoints kept, 0: all; threads 0: CPUs of the process */
} recipe_train;

typedef struct {
    const char *path;
} recipe_output;

/* One section as it is shown, written and, by the reader of an adapter's folder, completed. */
typedef struct {
    const char *title;    /* "adapter.main" */
    option_set core, own; /* own: the plugin's, count 0 without one */
    recipe_use *use;      /* NULL where the section has no plugin */
} recipe_section;

typedef struct {
    recipe_model model;
    recipe_data data;
    recipe_quantizer quantizer;
    recipe_adapter *adapters; /* in the order of the file */
    int32_t adapter_count;
    recipe_optimizer optimizer;
    recipe_schedule schedule;
    recipe_objective objective;
    recipe_train train;
    recipe_output output;
    recipe_section *sections; /* those that are in use */
    int32_t section_count;
    ini_file file;
    arena memory;
} recipe;

/* What a command needs beyond what the file says. */
enum {
    RECIPE_PLUGINS = 1, /* the default plugins of absent sections are loaded too */
    RECIPE_MODEL = 2,   /* [model] path must be given                             */
    RECIPE_DATA = 4,    /* [data] path must be given                              */
    RECIPE_ADAPTER = 8, /* at least one [adapter]                                 */
    RECIPE_OUTPUT = 16, /* [output] path must be given                            */
    RECIPE_TRAIN = 31,
    RECIPE_PLACES = 32 /* the files and folders that it reads must be there               */
};

/* Reads `path` (NULL: an empty file), applies `overrides` ("section.key=value"), loads the plugins. All mistakes go to
 * `all` (may be NULL), as many as fit to `err` (GRAFT_USAGE). *out is owned by the caller, NULL on failure. */
int recipe_load(registry *plugins, const char *path, const char *const *overrides, int override_count, int needs,
                recipe **out, problems *all, graft_error *err);
void recipe_free(recipe *r);

/* Every value and where it came from: as INI lines with comments, or as one JSON object. */
void recipe_explain(const recipe *r, int as_json, FILE *to);
/* The same settings as an INI file that means the same anywhere on this machine: all values, absolute paths. Atomic. */
int recipe_write_resolved(const recipe *r, const char *path, graft_error *err);
/* Its [quantizer] section alone, in the same way. */
int recipe_write_quantizer(const recipe *r, const char *path, graft_error *err);

/* Warm-up steps of a run of `steps`: warmup_steps, or the ratio of them rounded up. */
int64_t recipe_warmup(const recipe *r, int64_t steps);
recipe_section *recipe_section_of(recipe *r, const char *title); /* NULL: not in use */
/* The core's table of a section ("model", "adapter" ...), for help; NULL: unknown. Static. */
const graft_option *recipe_table(const char *section, int *count);

#endif
