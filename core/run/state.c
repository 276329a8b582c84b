/* state — the device's tensors to a file and back, and the trainer's numbers as JSON. */
#include "run/state.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Format 2 lies beside checksums (checkpoint.h), format 1 does not. */
enum { FORMAT_UNSEALED = 1, FORMAT = 2, BUFFER_BYTES = 4 << 20 };

/* ---- the list of tensors ---- */

typedef struct {
    tensor_out *list; /* data: dev */
    int64_t count, capacity;
    arena names;
} table;

static void add(table *t, const char *kind, const adapt_spec *spec, int32_t specs, const char *name, dtype type,
                int64_t count, void *data) {
    mem_reserve(t->list, t->count, t->capacity);
    const char *const full = specs > 1 ? arena_format(&t->names, "%s/%s/%s", kind, spec->name, name)
                                       : arena_format(&t->names, "%s/%s", kind, name);
    t->list[t->count++] = (tensor_out){.name = full, .dtype = type, .rank = 1, .shape = {count}, .data = data};
}

static void make_table(const run_tensors *r, table *t) {
    int32_t params, buffers;
    int64_t states;
    const adapt_param *const param = adapt_params(r->adapters, &params), *const buffer =
                                                                             adapt_buffers(r->adapters, &buffers);
    const optimizer_state *const state = optimizer_states(r->optimizer, &states);
    *t = (table){0};
    for (int32_t p = 0; p < params; p++)
        add(t, "parameters", &r->specs[param[p].spec], r->spec_count, param[p].name, r->device->real, param[p].count,
            param[p].data);
    for (int32_t b = 0; b < buffers; b++)
        add(t, "buffers", &r->specs[buffer[b].spec], r->spec_count, buffer[b].name,
            buffer[b].bits ? U8 : r->device->real, buffer[b].bits ? (buffer[b].count + 7) / 8 : buffer[b].count,
            buffer[b].data);
    for (int64_t s = 0; s < states; s++) {
        const adapt_param *const of = &param[state[s].param];
        add(t, state[s].slot, &r->specs[of->spec], r->spec_count, of->name, state[s].type, state[s].count,
            state[s].data);
    }
}

static void free_table(table *t) {
    free(t->list);
    arena_free(&t->names);
}

/* ---- tensors ---- */

static int write_tensors(const char *path, const run_tensors *r, graft_error *err) {
    table t;
    safetensors_writer *w = NULL;
    char *const buffer = mem_new(BUFFER_BYTES, 1);
    make_table(r, &t);
    if (safetensors_create(path, t.list, t.count, NULL, 0, &w, err)) goto done;
    for (int64_t i; !err->code && (i = safetensors_next(w)) >= 0;) {
        const int64_t bytes = t.list[i].shape[0] * dtype_bytes(t.list[i].dtype);
        for (int64_t at = 0; at < bytes && !err->code; at += BUFFER_BYTES) {
            const int64_t part = bytes - at < BUFFER_BYTES ? bytes - at : BUFFER_BYTES;
            r->device->download(r->device, buffer, (const char *)t.list[i].data + at, part);
            safetensors_put(w, buffer, part, err);
        }
    }
    if (err->code)
        safetensors_abandon(w);
    else
        safetensors_commit(w, err);
done:
    free(buffer);
    free_table(&t);
    return err->code;
}

static int read_tensor(const safetensors *st, const tensor_out *want, kernels *device, char *buffer, graft_error *err) {
    const tensor_info *info;
    if (safetensors_need(st, want->name, &info, err)) return err->code;
    if (info->dtype != want->dtype || info->count != want->shape[0]) {
        char *const has = tensor_describe(info);
        fail(err, GRAFT_FAILED, "%s: %s is %s, but this run needs %s [%lld]", safetensors_name(st), want->name, has,
             dtype_name(want->dtype), (long long)want->shape[0]);
        free(has);
        return err->code;
    }
    for (int64_t at = 0; at < info->bytes && !err->code; at += BUFFER_BYTES) {
        const int64_t part = info->bytes - at < BUFFER_BYTES ? info->bytes - at : BUFFER_BYTES;
        if (safetensors_read_part(st, info, at, part, buffer, err) == GRAFT_OK)
            device->upload(device, (char *)(uintptr_t)want->data + at, buffer, part);
    }
    return err->code;
}

int state_read_tensors(const char *folder, const run_tensors *r, graft_error *err) {
    char *const path = path_join(folder, "state.safetensors"), *const buffer = mem_new(BUFFER_BYTES, 1);
    safetensors *st = NULL;
    table t;
    make_table(r, &t);
    if (safetensors_open(path, &st, err) == GRAFT_OK && safetensors_count(st) != t.count)
        fail(err, GRAFT_FAILED, "%s holds %lld tensors; this run needs %lld", path, (long long)safetensors_count(st),
             (long long)t.count);
    for (int64_t i = 0; i < t.count && !err->code; i++)
        read_tensor(st, &t.list[i], r->device, buffer, err);
    safetensors_close(st);
    free_table(&t);
    free(buffer);
    free(path);
    return err->code;
}

/* ---- numbers ---- */

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int state_write(const char *folder, const run_tensors *t, const run_state *s, graft_error *err) {
    char *const tensors = path_join(folder, "state.safetensors"), *const numbers = path_join(folder, "trainer.json");
    json_t *const root =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:O}", "format", FORMAT, "step",
                  (json_int_t)s->step, "updates", (json_int_t)s->updates, "skipped", (json_int_t)s->skipped, "steps",
                  (json_int_t)s->steps, "warmup", (json_int_t)s->warmup, "tokens", (json_int_t)s->tokens, "best_step",
                  (json_int_t)s->best_step, "loss", number_or_null(s->loss), "best_loss", number_or_null(s->best_loss),
                  "eval_before", number_or_null(s->eval_before), "eval_last", number_or_null(s->eval_last), "settings",
                  s->settings);
    if (write_tensors(tensors, t, err) == GRAFT_OK) json_write_file(numbers, root, JSON_INDENT(2), err);
    json_decref(root);
    free(tensors);
    free(numbers);
    return err->code;
}

static int get_count(const json_t *root, const char *path, const char *key, int64_t *out, graft_error *err) {
    if (json_get_int(root, path, key, -1, out, err)) return err->code;
    return *out >= 0 ? GRAFT_OK
                     : fail(err, GRAFT_FAILED, "%s: \"%s\" is missing or negative: this is no checkpoint of graft",
                            path, key);
}

/* Numbers that no run could have written together. */
static int check_numbers(const char *path, const run_state *s, graft_error *err) {
    const struct {
        const char *key, *than;
        int64_t value, most;
    } rows[] = {
        {"step",                "steps", s->step,                 s->steps},
        {"updates and skipped", "step",  s->updates + s->skipped, s->step },
        {"best_step",           "step",  s->best_step,            s->step }
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value < 0 || rows[i].value > rows[i].most)
            return fail(err, GRAFT_FAILED, "%s: %s is %lld, more than %s (%lld): no run wrote these numbers", path,
                        rows[i].key, (long long)rows[i].value, rows[i].than, (long long)rows[i].most);
    return GRAFT_OK;
}

int state_read_json(const char *folder, int sealed, run_state *out, graft_error *err) {
    char *const path = path_join(folder, "trainer.json");
    json_t *root = NULL;
    int64_t format = 0;
    *out = (run_state){0};
    if (json_read_file(path, 0, &root, err) == GRAFT_OK && get_count(root, path, "format", &format, err) == GRAFT_OK &&
        format != FORMAT && format != FORMAT_UNSEALED)
        fail(err, GRAFT_FAILED, "%s has format %lld; this version of graft reads the formats %d and %d", path,
             (long long)format, FORMAT_UNSEALED, FORMAT);
    if (!err->code && !sealed && format != FORMAT_UNSEALED)
        fail(err, GRAFT_FAILED,
             "%s/checksums is missing, so nobody knows whether this checkpoint is whole; remove the folder, or begin "
             "anew with --overwrite",
             folder);
    const struct {
        const char *key;
        int64_t *to;
    } counts[] = {
        {"step",      &out->step     },
        {"updates",   &out->updates  },
        {"skipped",   &out->skipped  },
        {"steps",     &out->steps    },
        {"warmup",    &out->warmup   },
        {"tokens",    &out->tokens   },
        {"best_step", &out->best_step}
    };
    const struct {
        const char *key;
        double *to;
    } reals[] = {
        {"loss",        &out->loss       },
        {"best_loss",   &out->best_loss  },
        {"eval_before", &out->eval_before},
        {"eval_last",   &out->eval_last  }
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts && !err->code; i++)
        get_count(root, path, counts[i].key, counts[i].to, err);
    for (size_t i = 0; i < sizeof reals / sizeof *reals && !err->code; i++)
        json_get_real(root, path, reals[i].key, NAN, reals[i].to, err);
    json_t *const settings = json_object_get(root, "settings");
    if (!err->code && !json_is_object(settings))
        fail(err, GRAFT_FAILED, "%s: \"settings\" is no object: this is no checkpoint of graft", path);
    if (!err->code && check_numbers(path, out, err) == GRAFT_OK) out->settings = json_incref(settings);
    json_decref(root);
    free(path);
    return err->code;
}

void run_state_free(run_state *s) {
    json_decref(s->settings);
    s->settings = NULL;
}
