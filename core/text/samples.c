/* samples — encoding, masking, cutting. */
#include "text/samples.h"
#include <stdlib.h>
#include <string.h>

struct sample_encoder {
    sample_rules rules;
    int64_t lead, tail; /* tokens that the tokenizer puts in front of a text and behind it */
    tokenizer_encoding tokens;
    masker *masker; /* NULL until there is a conversation */
};

/* ---- the encoder ---- */

/* The tokenizer's own tokens around a text: where the tokens of a letter alone lie in those of the letter with them. */
static int find_frame(sample_encoder *e, graft_error *err) {
    tokenizer_encoding plain = {0};
    for (const char *letter = "ae1.\n"; *letter && plain.count == 0 && !err->code; letter++)
        if (tokenizer_encode(e->rules.words, letter, 1, 0, &plain, err) == GRAFT_OK)
            tokenizer_encode(e->rules.words, letter, 1, 1, &e->tokens, err);
    const int64_t extra = e->tokens.count - plain.count;
    const size_t bytes = (size_t)plain.count * sizeof *plain.ids;
    while (e->lead < extra && (!bytes || memcmp(e->tokens.ids + e->lead, plain.ids, bytes) != 0))
        e->lead++;
    e->tail = extra - e->lead;
    tokenizer_encoding_free(&plain);
    return err->code;
}

int sample_encoder_new(const sample_rules *rules, sample_encoder **out, graft_error *err) {
    sample_encoder *const e = mem_new(1, sizeof *e);
    e->rules = *rules;
    *out = e;
    if (find_frame(e, err) == GRAFT_OK) return GRAFT_OK;
    sample_encoder_free(e);
    *out = NULL;
    return err->code;
}

void sample_encoder_free(sample_encoder *e) {
    if (!e) return;
    tokenizer_encoding_free(&e->tokens);
    masker_free(e->masker);
    free(e);
}

void sample_free(text_sample *s) {
    free(s->ids);
    free(s->labels);
    free(s->begin);
    free(s->end);
    *s = (text_sample){0};
}

/* ---- encoding ---- */

static int has_part(const text_record *r, int32_t part) {
    for (int64_t i = 0; i < r->count; i++)
        if (r->parts[i].part == part) return 1;
    return 0;
}

static int is_trained(const sample_encoder *e, const record_part *p, int completion) {
    if (p->end == p->begin) return 0;
    return e->rules.train_on == TRAIN_ALL || p->part == (completion ? GRAFT_PART_COMPLETION : GRAFT_PART_TEXT);
}

static void put(text_sample *s, int32_t id, int trained, int64_t begin, int64_t end) {
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->ids = mem_grow(s->ids, (size_t)s->capacity, sizeof *s->ids);
        s->labels = mem_grow(s->labels, (size_t)s->capacity, sizeof *s->labels);
        s->begin = mem_grow(s->begin, (size_t)s->capacity, sizeof *s->begin);
        s->end = mem_grow(s->end, (size_t)s->capacity, sizeof *s->end);
    }
    s->begin[s->count] = begin, s->end[s->count] = end;
    s->ids[s->count] = id;
    s->labels[s->count++] = trained ? id : SAMPLE_NO_LABEL;
}

/* Whether the text itself begins with the tokens that the tokenizer put in front of it. */
static int is_doubled(const tokenizer_encoding *t, int64_t lead, int64_t tail) {
    return lead > 0 && t->count - tail >= 2 * lead && memcmp(t->ids, t->ids + lead, (size_t)lead * sizeof *t->ids) == 0;
}

static int encode_text(sample_encoder *e, const text_record *r, text_sample *out, graft_error *err) {
    const tokenizer_encoding *const t = &e->tokens;
    if (tokenizer_encode(e->rules.words, r->text.text, (int64_t)r->text.length, 1, &e->tokens, err)) return err->code;
    const int completion = has_part(r, GRAFT_PART_COMPLETION);
    const int64_t body = t->count - e->tail;
    out->is_pair = completion;
    out->text = r->text.text, out->length = (int64_t)r->text.length;
    for (int64_t i = 0; i < e->lead; i++)
        put(out, t->ids[i], 0, 0, 0);
    out->lead = e->lead;
    int64_t part = 0;
    for (int64_t i = is_doubled(t, e->lead, e->tail) ? 2 * e->lead : e->lead; i < body; i++) {
        while (part + 1 < r->count && t->begin[i] >= r->parts[part].end)
            part++;
        const int trained = is_trained(e, &r->parts[part], completion);
        if (!trained && t->end[i] > r->parts[part].end && part + 1 < r->count)
            out->straddles |= is_trained(e, &r->parts[part + 1], completion);
        put(out, t->ids[i], trained, t->begin[i], t->end[i]);
    }
    const int learns_end = is_trained(e, &r->parts[r->count - 1], completion);
    for (int64_t i = body; i < t->count; i++)
        put(out, t->ids[i], learns_end, 0, 0);
    const int ended = out->count > out->lead && text_ends_has(&e->rules.ends, out->ids[out->count - 1]);
    if (e->rules.write_end && learns_end && !ended && e->rules.ends.written >= 0)
        put(out, e->rules.ends.written, 1, 0, 0);
    return GRAFT_OK;
}

/* The parts of one kind, joined. */
static strbuf join_parts(const text_record *r, int32_t part) {
    strbuf text = {0};
    for (int64_t i = 0; i < r->count; i++)
        if (r->parts[i].part == part)
            strbuf_add(&text, r->text.text + r->parts[i].begin, (size_t)(r->parts[i].end - r->parts[i].begin));
    strbuf_add(&text, "", 0);
    return text;
}

/* The conversation of a record. With a completion of its own all in front of that is prompt. */
static int read_conversation(const text_record *r, json_t **out, int *answered, graft_error *err) {
    strbuf messages = join_parts(r, GRAFT_PART_MESSAGES), answer = join_parts(r, GRAFT_PART_COMPLETION);
    *answered = has_part(r, GRAFT_PART_COMPLETION);
    if (conversation_parse(messages.text, messages.length, "the conversation", out, err) == GRAFT_OK && *answered)
        conversation_answer(*out, answer.text, answer.length, err);
    strbuf_free(&messages);
    strbuf_free(&answer);
    return err->code;
}

static int encode_chat(sample_encoder *e, const text_record *r, text_sample *out, graft_error *err) {
    json_t *conversation = NULL;
    masked m = {0};
    int answered = 0;
    out->is_chat = 1;
    if (!e->rules.chat)
        return fail(err, GRAFT_FAILED, "a record of messages needs a chat template; %s",
                    e->rules.no_chat ? e->rules.no_chat : "give one, as in `chat_template = chatml`");
    if ((!e->masker && masker_new(e->rules.chat, e->rules.words, &e->masker, err)) ||
        read_conversation(r, &conversation, &answered, err)) {
        json_decref(conversation);
        return err->code;
    }
    const int32_t on = answered && e->rules.train_on != TRAIN_ALL ? TRAIN_COMPLETION : e->rules.train_on;
    mask_conversation(e->masker, conversation, on, &m, err);
    out->text = m.text, out->length = m.length;
    for (int64_t i = 0; i < m.count && !err->code; i++)
        put(out, m.ids[i], m.trained[i], m.begin[i], m.end[i]);
    const char *const bos = chat_bos(e->rules.chat);
    const int32_t first = bos ? tokenizer_id(e->rules.words, bos, (int64_t)strlen(bos)) : -1;
    out->doubled_bos = first >= 0 && out->count > 1 && out->ids[0] == first && out->ids[1] == first;
    out->fell_back = m.fell_back;
    json_decref(conversation);
    return err->code;
}

int sample_encode(sample_encoder *e, const text_record *r, text_sample *out, graft_error *err) {
    out->count = 0, out->lead = 0, out->length = 0;
    out->straddles = out->is_chat = out->is_pair = out->fell_back = out->doubled_bos = 0;
    if (r->text.length == 0) return GRAFT_OK;
    return has_part(r, GRAFT_PART_MESSAGES) ? encode_chat(e, r, out, err) : encode_text(e, r, out, err);
}

/* ---- cutting ---- */

int64_t sample_pieces(int32_t truncation, int64_t count, int64_t lead, int64_t most) {
    if (count <= lead) return 0;
    if (count <= most) return 1;
    if (truncation == SAMPLE_DROP || most <= lead) return 0;
    return truncation == SAMPLE_SPLIT ? (count - lead + (most - lead) - 1) / (most - lead) : 1;
}

sample_cut sample_piece(int32_t truncation, int64_t count, int64_t lead, int64_t most, int64_t piece) {
    const int64_t kept = most - lead, begin = lead + piece * kept;
    if (count <= most) return (sample_cut){lead, lead, count, 0};
    if (truncation == SAMPLE_CUT_LEFT) return (sample_cut){lead, count - kept, count, 0};
    if (truncation == SAMPLE_CUT_MIDDLE) return (sample_cut){lead + (kept + 1) / 2, count - kept / 2, count, 1};
    return (sample_cut){lead, begin, count > begin + kept ? begin + kept : count, 0};
}

int64_t sample_targets(const int32_t *labels, int64_t count) {
    int64_t targets = 0;
    for (int64_t i = 1; i < count; i++)
        targets += labels[i] != SAMPLE_NO_LABEL;
    return targets;
}
