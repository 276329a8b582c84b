/* settings — collecting and comparing. */
#include "run/settings.h"
#include "base/digest.h"
#include "base/file.h"
#include "formats/safetensors.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS = 256, BLOCK_BYTES = 4096 };

/* Keys that change no number of a run. */
static int is_left_out(const char *section, const char *key) {
    static const char *const names[] = {"model.path",
                                        "model.device",
                                        "data.path",
                                        "data.eval_path",
                                        "quantizer.state",
                                        "train.steps",
                                        "train.epochs",
                                        "train.log_every",
                                        "train.eval_every",
                                        "train.patience",
                                        "train.load_best",
                                        "train.save_every",
                                        "train.keep",
                                        "train.threads",
                                        "train.slice_tokens",
                                        "train.checkpoint_activations",
                                        "model.precision",
                                        "schedule.warmup_steps",
                                        "schedule.warmup_ratio",
                                        "output.path"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t length = strlen(section);
        if (strncmp(names[i], section, length) == 0 && names[i][length] == '.' &&
            strcmp(names[i] + length + 1, key) == 0)
            return 1;
    }
    return strncmp(section, "adapter", 7) == 0 && strcmp(key, "start") == 0; /* decides the beginning alone */
}

static void put_set(json_t *out, const char *section, const option_set *set) {
    for (int i = 0; i < set->count; i++) {
        if (is_left_out(section, set->rows[i].key)) continue;
        strbuf value = {0};
        char *const key = mem_format("%s.%s", section, set->rows[i].key);
        option_format(&set->rows[i], set->into, &value);
        json_object_set_new(out, key, json_string(value.text ? value.text : ""));
        free(key);
        strbuf_free(&value);
    }
}

int settings_fingerprint(const char *path, char hex[65], graft_error *err) {
    struct stat st;
    sha256 sum;
    char block[BLOCK_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        fail(err, GRAFT_FAILED, "cannot read %s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return err->code;
    }
    const int64_t size = st.st_size, step = size / BLOCKS > BLOCK_BYTES ? size / BLOCKS : BLOCK_BYTES;
    sha256_begin(&sum);
    sha256_add(&sum, &size, sizeof size);
    for (int64_t at = 0; at < size; at += step) {
        const ssize_t got = pread(fd, block, sizeof block, at);
        if (got > 0) sha256_add(&sum, block, (size_t)got);
    }
    sha256_end(&sum, hex);
    close(fd);
    return GRAFT_OK;
}

int settings_weights(const char *folder, char hex[65], graft_error *err) {
    safetensors *files = NULL;
    sha256 sum;
    if (weights_open(folder, &files, err)) return err->code;
    sha256_begin(&sum);
    for (int i = 0; i < safetensors_shards(files) && !err->code; i++)
        if (settings_fingerprint(safetensors_path(files, i), hex, err) == GRAFT_OK) sha256_add(&sum, hex, 64);
    sha256_end(&sum, hex);
    safetensors_close(files);
    return err->code;
}

int settings_make(const recipe *r, const session *s, data_source *d, int64_t slice_rows, json_t **out,
                  graft_error *err) {
    char hex[65] = "";
    *out = json_object();
    for (int32_t i = 0; i < r->section_count; i++) {
        const recipe_section *const section = &r->sections[i];
        put_set(*out, section->title, &section->core);
        put_set(*out, section->title, &section->own);
        if (!section->use || !section->use->component) continue;
        char *const key = mem_format("%s.version", section->title);
        json_object_set_new(*out, key, json_string(section->use->component->version));
        free(key);
    }
    json_object_set_new(*out, "model.activations", json_string(dtype_name(s->activation)));
    json_object_set_new(*out, "train.slice_tokens", json_sprintf("%lld", (long long)slice_rows));
    if (settings_weights(model_folder(s->model), hex, err) == GRAFT_OK)
        json_object_set_new(*out, "model.weights", json_string(hex));
    if (!err->code && r->quantizer.state && *r->quantizer.state) {
        settings_fingerprint(r->quantizer.state, hex, err);
        json_object_set_new(*out, "quantizer.state", json_string(hex));
    }
    if (d->date[0]) json_object_set_new(*out, "data.date", json_string(d->date));
    if (!err->code && d->digest(d, hex, err) == GRAFT_OK) json_object_set_new(*out, "data.content", json_string(hex));
    if (!err->code) return GRAFT_OK;
    json_decref(*out);
    *out = NULL;
    return err->code;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *const text = json_string_value(json_object_get(object, key));
    return text ? text : "nothing";
}

static void add_difference(strbuf *out, const char *key, const char *was, const char *is) {
    if (strcmp(was, is) == 0) return;
    const int digest = strlen(was) == 64 && strlen(is) == 64; /* their first digits tell them apart */
    strbuf_printf(out, "\n  %s: was %.*s, is %.*s", key, digest ? 12 : 200, was, digest ? 12 : 200, is);
}

int settings_compare(const json_t *was, const json_t *is, const char *what, graft_error *err) {
    strbuf differences = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)is, key, value)
        add_difference(&differences, key, text_of(was, key), json_string_value(value));
    json_object_foreach((json_t *)(uintptr_t)was, key, value) if (!json_object_get(is, key))
        add_difference(&differences, key, text_of(was, key), "nothing");
    if (differences.length)
        fail(err, GRAFT_USAGE,
             "%s was written with other settings, so the run cannot go on from it:%s\n"
             "give the old values, or begin anew with --overwrite",
             what, differences.text);
    strbuf_free(&differences);
    return err->code;
}
