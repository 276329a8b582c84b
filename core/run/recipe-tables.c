/* recipe-tables — the keys of the core's own sections. */
#include "run/recipe-private.h"
#include <string.h>

#define INT(type, field, value, low, high, doc)  GRAFT_OPTION_INT(type, field, value, low, high, doc, NULL)
#define REAL(type, field, value, low, high, doc) GRAFT_OPTION_REAL(type, field, value, low, high, doc, NULL)
#define BOOL(type, field, value, doc)            GRAFT_OPTION_BOOL(type, field, value, doc, NULL)
#define TEXT(type, field, text, doc)             GRAFT_OPTION_TEXT(type, field, text, doc, NULL)
#define PATH(type, field, doc)                   GRAFT_OPTION_PATH(type, field, "", doc, NULL)
#define CHOICE(type, field, words, doc)          GRAFT_OPTION_CHOICE(type, field, words, 0, doc, NULL)

static const graft_option model[] = {
    PATH(recipe_model, path, "folder of the model, as Hugging Face has it"),
    CHOICE(recipe_model, precision, "auto|f32|bf16",
           "type of the activations; auto: bf16 where the device multiplies it"),
    CHOICE(recipe_model, device, "auto|cpu|cuda|fake", "where the run computes; fake: the checker's"),
};

static const graft_option data[] = {
    TEXT(recipe_data, loader, "jsonl", "plugin that reads the records"),
    PATH(recipe_data, path, "file to train on, or several: a.jsonl, b.csv"),
    TEXT(recipe_data, weights, "",
         "how often each file of `path` comes, as in 3, 1; empty: every record once an epoch"),
    PATH(recipe_data, eval_path, "file to validate on, or several"),
    REAL(recipe_data, eval_split, 0, 0, 0.9, "share of each file of `path` that is kept for validation"),
    INT(recipe_data, max_length, 1024, 1, 16777216, "longest sequence in tokens"),
    BOOL(recipe_data, packing, 0, "put several short records into one row of max_length"),
    BOOL(recipe_data, shuffle, 1, "another order in every epoch, fixed by the seed"),
    BOOL(recipe_data, group_by_length, 0, "batches of sequences of similar length, in an order fixed by the seed"),
    CHOICE(recipe_data, truncation, "right|left|drop|split|middle",
           "which part of a record too long is cut; drop: left out; split: cut into several"),
    BOOL(recipe_data, append_eos, 1, "end what is trained on with the model's end token, so that it learns to stop"),
    TEXT(recipe_data, chat_template, "",
         "template of conversations: chatml, alpaca, plain, or a file; empty: the model's own"),
    TEXT(recipe_data, date, "",
         "day that a template is told, as in 2024-07-26; empty: the day on which the run begins"),
    CHOICE(recipe_data, train_on, "assistant|completion|last|all",
           "what of a conversation is learned: all answers, what follows the prompt, the last answer, everything"),
    CHOICE(recipe_data, on_error, "stop|skip", "whether a damaged record ends the run or is left out and counted"),
    INT(recipe_data, calibration, 128, 1, 1000000,
        "sequences of `path` that a technique which observes (prune with wanda) is shown before training"),
    INT(recipe_data, calibration_seed, 0, 0, 9007199254740992, "which sequences these are"),
    TEXT(recipe_data, allow, "", "train although the data doctor objects: no_eos, doubled_bos"),
};

static const graft_option quantizer[] = {
    TEXT(recipe_quantizer, plugin, "", "quantizer of the frozen weights"),
    TEXT(recipe_quantizer, targets, "", "layers to quantize; empty: all linear layers of the decoder"),
    TEXT(recipe_quantizer, exclude, "", "layers to leave as they are"),
    PATH(recipe_quantizer, state, "packed tensors under bitsandbytes' names, instead of quantizing"),
};

static const graft_option adapter[] = {
    TEXT(recipe_adapter, plugin, "", "the technique"),
    TEXT(recipe_adapter, targets, "",
         "names, suffixes or globs of layers, or all-linear; empty: the technique's own choice"),
    TEXT(recipe_adapter, exclude, "", "layers to leave out"),
    TEXT(recipe_adapter, layers, "", "blocks to adapt: 0-11, 14; empty: all"),
    CHOICE(recipe_adapter, bias, "none|all|lora_only", "biases of the base that are trained too"),
    TEXT(recipe_adapter, modules_to_save, "", "modules of the base that are trained whole and saved"),
    TEXT(recipe_adapter, rank_pattern, "", "other ranks for some layers: q_proj:4, layers.0.*:16"),
    TEXT(recipe_adapter, alpha_pattern, "", "other alphas for some layers, in the same form"),
    CHOICE(recipe_adapter, fan_in_fan_out, "auto|yes|no", "whether the files hold W as (in, out); changes no result"),
    PATH(recipe_adapter, start, "adapter folder to begin from"),
};

static const graft_option optimizer[] = {
    TEXT(recipe_optimizer, plugin, "adamw", "how parameters follow their gradients"),
    REAL(recipe_optimizer, lr, 2e-4, 0, 1000, "learning rate at factor 1 of the schedule"),
    TEXT(recipe_optimizer, lr_scale, "", "other learning rates for some tensors: *.lora_B.weight:16, bias:0.5"),
    TEXT(recipe_optimizer, no_decay, "", "tensors with weight_decay 0: bias, *norm.weight"),
    CHOICE(recipe_optimizer, state, "32bit|8bit",
           "what is remembered of each number; 8bit: blocks of 256 share a scale, tensors below 4096 numbers stay"),
};

static const graft_option schedule[] = {
    TEXT(recipe_schedule, plugin, "constant", "factor of the learning rate after the warm-up"),
    INT(recipe_schedule, warmup_steps, 0, 0, 1000000000, "steps in which the learning rate rises from 0"),
    REAL(recipe_schedule, warmup_ratio, 0, 0, 1, "the same as a share of all steps, rounded up"),
};

static const graft_option objective[] = {
    TEXT(recipe_objective, plugin, "sft", "the loss"),
};

static const graft_option train[] = {
    REAL(recipe_train, epochs, 1, 0, 1000000, "passes over the data"),
    INT(recipe_train, steps, 0, 0, 1000000000, "optimizer steps; 0: by epochs"),
    INT(recipe_train, batch_size, 4, 1, 1000000, "sequences of one micro-batch"),
    INT(recipe_train, accumulate, 1, 1, 1000000, "micro-batches of one optimizer step"),
    REAL(recipe_train, clip_norm, 1, 0, 1e9, "largest norm of all gradients together; 0: no clipping"),
    INT(recipe_train, seed, 42, 0, 9007199254740992, "of initial values, order of the data, dropout"),
    INT(recipe_train, slice_tokens, 0, 0, 1000000000, "tokens computed at once; 0: chosen from model and settings"),
    CHOICE(recipe_train, checkpoint_activations, "auto|yes|no",
           "compute blocks again in backward instead of keeping them"),
    INT(recipe_train, log_every, 1, 1, 1000000000, "steps from one line of progress to the next"),
    INT(recipe_train, eval_every, 0, 0, 1000000000, "steps between validations; 0: at the end only"),
    INT(recipe_train, patience, 0, 0, 1000000,
        "ends the run behind so many validations without a lower loss (early stopping); 0: never"),
    BOOL(recipe_train, load_best, 0, "the result is the state with the lowest validation loss, not the last one"),
    INT(recipe_train, save_every, 0, 0, 1000000000, "steps between checkpoints; 0: at the end only"),
    INT(recipe_train, keep, 2, 0, 1000000, "newest checkpoints that are kept; 0: all"),
    INT(recipe_train, threads, 0, 0, 4096, "0: as many as the process may use"),
};

static const graft_option output[] = {
    PATH(recipe_output, path, "folder that receives the result"),
};

/* clang-format off */
#define SECTION(section) .name = #section, .rows = section, .count = (int)(sizeof section / sizeof *section)
#define MEMBER(section) .place = (int64_t)offsetof(recipe, section)
#define PLUGIN(key, of, section) .choice = key, .kind = of, .use = (int64_t)offsetof(recipe_##section, use)
#define PLAIN .kind = PLUGIN_KINDS, .use = -1

const recipe_rule recipe_rules[RECIPE_RULES] = {
    {SECTION(model), MEMBER(model), PLAIN, .required = "path", .need = RECIPE_MODEL},
    {SECTION(data), MEMBER(data), PLUGIN("loader", PLUGIN_LOADER, data), .required = "path", .need = RECIPE_DATA},
    {SECTION(quantizer), MEMBER(quantizer), PLUGIN("plugin", PLUGIN_QUANTIZER, quantizer)},
    {SECTION(adapter), .place = -1, PLUGIN("plugin", PLUGIN_ADAPTER, adapter)},
    {SECTION(optimizer), MEMBER(optimizer), PLUGIN("plugin", PLUGIN_OPTIMIZER, optimizer)},
    {SECTION(schedule), MEMBER(schedule), PLUGIN("plugin", PLUGIN_SCHEDULE, schedule)},
    {SECTION(objective), MEMBER(objective), PLUGIN("plugin", PLUGIN_OBJECTIVE, objective)},
    {SECTION(train), MEMBER(train), PLAIN},
    {SECTION(output), MEMBER(output), PLAIN, .required = "path", .need = RECIPE_OUTPUT},
};
/* clang-format on */

const graft_option *recipe_table(const char *section, int *count) {
    for (int i = 0; i < RECIPE_RULES; i++)
        if (strcmp(recipe_rules[i].name, section) == 0) {
            *count = recipe_rules[i].count;
            return recipe_rules[i].rows;
        }
    *count = 0;
    return NULL;
}
