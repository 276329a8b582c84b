/* peft-defaults — the keys that PEFT 0.21 writes for each type, and their defaults; those of AdapterHub's bottlenecks.
 * Source: PEFT 0.21.2, src/peft/tuners/<type>/config.py, and the folders it saved; adapters 1.2.0, BnConfig. */
#include "base/memory.h"
#include "formats/jsontext.h"
#include "formats/peft-private.h"
#include <stdlib.h>
#include <string.h>

/* types: words; "*" is every type but those of AdapterHub. */
static const struct {
    const char *types, *key, *value;
} rows[] = {
    {"*",                                             "auto_mapping",                        "null"          },
    {"*",                                             "base_model_name_or_path",             "null"          },
    {"*",                                             "inference_mode",                      "true"          },
    {"*",                                             "modules_to_save",                     "null"          },
    {"*",                                             "peft_version",                        "0.21.2"        },
    {"*",                                             "revision",                            "null"          },
    {"*",                                             "task_type",                           "null"          },
    {"LORA ADALORA IA3 VERA LN_TUNING LOHA LOKR OFT", "target_modules",                      "null"          },
    {"LORA ADALORA IA3 LN_TUNING LOHA LOKR OFT",      "exclude_modules",                     "null"          },
    {"LORA ADALORA IA3 VERA OFT",                     "fan_in_fan_out",                      "false"         },
    {"LORA ADALORA VERA OFT",                         "bias",                                "none"          },
    {"LORA ADALORA VERA LOHA LOKR OFT",               "layers_pattern",                      "null"          },
    {"LORA ADALORA VERA LOHA LOKR OFT",               "layers_to_transform",                 "null"          },
    {"LORA ADALORA LOHA LOKR",                        "alpha_pattern",                       "{}"            },
    {"LORA LOHA LOKR",                                "rank_pattern",                        "{}"            },
    {"ADALORA",                                       "rank_pattern",                        "null"          },

    {"LORA ADALORA",                                  "alora_invocation_tokens",             "null"          },
    {"LORA ADALORA",                                  "arrow_config",                        "null"          },
    {"LORA ADALORA",                                  "corda_config",                        "null"          },
    {"LORA ADALORA",                                  "ensure_weight_tying",                 "false"         },
    {"LORA ADALORA",                                  "eva_config",                          "null"          },
    {"LORA ADALORA",                                  "init_lora_weights",                   "true"          },
    {"LORA ADALORA",                                  "kasa_config",                         "null"          },
    {"LORA ADALORA",                                  "layer_replication",                   "null"          },
    {"LORA ADALORA",                                  "loftq_config",                        "{}"            },
    {"LORA ADALORA",                                  "lora_alpha",                          "8"             },
    {"LORA ADALORA",                                  "lora_bias",                           "false"         },
    {"LORA ADALORA",                                  "lora_dropout",                        "0.0"           },
    {"LORA ADALORA",                                  "lora_ga_config",                      "null"          },
    {"LORA ADALORA",                                  "megatron_config",                     "null"          },
    {"LORA ADALORA",                                  "megatron_core",                       "megatron.core" },
    {"LORA ADALORA",                                  "monteclora_config",                   "null"          },
    {"LORA ADALORA",                                  "qalora_group_size",                   "16"            },
    {"LORA ADALORA LOHA LOKR",                        "r",                                   "8"             },
    {"LORA ADALORA",                                  "target_parameters",                   "null"          },
    {"LORA ADALORA",                                  "trainable_token_indices",             "null"          },
    {"LORA ADALORA",                                  "use_bdlora",                          "null"          },
    {"LORA ADALORA",                                  "use_dora",                            "false"         },
    {"LORA ADALORA",                                  "use_qalora",                          "false"         },
    {"LORA ADALORA",                                  "use_rslora",                          "false"         },
    {"LORA ADALORA",                                  "velora_config",                       "null"          },

    {"ADALORA",                                       "beta1",                               "0.85"          },
    {"ADALORA",                                       "beta2",                               "0.85"          },
    {"ADALORA",                                       "deltaT",                              "1"             },
    {"ADALORA",                                       "init_r",                              "12"            },
    {"ADALORA",                                       "orth_reg_weight",                     "0.5"           },
    {"ADALORA",                                       "target_r",                            "8"             },
    {"ADALORA",                                       "tfinal",                              "0"             },
    {"ADALORA",                                       "tinit",                               "0"             },
    {"ADALORA",                                       "total_step",                          "null"          },

    {"IA3",                                           "feedforward_modules",                 "[]"            },
    {"IA3",                                           "init_ia3_weights",                    "true"          },

    {"VERA",                                          "d_initial",                           "0.1"           },
    {"VERA",                                          "init_weights",                        "true"          },
    {"VERA",                                          "projection_prng_key",                 "0"             },
    {"VERA",                                          "r",                                   "256"           },
    {"VERA",                                          "save_projection",                     "true"          },
    {"VERA",                                          "vera_dropout",                        "0.0"           },

    {"LOHA LOKR",                                     "alpha",                               "8"             },
    {"LOHA LOKR OFT",                                 "init_weights",                        "true"          },
    {"LOHA LOKR OFT",                                 "module_dropout",                      "0.0"           },
    {"LOHA LOKR",                                     "rank_dropout",                        "0.0"           },
    {"LOHA LOKR",                                     "use_effective_conv2d",                "false"         },
    {"LOKR",                                          "decompose_both",                      "false"         },
    {"LOKR",                                          "decompose_factor",                    "-1"            },
    {"LOKR",                                          "rank_dropout_scale",                  "false"         },

    {"OFT",                                           "block_share",                         "false"         },
    {"OFT",                                           "coft",                                "false"         },
    {"OFT",                                           "eps",                                 "6e-05"         },
    {"OFT",                                           "num_cayley_neumann_terms",            "5"             },
    {"OFT",                                           "oft_block_size",                      "32"            },
    {"OFT",                                           "r",                                   "0"             },
    {"OFT",                                           "use_cayley_neumann",                  "true"          },

    {"PREFIX_TUNING PROMPT_TUNING P_TUNING",          "num_attention_heads",                 "null"          },
    {"PREFIX_TUNING PROMPT_TUNING P_TUNING",          "num_layers",                          "null"          },
    {"PREFIX_TUNING PROMPT_TUNING P_TUNING",          "num_transformer_submodules",          "1"             },
    {"PREFIX_TUNING PROMPT_TUNING P_TUNING",          "num_virtual_tokens",                  "null"          },
    {"PREFIX_TUNING PROMPT_TUNING P_TUNING",          "token_dim",                           "null"          },
    {"PREFIX_TUNING P_TUNING",                        "encoder_hidden_size",                 "null"          },
    {"PREFIX_TUNING",                                 "init_weights",                        "null"          },
    {"PREFIX_TUNING",                                 "prefix_projection",                   "false"         },
    {"PROMPT_TUNING",                                 "prompt_tuning_init",                  "RANDOM"        },
    {"PROMPT_TUNING",                                 "prompt_tuning_init_text",             "null"          },
    {"PROMPT_TUNING",                                 "tokenizer_kwargs",                    "null"          },
    {"PROMPT_TUNING",                                 "tokenizer_name_or_path",              "null"          },
    {"P_TUNING",                                      "encoder_dropout",                     "0.0"           },
    {"P_TUNING",                                      "encoder_num_layers",                  "2"             },
    {"P_TUNING",                                      "encoder_reparameterization_type",     "MLP"           },

    {"ADAPTER_HUB",                                   "config.adapter_residual_before_ln",   "false"         },
    {"ADAPTER_HUB",                                   "config.architecture",                 "null"          },
    {"ADAPTER_HUB",                                   "config.cross_adapter",                "false"         },
    {"ADAPTER_HUB",                                   "config.dropout",                      "0.0"           },
    {"ADAPTER_HUB",                                   "config.init_weights",                 "bert"          },
    {"ADAPTER_HUB",                                   "config.inv_adapter",                  "null"          },
    {"ADAPTER_HUB",                                   "config.inv_adapter_reduction_factor", "null"          },
    {"ADAPTER_HUB",                                   "config.is_parallel",                  "false"         },
    {"ADAPTER_HUB",                                   "config.leave_out",                    "[]"            },
    {"ADAPTER_HUB",                                   "config.ln_after",                     "false"         },
    {"ADAPTER_HUB",                                   "config.ln_before",                    "false"         },
    {"ADAPTER_HUB",                                   "config.mh_adapter",                   "false"         },
    {"ADAPTER_HUB",                                   "config.non_linearity",                "relu"          },
    {"ADAPTER_HUB",                                   "config.original_ln_after",            "true"          },
    {"ADAPTER_HUB",                                   "config.original_ln_before",           "false"         },
    {"ADAPTER_HUB",                                   "config.output_adapter",               "true"          },
    {"ADAPTER_HUB",                                   "config.phm_layer",                    "false"         },
    {"ADAPTER_HUB",                                   "config.reduction_factor",             "16"            },
    {"ADAPTER_HUB",                                   "config.residual_before_ln",           "true"          },
    {"ADAPTER_HUB",                                   "config.scaling",                      "1.0"           },
    {"ADAPTER_HUB",                                   "config.use_gating",                   "false"         },
    {"ADAPTER_HUB",                                   "hidden_size",                         "null"          },
    {"ADAPTER_HUB",                                   "model_class",                         "null"          },
    {"ADAPTER_HUB",                                   "model_name",                          "null"          },
    {"ADAPTER_HUB",                                   "model_type",                          "null"          },
    {"ADAPTER_HUB",                                   "name",                                "default"       },
    {"ADAPTER_HUB",                                   "version",                             "adapters.1.2.0"},
};

static int has_word(const char *words, const char *word) {
    const size_t length = strlen(word);
    for (const char *w = words; *w; w += strcspn(w, " "), w += *w == ' ')
        if (strncmp(w, word, length) == 0 && (w[length] == ' ' || w[length] == '\0')) return 1;
    return 0;
}

int peft_knows(const char *type) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (has_word(rows[i].types, type)) return 1;
    return 0;
}

json_t *peft_defaults(const char *type) {
    json_t *const object = json_object();
    const int peft = strcmp(type, "ADAPTER_HUB") != 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (has_word(rows[i].types, type) || (peft && strcmp(rows[i].types, "*") == 0))
            peft_put(object, rows[i].key, peft_value(rows[i].value));
    return object;
}

void peft_put(json_t *root, const char *key, json_t *value) {
    const char *const dot = strchr(key, '.');
    if (!dot) {
        json_object_set_new(root, key, value);
        return;
    }
    char *const first = mem_format("%.*s", (int)(dot - key), key);
    json_t *object = json_object_get(root, first);
    if (!json_is_object(object)) {
        object = json_object();
        json_object_set_new(root, first, object);
    }
    json_object_set_new(object, dot + 1, value);
    json_object_set_new(root, first, jsontext_sorted(object));
    free(first);
}

json_t *peft_value(const char *text) {
    json_t *const value = json_loads(text, JSON_DECODE_ANY, NULL);
    return value ? value : json_string(text);
}

int peft_is_empty(const json_t *value) {
    if (!value || json_is_null(value) || json_is_false(value)) return 1;
    if (json_is_string(value)) return json_string_length(value) == 0;
    if (json_is_number(value)) return json_number_value(value) == 0;
    return (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

json_t *peft_member(const json_t *object, const char *key) {
    const char *const dot = strchr(key, '.');
    if (!dot) return json_object_get(object, key);
    char first[64];
    if ((size_t)(dot - key) >= sizeof first) return NULL;
    memcpy(first, key, (size_t)(dot - key));
    first[dot - key] = '\0';
    return json_object_get(json_object_get(object, first), dot + 1);
}
