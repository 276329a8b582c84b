/* output — the folder's rules, and what is written at the end. */
#include "run/output.h"
#include "base/file.h"
#include "base/json.h"
#include "run/adapter-folder.h"
#include "run/base-digest.h"
#include "run/base-quantizer.h"
#include "run/checkpoint.h"
#include "run/sparsity.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t shard_bytes = INT64_C(5000000000); /* as huggingface_hub cuts */

/* ---- the rules ---- */

static int has(const char *folder, const char *name) {
    char *const path = path_join(folder, name);
    const int there = file_exists(path);
    free(path);
    return there;
}

/* Only what a run began is resumed or removed: its run.ini says who wrote it. A person's own run.ini does not. */
static int holds_run(const char *folder) {
    static const char mark[] = "; every setting of this run, written by graft";
    char *const path = path_join(folder, "run.ini"), line[sizeof mark] = "";
    FILE *const file = fopen(path, "r");
    const int holds = file && fgets(line, sizeof line, file) && strcmp(line, mark) == 0;
    if (file) fclose(file);
    free(path);
    return holds;
}

/* 1: nothing in there is worth keeping: it is empty, or a run began in it and did no step. */
static int is_free(const char *folder) {
    static const char *const begun[] = {".", "..", "run.ini", "checkpoints", "metrics.jsonl"};
    DIR *const entries = opendir(folder);
    int64_t step;
    int is = 1;
    for (struct dirent *e; is && entries && (e = readdir(entries));) {
        int known = 0;
        for (size_t i = 0; i < sizeof begun / sizeof *begun; i++)
            known |= strcmp(e->d_name, begun[i]) == 0;
        is = known;
    }
    if (entries) closedir(entries);
    char *const newest = checkpoint_newest(folder, &step), *const lines = path_join(folder, "metrics.jsonl");
    struct stat s;
    if (newest || (stat(lines, &s) == 0 && s.st_size > 0) || (has(folder, "run.ini") && !holds_run(folder))) is = 0;
    free(newest);
    free(lines);
    return is;
}

int output_check(const recipe *r, int resume, int overwrite, char **checkpoint, graft_error *err) {
    const char *const folder = r->output.path;
    char *const inner = path_join(folder, "checkpoints");
    int64_t step;
    *checkpoint = NULL;
    if (file_check_folder(folder, err) == GRAFT_OK) file_check_folder(inner, err);
    free(inner);
    if (err->code) return fail_within(err, "[output] path");
    if (path_same(folder, r->model.path))
        return fail(err, GRAFT_USAGE, "[output] path is the folder of the model itself, %s; name another folder",
                    folder);
    if (!file_exists(folder) || is_free(folder)) return GRAFT_OK;
    if (!holds_run(folder))
        return fail(err, GRAFT_USAGE, "%s is not empty and holds no run of graft; name another folder", folder);
    if (!resume && !overwrite)
        return fail(err, GRAFT_USAGE, "%s is not empty; --resume goes on with the run in it, --overwrite replaces it",
                    folder);
    if (resume) *checkpoint = checkpoint_newest(folder, &step);
    return GRAFT_OK;
}

/* What an earlier run left: only names that a run gives. */
static int remove_run(const recipe *r, graft_error *err) {
    static const char *const names[] = {"adapter_model.safetensors",
                                        "adapter.safetensors",
                                        "adapter_config.json",
                                        "README.md",
                                        "result.json",
                                        "model.safetensors.index.json",
                                        "model.safetensors",
                                        "config.json",
                                        "checkpoints",
                                        "metrics.jsonl",
                                        "sparsity.json",
                                        "quantizer.ini",
                                        "base.json",
                                        "base"};
    const char *const folder = r->output.path;
    for (size_t i = 0; i < sizeof names / sizeof *names && !err->code; i++) {
        char *const path = path_join(folder, names[i]);
        file_remove_tree(path, err);
        free(path);
    }
    for (int32_t a = 0; a < r->adapter_count && !err->code; a++) {
        char *const path = *r->adapters[a].name ? path_join(folder, r->adapters[a].name) : NULL;
        if (path && has(path, "adapter_config.json")) file_remove_tree(path, err);
        free(path);
    }
    return err->code;
}

int output_begin(const recipe *r, int overwrite, graft_error *err) {
    if (file_make_folders(r->output.path, err)) return err->code;
    if (overwrite && remove_run(r, err)) return err->code;
    checkpoint_sweep(r->output.path);
    char *const path = path_join(r->output.path, "run.ini");
    const int rc = recipe_write_resolved(r, path, err);
    free(path);
    return rc;
}

/* ---- writing ---- */

int output_is_adapter(const session *s, int32_t spec) {
    int32_t params;
    const adapt_param *const p = adapt_params(s->adapters, &params);
    for (int32_t i = 0; i < params; i++)
        if (p[i].spec == spec && p[i].in_file) return 1;
    return 0;
}

/* Where one adapter lies: the folder itself, or its own where there are several. Owned by the caller. */
static char *folder_of(const session *s, int32_t spec, const char *folder) {
    return s->spec_count > 1 && *s->specs[spec].name ? path_join(folder, s->specs[spec].name) : mem_copy_text(folder);
}

int output_write_adapters(const session *s, const char *folder, const char *base_model, graft_error *err) {
    for (int32_t n = 0; n < s->spec_count && !err->code; n++) {
        if (!output_is_adapter(s, n)) continue;
        char *const own = folder_of(s, n, folder);
        const int replaces = adapt_replaces(s->adapters, n);
        if (file_make_folders(own, err) == GRAFT_OK && adapt_save(s->adapters, n, own, err) == GRAFT_OK)
            adapter_folder_write(&s->specs[n], s->adapters, n, s->model, own, base_model, err);
        if (!err->code && s->quantized_by && !replaces) base_quantizer_write(s->quantized_by, own, err);
        if (!err->code && (replaces || adapt_needs_quantizer(s->adapters, n)))
            base_digest_write(own, "weights", base_model, err);
        free(own);
    }
    return err->code;
}

static int has_model(const session *s) {
    for (int32_t n = 0; n < s->spec_count; n++)
        if (!output_is_adapter(s, n)) return 1;
    return 0;
}

/* 1: a section leaves another base behind than the run was given, and its adapter does not make up for it. */
static int changes_base(const session *s) {
    for (int32_t n = 0; n < s->spec_count; n++)
        if (adapt_replaces(s->adapters, n) && !adapt_converts(s->adapters, n)) return !has_model(s);
    return 0;
}

int output_write_base(const session *s, const char *folder, char **base_model, graft_error *err) {
    const model_saving how = {.type = DTYPE_COUNT, .shard_bytes = shard_bytes, .packed = 1};
    if (!changes_base(s)) return GRAFT_OK;
    char *const inner = path_join(folder, "base"), *const base = path_absolute(inner);
    if ((has(base, "config.json") || model_save_as(s->model, base, &how, err) == GRAFT_OK) &&
        base_digest_write(base, "corrected_from", model_folder(s->model), err) == GRAFT_OK) {
        free(*base_model);
        *base_model = mem_copy_text(base);
    }
    if (err->code) fail_within(err, "the base that these settings change belongs to the adapter, in %s", base);
    free(inner);
    free(base);
    return err->code;
}

/* The card of a model folder; an adapter's is written with it. */
static int write_model_card(const session *s, const char *folder, const char *base_model, graft_error *err) {
    strbuf text = {0};
    json_t *const quoted = json_string(base_model);
    char *const base = json_dumps(quoted, JSON_ENCODE_ANY), *const path = path_join(folder, "README.md");
    strbuf_printf(
        &text,
        "---\nbase_model: %s\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- graft\n---\n\n",
        base ? base : "\"\"");
    strbuf_printf(&text, "# %s, fine-tuned\n\nTrained with graft:\n\n", base_model);
    for (int32_t n = 0; n < s->spec_count; n++)
        if (!output_is_adapter(s, n))
            strbuf_printf(&text, "- `%s`: %s\n", s->specs[n].component->name, s->specs[n].component->doc);
    strbuf_puts(&text, "\nThe folder is complete: it loads like the base model. `run.ini` holds every setting.\n");
    file_write(path, text.text, (int64_t)text.length, err);
    strbuf_free(&text);
    json_decref(quoted);
    free(base);
    free(path);
    return err->code;
}

int output_write(const session *s, const char *folder, const char *base_model, graft_error *err) {
    if (!has_model(s)) return output_write_adapters(s, folder, base_model, err);
    char *const own = path_absolute(folder); /* adapters beside it belong to the model that is written here */
    if (model_save(s->model, folder, DTYPE_COUNT, shard_bytes, err) == GRAFT_OK &&
        sparsity_write(s, folder, err) == GRAFT_OK && write_model_card(s, folder, base_model, err) == GRAFT_OK)
        output_write_adapters(s, folder, own, err);
    free(own);
    return err->code;
}

/* ---- reading back ---- */

/* The file holds the device's numbers, and reading it the way every other command does gives them again. */
static int verify_adapter(const session *s, registry *plugins, int32_t spec, const char *folder, graft_error *err) {
    adapt_spec again;
    arena memory = {0};
    if (adapter_folder_read(plugins, folder, &again, &memory, err) == GRAFT_OK &&
        adapt_compare(s->adapters, spec, folder, err) == GRAFT_OK && !adapt_is_rewritten(s->adapters, spec) &&
        adapt_load(s->adapters, spec, folder, err) == GRAFT_OK)
        adapt_compare(s->adapters, spec, folder, err);
    arena_free(&memory);
    return err->code;
}

/* Elements first .. first + count - 1 of a trained tensor, rounded to the file's type, against the file; a transposed one
 * (Conv1D) is compared whole. */
static int verify_piece(const session *s, const safetensors *files, const tensor_info *info, const base_tensor *t,
                        int64_t first, int64_t count, graft_error *err) {
    const int64_t wide = dtype_bytes(s->device->real), size = dtype_bytes(info->dtype);
    char *const master = mem_new((size_t)count, (size_t)wide), *const rounded = mem_new((size_t)count, (size_t)size);
    char *const stored = mem_new((size_t)count, (size_t)size);
    s->device->download(s->device, master, (const char *)t->master + first * wide, count * wide);
    dtype_convert(rounded, info->dtype, master, s->device->real, count);
    safetensors_read_part(files, info, first * size, count * size, stored, err);
    for (int64_t i = 0; i < count && !err->code; i++) {
        const int64_t at = t->transposed ? i % t->in * t->out + i / t->in : i;
        if (memcmp(rounded + i * size, stored + at * size, (size_t)size) != 0)
            fail(err, GRAFT_FAILED, "%s: %s does not hold what was trained (element %lld); is the disk sound?",
                 safetensors_name(files), t->name, (long long)(first + at));
    }
    free(master);
    free(rounded);
    free(stored);
    return err->code;
}

static int verify_tensor(const session *s, const safetensors *files, const base_tensor *t, graft_error *err) {
    enum { PIECE = 1 << 20 };
    const int64_t count = t->out * (t->in ? t->in : 1), piece = t->transposed || count < PIECE ? count : PIECE;
    const tensor_info *info;
    if (safetensors_need(files, t->name, &info, err)) return err->code;
    if (info->count != count || !dtype_is_float(info->dtype))
        return fail(err, GRAFT_FAILED, "%s: %s is not what was written", safetensors_name(files), t->name);
    for (int64_t at = 0; at < count && !err->code; at += piece)
        verify_piece(s, files, info, t, at, count - at < piece ? count - at : piece, err);
    return err->code;
}

static int verify_model(const session *s, const char *folder, graft_error *err) {
    model *again = NULL;
    safetensors *files = NULL;
    int32_t tensors;
    const base_tensor *const t = model_tensors(s->model, &tensors);
    if (model_open(folder, &again, err) == GRAFT_OK && weights_open(folder, &files, err) == GRAFT_OK)
        for (int32_t i = 0; i < tensors && !err->code; i++)
            if (t[i].trained) verify_tensor(s, files, &t[i], err);
    model_close(again);
    safetensors_close(files);
    return err->code;
}

int output_verify(const session *s, registry *plugins, const char *folder, graft_error *err) {
    if (has_model(s) && verify_model(s, folder, err)) return err->code;
    for (int32_t n = 0; n < s->spec_count && !err->code; n++) {
        if (!output_is_adapter(s, n)) continue;
        char *const own = folder_of(s, n, folder);
        verify_adapter(s, plugins, n, own, err);
        free(own);
    }
    if (err->code) return err->code;
    model_refresh(s->model);
    return adapt_prepare(s->adapters, err);
}
