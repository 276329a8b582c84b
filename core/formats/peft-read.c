/* peft-read — the core's part of adapter_config.json: which modules, which patterns, which base. */
#include "base/file.h"
#include "formats/peft-private.h"
#include <stdlib.h>
#include <string.h>

static char *copy(peft_config *c, const char *text) {
    return arena_copy(&c->memory, text, strlen(text));
}

static int wrong(const peft_config *c, const char *key, const char *wanted, graft_error *err) {
    return fail(err, GRAFT_FAILED, "%s: \"%s\" must be %s", c->path, key, wanted);
}

/* null, one text, or a list of texts. A text goes to *single when there is one, else it is a list of one. */
static int read_names(peft_config *c, const char *key, const char *const **names, int32_t *count, const char **single,
                      graft_error *err) {
    const json_t *const value = json_object_get(c->file, key);
    if (!value || json_is_null(value)) return GRAFT_OK;
    if (json_is_string(value) && single) {
        *single = copy(c, json_string_value(value));
        return GRAFT_OK;
    }
    const size_t size = json_is_array(value) ? json_array_size(value) : 1;
    const char **const list = arena_new(&c->memory, size + 1, sizeof *list);
    for (size_t i = 0; i < size; i++) {
        const json_t *const entry = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(entry)) return wrong(c, key, "null, a text or a list of texts", err);
        if (json_string_length(entry) > 0) list[(*count)++] = copy(c, json_string_value(entry));
    }
    *names = list;
    return GRAFT_OK;
}

/* null, one whole number, or a list of them. */
static int read_layers(peft_config *c, graft_error *err) {
    static const char key[] = "layers_to_transform";
    const json_t *const value = json_object_get(c->file, key);
    if (!value || json_is_null(value)) return GRAFT_OK;
    const size_t size = json_is_array(value) ? json_array_size(value) : 1;
    int64_t *const list = arena_new(&c->memory, size + 1, sizeof *list);
    for (size_t i = 0; i < size; i++) {
        const json_t *const entry = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(entry) || json_integer_value(entry) < 0)
            return wrong(c, key, "null, the number of a layer or a list of them", err);
        list[i] = json_integer_value(entry);
    }
    c->targets.layers = list;
    c->targets.layer_count = (int32_t)size;
    return GRAFT_OK;
}

/* {"expression": number}, in the order of the file. `least`: the smallest value. */
static int read_patterns(peft_config *c, const char *key, double least, int whole, const char *const **patterns,
                         const double **values, int32_t *count, graft_error *err) {
    json_t *const object = json_object_get(c->file, key);
    if (!object || json_is_null(object)) return GRAFT_OK;
    if (!json_is_object(object)) return wrong(c, key, "an object of numbers", err);
    const char **const names = arena_new(&c->memory, json_object_size(object) + 1, sizeof *names);
    double *const numbers = arena_new(&c->memory, json_object_size(object) + 1, sizeof *numbers);
    const char *pattern;
    json_t *number;
    json_object_foreach(object, pattern, number) {
        const double value = json_number_value(number);
        if (!json_is_number(number) || value < least || value > INT32_MAX || (whole && value != (double)(int64_t)value))
            return fail(err, GRAFT_FAILED, "%s: \"%s\": the value of \"%s\" must be a %snumber from %g on", c->path,
                        key, pattern, whole ? "whole " : "", least);
        const int rc = targets_check_pattern(pattern, c->path, err);
        if (rc != GRAFT_OK) return rc;
        names[*count] = copy(c, pattern);
        numbers[(*count)++] = value;
    }
    *patterns = names;
    *values = numbers;
    return GRAFT_OK;
}

/* {"MODULE.lora_E": [true, false, ...]}: which ranks are left. */
static int read_kept(peft_config *c, graft_error *err) {
    static const char wanted[] = "null, or an object of lists of true and false";
    json_t *const object = json_object_get(c->file, "rank_pattern");
    peft_kept *const kept = arena_new(&c->memory, json_object_size(object), sizeof *kept);
    const char *name;
    json_t *list;
    json_object_foreach(object, name, list) {
        const size_t count = json_array_size(list);
        uint8_t *const mask = arena_new(&c->memory, count + 1, 1);
        if (!json_is_array(list)) return wrong(c, "rank_pattern", wanted, err);
        for (size_t i = 0; i < count; i++) {
            if (!json_is_boolean(json_array_get(list, i))) return wrong(c, "rank_pattern", wanted, err);
            mask[i] = json_is_true(json_array_get(list, i));
        }
        kept[c->kept_count++] = (peft_kept){copy(c, name), mask, (int64_t)count};
    }
    c->kept = kept;
    return GRAFT_OK;
}

static int read_ranks(peft_config *c, graft_error *err) {
    json_t *const object = json_object_get(c->file, "rank_pattern");
    const json_t *const first = json_object_iter_value(json_object_iter(object));
    if (json_is_array(first) && strcmp(c->type, "ADALORA") == 0) return read_kept(c, err);
    return read_patterns(c, "rank_pattern", 1, 1, &c->rank_patterns, &c->ranks, &c->rank_pattern_count, err);
}

static int read_targets(peft_config *c, graft_error *err) {
    targets_list *const t = &c->targets;
    c->has_targets =
        !json_is_null(json_object_get(c->file, "target_modules")) && json_object_get(c->file, "target_modules");
    int rc = read_names(c, "target_modules", &t->names, &t->count, &t->regex, err);
    if (rc == GRAFT_OK) rc = read_names(c, "exclude_modules", &t->exclude, &t->exclude_count, &t->exclude_regex, err);
    if (rc == GRAFT_OK) rc = read_names(c, "layers_pattern", &t->layers_patterns, &t->layers_pattern_count, NULL, err);
    if (rc == GRAFT_OK) rc = read_layers(c, err);
    if (rc != GRAFT_OK) return rc;
    if (t->regex && t->layers)
        return fail(err, GRAFT_FAILED,
                    "%s: \"layers_to_transform\" needs a list in \"target_modules\"; it is the text \"%s\"", c->path,
                    t->regex);
    if (t->regex && strcasecmp(t->regex, "all-linear") == 0) {
        const char **const one = arena_new(&c->memory, 1, sizeof *one);
        one[0] = "all-linear";
        t->names = one, t->count = 1, t->regex = NULL;
    }
    return targets_check(t, c->path, err);
}

static int read_text(peft_config *c, const char *key, const char *fallback, const char **out, graft_error *err) {
    const int rc = json_get_text(c->file, c->path, key, fallback, out, err);
    if (rc == GRAFT_OK) *out = copy(c, *out);
    return rc;
}

/* PEFT stops at a null where it wants a word or a table. */
static int refuse_nulls(const peft_config *c, graft_error *err) {
    static const char *const keys[] = {"bias", "rank_pattern", "alpha_pattern"};
    json_t *const defaults = peft_defaults(c->type);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !err->code; i++) {
        const json_t *const standard = json_object_get(defaults, keys[i]);
        if (json_is_null(json_object_get(c->file, keys[i])) && standard && !json_is_null(standard))
            fail(err, GRAFT_FAILED, "%s: \"%s\" is null; give it a value, or leave it out for %s", c->path, keys[i],
                 json_is_string(standard) ? json_string_value(standard) : "none");
    }
    json_decref(defaults);
    return err->code;
}

static int read_core(peft_config *c, graft_error *err) {
    const char *version;
    int rc = json_get_text(c->file, c->path, "version", "", &version, err);
    if (rc == GRAFT_OK)
        rc = read_text(c, "peft_type", strncmp(version, "adapters.", 9) == 0 ? "ADAPTER_HUB" : "", &c->type, err);
    if (rc == GRAFT_OK && !*c->type)
        rc = fail(err, GRAFT_FAILED, "%s: has no \"peft_type\"; is it the configuration of a PEFT adapter?", c->path);
    if (rc == GRAFT_OK) rc = refuse_nulls(c, err);
    if (rc == GRAFT_OK) rc = read_text(c, "bias", "none", &c->bias, err);
    if (rc == GRAFT_OK && strcmp(c->bias, "none") != 0 && strcmp(c->bias, "all") != 0 &&
        strcmp(c->bias, "lora_only") != 0)
        rc = fail(err, GRAFT_FAILED, "%s: \"bias\" is \"%s\"; none, all and lora_only are known", c->path, c->bias);
    if (rc == GRAFT_OK) rc = read_text(c, "base_model_name_or_path", "", &c->base_model, err);
    if (rc == GRAFT_OK) rc = read_text(c, "revision", "", &c->revision, err);
    if (rc == GRAFT_OK) rc = read_text(c, "task_type", "", &c->task_type, err);
    if (rc == GRAFT_OK && strcmp(c->type, "ADAPTER_HUB") == 0) rc = read_text(c, "name", "", &c->name, err);
    if (rc == GRAFT_OK) rc = json_get_bool(c->file, c->path, "fan_in_fan_out", 0, &c->fan_in_fan_out, err);
    if (rc == GRAFT_OK) rc = read_targets(c, err);
    if (rc == GRAFT_OK)
        rc = read_names(c, "modules_to_save", &c->modules_to_save, &c->modules_to_save_count, NULL, err);
    if (rc == GRAFT_OK) rc = read_ranks(c, err);
    if (rc == GRAFT_OK)
        rc = read_patterns(c, "alpha_pattern", 0, 0, &c->alpha_patterns, &c->alphas, &c->alpha_pattern_count, err);
    return rc;
}

int peft_config_read(const char *folder, peft_config *out, graft_error *err) {
    *out = (peft_config){.type = "", .bias = "none", .base_model = "", .revision = "", .task_type = "", .name = ""};
    char *const path = path_join(folder, "adapter_config.json");
    out->path = copy(out, path);
    int rc = json_read_file(path, 0, &out->file, err);
    free(path);
    if (rc == GRAFT_OK && !json_is_object(out->file))
        rc = fail(err, GRAFT_FAILED, "%s: is not a JSON object", out->path);
    return rc == GRAFT_OK ? read_core(out, err) : rc;
}

void peft_config_free(peft_config *c) {
    json_decref(c->file);
    arena_free(&c->memory);
    *c = (peft_config){0};
}
