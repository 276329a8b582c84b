/* generation_config.json: what it says, what it does not say, what is not read. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/generation-config.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static graft_error read_text(const char *text, generation_config *c) {
    graft_error err = {0};
    char *const folder = mem_format("%s/formats-generation.%ld", BINARY_DIR, (long)getpid());
    char *const path = path_join(folder, "generation_config.json");
    cr_assert_eq(file_make_folders(folder, &err), GRAFT_OK);
    if (text) cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), GRAFT_OK);
    generation_config_read(folder, c, &err);
    graft_error ignored = {0};
    file_remove_tree(folder, &ignored);
    free(path);
    free(folder);
    return err;
}

Test(formats_generation_config, all_that_is_said_is_read) {
    generation_config c;
    const graft_error err = read_text(
        "{\"eos_token_id\":[1,106],\"bos_token_id\":2,\"pad_token_id\":0,\"do_sample\":true,\"temperature\":0.6,"
        "\"top_k\":64,\"top_p\":0.95,\"min_p\":0.05,\"repetition_penalty\":1.1,\"max_length\":20,\"max_new_tokens\":7,"
        "\"num_beams\":4,\"no_repeat_ngram_size\":3,\"min_new_tokens\":2,\"top_h\":0.4,\"typical_p\":0.9,"
        "\"epsilon_cutoff\":3e-4,\"eta_cutoff\":2e-3,\"suppress_tokens\":[],\"bad_words_ids\":[[1]]}",
        &c);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    cr_expect(c.eos_count == 2 && c.eos[0] == 1 && c.eos[1] == 106 && c.bos == 2 && c.pad == 0 && c.do_sample == 1);
    cr_expect(c.temperature == 0.6 && c.top_k == 64 && c.top_p == 0.95 && c.min_p == 0.05 &&
              c.repetition_penalty == 1.1);
    cr_expect(c.max_length == 20 && c.max_new_tokens == 7 && c.no_repeat_ngram == 3 && c.min_new_tokens == 2);
    cr_expect(c.top_h == 0.4 && c.typical_p == 0.9 && c.epsilon == 3e-4 && c.eta == 2e-3);
    cr_expect_str_eq(c.ignored, "num_beams, bad_words_ids");
}

Test(formats_generation_config, a_missing_file_and_null_say_nothing) {
    static const char *const texts[] = {
        NULL, "{}", "{\"eos_token_id\":null,\"top_k\":null,\"temperature\":null,\"do_sample\":null}"};
    for (int i = 0; i < 3; i++) {
        generation_config c;
        const graft_error err = read_text(texts[i], &c);
        cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
        cr_expect(c.eos_count == 0 && c.bos == -1 && c.do_sample == -1 && c.temperature < 0 && c.top_k == -1 &&
                  !*c.ignored);
    }
}

Test(formats_generation_config, one_id_may_stand_alone) {
    generation_config c;
    const graft_error err = read_text("{\"eos_token_id\":50256}", &c);
    cr_expect(err.code == GRAFT_OK && c.eos_count == 1 && c.eos[0] == 50256);
}

Test(formats_generation_config, wrong_values_are_named) {
    static const char *const cases[][2] = {
        {"[]",                         "not a JSON object"                     },
        {"{",                          "not valid JSON"                        },
        {"{\"eos_token_id\":-1}",      "\"eos_token_id\" must be an id"        },
        {"{\"eos_token_id\":\"x\"}",   "\"eos_token_id\" must be an id"        },
        {"{\"eos_token_id\":[1,2.5]}", "\"eos_token_id\" must be an id"        },
        {"{\"top_k\":-5}",             "\"top_k\" is -5"                       },
        {"{\"top_p\":1.5}",            "\"top_p\" is 1.5; a number from 0 to 1"},
        {"{\"temperature\":-0.5}",     "\"temperature\" is -0.5"               },
        {"{\"repetition_penalty\":0}", "\"repetition_penalty\" is 0"           },
        {"{\"temperature\":\"hot\"}",  "\"temperature\" is a text"             }
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        generation_config c;
        const graft_error err = read_text(cases[i][0], &c);
        cr_expect_eq(err.code, GRAFT_FAILED, "accepted: %s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]) && strstr(err.text, "generation_config.json"), "%s", err.text);
    }
    strbuf many = {0};
    strbuf_puts(&many, "{\"eos_token_id\":[0");
    for (int i = 1; i <= GENERATION_EOS_MAX; i++)
        strbuf_printf(&many, ",%d", i);
    strbuf_puts(&many, "]}");
    generation_config c;
    const graft_error err = read_text(many.text, &c);
    cr_expect(strstr(err.text, "has 33 ids; at most 32"), "%s", err.text);
    strbuf_free(&many);
}
