/* graft render — the text that a model's chat template makes of messages; a door for scripts and tests. */
#include "base/file.h"
#include "cli/cli.h"
#include "text/chat.h"
#include "text/conversation.h"
#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 256, GENERATION, TEMPLATE, MOST = 1 << 28 };

typedef struct {
    const char *messages, *template;
    int generation;
} wishes;

static int own(void *context, int val, const char *text) {
    wishes *const w = context;
    if (val == MESSAGES) w->messages = text;
    if (val == TEMPLATE) w->template = text;
    w->generation |= val == GENERATION;
    return GRAFT_OK;
}

static int render(const char *folder, const wishes *w, template_rendering *out, graft_error *err) {
    const char *const path = cli_path(w->messages);
    char *text = NULL;
    int64_t size = 0;
    json_t *conversation = NULL;
    chat *c = NULL;
    if (file_read(path, MOST, &text, &size, err) == GRAFT_OK &&
        conversation_parse(text, (size_t)size, path, &conversation, err) == GRAFT_OK &&
        chat_open(folder, w->template, &c, err) == GRAFT_OK)
        chat_render(c, conversation, w->generation, 0, out, err);
    chat_free(c);
    json_decref(conversation);
    free(text);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"messages",   required_argument, NULL, MESSAGES},
        {"generation-prompt",        no_argument, NULL, GENERATION},
        {"template",            required_argument, NULL, TEMPLATE},
        {0}
    };
    cli_options o;
    wishes w = {0};
    int first;
    graft_error err = {0};
    template_rendering text = {0};
    if (cli_parse(&command_render, "j", more, own, &w, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (!w.messages) return cli_usage(&command_render, "--messages FILE is missing");
    if (render(words[first], &w, &text, &err) == GRAFT_OK && o.json)
        cli_print_json(json_stringn(text.text.text, text.text.length));
    else if (!err.code)
        fwrite(text.text.text, 1, text.text.length, stdout);
    template_rendering_free(&text);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_render = {
    "render", "show what a chat template makes of messages",
    "usage: graft render MODEL --messages FILE [--generation-prompt] [--template NAME] [--json]\n\n"
    "FILE is JSON: a list of {\"role\", \"content\"} (or ShareGPT's {\"from\", \"value\"}), or an object with "
    "\"messages\" and,\n"
    "if wanted, \"tools\" and other variables of the template; - reads stdin. The text is printed as it is, with\n"
    "--json as a JSON string.\n\n"
    "  --generation-prompt  with the header behind which the model answers\n"
    "  --template NAME      instead of the model's own: chatml, alpaca, plain, or a template file\n",
    run};
