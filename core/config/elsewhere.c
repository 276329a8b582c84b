/* elsewhere — the table. Keys that stand in the files of PEFT have their names in the tables of options and are not here,
 * nor do keys of the core that only stand in a wrong section: option_home names theirs. */
#include "config/elsewhere.h"
#include <stddef.h>
#include <string.h>

static const elsewhere_name names[] = {
    {"base_model",                  "model",     "path"                  },
    {"model_name_or_path",          "model",     "path"                  },
    {"bf16",                        "model",     "precision"             },
    {"dtype",                       "model",     "precision"             },
    {"torch_dtype",                 "model",     "precision"             },
    {"datasets",                    "data",      "path"                  },
    {"train_file",                  "data",      "path"                  },
    {"validation_file",             "data",      "eval_path"             },
    {"val_set_size",                "data",      "eval_split"            },
    {"max_seq_length",              "data",      "max_length"            },
    {"cutoff_len",                  "data",      "max_length"            },
    {"sequence_len",                "data",      "max_length"            },
    {"sample_packing",              "data",      "packing"               },
    {"template",                    "data",      "chat_template"         },
    {"completion_only_loss",        "data",      "train_on"              },
    {"assistant_only_loss",         "data",      "train_on"              },
    {"load_in_4bit",                "quantizer", "plugin"                },
    {"load_in_8bit",                "quantizer", "plugin"                },
    {"bnb_4bit_quant_type",         "quantizer", "type"                  },
    {"bnb_4bit_use_double_quant",   "quantizer", "double_quant"          },
    {"llm_int8_threshold",          "quantizer", "threshold"             },
    {"r",                           "adapter",   "rank"                  },
    {"lora_r",                      "adapter",   "rank"                  },
    {"lora_rank",                   "adapter",   "rank"                  },
    {"lora_alpha",                  "adapter",   "alpha"                 },
    {"lora_dropout",                "adapter",   "dropout"               },
    {"target_modules",              "adapter",   "targets"               },
    {"lora_target_modules",         "adapter",   "targets"               },
    {"lora_target",                 "adapter",   "targets"               },
    {"exclude_modules",             "adapter",   "exclude"               },
    {"layers_to_transform",         "adapter",   "layers"                },
    {"learning_rate",               "optimizer", "lr"                    },
    {"weight_decay",                "optimizer", "weight_decay"          },
    {"optim",                       "optimizer", "plugin"                },
    {"loraplus_lr_ratio",           "optimizer", "lr_scale"              },
    {"lr_scheduler",                "schedule",  "plugin"                },
    {"lr_scheduler_type",           "schedule",  "plugin"                },
    {"num_train_epochs",            "train",     "epochs"                },
    {"num_epochs",                  "train",     "epochs"                },
    {"max_steps",                   "train",     "steps"                 },
    {"micro_batch_size",            "train",     "batch_size"            },
    {"per_device_train_batch_size", "train",     "batch_size"            },
    {"gradient_accumulation_steps", "train",     "accumulate"            },
    {"max_grad_norm",               "train",     "clip_norm"             },
    {"gradient_checkpointing",      "train",     "checkpoint_activations"},
    {"early_stopping_patience",     "train",     "patience"              },
    {"load_best_model_at_end",      "train",     "load_best"             },
    {"logging_steps",               "train",     "log_every"             },
    {"eval_steps",                  "train",     "eval_every"            },
    {"save_steps",                  "train",     "save_every"            },
    {"save_total_limit",            "train",     "keep"                  },
    {"output_dir",                  "output",    "path"                  },
};

const elsewhere_name *elsewhere_find(const char *key) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].theirs, key) == 0) return &names[i];
    return NULL;
}
