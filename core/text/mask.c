/* mask — see mask.h. */
#include "text/mask.h"
#include "text/datafile.h"
#include <stdlib.h>
#include <string.h>

struct masker {
    const chat *chat;
    const tokenizer *words;
    uint8_t *ends; /* (ids) 1: an added token that may end a turn */
    int32_t bos;
    strbuf header; /* what stands in front of an answer, without white space around it */

    template_rendering text, prompt;
    tokenizer_encoding tokens, prefix;
    uint8_t *trained;
    mask_span *spans;
    int64_t capacity, span_count, span_capacity;
};

/* ---- the masker ---- */

static int is_white(const char *text, int64_t length) {
    for (int64_t i = 0; i < length; i++)
        if (!datafile_is_white(text[i])) return 0;
    return 1;
}

/* Added tokens but white space, those that begin a sequence or, as the header's first one, a turn. */
static int find_ends(masker *m, graft_error *err) {
    const char *const bos = chat_bos(m->chat), *const header = chat_header(m->chat);
    m->ends = mem_new((size_t)tokenizer_vocab_size(m->words) + 1, 1);
    for (int64_t i = 0; i < tokenizer_added_count(m->words); i++) {
        const tokenizer_added *const a = tokenizer_added_at(m->words, i);
        m->ends[a->id] = !is_white(a->content, a->length) && strncmp(a->content, "\xE2\x96\x81", 3) != 0;
    }
    m->bos = bos ? tokenizer_id(m->words, bos, (int64_t)strlen(bos)) : -1;
    if (tokenizer_encode(m->words, header, (int64_t)strlen(header), 0, &m->tokens, err)) return err->code;
    for (int64_t i = 0; i < m->tokens.count && is_white(header, m->tokens.begin[i]); i++)
        if (m->tokens.ids[i] != m->bos) m->ends[m->tokens.ids[i]] = 0;
    return GRAFT_OK;
}

static void trim_header(masker *m) {
    const char *header = chat_header(m->chat);
    size_t length = strlen(header);
    while (length && datafile_is_white(*header))
        header++, length--;
    while (length && datafile_is_white(header[length - 1]))
        length--;
    strbuf_add(&m->header, header, length);
}

int masker_new(const chat *c, const tokenizer *words, masker **out, graft_error *err) {
    masker *const m = mem_new(1, sizeof *m);
    m->chat = c, m->words = words;
    *out = NULL;
    if (find_ends(m, err)) {
        masker_free(m);
        return err->code;
    }
    trim_header(m);
    *out = m;
    return GRAFT_OK;
}

void masker_free(masker *m) {
    if (!m) return;
    template_rendering_free(&m->text);
    template_rendering_free(&m->prompt);
    tokenizer_encoding_free(&m->tokens);
    tokenizer_encoding_free(&m->prefix);
    strbuf_free(&m->header);
    free(m->ends);
    free(m->trained);
    free(m->spans);
    free(m);
}

/* ---- spans ---- */

static void add_span(masker *m, int64_t begin, int64_t end) {
    if (begin >= end) return;
    mem_reserve(m->spans, m->span_count, m->span_capacity);
    m->spans[m->span_count++] = (mask_span){begin, end};
}

/* Where an answer begins whose own text begins at `at`, with nothing but the template's words since `from`. */
static int64_t answer_begin(const masker *m, int64_t from, int64_t at) {
    const char *const text = m->text.text.text;
    const int64_t length = (int64_t)m->header.length;
    for (int64_t i = at - length; length && i >= from; i--)
        if (memcmp(text + i, m->header.text, (size_t)length) == 0) {
            i += length;
            while (i < at && datafile_is_white(text[i]))
                i++;
            return i;
        }
    return at;
}

/* What a template without a token for it writes behind an answer: the rest of the text if that ends with one. */
typedef struct {
    const char *text;
    int64_t length;
} turn_tail;

static turn_tail find_tail(const masker *m, const json_t *conversation) {
    const template_rendering *const t = &m->text;
    const template_span *const last = t->said_count ? &t->said[t->said_count - 1] : NULL;
    turn_tail tail = {NULL, 0};
    if (!last || !conversation_is_assistant(conversation, last->message)) return tail;
    tail = (turn_tail){t->text.text + last->end, (int64_t)t->text.length - last->end};
    while (tail.length && datafile_is_white(tail.text[tail.length - 1]))
        tail.length--;
    return tail;
}

/* Where the turn ends whose text ends at `at`, with nothing but the template's words up to `to`. */
static int64_t answer_end(const masker *m, int64_t at, int64_t to, turn_tail tail) {
    const tokenizer_encoding *const e = &m->tokens;
    int64_t low = 0, high = e->count;
    while (low < high) { /* the first token that does not begin in front of `at` */
        const int64_t middle = (low + high) / 2;
        if (e->begin[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < e->count && e->begin[low] < to; low++)
        if (m->ends[e->ids[low]] && e->end[low] > e->begin[low])
            return e->ids[low] == m->bos && e->begin[low] > at ? at : e->end[low];
    const int fits = tail.length <= to - at &&
                     (tail.length == 0 || memcmp(m->text.text.text + at, tail.text, (size_t)tail.length) == 0);
    return fits ? at + tail.length : at;
}

/* The spans of the assistant's messages `least` and later. */
static void find_spans(masker *m, const json_t *conversation, int64_t least) {
    const template_rendering *const t = &m->text;
    const turn_tail tail = find_tail(m, conversation);
    int64_t from = 0;
    for (int64_t i = 0; i < t->said_count;) {
        const int32_t message = t->said[i].message;
        const int64_t begin = t->said[i].begin;
        int64_t end = begin;
        for (; i < t->said_count && t->said[i].message == message; i++)
            end = t->said[i].end;
        const int64_t to = i < t->said_count ? t->said[i].begin : (int64_t)t->text.length;
        if (message >= least && conversation_is_assistant(conversation, message))
            add_span(m, answer_begin(m, from, begin), answer_end(m, end, to, tail));
        from = end;
    }
}

/* Those inside {% generation %}; from message `least` on: with the first that holds text of it. */
static void take_tagged(masker *m, int64_t least) {
    const template_rendering *const t = &m->text;
    int64_t first = 0;
    for (int64_t s = 0; least > 0 && s < t->said_count; s++)
        if (t->said[s].message == least) {
            while (first + 1 < t->generation_count && t->generation[first].end < t->said[s].end)
                first++;
            break;
        }
    for (int64_t i = first; i < t->generation_count; i++)
        add_span(m, t->generation[i].begin, t->generation[i].end);
}

/* ---- tokens ---- */

static void mark_spans(masker *m) {
    int64_t span = 0;
    for (int64_t i = 0; i < m->tokens.count; i++) {
        while (span < m->span_count && m->spans[span].end <= m->tokens.begin[i])
            span++;
        m->trained[i] = span < m->span_count && m->tokens.end[i] > m->spans[span].begin;
    }
}

/* 1: the ids of all but the last message are a prefix of the whole, and what follows is marked. */
static int mark_behind_prompt(masker *m, const json_t *conversation, graft_error *err) {
    const int64_t count = conversation_count(conversation);
    if (count < 2) return 0;
    json_t *const prompt = json_copy((json_t *)(uintptr_t)conversation);
    json_t *const messages = json_copy(json_object_get(prompt, "messages"));
    json_array_remove(messages, (size_t)count - 1);
    json_object_set_new(prompt, "messages", messages);
    graft_error none = {0};
    int found = chat_render(m->chat, prompt, 1, 0, &m->prompt, &none) == GRAFT_OK;
    if (found) tokenizer_encode(m->words, m->prompt.text.text, (int64_t)m->prompt.text.length, 0, &m->prefix, err);
    found = found && !err->code && m->prefix.count <= m->tokens.count &&
            (m->prefix.count == 0 ||
             memcmp(m->prefix.ids, m->tokens.ids, (size_t)m->prefix.count * sizeof *m->prefix.ids) == 0);
    for (int64_t i = m->prefix.count; found && i < m->tokens.count; i++)
        m->trained[i] = 1;
    json_decref(prompt);
    return found;
}

static void mark(masker *m, const json_t *conversation, int32_t train_on, masked *out, graft_error *err) {
    int64_t least = 0;
    if (train_on == TRAIN_ALL) {
        add_span(m, m->tokens.count && m->tokens.ids[0] == m->bos ? m->tokens.end[0] : 0, (int64_t)m->text.text.length);
        mark_spans(m);
        return;
    }
    if (train_on != TRAIN_ASSISTANT) {
        least = conversation_count(conversation) - 1;
        while (train_on == TRAIN_LAST && least > 0 && !conversation_is_assistant(conversation, least))
            least--;
        if (!conversation_is_assistant(conversation, least)) return; /* nothing to learn */
    }
    if (train_on == TRAIN_COMPLETION) {
        if (mark_behind_prompt(m, conversation, err) || err->code) return;
        out->fell_back = 1;
    }
    if (chat_marks_answers(m->chat))
        take_tagged(m, least);
    else
        find_spans(m, conversation, least);
    mark_spans(m);
}

int mask_conversation(masker *m, const json_t *conversation, int32_t train_on, masked *out, graft_error *err) {
    *out = (masked){0};
    m->span_count = 0;
    if (chat_render(m->chat, conversation, 0, 0, &m->text, err) ||
        tokenizer_encode(m->words, m->text.text.text, (int64_t)m->text.text.length, 0, &m->tokens, err))
        return err->code;
    if (m->capacity < m->tokens.count) {
        m->capacity = m->tokens.count + m->tokens.count / 2;
        m->trained = mem_grow(m->trained, (size_t)m->capacity, 1);
    }
    if (m->tokens.count) memset(m->trained, 0, (size_t)m->tokens.count);
    mark(m, conversation, train_on, out, err);
    out->text = m->text.text.text, out->length = (int64_t)m->text.text.length;
    out->ids = m->tokens.ids, out->begin = m->tokens.begin, out->end = m->tokens.end, out->count = m->tokens.count;
    out->trained = m->trained;
    out->spans = m->spans, out->span_count = m->span_count;
    return err->code;
}

int32_t mask_turn_end(masker *m) {
    json_t *const turn = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "user", "content", "Hi", "role",
                                   "assistant", "content", "Hello");
    graft_error none = {0};
    masked out;
    int32_t id = -1;
    if (mask_conversation(m, turn, TRAIN_LAST, &out, &none) == GRAFT_OK) {
        for (int64_t i = 0; i < out.count; i++)
            if (out.trained[i]) id = out.ids[i];
        int64_t a = 0;
        while (a < tokenizer_added_count(m->words) && tokenizer_added_at(m->words, a)->id != id)
            a++;
        if (a == tokenizer_added_count(m->words)) id = -1;
    }
    json_decref(turn);
    return id;
}
