/* Damaged and hostile tokenizer files: an error that names the file and what is wrong, or a tokenizer that works; never a
 * crash, never a hang, whatever text it is given afterwards. */
#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "text/tokenizer.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA SOURCE_DIR "/tests/golden/data/tokenizers/"

/* A file of this text; the path is owned by the caller. */
static char *write_file(const char *text, int64_t size) {
    char *const path = mem_copy_text("/tmp/graft-tokenizer-XXXXXX");
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, (size_t)size), size);
    close(fd);
    return path;
}

static int load_text(const char *text, int64_t size, tokenizer **out, graft_error *err) {
    char *const path = write_file(text, size);
    const int rc = tokenizer_load(path, out, err);
    if (rc) cr_assert_not_null(strstr(err->text, path), "the error does not name the file: %s", err->text);
    unlink(path);
    free(path);
    return rc;
}

static void refuse(const char *json, const char *want) {
    tokenizer *t;
    graft_error err = {0};
    cr_assert_eq(load_text(json, (int64_t)strlen(json), &t, &err), GRAFT_FAILED, "it was accepted: %s", json);
    cr_assert_null(t);
    cr_assert_not_null(strstr(err.text, want), "\"%s\" is not in \"%s\"", want, err.text);
}

/* Encodes and decodes; errors are fine. */
static void use(const tokenizer *t) {
    static const char text[] =
        "Hello  world\n\n \xC3\xA9\xCC\x81 \xED\x95\x9C\xEA\xB5\xAD 123 <s>\xFF\xC0 \xF0\x9F\x8E\x88 aaaa\xE2\x96\x81";
    tokenizer_encoding e = {0};
    strbuf out = {0};
    for (int special = 0; special < 2; special++) {
        graft_error err = {0};
        if (tokenizer_encode(t, text, sizeof text - 1, special, &e, &err) == 0) {
            for (int64_t i = 0; i < e.count; i++) {
                cr_assert(e.ids[i] >= 0 && e.ids[i] < tokenizer_vocab_size(t));
                cr_assert(e.begin[i] >= 0 && e.begin[i] <= e.end[i] && e.end[i] < (int64_t)sizeof text);
            }
            tokenizer_decode(t, e.ids, e.count, special, &out, &err);
            tokenizer_encoding_characters(&e, text, sizeof text - 1);
        } else {
            cr_assert_neq(err.text[0], '\0');
        }
    }
    for (int32_t id = -2; id < 300; id++)
        tokenizer_decode(t, &id, 1, 0, &out, NULL);
    strbuf_free(&out);
    tokenizer_encoding_free(&e);
}

static void try(const char *text, int64_t size) {
    tokenizer *t;
    graft_error err = {0};
    if (load_text(text, size, &t, &err)) return;
    use(t);
    tokenizer_free(t);
}

/* ---- what is missing or is not a tokenizer ---- */

Test(hostile, a_folder_without_the_file_and_a_missing_file_are_named) {
    tokenizer *t;
    graft_error err = {0};
    cr_assert_eq(tokenizer_load("/tmp", &t, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "/tmp has no tokenizer.json"), "%s", err.text);
    err = (graft_error){0};
    cr_assert_eq(tokenizer_load("/tmp/there/is/no/such.json", &t, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "/tmp/there/is/no/such.json"), "%s", err.text);
}

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

Test(hostile, each_wrong_part_is_named) {
    refuse("", "not valid JSON");
    refuse("[]", "no object");
    refuse("{}", "\"model\"");
    refuse("{\"version\":\"2.0\"," MODEL "}", "\"version\" is \"2.0\"");
    refuse("{\"version\":1.0," MODEL "}", "version");
    refuse("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "no model of type \"WordPiece\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", "no object \"vocab\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "no list \"merges\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "token \"a\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", "token \"a\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967295},\"merges\":[]}}", "below 16777216");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":7,\"b\":7},\"merges\":[]}}", "same id 7");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "duplicate");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[3]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"q\"]]}}",
           "\"q\" is not in the vocabulary");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\"]]}}", "its result \"aa\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"\",\"a\"]]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"continuing_subword_prefix\":\"##\",\"merges\":[["
           "\"a\",\"b\"]]}}",
           "prefix");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":\"yes\"}}",
           "byte_fallback");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", "no list \"vocab\"");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", "piece 0");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]]}}", "piece 0");
    refuse("{\"model\":{\"type\":\"Unigram\",\"unk_id\":5,\"vocab\":[[\"a\",1]]}}", "unk_id");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,},\"merges\":[]}}", "not valid JSON");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\" 0},\"merges\":[]}}", "not valid JSON");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":0},\"merges\":[]}}", "not valid JSON");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", "merge 0");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[}}", "not valid JSON");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}", "not valid JSON");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",1e999]]}}", "not valid JSON");
    refuse("{\"added_tokens\":{}," MODEL "}", "added_tokens");
    refuse("{\"added_tokens\":[4]," MODEL "}", "added token 0");
    refuse("{\"added_tokens\":[{\"id\":3}]," MODEL "}", "content");
    refuse("{\"post_processor\":{\"type\":\"TemplateProcessing\"}," MODEL "}", "\"single\"");
    refuse(
        "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}]}," MODEL
        "}",
        "\"<s>\"");
    refuse("{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"
           "\"Sequence\":{\"id\":\"A\"}}]}," MODEL "}",
           "one Sequence A");
    refuse("{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\",-4],\"cls\":[\"y\",0]}," MODEL "}",
           "id of a special token");
    refuse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}," MODEL "}",
           "empty text");
    refuse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"x\"}," MODEL "}", "pattern");
    refuse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"x\"}," MODEL "}",
           "does not compile");
    refuse("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Sideways\"}," MODEL
           "}",
           "behavior");
    refuse("{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," MODEL "}", "one character");
    refuse("{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}," MODEL
           "}",
           "contradicts");
    refuse("{\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}," MODEL "}", "negative");
    refuse("{\"decoder\":\"ByteLevel\"," MODEL "}", "decoder is not an object");
}

Test(hostile, components_that_graft_does_not_have_are_named_with_those_it_has) {
    static const char *const parts[][3] = {
        {"normalizer",     "normalizer",     "Precompiled"     },
        {"normalizer",     "normalizer",     "BertNormalizer"  },
        {"normalizer",     "normalizer",     "Nmt"             },
        {"normalizer",     "normalizer",     "StripAccents"    },
        {"pre_tokenizer",  "pre-tokenizer",  "BertPreTokenizer"},
        {"pre_tokenizer",  "pre-tokenizer",  "UnicodeScripts"  },
        {"decoder",        "decoder",        "WordPiece"       },
        {"decoder",        "decoder",        "CTC"             },
        {"post_processor", "post-processor", "Other"           },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char json[400], want[100];
        snprintf(json, sizeof json, "{\"%s\":{\"type\":\"%s\"}," MODEL "}", parts[i][0], parts[i][2]);
        snprintf(want, sizeof want, "no %s of type \"%s\" (it has Sequence", parts[i][1], parts[i][2]);
        refuse(json, want);
    }
}

Test(hostile, expressions_that_two_engines_read_differently_are_refused) {
    static const char *const regexes[] = {
        "[a[b]]",        "[a&&b]",      "\\\\R",       "\\\\X",          "\\\\G", "\\\\K", "\\\\1", "(?<n>a)", "(?x)a",
        "a(?i)b",        "(*FAIL)",     "\\\\p{Nope}", "\\\\pL",         "[a",    "(a",    "a)",    "\\\\",    "[]a]",
        "\\\\x{110000}", "\\\\x{D800}", "(?i:stop)",   "(?i:\\\\p{Lu})", "\\\\c", "*a",
    };
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        char json[400];
        snprintf(
            json, sizeof json,
            "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}," MODEL
            "}",
            regexes[i]);
        refuse(json, "regular expression");
    }
}

/* ---- what would take forever or fill the memory ---- */

static tokenizer *accept(const char *json) {
    tokenizer *t;
    graft_error err = {0};
    cr_assert_eq(load_text(json, (int64_t)strlen(json), &t, &err), 0, "%s", err.text);
    return t;
}

Test(hostile, a_pattern_that_backtracks_without_end_is_an_error) {
    tokenizer *const t = accept(
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+$\"},\"behavior\":\"Isolated\"}," MODEL
        "}");
    char text[200];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 'b';
    tokenizer_encoding e = {0};
    graft_error err = {0};
    cr_assert_eq(tokenizer_encode(t, text, sizeof text, 1, &e, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, "match limit"), "%s", err.text);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
}

static char *nested(const char *part, const char *list, int depth) {
    strbuf b = {0};
    strbuf_printf(&b, "{\"%s\":", part);
    for (int i = 0; i < depth; i++)
        strbuf_printf(&b, "{\"type\":\"Sequence\",\"%s\":[", list);
    for (int i = 0; i < depth; i++)
        strbuf_puts(&b, "]}");
    strbuf_puts(&b, "," MODEL "}");
    return b.text;
}

Test(hostile, sequences_inside_sequences_end_somewhere) {
    static const char *const parts[][2] = {
        {"normalizer",     "normalizers"  },
        {"pre_tokenizer",  "pretokenizers"},
        {"post_processor", "processors"   },
        {"decoder",        "decoders"     }
    };
    for (int i = 0; i < 4; i++) {
        char *const deep = nested(parts[i][0], parts[i][1], 100), *const flat = nested(parts[i][0], parts[i][1], 10);
        refuse(deep, "nested");
        tokenizer_free(accept(flat));
        free(deep);
        free(flat);
    }
}

static char *repeated(const char *before, const char *part, int times, const char *after) {
    strbuf b = {0};
    strbuf_puts(&b, before);
    for (int i = 0; i < times; i++)
        strbuf_printf(&b, "%s%s", i ? "," : "", part);
    strbuf_puts(&b, after);
    return b.text;
}

Test(hostile, steps_that_double_the_text_are_stopped) {
    char *const json[] = {
        repeated("{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[",
                 "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}", 60, "]}," MODEL "}"),
        repeated("{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[",
                 "{\"type\":\"ByteLevel\",\"use_regex\":false,\"add_prefix_space\":true}", 60, "]}," MODEL "}"),
        repeated("{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[",
                 "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}", 60, "]}," MODEL "}"),
    };
    static const char text[] = "ab \xC3\xA9";
    for (int i = 0; i < 3; i++) {
        tokenizer *const t = accept(json[i]);
        tokenizer_encoding e = {0};
        strbuf out = {0};
        graft_error err = {0};
        const int32_t id = 0;
        const int rc = i < 2 ? tokenizer_encode(t, text, sizeof text - 1, 1, &e, &err)
                             : tokenizer_decode(t, &id, 1, 0, &out, &err);
        cr_assert_eq(rc, GRAFT_FAILED, "part %d", i);
        cr_assert_not_null(strstr(err.text, "too long"), "%s", err.text);
        strbuf_free(&out);
        tokenizer_encoding_free(&e);
        tokenizer_free(t);
        free(json[i]);
    }
}

/* One word of 4 MB, for the heap; white space of 1 MB, for added tokens that swallow it. */
Test(hostile, long_words_and_long_spaces_take_no_more_than_their_length) {
    tokenizer *const t = accept(
        "{\"added_tokens\":[{\"id\":3,\"content\":\" \",\"lstrip\":true,\"rstrip\":true,\"normalized\":false}]," MODEL
        "}");
    enum { LONG = 4 << 20 };
    char *const text = mem_new(LONG + 1, 1);
    tokenizer_encoding e = {0};
    graft_error err = {0};
    for (int i = 0; i < LONG; i++)
        text[i] = i % 2 ? 'b' : 'a';
    cr_assert_eq(tokenizer_encode(t, text, LONG, 0, &e, &err), 0, "%s", err.text);
    cr_assert_eq(e.count, LONG / 2);
    memset(text, ' ', LONG);
    cr_assert_eq(tokenizer_encode(t, text, LONG, 0, &e, &err), 0, "%s", err.text);
    cr_assert_eq(e.count, 1);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
    free(text);
}

/* ---- damage ---- */

static const char *const samples[] = {DATA "flags/tokenizer.json", DATA "unigram/tokenizer.json",
                                      DATA "llama2/tokenizer.json"};

static char *read_sample(int which, int64_t *size) {
    char *text;
    graft_error err = {0};
    cr_assert_eq(file_read(samples[which], 1 << 24, &text, size, &err), 0, "%s", err.text);
    return text;
}

Test(hostile, a_file_that_was_cut_off_is_an_error) {
    for (int i = 0; i < 3; i++) {
        int64_t size;
        char *const text = read_sample(i, &size);
        while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' '))
            size--;
        for (int64_t keep = 0; keep < size; keep += 1 + keep / 8) {
            tokenizer *t;
            graft_error err = {0};
            cr_assert_eq(load_text(text, keep, &t, &err), GRAFT_FAILED, "%s cut after %lld bytes", samples[i],
                         (long long)keep);
        }
        free(text);
    }
}

Test(hostile, damaged_bytes_never_crash) {
    for (int i = 0; i < 3; i++) {
        int64_t size;
        char *const text = read_sample(i, &size);
        for (uint64_t round = 0; round < 150; round++) {
            char *const copy = mem_new((size_t)size + 1, 1);
            memcpy(copy, text, (size_t)size);
            for (uint64_t k = 0; k < 1 + round % 4;
                 k++) { /* half of the damage near the begin and end: the components */
                const uint64_t bits = philox_bits(7, (uint64_t)i, round * 8 + k);
                const int64_t near = size < 3000 ? size : 3000;
                const int64_t at = bits & 1   ? (int64_t)(bits >> 8) % size
                                   : bits & 2 ? (int64_t)((bits >> 8) % (uint64_t)near)
                                              : size - 1 - (int64_t)((bits >> 8) % (uint64_t)near);
                copy[at < 0 ? -at : at] = "\"{}[],:0a\\e9\xFF -ntu"[bits >> 3 & 15];
            }
            try(copy, size);
            free(copy);
        }
        free(text);
    }
}

static json_t *value_of_kind(int kind) {
    switch (kind) {
    case 0:
        return json_null();
    case 1:
        return json_true();
    case 2:
        return json_integer(-1);
    case 3:
        return json_integer(INT64_MAX);
    case 4:
        return json_real(1e308);
    case 5:
        return json_string("");
    case 6:
        return json_string("\xF0\x9F\x8E\x88");
    case 7:
        return json_array();
    default:
        return json_object();
    }
}

/* Replaces, one after the other, every value below `node` by one of every kind, and takes it away. `budget` bounds how many
 * members of one list or object are treated so. */
static void replace_values(json_t *root, json_t *node, int budget) {
    for (size_t i = 0; json_is_array(node) && i < json_array_size(node) && (int)i < budget; i++) {
        json_t *const old = json_incref(json_array_get(node, i));
        replace_values(root, old, budget);
        for (int kind = 0; kind < 9; kind++) {
            json_array_set_new(node, i, value_of_kind(kind));
            char *const text = json_dumps(root, JSON_COMPACT);
            try(text, (int64_t)strlen(text));
            free(text);
        }
        json_array_set_new(node, i, old);
    }
    if (!json_is_object(node)) return;
    int done = 0;
    for (void *at = json_object_iter(node); at && done < budget; at = json_object_iter_next(node, at), done++) {
        json_t *const old = json_incref(json_object_iter_value(at));
        replace_values(root, old, budget);
        for (int kind = 0; kind < 9; kind++) {
            json_object_iter_set_new(node, at, value_of_kind(kind));
            char *const text = json_dumps(root, JSON_COMPACT);
            try(text, (int64_t)strlen(text));
            free(text);
        }
        json_object_iter_set_new(node, at, old);
    }
}

Test(hostile, values_of_another_kind_never_crash) {
    static const char *const files[] = {
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"single_word\":true,\"lstrip\":true,"
        "\"rstrip\":true,\"normalized\":true,"
        "\"special\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
        "\"Replace\",\"pattern\":{\"Regex\":\" +\"},"
        "\"content\":\"_\"},{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":\"Strip\",\"strip_left\":true,\"strip_"
        "right\":true},{\"type\":\"Lowercase\"}]},"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\"_\"}"
        ",\"behavior\":\"MergedWithNext\","
        "\"invert\":false},{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"Metaspace\",\"replacement\":\"_"
        "\",\"prepend_scheme\":\"first\",\"split\":true},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}]},"
        "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
        "\"trim_offsets\":true},"
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{"
        "\"id\":\"A\",\"type_id\":0}}],"
        "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[9],\"tokens\":[\"<s>\"]}}}]},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},"
        "\"content\":\" \"},{\"type\":\"ByteFallback\"},"
        "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
        "\",\"start\":1,\"stop\":1},{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}]},"
        "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":\"\",\"end_"
        "of_word_suffix\":\"\",\"fuse_unk\":true,"
        "\"byte_fallback\":true,\"ignore_merges\":true,\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"ab\":3,\"<0x41>\":4},"
        "\"merges\":[[\"a\",\"b\"]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<unk>\",0.0],[\"a\",-1.5],["
        "\"ab\",-2.0],[\"<0x41>\",-3.0]]},"
        "\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"},\"post_processor\":{\"type\":"
        "\"RobertaProcessing\",\"sep\":[\"a\",1],\"cls\":[\"b\",2],"
        "\"trim_offsets\":true,\"add_prefix_space\":true},\"decoder\":null}",
    };
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        json_t *root;
        cr_assert_eq(json_read_text(files[i], strlen(files[i]), "sample", 0, &root, &err), 0, "%s", err.text);
        tokenizer_free(accept(files[i]));
        replace_values(root, root, 20);
        json_decref(root);
    }
}
