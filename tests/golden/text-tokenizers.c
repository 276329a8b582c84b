/* Tokenizers against the reference library: ids, offsets, decoded text and streams of every family, and single components.
 * A small part of the expectations lies in data/tokenizers; the whole is read from the shared fixtures where they are. */
#include "base/file.h"
#include "base/json.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMITTED SOURCE_DIR "/tests/golden/data/tokenizers"
#define SHARED    SHARED_DIR "/golden/tokenizers"

static const char *const families[] = {"gemma3",  "llama2", "mistral03", "phi3",    "llama3", "qwen2",
                                       "smollm2", "gpt2",   "gpt_neox",  "unigram", "flags"};
enum { FAMILIES = sizeof families / sizeof *families };

/* ---- reading ---- */

static char *path_of(const char *folder, const char *name, const char *file) {
    return name ? mem_format("%s/%s/%s", folder, name, file) : mem_format("%s/%s", folder, file);
}

static void need(const char *path) {
    if (file_exists(path)) return;
    fprintf(stderr, "skipped: %s is not there\n", path);
    cr_skip_test();
}

typedef struct {
    char *path, *text;
    int64_t size, at;
    int number;
} lines;

static lines open_lines(char *path) {
    lines l = {.path = path};
    graft_error err = {0};
    cr_assert_eq(file_read(path, 1 << 30, &l.text, &l.size, &err), 0, "%s", err.text);
    return l;
}

/* The next line as JSON, NULL at the end. Lines end at "\n" alone. */
static json_t *next_line(lines *l) {
    if (l->at >= l->size) {
        free(l->text);
        free(l->path);
        return NULL;
    }
    const char *const end = memchr(l->text + l->at, '\n', (size_t)(l->size - l->at));
    cr_assert_not_null(end, "%s does not end with a line", l->path);
    json_t *value;
    graft_error err = {0};
    const int rc = json_read_text(l->text + l->at, (size_t)(end - l->text - l->at), l->path, 0, &value, &err);
    cr_assert_eq(rc, 0, "line %d: %s", l->number + 1, err.text);
    l->at = end - l->text + 1;
    l->number++;
    return value;
}

static tokenizer *load(const char *path) {
    graft_error err = {0};
    tokenizer *t;
    cr_assert_eq(tokenizer_load(path, &t, &err), 0, "%s", err.text);
    return t;
}

/* ---- comparing ---- */

static char *list_text(const int32_t *ids, int64_t count) {
    strbuf b = {0};
    for (int64_t i = 0; i < count; i++)
        strbuf_printf(&b, "%s%d", i ? "," : "[", ids[i]);
    strbuf_puts(&b, "]");
    return b.text;
}

static void check_ids(const json_t *want, const tokenizer_encoding *e, const char *where, int line) {
    int same = (int64_t)json_array_size(want) == e->count;
    for (int64_t i = 0; same && i < e->count; i++)
        same = json_integer_value(json_array_get(want, (size_t)i)) == e->ids[i];
    cr_assert(same, "%s line %d: ids %s instead of %s", where, line, list_text(e->ids, e->count),
              json_dumps(want, JSON_COMPACT));
}

static void check_text(const json_t *want, const strbuf *got, const char *where, int line, const char *what) {
    const size_t n = json_string_length(want);
    cr_assert(got->length == n && (n == 0 || memcmp(got->text, json_string_value(want), n) == 0),
              "%s line %d: %s is \"%.*s\" instead of \"%s\"", where, line, what, (int)got->length,
              got->text ? got->text : "", json_string_value(want));
}

static void check_decoded(const tokenizer *t, const int32_t *ids, int64_t count, const json_t *line, const char *where,
                          int number) {
    static const char *const keys[] = {"decoded_keep", "decoded"};
    for (int skip = 0; skip < 2; skip++) {
        const json_t *const want = json_object_get(line, keys[skip]);
        if (!want) continue;
        graft_error err = {0};
        strbuf text = {0}, streamed = {0};
        cr_assert_eq(tokenizer_decode(t, ids, count, skip, &text, &err), 0, "%s", err.text);
        check_text(want, &text, where, number, keys[skip]);
        tokenizer_stream *const s = tokenizer_stream_new(t, skip);
        for (int round = 0; round < 2; round++) { /* the second time shows that the end leaves nothing behind */
            streamed.length = 0;
            for (int64_t i = 0; i < count; i++) {
                const size_t before = streamed.length;
                cr_assert_eq(tokenizer_stream_push(s, ids[i], &streamed, &err), 0, "%s", err.text);
                const int64_t n = (int64_t)(streamed.length - before);
                cr_assert_eq(n ? utf8_valid(streamed.text + before, n) : 0, n,
                             "%s line %d: a piece ends inside a character", where, number);
            }
            cr_assert_eq(tokenizer_stream_end(s, &streamed, &err), 0, "%s", err.text);
            check_text(want, &streamed, where, number, "stream");
        }
        tokenizer_stream_free(s);
        strbuf_free(&text);
        strbuf_free(&streamed);
    }
}

static void check_offsets(const json_t *want, tokenizer_encoding *e, const json_t *text, const char *where, int line) {
    const int64_t length = (int64_t)json_string_length(text);
    for (int64_t i = 0; i < e->count; i++)
        cr_assert(e->begin[i] >= 0 && e->begin[i] <= e->end[i] && e->end[i] <= length, "%s line %d", where, line);
    tokenizer_encoding_characters(e, json_string_value(text), length);
    for (int64_t i = 0; i < e->count; i++) {
        const json_int_t begin = json_integer_value(json_array_get(want, (size_t)(2 * i)));
        const json_int_t end = json_integer_value(json_array_get(want, (size_t)(2 * i + 1)));
        cr_assert(e->begin[i] == begin && e->end[i] == end,
                  "%s line %d \"%s\": token %lld is at %lld..%lld instead of %lld..%lld", where, line,
                  json_string_value(text), (long long)i, (long long)e->begin[i], (long long)e->end[i], (long long)begin,
                  (long long)end);
    }
}

static int check_expected(const char *folder, const char *name) {
    char *const file = path_of(folder, name, "tokenizer.json");
    tokenizer *const t = load(file);
    tokenizer_encoding e = {0};
    graft_error err = {0};
    lines l = open_lines(path_of(folder, name, "expected.jsonl"));
    json_t *line;
    while ((line = next_line(&l))) {
        const json_t *const text = json_object_get(line, "text");
        const char *const bytes = json_string_value(text);
        const int64_t length = (int64_t)json_string_length(text);
        if (json_object_get(line, "ids_plain")) {
            cr_assert_eq(tokenizer_encode(t, bytes, length, 0, &e, &err), 0, "%s", err.text);
            check_ids(json_object_get(line, "ids_plain"), &e, file, l.number);
        }
        cr_assert_eq(tokenizer_encode(t, bytes, length, 1, &e, &err), 0, "%s", err.text);
        check_ids(json_object_get(line, "ids"), &e, file, l.number);
        check_decoded(t, e.ids, e.count, line, file, l.number);
        if (json_object_get(line, "offsets")) check_offsets(json_object_get(line, "offsets"), &e, text, file, l.number);
        json_decref(line);
    }
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
    free(file);
    return l.number;
}

static void check_decoding(const char *folder, const char *name) {
    char *const file = path_of(folder, name, "tokenizer.json");
    tokenizer *const t = load(file);
    lines l = open_lines(path_of(folder, name, "decode.jsonl"));
    json_t *line;
    while ((line = next_line(&l))) {
        const json_t *const list = json_object_get(line, "ids");
        const int64_t count = (int64_t)json_array_size(list);
        int32_t *const ids = mem_new((size_t)count + 1, sizeof *ids);
        for (int64_t i = 0; i < count; i++)
            ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
        check_decoded(t, ids, count, line, file, l.number);
        free(ids);
        json_decref(line);
    }
    tokenizer_free(t);
    free(file);
}

/* ---- families ---- */

Test(tokenizers, committed_families_give_every_id_offset_and_text) {
    static const char *const committed[] = {"flags", "unigram", "llama2", "qwen2"};
    for (int i = 0; i < 4; i++) {
        check_expected(COMMITTED, committed[i]);
        check_decoding(COMMITTED, committed[i]);
    }
}

Test(tokenizers, every_family_gives_every_id_offset_and_text) {
    need(SHARED);
    int count = 0;
    for (int i = 0; i < FAMILIES; i++)
        count += check_expected(SHARED, families[i]);
    cr_assert_gt(count, 5000);
}

Test(tokenizers, every_family_decodes_and_streams_random_ids) {
    need(SHARED);
    for (int i = 0; i < FAMILIES; i++)
        check_decoding(SHARED, families[i]);
}

Test(tokenizers, real_tokenizers_give_every_id) {
    static const char *const names[] = {"gpt2", "gpt_neox", "llama2", "mistral03"};
    need(SHARED_DIR "/tokenizers");
    for (int i = 0; i < 4; i++) {
        char *const file = path_of(SHARED_DIR "/tokenizers", names[i], "tokenizer.json");
        tokenizer *const t = load(file);
        tokenizer_encoding e = {0};
        graft_error err = {0};
        lines texts = open_lines(path_of(SHARED, NULL, "texts.jsonl"));
        lines ids = open_lines(mem_format("%s/real/%s.ids.jsonl", SHARED, names[i]));
        json_t *text, *want;
        while ((text = next_line(&texts))) {
            want = next_line(&ids);
            const json_t *const bytes = json_object_get(text, "text");
            const int rc =
                tokenizer_encode(t, json_string_value(bytes), (int64_t)json_string_length(bytes), 1, &e, &err);
            cr_assert_eq(rc, 0, "%s", err.text);
            check_ids(want, &e, file, texts.number);
            json_decref(text);
            json_decref(want);
        }
        cr_assert_gt(texts.number, 500);
        cr_assert_null(next_line(&ids));
        tokenizer_encoding_free(&e);
        tokenizer_free(t);
        free(file);
    }
}

Test(tokenizers, invalid_utf8_is_read_as_one_replacement_character_for_each_ill_formed_part) {
    static const char *const names[] = {"gemma3", "llama2", "qwen2", "smollm2"};
    need(SHARED);
    for (int i = 0; i < 4; i++) {
        char *const file = path_of(SHARED, names[i], "tokenizer.json");
        tokenizer *const t = load(file);
        tokenizer_encoding e = {0};
        graft_error err = {0};
        lines l = open_lines(path_of(SHARED, NULL, "invalid_utf8.jsonl"));
        json_t *line;
        while ((line = next_line(&l))) {
            const char *const hex = json_string_value(json_object_get(line, "hex"));
            const int64_t length = (int64_t)strlen(hex) / 2;
            char *const bytes = mem_new((size_t)length + 1, 1);
            for (int64_t k = 0; k < length; k++) {
                const char digits[3] = {hex[2 * k], hex[2 * k + 1], 0};
                bytes[k] = (char)strtol(digits, NULL, 16);
            }
            cr_assert_eq(tokenizer_encode(t, bytes, length, 1, &e, &err), 0, "%s", err.text);
            check_ids(json_object_get(json_object_get(line, "ids"), names[i]), &e, file, l.number);
            for (int64_t k = 0; k < e.count; k++)
                cr_assert(e.begin[k] >= 0 && e.begin[k] <= e.end[k] && e.end[k] <= length);
            free(bytes);
            json_decref(line);
        }
        tokenizer_encoding_free(&e);
        tokenizer_free(t);
        free(file);
    }
}

/* ---- components ---- */

static int refused(const json_t *component) {
    char *const text = json_dumps(component, 0);
    const int is = strstr(text, "StripAccents") != NULL;
    free(text);
    return is;
}

static void check_normalizer(json_t *component, const json_t *cases, int line) {
    graft_error err = {0};
    normalizer *n;
    text_workspace w = {0};
    const int rc = normalizer_load(component, &n, &err);
    if (refused(component)) {
        cr_assert(rc == GRAFT_FAILED && strstr(err.text, "\"StripAccents\""), "%s", err.text);
        return;
    }
    cr_assert_eq(rc, 0, "line %d: %s", line, err.text);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const in = json_array_get(json_array_get(cases, i), 0);
        view v = {json_string_value(in), NULL, (int64_t)json_string_length(in), 0};
        cr_assert_eq(normalizer_run(n, &w, &v, &err), 0, "%s", err.text);
        const strbuf got = {mem_copy_text(""), (size_t)v.length, 0};
        strbuf text = {0};
        strbuf_add(&text, v.bytes, got.length);
        check_text(json_array_get(json_array_get(cases, i), 1), &text, "components", line, json_string_value(in));
        strbuf_free(&text);
        free(got.text);
    }
    text_workspace_free(&w);
    normalizer_free(n);
}

static int32_t characters(const char *text, int32_t bytes) {
    int32_t n = 0;
    for (int32_t i = 0; i < bytes; i++)
        n += !utf8_continues(text[i]);
    return n;
}

static void check_pretokenizer(json_t *component, const json_t *cases, int line) {
    graft_error err = {0};
    pretokenizer *p;
    text_workspace w = {0};
    cr_assert_eq(pretokenizer_load(component, &p, &err), 0, "line %d: %s", line, err.text);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const in = json_array_get(json_array_get(cases, i), 0);
        const json_t *const want = json_array_get(json_array_get(cases, i), 1);
        const char *const source = json_string_value(in);
        view v = {source, NULL, (int64_t)json_string_length(in), 0};
        const pieces *cut;
        cr_assert_eq(pretokenizer_run(p, &w, &v, &cut, &err), 0, "%s", err.text);
        cr_assert_eq(cut->count, (int64_t)json_array_size(want), "line %d \"%s\": %lld pieces instead of %s", line,
                     source, (long long)cut->count, json_dumps(want, 0));
        for (int64_t k = 0; k < cut->count; k++) {
            const json_t *const one = json_array_get(want, (size_t)k);
            const piece q = cut->items[k];
            strbuf text = {0};
            strbuf_add(&text, v.bytes + q.begin, (size_t)(q.end - q.begin));
            check_text(json_array_get(one, 0), &text, "components", line, source);
            const span from = view_span(&v, q.begin, q.end);
            cr_assert_eq(characters(source, from.begin), json_integer_value(json_array_get(one, 1)), "line %d \"%s\"",
                         line, source);
            cr_assert_eq(characters(source, from.end), json_integer_value(json_array_get(one, 2)), "line %d \"%s\"",
                         line, source);
            strbuf_free(&text);
        }
    }
    text_workspace_free(&w);
    pretokenizer_free(p);
}

static void check_decoder(json_t *component, const json_t *cases, int line) {
    graft_error err = {0};
    decoder *d;
    cr_assert_eq(decoder_load(component, &d, &err), 0, "line %d: %s", line, err.text);
    decoding *const run = decoding_new(d);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *const tokens = json_array_get(json_array_get(cases, i), 0);
        const json_t *const want = json_array_get(json_array_get(cases, i), 1);
        strbuf text = {0};
        for (size_t k = 0; k < json_array_size(tokens); k++) {
            const json_t *const one = json_array_get(tokens, k);
            cr_assert_eq(decoding_push(run, json_string_value(one), (int64_t)json_string_length(one), &text, &err), 0);
        }
        cr_assert_eq(decoding_end(run, &text, &err), 0);
        char what[40];
        snprintf(what, sizeof what, "case %zu", i);
        if (json_is_string(want)) check_text(want, &text, "components", line, what);
        strbuf_free(&text);
    }
    decoding_free(run);
    decoder_free(d);
}

Test(tokenizers, every_component_gives_the_texts_pieces_and_offsets_of_the_reference) {
    char *const path = path_of(SHARED, NULL, "components.jsonl");
    need(path);
    lines l = open_lines(path);
    json_t *line;
    while ((line = next_line(&l))) {
        const char *const kind = json_string_value(json_object_get(line, "kind"));
        json_t *const component = json_object_get(line, "component");
        const json_t *const cases = json_object_get(line, "cases");
        if (strcmp(kind, "normalizer") == 0)
            check_normalizer(component, cases, l.number);
        else if (strcmp(kind, "pre_tokenizer") == 0)
            check_pretokenizer(component, cases, l.number);
        else
            check_decoder(component, cases, l.number);
        json_decref(line);
    }
    cr_assert_gt(l.number, 70);
}

/* Folders of models that people have: their tokenizers load, and what they encode they decode. */
Test(tokenizers, tokenizers_of_model_folders_encode_and_decode) {
    static const char *const names[] = {"models/stories260k", "models/tinystories656k", "tokenizers/qwen2"};
    static const char text[] = "Once upon a time, there was a little girl named Lily.";
    for (int i = 0; i < 3; i++) {
        char *const folder = path_of(SHARED_DIR, NULL, names[i]);
        need(folder);
        tokenizer *const t = load(folder);
        tokenizer_encoding e = {0};
        strbuf back = {0};
        graft_error err = {0};
        cr_assert_eq(tokenizer_encode(t, text, sizeof text - 1, 0, &e, &err), 0, "%s", err.text);
        cr_assert_eq(tokenizer_decode(t, e.ids, e.count, 1, &back, &err), 0, "%s", err.text);
        cr_assert_str_eq(back.text, text, "%s", folder);
        for (int64_t k = 0; k < e.count; k++)
            cr_assert_lt(e.ids[k], tokenizer_vocab_size(t));
        strbuf_free(&back);
        tokenizer_encoding_free(&e);
        tokenizer_free(t);
        free(folder);
    }
}
