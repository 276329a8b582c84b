/* prompts — see prompts.h. */
#include "cli/prompts.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "text/chat.h"
#include "text/conversation.h"
#include "text/mask.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `special`: whether the tokenizer adds its own begin and end tokens; a chat template has written them. */
static int add_text(prompts *p, const tokenizer *t, const char *text, int64_t length, int special, graft_error *err) {
    tokenizer_encoding e = {0};
    if (tokenizer_encode(t, text, length, special, &e, err) == GRAFT_OK) {
        mem_reserve(p->at, p->count, p->capacity);
        prompt *one = &p->at[p->count++];
        *one = (prompt){.text = mem_new((size_t)length + 1, 1),
                        .ids = mem_new((size_t)e.count + 1, sizeof(int32_t)),
                        .count = e.count};
        memcpy(one->text, text, (size_t)length);
        if (e.count) memcpy(one->ids, e.ids, (size_t)e.count * sizeof(int32_t));
    }
    tokenizer_encoding_free(&e);
    return err->code;
}

static int add_ids(prompts *p, const char *text, int64_t vocab, graft_error *err) {
    prompt one = {.ids = mem_new(strlen(text) + 1, sizeof(int32_t))};
    for (const char *at = text; *at;) {
        char *end;
        const long id = strtol(at, &end, 10);
        if (end == at || id < 0 || id >= vocab) {
            free(one.ids);
            return fail(err, GRAFT_USAGE, "--ids \"%s\": ids are whole numbers below %lld, separated by commas", text,
                        (long long)vocab);
        }
        one.ids[one.count++] = (int32_t)id;
        at = end + strspn(end, ", []");
    }
    mem_reserve(p->at, p->count, p->capacity);
    p->at[p->count++] = one;
    return GRAFT_OK;
}

static int add_file(prompts *p, const tokenizer *t, const char *path, graft_error *err) {
    char *bytes = NULL;
    int64_t size, number = 0;
    if (file_read(cli_path(path), (int64_t)1 << 30, &bytes, &size, err)) return err->code;
    for (char *line = bytes; line < bytes + size && !err->code;) {
        char *end = memchr(line, '\n', (size_t)(bytes + size - line));
        end = end ? end : bytes + size;
        char name[64];
        snprintf(name, sizeof name, "line %lld", (long long)++number);
        json_t *value = NULL;
        graft_error none = {0};
        if (*line == '"' &&
            json_read_text(line, (size_t)(end - line), name, JSON_DECODE_ANY, &value, &none) == GRAFT_OK)
            add_text(p, t, json_string_value(value), (int64_t)json_string_length(value), 1, err);
        else if (end > line)
            add_text(p, t, line, end - line, 1, err);
        if (err->code) fail_within(err, "%s %s", path, name);
        json_decref(value);
        line = end + 1;
    }
    free(bytes);
    return err->code;
}

/* A conversation, or one a line, each up to where the model answers. */
static int add_conversations(prompts *p, const tokenizer *t, const char *folder, const prompt_sources *from,
                             graft_error *err) {
    char *bytes = NULL;
    int64_t size = 0;
    chat *c = NULL;
    masker *m = NULL;
    graft_error none = {0};
    template_rendering text = {0};
    json_t *whole = NULL;
    if (file_read(cli_path(from->messages), (int64_t)1 << 30, &bytes, &size, err) ||
        chat_open(folder, from->template, &c, err) || masker_new(c, t, &m, err))
        goto done;
    p->turn_end = mask_turn_end(m);
    const int one =
        json_read_text(bytes, (size_t)size, from->messages, JSON_LENIENT_DUPLICATES, &whole, &none) == GRAFT_OK;
    json_decref(whole);
    int64_t number = 0;
    for (char *line = bytes; line < bytes + size && !err->code;) {
        char *end = one ? NULL : memchr(line, '\n', (size_t)(bytes + size - line));
        end = end ? end : bytes + size;
        json_t *conversation = NULL;
        char name[64];
        snprintf(name, sizeof name, "line %lld", (long long)++number);
        if (end > line && conversation_parse(line, (size_t)(end - line), name, &conversation, err) == GRAFT_OK &&
            chat_render(c, conversation, 1, 0, &text, err) == GRAFT_OK)
            add_text(p, t, text.text.text, (int64_t)text.text.length, 0, err);
        if (err->code) fail_within(err, "%s %s", from->messages, name);
        json_decref(conversation);
        line = end + 1;
    }
done:
    template_rendering_free(&text);
    masker_free(m);
    chat_free(c);
    free(bytes);
    return err->code;
}

int prompts_read(const prompt_sources *from, const tokenizer *t, const session *s, prompts *p, graft_error *err) {
    const char *const folder = model_folder(s->model);
    const int64_t vocab = model_descriptor(s->model)->vocab;
    p->turn_end = -1;
    if ((from->ids && add_ids(p, from->ids, vocab, err)) ||
        (from->text && add_text(p, t, from->text, (int64_t)strlen(from->text), 1, err)) ||
        (from->file && add_file(p, t, from->file, err)) ||
        (from->messages && add_conversations(p, t, folder, from, err)))
        return err->code;
    if (!p->count)
        return fail(err, GRAFT_USAGE, "no prompt: use --prompt TEXT, --ids LIST, --input FILE or --messages FILE");
    for (int64_t i = 0; i < p->count; i++) {
        if (!p->at[i].count)
            return fail(err, GRAFT_USAGE, "prompt %lld is empty, and this tokenizer puts no token in front of a text",
                        (long long)i + 1);
        if (model_check_length(s->model, s->adapters, p->at[i].count, err))
            return fail_within(err, "prompt %lld is too long, shorten it", (long long)i + 1);
        if (p->at[i].count > p->longest) p->longest = p->at[i].count;
    }
    return GRAFT_OK;
}

void prompts_free(prompts *p) {
    for (int64_t i = 0; i < p->count; i++) {
        free(p->at[i].text);
        free(p->at[i].ids);
    }
    free(p->at);
    *p = (prompts){0};
}
