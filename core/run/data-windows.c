/* data-windows — see data-windows.h. */
#include "run/data-windows.h"
#include "text/datafile.h"
#include "text/tokenizer.h"
#include <stdlib.h>

enum { TEXT_MOST = 256 << 20 };

typedef struct {
    data_source source;
    tokenizer_encoding tokens;
    int64_t context, stride;
} windows;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int fetch_eval(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    const windows *const w = (windows *)s;
    for (int64_t i = first; i < first + count; i++) {
        const int64_t begin = i * w->stride, end = least(begin + w->context, w->tokens.count);
        const int64_t before = i ? least(begin - w->stride + w->context, w->tokens.count) : 0;
        int32_t *const labels = arena_new(&out->memory, (size_t)(end - begin), sizeof *labels);
        for (int64_t t = begin; t < end; t++)
            labels[t - begin] = t < before ? LABEL_NONE : w->tokens.ids[t];
        *sequence_list_add(out) = (sequence){.tokens = end - begin, .ids = w->tokens.ids + begin, .labels = labels};
    }
    return err->code;
}

static void close_windows(data_source *s) {
    windows *const w = (windows *)s;
    tokenizer_encoding_free(&w->tokens);
    free(w);
}

static int encode(windows *w, const datafile *f, const char *model_folder, graft_error *err) {
    const int64_t bytes = f->size - f->begin;
    tokenizer *words = NULL;
    if (bytes > TEXT_MOST)
        return fail(err, GRAFT_FAILED, "%s: %lld bytes; at most %d are read as one text", f->path, (long long)bytes,
                    TEXT_MOST);
    char *const text = mem_new((size_t)bytes + 1, 1);
    if (datafile_read(f, f->begin, bytes, text, err) == GRAFT_OK &&
        tokenizer_load(model_folder, &words, err) == GRAFT_OK)
        tokenizer_encode(words, text, bytes, 1, &w->tokens, err);
    tokenizer_free(words);
    free(text);
    if (!err->code && w->tokens.count < 2)
        fail(err, GRAFT_USAGE, "%s: a text of %lld tokens; at least 2 are needed to predict one", f->path,
             (long long)w->tokens.count);
    return err->code;
}

int data_windows_open(const char *path, const char *model_folder, int64_t context, int64_t stride, data_source **out,
                      graft_error *err) {
    windows *const w = mem_new(1, sizeof *w);
    datafile f;
    *out = NULL;
    *w = (windows){
        .source = {.fetch_eval = fetch_eval, .close = close_windows},
          .context = context, .stride = stride
    };
    if (datafile_open(path, &f, err) == GRAFT_OK) {
        encode(w, &f, model_folder, err);
        datafile_close(&f);
    }
    if (err->code) {
        close_windows(&w->source);
        return err->code;
    }
    const int64_t behind = w->tokens.count - context;
    w->source.longest = w->source.longest_document = least(context, w->tokens.count);
    w->source.documents = 1;
    w->source.eval_count = behind > 0 ? 1 + (behind + stride - 1) / stride : 1;
    *out = &w->source;
    return GRAFT_OK;
}
