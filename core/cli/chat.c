/* graft chat — a conversation with a model, and with its adapters in turn. */
#include "base/log.h"
#include "cli/cli.h"
#include "cli/talk.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SYSTEM = 256, TEMPLATE, CONTEXT, NAME_MOST = 200 };

static int own(void *context, int val, const char *text) {
    talk_wishes *w = context;
    if (val == CONTEXT) return cli_whole("--context", text, 16, 1 << 24, &w->context);
    if (val == SYSTEM) w->system = text;
    if (val == TEMPLATE) w->template = text;
    return val >= SAMPLING_MAX_NEW ? sampling_option(&w->sampling, val, text) : GRAFT_OK;
}

/* ---- commands ---- */

static void list_adapters(const talk *t) {
    for (int32_t i = 0; i < t->adapter_count; i++) {
        int length;
        const char *const name = talk_adapter_name(t, i, &length);
        fprintf(stderr, "  %d  %.*s\n", i + 1, length, name);
    }
    fputs(t->adapter_count ? "  all, none\n" : "  there are none: graft chat MODEL --adapter DIR brings one\n", stderr);
}

static const char commands_help[] =
    "  /clear           forget the conversation (so does /reset)\n"
    "  /system TEXT     another system prompt; without a text none\n"
    "  /adapter NAME    answer with this adapter; all, none; without a name: which there are\n"
    "  /quit            end (so does the end of the input)\n";

/* Somebody types: hears what commands did, and about mistakes, and goes on; a pipe ends at the first. */
static int is_person(void) {
    return isatty(STDIN_FILENO);
}

static void tell(const char *what) {
    if (is_person()) fprintf(stderr, "  %s\n", what);
}

/* Whether a line begins with the command; *rest: what stands behind it. */
static int is_command(const char *line, const char *name, const char **rest) {
    const size_t length = strcspn(line, " \t");
    *rest = line + length + strspn(line + length, " \t");
    return length == strlen(name) && strncmp(line, name, length) == 0;
}

/* A line that begins with '/'. 1: it ends the talk. */
static int obey(talk *t, const char *line, graft_error *err) {
    const char *rest;
    if (is_command(line, "/quit", &rest)) return 1;
    if (is_command(line, "/clear", &rest) || is_command(line, "/reset", &rest)) {
        json_array_clear(json_object_get(t->history, "messages"));
        tell("the conversation is forgotten");
    } else if (is_command(line, "/system", &rest)) {
        free(t->system);
        t->system = *rest ? mem_copy_text(rest) : NULL;
        tell(t->system ? "the system prompt is another one" : "there is no system prompt");
    } else if (is_command(line, "/adapter", &rest)) {
        if (!*rest)
            list_adapters(t);
        else if (!talk_switch(t, rest, err))
            fail(err, GRAFT_USAGE, "/adapter %.*s: there is no such adapter; /adapter alone lists them", NAME_MOST,
                 rest);
        else
            tell("the next answer is theirs");
    } else if (is_command(line, "/help", &rest)) {
        fputs(commands_help, stderr);
    } else {
        fail(err, GRAFT_USAGE, "there is no command %.*s; /help lists them", NAME_MOST, line);
    }
    return 0;
}

/* The next line without its end; 0 when the input has ended. Ctrl-C drops what was typed. */
static int next_line(char **line, size_t *capacity, size_t *length) {
    for (;;) {
        if (is_person()) fputs("> ", stderr);
        talk_was_interrupted();
        const ssize_t bytes = getline(line, capacity, stdin);
        if (bytes >= 0) {
            *length = strcspn(*line, "\r\n");
            (*line)[*length] = '\0';
            return 1;
        }
        if (!talk_was_interrupted()) break;
        clearerr(stdin);
        tell("/quit ends the chat");
    }
    if (is_person()) fputs("\n", stderr);
    return 0;
}

static int hold_talk(talk *t, graft_error *err) {
    char *line = NULL;
    size_t capacity = 0, length;
    const struct sigaction action = {.sa_handler = talk_interrupt};
    struct sigaction before;
    if (is_person()) sigaction(SIGINT, &action, &before);
    if (is_person()) fprintf(stderr, "%s; /help lists the commands\n", chat_origin(t->chat));
    for (int ended = 0; !ended && !err->code && next_line(&line, &capacity, &length);) {
        if (*line == '/')
            ended = obey(t, line, err);
        else if (length)
            talk_answer(t, line, length, err);
        if (err->code && is_person()) {
            log_error("%s", err->text);
            *err = (graft_error){0};
        }
    }
    if (is_person()) sigaction(SIGINT, &before, NULL);
    free(line);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"system",           required_argument, NULL, SYSTEM},
        {"template",              required_argument, NULL, TEMPLATE},
        {"context",                  required_argument, NULL, CONTEXT},
        SAMPLING_OPTIONS,
        {0}
    };
    cli_options o;
    talk_wishes w = {.sampling = SAMPLING_UNSET(512)};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_chat, "adptq", more, own, &w, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *base = NULL;
    cli_base(&o, plugins, &base, &err);
    talk t = {.folder = words[first], .adapters = o.adapters, .adapter_count = o.adapter_count};
    session_request q = cli_request(&o, words[first], plugins);
    q.base = base;
    if (!err.code && session_open(&q, &t.session, &err) == GRAFT_OK && talk_open(&t, &w, &err) == GRAFT_OK)
        hold_talk(&t, &err);
    talk_close(&t);
    recipe_free(base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_chat = {
    "chat", "talk with a model",
    "usage: graft chat MODEL [--adapter DIR]... [--system TEXT] [--template NAME] [--context TOKENS] [--max-new 512]\n"
    "                  [--sample | --greedy] [--temperature T] [--top-k K] [--top-p P] [--min-p P]\n"
    "                  [--repetition-penalty R] [--seed N] [--quantizer FILE.ini|none]\n"
    "                  [--device D] [--precision P] [--threads N]\n"
    "\n"
    "Each line is a message; the answer is written as it comes, Ctrl-C ends it. The model's chat template is used, or\n"
    "--template: chatml, alpaca, plain, a file. The first adapter answers; /adapter NAME changes that. When the "
    "context\n"
    "is full the oldest turns are forgotten. Through a pipe it answers line by line.\n"
    "\n"
    "  /clear  /system TEXT  /adapter NAME|all|none  /help  /quit\n",
    run};
