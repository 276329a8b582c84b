/* What callers of the tokenizer rely on beside the ids of the goldens. */
#include "base/json.h"
#include "base/philox.h"
#include "text/normalize.h"
#include "text/pattern.h"
#include "text/token-model.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA SOURCE_DIR "/tests/golden/data/tokenizers/"

static tokenizer *load(const char *path) {
    graft_error err = {0};
    tokenizer *t;
    cr_assert_eq(tokenizer_load(path, &t, &err), 0, "%s", err.text);
    return t;
}

static tokenizer *load_text(const char *json) {
    char path[] = "/tmp/graft-tokenizer-XXXXXX";
    const int fd = mkstemp(path);
    cr_assert_eq(write(fd, json, strlen(json)), (ssize_t)strlen(json));
    close(fd);
    tokenizer *const t = load(path);
    unlink(path);
    return t;
}

static void encode(const tokenizer *t, const char *text, int64_t length, int special, tokenizer_encoding *e) {
    graft_error err = {0};
    cr_assert_eq(tokenizer_encode(t, text, length, special, e, &err), 0, "%s", err.text);
}

/* ---- UTF-8 ---- */

Test(utf8, ill_formed_parts_are_maximal) {
    static const struct {
        const char *bytes;
        int64_t length;
        int size;
        uint32_t code;
    } cases[] = {
        {"A",                1, 1, 'A'     },
        {"\xC3\xA9",         2, 2, 0xE9    },
        {"\xE2\x96\x81",     3, 3, 0x2581  },
        {"\xF0\x9F\x8E\x88", 4, 4, 0x1F388 },
        {"\xF4\x8F\xBF\xBF", 4, 4, 0x10FFFF},
        {"\xFF",             1, 1, UTF8_BAD},
        {"\x80",             1, 1, UTF8_BAD},
        {"\xC0\x80",         2, 1, UTF8_BAD}, /* overlong */
        {"\xE0\x80\x80",     3, 1, UTF8_BAD}, /* overlong */
        {"\xED\xA0\x80",     3, 1, UTF8_BAD}, /* surrogate */
        {"\xF4\x90\x80\x80", 4, 1, UTF8_BAD}, /* above U+10FFFF */
        {"\xE2\x82"
         "A",       3, 2, UTF8_BAD},
        {"\xF0\x9F\x8E"
         "A",       4, 3, UTF8_BAD},
        {"\xE2\x82",         2, 2, UTF8_CUT},
        {"\xF0",             1, 1, UTF8_CUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t code;
        cr_assert_eq(utf8_decode(cases[i].bytes, cases[i].length, &code), cases[i].size, "case %zu", i);
        cr_assert_eq(code, cases[i].code, "case %zu", i);
        char back[UTF8_MAX];
        if (code >= UTF8_CUT) continue;
        cr_assert_eq(utf8_encode(code, back), cases[i].size);
        cr_assert_eq(memcmp(back, cases[i].bytes, (size_t)cases[i].size), 0);
    }
}

/* ---- BPE against its definition ---- */

enum { LETTERS = 4, MERGES = 12, WORD = 40 };

typedef struct {
    char tokens[LETTERS + MERGES][WORD]; /* by id */
    int count;
    int left[MERGES], right[MERGES], made[MERGES], merges; /* by rank */
} toy;

static int token_of(const toy *v, const char *text) {
    for (int i = 0; i < v->count; i++)
        if (strcmp(v->tokens[i], text) == 0) return i;
    return -1;
}

static toy random_toy(uint64_t seed) {
    toy v = {.count = LETTERS};
    for (int i = 0; i < LETTERS; i++)
        v.tokens[i][0] = (char)('a' + i);
    for (int i = 0; i < MERGES; i++) {
        const int left = (int)(philox_bits(seed, 1, (uint64_t)i) % (uint64_t)v.count);
        const int right = (int)(philox_bits(seed, 2, (uint64_t)i) % (uint64_t)v.count);
        char made[2 * WORD];
        snprintf(made, sizeof made, "%s%s", v.tokens[left], v.tokens[right]);
        if (strlen(made) >= 8) continue;
        int duplicate = 0;
        for (int k = 0; k < v.merges; k++)
            duplicate |= v.left[k] == left && v.right[k] == right;
        if (duplicate) continue;
        if (token_of(&v, made) < 0) strcpy(v.tokens[v.count++], made);
        v.left[v.merges] = left, v.right[v.merges] = right, v.made[v.merges++] = token_of(&v, made);
    }
    return v;
}

/* Repeats: the adjacent pair of lowest rank, the leftmost among equals, becomes one. */
static int define(const toy *v, const char *word, int ids[WORD]) {
    int count = 0;
    for (; word[count]; count++)
        ids[count] = word[count] - 'a';
    for (;;) {
        int rank = v->merges, at = 0;
        for (int i = 0; i + 1 < count; i++)
            for (int k = 0; k < rank; k++)
                if (v->left[k] == ids[i] && v->right[k] == ids[i + 1]) rank = k, at = i;
        if (rank == v->merges) return count;
        ids[at] = v->made[rank];
        memmove(ids + at + 1, ids + at + 2, (size_t)(--count - at - 1) * sizeof *ids);
    }
}

static token_model *model_of(const toy *v) {
    json_t *const words = json_object(), *const merges = json_array();
    for (int i = 0; i < v->count; i++)
        json_object_set_new(words, v->tokens[i], json_integer(i));
    for (int i = 0; i < v->merges; i++)
        json_array_append_new(merges, json_pack("[ss]", v->tokens[v->left[i]], v->tokens[v->right[i]]));
    json_t *const node = json_pack("{s:s,s:s}", "type", "BPE", "unk_token", "a");
    char *const tokens = json_dumps(words, 0), *const list = json_dumps(merges, 0);
    const token_lists lists = {
        {tokens, tokens + strlen(tokens)},
        {list,   list + strlen(list)    }
    };
    token_model *m;
    graft_error err = {0};
    cr_assert_eq(token_model_load(node, lists, &m, &err), 0, "%s", err.text);
    free(tokens);
    free(list);
    json_decref(words);
    json_decref(merges);
    json_decref(node);
    return m;
}

static void random_word(uint64_t seed, char word[WORD]) {
    const int length = 1 + (int)(philox_bits(seed, 3, 0) % (WORD - 1));
    for (int i = 0; i < length; i++)
        word[i] = (char)('a' + philox_bits(seed, 4, (uint64_t)i) % LETTERS);
    word[length] = '\0';
}

Test(bpe, merges_are_those_of_the_definition_for_whole_words_and_for_their_cuts) {
    int cuts = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        const toy v = random_toy(seed);
        token_model *const m = model_of(&v);
        model_scratch scratch = {0};
        word_tokens whole = {0}, parts = {0};
        for (uint64_t k = 0; k < 10; k++) {
            char word[WORD];
            int want[WORD];
            random_word(seed * 10 + k, word);
            const int count = define(&v, word, want);
            const int64_t length = (int64_t)strlen(word);
            graft_error err = {0};
            whole.count = parts.count = 0;
            cr_assert_eq(token_model_encode(m, &scratch, word, length, &whole, &err), 0, "%s", err.text);
            for (int64_t begin = 0, end; begin < length; begin = end) {
                end = token_model_cut(m, word, begin, length);
                cuts += end < length;
                cr_assert_eq(token_model_encode(m, &scratch, word + begin, end - begin, &parts, &err), 0, "%s",
                             err.text);
            }
            cr_assert_eq(whole.count, count, "seed %llu \"%s\"", (unsigned long long)seed, word);
            cr_assert_eq(parts.count, count, "seed %llu \"%s\"", (unsigned long long)seed, word);
            int64_t place = 0;
            for (int i = 0; i < count; i++) {
                cr_assert_eq(whole.items[i].id, want[i], "seed %llu \"%s\"", (unsigned long long)seed, word);
                cr_assert_eq(parts.items[i].id, want[i], "seed %llu \"%s\"", (unsigned long long)seed, word);
                cr_assert_eq(whole.items[i].begin, place);
                place = whole.items[i].end;
            }
            cr_assert_eq(place, length);
        }
        free(whole.items);
        free(parts.items);
        model_scratch_free(&scratch);
        token_model_free(m);
    }
    cr_assert_gt(cuts, 1000);
}

Test(lists, merges_may_stand_before_the_vocabulary_and_texts_may_be_escaped) {
    tokenizer *const t =
        load_text("{\"model\": {\"merges\": [\"\\u0061 \\u00e9\", [\"\\u0000\", \"\\ud83c\\udf88\"]], \"x\": [{\"}\": "
                  "\"\\\"]\"}],"
                  "\"vocab\" : {\"a\":0, \"\\u00E9\":1,\"a\\u00e9\":2,\"\\u0000\":3, \"\\uD83C\\uDF88\" : 4,"
                  "\"\\u0000\\uD83C\\uDF88\":5}, \"type\":\"BPE\"}, \"version\":\"1.0\"}");
    static const char text[] = "a\xC3\xA9\0\xF0\x9F\x8E\x88";
    tokenizer_encoding e = {0};
    encode(t, text, sizeof text - 1, 0, &e);
    cr_assert_eq(e.count, 2);
    cr_assert_eq(e.ids[0], 2);
    cr_assert_eq(e.ids[1], 5);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

Test(lists, of_equal_pieces_the_last_one_counts) {
    tokenizer *const t = load_text("{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"b\",-1],"
                                   "[\"ab\",-1],[\"a\",-1.5],[\"b\",-9],[\"ab\",-3e0]]}}");
    tokenizer_encoding e = {0};
    encode(t, "abb", 3, 0, &e);
    cr_assert_eq(e.count, 2);
    cr_expect(e.ids[0] == 5 && e.ids[1] == 4);
    cr_expect_str_eq(tokenizer_token(t, 1, NULL), "b");
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

Test(decoding, what_spells_a_special_token_is_dropped_whatever_its_id) {
    tokenizer *const t =
        load_text("{\"added_tokens\":[{\"content\":\"<s>\",\"special\":true}],\"model\":{\"type\":\"Unigram\","
                  "\"vocab\":[[\"<s>\",0],[\"b\",-1],[\"<s>\",-1]]}}");
    static const int32_t ids[] = {0, 1, 2};
    strbuf text = {0};
    graft_error err = {0};
    cr_assert_eq(tokenizer_decode(t, ids, 3, 1, &text, &err), 0);
    cr_expect(text.length == 1 && text.text[0] == 'b');
    strbuf_free(&text);
    tokenizer_free(t);
}

/* ---- patterns ---- */

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define FIRST        "(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
#define LAST         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Letters that decide between alternatives, among all of ASCII and some that is not. */
static int64_t random_text(uint64_t seed, char *text, int64_t most) {
    static const char *const parts[] = {" ",
                                        " ",
                                        "\n",
                                        "\r",
                                        "\t",
                                        "'",
                                        "'",
                                        "s",
                                        "S",
                                        "ll",
                                        "LL",
                                        "re",
                                        "vE",
                                        "d",
                                        "a",
                                        "B",
                                        "1",
                                        "23",
                                        "!",
                                        ".",
                                        "  ",
                                        "\x0B",
                                        "\x1C",
                                        "_",
                                        "\xC2\xA0",
                                        "\xC3\xA9",
                                        "\xC5\xBF",
                                        "\xD9\xA3",
                                        "\xE2\x80\xA8",
                                        "\xED\x95\x9C",
                                        "\xCC\x81",
                                        "\xF0\x9F\x8E\x88"};
    const uint64_t count = philox_bits(seed, 1, 0) % 24, plain = philox_bits(seed, 2, 0) % 3;
    int64_t length = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t draw = philox_bits(seed, 3, i) >> 8;
        if (draw % 8 == 0)
            text[length++] = (char)(draw / 8 % 127 + 1);
        else
            length += snprintf(text + length, (size_t)(most - length), "%s", parts[draw / 8 % (plain ? 24 : 32)]);
    }
    return length;
}

/* A letter that only Unicode 15 knows switches to the longer classes; what stands in front of it is cut the same way. */
Test(patterns, short_classes_find_what_long_ones_find) {
    static const char *const sources[] = {CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                                          FIRST "{1,3}" LAST, FIRST LAST, "\\w+|\\b.|[\\p{Lu}\\p{M}]"};
    static const char letter[] = "\nx\xF0\xB1\x8D\x90"; /* U+31350 */
    for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
        pattern *p;
        pattern_scratch scratch = {0};
        graft_error err = {0};
        cr_assert_eq(pattern_regex(sources[k], (int64_t)strlen(sources[k]), &p, &err), 0, "%s", err.text);
        for (uint64_t seed = 0; seed < 20000; seed++) {
            char text[512];
            const int64_t length = random_text(seed, text, 256);
            memcpy(text + length, letter, sizeof letter - 1);
            pattern_walk a = {.pattern = p, .scratch = &scratch, .text = text, .length = length + 2}, b = a;
            b.length = length + (int64_t)sizeof letter - 1;
            int64_t begin[2], end[2];
            int more;
            while ((more = pattern_next(&a, &begin[0], &end[0], &err)) == 1 && end[0] <= length + 1) {
                cr_assert_eq(pattern_next(&b, &begin[1], &end[1], &err), 1);
                cr_assert(begin[0] == begin[1] && end[0] == end[1], "expression %zu, seed %llu: %.*s", k,
                          (unsigned long long)seed, (int)length, text);
            }
            cr_assert(more >= 0);
            if (more) { /* the last word, whose end is that letter */
                cr_assert_eq(pattern_next(&b, &begin[1], &end[1], &err), 1);
                cr_assert(k == 3 || (begin[0] == begin[1] && end[1] == b.length), "expression %zu, seed %llu: %.*s", k,
                          (unsigned long long)seed, (int)length, text);
            }
        }
        pattern_scratch_free(&scratch);
        pattern_free(p);
    }
}

/* ---- normalization ---- */

static void normalizes_to(const char *type, const char *in, const char *want) {
    json_t *const node = json_pack("{s:s}", "type", type);
    normalizer *n;
    text_workspace w = {0};
    graft_error err = {0};
    cr_assert_eq(normalizer_load(node, &n, &err), 0, "%s", err.text);
    view v = {in, NULL, (int64_t)strlen(in), 0};
    cr_assert_eq(normalizer_run(n, &w, &v, &err), 0, "%s", err.text);
    cr_assert(v.length == (int64_t)strlen(want) && memcmp(v.bytes, want, (size_t)v.length) == 0,
              "%s of \"%s\" is \"%.*s\"", type, in, (int)v.length, v.bytes);
    text_workspace_free(&w);
    normalizer_free(n);
    json_decref(node);
}

Test(normalform, forms_are_those_of_unicode_9) {
    normalizes_to("NFC", "e\xCC\x81", "\xC3\xA9");
    normalizes_to("NFD", "\xC3\xA9", "e\xCC\x81");
    normalizes_to("NFC", "e\xCC\x81\xCC\xA3", "\xE1\xBA\xB9\xCC\x81");            /* marks are ordered first */
    normalizes_to("NFC", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
    normalizes_to("NFC", "\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81");
    normalizes_to("NFC", "\xEA\xB0\x80\xE1\x86\xA7", "\xEA\xB0\x80\xE1\x86\xA7"); /* U+11A7 is no final */
    normalizes_to("NFKC", "\xEF\xAC\x81\xC2\xB2", "fi2");
    normalizes_to("NFC", "\xE2\x84\xA6", "\xCE\xA9");                 /* Ohm sign */
    normalizes_to("NFC", "\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"); /* excluded from composition */
    /* U+1E08F, combining class 230 since Unicode 15, does not move before U+0323, class 220 */
    normalizes_to("NFD", "a\xF0\x9E\x82\x8F\xCC\xA3", "a\xF0\x9E\x82\x8F\xCC\xA3");
    normalizes_to("Lowercase", "\xC4\xB0\xE1\xBA\x9E\xCE\xA3", "i\xCC\x87\xC3\x9F\xCF\x83");
}

/* ---- the tokenizer ---- */

Test(tokenizer, looks_up_tokens_ids_and_flags) {
    tokenizer *const t = load(DATA "flags/tokenizer.json");
    cr_assert_eq(tokenizer_vocab_size(t), 415);
    cr_assert_eq(tokenizer_id(t, "<l>", 3), 400);
    cr_assert_eq(tokenizer_id(t, "ing", 3), 289);
    cr_assert_eq(tokenizer_id(t, "no such token", 13), -1);
    int64_t length;
    cr_assert_str_eq(tokenizer_token(t, 404, &length), "<Norm>");
    cr_assert_eq(length, 6);
    cr_assert_null(tokenizer_token(t, 415, NULL));
    cr_assert_null(tokenizer_token(t, -1, NULL));
    cr_assert(tokenizer_is_special(t, 400) && !tokenizer_is_special(t, 289) && !tokenizer_is_special(t, 99999));
    cr_assert_eq(tokenizer_added_count(t), 16);
    const tokenizer_added *const first = tokenizer_added_at(t, 0);
    cr_assert(first->id == 400 && first->lstrip && !first->rstrip && first->special && !first->normalized);
    cr_assert_null(tokenizer_added_at(t, 16));
    tokenizer_free(t);
    tokenizer_free(NULL);
}

Test(tokenizer, the_empty_text_gives_what_the_template_adds) {
    tokenizer *const t = load(DATA "llama2/tokenizer.json");
    tokenizer_encoding e = {0};
    encode(t, "", 0, 1, &e);
    cr_assert(e.count == 1 && e.ids[0] == 1 && e.begin[0] == 0 && e.end[0] == 0);
    encode(t, "", 0, 0, &e);
    cr_assert_eq(e.count, 0);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

Test(tokenizer, offsets_of_invalid_utf8_point_into_the_text_as_given) {
    tokenizer *const t = load(DATA "qwen2/tokenizer.json");
    static const char text[] = "a\xE2\x82z\xFF\xFF"; /* a, one part of two bytes, z, two parts */
    tokenizer_encoding e = {0};
    encode(t, text, sizeof text - 1, 0, &e);
    cr_assert_gt(e.count, 4);
    cr_assert_eq(e.begin[0], 0);
    cr_assert_eq(e.end[e.count - 1], 6);
    for (int64_t i = 1; i < e.count; i++) {
        const int64_t begin = e.begin[i], end = e.end[i];
        cr_assert((begin == 1 && end == 3) || (begin == 3 && end == 4) || (begin >= 4 && end > begin && end <= 6),
                  "%lld..%lld", (long long)begin, (long long)end);
    }
    tokenizer_encoding_characters(&e, text, sizeof text - 1);
    cr_assert_eq(e.end[e.count - 1], 5);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

Test(tokenizer, an_encoding_can_change_its_tokenizer) {
    tokenizer *const a = load(DATA "qwen2/tokenizer.json"), *const b = load(DATA "flags/tokenizer.json");
    tokenizer_encoding alone = {0}, shared = {0};
    static const char text[] = "the same words again and again";
    for (int i = 0; i < 4; i++) {
        const tokenizer *const t = i % 2 ? b : a;
        encode(t, text, sizeof text - 1, 0, &shared);
        tokenizer_encoding_free(&alone);
        encode(t, text, sizeof text - 1, 0, &alone);
        cr_assert_eq(alone.count, shared.count);
        cr_assert_eq(memcmp(alone.ids, shared.ids, (size_t)alone.count * sizeof *alone.ids), 0);
    }
    tokenizer_encoding_free(&alone);
    tokenizer_encoding_free(&shared);
    tokenizer_free(a);
    tokenizer_free(b);
}

/* More words than the cache holds: it starts anew without a trace. */
Test(tokenizer, a_full_cache_changes_no_id) {
    tokenizer *const t = load(DATA "qwen2/tokenizer.json");
    tokenizer_encoding used = {0}, fresh = {0};
    for (uint64_t round = 0; round < 90; round++) {
        strbuf text = {0};
        for (uint64_t i = 0; i < 1000; i++)
            strbuf_printf(&text, " w%llx", (unsigned long long)philox_bits(1, round, i) >> 40);
        encode(t, text.text, (int64_t)text.length, 0, &used);
        if (round % 15 == 0) {
            tokenizer_encoding_free(&fresh);
            encode(t, text.text, (int64_t)text.length, 0, &fresh);
            cr_assert_eq(fresh.count, used.count);
            cr_assert_eq(memcmp(fresh.ids, used.ids, (size_t)fresh.count * sizeof *fresh.ids), 0);
        }
        strbuf_free(&text);
    }
    tokenizer_encoding_free(&used);
    tokenizer_encoding_free(&fresh);
    tokenizer_free(t);
}

typedef struct {
    const tokenizer *tokenizer;
    uint64_t sum;
} job;

static void *run_job(void *context) {
    job *const j = context;
    tokenizer_encoding e = {0};
    for (int round = 0; round < 200; round++) {
        char text[100];
        const int length =
            snprintf(text, sizeof text, "Round %d of \xEC\x95\x88\xEB\x85\x95 <|im_start|>x  y\n", round);
        graft_error err = {0};
        if (tokenizer_encode(j->tokenizer, text, length, 1, &e, &err)) return NULL;
        for (int64_t i = 0; i < e.count; i++)
            j->sum = j->sum * 31 + (uint64_t)e.ids[i];
    }
    tokenizer_encoding_free(&e);
    return NULL;
}

Test(tokenizer, threads_can_share_it) {
    tokenizer *const t = load(DATA "qwen2/tokenizer.json");
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    job jobs[THREADS], alone = {t, 0};
    run_job(&alone);
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){t, 0};
        pthread_create(&threads[i], NULL, run_job, &jobs[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(jobs[i].sum, alone.sum);
    }
    tokenizer_free(t);
}

Test(tokenizer, a_stream_holds_back_what_is_not_a_character_yet) {
    tokenizer *const t = load(DATA "qwen2/tokenizer.json");
    tokenizer_encoding e = {0};
    static const char balloon[] = "\xF0\x9F\x8E\x88";
    encode(t, balloon, 4, 0, &e);
    cr_assert_gt(e.count, 1);
    tokenizer_stream *const s = tokenizer_stream_new(t, 1);
    strbuf out = {0};
    for (int64_t i = 0; i < e.count; i++) {
        cr_assert_eq(out.length, 0);
        cr_assert_eq(tokenizer_stream_push(s, e.ids[i], &out, NULL), 0);
    }
    cr_assert(out.length == 4 && memcmp(out.text, balloon, 4) == 0);
    out.length = 0;
    cr_assert_eq(tokenizer_stream_push(s, e.ids[0], &out, NULL), 0);
    cr_assert_eq(out.length, 0);
    cr_assert_eq(tokenizer_stream_end(s, &out, NULL), 0);
    cr_assert(out.length == 3 && memcmp(out.text, "\xEF\xBF\xBD", 3) == 0);
    strbuf_free(&out);
    tokenizer_stream_free(s);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

/* ---- expressions ---- */

static void splits(const char *regex, const char *text, const char *want) {
    json_t *const root =
        json_pack("{s:{s:s,s:{s:s},s:s},s:{s:s,s:i,s:[[si]]}}", "pre_tokenizer", "type", "Split", "pattern", "Regex",
                  regex, "behavior", "Isolated", "model", "type", "Unigram", "unk_id", 0, "vocab", "?", 0);
    char *const json = json_dumps(root, 0);
    tokenizer *const t = load_text(json);
    tokenizer_encoding e = {0};
    strbuf got = {0};
    encode(t, text, (int64_t)strlen(text), 0, &e);
    for (int64_t i = 0; i < e.count; i++) {
        if (i) strbuf_puts(&got, "|");
        strbuf_add(&got, text + e.begin[i], (size_t)(e.end[i] - e.begin[i]));
    }
    cr_assert_str_eq(got.text, want, "%s", regex);
    strbuf_free(&got);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
    free(json);
    json_decref(root);
}

Test(pattern, expressions_find_what_the_reference_finds) {
    splits("\\s",
           "a\xE1\xA0\x8E"
           "b\xC2\x85"
           "c",
           "a\xE1\xA0\x8E"
           "b|\xC2\x85|c");                                       /* U+180E is no space, U+0085 is */
    splits("\\p{L}+", "\xF0\xB2\x8E\xAB-", "\xF0\xB2\x8E\xAB|-"); /* a letter of Unicode 15 */
    splits("\\p{N}{1,3}+", "1234567a", "1234567|a");              /* repeated, not possessive */
    splits("a{,2}", "aaab", "aa|a|b");
    splits("[^\\S\\n]+", "a \n b", "a| |\n| |b"); /* a negated part inside a class */
    splits("[^\\P{L}b]", "abc1", "a|b|c|1");
    splits("\\w+", "a\xC2\xB2 b", "a\xC2\xB2| |b"); /* Latin-1 fractions count outside brackets */
    splits("[\\w]+", "a\xC2\xB2 b", "a|\xC2\xB2 |b");
    splits("(?i:'s|'t)", "it's IT'S '\xC5\xBF", "it|'s| IT|'S| |'\xC5\xBF");
    splits("(?m:a.b)", "a\nb", "a\nb"); /* Ruby's m */
    splits("^.", "ab\ncd", "a|b\n|c|d");
    splits("\\bx", "ax x", "ax |x");
}
