/* From records to labelled tokens, and how long ones are cut. Most tests use the quickstart's tokenizer: a token a byte, 256 the
 * end; others have tokens in front (llama2: <s>) or behind (unigram: </s>). */
#include "base/file.h"
#include "text-kit.h"
#include "text/collect.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES   SOURCE_DIR "/examples/quickstart/model"
#define LLAMA   SOURCE_DIR "/tests/golden/data/tokenizers/llama2"
#define UNIGRAM SOURCE_DIR "/tests/golden/data/tokenizers/unigram"

TestSuite(samples, .init = kit_begin, .fini = kit_end);

/* ---- encoding ---- */

static tokenizer *load(const char *folder) {
    tokenizer *t;
    graft_error err = {0};
    cr_assert_eq(tokenizer_load(folder, &t, &err), 0, "%s", err.text);
    return t;
}

/* "PTC" kinds and their texts, up to NULL. */
static text_record make_record(const char *kinds, const char *const *texts) {
    text_record r = {0};
    for (int i = 0; kinds[i]; i++) {
        mem_reserve(r.parts, r.count, r.capacity);
        const int64_t begin = (int64_t)r.text.length;
        strbuf_puts(&r.text, texts[i]);
        r.parts[r.count++] = (record_part){(int32_t)(strchr("TPCM", kinds[i]) - "TPCM"), begin, (int64_t)r.text.length};
    }
    return r;
}

typedef struct {
    text_sample sample;
    char mask[400]; /* '1' where a label stands */
} encoded;

static encoded encode(const tokenizer *t, int32_t end, int write_end, const char *kinds, const char *const *texts) {
    encoded e = {0};
    graft_error err = {0};
    sample_encoder *encoder;
    sample_rules rules = {.words = t, .max_length = 1000, .write_end = write_end};
    rules.ends.written = end;
    if (end >= 0) rules.ends.id[rules.ends.count++] = end;
    text_record r = make_record(kinds, texts);
    cr_assert_eq(sample_encoder_new(&rules, &encoder, &err), 0, "%s", err.text);
    cr_assert_eq(sample_encode(encoder, &r, &e.sample, &err), 0, "%s", err.text);
    cr_assert_lt(e.sample.count, 400);
    for (int64_t i = 0; i < e.sample.count; i++) {
        e.mask[i] = e.sample.labels[i] == SAMPLE_NO_LABEL ? '0' : '1';
        cr_expect(e.mask[i] == '0' || e.sample.labels[i] == e.sample.ids[i]);
    }
    sample_encoder_free(encoder);
    record_free(&r);
    return e;
}

/* A byte a token: the ids as text ('$' the end) and the mask. */
static void expect_bytes(const char *kinds, const char *const *texts, int write_end, const char *ids,
                         const char *mask) {
    tokenizer *const t = load(BYTES);
    encoded e = encode(t, 256, write_end, kinds, texts);
    char got[400] = "";
    for (int64_t i = 0; i < e.sample.count; i++)
        got[i] = e.sample.ids[i] == 256 ? '$' : (char)e.sample.ids[i];
    cr_expect_str_eq(got, ids);
    cr_expect_str_eq(e.mask, mask, "%s: %s", got, e.mask);
    sample_free(&e.sample);
    tokenizer_free(t);
}

#define TEXTS(...)                                                                                                     \
    (const char *const[]) {                                                                                            \
        __VA_ARGS__                                                                                                    \
    }

Test(samples, what_is_trained_on_is_the_completion_and_the_end) {
    expect_bytes("PC", TEXTS("ab?", "cd"), 1, "ab?cd$", "000111");
    expect_bytes("PC", TEXTS("ab?", "cd"), 0, "ab?cd", "00011");
    expect_bytes("T", TEXTS("abc"), 1, "abc$", "1111");
    expect_bytes("TC", TEXTS("ab", "c"), 1, "abc$", "0011");
    expect_bytes("C", TEXTS("ab"), 1, "ab$", "111");
    expect_bytes("PTPC", TEXTS("a", "b", "c", "d"), 1, "abcd$", "00011");
    expect_bytes("PCPC", TEXTS("a", "b", "c", "d"), 1, "abcd$", "01011");
}

Test(samples, nothing_is_learned_of_a_record_that_ends_with_a_question) {
    expect_bytes("P", TEXTS("ab"), 1, "ab", "00");
    expect_bytes("CP", TEXTS("ab", "c"), 1, "abc", "110");
    expect_bytes("PC", TEXTS("ab", ""), 1, "ab", "00");
    expect_bytes("PC", TEXTS("", ""), 1, "", "");
}

Test(samples, an_end_that_is_there_is_not_written_twice) {
    expect_bytes("PC", TEXTS("a", "b<|endoftext|>"), 1, "ab$", "011");
    expect_bytes("T", TEXTS("<|endoftext|>"), 1, "$", "1");
}

/* Characters of several tokens belong to the part they begin in, whole. */
Test(samples, the_border_may_lie_between_any_characters) {
    tokenizer *const t = load(BYTES);
    encoded e = encode(t, 256, 1, "PC", TEXTS("가", "나"));
    cr_expect_str_eq(e.mask, "0001111");
    sample_free(&e.sample);
    tokenizer_free(t);
}

Test(samples, tokens_in_front_are_there_once_and_not_trained_on) {
    tokenizer *const t = load(LLAMA);
    const int32_t begin = tokenizer_id(t, "<s>", 3), end = tokenizer_id(t, "</s>", 4);
    tokenizer_encoding own = {0};
    graft_error err = {0};
    cr_assert_eq(tokenizer_encode(t, "Hello there", 11, 1, &own, &err), 0);
    cr_assert_eq(own.ids[0], begin);
    encoded one = encode(t, end, 1, "T", TEXTS("Hello there"));
    cr_assert_eq(one.sample.lead, 1);
    cr_assert_eq(one.sample.count, own.count + 1);
    cr_expect(memcmp(one.sample.ids, own.ids, (size_t)own.count * sizeof *own.ids) == 0);
    cr_expect_eq(one.sample.ids[own.count], end);
    cr_expect(one.mask[0] == '0' && strchr(one.mask + 1, '0') == NULL, "%s", one.mask);
    encoded two = encode(t, end, 1, "T", TEXTS("<s>Hello there"));
    cr_expect(two.sample.ids[0] == begin && two.sample.ids[1] != begin, "the token in front is doubled");
    encoded three = encode(t, end, 1, "T", TEXTS("Hello there</s>"));
    cr_expect(three.sample.ids[three.sample.count - 1] == end && three.sample.ids[three.sample.count - 2] != end);
    sample_free(&one.sample), sample_free(&two.sample), sample_free(&three.sample);
    tokenizer_encoding_free(&own);
    tokenizer_free(t);
}

Test(samples, an_end_that_the_tokenizer_writes_is_trained_on) {
    tokenizer *const t = load(UNIGRAM);
    const int32_t end = tokenizer_id(t, "</s>", 4);
    encoded e = encode(t, end, 1, "PC", TEXTS("Speak,", " speak."));
    const int64_t last = e.sample.count - 1;
    cr_expect_eq(e.sample.lead, 0);
    cr_expect(e.sample.ids[last] == end && e.mask[last] == '1' && e.sample.ids[last - 1] != end);
    cr_expect_eq(e.mask[0], '0');
    encoded q = encode(t, end, 1, "P", TEXTS("Speak,"));
    cr_expect_null(strchr(q.mask, '1'), "%s", q.mask);
    sample_free(&e.sample), sample_free(&q.sample);
    tokenizer_free(t);
}

Test(samples, a_token_across_the_border_is_told) {
    tokenizer *const t = load(LLAMA);
    encoded clean = encode(t, -1, 1, "PC", TEXTS("Answer:", " the")),
            across = encode(t, -1, 1, "PC", TEXTS("Answer: ", "the"));
    cr_expect_eq(clean.sample.straddles, 0);
    cr_expect_eq(across.sample.straddles, 1);
    sample_free(&clean.sample), sample_free(&across.sample);
    tokenizer_free(t);
}

/* ---- cutting ---- */

Test(samples, pieces_cover_every_token_once_and_are_never_too_long) {
    for (int64_t lead = 0; lead < 3; lead++)
        for (int64_t count = lead; count < 40; count++)
            for (int64_t most = 1; most < 45; most++) {
                const int64_t pieces = sample_pieces(SAMPLE_SPLIT, count, lead, most);
                int64_t next = lead;
                for (int64_t p = 0; p < pieces; p++) {
                    const sample_cut c = sample_piece(SAMPLE_SPLIT, count, lead, most, p);
                    cr_assert(c.front == lead && c.begin == next && c.end > next && sample_cut_tokens(&c) <= most);
                    next = c.end;
                }
                cr_assert(pieces == 0 ? count == lead || most <= lead : next == count,
                          "%lld tokens, lead %lld, most %lld", (long long)count, (long long)lead, (long long)most);
            }
}

Test(samples, what_is_cut_keeps_the_tokens_in_front) {
    const sample_cut right = sample_piece(SAMPLE_CUT_RIGHT, 10, 1, 6, 0);
    cr_expect(right.begin == 1 && right.end == 6);
    const sample_cut left = sample_piece(SAMPLE_CUT_LEFT, 10, 1, 6, 0);
    cr_expect(left.begin == 5 && left.end == 10);
    cr_expect_eq(sample_pieces(SAMPLE_DROP, 10, 1, 6), 0);
    cr_expect_eq(sample_pieces(SAMPLE_DROP, 6, 1, 6), 1);
}

Test(samples, a_middle_cut_out_leaves_both_ends_and_nothing_is_learned_across_the_gap) {
    static const int32_t labels[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    for (int64_t lead = 0; lead < 2; lead++)
        for (int64_t most = lead + 1; most < 12; most++) {
            const sample_cut c = sample_piece(SAMPLE_CUT_MIDDLE, 10, lead, most, 0);
            const int64_t kept = most < 10 ? most : 10;
            cr_assert_eq(sample_cut_tokens(&c), kept);
            for (int64_t i = 0; i < kept; i++) { /* the larger half in front, the other one up to the last token */
                const int64_t front = lead + (most - lead + 1) / 2, from = i < front ? i : 10 - (kept - i);
                cr_expect_eq(sample_cut_at(&c, i), from);
                cr_expect_eq(sample_cut_label(&c, labels, i), kept < 10 && i == front ? SAMPLE_NO_LABEL : labels[from]);
            }
        }
}

/* ---- whole files ---- */

static char *collect(const char *text, int32_t truncation, int64_t most, sample_list *list, graft_error *err) {
    const kit_loader l = kit_open_loader("jsonl", "");
    tokenizer *const t = load(BYTES);
    sample_rules rules = {.words = t, .max_length = most, .truncation = truncation, .write_end = 1};
    rules.ends.id[rules.ends.count++] = rules.ends.written = 256;
    sample_encoder *encoder;
    source *s = NULL;
    sample_counts counts = {0};
    sample_hashes hashes = {0};
    strbuf report = {0};
    strbuf_puts(&report, "");
    cr_assert_eq(sample_encoder_new(&rules, &encoder, err), 0);
    if (source_open(&l.component->loader, l.config, kit_file("a.jsonl", text, -1), &s, err) == 0 &&
        collect_samples(s, 0, encoder, &rules, NULL, list, &counts, &hashes, err) == 0)
        sample_counts_report(&counts, "a.jsonl", most, &report);
    source_close(s);
    sample_hashes_free(&hashes);
    sample_encoder_free(encoder);
    tokenizer_free(t);
    return report.text;
}

#define PAIR(p, c) "{\"prompt\": \"" p "\", \"completion\": \"" c "\"}\n"

Test(samples, what_is_left_out_is_counted_and_told) {
    static const struct {
        const char *text;
        int32_t truncation;
        int64_t kept, tokens;
        const char *report;
    } cases[] = {
        {PAIR("ab",                                                                                 "c") PAIR("abcdef", "gh"),    SAMPLE_DROP,                                                                                             1,                                                                                                                                                      4,
         "a.jsonl: 1 of 2 records dropped: 1 longer than max_length (max_length = 6)"},
        {PAIR("ab",                                                                                         "c") PAIR("abcdef",                                                                                                   "gh"), SAMPLE_CUT_RIGHT, 1,                                                                                                                                       4,
         "a.jsonl: 1 of 2 records dropped: 1 whose targets lie beyond max_length (max_length = 6)"},
        {PAIR("ab", "c") PAIR("abcdef",                   "gh"),                   SAMPLE_CUT_LEFT,                                                                                                        2,                                                                                                                                                                                                                                       10,
         "a.jsonl: 1 of 2 records cut: 3 of 13 tokens are not seen (max_length = 6)"},
        {PAIR("ab",                                                                                       "c") PAIR("ab",                                   "") PAIR("",                                           "") "{\"text\": \"a\"}",                                                                                                                                          SAMPLE_DROP,                                                                                                                                                                                            2,                                                                                                                                                                                                                                                                                                                                                                                                                                                                            6,
         "a.jsonl: 2 of 4 records dropped: 1 without a target, 1 without text"},
        {PAIR("ab",                                                                              "c") "{\"text\": \"0123456789\"}",                                                                                               SAMPLE_SPLIT,                                                                                                      3,                                                                                                                                                            15,                                                                                                                                                                                                                                                                                                                  ""                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      },
        {PAIR("abcdef",                                                                             "ghi"),SAMPLE_SPLIT,1,4,
         "a.jsonl: 1 of 1 records cut: 6 of 10 tokens are not seen (max_length = 6)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample_list list = {0};
        graft_error err = {0};
        char *const report = collect(cases[i].text, cases[i].truncation, 6, &list, &err);
        cr_expect_eq(err.code, 0, "%s", err.text);
        cr_expect_str_eq(report, cases[i].report);
        cr_expect(list.count == cases[i].kept && list.tokens == cases[i].tokens, "case %zu: %lld, %lld", i,
                  (long long)list.count, (long long)list.tokens);
        sample_list_free(&list);
        free(report);
    }
}

Test(samples, a_conversation_is_refused_with_its_line) {
    sample_list list = {0};
    graft_error err = {0};
    free(collect(PAIR("a", "b") "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}", SAMPLE_DROP, 6, &list,
                 &err));
    cr_expect_not_null(strstr(err.text, "a.jsonl:2: a record of messages needs a chat template"), "%s", err.text);
    sample_list_free(&list);
}

/* ---- ends ---- */

static text_ends read_ends(const char *tokenizer_config, const char *generation, const char *config, graft_error *err) {
    const char *const names[] = {"tokenizer_config.json", "generation_config.json", "config.json"};
    const char *const texts[] = {tokenizer_config, generation, config};
    char *const folder = path_folder(kit_path("x"));
    for (int i = 0; i < 3; i++) {
        remove(kit_path(names[i]));
        if (texts[i]) kit_file(names[i], texts[i], -1);
    }
    tokenizer *const t = load(BYTES);
    text_ends ends;
    *err = (graft_error){0};
    text_ends_read(folder, t, &ends, err);
    tokenizer_free(t);
    free(folder);
    return ends;
}

Test(samples, the_end_is_one_that_generation_stops_at) {
    static const struct {
        const char *tokenizer, *generation, *config;
        int32_t written, count;
    } cases[] = {
        {NULL,                                                      NULL,                           NULL,                                         -1,  0},
        {"{\"eos_token\": \"<pad>\"}",                              NULL,                           NULL,                                         257, 1},
        {"{\"eos_token\": {\"content\": \"<pad>\"}}",               NULL,                           "{\"eos_token_id\": [256, 257]}",             257, 2},
        {"{\"eos_token\": null}",                                   "{\"eos_token_id\": [65, 66]}", "{\"eos_token_id\": 256}",                    65,  2},
        {"{\"eos_token\": \"<pad>\"}",                              "{\"eos_token_id\": 65}",       NULL,                                         65,  2},
        {"{\"eos_token\": \"<none>\"}",                             NULL,                           "{\"text_config\": {\"eos_token_id\": 256}}", 256, 1},
        {"{\"model_max_length\": 1000000000000000019884624838656}", NULL,                           "{\"eos_token_id\": null}",                   -1,  0},
        {NULL,                                                      NULL,                           "{\"eos_token_id\": 999}",                    -1,  0},
        {NULL,                                                      NULL,                           "{\"eos_token_id\": -1}",                     -1,  0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err;
        const text_ends e = read_ends(cases[i].tokenizer, cases[i].generation, cases[i].config, &err);
        cr_expect(err.code == 0 && e.written == cases[i].written && e.count == cases[i].count, "case %zu: %d of %d %s",
                  i, e.written, e.count, err.text);
    }
}

Test(samples, an_end_that_is_no_token_is_an_error) {
    graft_error err;
    read_ends("{\"eos_token\": 7}", NULL, NULL, &err);
    cr_expect_not_null(strstr(err.text, "tokenizer_config.json: \"eos_token\" must be a text"), "%s", err.text);
    read_ends(NULL, NULL, "{\"eos_token_id\": [256, 1.5]}", &err);
    cr_expect_not_null(strstr(err.text, "config.json: \"eos_token_id\" must be a token number"), "%s", err.text);
    read_ends(NULL, NULL, "[]", &err);
    cr_expect_not_null(strstr(err.text, "config.json must hold a JSON object"), "%s", err.text);
}
