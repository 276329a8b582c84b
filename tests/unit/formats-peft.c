/* adapter_config.json: what PEFT wrote is read, applied and written again byte for byte; what would change the result
 * is refused by name. Goldens: PEFT 0.21.2. */
#include "base/file.h"
#include "formats/jsontext.h"
#include "formats/peft-tensors.h"
#include "formats/peft.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
    int64_t iterations;
    int32_t mode, flag;
    const char *text, *words;
} settings;

#define COUNT(rows) ((int32_t)(sizeof(rows) / sizeof *(rows)))
#define LORA_OPTIONS                                                                                                   \
    GRAFT_OPTION_INT(settings, rank, 4, 1, 65536, "", "r"),                                                            \
        GRAFT_OPTION_REAL(settings, alpha, 16, 0, 1e6, "", "lora_alpha"),                                              \
        GRAFT_OPTION_REAL(settings, dropout, 0, 0, 0.999, "", "lora_dropout")

static const graft_option lora_options[] = {LORA_OPTIONS};
static const graft_option loftq_options[] = {
    LORA_OPTIONS, GRAFT_OPTION_INT(settings, iterations, 1, 1, 100, "", "loftq_config.loftq_iter")};
static const graft_field lora_fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"use_dora",          "false"},
    {"lora_bias",         "false"},
    {"init_lora_weights", "true" }
};
static const graft_field rslora_fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "true" },
    {"use_dora",          "false"},
    {"lora_bias",         "false"},
    {"init_lora_weights", "true" }
};
static const graft_field dora_fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"use_dora",          "true" },
    {"lora_bias",         "false"},
    {"init_lora_weights", "true" }
};
static const graft_field pissa_fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"use_dora",          "false"},
    {"lora_bias",         "false"},
    {"init_lora_weights", "pissa"}
};
static const graft_field olora_fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"use_dora",          "false"},
    {"lora_bias",         "false"},
    {"init_lora_weights", "olora"}
};
static const graft_field loftq_fields[] = {
    {"peft_type",               "LORA" },
    {"use_rslora",              "false"},
    {"use_dora",                "false"},
    {"lora_bias",               "false"},
    {"init_lora_weights",       "loftq"},
    {"loftq_config.loftq_bits", "4"    }
};
#define TABLE(name, options, fields)                                                                                   \
    { name, options, fields, COUNT(options), COUNT(fields) }
static const peft_table tables[] = {
    TABLE("lora", lora_options, lora_fields),   TABLE("rslora", lora_options, rslora_fields),
    TABLE("dora", lora_options, dora_fields),   TABLE("pissa", lora_options, pissa_fields),
    TABLE("olora", lora_options, olora_fields), TABLE("loftq", loftq_options, loftq_fields),
};

static void ok(int rc, const graft_error *err) {
    cr_assert_eq(rc, GRAFT_OK, "%s", err->text);
}

static void skip_without(const char *path, const char *what) {
    if (file_exists(path)) return;
    fprintf(stderr, "skipped: %s is not there\n", what);
    cr_skip_test();
}

static char *scratch(void) {
    graft_error err = {0};
    char *const folder = mem_format("%s/formats-peft.%ld", BINARY_DIR, (long)getpid());
    ok(file_make_folders(folder, &err), &err);
    return folder;
}

static void discard(char *folder) {
    graft_error err = {0};
    ok(file_remove_tree(folder, &err), &err);
    free(folder);
}

/* ---- what PEFT wrote ---- */

/* The golden's text with target_modules sorted: PEFT holds a set there, whose order is random. */
static char *sorted_text(const char *folder) {
    graft_error err = {0};
    json_t *root, *entry;
    size_t i;
    char *const path = path_join(folder, "adapter_config.json");
    ok(json_read_file(path, 0, &root, &err), &err);
    json_t *const set = json_object();
    json_array_foreach(json_object_get(root, "target_modules"), i, entry) {
        json_object_set_new(set, json_string_value(entry), json_null());
    }
    json_t *const sorted = jsontext_sorted(set);
    json_array_clear(json_object_get(root, "target_modules"));
    const char *name;
    json_object_foreach(sorted, name, entry) {
        json_array_append_new(json_object_get(root, "target_modules"), json_string(name));
    }
    strbuf text = {0};
    jsontext_add(&text, root, 2);
    json_decref(sorted);
    json_decref(set);
    json_decref(root);
    free(path);
    return text.text;
}

static char *read_text(const char *folder) {
    graft_error err = {0};
    char *text, *const path = path_join(folder, "adapter_config.json");
    int64_t size;
    ok(file_read(path, 1 << 20, &text, &size, &err), &err);
    free(path);
    return text;
}

static void check_golden(const char *golden, const char *technique, settings want) {
    graft_error err = {0};
    arena memory = {0};
    peft_config c;
    settings s = {0};
    uint8_t given[8];
    char *const folder = path_join(SHARED_DIR "/golden/adapters", golden), *const out = scratch();
    ok(peft_config_read(folder, &c, &err), &err);
    const peft_table *table = NULL;
    for (int i = 0; i < COUNT(tables); i++)
        if (peft_config_suits(&c, &tables[i])) {
            cr_expect_null(table, "%s suits %s and %s", golden, table ? table->name : "", tables[i].name);
            table = &tables[i];
        }
    cr_assert(table && strcmp(table->name, technique) == 0, "%s is taken for %s", golden,
              table ? table->name : "nothing");
    ok(peft_config_apply(&c, table, &s, given, &memory, &err), &err);
    cr_expect(s.rank == want.rank && s.alpha == want.alpha && s.dropout == want.dropout &&
              s.iterations == want.iterations);
    cr_expect(given[0] && given[1] && given[2]);
    ok(peft_config_write(out, &c, table, &s, &err), &err);
    char *const expected = sorted_text(folder), *const written = read_text(out);
    cr_expect_str_eq(written, expected, "%s", golden);
    free(expected), free(written), free(folder);
    peft_config_free(&c);
    arena_free(&memory);
    discard(out);
}

Test(formats_peft, what_peft_wrote_is_applied_and_written_again_byte_for_byte) {
    skip_without(SHARED_DIR "/golden/adapters", "golden/adapters");
    check_golden("lora-qv-r8", "lora", (settings){.rank = 8, .alpha = 16});
    check_golden("lora-all-linear-r4", "lora", (settings){.rank = 4, .alpha = 16});
    check_golden("lora-bias-all", "lora", (settings){.rank = 4, .alpha = 8});
    check_golden("lora-bias-only", "lora", (settings){.rank = 4, .alpha = 8});
    check_golden("lora-embedding", "lora", (settings){.rank = 4, .alpha = 8});
    check_golden("lora-gemma3", "lora", (settings){.rank = 8, .alpha = 16});
    check_golden("lora-layers-subset", "lora", (settings){.rank = 6, .alpha = 6});
    check_golden("lora-patterns", "lora", (settings){.rank = 8, .alpha = 12});
    check_golden("lora-save-embed", "lora", (settings){.rank = 4, .alpha = 8});
    check_golden("lora-save-lm-head", "lora", (settings){.rank = 4, .alpha = 8});
    check_golden("rslora-r16", "rslora", (settings){.rank = 16, .alpha = 16});
    check_golden("dora-r8", "dora", (settings){.rank = 8, .alpha = 16});
    check_golden("dora-gemma3", "dora", (settings){.rank = 4, .alpha = 4});
    check_golden("pissa-r8", "pissa", (settings){.rank = 8, .alpha = 16});
    check_golden("pissa-r8/converted", "lora", (settings){.rank = 16, .alpha = 32});
    check_golden("olora-r8", "olora", (settings){.rank = 8, .alpha = 16});
    check_golden("loftq-4bit-iter1", "loftq", (settings){.rank = 8, .alpha = 8, .iterations = 1});
    check_golden("loftq-4bit-iter5", "loftq", (settings){.rank = 8, .alpha = 8, .iterations = 5});
}

Test(formats_peft, other_types_are_read_and_suit_no_lora) {
    skip_without(SHARED_DIR "/golden/adapters", "golden/adapters");
    static const char *const goldens[][2] = {
        {"ia3",                      "IA3"          },
        {"vera-r16",                 "VERA"         },
        {"adalora",                  "ADALORA"      },
        {"loha-r4",                  "LOHA"         },
        {"lokr-r4",                  "LOKR"         },
        {"oft-b8",                   "OFT"          },
        {"ln-tuning",                "LN_TUNING"    },
        {"prefix-nv6",               "PREFIX_TUNING"},
        {"prefix-gemma3",            "PREFIX_TUNING"},
        {"prompt-nv6",               "PROMPT_TUNING"},
        {"bottleneck-seq-bn",        "ADAPTER_HUB"  },
        {"bottleneck-double-seq-bn", "ADAPTER_HUB"  }
    };
    for (int i = 0; i < COUNT(goldens); i++) {
        graft_error err = {0};
        peft_config c;
        char *const folder = path_join(SHARED_DIR "/golden/adapters", goldens[i][0]);
        ok(peft_config_read(folder, &c, &err), &err);
        cr_expect_str_eq(c.type, goldens[i][1]);
        for (int t = 0; t < COUNT(tables); t++)
            cr_expect_not(peft_config_suits(&c, &tables[t]), "%s suits %s", goldens[i][0], tables[t].name);
        peft_config_free(&c);
        free(folder);
    }
}

Test(formats_peft, the_cores_part_of_a_golden_is_understood) {
    skip_without(SHARED_DIR "/golden/adapters", "golden/adapters");
    graft_error err = {0};
    peft_config c;
    ok(peft_config_read(SHARED_DIR "/golden/adapters/lora-patterns", &c, &err), &err);
    cr_assert_eq(c.rank_pattern_count, 3);
    cr_assert_eq(c.alpha_pattern_count, 2);
    cr_expect(c.targets.count == 3 && c.targets.layer_count == 3 && c.targets.layers[2] == 4 && c.has_targets);
    const int32_t v4 = targets_pattern(c.rank_patterns, 3, "model.layers.4.self_attn.v_proj");
    cr_expect_eq(c.ranks[v4], 2, "the first in the order of the file");
    cr_expect_eq(targets_pattern(c.alpha_patterns, 2, "model.layers.0.self_attn.q_proj"), -1);
    cr_expect_str_eq(c.base_model, "stories260k");
    peft_config_free(&c);
    ok(peft_config_read(SHARED_DIR "/golden/adapters/lora-bias-only", &c, &err), &err);
    cr_expect_str_eq(c.bias, "lora_only");
    peft_config_free(&c);
    ok(peft_config_read(SHARED_DIR "/golden/adapters/lora-save-lm-head", &c, &err), &err);
    cr_expect(c.modules_to_save_count == 1 && strcmp(c.modules_to_save[0], "lm_head") == 0);
    peft_config_free(&c);
}

Test(formats_peft, a_real_adapter_of_gpt2_is_understood) {
    skip_without(SHARED_DIR "/adapters/gpt2-lora", "adapters/gpt2-lora");
    graft_error err = {0};
    arena memory = {0};
    peft_config c;
    settings s = {0};
    ok(peft_config_read(SHARED_DIR "/adapters/gpt2-lora", &c, &err), &err);
    ok(peft_config_apply(&c, &tables[0], &s, NULL, &memory, &err), &err);
    cr_expect(c.fan_in_fan_out && s.rank == 8 && s.alpha == 32 && s.dropout == 0.05);
    safetensors *st;
    ok(peft_tensors_open(SHARED_DIR "/adapters/gpt2-lora", &st, &err), &err);
    char *const name = peft_tensor_name("transformer.h.0.attn.c_attn", "lora_A.weight", 0, "");
    cr_expect_not_null(safetensors_find(st, name), "%s", name);
    free(name);
    safetensors_close(st);
    peft_config_free(&c);
}

/* ---- single keys ---- */

static graft_error apply_text(const char *text, const peft_table *table, settings *s, peft_config *c, arena *memory) {
    graft_error err = {0};
    char *const folder = scratch(), *const path = path_join(folder, "adapter_config.json");
    ok(file_write(path, text, (int64_t)strlen(text), &err), &err);
    if (peft_config_read(folder, c, &err) == GRAFT_OK) peft_config_apply(c, table, s, NULL, memory, &err);
    free(path);
    discard(folder);
    return err;
}

static void refused(const char *text, const char *says) {
    arena memory = {0};
    peft_config c;
    settings s = {0};
    const graft_error err = apply_text(text, &tables[0], &s, &c, &memory);
    cr_expect_eq(err.code, GRAFT_FAILED, "accepted: %s", text);
    cr_expect(strstr(err.text, says), "%s\nis said of %s", err.text, text);
    cr_expect(strstr(err.text, "adapter_config.json"), "%s", err.text);
    peft_config_free(&c);
    arena_free(&memory);
}

/* Texts live in `memory`. */
static settings accepted(const char *text, const peft_table *table, arena *memory) {
    peft_config c;
    settings s = {.rank = 77, .alpha = 77};
    const graft_error err = apply_text(text, table, &s, &c, memory);
    cr_expect_eq(err.code, GRAFT_OK, "%s", err.text);
    peft_config_free(&c);
    return s;
}

#define LORA(more) "{\"peft_type\":\"LORA\",\"target_modules\":[\"q\"]" more "}"

Test(formats_peft, what_would_change_the_result_is_refused_by_name) {
    refused(LORA(",\"use_dora\":true"), "\"use_dora\" is true; adapter lora is the one with false");
    refused(LORA(",\"use_rslora\":true"), "\"use_rslora\" is true");
    refused(LORA(",\"init_lora_weights\":\"pissa\""), "\"init_lora_weights\" is \"pissa\"");
    refused(LORA(",\"init_lora_weights\":\"loftq\""), "\"init_lora_weights\" is \"loftq\"");
    refused(LORA(",\"use_qalora\":true"), "\"use_qalora\" is true, which adapter lora does not know");
    refused(LORA(",\"layer_replication\":[[0,4],[2,5]]"), "\"layer_replication\"");
    refused(LORA(",\"trainable_token_indices\":[1]"), "\"trainable_token_indices\"");
    refused(LORA(",\"target_parameters\":[\"w\"]"), "\"target_parameters\"");
    refused(LORA(",\"ensure_weight_tying\":true"), "\"ensure_weight_tying\"");
    refused(LORA(",\"arrow_config\":{\"top_k\":3}"), "\"arrow_config\" is {\"top_k\": 3}");
    refused(LORA(",\"scale_everything\":2"), "\"scale_everything\" is 2");
    refused("{\"peft_type\":\"IA3\"}", "\"peft_type\" is \"IA3\"");
}

Test(formats_peft, what_says_nothing_or_is_peft_s_default_is_accepted) {
    arena memory = {0};
    accepted(LORA(""), &tables[0], &memory);
    accepted(LORA(",\"new_key\":null,\"b\":false,\"c\":[],\"d\":{},\"e\":\"\",\"f\":0"), &tables[0], &memory);
    accepted(LORA(",\"megatron_core\":\"megatron.core\",\"qalora_group_size\":16,\"use_dora\":null"), &tables[0],
             &memory);
    accepted(LORA(",\"init_lora_weights\":\"gaussian\""), &tables[0], &memory);
    accepted(LORA(",\"init_lora_weights\":\"eva\",\"eva_config\":{\"rho\":2.0}"), &tables[0], &memory);
    accepted(LORA(",\"init_lora_weights\":false"), &tables[0], &memory);
    accepted(LORA(",\"init_lora_weights\":null,\"loftq_config\":null"), &tables[0], &memory);
    accepted(LORA(",\"rank_dropout\":0.1,\"runtime_config\":{\"x\":1}"), &tables[0], &memory);
    const settings s = accepted(LORA(""), &tables[0], &memory);
    cr_expect(s.rank == 8 && s.alpha == 8, "an absent key stands at PEFT's default, not at graft's");
    arena_free(&memory);
}

Test(formats_peft, null_is_no_number_and_no_word) {
    arena memory = {0};
    refused(LORA(",\"r\":null"), "\"r\" is null; it must be a whole number from 1 to 65536");
    refused(LORA(",\"lora_alpha\":null"), "\"lora_alpha\" is null; it must be a number");
    refused(LORA(",\"lora_dropout\":null"), "\"lora_dropout\" is null");
    refused(LORA(",\"bias\":null"), "\"bias\" is null; give it a value, or leave it out for none");
    refused(LORA(",\"rank_pattern\":null"), "\"rank_pattern\" is null");
    refused(LORA(",\"alpha_pattern\":[]"), "\"alpha_pattern\" must be an object of numbers");
    refused(LORA(",\"kasa_config\":{}"), "\"kasa_config\" is {}");
    arena_free(&memory);
}

Test(formats_peft, values_are_checked_like_those_of_an_ini) {
    arena memory = {0};
    refused(LORA(",\"r\":0"), "\"r\" is 0; it must be a whole number from 1 to 65536");
    refused(LORA(",\"r\":8.5"), "\"r\" is 8.5");
    refused(LORA(",\"r\":\"8\""), "\"r\" is \"8\"");
    refused(LORA(",\"lora_alpha\":-1"), "\"lora_alpha\" is -1; it must be a number from 0 to 1000000");
    refused(LORA(",\"lora_dropout\":1"), "\"lora_dropout\" is 1");
    refused(LORA(",\"bias\":\"some\""), "none, all and lora_only");
    refused(LORA(",\"bias\":1"), "\"bias\"");
    refused(LORA(",\"rank_pattern\":{\"q\":0}"), "the value of \"q\" must be a whole number from 1");
    refused(LORA(",\"rank_pattern\":{\"q\":[true]}"), "the value of \"q\"");
    refused(LORA(",\"rank_pattern\":[1]"), "\"rank_pattern\"");
    refused(LORA(",\"alpha_pattern\":{\"(\":1}"), "\"(\" is no regular expression");
    refused(LORA(",\"layers_to_transform\":[\"1\"]"), "\"layers_to_transform\"");
    refused(LORA(",\"layers_to_transform\":-1"), "\"layers_to_transform\"");
    refused(LORA(",\"modules_to_save\":[1]"), "\"modules_to_save\"");
    refused(LORA(",\"fan_in_fan_out\":1"), "\"fan_in_fan_out\"");
    refused("{\"peft_type\":\"LORA\",\"target_modules\":{}}", "\"target_modules\"");
    refused("{\"peft_type\":\"LORA\",\"target_modules\":\"a(b\"}", "no regular expression");
    refused("{\"peft_type\":\"LORA\",\"target_modules\":\".*q\",\"layers_to_transform\":[1]}",
            "\"layers_to_transform\" needs a list");
    refused("{\"peft_type\":\"LORA\",\"peft_type\":\"IA3\"}", "duplicate object key");
    refused("{}", "has no \"peft_type\"");
    refused("[]", "is not a JSON object");
    refused("{\"peft_type\":1}", "\"peft_type\" is an integer");
    const settings s = accepted(LORA(",\"r\":16.0,\"lora_alpha\":22.627416997969522"), &tables[0], &memory);
    cr_expect(s.rank == 16 && s.alpha == 22.627416997969522);
    arena_free(&memory);
}

Test(formats_peft, all_linear_and_regular_expressions_are_told_apart) {
    arena memory = {0};
    peft_config c;
    settings s;
    graft_error err =
        apply_text("{\"peft_type\":\"LORA\",\"target_modules\":\"All-Linear\",\"exclude_modules\":\".*lm_head\"}",
                   &tables[0], &s, &c, &memory);
    ok(err.code, &err);
    cr_expect(c.targets.count == 1 && strcmp(c.targets.names[0], "all-linear") == 0 && !c.targets.regex);
    cr_expect_str_eq(c.targets.exclude_regex, ".*lm_head");
    peft_config_free(&c);
    err = apply_text("{\"peft_type\":\"LORA\",\"target_modules\":null,\"layers_pattern\":\"h\"}", &tables[0], &s, &c,
                     &memory);
    ok(err.code, &err);
    cr_expect(!c.has_targets && c.targets.layers_pattern_count == 1);
    peft_config_free(&c);
    arena_free(&memory);
}

Test(formats_peft, every_kind_of_option_is_read_and_written) {
    arena memory = {0};
    static const graft_option options[] = {GRAFT_OPTION_CHOICE(settings, mode, "nf4|fp4", 0, "", "mode"),
                                           GRAFT_OPTION_BOOL(settings, flag, 0, "", "flag"),
                                           GRAFT_OPTION_TEXT(settings, text, "", "", "text"),
                                           GRAFT_OPTION_TEXT(settings, words, "", "", "feedforward_modules"),
                                           GRAFT_OPTION_REAL(settings, alpha, 0, -9, 9, "", "inner.alpha")};
    static const graft_field fields[] = {
        {"peft_type",        "IA3" },
        {"init_ia3_weights", "true"},
        {"noted",            "*"   }
    };
    static const peft_table table = TABLE("all", options, fields);
    const settings s = accepted("{\"peft_type\":\"IA3\",\"mode\":\"fp4\",\"flag\":true,\"text\":\"a b\","
                                "\"feedforward_modules\":[\"x\",\"y\"],\"inner\":{\"alpha\":-2.5},\"noted\":17}",
                                &table, &memory);
    cr_expect(s.mode == 1 && s.flag == 1 && s.alpha == -2.5);
    cr_expect_str_eq(s.text, "a b");
    cr_expect_str_eq(s.words, "x, y");
    graft_error err = {0};
    char *const folder = scratch();
    const peft_config c = {.bias = "none", .base_model = "b\xc3\xa9"};
    ok(peft_config_write(folder, &c, &table, &s, &err), &err);
    char *const text = read_text(folder);
    cr_expect_str_eq(
        text,
        "{\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": \"b\\u00e9\",\n  \"exclude_modules\": null,\n"
        "  \"fan_in_fan_out\": false,\n  \"feedforward_modules\": [\n    \"x\",\n    \"y\"\n  ],\n"
        "  \"flag\": true,\n  \"inference_mode\": true,\n  \"init_ia3_weights\": true,\n"
        "  \"inner\": {\n    \"alpha\": -2.5\n  },\n  \"mode\": \"fp4\",\n  \"modules_to_save\": null,\n"
        "  \"peft_type\": \"IA3\",\n  \"peft_version\": \"0.21.2\",\n  \"revision\": null,\n"
        "  \"target_modules\": null,\n  \"task_type\": \"CAUSAL_LM\",\n  \"text\": \"a b\"\n}");
    free(text);
    discard(folder);
    arena_free(&memory);
}

Test(formats_peft, a_model_card_names_base_and_technique) {
    graft_error err = {0};
    char *const folder = scratch(), *const path = path_join(folder, "README.md"), *text;
    int64_t size;
    const char *const facts[] = {"rank = 8", "alpha = 16"};
    const peft_card card = {"a/\"b\"", "lora", "low-rank update", "Hu et al., 2021", facts, 2};
    ok(peft_card_write(folder, &card, &err), &err);
    ok(file_read(path, 1 << 20, &text, &size, &err), &err);
    cr_expect(strstr(text, "base_model: \"a/\\\"b\\\"\"\n") && strstr(text, "library_name: peft\n"), "%s", text);
    cr_expect(strstr(text, "`lora`, low-rank update (Hu et al., 2021).") && strstr(text, "rank = 8\nalpha = 16\n"),
              "%s", text);
    free(text);
    free(path);
    discard(folder);
}

/* ---- tensors ---- */

Test(formats_peft, names_of_tensors_follow_peft) {
    static const struct {
        const char *module, *file, *want;
    } cases[] = {
        {"model.layers.0.self_attn.q_proj", "lora_A.weight",
         "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"                                                                                                   },
        {"model.embed_tokens",              "lora_embedding_A",                                                       "base_model.model.model.embed_tokens.lora_embedding_A"},
        {"lm_head",                         "weight",                                                                 "base_model.model.lm_head.weight"                     },
        {"model.layers.0.self_attn.q_proj", "base_layer.bias",
         "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias"                                                                                                 },
        {"m",                               "base_model.vera_A",                                                      "base_model.vera_A"                                   },
        {"",                                "prompt_embeddings",                                                      "prompt_embeddings"                                   },
        {"m",                               "model.layers.{layer}.output_adapters.adapters.{name}.adapter_up.weight",
         "model.layers.7.output_adapters.adapters.gold.adapter_up.weight"                                                                                                   },
        {"m.n",                             "x.{module}.{site}.{other}",                                              "x.m.n.m.n.{other}"                                   },
    };
    for (int i = 0; i < COUNT(cases); i++) {
        char *const name = peft_tensor_name(cases[i].module, cases[i].file, 7, "gold");
        cr_expect_str_eq(name, cases[i].want);
        free(name);
    }
}

static graft_error match(const tensor_out *file, int64_t file_count, peft_tensor *list, int64_t count,
                         safetensors **st) {
    graft_error err = {0};
    char *const folder = scratch(), *const path = path_join(folder, "adapter_model.safetensors");
    ok(safetensors_write(path, file, file_count, NULL, 0, &err), &err);
    ok(peft_tensors_open(folder, st, &err), &err);
    peft_tensors_match(*st, list, count, &err);
    free(path);
    discard(folder);
    return err;
}

static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, other[2] = {2, 2};

Test(formats_peft, the_right_tensors_are_found_under_peft_s_spellings) {
    const tensor_out file[] = {
        {.name = "m.lora_A.default.weight",                .dtype = F32,  .rank = 2, .shape = {2, 3}, .data = ones },
        {.name = "m.ia3_l",                                .dtype = BF16, .rank = 2, .shape = {1, 4}, .data = ones },
        {.name = "lm_head.modules_to_save.default.weight", .dtype = F16,  .rank = 1, .shape = {2},    .data = ones },
        {.name = "ln.bias",                                .dtype = F32,  .rank = 1, .shape = {2},    .data = ones },
        {.name = "ln.modules_to_save.bias",                .dtype = F32,  .rank = 1, .shape = {2},    .data = ones },
        {.name = "ln.original_module.bias",                .dtype = F32,  .rank = 1, .shape = {2},    .data = other}
    };
    peft_tensor list[] = {
        {.name = "m.lora_A.weight", .rank = 2, .shape = {2, 3}},
        {.name = "m.ia3_l",         .rank = 2, .shape = {1, 4}},
        {.name = "lm_head.weight",  .rank = 1, .shape = {2}   },
        {.name = "not there",       .rank = 1, .shape = {2}   },
        {.name = "ln.bias",         .rank = 1, .shape = {2}   }
    };
    safetensors *st;
    list[3].optional = 1;
    const graft_error err = match(file, COUNT(file), list, COUNT(list), &st);
    float bias[2] = {0};
    graft_error none = {0};
    ok(err.code, &err);
    cr_assert(list[0].found && list[1].found && list[2].found && !list[3].found && list[4].found);
    ok(safetensors_read(st, list[4].found, bias, &none), &none);
    cr_expect_eq(bias[0], 1, "what was trained, not the original");
    safetensors_close(st);
}

Test(formats_peft, wrong_tensors_are_named_with_what_was_expected) {
    static const struct {
        tensor_out file[2];
        int64_t count;
        const char *says;
    } cases[] = {
        {{{.name = "b", .dtype = F32, .rank = 1, .shape = {1}, .data = ones}},
         1,                                                                                           "tensor \"a\" [2, 3] is missing; instead the file has \"b\""         },
        {{{.name = "a", .dtype = F32, .rank = 2, .shape = {3, 2}, .data = ones}},
         1,                                                                                           "tensor \"a\" is F32 [3, 2]; this adapter on this model needs [2, 3]"},
        {{{.name = "a", .dtype = F32, .rank = 3, .shape = {1, 2, 3}, .data = ones}},               1, "needs [2, 3]"                                                       },
        {{{.name = "a", .dtype = I32, .rank = 2, .shape = {2, 3}, .data = ones}},
         1,                                                                                           "tensor \"a\" is I32 [2, 3]; F32, F16"                               },
        {{{.name = "a", .dtype = F32, .rank = 2, .shape = {2, 3}, .data = ones},
          {.name = "b", .dtype = F32, .rank = 1, .shape = {1}, .data = ones}},
         2,                                                                                           "tensor \"b\" belongs to no part"                                    },
        {{{.name = "a", .dtype = F32, .rank = 2, .shape = {2, 3}, .data = ones},
          {.name = "default.a", .dtype = F32, .rank = 2, .shape = {2, 3}, .data = ones}},
         2,                                                                                           "are the same one, \"a\""                                            },
    };
    for (int i = 0; i < COUNT(cases); i++) {
        peft_tensor list[] = {
            {.name = "a", .rank = 2, .shape = {2, 3}}
        };
        safetensors *st;
        const graft_error err = match(cases[i].file, cases[i].count, list, 1, &st);
        cr_expect_eq(err.code, GRAFT_FAILED);
        cr_expect(strstr(err.text, cases[i].says) && strstr(err.text, "adapter_model.safetensors"), "%s", err.text);
        safetensors_close(st);
    }
}

Test(formats_peft, a_value_that_is_not_finite_is_named) {
    const float bad[2] = {1, NAN};
    const tensor_out file[] = {
        {.name = "a", .dtype = F32, .rank = 1, .shape = {2}, .data = bad}
    };
    peft_tensor list[] = {
        {.name = "a", .rank = 1, .shape = {2}}
    };
    safetensors *st;
    graft_error err = match(file, 1, list, 1, &st);
    ok(err.code, &err);
    float values[2];
    cr_expect_eq(peft_tensor_read(st, list[0].found, 0, 2, values, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"a\": element 1 is"), "%s", err.text);
    safetensors_close(st);
}

Test(formats_peft, a_folder_without_tensors_says_so) {
    graft_error err = {0};
    char *const folder = scratch(), *const path = path_join(folder, "adapter_model.bin");
    safetensors *st;
    ok(file_write(path, "x", 1, &err), &err);
    cr_expect_eq(peft_tensors_open(folder, &st, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "no adapter_model.safetensors; adapter_model.bin is not read"), "%s", err.text);
    free(path);
    discard(folder);
}
