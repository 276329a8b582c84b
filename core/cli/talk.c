/* talk — see talk.h. */
#include "cli/talk.h"
#include "base/log.h"
#include "model/generate.h"
#include "text/conversation.h"
#include "text/mask.h"
#include "text/special.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_DEFAULT = 4096, PREFILL = 256 };

/* A signal has no other address than the process. */
static volatile sig_atomic_t interrupted;

void talk_interrupt(int number) {
    interrupted = number;
}

int talk_was_interrupted(void) {
    const int was = interrupted != 0;
    interrupted = 0;
    return was;
}

/* ---- adapters ---- */

const char *talk_adapter_name(const talk *t, int32_t i, int *length) {
    const char *const folder = t->adapters[i];
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

int talk_switch(talk *t, const char *name, graft_error *err) {
    int32_t chosen = -1;
    const int all = strcmp(name, "all") == 0, none = strcmp(name, "none") == 0;
    for (int32_t i = 0; i < t->adapter_count; i++) {
        int length;
        char number[16];
        const char *const own_name = talk_adapter_name(t, i, &length);
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

/* ---- opening ---- */

/* What the template writes around an answer, from behind the generation prompt. */
static void find_frame(talk *t) {
    json_t *const turn = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "user", "content", "Hi", "role",
                                   "assistant", "content", "Hello");
    graft_error none = {0};
    template_rendering whole = {0}, prompt = {0};
    chat_render(t->chat, turn, 0, 0, &whole, &none);
    json_array_remove(json_object_get(turn, "messages"), 1);
    const template_span *const said = whole.said_count ? &whole.said[whole.said_count - 1] : NULL;
    if (said && said->message == 1 && !none.code && chat_render(t->chat, turn, 1, 0, &prompt, &none) == GRAFT_OK) {
        const size_t length = prompt.text.length, begin = (size_t)said->begin, end = (size_t)said->end;
        if (length <= begin && memcmp(whole.text.text, prompt.text.text, length) == 0)
            strbuf_add(&t->head, whole.text.text + length, begin - length);
        strbuf_add(&t->tail, whole.text.text + end, whole.text.length - end);
    }
    template_rendering_free(&whole);
    template_rendering_free(&prompt);
    json_decref(turn);
}

/* The token with which the template ends an answer ends generation too. */
static int find_ends(talk *t, graft_error *err) {
    masker *m = NULL;
    if (text_ends_read(t->folder, t->words, &t->ends, err) == GRAFT_OK &&
        masker_new(t->chat, t->words, &m, err) == GRAFT_OK)
        text_ends_add(&t->ends, t->words, mask_turn_end(m));
    masker_free(m);
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

int talk_open(talk *t, const talk_wishes *w, graft_error *err) {
    generation_config config;
    if (tokenizer_load(t->folder, &t->words, err) || chat_open(t->folder, w->template, &t->chat, err) ||
        find_ends(t, err) || generation_config_read(t->folder, &config, err) || find_context(t, w->context, err))
        return err->code;
    find_frame(t);
    t->settings = sampling_settle(&w->sampling, &config);
    t->max_new = w->sampling.max_new;
    t->system = w->system ? mem_copy_text(w->system) : NULL;
    t->history = json_pack("{s:[]}", "messages");
    if (session_load(&t->session, 0, err)) return err->code;
    if (!t->adapter_count) return make_room(t, err);
    talk_switch(t, "1", err);
    return err->code;
}

void talk_close(talk *t) {
    cache_free(t->cache);
    workspace_free(t->space);
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

/* The messages from number `first` on, as ids. */
static int encode_from(talk *t, size_t first, tokenizer_encoding *e, graft_error *err) {
    const json_t *const all = json_object_get(t->history, "messages");
    json_t *const messages = json_array(), *const context = json_pack("{s:o}", "messages", messages);
    template_rendering text = {0};
    if (t->system && json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", t->system)))
        fail(err, GRAFT_FAILED, "the system prompt is not UTF-8");
    for (size_t i = first; i < json_array_size(all); i++)
        json_array_append(messages, json_array_get(all, i));
    if (!err->code && chat_render(t->chat, context, 1, 0, &text, err) == GRAFT_OK)
        tokenizer_encode(t->words, text.text.text, (int64_t)text.text.length, 0, e, err);
    template_rendering_free(&text);
    json_decref(context);
    return err->code;
}

/* The history as ids; the oldest turns are forgotten until prompt and answer have room. */
static int encode_history(talk *t, tokenizer_encoding *e, graft_error *err) {
    json_t *const all = json_object_get(t->history, "messages");
    const int64_t answer = t->max_new < t->context / 2 ? t->max_new : t->context / 2;
    size_t forgotten = 0;
    while (encode_from(t, forgotten, e, err) == GRAFT_OK && e->count + answer > t->context) {
        forgotten += 2;
        if (forgotten >= json_array_size(all))
            return fail(err, GRAFT_FAILED, "%lld tokens leave no room for an answer; the context is %lld (--context)",
                        (long long)e->count, (long long)t->context);
    }
    if (err->code || !forgotten) return err->code;
    log_warn("the first %zu messages are forgotten: the context of %lld tokens is full", forgotten,
             (long long)t->context);
    for (; forgotten > 0; forgotten--)
        json_array_remove(all, 0);
    return GRAFT_OK;
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

int talk_answer(talk *t, const char *question, size_t length, graft_error *err) {
    json_t *const all = json_object_get(t->history, "messages");
    tokenizer_encoding e = {0};
    json_t *const turn = json_pack("{s:s, s:s%}", "role", "user", "content", question, length);
    if (!turn) return fail(err, GRAFT_FAILED, "the message is not UTF-8");
    writing w = {.t = t, .stream = tokenizer_stream_new(t->words, 1)};
    json_array_append_new(all, turn);
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
