/* Damaged adapter configurations: read or refused, never a crash; targets made of anything select or do not. */
#include "base/file.h"
#include "formats/peft-tensors.h"
#include "formats/peft.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct {
    int64_t rank;
    double alpha, dropout;
    int32_t kind;
    const char *text;
} settings;

static const graft_option options[] = {GRAFT_OPTION_INT(settings, rank, 8, 1, 65536, "", "r"),
                                       GRAFT_OPTION_REAL(settings, alpha, 16, 0, 1e6, "", "lora_alpha"),
                                       GRAFT_OPTION_REAL(settings, dropout, 0, 0, 0.999, "", "lora_dropout"),
                                       GRAFT_OPTION_CHOICE(settings, kind, "a|bc", 0, "", "corda_config.corda_method"),
                                       GRAFT_OPTION_TEXT(settings, text, "", "", "revision")};
static const graft_field fields[] = {
    {"peft_type",         "LORA" },
    {"use_rslora",        "false"},
    {"init_lora_weights", "true" }
};
static const peft_table table = {"lora", options, fields, 5, 3};

static const char whole[] =
    "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"lora_dropout\":0.05,\"target_modules\":[\"q_proj\",\"v_.*\"],"
    "\"exclude_modules\":\".*\\\\.3\\\\..*\",\"layers_to_transform\":[0,1],\"layers_pattern\":\"layers\",\"bias\":"
    "\"none\","
    "\"rank_pattern\":{\"layers\\\\.1\\\\..*\":4,\"v_proj\":2},\"alpha_pattern\":{\"k\":3.5},\"modules_to_save\":[\"lm_"
    "head\"],"
    "\"corda_config\":{\"corda_method\":\"bc\"},\"use_rslora\":false,\"init_lora_weights\":true,\"fan_in_fan_out\":"
    "false}";

static uint32_t next_random(uint32_t *state) {
    return *state = *state * 1664525u + 1013904223u;
}

/* Everything that is done with a configuration that was read. */
static int use(const char *folder, graft_error *err) {
    static const char module[] = "model.layers.1.self_attn.v_proj";
    peft_config c;
    settings s = {0};
    arena memory = {0};
    int rc = peft_config_read(folder, &c, err);
    if (rc == GRAFT_OK) {
        peft_config_suits(&c, &table);
        rc = peft_config_apply(&c, &table, &s, NULL, &memory, err);
        targets_select(&c.targets, module, 1, 1);
        targets_pattern(c.rank_patterns, c.rank_pattern_count, module);
        targets_pattern(c.alpha_patterns, c.alpha_pattern_count, module);
        for (int32_t i = 0; i < c.modules_to_save_count; i++)
            targets_module(c.modules_to_save[i], module);
    }
    cr_assert(rc != GRAFT_OK ||
              (s.rank >= 1 && s.rank <= 65536 && s.alpha >= 0 && s.dropout < 1 && s.kind >= 0 && s.kind < 2));
    peft_config_free(&c);
    arena_free(&memory);
    return rc;
}

Test(hostile_peft, ten_thousand_damaged_configurations_are_read_or_refused_without_a_crash, .timeout = 120) {
    static const char bytes[] = "{}[]\",:0123456789.-+eE\\*?()|^$ntfu \x01\xc3\xff";
    graft_error err = {0};
    char *const folder = mem_format("%s/hostile-peft.%ld", BINARY_DIR, (long)getpid());
    char *const path = path_join(folder, "adapter_config.json");
    cr_assert_eq(file_make_folders(folder, &err), GRAFT_OK);
    uint32_t state = 3;
    int accepted = 0;
    for (int i = 0; i < 10000; i++) {
        char text[sizeof whole];
        memcpy(text, whole, sizeof whole);
        for (int k = 0; k < i % 4; k++)
            text[(next_random(&state) >> 8) % (sizeof whole - 1)] =
                bytes[(next_random(&state) >> 8) % (sizeof bytes - 1)];
        FILE *const file = fopen(path, "w");
        cr_assert(file && fwrite(text, 1, sizeof whole - 1, file) == sizeof whole - 1 && fclose(file) == 0);
        err = (graft_error){0};
        const int rc = use(folder, &err);
        accepted += rc == GRAFT_OK;
        cr_assert(rc == GRAFT_OK || *err.text, "%s", text);
    }
    cr_expect(accepted >= 2500 && accepted < 9000, "%d of 10000 accepted", accepted);
    file_remove_tree(folder, &err);
    free(path), free(folder);
}

Test(hostile_peft, a_missing_folder_is_an_error_with_its_name) {
    graft_error err = {0};
    peft_config c;
    cr_expect_eq(peft_config_read("/nowhere/at/all", &c, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "/nowhere/at/all/adapter_config.json"), "%s", err.text);
    peft_config_free(&c);
    safetensors *st;
    err = (graft_error){0};
    cr_expect_eq(peft_tensors_open("/nowhere/at/all", &st, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "/nowhere/at/all"), "%s", err.text);
}
