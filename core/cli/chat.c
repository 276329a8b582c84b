/* graft chat — a conversation with a model, and with its adapters in turn. */
#include "text/chat.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/sampling.h"
#include "model/generate.h"
#include "run/base-quantizer.h"
#include "run/session.h"
#include "text/conversation.h"
#include "text/ends.h"
#include "text/mask.h"
#include "text/special.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SYSTEM = 256, TEMPLATE, CONTEXT, CONTEXT_DEFAULT = 4096, PREFILL = 256, NAME_MOST = 200 };

typedef struct {
    const char *system, *template;
    int64_t context;
    sampling_wishes sampling;
} wishes;

typedef struct {
    session session;
    const char *folder;
    const char *const *adapters; /* folders */
    int32_t adapter_count;
    tokenizer *words;
    chat *chat;
    masker *masker; /* finds what ends an answer */
    text_ends ends;
    strbuf head, tail; /* what the template writes between generation prompt and answer, and behind it */
    workspace *space;
    kv_cache *cache;
    int64_t context, max_new; /* context: of the adapters that are on */
    int64_t wanted;           /* context without their virtual rows */
    sample_settings settings;
    json_t *history; /* {"messages": [...]} */
    char *system;    /* NULL: none */
    int person;      /* 1: somebody types */
} talk;

/* Ctrl-C ends the answer that is being written. A signal has no other address than the process. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    interrupted = number;
}

static int own(void *context, int val, const char *text) {
    wishes *w = context;
    if (val == CONTEXT) return cli_whole("--context", text, 16, 1 << 24, &w->context);
    if (val == SYSTEM) w->system = text;
    if (val == TEMPLATE) w->template = text;
    return val >= SAMPLING_MAX_NEW ? sampling_option(&w->sampling, val, text) : GRAFT_OK;
}

/* ---- adapters ---- */

static const char *name_of(const char *folder, int *length) {
    size_t end = strlen(folder);
    while (end > 1 && folder[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && folder[begin - 1] != '/')
        begin--;
    *length = (int)(end - begin);
    return folder + begin;
}

/* Memory of passes for the adapters that are on: some bring rows of their own. */
static int make_room(talk *t, graft_error *err) {
    const int64_t most = model_longest(t->session.model, t->session.adapters);
    t->context = t->wanted < most ? t->wanted : most;
    const workspace_config c = {.rows = t->context < PREFILL ? t->context : PREFILL, .documents = 1};
    cache_free(t->cache);
    workspace_free(t->space);
    t->cache = NULL, t->space = NULL;
    if (workspace_create(t->session.model, t->session.adapters, &c, &t->space, err)) return err->code;
    return cache_create(t->space, t->context, &t->cache, err);
}

/* `name`: that of a folder, its number, "all" or "none". 0 when there is no such adapter. */
static int switch_adapter(talk *t, const char *name, graft_error *err) {
    int32_t chosen = -1;
    const int all = strcmp(name, "all") == 0, none = strcmp(name, "none") == 0;
    for (int32_t i = 0; i < t->adapter_count; i++) {
        int length;
        char number[16];
        const char *const own_name = name_of(t->adapters[i], &length);
        snprintf(number, sizeof number, "%d", i + 1);
        if (strcmp(name, t->adapters[i]) == 0 || strcmp(name, number) == 0 ||
            (strlen(name) == (size_t)length && strncmp(name, own_name, (size_t)length) == 0))
            chosen = i;
    }
    if (chosen < 0 && !all && !none) return 0;
    if (t->session.adapters) {
        adapt_enable(t->session.adapters, -1, all);
        if (chosen >= 0) adapt_enable(t->session.adapters, chosen, 1);
    }
    make_room(t, err);
    return 1;
}

static void list_adapters(const talk *t) {
    for (int32_t i = 0; i < t->adapter_count; i++) {
        int length;
        const char *const name = name_of(t->adapters[i], &length);
        fprintf(stderr, "  %d  %.*s\n", i + 1, length, name);
    }
    fputs(t->adapter_count ? "  all, none\n" : "  there are none: graft chat MODEL --adapter DIR brings one\n", stderr);
}

/* ---- opening ---- */

/* What the template writes around the answer of `turn`, "Hello", from behind the generation prompt. */
static void find_frame(talk *t, json_t *turn, const char *whole) {
    graft_error none = {0};
    template_rendering prompt = {0};
    const char *const said = strstr(whole, "Hello");
    json_array_remove(json_object_get(turn, "messages"), 1);
    if (said && chat_render(t->chat, turn, 1, 0, &prompt, &none) == GRAFT_OK) {
        const size_t length = prompt.text.length;
        if (length <= (size_t)(said - whole) && memcmp(whole, prompt.text.text, length) == 0)
            strbuf_add(&t->head, whole + length, (size_t)(said - whole) - length);
        strbuf_puts(&t->tail, said + strlen("Hello"));
    }
    template_rendering_free(&prompt);
}

/* The token with which the template ends an answer ends generation too. */
static int find_turn_end(talk *t, graft_error *err) {
    json_t *const turn = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "user", "content", "Hi", "role",
                                   "assistant", "content", "Hello");
    masked m;
    graft_error none = {0};
    if (masker_new(t->chat, t->words, &t->masker, err) == GRAFT_OK &&
        mask_conversation(t->masker, turn, TRAIN_LAST, &m, &none) == GRAFT_OK) {
        int64_t last = m.count - 1;
        while (last >= 0 && !m.trained[last])
            last--;
        for (int64_t i = 0; last >= 0 && i < tokenizer_added_count(t->words) && t->ends.count < TEXT_ENDS_MOST; i++)
            if (tokenizer_added_at(t->words, i)->id == m.ids[last] && !text_ends_has(&t->ends, m.ids[last]))
                t->ends.id[t->ends.count++] = m.ids[last];
        if (m.text) find_frame(t, turn, m.text);
    }
    json_decref(turn);
    return err->code;
}

/* --context, else what the model was made for, up to a bound that every machine has memory for. */
static int find_context(talk *t, int64_t wanted, graft_error *err) {
    json_t *config = NULL;
    int64_t most = CONTEXT_DEFAULT;
    if (special_read_file(t->folder, "config.json", &config, err) == GRAFT_OK) {
        const json_t *made = json_object_get(config, "max_position_embeddings");
        if (!made) made = json_object_get(config, "n_positions");
        if (json_is_number(made) && json_number_value(made) >= 16 && json_number_value(made) < (double)most)
            most = (int64_t)json_number_value(made);
    }
    json_decref(config);
    t->wanted = wanted ? wanted : most;
    if (!err->code && wanted && model_check_length(t->session.model, NULL, wanted, err))
        fail_within(err, "--context %lld", (long long)wanted);
    return err->code;
}

static int open_talk(talk *t, const wishes *w, graft_error *err) {
    generation_config config;
    if (tokenizer_load(t->folder, &t->words, err) || chat_open(t->folder, w->template, &t->chat, err) ||
        text_ends_read(t->folder, t->words, &t->ends, err) || find_turn_end(t, err) ||
        generation_config_read(t->folder, &config, err) || find_context(t, w->context, err))
        return err->code;
    t->settings = sampling_settle(&w->sampling, &config);
    t->max_new = w->sampling.max_new;
    t->system = w->system ? mem_copy_text(w->system) : NULL;
    t->history = json_pack("{s:[]}", "messages");
    if (session_load(&t->session, 0, err)) return err->code;
    if (!t->adapter_count) return make_room(t, err);
    switch_adapter(t, "1", err);
    return err->code;
}

static void close_talk(talk *t) {
    cache_free(t->cache);
    workspace_free(t->space);
    masker_free(t->masker);
    chat_free(t->chat);
    tokenizer_free(t->words);
    strbuf_free(&t->head);
    strbuf_free(&t->tail);
    json_decref(t->history);
    free(t->system);
    session_close(&t->session);
}

/* ---- one answer ---- */

typedef struct {
    const talk *t;
    tokenizer_stream *stream;
    strbuf text;
    size_t shown;
} writing;

/* Shows what is new, but not what the template will write itself in front of the answer; `last`: nothing more comes. */
static void show(writing *w, int last) {
    const strbuf *const head = &w->t->head;
    const size_t same = w->text.length < head->length ? w->text.length : head->length;
    if (w->shown < head->length && same && memcmp(w->text.text, head->text, same) == 0) {
        if (same < head->length && !last) return; /* it may yet be that */
        w->shown = same;
    }
    if (w->text.length > w->shown) fwrite(w->text.text + w->shown, 1, w->text.length - w->shown, stdout);
    fflush(stdout);
    w->shown = w->text.length;
}

static int on_token(void *context, int32_t id) {
    writing *const w = context;
    graft_error err = {0};
    if (text_ends_has(&w->t->ends, id)) return 0;
    if (tokenizer_stream_push(w->stream, id, &w->text, &err) == GRAFT_OK) show(w, 0);
    return interrupted != 0;
}

/* The messages as ids; the oldest turns are left out until prompt and answer have room. */
static int encode_history(talk *t, tokenizer_encoding *e, graft_error *err) {
    json_t *const all = json_object_get(t->history, "messages");
    template_rendering text = {0};
    int64_t forgotten = 0;
    for (;;) {
        json_t *const context = json_deep_copy(t->history);
        json_t *const messages = json_object_get(context, "messages");
        if (t->system)
            json_array_insert_new(messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", t->system));
        if (chat_render(t->chat, context, 1, 0, &text, err) == GRAFT_OK)
            tokenizer_encode(t->words, text.text.text, (int64_t)text.text.length, 0, e, err);
        json_decref(context);
        if (err->code || e->count + (t->max_new < t->context / 2 ? t->max_new : t->context / 2) <= t->context) break;
        if (json_array_size(all) < 3) {
            fail(err, GRAFT_FAILED, "%lld tokens leave no room for an answer; the context is %lld (--context)",
                 (long long)e->count, (long long)t->context);
            break;
        }
        json_array_remove(all, 0);
        json_array_remove(all, 0);
        forgotten += 2;
    }
    if (forgotten)
        log_warn("the first %lld messages are forgotten: the context of %lld tokens is full", (long long)forgotten,
                 (long long)t->context);
    template_rendering_free(&text);
    return err->code;
}

/* The answer without what the template will write again around it, where the model spelled it out. */
static json_t *answer_of(const talk *t, const strbuf *text) {
    const strbuf *const head = &t->head, *const tail = &t->tail;
    size_t begin = 0, end = text->length;
    if (head->length <= end && memcmp(text->text, head->text ? head->text : "", head->length) == 0)
        begin = head->length;
    for (size_t n = tail->length; n > 3; n--)
        if (end - begin >= n && memcmp(text->text + end - n, tail->text, n) == 0) {
            end -= n;
            break;
        }
    return json_pack("{s:s, s:s%}", "role", "assistant", "content", text->text + begin, end - begin);
}

static int answer(talk *t, const char *question, size_t length, graft_error *err) {
    json_t *const all = json_object_get(t->history, "messages");
    tokenizer_encoding e = {0};
    writing w = {.t = t, .stream = tokenizer_stream_new(t->words, 1)};
    json_array_append_new(all, json_pack("{s:s, s:s%}", "role", "user", "content", question, length));
    if (encode_history(t, &e, err) == GRAFT_OK) {
        const int64_t room = t->context - e.count;
        const generate_call call = {.prompt = e.ids,
                                    .prompt_count = e.count,
                                    .max_new_tokens = t->max_new < room ? t->max_new : room,
                                    .stops = t->ends.id,
                                    .stop_count = t->ends.count,
                                    .settings = t->settings,
                                    .keep = 1,
                                    .token = on_token,
                                    .context = &w};
        int32_t *const ids = mem_new((size_t)call.max_new_tokens + 1, sizeof *ids);
        int64_t count = 0;
        interrupted = 0;
        generate_run(t->cache, &call, ids, &count, NULL, err);
        tokenizer_stream_end(w.stream, &w.text, err);
        show(&w, 1);
        putchar('\n');
        fflush(stdout);
        free(ids);
    }
    if (err->code) {
        json_array_remove(all, json_array_size(all) - 1);
    } else {
        strbuf_add(&w.text, "", 0);
        json_array_append_new(all, answer_of(t, &w.text));
        t->settings.seed++;
    }
    strbuf_free(&w.text);
    tokenizer_stream_free(w.stream);
    tokenizer_encoding_free(&e);
    return err->code;
}

/* ---- commands ---- */

static const char commands_help[] =
    "  /clear           forget the conversation (so does /reset)\n"
    "  /system TEXT     another system prompt; without a text none\n"
    "  /adapter NAME    answer with this adapter; all, none; without a name: which there are\n"
    "  /quit            end (so does the end of the input)\n";

static void tell(const talk *t, const char *what) {
    if (t->person) fprintf(stderr, "  %s\n", what);
}

/* A line that begins with '/'. 1: it ends the talk. */
static int obey(talk *t, const char *line, graft_error *err) {
    const size_t length = strcspn(line, " \t");
    const char *const rest = line + length + strspn(line + length, " \t");
    if (length == 5 && strncmp(line, "/quit", length) == 0) return 1;
    if (length == 6 && (strncmp(line, "/clear", length) == 0 || strncmp(line, "/reset", length) == 0)) {
        json_array_clear(json_object_get(t->history, "messages"));
        tell(t, "the conversation is forgotten");
    } else if (length == 7 && strncmp(line, "/system", length) == 0) {
        free(t->system);
        t->system = *rest ? mem_copy_text(rest) : NULL;
        tell(t, t->system ? "the system prompt is another one" : "there is no system prompt");
    } else if (length == 8 && strncmp(line, "/adapter", length) == 0) {
        if (!*rest)
            list_adapters(t);
        else if (!switch_adapter(t, rest, err))
            fail(err, GRAFT_USAGE, "/adapter %.*s: there is no such adapter", NAME_MOST, rest);
        else
            tell(t, "others answer from here on");
    } else if (length == 5 && strncmp(line, "/help", length) == 0) {
        fputs(commands_help, stderr);
    } else {
        fail(err, GRAFT_USAGE, "there is no command %.*s; /help lists them",
             (int)(length < NAME_MOST ? length : NAME_MOST), line);
    }
    return 0;
}

/* Line by line until the input ends. A person hears about mistakes and goes on; a pipe ends at the first. */
static int hold_talk(talk *t, graft_error *err) {
    char *line = NULL;
    size_t capacity = 0;
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct sigaction before;
    if (t->person) sigaction(SIGINT, &action, &before);
    if (t->person) fprintf(stderr, "%s; /help lists the commands\n", chat_origin(t->chat));
    for (int ended = 0; !ended && !err->code;) {
        if (t->person) fputs("> ", stderr);
        interrupted = 0;
        ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0 && interrupted) { /* Ctrl-C drops the line */
            clearerr(stdin);
            fputs("  (/quit ends the chat)\n", stderr);
            continue;
        }
        if (length < 0 && t->person) fputs("\n", stderr);
        if (length < 0) break;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0) continue;
        if (*line == '/')
            ended = obey(t, line, err);
        else
            answer(t, line, (size_t)length, err);
        if (err->code && t->person) {
            log_error("%s", err->text);
            *err = (graft_error){0};
        }
    }
    if (t->person) sigaction(SIGINT, &before, NULL);
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
    wishes w = {.sampling = SAMPLING_UNSET(512)};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_chat, "adptq", more, own, &w, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *base = NULL;
    base_quantizer_choose(plugins, o.quantizer, o.adapters, o.adapter_count, &base, &err);
    talk t = {.folder = words[first],
              .adapters = o.adapters,
              .adapter_count = o.adapter_count,
              .person = isatty(STDIN_FILENO)};
    const session_request q = {.model = words[first],
                               .device = o.device,
                               .precision = o.precision,
                               .threads = o.threads,
                               .folders = o.adapters,
                               .folder_count = o.adapter_count,
                               .base = base,
                               .plugins = plugins};
    if (!err.code && session_open(&q, &t.session, &err) == GRAFT_OK && open_talk(&t, &w, &err) == GRAFT_OK)
        hold_talk(&t, &err);
    close_talk(&t);
    recipe_free(base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_chat = {
    "chat", "talk with a model",
    "usage: graft chat MODEL [--adapter DIR]... [--system TEXT] [--template NAME] [--context TOKENS] [--max-new 512]\n"
    "                  [--sample | --greedy] [--temperature T] [--top-k K] [--top-p P] [--min-p P]\n"
    "                  [--repetition-penalty R] [--seed N] [--quantizer FILE.ini|none] [--device D] [--precision P] "
    "[--threads N]\n\n"
    "Each line is a message; the answer is written as it comes, Ctrl-C ends it. The model's chat template is used, or "
    "--template:\n"
    "chatml, alpaca, plain, a file. The first adapter answers; /adapter NAME changes that. Through a pipe it answers "
    "line by line.\n\n"
    "  /clear  /system TEXT  /adapter NAME|all|none  /help  /quit\n",
    run};
