/* masks — which tokens of a conversation are trained on, against the reference masks of 13 real templates. */
#include "base/file.h"
#include "base/json.h"
#include "text/mask.h"
#include "text/samples.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN SHARED_DIR "/golden/"

typedef struct {
    char name[32];
    int native;
    tokenizer *words;
    chat *plain, *tagged;
    masker *mask_plain, *mask_tagged;
} case_template;

enum { TEMPLATES_MOST = 32, LINE_MOST = 1 << 20 };

static chat *open_chat(const json_t *row, const char *which) {
    char folder[] = "/tmp/graft-masks-XXXXXX";
    graft_error err = {0};
    chat *c = NULL;
    cr_assert(mkdtemp(folder));
    char *const config = path_join(folder, "tokenizer_config.json");
    json_t *const o = json_pack("{s:O}", "chat_template", json_object_get(row, which));
    json_object_set(o, "bos_token", json_object_get(row, "bos_token"));
    json_object_set(o, "eos_token", json_object_get(row, "eos_token"));
    cr_assert_eq(json_write_file(config, o, 0, &err), 0, "%s", err.text);
    chat_open(folder, NULL, &c, &err);
    cr_assert(c, "%s", err.text);
    json_decref(o);
    free(config);
    file_remove_tree(folder, &err);
    return c;
}

static int open_templates(case_template *list) {
    graft_error err = {0};
    json_t *file = NULL, *row;
    size_t i;
    setenv("SOURCE_DATE_EPOCH", "1721952000", 1); /* 2024-07-26 00:00 UTC */
    setenv("TZ", "UTC", 1);
    if (access(GOLDEN "masks/chat_masks.jsonl", R_OK)) {
        fprintf(stderr, "skipped: %s is not there\n", GOLDEN "masks");
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(GOLDEN "masks/templates.json", 0, &file, &err), 0, "%s", err.text);
    json_array_foreach(file, i, row) {
        case_template *const t = &list[i];
        snprintf(t->name, sizeof t->name, "%s", json_string_value(json_object_get(row, "name")));
        t->native = json_is_true(json_object_get(row, "native_tags"));
        char *const path = mem_format(GOLDEN "tokenizers/%s", json_string_value(json_object_get(row, "tokenizer")));
        cr_assert_eq(tokenizer_load(path, &t->words, &err), 0, "%s", err.text);
        t->plain = open_chat(row, "template");
        t->tagged = open_chat(row, "tagged");
        cr_assert_eq(masker_new(t->plain, t->words, &t->mask_plain, &err), 0, "%s", err.text);
        cr_assert_eq(masker_new(t->tagged, t->words, &t->mask_tagged, &err), 0, "%s", err.text);
        free(path);
    }
    json_decref(file);
    return (int)i;
}

static void close_templates(case_template *list, int count) {
    for (int i = 0; i < count; i++) {
        masker_free(list[i].mask_plain);
        masker_free(list[i].mask_tagged);
        chat_free(list[i].plain);
        chat_free(list[i].tagged);
        tokenizer_free(list[i].words);
    }
}

static const case_template *find(const case_template *list, int count, const json_t *row) {
    for (int i = 0; i < count; i++)
        if (strcmp(list[i].name, json_string_value(json_object_get(row, "template"))) == 0) return &list[i];
    cr_assert(0, "a line names an unknown template");
    return NULL;
}

static const char *text_of(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* The mask as text; '?' in `want` allows either. */
static void same_mask(const masked *got, const char *want, const char *what, const json_t *row) {
    char *const is = mem_new((size_t)got->count + 1, 1);
    int equal = (int64_t)strlen(want) == got->count;
    for (int64_t i = 0; i < got->count; i++) {
        is[i] = got->trained[i] ? '1' : '0';
        equal = equal && (want[i] == '?' || want[i] == is[i]);
    }
    cr_expect(equal, "%s %s: %s\n  %s is\n  %s", text_of(row, "template"), text_of(row, "conversation"), what, want,
              is);
    free(is);
}

static void same_ids(const masked *got, const json_t *row) {
    const json_t *const ids = json_object_get(row, "ids");
    int equal = (int64_t)json_array_size(ids) == got->count;
    for (int64_t i = 0; equal && i < got->count; i++)
        equal = json_integer_value(json_array_get(ids, (size_t)i)) == got->ids[i];
    cr_expect(equal, "%s %s: ids", text_of(row, "template"), text_of(row, "conversation"));
    cr_expect_str_eq(got->text, text_of(row, "text"));
}

static void check_prompt(const case_template *t, json_t *conversation, const json_t *row) {
    const json_t *const prompt = json_object_get(row, "prompt");
    graft_error err = {0};
    masked got;
    if (!prompt) return;
    cr_assert_eq(mask_conversation(t->mask_plain, conversation, TRAIN_COMPLETION, &got, &err), 0, "%s", err.text);
    const int prefix = json_is_true(json_object_get(prompt, "ids_are_prefix"));
    cr_expect_eq(got.fell_back, !prefix, "%s %s: prefix", text_of(row, "template"), text_of(row, "conversation"));
    if (prefix) same_mask(&got, text_of(prompt, "mask_prefix"), "behind the prompt", row);
}

/* TRAIN_LAST: the last run of ones alone, by tags and by spans. */
static void check_last(const case_template *t, const json_t *conversation, const json_t *row) {
    static const char *const keys[] = {"mask_tag", "mask"};
    masker *const makers[] = {t->mask_tagged, t->mask_plain};
    for (int i = 0; i < 2; i++) {
        char *const want = mem_copy_text(text_of(row, keys[i]));
        int64_t at = (int64_t)strlen(want) - 1;
        graft_error err = {0};
        masked got;
        while (at >= 0 && want[at] == '0')
            at--;
        while (at >= 0 && want[at] != '0')
            at--;
        for (; at >= 0; at--)
            want[at] = want[at] == '?' ? '?' : '0';
        cr_assert_eq(mask_conversation(makers[i], conversation, TRAIN_LAST, &got, &err), 0, "%s", err.text);
        same_mask(&got, want, "the last answer", row);
        free(want);
    }
}

static void check_line(const case_template *t, const json_t *row) {
    graft_error err = {0};
    json_t *conversation = NULL;
    masked got;
    cr_assert_eq(conversation_read(json_object_get(row, "messages"), &conversation, &err), 0, "%s", err.text);
    const int code = mask_conversation(t->mask_tagged, conversation, TRAIN_ASSISTANT, &got, &err);
    if (json_object_get(row, "error")) {
        cr_expect(code, "%s %s: the template raises", t->name, text_of(row, "conversation"));
    } else {
        cr_assert_eq(code, 0, "%s", err.text);
        same_ids(&got, row);
        same_mask(&got, text_of(row, "mask_tag"), "tagged", row);
        cr_assert_eq(mask_conversation(t->mask_plain, conversation, TRAIN_ASSISTANT, &got, &err), 0, "%s", err.text);
        same_ids(&got, row);
        same_mask(&got, text_of(row, "mask"), "untagged", row);
        int64_t targets = 0;
        for (int64_t i = 1; i < got.count; i++)
            targets += got.trained[i];
        if (json_is_true(json_object_get(row, "must_flag"))) cr_expect_eq(targets, 0, "nothing to learn");
        check_prompt(t, conversation, row);
        check_last(t, conversation, row);
    }
    json_decref(conversation);
}

Test(masks, answers_and_their_end_are_trained_on_and_nothing_else) {
    case_template list[TEMPLATES_MOST] = {0};
    const int count = open_templates(list);
    char *const line = mem_new(LINE_MOST, 1);
    graft_error err = {0};
    FILE *const f = fopen(GOLDEN "masks/chat_masks.jsonl", "r");
    int lines = 0;
    while (fgets(line, LINE_MOST, f)) {
        json_t *row = NULL;
        cr_assert_eq(json_read_text(line, strlen(line), "chat_masks", 0, &row, &err), 0, "%s", err.text);
        check_line(find(list, count, row), row);
        json_decref(row);
        lines++;
    }
    cr_expect_gt(lines, 100);
    fclose(f);
    free(line);
    close_templates(list, count);
}

/* What truncation keeps and what is left to learn of it. */
Test(masks, cut_conversations_keep_the_tokens_the_policy_says) {
    case_template list[TEMPLATES_MOST] = {0};
    const int count = open_templates(list);
    char *const line = mem_new(LINE_MOST, 1);
    graft_error err = {0};
    FILE *const f = fopen(GOLDEN "masks/truncation.jsonl", "r");
    json_t *masks = json_object();
    FILE *const all = fopen(GOLDEN "masks/chat_masks.jsonl", "r");
    json_t *row = NULL;
    while (fgets(line, LINE_MOST, all)) {
        cr_assert_eq(json_read_text(line, strlen(line), "chat_masks", 0, &row, &err), 0, "%s", err.text);
        char name[80];
        snprintf(name, sizeof name, "%s/%s", text_of(row, "template"), text_of(row, "conversation"));
        json_object_set(masks, name, json_object_get(row, "mask_tag"));
        json_decref(row);
    }
    while (fgets(line, LINE_MOST, f)) {
        char name[80];
        cr_assert_eq(json_read_text(line, strlen(line), "truncation", 0, &row, &err), 0, "%s", err.text);
        snprintf(name, sizeof name, "%s/%s", text_of(row, "template"), text_of(row, "conversation"));
        const char *const mask = text_of(masks, name), *const policy = text_of(row, "policy");
        const int64_t n = json_integer_value(json_object_get(row, "n")),
                      most = json_integer_value(json_object_get(row, "max_length"));
        const int32_t how = strcmp(policy, "keep_start") == 0 ? SAMPLE_CUT_RIGHT
                            : strcmp(policy, "keep_end") == 0 ? SAMPLE_CUT_LEFT
                                                              : SAMPLE_DROP;
        const sample_cut cut = sample_pieces(how, n, 0, most) ? sample_piece(how, n, 0, most, 0) : (sample_cut){0};
        const int64_t begin = cut.begin, end = cut.end;
        int64_t targets = 0;
        for (int64_t i = begin + 1; i < end; i++)
            targets += mask[i] == '1';
        cr_expect_eq(end - begin, json_integer_value(json_object_get(row, "end")) -
                                      json_integer_value(json_object_get(row, "begin")));
        if (end > begin) cr_expect_eq(begin, json_integer_value(json_object_get(row, "begin")), "%s %s", name, policy);
        cr_expect_eq(targets, json_integer_value(json_object_get(row, "n_targets")), "%s %s", name, policy);
        json_decref(row);
    }
    json_decref(masks);
    fclose(f), fclose(all);
    free(line);
    close_templates(list, count);
}
