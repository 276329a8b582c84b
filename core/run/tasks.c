/* tasks — see tasks.h. */
#include "run/tasks.h"
#include "base/log.h"
#include "text/conversation.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TELL_SECONDS = 10 };

/* ---- from records ---- */

/* The parts of one kind, joined; text is NULL when there is none. */
static strbuf parts_of(const text_record *r, int32_t part) {
    strbuf text = {0};
    for (int64_t i = 0; i < r->count; i++)
        if (r->parts[i].part == part)
            strbuf_add(&text, r->text.text + r->parts[i].begin, (size_t)(r->parts[i].end - r->parts[i].begin));
    return text;
}

static int add_task(task_list *t, const char *prompt, size_t length, int special, metric_text reference,
                    graft_error *err) {
    tokenizer_encoding e = {0};
    if (tokenizer_encode(t->words, prompt, (int64_t)length, special, &e, err) == GRAFT_OK && e.count) {
        int32_t *const ids = arena_new(&t->memory, (size_t)e.count, sizeof *ids);
        memcpy(ids, e.ids, (size_t)e.count * sizeof *ids);
        mem_reserve(t->at, t->count, t->capacity);
        t->at[t->count++] = (task){
            .prompt = arena_copy(&t->memory, prompt, length),
            .ids = ids,
            .count = e.count,
            .reference = {arena_copy(&t->memory, reference.text, (size_t)reference.length), reference.length}
        };
        if (e.count > t->longest) t->longest = e.count;
    } else if (!err->code) {
        fail(err, GRAFT_USAGE, "its prompt is empty, and this tokenizer puts no token in front of a text");
    }
    tokenizer_encoding_free(&e);
    return err->code;
}

/* What a message says: a text, or the texts of a list of parts. */
static strbuf content_of(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    strbuf text = {0};
    json_t *part;
    size_t i;
    if (json_is_string(content)) strbuf_add(&text, json_string_value(content), json_string_length(content));
    json_array_foreach(content, i, part) {
        const json_t *piece = json_object_get(part, "text");
        if (json_is_string(piece)) strbuf_add(&text, json_string_value(piece), json_string_length(piece));
    }
    strbuf_add(&text, "", 0);
    return text;
}

static int add_conversation(task_list *t, const data_text_view *v, const strbuf *messages, const strbuf *completion,
                            graft_error *err) {
    json_t *conversation = NULL;
    template_rendering prompt = {0};
    strbuf answer = {0};
    if (!v->chat)
        return fail(err, GRAFT_FAILED, "a record of messages needs a chat template; %s", v->no_chat ? v->no_chat : "");
    if (conversation_parse(messages->text, messages->length, "the conversation", &conversation, err) ||
        (completion->text && conversation_answer(conversation, completion->text, completion->length, err)))
        goto done;
    json_t *list = json_object_get(conversation, "messages");
    const int64_t last = conversation_count(conversation) - 1;
    if (!conversation_is_assistant(conversation, last)) {
        fail(err, GRAFT_USAGE, "its last message is no answer, so there is nothing to compare with");
        goto done;
    }
    answer = content_of(json_array_get(list, (size_t)last));
    json_array_remove(list, (size_t)last);
    if (chat_render(v->chat, conversation, 1, 0, &prompt, err) == GRAFT_OK)
        add_task(t, prompt.text.text, prompt.text.length, 0, (metric_text){answer.text, (int64_t)answer.length}, err);
done:
    strbuf_free(&answer);
    template_rendering_free(&prompt);
    json_decref(conversation);
    return err->code;
}

static int add_record(task_list *t, const data_text_view *v, const text_record *r, graft_error *err) {
    strbuf messages = parts_of(r, GRAFT_PART_MESSAGES), prompt = parts_of(r, GRAFT_PART_PROMPT),
           completion = parts_of(r, GRAFT_PART_COMPLETION);
    if (messages.text)
        add_conversation(t, v, &messages, &completion, err);
    else if (completion.text)
        add_task(t, prompt.text ? prompt.text : "", prompt.length, 1,
                 (metric_text){completion.text, (int64_t)completion.length}, err);
    else
        fail(err, GRAFT_USAGE, "it is one text; metrics of answers need a prompt and a completion, or messages");
    strbuf_free(&messages);
    strbuf_free(&prompt);
    strbuf_free(&completion);
    return err->code;
}

int tasks_read(data_source *d, task_list *out, graft_error *err) {
    data_text_view v;
    data_text_look(d, &v);
    out->words = v.words;
    out->ends = v.ends;
    for (int64_t i = 0; i < v.eval_list->count && !err->code; i++) {
        const text_record *record;
        if (v.eval_list->at[i].piece) continue; /* its first piece was there */
        if (data_text_record(d, i, &record, err) == GRAFT_OK && add_record(out, &v, record, err))
            fail_within(err, "record %lld", (long long)v.eval_list->at[i].record + 1);
    }
    return err->code;
}

void tasks_free(task_list *t) {
    free(t->at);
    arena_free(&t->memory);
    strbuf_free(&t->answers);
    *t = (task_list){0};
}

/* ---- answers ---- */

/* One answer as it is written, watched for the texts that end it. */
typedef struct {
    const task_settings *settings;
    tokenizer_stream *stream;
    strbuf text;
} watcher;

/* Where the first of the stops begins; the length when there is none. */
static size_t stop_in(const task_settings *s, const strbuf *text) {
    size_t end = text->length;
    for (int32_t i = 0; i < s->stop_count; i++) {
        const char *at = text->text ? memmem(text->text, end, s->stops[i], strlen(s->stops[i])) : NULL;
        if (at) end = (size_t)(at - text->text);
    }
    return end;
}

static int watch(void *context, int32_t id) {
    watcher *w = context;
    graft_error err = {0};
    if (tokenizer_stream_push(w->stream, id, &w->text, &err)) return 1;
    return stop_in(w->settings, &w->text) < w->text.length;
}

typedef struct {
    task_list *tasks;
    int64_t done;
    time_t told;
} telling;

static void tell(void *context, int64_t i) {
    telling *t = context;
    const time_t now = time(NULL);
    (void)i;
    t->done++;
    if (now - t->told < TELL_SECONDS) return;
    t->told = now;
    log_info("%lld of %lld answered", (long long)t->done, (long long)t->tasks->count);
}

/* The texts of the answers, one behind the other; they are told apart when the buffer has stopped growing. */
static int keep_answers(task_list *t, watcher *watchers, const task_settings *s, graft_error *err) {
    t->answers.length = 0;
    for (int64_t i = 0; i < t->count && !err->code; i++) {
        strbuf *text = &watchers[i].text;
        tokenizer_stream_end(watchers[i].stream, text, err);
        const size_t length = stop_in(s, text);
        strbuf_add(&t->answers, text->text ? text->text : "", length);
        t->at[i].answer.length = (int64_t)length;
    }
    const char *at = t->answers.text;
    for (int64_t i = 0; i < t->count; at += t->at[i++].answer.length)
        t->at[i].answer.text = at;
    return err->code;
}

int tasks_answer(task_list *t, workspace *w, int64_t batch, const task_settings *settings, int64_t *tokens,
                 graft_error *err) {
    const size_t count = (size_t)t->count, room = (size_t)settings->max_new;
    generate_call *calls = mem_new(count, sizeof *calls);
    generate_result *results = mem_new(count, sizeof *results);
    watcher *watchers = mem_new(count, sizeof *watchers);
    int32_t *ids = mem_new(count * room + 1, sizeof *ids);
    kv_cache *cache = NULL;
    telling progress = {.tasks = t, .told = time(NULL)};
    *tokens = 0;
    for (size_t i = 0; i < count; i++) {
        watchers[i] = (watcher){.settings = settings, .stream = tokenizer_stream_new(t->words, 1)};
        results[i].ids = ids + i * room;
        calls[i] = (generate_call){.prompt = t->at[i].ids,
                                   .prompt_count = t->at[i].count,
                                   .max_new_tokens = settings->max_new,
                                   .stops = t->ends->id,
                                   .stop_count = t->ends->count,
                                   .settings = sample_greedy(),
                                   .token = watch,
                                   .context = &watchers[i]};
    }
    if (cache_create_many(w, batch, settings->room, &cache, err) == GRAFT_OK &&
        generate_all(cache, calls, results, t->count, tell, &progress, err) == GRAFT_OK)
        keep_answers(t, watchers, settings, err);
    for (size_t i = 0; i < count; i++) {
        *tokens += results[i].count;
        tokenizer_stream_free(watchers[i].stream);
        strbuf_free(&watchers[i].text);
    }
    cache_free(cache);
    free(ids);
    free(watchers);
    free(results);
    free(calls);
    return err->code;
}
