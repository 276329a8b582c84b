/* chat — see chat.h. */
#include "text/chat.h"
#include "base/file.h"
#include "text/special.h"
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_BYTES = 4 << 20 };

struct chat {
    chat_template *standard, *tools; /* tools: NULL, or the one for conversations with tools */
    json_t *tokens;                  /* {"bos_token": ...} */
    char *origin;
    strbuf header, source;
    time_t now; /* 0: not fixed */
};

/* ---- built-in formats ---- */

#define BOS                                                                                                            \
    "{% if bos_token is defined and bos_token and (eos_token is not defined or bos_token != eos_token) %}{{ "          \
    "bos_token }}{% endif %}"
#define EOS "{% if eos_token is defined and eos_token %}{{ eos_token }}{% endif %}"

static const char chatml[] =
    BOS "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
        "{% if eos_token is defined and eos_token and eos_token != '<|im_end|>' %}{{ eos_token }}{% endif %}{% "
        "endgeneration %}"
        "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char alpaca[] =
    BOS "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set messages = messages[1:] %}"
        "{% else %}{{ 'Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.' }}{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '\\n\\n### Response:' }}"
        "{% generation %}{{ message['content'] }}" EOS "{% endgeneration %}"
        "{% elif message['role'] == 'user' %}{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
        "{% else %}{{ '\\n\\n### Input:\\n' + message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\n### Response:' }}{% endif %}";

static const char plain[] =
    BOS "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ 'Assistant:' }}"
        "{% generation %}{{ ' ' + message['content'] }}" EOS "{% endgeneration %}"
        "{% else %}{{ message['role'] | capitalize + ': ' + message['content'] }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

static const struct {
    const char *name, *text;
} formats[] = {
    {"chatml", chatml},
    {"alpaca", alpaca},
    {"plain",  plain },
};

/* ---- reading ---- */

static int compile(chat *c, chat_template **slot, const char *text, size_t length, const char *name, graft_error *err) {
    strbuf_add(&c->source, text, length);
    template_free(*slot);
    *slot = NULL;
    return template_compile(text, length, name, slot, err);
}

/* Compiles a file into *slot and says so in c->origin. */
static int compile_file(chat *c, chat_template **slot, const char *path, graft_error *err) {
    char *text = NULL;
    int64_t size = 0;
    if (file_read(path, TEMPLATE_BYTES, &text, &size, err) == GRAFT_OK) compile(c, slot, text, (size_t)size, path, err);
    free(text);
    if (slot == &c->standard) {
        free(c->origin);
        c->origin = mem_copy_text(path);
    }
    return err->code;
}

/* "chat_template" of a JSON file: a text, or a list of named ones. */
static int compile_member(chat *c, const char *folder, const char *file, const json_t *config, graft_error *err) {
    const json_t *const given = json_object_get(config, "chat_template");
    if (!given || json_is_null(given)) return GRAFT_OK;
    char *const path = path_join(folder, file);
    if (!json_is_string(given) && !json_is_array(given))
        fail(err, GRAFT_FAILED, "%s: \"chat_template\" must be a text or a list of {\"name\", \"template\"}", path);
    if (json_is_string(given)) compile(c, &c->standard, json_string_value(given), json_string_length(given), path, err);
    for (size_t i = 0; i < json_array_size(given) && !err->code; i++) {
        const json_t *const row = json_array_get(given, i), *const text = json_object_get(row, "template");
        const char *const name = json_string_value(json_object_get(row, "name"));
        if (!name || !json_is_string(text))
            fail(err, GRAFT_FAILED, "%s: element %zu of \"chat_template\" must be {\"name\", \"template\"}", path,
                 i + 1);
        else if (strcmp(name, "default") == 0 || strcmp(name, "tool_use") == 0)
            compile(c, *name == 'd' ? &c->standard : &c->tools, json_string_value(text), json_string_length(text), path,
                    err);
    }
    if (c->standard && !c->origin) c->origin = mem_copy_text(path);
    free(path);
    return err->code;
}

static int open_own(chat *c, const char *folder, const json_t *config, graft_error *err) {
    static const char *const files[] = {"chat_template.jinja", "additional_chat_templates/default.jinja",
                                        "additional_chat_templates/tool_use.jinja"};
    json_t *legacy = NULL;
    char *paths[3];
    for (int i = 0; i < 3; i++)
        paths[i] = path_join(folder, files[i]);
    if (file_exists(paths[0])) {
        compile_file(c, &c->standard, paths[0], err);
    } else if (compile_member(c, folder, "tokenizer_config.json", config, err) == GRAFT_OK) {
        if (!c->standard && file_exists(paths[1])) compile_file(c, &c->standard, paths[1], err);
        if (!err->code && !c->standard && special_read_file(folder, "chat_template.json", &legacy, err) == GRAFT_OK)
            compile_member(c, folder, "chat_template.json", legacy, err);
    }
    if (!err->code && !c->tools && file_exists(paths[2])) compile_file(c, &c->tools, paths[2], err);
    for (int i = 0; i < 3; i++)
        free(paths[i]);
    json_decref(legacy);
    if (!err->code && !c->standard)
        fail(err, GRAFT_FAILED,
             "%s has no chat template: name chatml, alpaca, plain or a template file (--template, in an INI "
             "chat_template)",
             folder);
    return err->code;
}

static int open_wanted(chat *c, const char *wanted, graft_error *err) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(wanted, formats[i].name) == 0) {
            c->origin = mem_format("built-in %s", wanted);
            return compile(c, &c->standard, formats[i].text, strlen(formats[i].text), c->origin, err);
        }
    if (strstr(wanted, "{{") || strstr(wanted, "{%")) {
        c->origin = mem_copy_text("the template of the settings");
        return compile(c, &c->standard, wanted, strlen(wanted), "chat_template", err);
    }
    if (file_exists(wanted)) return compile_file(c, &c->standard, wanted, err);
    return fail(err, GRAFT_USAGE, "the chat template %s is no file, and none of chatml, alpaca, plain", wanted);
}

/* ---- the header of an answer ---- */

/* What a generation prompt adds behind one question; nothing when the template cannot render that. */
static void find_header(chat *c) {
    json_t *const question = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "Hi");
    template_rendering without = {0}, with = {0};
    graft_error none = {0};
    if (chat_render(c, question, 0, 0, &without, &none) == GRAFT_OK &&
        chat_render(c, question, 1, 0, &with, &none) == GRAFT_OK) {
        size_t same = 0;
        while (same < with.text.length && same < without.text.length && with.text.text[same] == without.text.text[same])
            same++;
        while (same > 0 && same < with.text.length && ((unsigned char)with.text.text[same] & 0xC0) == 0x80)
            same--;
        if (same < with.text.length) strbuf_add(&c->header, with.text.text + same, with.text.length - same);
    }
    strbuf_add(&c->header, "", 0);
    template_rendering_free(&without);
    template_rendering_free(&with);
    json_decref(question);
}

/* ---- the public part ---- */

int chat_open(const char *folder, const char *wanted, chat **out, graft_error *err) {
    chat *const c = mem_new(1, sizeof *c);
    json_t *config = NULL;
    *out = NULL;
    if (special_read(folder, &c->tokens, err) == GRAFT_OK &&
        special_read_file(folder, "tokenizer_config.json", &config, err) == GRAFT_OK) {
        if (wanted && *wanted)
            open_wanted(c, wanted, err);
        else
            open_own(c, folder, config, err);
    }
    json_decref(config);
    if (err->code) {
        chat_free(c);
        return err->code;
    }
    char *const tokens = json_dumps(c->tokens, JSON_SORT_KEYS);
    strbuf_puts(&c->source, tokens ? tokens : "");
    free(tokens);
    find_header(c);
    *out = c;
    return GRAFT_OK;
}

void chat_free(chat *c) {
    if (!c) return;
    template_free(c->standard);
    template_free(c->tools);
    json_decref(c->tokens);
    strbuf_free(&c->header);
    strbuf_free(&c->source);
    free(c->origin);
    free(c);
}

const char *chat_origin(const chat *c) {
    return c->origin;
}

const char *chat_source(const chat *c) {
    return c->source.text;
}

const char *chat_bos(const chat *c) {
    return json_string_value(json_object_get(c->tokens, "bos_token"));
}

const char *chat_header(const chat *c) {
    return c->header.text ? c->header.text : "";
}

int chat_marks_answers(const chat *c) {
    return template_has_generation(c->standard);
}

static time_t fixed_clock(void) {
    const char *const epoch = getenv("SOURCE_DATE_EPOCH");
    return epoch && *epoch ? (time_t)strtoll(epoch, NULL, 10) : 0;
}

void chat_fix_date(chat *c, time_t now) {
    c->now = now;
}

int chat_asks_date(const chat *c) {
    return strstr(c->source.text, "strftime_now") != NULL;
}

int chat_render(const chat *c, const json_t *conversation, int generation_prompt, time_t now, template_rendering *out,
                graft_error *err) {
    json_t *const context = json_copy(c->tokens);
    json_object_update(context, (json_t *)(uintptr_t)conversation);
    json_object_set_new(context, "add_generation_prompt", json_boolean(generation_prompt));
    if (!json_object_get(context, "tools")) json_object_set_new(context, "tools", json_null());
    if (!json_object_get(context, "documents")) json_object_set_new(context, "documents", json_null());
    const json_t *const tools = json_object_get(context, "tools");
    const int with_tools = c->tools && json_array_size(tools) > 0;
    template_render(with_tools ? c->tools : c->standard, context,
                    now      ? now
                    : c->now ? c->now
                             : fixed_clock(),
                    out, err);
    json_decref(context);
    return err->code;
}
