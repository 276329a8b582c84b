/* bench-tokenize — how long a tokenizer takes to load, and how much text it encodes in a second of one core.
 *
 *   bench-tokenize TOKENIZER FILE...       TOKENIZER: a tokenizer.json or its folder; FILE: UTF-8 text
 * Text is encoded in pieces of 2,000 bytes that end with a line, as records are, with an encoding that begins empty in every
 * round. Prints one JSON line. Times are those of the process, not of the clock. */
#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PIECE = 2000 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t encode_all(const tokenizer *t, const char *text, int64_t size, graft_error *err) {
    tokenizer_encoding e = {0};
    int64_t tokens = 0;
    for (int64_t at = 0, end; at < size && !err->code; at = end) {
        end = size - at > PIECE ? at + PIECE : size;
        while (end < size && text[end - 1] != '\n')
            end++;
        if (tokenizer_encode(t, text + at, end - at, 0, &e, err) == GRAFT_OK) tokens += e.count;
    }
    tokenizer_encoding_free(&e);
    return tokens;
}

static int measure(const tokenizer *t, const char *path, graft_error *err) {
    char *text;
    int64_t size, tokens = 0;
    int rounds = 0;
    if (file_read(path, 1 << 30, &text, &size, err)) return err->code;
    const double begin = seconds();
    do {
        tokens = encode_all(t, text, size, err);
        rounds++;
    } while (seconds() - begin < 1 && !err->code);
    printf(", {\"file\": \"%s\", \"tokens\": %lld, \"mb_s\": %.1f}", path, (long long)tokens,
           (double)size * rounds / (seconds() - begin) / 1e6);
    free(text);
    return err->code;
}

int main(int count, char **words) {
    graft_error err = {0};
    tokenizer *t = NULL;
    if (count < 2) {
        fprintf(stderr, "usage: bench-tokenize TOKENIZER FILE...\n");
        return GRAFT_USAGE;
    }
    const double begin = seconds();
    if (tokenizer_load(words[1], &t, &err) == GRAFT_OK) {
        printf("[{\"load_ms\": %.1f, \"tokens\": %lld}", 1e3 * (seconds() - begin), (long long)tokenizer_vocab_size(t));
        for (int i = 2; i < count && !err.code; i++)
            measure(t, words[i], &err);
        printf("]\n");
    }
    tokenizer_free(t);
    if (err.code) fprintf(stderr, "error: %s\n", err.text);
    return err.code;
}
