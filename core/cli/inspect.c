/* graft inspect — what lies at a path: a model folder, an adapter folder, a safetensors file, a plugin. */
#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "formats/peft-tensors.h"
#include "formats/peft.h"
#include "formats/safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ends(const char *path, const char *tail) {
    const size_t n = strlen(path), m = strlen(tail);
    return n >= m && strcmp(path + n - m, tail) == 0;
}

static int has(const char *folder, const char *name) {
    char *path = path_join(folder, name);
    const int found = file_exists(path);
    free(path);
    return found;
}

static json_t *shape_of(const tensor_info *t) {
    json_t *shape = json_array();
    for (int r = 0; r < t->rank; r++)
        json_array_append_new(shape, json_integer(t->shape[r]));
    return shape;
}

static json_t *tensors_of(const safetensors *st) {
    json_t *list = json_array();
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const tensor_info *t = safetensors_at(st, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", t->type, "shape",
                                              shape_of(t), "bytes", (json_int_t)t->bytes));
    }
    return list;
}

static int64_t elements_of(const safetensors *st) {
    int64_t n = 0;
    for (int64_t i = 0; i < safetensors_count(st); i++)
        n += safetensors_at(st, i)->count;
    return n;
}

static json_t *inspect_file(const char *path, graft_error *err) {
    safetensors *st = NULL;
    if (safetensors_open(path, &st, err)) return NULL;
    json_t *notes = json_object();
    int64_t count;
    const safetensors_note *note = safetensors_notes(st, &count);
    for (int64_t n = 0; n < count; n++)
        json_object_set_new(notes, note[n].key, json_string(note[n].value));
    json_t *out = json_pack("{s:s, s:s, s:I, s:o, s:o}", "kind", "safetensors", "path", path, "elements",
                            (json_int_t)elements_of(st), "metadata", notes, "tensors", tensors_of(st));
    safetensors_close(st);
    return out;
}

static json_t *inspect_adapter(const char *path, graft_error *err) {
    peft_config config = {0};
    safetensors *st = NULL;
    json_t *out = NULL;
    if (peft_config_read(path, &config, err) == GRAFT_OK && peft_tensors_open(path, &st, err) == GRAFT_OK)
        out = json_pack("{s:s, s:s, s:s, s:s, s:I, s:O, s:o}", "kind", "adapter", "path", path, "type", config.type,
                        "base", config.base_model, "elements", (json_int_t)elements_of(st), "config", config.file,
                        "tensors", tensors_of(st));
    safetensors_close(st);
    peft_config_free(&config);
    return out;
}

/* How the weights are packed, as config.json says; null: they are not. */
static json_t *quantization_of(const char *folder) {
    char *const path = path_join(folder, "config.json");
    graft_error ignored = {0};
    json_t *config = NULL, *quantization = NULL;
    if (json_read_file(path, 0, &config, &ignored) == GRAFT_OK)
        quantization = json_incref(json_object_get(config, "quantization_config"));
    json_decref(config);
    free(path);
    return quantization ? quantization : json_null();
}

static json_t *inspect_model(const char *path, graft_error *err) {
    model *m = NULL;
    if (model_open(path, &m, err)) return NULL;
    const model_shape *s = model_descriptor(m);
    int32_t count;
    const base_tensor *t = model_tensors(m, &count);
    int64_t parameters = 0;
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++) {
        const int64_t n = t[i].out * (t[i].in ? t[i].in : 1);
        parameters += t[i].tied_to < 0 ? n : 0;
        json_t *shape = t[i].in ? json_pack("[I, I]", (json_int_t)t[i].out, (json_int_t)t[i].in)
                                : json_pack("[I]", (json_int_t)t[i].out);
        json_t *row = json_pack("{s:s, s:s, s:o}", "name", t[i].name, "dtype", dtype_name(t[i].stored), "shape", shape);
        if (t[i].tied_to >= 0) json_object_set_new(row, "tied_to", json_string(t[t[i].tied_to].name));
        json_array_append_new(list, row);
    }
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "kind", "model", "path", path,
                  "family", s->family, "parameters", (json_int_t)parameters, "layers", (json_int_t)s->layers, "hidden",
                  (json_int_t)s->hidden, "inner", (json_int_t)s->inner, "heads", (json_int_t)s->heads, "kv_heads",
                  (json_int_t)s->kv_heads, "head_dim", (json_int_t)s->head_dim, "vocab", (json_int_t)s->vocab,
                  "context", (json_int_t)s->context, "tensors", list);
    json_object_set_new(out, "quantization", quantization_of(path));
    model_close(m);
    return out;
}

static json_t *inspect_plugin(const char *path, graft_error *err) {
    plugin_library *library = NULL;
    if (plugin_open(path, &library, err)) return NULL;
    json_t *list = json_array();
    for (int c = 0; c < library->count; c++) {
        const plugin_component *p = &library->components[c];
        json_t *options = json_array(), *slots = json_array();
        for (int32_t o = 0; o < p->option_count; o++)
            json_array_append_new(options,
                                  json_pack("{s:s, s:s}", "name", p->options[o].key, "doc", p->options[o].doc));
        for (int32_t s = 0; s < p->slot_count; s++)
            json_array_append_new(slots, json_pack("{s:s, s:s}", "name", p->slots[s].name, "shape",
                                                   p->slots[s].shape ? p->slots[s].shape : ""));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", p->name, "kind",
                                              plugin_kind_word(p->kind), "doc", p->doc, "paper", p->paper, "options",
                                              options, "slots", slots));
    }
    json_t *out = json_pack("{s:s, s:s, s:s, s:o}", "kind", "plugin", "path", path, "version", library->version,
                            "components", list);
    plugin_close(library);
    return out;
}

/* The scalars a line each, then a line a tensor: name, type, shape. */
static void print_text(const json_t *value) {
    const char *key;
    json_t *of;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, key, of) {
        if (json_is_string(of))
            printf("%-12s%s\n", key, json_string_value(of));
        else if (json_is_integer(of))
            printf("%-12s%lld\n", key, (long long)json_integer_value(of));
        else if (json_is_object(of) && json_object_size(of)) {
            char *text = json_dumps(of, JSON_COMPACT);
            printf("%-12s%s\n", key, text);
            free(text);
        }
        json_t *row;
        json_array_foreach(of, i, row) {
            char *shape =
                json_object_get(row, "shape") ? json_dumps(json_object_get(row, "shape"), JSON_ENCODE_ANY) : NULL;
            const char *type = json_string_value(json_object_get(row, "dtype"));
            const char *doc = json_string_value(json_object_get(row, "doc"));
            printf("  %-60s %-5s %s%s\n", json_string_value(json_object_get(row, "name")), type ? type : "",
                   shape ? shape : "", doc ? doc : "");
            free(shape);
        }
    }
}

static int run(int count, char **words) {
    cli_options o;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_inspect, "j", NULL, NULL, NULL, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    const char *path = words[first];
    json_t *found = NULL;
    if (!file_exists(path))
        fail(
            &err, GRAFT_FAILED,
            "%s: there is no such file or folder; name a model or adapter folder, a safetensors file or a plugin (.so)",
            path);
    else if (!file_is_folder(path))
        found = ends(path, ".so") ? inspect_plugin(path, &err) : inspect_file(path, &err);
    else if (has(path, "adapter_config.json"))
        found = inspect_adapter(path, &err);
    else if (has(path, "config.json"))
        found = inspect_model(path, &err);
    else
        fail(&err, GRAFT_FAILED,
             "%s: neither a model (config.json) nor an adapter (adapter_config.json) lies in this folder", path);
    if (found && o.json) {
        cli_print_json(found);
    } else if (found) {
        print_text(found);
        json_decref(found);
    }
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_inspect = {"inspect", "say what lies at a path: model, adapter, safetensors file, plugin",
                                 "usage: graft inspect PATH [--json]\n\n"
                                 "Reads headers only. A folder with adapter_config.json is an adapter, one with "
                                 "config.json a model; a file is a plugin\n"
                                 "(.so) or safetensors.\n",
                                 run};
