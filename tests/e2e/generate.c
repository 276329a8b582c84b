/* Text that comes to the end of the model's positions, and the base beside adapters that bring rows of their own. */
#include "base/file.h"
#include "base/memory.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A model whose positions are learned: there are 32. */
static const char gpt2[] =
    "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 96, \"n_embd\": 32, "
    "\"n_layer\": 2,"
    " \"n_head\": 4, \"n_positions\": 32, \"activation_function\": \"gelu_new\", \"initializer_range\": 0.3,"
    " \"bos_token_id\": 1, \"eos_token_id\": 2}\n";

/* The kit's folder with that model as `gpt`, and adapters prefix and prompt of it, 4 rows each. */
static char *make(void) {
    char *const folder = kit_make(4), *const source = path_join(folder, "gpt2"), *text;
    char *const config = path_join(source, "config.json");
    graft_error err = {0};
    cr_assert(!file_make_folders(source, &err) && !file_write(config, gpt2, (int64_t)strlen(gpt2), &err), "%s",
              err.text);
    cr_assert_eq(kit_graft(folder, "init gpt2 -o gpt", &text), 0, "%s", text);
    free(text);
    static const char *const names[] = {"prefix", "prompt"};
    for (int i = 0; i < 2; i++) {
        char *const sections =
            mem_format("[adapter]\nplugin = %s\ntokens = 4\nspread = 1\n[optimizer]\nlr = 0.05\n", names[i]);
        char *const options = mem_format("--quiet --set model.path=%s/gpt", folder);
        kit_ini(folder, names[i], sections);
        cr_assert_eq(kit_train(folder, names[i], options, &text), 0, "%s", text);
        free(sections);
        free(options);
        free(text);
    }
    free(source);
    free(config);
    return folder;
}

/* Ids that text written as JSON holds. */
static int count_ids(const char *text) {
    const char *const list = strstr(text, "\"ids\"");
    int count = 1;
    cr_assert(list, "%s", text);
    for (const char *at = list; *at != ']'; at++)
        count += *at == ',';
    return count;
}

/* `prompt` ids, then as many as there is room for; 0 of them: refused. */
static void expect_written(const char *folder, const char *adapter, int prompt, int written) {
    strbuf words = {0};
    char *text;
    strbuf_printf(&words, "generate gpt %s --ignore-eos --json --max-new 30 --ids 3", adapter);
    for (int i = 1; i < prompt; i++)
        strbuf_printf(&words, ",%d", 3 + i);
    const int code = kit_graft(folder, words.text, &text);
    cr_expect_eq(code, written ? 0 : 2, "%s: %s", words.text, text);
    if (written) cr_expect(strstr(text, "\"end\": \"length\"") && count_ids(text) == written, "%d: %s", written, text);
    char *const numbers =
        mem_format("prompt 1 is too long, shorten it: %d tokens are more than the %d that fit", prompt, prompt - 1);
    if (!written) cr_expect(strstr(text, numbers) && strstr(text, "has 32 positions"), "%s", text);
    free(numbers);
    free(text);
    strbuf_free(&words);
}

Test(generate, text_ends_where_the_positions_end_and_longer_prompts_are_refused) {
    char *const folder = make();
    expect_written(folder, "", 2, 30);
    expect_written(folder, "", 30, 3); /* the last id needs no position of its own */
    expect_written(folder, "", 32, 1);
    expect_written(folder, "", 33, 0);
    expect_written(folder, "--adapter prefix", 26, 3);
    expect_written(folder, "--adapter prefix", 29, 0);
    expect_written(folder, "--adapter prompt", 26, 3);
    expect_written(folder, "--adapter prompt", 29, 0);
    kit_remove(folder);
}

Test(generate, what_the_base_says_beside_an_adapter_is_what_it_says_alone) {
    char *const folder = make(), *alone, *tuned, *both;
    static const char *const names[] = {"prefix", "prompt"};
    cr_assert_eq(kit_graft(folder, "generate gpt --ids 3,4,5 --max-new 9 --ignore-eos", &alone), 0, "%s", alone);
    for (int i = 0; i < 2; i++) {
        char *const one = mem_format("generate gpt --ids 3,4,5 --max-new 9 --ignore-eos --adapter %s", names[i]),
                    *const two = mem_format("%s --compare", one);
        cr_assert_eq(kit_graft(folder, one, &tuned), 0, "%s", tuned);
        cr_assert_eq(kit_graft(folder, two, &both), 0, "%s", both);
        cr_expect(strstr(both, alone) && strstr(both, tuned), "%s is not base %sand tuned %s", both, alone, tuned);
        cr_expect_str_neq(alone, tuned);
        free(one);
        free(two);
        free(tuned);
        free(both);
    }
    free(alone);
    kit_remove(folder);
}

/* With runs of one id barred, greedy ids differ from each other and from the prompt; an id that would end the text waits. */
Test(generate, the_rules_of_generation_config_hold_for_the_best_token_too) {
    char *const folder = make(), *const path = path_join(folder, "gpt/generation_config.json"), *text;
    graft_error err = {0};
    strbuf config = {0};
    strbuf_puts(&config, "{\"no_repeat_ngram_size\": 1, \"min_new_tokens\": 20, \"eos_token_id\": [0");
    for (int i = 1; i < 30; i++)
        strbuf_printf(&config, ", %d", i);
    strbuf_puts(&config, "]}");
    cr_assert_eq(file_write(path, config.text, (int64_t)config.length, &err), 0, "%s", err.text);
    cr_assert_eq(kit_graft(folder, "generate gpt --ids 40,41 --max-new 20 --greedy --json", &text), 0, "%s", text);
    cr_expect_eq(count_ids(text), 20, "%s", text);
    int seen[96] = {[40] = 1, [41] = 1};
    for (const char *at = strchr(strstr(text, "\"ids\""), '['); at && *at != ']'; at += 1 + strcspn(at + 1, ",]")) {
        const long id = strtol(at + 1, NULL, 10);
        cr_assert(id >= 30 && id < 96 && !seen[id]++, "%ld in %s", id, text);
    }
    strbuf_free(&config);
    free(text);
    free(path);
    kit_remove(folder);
}

Test(generate, training_on_samples_longer_than_the_positions_is_refused_before_it_begins) {
    char *const folder = make(), *text;
    char *const data = path_join(folder, "long.jsonl"),
                *const options =
                    mem_format("--set model.path=%s/gpt --set data.loader=jsonl --set data.path=%s/long.jsonl "
                               "--set output.path=%s/long",
                               folder, folder, folder),
                *const words = path_join(folder, "gpt/tokenizer.json");
    static const char line[] = "{\"text\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n",
                      tokenizer[] = "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}";
    graft_error err = {0};
    cr_assert(!file_write(data, line, (int64_t)strlen(line), &err) &&
                  !file_write(words, tokenizer, (int64_t)strlen(tokenizer), &err),
              "%s", err.text);
    cr_expect_eq(kit_train(folder, "prefix", options, &text), 2, "%s", text);
    cr_expect(strstr(text, "lower [data] max_length: 48 tokens are more than the 28 that fit"), "%s", text);
    free(data);
    free(options);
    free(words);
    free(text);
    kit_remove(folder);
}
