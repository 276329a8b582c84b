/* tokenizer — loading, and the look-ups. tokenizer-encode.c has the way from text to ids. */
#include "text/tokenizer.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer-private.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static int load_parts(tokenizer *t, json_t *root, graft_error *err) {
    const char *version;
    if (!json_is_object(root)) return fail(err, GRAFT_FAILED, "not a tokenizer: it holds no object");
    int rc = json_get_text(root, "the tokenizer", "version", "1.0", &version, err);
    if (!rc && strcmp(version, "1.0") != 0)
        rc = fail(err, GRAFT_FAILED, "\"version\" is \"%s\", graft reads 1.0", version);
    if (!rc) rc = normalizer_load(json_object_get(root, "normalizer"), &t->normalizer, err);
    if (!rc) rc = pretokenizer_load(json_object_get(root, "pre_tokenizer"), &t->pretokenizer, err);
    if (!rc) rc = postprocessor_load(json_object_get(root, "post_processor"), &t->postprocessor, err);
    if (!rc) rc = decoder_load(json_object_get(root, "decoder"), &t->decoder, err);
    if (!rc) rc = token_model_load(json_object_get(root, "model"), &t->model, err);
    if (!rc)
        rc = added_load(json_object_get(root, "added_tokens"), token_model_vocab(t->model), t->normalizer, &t->added,
                        err);
    return rc;
}

int tokenizer_load(const char *folder_or_file, tokenizer **out, graft_error *err) {
    const int folder = file_is_folder(folder_or_file);
    char *const path = folder ? path_join(folder_or_file, "tokenizer.json") : mem_copy_text(folder_or_file);
    json_t *root = NULL;
    tokenizer *t = NULL;
    *out = NULL;
    int rc = 0;
    if (folder && !file_exists(path))
        rc = fail(err, GRAFT_FAILED, "%s has no tokenizer.json, the one tokenizer file that graft reads",
                  folder_or_file);
    if (!rc) rc = json_read_file(path, 0, &root, err);
    if (rc) goto done;
    t = mem_new(1, sizeof *t);
    rc = load_parts(t, root, err);
    if (rc) {
        fail_within(err, "%s", path);
        goto done;
    }
    t->maps_bytes = pretokenizer_leave_bytes(t->pretokenizer);
    *out = t, t = NULL;
done:
    tokenizer_free(t);
    if (root) {
        json_decref(root);
        malloc_trim(0); /* a large file has left much free memory behind */
    }
    free(path);
    return rc;
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
    int dropped = 0;
    const char *token = added_shown(s->tokenizer->added, id, &length, &dropped);
    if (!token) token = vocab_text(token_model_vocab(s->tokenizer->model), id, &length);
    if (!token || (s->skip_special && dropped)) return 0;
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
