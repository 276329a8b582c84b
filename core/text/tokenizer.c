/* tokenizer — loading, and the look-ups. tokenizer-encode.c has the way from text to ids. */
#include "text/tokenizer.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer-private.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

static int load_parts(tokenizer *t, json_t *root, token_lists lists, graft_error *err) {
    const char *version;
    if (!json_is_object(root)) return fail(err, GRAFT_FAILED, "not a tokenizer: it holds no object");
    int rc = json_get_text(root, "the tokenizer", "version", "1.0", &version, err);
    if (!rc && strcmp(version, "1.0") != 0)
        rc = fail(err, GRAFT_FAILED, "\"version\" is \"%s\", graft reads 1.0", version);
    if (!rc) rc = normalizer_load(json_object_get(root, "normalizer"), &t->normalizer, err);
    if (!rc) rc = pretokenizer_load(json_object_get(root, "pre_tokenizer"), &t->pretokenizer, err);
    if (!rc) rc = postprocessor_load(json_object_get(root, "post_processor"), &t->postprocessor, err);
    if (!rc) rc = decoder_load(json_object_get(root, "decoder"), &t->decoder, err);
    if (!rc) rc = token_model_load(json_object_get(root, "model"), lists, &t->model, err);
    if (!rc)
        rc = added_load(json_object_get(root, "added_tokens"), token_model_vocab(t->model), t->normalizer, &t->added,
                        err);
    return rc;
}

/* ---- the file without its long lists ---- */

/* Steps through the object at s to the end of the member called `name` (in quotes); where its value lies, or {NULL, NULL}. */
static jsonscan find_member(jsonscan s, const char *name) {
    if (!jsonscan_byte(&s, '{')) return (jsonscan){0};
    for (int first = 1; jsonscan_next(&s, '}', &first) > 0;) {
        const char *const key = s.at;
        if (*key != '"' || !jsonscan_skip(&s)) break;
        const int found = s.at - key == (ptrdiff_t)strlen(name) && memcmp(key, name, strlen(name)) == 0;
        jsonscan value = s;
        if (!jsonscan_byte(&value, ':')) break;
        value.at += strspn(value.at, " \t\n\r");
        s = value;
        if (!jsonscan_skip(&s)) break;
        if (found) return (jsonscan){value.at, s.at};
    }
    return (jsonscan){0};
}

/* Adds the text from *from up to a list, and an empty list in its place. */
static void leave_out(strbuf *out, char **from, const jsonscan *list) {
    strbuf_add(out, *from, (size_t)(list->at - *from));
    strbuf_puts(out, *list->at == '{' ? "{}" : "[]");
    *from = list->end;
}

/* Reads a tokenizer file: the lists of its model are found and not built (they are nearly all of the file), the rest is
 * *root. `text` is their memory. */
static int read_file(const char *path, char **text, token_lists *lists, json_t **root, graft_error *err) {
    enum { FILE_MOST = 1 << 30 };
    int64_t size;
    strbuf rest = {0};
    *root = NULL, *lists = (token_lists){0};
    if (file_read(path, FILE_MOST, text, &size, err)) return err->code;
    char *from = *text;
    if (utf8_valid(*text, size) == size) {
        const jsonscan model = find_member((jsonscan){*text, *text + size}, "\"model\"");
        lists->vocab = find_member(model, "\"vocab\"");
        lists->merges = find_member(model, "\"merges\"");
        const int swapped = lists->vocab.at > lists->merges.at;
        const jsonscan *const order[] = {swapped ? &lists->merges : &lists->vocab,
                                         swapped ? &lists->vocab : &lists->merges};
        for (int i = 0; i < 2; i++)
            if (order[i]->at) leave_out(&rest, &from, order[i]);
    }
    strbuf_add(&rest, from, (size_t)(*text + size - from));
    const int rc = json_read_text(rest.text, rest.length, path, 0, root, err);
    strbuf_free(&rest);
    return rc;
}

/* When the file is no JSON at all, says so, with line and column: what was found first may be a consequence. */
static void explain_damage(const char *path, graft_error *err) {
    json_t *whole = NULL;
    graft_error damage = {0};
    if (json_read_file(path, 0, &whole, &damage)) *err = damage;
    json_decref(whole);
}

int tokenizer_load(const char *folder_or_file, tokenizer **out, graft_error *err) {
    const int folder = file_is_folder(folder_or_file);
    char *const path = folder ? path_join(folder_or_file, "tokenizer.json") : mem_copy_text(folder_or_file);
    json_t *root = NULL;
    tokenizer *t = NULL;
    char *text = NULL;
    token_lists lists;
    *out = NULL;
    if (folder && !file_exists(path)) {
        fail(err, GRAFT_FAILED, "%s has no tokenizer.json, the one tokenizer file that graft reads", folder_or_file);
        goto done;
    }
    if (read_file(path, &text, &lists, &root, err)) goto done;
    t = mem_new(1, sizeof *t);
    if (load_parts(t, root, lists, err)) {
        fail_within(err, "%s", path);
        goto done;
    }
    t->maps_bytes = pretokenizer_leave_bytes(t->pretokenizer);
    *out = t, t = NULL;
done:
    if (err->code && text) explain_damage(path, err);
    tokenizer_free(t);
    json_decref(root);
    free(text);
    free(path);
    return err->code;
}

void tokenizer_free(tokenizer *t) {
    if (!t) return;
    normalizer_free(t->normalizer);
    pretokenizer_free(t->pretokenizer);
    postprocessor_free(t->postprocessor);
    decoder_free(t->decoder);
    token_model_free(t->model);
    added_free(t->added);
    free(t);
}

int64_t tokenizer_vocab_size(const tokenizer *t) {
    int64_t size = token_model_vocab(t->model)->count;
    if (added_ids(t->added) > size) size = added_ids(t->added);
    return postprocessor_ids(t->postprocessor) > size ? postprocessor_ids(t->postprocessor) : size;
}

int32_t tokenizer_id(const tokenizer *t, const char *token, int64_t length) {
    const tokenizer_added *const a = added_find(t->added, token, length);
    return a ? a->id : vocab_find(token_model_vocab(t->model), token, length);
}

const char *tokenizer_token(const tokenizer *t, int32_t id, int64_t *length) {
    const tokenizer_added *const a = added_of_id(t->added, id);
    if (!a) return vocab_text(token_model_vocab(t->model), id, length);
    if (length) *length = a->length;
    return a->content;
}

int tokenizer_is_special(const tokenizer *t, int32_t id) {
    const tokenizer_added *const a = added_of_id(t->added, id);
    return a && a->special;
}

int64_t tokenizer_added_count(const tokenizer *t) {
    return added_count(t->added);
}

const tokenizer_added *tokenizer_added_at(const tokenizer *t, int64_t index) {
    return added_at(t->added, index);
}

/* ---- decoding ---- */

struct tokenizer_stream {
    const tokenizer *tokenizer;
    int skip_special;
    decoding *decoding;
};

tokenizer_stream *tokenizer_stream_new(const tokenizer *t, int skip_special) {
    tokenizer_stream *const s = mem_new(1, sizeof *s);
    *s = (tokenizer_stream){t, skip_special, decoding_new(t->decoder)};
    return s;
}

int tokenizer_stream_push(tokenizer_stream *s, int32_t id, strbuf *out, graft_error *err) {
    int64_t length;
    const char *token = added_shown(s->tokenizer->added, id, &length);
    if (!token) token = vocab_text(token_model_vocab(s->tokenizer->model), id, &length);
    if (!token) return 0;
    const tokenizer_added *const same = s->skip_special ? added_find(s->tokenizer->added, token, length) : NULL;
    if (same && same->special) return 0;
    return decoding_push(s->decoding, token, length, out, err);
}

int tokenizer_stream_end(tokenizer_stream *s, strbuf *out, graft_error *err) {
    return decoding_end(s->decoding, out, err);
}

void tokenizer_stream_free(tokenizer_stream *s) {
    if (!s) return;
    decoding_free(s->decoding);
    free(s);
}

int tokenizer_decode(const tokenizer *t, const int32_t *ids, int64_t n, int skip_special, strbuf *out,
                     graft_error *err) {
    tokenizer_stream *const s = tokenizer_stream_new(t, skip_special);
    int rc = 0;
    for (int64_t i = 0; !rc && i < n; i++)
        rc = tokenizer_stream_push(s, ids[i], out, err);
    if (!rc) rc = tokenizer_stream_end(s, out, err);
    tokenizer_stream_free(s);
    return rc;
}
