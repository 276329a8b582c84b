/* data-choices — see data-choices.h. */
#include "run/data-choices.h"
#include "metric/grams.h"
#include "run/json-records.h"
#include "text/tokenizer.h"
#include <stdlib.h>
#include <string.h>

enum { CHOICES_MOST = 1000 };

typedef struct {
    data_source source;
    question_list questions;
    sequence_list sequences; /* of all choices */
    int64_t lengths;         /* allocated      */
    tokenizer *words;
    tokenizer_encoding tokens;
    int64_t context;
} choices;

static int fetch_eval(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    const choices *const c = (choices *)s;
    for (int64_t i = first; i < first + count; i++)
        *sequence_list_add(out) = c->sequences.at[i];
    return err->code;
}

static void close_choices(data_source *s) {
    choices *const c = (choices *)s;
    sequence_list_free(&c->sequences);
    free(c->questions.at);
    free(c->questions.characters);
    free(c->questions.bytes);
    tokenizer_encoding_free(&c->tokens);
    tokenizer_free(c->words);
    free(c);
}

static int64_t encode(choices *c, const char *text, size_t length, graft_error *err) {
    return tokenizer_encode(c->words, text, (int64_t)length, 1, &c->tokens, err) ? 0 : c->tokens.count;
}

/* The sequence of one choice: its own tokens are the labels. */
static int add_choice(choices *c, const char *front, size_t front_length, const json_t *choice, graft_error *err) {
    const char *text = json_string_value(choice);
    const int64_t bytes = (int64_t)json_string_length(choice), bare = grams_trim_end(front, (int64_t)front_length);
    strbuf whole = {0};
    strbuf_add(&whole, front, front_length);
    strbuf_add(&whole, " ", 1);
    strbuf_add(&whole, text, (size_t)bytes);
    const int64_t known = encode(c, front, (size_t)bare, err);
    const int64_t all = err->code ? 0 : encode(c, whole.text, whole.length, err);
    const int64_t skip = all > c->context ? all - c->context : 0, count = all - skip;
    strbuf_free(&whole);
    if (err->code) return err->code;
    int32_t *const ids = arena_new(&c->sequences.memory, (size_t)count + 1, sizeof *ids);
    int32_t *const labels = arena_new(&c->sequences.memory, (size_t)count + 1, sizeof *labels);
    for (int64_t t = 0; t < count; t++) {
        ids[t] = c->tokens.ids[skip + t];
        labels[t] = skip + t < known ? LABEL_NONE : ids[t];
    }
    const int64_t n = c->sequences.count;
    if (n == c->lengths) {
        c->lengths = c->lengths ? 2 * c->lengths : 64;
        c->questions.characters = mem_grow(c->questions.characters, (size_t)c->lengths, sizeof(int64_t));
        c->questions.bytes = mem_grow(c->questions.bytes, (size_t)c->lengths, sizeof(int64_t));
    }
    c->questions.bytes[n] = bytes;
    c->questions.characters[n] = 0;
    for (int64_t i = 0; i < bytes; i++)
        c->questions.characters[n] += ((unsigned char)text[i] & 0xC0) != 0x80;
    *sequence_list_add(&c->sequences) = (sequence){.tokens = count, .ids = ids, .labels = labels};
    if (count > c->source.longest) c->source.longest = count;
    return GRAFT_OK;
}

/* Which of the texts is meant, -1: none. */
static int64_t index_of(const json_t *list, const char *text) {
    json_t *one;
    size_t i;
    json_array_foreach(list, i,
                       one) if (json_is_string(one) && strcmp(json_string_value(one), text) == 0) return (int64_t)i;
    return -1;
}

static int64_t right_of(const json_t *answer, const json_t *texts, const json_t *labels) {
    if (json_is_integer(answer)) return (int64_t)json_integer_value(answer);
    const char *text = json_string_value(answer);
    char *end;
    if (!text || !*text) return -1;
    if (index_of(labels, text) >= 0) return index_of(labels, text);
    if (index_of(texts, text) >= 0) return index_of(texts, text);
    if (!text[1] && *text >= 'A' && *text <= 'Z') return *text - 'A';
    const int64_t number = strtoll(text, &end, 10);
    return *end ? -1 : number;
}

static int add_question(choices *c, source *file, const json_t *record, graft_error *err) {
    const json_t *front = json_records_field(record, "question,context,query,prompt,ctx"),
                 *list = json_records_field(record, "choices,endings,options"),
                 *answer = json_records_field(record, "answer,gold,label,answerKey");
    const json_t *labels = json_is_object(list) ? json_object_get(list, "label") : NULL;
    const json_t *texts = json_is_object(list) ? json_object_get(list, "text") : list;
    const int64_t count = (int64_t)json_array_size(texts);
    if (!json_is_string(front) || count < 1 || count > CHOICES_MOST || !answer)
        return source_blame(
            file, "a question with choices has the fields question, choices (a list of texts) and answer", err);
    const int64_t right = right_of(answer, texts, labels);
    if (right < 0 || right >= count)
        return source_blame(file, "the answer is neither the number (from 0) nor the letter, label or text of a choice",
                            err);
    question_list *const q = &c->questions;
    mem_reserve(q->at, q->count, q->capacity);
    q->at[q->count++] = (question){.first = c->sequences.count, .count = count, .right = right};
    for (int64_t i = 0; i < count && !err->code; i++) {
        const json_t *choice = json_array_get(texts, (size_t)i);
        if (!json_is_string(choice)) return source_blame(file, "a choice is no text", err);
        add_choice(c, json_string_value(front), json_string_length(front), choice, err);
    }
    return err->code;
}

int data_choices_open(const char *path, const char *model_folder, int64_t context, data_source **out,
                      const question_list **questions, graft_error *err) {
    choices *const c = mem_new(1, sizeof *c);
    source *file = NULL;
    *out = NULL;
    *c = (choices){
        .source = {.fetch_eval = fetch_eval, .close = close_choices},
          .context = context
    };
    if (json_records_open(path, &file, err) == GRAFT_OK) tokenizer_load(model_folder, &c->words, err);
    for (int64_t i = 0; !err->code && i < source_count(file); i++) {
        json_t *record = NULL;
        if (json_records_get(file, i, &record, err) == GRAFT_OK) add_question(c, file, record, err);
        json_decref(record);
    }
    source_close(file);
    if (err->code) {
        close_choices(&c->source);
        return err->code;
    }
    c->source.longest_document = c->source.longest;
    c->source.documents = 1;
    c->source.eval_count = c->sequences.count;
    *out = &c->source;
    *questions = &c->questions;
    return GRAFT_OK;
}
