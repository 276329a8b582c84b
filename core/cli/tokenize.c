/* graft tokenize — ids of texts, and back; a door for scripts and tests. */
#include "base/json.h"
#include "cli/cli.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>

enum { NO_SPECIAL = 256, OFFSETS, DECODE };
typedef struct {
    int no_special, offsets, decode;
} flags;

static int own(void *context, int val, const char *text) {
    flags *f = context;
    (void)text;
    f->no_special |= val == NO_SPECIAL;
    f->offsets |= val == OFFSETS;
    f->decode |= val == DECODE;
    return GRAFT_OK;
}

static int encode_line(const tokenizer *t, const flags *f, const json_t *text, tokenizer_encoding *e,
                       graft_error *err) {
    if (!json_is_string(text)) return fail(err, GRAFT_FAILED, "must be a JSON string");
    const char *bytes = json_string_value(text);
    const int64_t length = (int64_t)json_string_length(text);
    if (tokenizer_encode(t, bytes, length, !f->no_special, e, err)) return err->code;
    if (f->offsets) tokenizer_encoding_characters(e, bytes, length);
    fputs(f->offsets ? "{\"ids\": [" : "[", stdout);
    for (int64_t i = 0; i < e->count; i++)
        printf("%s%d", i ? ", " : "", (int)e->ids[i]);
    if (f->offsets) {
        fputs("], \"offsets\": [", stdout);
        for (int64_t i = 0; i < e->count; i++)
            printf("%s[%lld, %lld]", i ? ", " : "", (long long)e->begin[i], (long long)e->end[i]);
    }
    puts(f->offsets ? "]}" : "]");
    return GRAFT_OK;
}

static int decode_line(const tokenizer *t, const flags *f, const json_t *list, graft_error *err) {
    const size_t count = json_array_size(list);
    if (!json_is_array(list)) return fail(err, GRAFT_FAILED, "must be a JSON array of ids");
    int32_t *ids = mem_new(count + 1, sizeof *ids);
    strbuf text = {0};
    for (size_t i = 0; i < count && !err->code; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            fail(err, GRAFT_FAILED, "element %zu is no token id", i);
        else
            ids[i] = (int32_t)json_integer_value(id);
    }
    if (!err->code && tokenizer_decode(t, ids, (int64_t)count, !f->no_special, &text, err) == GRAFT_OK) {
        json_t *value = json_stringn(text.text ? text.text : "", text.length);
        json_dumpf(value, stdout, JSON_ENCODE_ANY);
        putchar('\n');
        json_decref(value);
    }
    free(ids);
    strbuf_free(&text);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"no-special", no_argument, NULL, NO_SPECIAL},
        {"offsets",        no_argument, NULL, OFFSETS},
        {"decode",            no_argument, NULL, DECODE},
        {0}
    };
    cli_options o;
    flags f = {0};
    int first;
    graft_error err = {0};
    tokenizer *t = NULL;
    tokenizer_encoding e = {0};
    char *line = NULL;
    size_t capacity = 0;
    if (cli_parse(&command_tokenize, "", more, own, &f, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (tokenizer_load(words[first], &t, &err) == GRAFT_OK) {
        long number = 0;
        for (ssize_t length; !err.code && (length = getline(&line, &capacity, stdin)) > 0;) {
            json_t *value = NULL;
            char name[40];
            snprintf(name, sizeof name, "stdin line %ld", ++number);
            if (json_read_text(line, (size_t)length, name, JSON_DECODE_ANY, &value, &err) == GRAFT_OK) {
                if (f.decode)
                    decode_line(t, &f, value, &err);
                else
                    encode_line(t, &f, value, &e, &err);
                if (err.code) fail_within(&err, "%s", name);
            }
            json_decref(value);
        }
    }
    free(line);
    tokenizer_encoding_free(&e);
    tokenizer_free(t);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_tokenize = {
    "tokenize", "turn texts into token ids, or back",
    "usage: graft tokenize MODEL [--no-special] [--offsets] [--decode] < LINES\n\n"
    "MODEL is a model folder or a tokenizer.json. Each line of stdin is one JSON string; each line of stdout is the "
    "JSON\n"
    "array of its ids.\n\n"
    "  --no-special  leave out begin and end tokens (with --decode: keep special tokens in the text)\n"
    "  --offsets     print {\"ids\": [...], \"offsets\": [[begin, end], ...]} in characters\n"
    "  --decode      lines are arrays of ids, the output is JSON strings\n",
    run};
